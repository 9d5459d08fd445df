package run_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/run"
)

// A plan of several pages, committed page by page, and the process killed between, its state kept or lost: what was committed is
// not sent again, what was not is, and the destination becomes the model.
func TestKilledBetweenCheckpoints(t *testing.T) {
	t.Parallel()
	const rows, batch = 50_000, 500
	for _, c := range []struct {
		at   int // the request during which the process dies
		lost bool
	}{{at: 45}, {at: 70, lost: true}, {at: 100}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\ncheckpoint: 1ms")
			p.replace("batch_size: 3", fmt.Sprintf("batch_size: %d", batch))
			p.exec(fmt.Sprintf("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(%d) t(i)", rows))
			w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"path": "w.duckdb"}, p.dir)
			if err != nil {
				t.Fatal(err)
			}
			m := &mortal{Warehouse: w, left: -1, died: p.freezeState}
			r.answer = func(n int, _ *hookBody) verdict {
				if n == c.at {
					m.die()
				}
				if n >= c.at {
					return verdict{apply: func(int) bool { return n == c.at }, drop: true} // the dead send no more
				}
				return verdict{status: 200}
			}
			deps := p.deps()
			deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) { return m, nil }
			deps.After = func(time.Duration) <-chan time.Time { c := make(chan time.Time); close(c); return c }
			s, err := run.Open(t.Context(), deps, p.options())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Run(t.Context(), nil, run.RunOptions{})
			_ = s.Close()
			_ = w.Close()
			p.thawState()
			if c.lost {
				(&world{t: t, p: p}).loseState()
			}
			committed := p.query("SELECT count(*) FROM dray.snapshot_people")[0]
			r.answer = nil
			r.state()
			p.leaseEnds()
			rep := p.must(0)
			_, _, changes := r.state()
			if fmt.Sprint(rows-changes) != committed && c.lost || changes >= rows || rep.Unchanged+int64(changes) != rows {
				t.Fatalf("%s rows were committed; %d were sent again: %s", committed, changes, canonical(rep))
			}
			if store, _, _ := r.state(); len(store) != rows {
				t.Fatalf("the destination holds %d rows", len(store))
			}
			if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != rows {
				t.Fatalf("quiet: %s", canonical(rep))
			}
		})
	}
}
