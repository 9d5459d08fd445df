//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/pgtest"
)

// benchPlanPostgres compares the plan on a PostgreSQL of its own with the best hand-written statement in the same session.
func benchPlanPostgres(ctx context.Context, l *lab) ([]result, error) {
	var server pgtest.Server
	defer server.Stop()
	url, err := server.New(ctx)
	if pgtest.Missing(err) {
		return []result{{what: "plan-postgres: skipped", ours: err.Error(), target: "≤ 1.2 ×", met: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	n := l.rows(1_000_000)
	w, err := registry.OpenWarehouse(ctx, "postgres", map[string]any{"url": url}, l.dir)
	if err != nil {
		return nil, err
	}
	l.say("making %d rows", n)
	if err := errors.Join(makeCustomersPostgres(ctx, w, n), w.Close()); err != nil {
		return nil, err
	}
	text := strings.Replace(project("id", "http://127.0.0.1:9/never-called"), "{type: duckdb, path: bench.duckdb}", fmt.Sprintf("{type: postgres, url: %q}", url), 1)
	if err := l.write("dray.yaml", text); err != nil {
		return nil, err
	}
	e, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	results, err := e.planPostgres(ctx, l, n)
	return results, errors.Join(err, e.Close())
}

func (e *engine) planPostgres(ctx context.Context, l *lab, n int) ([]result, error) {
	l.say("both snapshots")
	if _, err := e.Adopt(ctx, syncName); err != nil {
		return nil, err
	}
	w, d := e.rec.Warehouse, e.rec.Warehouse.Dialect()
	columns := strings.Join(valueColumns(), ", ")
	hash := d.Hash(valueColumns()...)
	for _, sql := range []string{
		d.CreateTableAs(warehouse.Table{Schema: "raw", Name: "snapshot"}, "SELECT id, "+hash+" AS hash, "+columns+" FROM raw.customers"),
		"ANALYZE raw.snapshot",
		"UPDATE raw.customers SET spend = spend + 1 WHERE id % 100 = 17",
		"ANALYZE raw.customers",
	} {
		if _, err := w.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	l.say("the hand-written statement")
	byHand := d.CreateTableAs(warehouse.Table{Schema: "raw", Name: "plan"}, fmt.Sprintf(`WITH j AS MATERIALIZED (SELECT m.*, s.id AS known
		FROM (SELECT *, %s AS hash FROM raw.customers) m
		FULL OUTER JOIN (SELECT id, hash FROM raw.snapshot) s ON m.id = s.id
		WHERE m.hash IS DISTINCT FROM s.hash)
	SELECT CASE WHEN j.hash IS NULL THEN 'remove' WHEN j.known IS NULL THEN 'add' ELSE 'update' END AS operation,
		coalesce(j.id, s.id) AS id, j.hash, %s, %s
	FROM j LEFT JOIN raw.snapshot s ON j.known = s.id`, hash, prefixed("j."), changedFields()))
	var reference time.Duration
	reference, err := bestOf(ctx, w, tries, byHand)
	if err != nil {
		return nil, err
	}
	l.say("Dray's plan")
	statement, whole, count, err := e.timePlan(ctx, int64(n))
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("PostgreSQL: plan %s rows × 12, 1 %% changed, integer key", short(n))
	return []result{
		atMost(what+": the statement", statement, reference, 1.2),
		shown(fmt.Sprintf("%s: all of the plan (%d statements)", what, count), whole, reference),
	}, nil
}

// makeCustomersPostgres is makeCustomers in PostgreSQL's words.
func makeCustomersPostgres(ctx context.Context, w warehouse.Warehouse, n int) error {
	h := func(add, modulo int) string {
		return fmt.Sprintf("((hashint8extended(i + %d, 0) & 9223372036854775807) %% %d)", add, modulo)
	}
	for _, sql := range []string{
		"CREATE SCHEMA raw",
		fmt.Sprintf(`CREATE TABLE raw.customers AS SELECT
			i AS id,
			CASE WHEN i %% 3 = 0 THEN 'User' ELSE 'user' END || i || '@Example.com' AS email,
			'name' || %s AS first_name, 'family' || %s AS last_name, 'city ' || %s AS city,
			(ARRAY['DK','SE','NO','DE','FI'])[1 + %s] AS country,
			CASE WHEN i %% 4 = 0 THEN NULL ELSE '+4520' || lpad((i %% 1000000)::text, 6, '0') END AS phone,
			(ARRAY['free','base','gold'])[1 + %s] AS plan,
			%s::int AS orders, (%s / 100.0)::numeric(12,2) AS spend, %s / 1000.0::float8 AS score, %s = 0 AS vip,
			DATE '2026-01-01' - %s::int AS last_order_at,
			TIMESTAMP '2026-01-01 00:00:00' - INTERVAL '1 second' * %s AS updated_at
			FROM generate_series(0::bigint, %d) i`,
			h(0, 5000), h(1, 50000), h(2, 300), h(3, 5), h(4, 3), h(5, 40), h(6, 100000), h(7, 1000), h(8, 10), h(9, 900), h(10, 10000000), n-1),
		"ANALYZE raw.customers",
	} {
		if _, err := w.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
