package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// The best hand-written statements for DuckDB, found by measuring (docs/decisions/0002). They do the same work as Dray's:
// read the table once, compare by the engine's hash, and write the changed rows with all their values and which of them changed;
// for the last the acknowledged values of the changed rows are fetched, which takes a second look at the snapshot. The barest
// statement, which does not know what changed, stands beside them.

// rowHash is the engine's hash over the twelve fields.
func rowHash() string { return "hash(" + strings.Join(valueColumns(), ", ") + ")" }

// referenceSnapshot keeps what Dray's snapshot keeps that the plan reads.
func referenceSnapshot(ctx context.Context, w warehouse.Warehouse) error {
	_, err := w.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE TABLE raw.snapshot AS SELECT id, lower(trim(email)) AS dest_key,
		hash(lower(trim(email))) AS key_hash, %s AS hash, %s FROM raw.customers`, rowHash(), strings.Join(valueColumns(), ", ")))
	return err
}

// changedFields is one digit a field: 1 where the new value differs from the acknowledged one.
func changedFields() string {
	var parts []string
	for _, c := range valueColumns() {
		parts = append(parts, "CASE WHEN j."+c+" IS DISTINCT FROM s."+c+" THEN '1' ELSE '0' END")
	}
	return strings.Join(parts, " || ") + " AS changed"
}

// planByIntegerWithFields joins on an integer key and says which fields changed.
func planByIntegerWithFields() string {
	return fmt.Sprintf(`CREATE OR REPLACE TABLE raw.plan AS
		WITH j AS MATERIALIZED (SELECT m.*, s.id AS known
			FROM (SELECT *, %s AS hash FROM raw.customers) m
			FULL OUTER JOIN (SELECT id, hash FROM raw.snapshot) s ON m.id = s.id
			WHERE m.hash IS DISTINCT FROM s.hash)
		SELECT CASE WHEN j.hash IS NULL THEN 'remove' WHEN j.known IS NULL THEN 'add' ELSE 'update' END AS operation,
			coalesce(j.id, s.id) AS id, j.hash, %s, %s
		FROM j LEFT JOIN raw.snapshot s ON j.known = s.id`, rowHash(), prefixed("j."), changedFields())
}

// planByInteger joins on an integer key, the barest way.
func planByInteger() string {
	return fmt.Sprintf(`CREATE OR REPLACE TABLE raw.plan AS
		SELECT CASE WHEN m.hash IS NULL THEN 'remove' WHEN s.hash IS NULL THEN 'add' ELSE 'update' END AS operation,
			coalesce(m.id, s.id) AS id, m.hash, %s
		FROM (SELECT *, %s AS hash FROM raw.customers) m
		FULL OUTER JOIN (SELECT id, hash FROM raw.snapshot) s ON m.id = s.id
		WHERE m.hash IS DISTINCT FROM s.hash`, prefixed("m."), rowHash())
}

// planByText joins on the text key itself.
func planByText() string {
	return fmt.Sprintf(`CREATE OR REPLACE TABLE raw.plan AS
		SELECT CASE WHEN m.hash IS NULL THEN 'remove' WHEN s.hash IS NULL THEN 'add' ELSE 'update' END AS operation,
			coalesce(m.dest_key, s.dest_key) AS dest_key, m.hash, %s
		FROM (SELECT *, lower(trim(email)) AS dest_key, %s AS hash FROM raw.customers) m
		FULL OUTER JOIN (SELECT dest_key, hash FROM raw.snapshot) s ON m.dest_key = s.dest_key
		WHERE m.hash IS DISTINCT FROM s.hash`, prefixed("m."), rowHash())
}

// planByTextHash joins on a hash of the text key and fetches the wide rows of the changed keys alone.
func planByTextHash() string {
	return fmt.Sprintf(`CREATE OR REPLACE TABLE raw.plan AS
		WITH m AS (SELECT *, hash(dest_key) AS key_hash, %[2]s AS hash FROM (SELECT *, lower(trim(email)) AS dest_key FROM raw.customers)),
		j AS MATERIALIZED (SELECT m.*, s.key_hash AS known
			FROM m FULL OUTER JOIN (SELECT key_hash, hash FROM raw.snapshot) s ON m.key_hash = s.key_hash
			WHERE m.hash IS DISTINCT FROM s.hash)
		SELECT CASE WHEN j.hash IS NULL THEN 'remove' WHEN j.known IS NULL THEN 'add' ELSE 'update' END AS operation,
			coalesce(j.dest_key, s.dest_key) AS dest_key, j.dest_key <> s.dest_key AS collided, j.hash, %[1]s, %[3]s
		FROM j LEFT JOIN raw.snapshot s ON j.known = s.key_hash`, prefixed("j."), rowHash(), changedFields())
}

func prefixed(alias string) string {
	return alias + strings.Join(valueColumns(), ", "+alias)
}

// bestOf is the shortest time of a statement, tried n times.
func bestOf(ctx context.Context, w warehouse.Warehouse, n int, statement string) (time.Duration, error) {
	return best(n, func() error {
		_, err := w.Exec(ctx, statement)
		return err
	})
}
