package run_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// shared is a warehouse that several sessions of a process have open.
type shared struct{ warehouse.Warehouse }

func (shared) Close() error { return nil }

// sessions opens sessions of one project in one process.
func sessions(t *testing.T, p *project, n int) []*run.Session {
	t.Helper()
	all, _ := sharing(t, p, n)
	return all
}

// sharing is sessions, with what they share.
func sharing(t *testing.T, p *project, n int) ([]*run.Session, *run.Running) {
	t.Helper()
	w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"path": "w.duckdb"}, p.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	running := &run.Running{}
	out := make([]*run.Session, n)
	for i := range out {
		deps := p.deps()
		deps.Running = running
		deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) {
			return shared{w}, nil
		}
		s, err := run.Open(context.Background(), deps, p.options())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		out[i] = s
	}
	return out, running
}

// A scheduled run that comes while a backfill is under way has the sync between two of its batches; the backfill then goes on with
// the rows it has not tried, as they are now.
func TestBackfillGivesWay(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_changes: 100%}")
	p.exec("INSERT INTO raw.people SELECT i, 'p' || i || '@example.com', 'old', i FROM range(30) t(i)")
	p.must(0)
	r.state()
	all, running := sharing(t, p, 2)
	var order []string
	scheduled := comes(t, r, all[1], running, 3, &order, "UPDATE raw.people SET name = 'new'")
	rep, err := all[0].Backfill(context.Background(), "people", run.Backfill{Full: true}, run.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := <-scheduled
	if s.ExitCode != 0 || s.Delivered.Update != 30 {
		t.Fatalf("the scheduled run: %s", canonical(s))
	}
	if rep.ExitCode != 0 || rep.Delivered.Update != 30 || rep.Rows != 30 || rep.Deferred.Total() != 0 {
		t.Fatalf("the backfill: %s", canonical(rep))
	}
	if err := rep.Check(); err != nil {
		t.Fatal(err)
	}
	if order[len(order)-1] == s.RunID || order[0] == s.RunID {
		t.Fatalf("the scheduled run did not come between two parts of the backfill: %v", order)
	}
	store, _, _ := r.state()
	for key, fields := range store {
		if fields["name"] != "new" {
			t.Fatalf("%s has the name %v: an older value came last", key, fields["name"])
		}
	}
	if again := p.quietly(all[1]); again.Planned.Total() != 0 {
		t.Fatalf("the run after: %s", canonical(again))
	}
}

// comes starts a run of a session while a backfill's request number nth waits for its answer, which it gets when the run asks for the
// sync. Before the run, a statement changes something. order takes down whose requests came.
func comes(t *testing.T, r *receiver, s *run.Session, running *run.Running, nth int, order *[]string, statement string) <-chan report.Run {
	ended := make(chan report.Run, 1)
	var once sync.Once
	r.answer = func(n int, b *hookBody) verdict {
		*order = append(*order, b.RunID)
		if n != nth {
			return verdict{status: 200}
		}
		once.Do(func() {
			over := make(chan struct{})
			go func() {
				defer close(over)
				if _, err := s.Warehouse.Exec(context.Background(), statement); err != nil {
					t.Error(err)
				}
				reports, err := s.Run(context.Background(), nil, run.RunOptions{})
				if len(reports) != 1 {
					t.Errorf("the scheduled run: %v", err)
					reports = append(reports, report.Run{})
				}
				ended <- reports[0]
			}()
			for running.Waiting("dray", "people") == 0 {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
		return verdict{status: 200}
	}
	return ended
}

// A backfill that gives way when all its rows are sent already has nothing to go on with, which is not an empty model; a model that
// was emptied meanwhile is one.
func TestBackfillGivesWayAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, statement string
		updates, code   int // of both
	}{
		{"as it was", "UPDATE raw.people SET name = 'new' WHERE id = 0", 1, 0},
		{"emptied", "DELETE FROM raw.people", 0, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_changes: 100%}")
			p.exec("INSERT INTO raw.people SELECT i, 'p' || i || '@example.com', 'old', i FROM range(30) t(i)")
			p.must(0)
			_, last, _ := r.state()
			all, running := sharing(t, p, 2)
			var order []string
			scheduled := comes(t, r, all[1], running, last, &order, c.statement)
			rep, err := all[0].Backfill(context.Background(), "people", run.Backfill{Full: true}, run.RunOptions{})
			if (err == nil) != (c.code == 0) || rep.ExitCode != c.code || rep.Delivered.Update != 30 {
				t.Errorf("the backfill: %v, %s", err, canonical(rep))
			}
			if s := <-scheduled; s.ExitCode != c.code || s.Delivered.Update != int64(c.updates) {
				t.Errorf("the scheduled run: %s", canonical(s))
			}
			if len(order) != last+c.updates {
				t.Errorf("%d requests", len(order))
			}
		})
	}
}

// What goes on with a backfill that had sent everything has nothing to send.
func TestResumedAtItsEnd(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(3) t(i)")
	p.must(0)
	s := p.open()
	defer s.Close()
	first, err := s.Backfill(context.Background(), "people", run.Backfill{Full: true}, run.RunOptions{})
	if err != nil || first.Delivered.Update != 3 {
		t.Fatalf("%v %s", err, canonical(first))
	}
	if rep, err := s.Backfill(context.Background(), "people", run.Backfill{Resume: first.RunID}, run.RunOptions{}); err != nil || rep.ExitCode != 0 || rep.Requests != 0 {
		t.Errorf("%v %s", err, canonical(rep))
	}
}

func (p *project) quietly(s *run.Session) report.Run {
	p.t.Helper()
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if err != nil || len(reports) != 1 {
		p.t.Fatalf("%v", err)
	}
	return reports[0]
}

// Two runs of a sync in one process: the second says who has it, although the engine's lock would let it in.
func TestOneRunOfASyncInAProcess(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'a@example.com', 'a', 1)")
	all := sessions(t, p, 2)
	second := make(chan error, 1)
	r.answer = func(int, *hookBody) verdict {
		reports, err := all[1].Run(context.Background(), nil, run.RunOptions{})
		if kind, _ := diag.KindOf(err); kind != diag.Locked || len(reports) != 1 || reports[0].ExitCode != 5 {
			err = fmt.Errorf("the second run: %w %s", err, canonical(reports))
		} else {
			err = nil
		}
		second <- err
		return verdict{status: 200}
	}
	if rep := p.quietly(all[0]); rep.ExitCode != 0 || rep.Delivered.Add != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
}
