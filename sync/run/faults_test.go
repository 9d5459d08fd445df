package run_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/faulty"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

var everyCall = flag.Bool("every-call", false, "let the warehouse fail at each call of a run, not at some")

// fallible is a project whose warehouse fails when it is told to, and whose model changes from round to round. No value comes twice, so
// that what is sent twice can be told by its dedupe id.
type fallible struct {
	*project
	r      *receiver
	mode   string
	round  int
	faults *faulty.Warehouse // of the run under way
}

func newFallible(t *testing.T, mode string) *fallible {
	r := newReceiver(t)
	p := hookProject(t, r, mode)
	return &fallible{project: p, r: r, mode: mode}
}

// change makes a round of differences: thirty rows come, some change, some leave.
func (f *fallible) change() {
	f.t.Helper()
	f.round++
	f.exec(
		fmt.Sprintf("INSERT INTO raw.people SELECT i, 'p' || i || '@example.com', 'new %[1]d', i FROM range(%[1]d * 100, %[1]d * 100 + 18) t(i)", f.round),
		fmt.Sprintf("UPDATE raw.people SET name = 'changed %d' WHERE id %% 100 < 9 AND id >= %d AND id < %[2]d + 100", f.round, (f.round-1)*100),
		fmt.Sprintf("DELETE FROM raw.people WHERE id %% 100 >= 14 AND id < %d AND id >= %d", f.round*100, (f.round-1)*100))
	f.r.mu.Lock()
	f.r.ids = map[string]int{}
	f.r.mu.Unlock()
}

// try runs once; at decides about faults, nil = none. It gives the number of calls.
func (f *fallible) try(at func(c faulty.Call) faulty.Fault) (report.Run, int, error) {
	f.t.Helper()
	deps := f.deps()
	var w *faulty.Warehouse
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		inner, err := openWarehouse(ctx, typ, o, dir)
		w = &faulty.Warehouse{Warehouse: inner, At: at}
		return w, err
	}
	s, err := run.Open(context.Background(), deps, f.options())
	if err != nil {
		if w != nil {
			_ = w.Warehouse.Close()
		}
		return report.Run{}, 0, err
	}
	defer s.Close()
	f.faults = w
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if len(reports) == 1 {
		return reports[0], w.Calls(), err
	}
	return report.Run{}, w.Calls(), err
}

// heals: within so many runs without faults nothing is left to do, destination and snapshot are the model, and no more rows were
// sent twice than may have been in flight.
func (f *fallible) heals(what string, runs, twice int) {
	f.t.Helper()
	for i := 0; ; i++ {
		rep, _, err := f.try(nil)
		if err == nil && rep.Planned.Total() == 0 && rep.Requests == 0 {
			break
		}
		if i == runs {
			f.t.Fatalf("%s: after %d runs: %v: %s", what, runs, err, canonical(rep))
		}
	}
	want := strings.Join(f.query("SELECT id::VARCHAR || '=' || name FROM raw.people ORDER BY id"), " ")
	if got := strings.Join(f.query("SELECT dest_key::VARCHAR || '=' || name FROM dray.snapshot_people WHERE uncertain_until IS NULL ORDER BY dest_key"), " "); got != want {
		f.t.Fatalf("%s: the snapshot has %s\nwant %s", what, got, want)
	}
	store, _, _ := f.r.state()
	if n := len(strings.Fields(strings.ReplaceAll(want, "=new ", "=new"))); n == 0 || len(store) != len(f.query("SELECT id FROM raw.people")) {
		f.t.Fatalf("%s: the destination holds %d rows, the model %d", what, len(store), len(f.query("SELECT id FROM raw.people")))
	}
	for _, row := range f.query("SELECT '{\"id\":' || id || '}|' || name FROM raw.people") {
		key, name, _ := strings.Cut(row, "|")
		if store[key] == nil || fmt.Sprint(store[key]["name"]) != name {
			f.t.Fatalf("%s: the destination has %v under %s, the model %s", what, store[key], key, name)
		}
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	again := 0
	for _, n := range f.r.ids {
		again += n - 1
	}
	if again > twice {
		f.t.Fatalf("%s: %d rows were sent twice, at most %d may have been in flight", what, again, twice)
	}
}

// The warehouse's connection drops at some call, in plan, in delivery and in commit, with the statement's effect and without; or its
// disk is full from there on. What was acknowledged stands in the journal, so nothing is sent twice.
func TestWarehouseFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name string
		f    faulty.Fault
	}{{"before", faulty.Before}, {"after", faulty.After}, {"full", faulty.Full}} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			f := newFallible(t, "mode: mirror\nkey: {id: id}\non_remove: delete\ncheckpoint: 1ms\nguard: {max_removes: 100%, max_changes: 100%, allow_empty: true}")
			f.change()
			f.heals("the first load", 1, 0)
			f.change()
			_, calls, err := f.try(nil)
			if err != nil || calls < 20 {
				t.Fatalf("%d calls: %v", calls, err)
			}
			step := max(1, calls/9)
			if *everyCall {
				step = 1
			}
			random := rand.New(rand.NewPCG(1, uint64(fault.f))) //nolint:gosec // a test's choice
			for n := 1; n <= calls; n += step {
				f.change()
				at := n + random.IntN(step)
				hit := ""
				rep, _, err := f.try(func(c faulty.Call) faulty.Fault {
					if c.N < at || hit != "" {
						return faulty.None
					}
					hit = c.Method + " " + c.SQL
					return fault.f
				})
				what := fmt.Sprintf("call %d of %d, %s", at, calls, hit)
				if err != nil && strings.Contains(err.Error(), "add up") {
					t.Fatalf("I7: %s: %v: %s", what, err, canonical(rep))
				}
				f.heals(what, 3, 0)
			}
		})
	}
}

// The control state is damaged between two runs, or under a run's feet.
func TestStateDamaged(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("no database "), 2000)
	files := func(dir string, do func(path string) error) error {
		return filepath.WalkDir(filepath.Join(dir, ".dray"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || strings.Contains(path, ".damaged-") {
				return err
			}
			return do(path)
		})
	}
	for name, damage := range map[string]func(dir string) error{
		"lost":  func(dir string) error { return os.RemoveAll(filepath.Join(dir, ".dray")) },
		"empty": func(dir string) error { return files(dir, func(p string) error { return os.Truncate(p, 0) }) },
		"garbage": func(dir string) error {
			return files(dir, func(p string) error { return os.WriteFile(p, garbage, 0o600) })
		},
		"truncated": func(dir string) error {
			return files(dir, func(p string) error {
				info, err := os.Stat(p)
				if err != nil {
					return err
				}
				return os.Truncate(p, info.Size()*2/3)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFallible(t, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_removes: 100%, max_changes: 100%, allow_empty: true}")
			f.change()
			f.heals("the first load", 1, 0)
			if err := damage(f.dir); err != nil {
				t.Fatal(err)
			}
			f.change()
			f.heals("damaged between runs", 4, 0)
			for _, at := range []int{1, 4, 8} {
				f.change()
				var once sync.Once
				f.r.answer = func(n int, _ *hookBody) verdict {
					if n >= at {
						once.Do(func() {
							if err := damage(f.dir); err != nil {
								t.Error(err)
							}
						})
					}
					return verdict{status: 200}
				}
				_, _, _ = f.try(nil)
				f.r.answer = nil
				// With the journal gone as well, what came after the last checkpoint may be sent again.
				f.heals(fmt.Sprintf("damaged at request %d", at), 4, 200)
			}
		})
	}
}

// The clock is set back, between runs and while rows are on their way, one of which is never answered.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	f := newFallible(t, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_removes: 100%, max_changes: 100%, allow_empty: true}")
	f.replace("settle: 0s", "settle: 10m")
	var mu sync.Mutex
	var ahead time.Duration
	f.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	set := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); ahead = d }
	f.change()
	f.heals("the first load", 1, 0)
	for i, back := range []time.Duration{time.Hour, 26 * time.Hour, 400 * 24 * time.Hour} {
		f.change()
		f.r.answer = func(n int, _ *hookBody) verdict {
			if n == 3 {
				set(-back)
				return verdict{drop: true}
			}
			return verdict{status: 200}
		}
		_, _, err := f.try(nil)
		f.r.answer = nil
		t.Logf("set back by %s: %v", back, err)
		f.r.state()
		// The row that was not answered is sent until ten minutes have passed on whatever clock there is.
		for range 2 {
			_, _, _ = f.try(nil)
			mu.Lock()
			ahead += 15 * time.Minute
			mu.Unlock()
		}
		if i == 1 {
			set(0)
		}
		for range 2 {
			mu.Lock()
			ahead += 15 * time.Minute
			mu.Unlock()
			_, _, _ = f.try(nil)
		}
		f.heals(fmt.Sprintf("set back by %s", back), 3, 30)
	}
}
