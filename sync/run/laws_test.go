package run_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// What random histories are made of, on the real engine with the real DuckDB, SQLite and HTTP: TestModel has most of them, the laws
// of asynchronous vendors stand in async_test.go. A failing history prints its seed; run it alone with -seed. More histories of a
// law with -histories.
var (
	histories = flag.Int("histories", 0, "histories a law; 0 = a number that keeps the suite short")
	oneSeed   = flag.Uint64("seed", 0, "one history alone")
)

var errKilled = errors.New("killed")

// mortal is a warehouse whose process dies after some calls: the call at which it happens has its effect or not.
type mortal struct {
	warehouse.Warehouse
	mu    sync.Mutex
	left  int // calls; negative = immortal
	dead  bool
	after bool // the last call still takes effect
	died  func()
}

// die kills the process from outside, while it waits for an answer.
func (m *mortal) die() {
	m.mu.Lock()
	was := m.dead
	m.dead = true
	m.mu.Unlock()
	if !was {
		m.died()
	}
}

func (m *mortal) step(do func() error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return errKilled
	}
	if m.left > 0 {
		m.left--
	}
	if m.left != 0 {
		m.mu.Unlock()
		return do()
	}
	m.dead = true
	m.mu.Unlock()
	m.died()
	if m.after {
		_ = do()
	}
	return errKilled
}

func (m *mortal) Exec(ctx context.Context, q string) (n int64, err error) {
	err = m.step(func() error { n, err = m.Warehouse.Exec(ctx, q); return err })
	return n, err
}

func (m *mortal) Atomic(ctx context.Context, q ...string) error {
	return m.step(func() error { return m.Warehouse.Atomic(ctx, q...) })
}

func (m *mortal) Query(ctx context.Context, q string) (rows warehouse.Rows, err error) {
	err = m.step(func() error { rows, err = m.Warehouse.Query(ctx, q); return err })
	if err != nil && rows != nil {
		_ = rows.Close()
		return nil, err
	}
	return rows, err
}

func (m *mortal) Load(ctx context.Context, t warehouse.Table, c []string, next func() ([]any, error)) (n int64, err error) {
	err = m.step(func() error { n, err = m.Warehouse.Load(ctx, t, c, next); return err })
	return n, err
}

func (m *mortal) Close() error { return nil } // the history closes it

// world is one history.
type world struct {
	t       testing.TB
	seed    uint64
	rng     *rand.Rand
	r       *receiver
	p       *project
	w       warehouse.Warehouse
	model   map[int]int
	clock   time.Time
	faults  bool
	kill    bool
	doomed  bool // this run may be killed
	dead    atomic.Bool
	process *mortal // of the run under way
	late    bool    // requests may be applied up to two runs after they were sent
	pending []lateRequest
	runNo   int
	refused map[string]bool // keys the vendor refuses now
	silent  map[string]bool // keys whose last request was not answered: a try after it may be refused although it was applied
	traced  sync.Mutex
	trace   []string
}

type lateRequest struct {
	due     int
	changes []hookChange
}

func newWorld(t testing.TB, seed uint64, sync string) *world {
	v := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), model: map[int]int{}, refused: map[string]bool{}, silent: map[string]bool{},
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	v.r = newReceiver(t)
	v.r.answer = v.answer
	v.p = newProject(t, fmt.Sprintf(`
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources: [{name: raw, schema: raw, tables: [{name: rows}]}]
models: [{name: rows, primary_key: id, sql: "select * from {{ source('raw', 'rows') }}"}]
destinations: [{name: hook, type: webhook, url: "%s", batch_size: 2, settle: "${SETTLE:-0s}"}]
syncs:
  - {name: rows, model: rows, destination: hook, object: rows, fields: {v: v}, %s,
     guard: {max_removes: 100%%, max_changes: 100%%, allow_empty: true}}
`, v.r.URL, sync), nil)
	v.p.now = func() time.Time { return v.clock }
	w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"threads": 1}, v.p.dir)
	if err != nil {
		t.Fatal(err)
	}
	v.w = w
	t.Cleanup(func() { _ = w.Close() })
	v.sql("CREATE SCHEMA raw", "CREATE TABLE raw.rows (id VARCHAR, k BIGINT, v INTEGER)")
	return v
}

func (v *world) sql(statements ...string) {
	v.t.Helper()
	for _, q := range statements {
		if _, err := v.w.Exec(context.Background(), q); err != nil {
			v.fatalf("%s: %v", q, err)
		}
	}
}

func (v *world) fatalf(format string, args ...any) {
	v.t.Helper()
	v.t.Fatalf("seed %d: %s\n%s", v.seed, fmt.Sprintf(format, args...), strings.Join(v.trace, "\n"))
}

func (v *world) log(format string, args ...any) {
	v.traced.Lock()
	defer v.traced.Unlock()
	v.trace = append(v.trace, fmt.Sprintf(format, args...))
}

// answer is the destination's behaviour; the receiver's lock is held.
func (v *world) answer(_ int, b *hookBody) verdict {
	none := func(int) bool { return false }
	if v.dead.Load() { // what a process that died would have sent later never comes
		return verdict{apply: none, drop: true}
	}
	if v.doomed && v.rng.IntN(4) == 0 {
		v.process.die()
		taken := v.rng.IntN(2) == 0
		v.log("  request: the sender dies, taken=%v %s", taken, describe(b))
		return verdict{apply: func(int) bool { return taken }, drop: true}
	}
	if !v.faults {
		v.log("  request: taken %s", describe(b))
		return verdict{status: 200}
	}
	again := false
	for _, c := range b.Changes {
		again = again || v.silent[canonical(c.Key)]
		delete(v.silent, canonical(c.Key))
	}
	if again && v.rng.IntN(3) == 0 {
		v.log("  request: a try after silence, refused %s", describe(b))
		bad := strings.Repeat(`{"status":"rejected","code":"late"},`, len(b.Changes))
		return verdict{apply: none, status: 200, body: `{"results":[` + strings.TrimSuffix(bad, ",") + `]}`}
	}
	for _, c := range b.Changes {
		if v.refused[canonical(c.Key)] {
			if v.rng.IntN(2) == 0 {
				v.log("  request: refused whole %s", describe(b))
				return verdict{apply: none, status: 422}
			}
			break
		}
	}
	switch x := v.rng.IntN(20); {
	case x == 0:
		v.log("  request: lost %s", describe(b))
		return verdict{apply: none, drop: true}
	case x == 1 || x >= 17 && v.late:
		v.log("  request: taken, answer lost %s", describe(b))
		for _, c := range b.Changes {
			v.silent[canonical(c.Key)] = true
		}
		return verdict{drop: true}
	case x == 2:
		v.log("  request: 500 after %s", describe(b))
		return verdict{status: 500}
	case x == 3:
		v.log("  request: 503 before %s", describe(b))
		return verdict{apply: none, status: 503}
	case x == 4:
		v.log("  request: 429 %s", describe(b))
		return verdict{apply: none, status: 429}
	case x <= 6 && v.late:
		v.log("  request: late %s", describe(b))
		v.pending = append(v.pending, lateRequest{v.runNo + v.rng.IntN(2), append([]hookChange(nil), b.Changes...)})
		return verdict{apply: none, drop: true}
	case x == 7: // only the first row is mentioned
		v.log("  request: answer cut off %s", describe(b))
		return verdict{status: 200, body: `{"results":[{"status":"delivered"}]`}
	}
	results, apply := make([]string, len(b.Changes)), make([]bool, len(b.Changes))
	for i, c := range b.Changes {
		apply[i] = !v.refused[canonical(c.Key)]
		results[i] = `{"status":"delivered"}`
		if !apply[i] {
			results[i] = `{"status":"rejected","code":"bad"}`
		}
	}
	v.log("  request: answered %s %v", describe(b), apply)
	return verdict{apply: func(i int) bool { return apply[i] }, status: 200, body: `{"results":[` + strings.Join(results, ",") + `]}`}
}

func describe(b *hookBody) string {
	var parts []string
	for _, c := range b.Changes {
		parts = append(parts, fmt.Sprintf("%s%v=%v", c.Operation, c.Key["id"], c.Fields["v"]))
	}
	return strings.Join(parts, " ")
}

// land applies requests that were delayed.
func (v *world) land(all bool) {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	var rest []lateRequest
	for _, l := range v.pending {
		if all || l.due < v.runNo || (l.due == v.runNo && v.rng.IntN(2) == 0) {
			for _, c := range l.changes {
				v.log("  lands late: %s%v=%v", c.Operation, c.Key["id"], c.Fields["v"])
				v.r.apply(c)
			}
			continue
		}
		rest = append(rest, l)
	}
	v.pending = rest
}

// mutate changes the model: few keys and values, so that things change back.
func (v *world) mutate() {
	for k := range 6 {
		switch x := v.rng.Float64(); {
		case x < 0.3:
			v.model[k] = v.rng.IntN(2)
		case x < 0.5:
			delete(v.model, k)
		}
		v.refused[fmt.Sprintf(`{"id":"k%d"}`, k)] = v.rng.IntN(8) == 0
	}
	v.publish()
}

func (v *world) publish() {
	statements := []string{"DELETE FROM raw.rows"}
	for k, val := range v.model {
		statements = append(statements, fmt.Sprintf("INSERT INTO raw.rows VALUES ('k%d', %d, %d)", k, k, val))
	}
	v.sql(statements...)
	v.log("model %v", v.model)
}

// run is one process: it opens the project, runs, and ends or dies.
func (v *world) run() (report.Run, error) {
	v.runNo++
	v.clock = v.clock.Add(time.Minute)
	m := &mortal{Warehouse: v.w, left: -1, died: func() { v.dead.Store(true); v.p.freezeState() }}
	v.r.mu.Lock() // an answer that nobody waited for may still be under way
	v.dead.Store(false)
	v.process = m
	v.doomed = v.kill && v.rng.IntN(2) == 0
	if v.doomed && v.rng.IntN(2) == 0 {
		m.left, m.after = 1+v.rng.IntN(30), v.rng.IntN(2) == 0
	}
	v.r.mu.Unlock()
	if there, _ := v.w.Exists(context.Background(), warehouse.Table{Schema: "dray", Name: "lock_rows"}); (server != "" || conformance.Carried() != "") && there {
		// On DuckDB nobody waits for a dead run's lease.
		v.sql("UPDATE dray.lock_rows SET until = TIMESTAMP '2000-01-01 00:00:00'")
	}
	deps := v.p.deps()
	deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) { return m, nil }
	deps.After = func(time.Duration) <-chan time.Time { c := make(chan time.Time); close(c); return c }
	s, err := run.Open(context.Background(), deps, v.p.options())
	if err != nil {
		v.fatalf("opening: %v", err)
	}
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if cerr := s.Close(); cerr != nil {
		v.fatalf("closing: %v", cerr)
	}
	v.r.mu.Lock()
	died := v.dead.Load()
	v.r.mu.Unlock()
	if died {
		v.p.thawState()
	}
	rep := report.Run{}
	if len(reports) == 1 {
		rep = reports[0]
	}
	v.log("run %d: killed=%v status=%s %v", v.runNo, died, rep.Status, err)
	if err != nil && strings.Contains(err.Error(), "add up") {
		v.fatalf("I7: %v: %s", err, canonical(rep))
	}
	return rep, err
}

// freezeState keeps the control state as a process leaves it that dies now; what is left of the process in this test goes on
// writing to it until thawState puts back what was kept.
func (p *project) freezeState() {
	db, err := sql.Open("sqlite", "file:"+p.statePath()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		p.t.Error(err)
		return
	}
	defer db.Close()
	_ = os.RemoveAll(p.journalPath() + ".frozen")
	if err := os.CopyFS(p.journalPath()+".frozen", os.DirFS(p.journalPath())); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
	_ = os.Remove(p.statePath() + ".frozen")
	if _, err := db.ExecContext(context.Background(), "VACUUM INTO ?", p.statePath()+".frozen"); err != nil {
		p.t.Error(err)
	}
}

func (p *project) thawState() {
	for _, ext := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(p.statePath() + ext); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.t.Error(err)
		}
	}
	if err := os.Rename(p.statePath()+".frozen", p.statePath()); err != nil {
		p.t.Error(err)
	}
	if err := os.RemoveAll(p.journalPath()); err != nil {
		p.t.Error(err)
	}
	if err := os.Rename(p.journalPath()+".frozen", p.journalPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
}

func (p *project) journalPath() string { return filepath.Join(p.dir, ".dray", "state.journal") }

func (p *project) statePath() string { return filepath.Join(p.dir, ".dray", "state.db") }

func (v *world) loseState() {
	if err := os.RemoveAll(filepath.Join(v.p.dir, ".dray")); err != nil {
		v.fatalf("%v", err)
	}
	v.log("state lost")
}

// calm ends the faults and runs until nothing is left to do, within a bound.
func (v *world) calm(runs int) {
	v.faults, v.kill = false, false
	clear(v.refused)
	v.land(true)
	v.clock = v.clock.Add(48 * time.Hour) // retries are due
	for range runs {
		if _, err := v.run(); err != nil {
			v.fatalf("a run without faults: %v", err)
		}
		v.clock = v.clock.Add(time.Hour) // settle times are over
	}
}

// equal compares the destination with the model.
func (v *world) equal() {
	v.t.Helper()
	store, _, _ := v.r.state()
	for k, val := range v.model {
		if got := store[fmt.Sprintf(`{"id":"k%d"}`, k)]; got == nil || fmt.Sprint(got["v"]) != fmt.Sprint(val) {
			v.fatalf("the destination holds %v, the model %v", store, v.model)
		}
	}
	if len(store) != len(v.model) {
		v.fatalf("the destination holds %v, the model %v", store, v.model)
	}
}

// quiet: the next run plans nothing and sends nothing.
func (v *world) quiet() {
	v.t.Helper()
	rep, err := v.run()
	if err != nil || rep.Requests != 0 || rep.Planned.Total() != 0 || rep.ExitCode != 0 {
		v.fatalf("the run after is not empty: %v %s", err, canonical(rep))
	}
}

// law runs many histories, some at a time.
func law(t *testing.T, standard int, history func(t testing.TB, seed uint64)) {
	t.Parallel()
	n := standard
	if *histories > 0 {
		n = *histories
	}
	if testing.Short() {
		n = min(n, 20)
	}
	if *oneSeed > 0 {
		history(t, *oneSeed)
		return
	}
	for seed := range uint64(n) {
		history(t, seed+1)
		if t.Failed() {
			return
		}
	}
}
