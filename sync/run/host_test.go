package run_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// building counts how often the tables of models are made.
type building struct {
	warehouse.Warehouse
	mu   *sync.Mutex
	made map[string]int // by what the statement contains
}

func (b *building) note(statements ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range statements {
		for name := range b.made {
			if strings.Contains(s, "CREATE ") && strings.Contains(s, "/* "+name+" */") {
				b.made[name]++
			}
		}
	}
}

func (b *building) Exec(ctx context.Context, q string) (int64, error) {
	b.note(q)
	return b.Warehouse.Exec(ctx, q)
}

func (b *building) Atomic(ctx context.Context, q ...string) error {
	b.note(q...)
	return b.Warehouse.Atomic(ctx, q...)
}

// Many syncs that are due together on one warehouse: each model they read is built once, whoever comes first, and every sync delivers
// its rows and its own alone. What is due later reads what was built after it was due (DESIGN §4, Builds).
func TestDueTogether(t *testing.T) {
	t.Parallel()
	const syncs = 16
	r := newReceiver(t)
	var y strings.Builder
	fmt.Fprintf(&y, `
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources:
  - {name: raw, schema: raw, tables: [{name: people}]}
models:
  - {name: base, materialized: table, primary_key: id, sql: "select /* the base */ * from {{ source('raw', 'people') }}"}
  - {name: even, materialized: table, primary_key: id, sql: "select /* the even */ * from {{ ref('base') }} where mod(id, 2) = 0"}
  - {name: odd, materialized: table, primary_key: id, sql: "select /* the odd */ * from {{ ref('base') }} where mod(id, 2) = 1"}
destinations:
  - {name: hook, type: webhook, url: "%s", batch_size: 100, settle: 0s}
syncs:
`, r.URL)
	for i := range syncs {
		fmt.Fprintf(&y, "  - {name: s%d, model: %s, destination: hook, object: o%d, mode: mirror, on_remove: delete, key: {id: id}, fields: {name: name}, where: \"id > %d\"}\n",
			i, [...]string{"even", "odd"}[i%2], i, i)
	}
	p := newProject(t, y.String(), nil)
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.people (id BIGINT, name VARCHAR)", "INSERT INTO raw.people SELECT i, 'p' || i FROM range(100) t(i)")

	count := &building{mu: new(sync.Mutex), made: map[string]int{"the base": 0, "the even": 0, "the odd": 0}}
	deps := p.deps()
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		w, err := openWarehouse(ctx, typ, o, dir)
		return &building{w, count.mu, count.made}, err
	}
	prepared, err := run.Prepare(deps, p.options())
	if err != nil {
		t.Fatal(err)
	}
	h, err := run.NewHost(t.Context(), prepared, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	wave := func(due time.Time) []report.Run {
		reports := make([]report.Run, syncs)
		var all sync.WaitGroup
		for i := range syncs {
			all.Go(func() {
				var err error
				if reports[i], err = h.RunDue(t.Context(), prepared, deps, p.options(), fmt.Sprintf("s%d", i), due); err != nil {
					t.Errorf("s%d: %v", i, err)
				}
			})
		}
		all.Wait()
		return reports
	}
	built := func(times int) {
		t.Helper()
		for name, n := range count.made {
			if n != times {
				t.Errorf("%s was built %d times, not %d", name, n, times)
			}
		}
	}

	due := time.Now()
	for i, rep := range wave(due) {
		want := int64(0) // ids above i and below 100 of its parity
		for id := i + 1; id < 100; id++ {
			if id%2 == i%2 {
				want++
			}
		}
		if rep.Status != report.Succeeded || rep.Delivered.Add != want || rep.Rows != want {
			t.Errorf("s%d: %s", i, canonical(rep))
		}
	}
	built(1)
	// Of the same due time and late: nothing is built again, and nothing is to do.
	for _, rep := range wave(due) {
		if rep.Status != report.Succeeded || rep.Planned.Total() != 0 {
			t.Errorf("again: %s", canonical(rep))
		}
	}
	built(1)
	// Due later, after a change: built anew, once.
	p.exec("UPDATE raw.people SET name = 'changed' WHERE id >= 98")
	for i, rep := range wave(time.Now()) {
		if rep.Status != report.Succeeded || rep.Delivered.Update != 1 || rep.Planned.Total() != 1 {
			t.Errorf("s%d after the change: %s", i, canonical(rep))
		}
	}
	built(2)
}
