package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/identity"
)

// benchIncremental compares a build after a change with the full one before it, which has kept what it read: its time must go with
// the change, not with the graph. Beside it stands what keeping that costs a full build.
func benchIncremental(ctx context.Context, l *lab) (results []result, err error) {
	n, changed := l.rows(5_000_000), l.rows(10_000)
	w, err := registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": "incremental.duckdb"}, l.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	s := visitors(n)
	if err := s.make(ctx, l, w); err != nil {
		return nil, err
	}
	spec := entity(s)
	spec.Kept = identity.Kept{Rows: kept("rows"), Components: kept("components"), State: kept("state")}
	build := func(want bool) (time.Duration, error) {
		began := time.Now()
		built, err := identity.Build(ctx, w, spec)
		took := time.Since(began)
		if err == nil && built.Incremental != want {
			err = fmt.Errorf("incremental: %v: %s", built.Incremental, built.Why)
		}
		if want {
			l.say("%d rows read, %d of %d values in the components they touch", built.Read, built.Touched, built.Values)
		}
		return took, err
	}
	l.say("everything")
	full, err := build(false)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct{ what, statement string }{
		{"nothing new", "SELECT 1"},
		{fmt.Sprintf("%s new edges", short(changed)), fmt.Sprintf(`INSERT INTO raw.events SELECT 'a' || hash(i + 7) %% (2 * %[1]d), 'u' || hash(i + 8) %% %[1]d, TIMESTAMP '2026-01-01' + INTERVAL 1 SECOND * i FROM range(%[2]d) r(i)`, n, changed)},
		{fmt.Sprintf("%s late edges, over all days", short(changed)), fmt.Sprintf(`INSERT INTO raw.events SELECT 'a' || hash(i + 17) %% %[1]d, 'u' || hash(i + 18) %% %[1]d, %[3]s FROM range(%[2]d) r(i)`, n, changed, stamp)},
	} {
		if _, err := w.Exec(ctx, c.statement); err != nil {
			return results, err
		}
		l.say("%s", c.what)
		took, err := build(true)
		if err != nil {
			return results, err
		}
		r := shown(fmt.Sprintf("identity of %s edges, %s, against all", short(2*n+n/50), c.what), took, full)
		if c.what == short(changed)+" new edges" {
			r = atMost(r.what, took, full, 0.05)
		}
		results = append(results, r)
	}
	l.say("everything, without keeping what was read")
	spec.Kept = identity.Kept{}
	bare, err := build(false)
	if err != nil {
		return results, err
	}
	return append(results, shown("identity, full and keeping what was read, against keeping nothing", full, bare)), nil
}

// visitors is a base of n accounts, some of which share an address, and of their visitors: two in a hundred visits are of somebody else
// on the same device. (In customers, every visit is of anybody: a tenth of all values hangs together there, which no data of people does.)
func visitors(n int) shape {
	s := customers(n)
	s.what = fmt.Sprintf("identity of a customer base and its visitors, %s edges", short(2*n+n/50))
	s.events = fmt.Sprintf(`SELECT 'a' || device AS anonymous_id, 'u' || CASE WHEN i %% 50 = 0 THEN hash(i + 1) %% %[2]d ELSE hash(device) %% %[2]d END AS user_id, %[1]s AS seen_at
		FROM (SELECT i, hash(i) %% %[2]d AS device FROM range(%[3]d) r(i)) AS v`, stamp, n, n+n/50)
	return s
}

func kept(what string) warehouse.Table {
	return warehouse.Table{Schema: "dray", Name: "identity_customer_" + what}
}
