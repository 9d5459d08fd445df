package run_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/run"
)

// counting counts what a run asks of the warehouse, and the rows that it reads from there.
type counting struct {
	warehouse.Warehouse
	mu               sync.Mutex
	statements, rows int
}

func (c *counting) add(n int) { c.mu.Lock(); c.statements += n; c.mu.Unlock() }

func (c *counting) Exec(ctx context.Context, q string) (int64, error) {
	c.add(1)
	return c.Warehouse.Exec(ctx, q)
}

func (c *counting) Atomic(ctx context.Context, q ...string) error {
	c.add(len(q))
	return c.Warehouse.Atomic(ctx, q...)
}

func (c *counting) Query(ctx context.Context, q string) (warehouse.Rows, error) {
	c.add(1)
	rows, err := c.Warehouse.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	return &countedRows{rows, c}, nil
}

type countedRows struct {
	warehouse.Rows
	c *counting
}

func (r *countedRows) Next() bool {
	ok := r.Rows.Next()
	if ok {
		r.c.mu.Lock()
		r.c.rows++
		r.c.mu.Unlock()
	}
	return ok
}

func (p *project) counted() (statements, rows int) {
	p.t.Helper()
	c := &counting{}
	deps := p.deps()
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		w, err := openWarehouse(ctx, typ, o, dir)
		c.Warehouse = w
		return c, err
	}
	s, err := run.Open(context.Background(), deps, p.options())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if err != nil || reports[0].Requests != 0 {
		p.t.Fatalf("%v %s", err, canonical(reports))
	}
	return c.statements, c.rows
}

// A run with nothing to send costs the same number of statements whatever the size, and reads no row of data (DESIGN §11).
func TestNothingChangedCostsTheSame(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"mode: mirror\nkey: {id: id}\non_remove: delete", "mode: insert\nkey: {id: id}\nremember: 30d"} {
		var first string
		for _, n := range []int{5, 20_000} {
			r := newReceiver(t)
			p := hookProject(t, r, sync)
			p.replace("batch_size: 3", "batch_size: 5000")
			p.exec(fmt.Sprintf("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(%d) t(i)", n))
			p.must(0)
			statements, rows := p.counted()
			got := fmt.Sprintf("%d statements, %d rows", statements, rows)
			if first == "" {
				first = got
			}
			if got != first || statements > 60 || rows > 60 {
				t.Errorf("%q with %d rows: %s; with few: %s", sync, n, got, first)
			}
			t.Log(got)
		}
	}
}
