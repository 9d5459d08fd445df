package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/identity"
)

// shape is one graph: two relations of identifier values, both with a time.
type shape struct {
	what     string
	accounts string // SELECT of user_id, email, seen_at
	events   string // SELECT of anonymous_id, user_id, seen_at; "" for none
	judged   bool
}

// benchIdentity compares the identity of an entity with the same done by hand in bare SQL: values hashed, edges contracted, one
// row a value written.
func benchIdentity(ctx context.Context, l *lab) ([]result, error) {
	n, m := l.rows(5_000_000), l.rows(1_000_000)
	var results []result
	for _, s := range []shape{
		customers(n),
		{
			what:     fmt.Sprintf("identity of a chain of %s", short(m)),
			accounts: fmt.Sprintf("SELECT 'u' || (i + 1) // 2 AS user_id, 'e' || i // 2 || '@example.com' AS email, %s AS seen_at FROM range(%d) r(i)", stamp, m),
		},
		{
			what:     fmt.Sprintf("identity of a hub with %s neighbours", short(m)),
			accounts: fmt.Sprintf("SELECT 'u' || i AS user_id, 'hub@example.com' AS email, %s AS seen_at FROM range(%d) r(i)", stamp, m),
		},
	} {
		r, err := identityOnce(ctx, l, s)
		if err != nil {
			return results, fmt.Errorf("%s: %w", s.what, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// customers is a base of n accounts, some of which share an address, and of their visitors.
func customers(n int) shape {
	return shape{
		what: fmt.Sprintf("identity of a customer base, %s edges", short(2*n+n/50)), judged: true,
		accounts: fmt.Sprintf("SELECT 'u' || i AS user_id, 'user' || CASE WHEN i %% 50 = 0 THEN i // 2 ELSE i END || '@example.com' AS email, %s AS seen_at FROM range(%d) r(i)", stamp, n),
		events:   fmt.Sprintf("SELECT 'a' || hash(i) %% %[2]d AS anonymous_id, 'u' || hash(i + 1) %% %[2]d AS user_id, %[1]s AS seen_at FROM range(%[3]d) r(i)", stamp, n, n+n/50),
	}
}

// make makes the shape's relations, and takes away what was built of others.
func (s shape) make(ctx context.Context, l *lab, w warehouse.Warehouse) error {
	l.say("%s: making it", s.what)
	for _, statement := range []string{
		"CREATE SCHEMA IF NOT EXISTS raw", "CREATE SCHEMA IF NOT EXISTS dray",
		"DROP TABLE IF EXISTS dray.identity_customer", "DROP TABLE IF EXISTS dray.identity_customer_merges",
		"CREATE OR REPLACE TABLE raw.accounts AS " + s.accounts,
		"CREATE OR REPLACE TABLE raw.events AS " + s.eventsOrNone(),
	} {
		if _, err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

const stamp = "TIMESTAMP '2026-01-01' - INTERVAL 1 SECOND * (hash(i) % 10000000)::BIGINT"

func identityOnce(ctx context.Context, l *lab, s shape) (r result, err error) {
	w, err := registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": "identity.duckdb"}, l.dir)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := s.make(ctx, l, w); err != nil {
		return result{}, err
	}
	l.say("%s: by hand", s.what)
	began := time.Now()
	if err := identityByHand(ctx, w); err != nil {
		return result{}, err
	}
	reference := time.Since(began)
	want, err := count(ctx, w, "SELECT count(DISTINCT component) FROM raw.identity")
	if err != nil {
		return result{}, err
	}
	l.say("%s: Dray's", s.what)
	began = time.Now()
	built, err := identity.Build(ctx, w, entity(s))
	if err != nil {
		return result{}, err
	}
	ours := time.Since(began)
	if built.Profiles != want {
		return result{}, fmt.Errorf("%d profiles, and %d components by hand", built.Profiles, want)
	}
	if !s.judged {
		return shown(s.what, ours, reference), nil
	}
	return atMost(s.what, ours, reference, 1.2), nil
}

func (s shape) eventsOrNone() string {
	if s.events == "" {
		return "SELECT '' AS anonymous_id, '' AS user_id, TIMESTAMP '2026-01-01' AS seen_at LIMIT 0"
	}
	return s.events
}

// entity is what a project would say of these relations.
func entity(s shape) identity.Spec {
	accounts := &config.Input{Name: "accounts", From: "accounts", Identifiers: map[string]string{"user_id": "user_id", "email": "email"}, At: "seen_at"}
	events := &config.Input{Name: "events", From: "events", Identifiers: map[string]string{"anonymous_id": "anonymous_id", "user_id": "user_id"}, At: "seen_at"}
	inputs := []identity.Input{{Input: accounts, Source: "raw.accounts"}}
	if s.events != "" {
		inputs = append(inputs, identity.Input{Input: events, Source: "raw.events"})
	}
	target := warehouse.Table{Schema: "dray", Name: "identity_customer"}
	merges := warehouse.Table{Schema: "dray", Name: "identity_customer_merges"}
	return identity.Spec{
		Entity: &config.Entity{
			Name: "customer",
			Identifiers: []*config.Identifier{
				{Name: "user_id"}, {Name: "email", Normalize: &config.Normalize{Kind: "email"}}, {Name: "anonymous_id"},
			},
			Inputs: []*config.Input{accounts, events},
		},
		Inputs: inputs, Target: target, Merges: merges, Prior: target, PriorMerges: merges, AsOf: time.Now(), Salt: "bench",
	}
}

// identityByHand does what Dray's identity does, as an engineer with one data set would write it: a 64-bit hash stands for each
// value, the hashes are contracted, and one row a value is written with when it was seen.
func identityByHand(ctx context.Context, w warehouse.Warehouse) error {
	const email = "CASE WHEN regexp_full_match(lower(trim(email)), '[^@\\s]+@[^@\\s]+\\.[^@\\s.]+') THEN lower(trim(email)) END"
	for _, statement := range []string{
		`CREATE OR REPLACE TEMP TABLE seen AS SELECT identifier, value, hash(identifier, value) AS node, min(seen_at) AS first_seen_at, max(seen_at) AS last_seen_at FROM (
			SELECT 'user_id' AS identifier, user_id AS value, seen_at FROM raw.accounts UNION ALL
			SELECT 'email', ` + email + `, seen_at FROM raw.accounts UNION ALL
			SELECT 'anonymous_id', anonymous_id, seen_at FROM raw.events UNION ALL
			SELECT 'user_id', user_id, seen_at FROM raw.events) WHERE value <> '' GROUP BY ALL`,
		`CREATE OR REPLACE TABLE raw.edges AS
			SELECT DISTINCT hash('user_id', user_id) AS a, hash('email', ` + email + `) AS b FROM raw.accounts UNION ALL
			SELECT DISTINCT hash('anonymous_id', anonymous_id), hash('user_id', user_id) FROM raw.events`,
	} {
		if _, err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	if _, err := contract(ctx, w); err != nil {
		return err
	}
	_, err := w.Exec(ctx, `CREATE OR REPLACE TABLE raw.identity AS SELECT s.identifier, s.value, coalesce(c.component, s.node) AS component, s.first_seen_at, s.last_seen_at
		FROM seen s LEFT JOIN raw.components c ON c.node = s.node`)
	return err
}
