//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// I3: SIGKILL at any instruction, many times over, of a process that runs the real main against a real DuckDB file or a real
// PostgreSQL, a real SQLite file or again PostgreSQL, and a real webhook. A failure prints its seed.
var (
	kills    = flag.Int("kills", 0, "runs that are killed, in each case; 0 = a number that keeps the suite short")
	killSeed = flag.Uint64("seed", 0, "of the kill tests; 0 = another one each time")
)

const (
	batchSize = 20
	firstRows = 3000
)

// hunted is a project whose runs are killed, with the model as it ought to be and the store it is delivered to.
type hunted struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	dir    string
	home   home
	env    []string
	store  *store
	life   time.Duration // about how long a run lives that is not killed
	insert bool
	model  map[int64]int   // id → version
	gone   []int64         // ids that have left the model
	next   int64           // an id, and a version, that was never used
	owed   map[int64]bool  // events that some run had in its plan
	killed map[string]bool // by run id; a run that ended by itself is false
	trace  []string
}

// home is where a hunted project keeps its tables and its control state.
type home struct {
	state     string // a PostgreSQL URL; "" = the SQLite file
	warehouse string // a PostgreSQL URL; "" = a DuckDB file
}

// open opens the warehouse, while no run has it.
func (h home) open(ctx context.Context, dir string) (warehouse.Warehouse, error) {
	if h.warehouse != "" {
		return registry.OpenWarehouse(ctx, "postgres", map[string]any{"url": h.warehouse}, dir)
	}
	return registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": "w.duckdb"}, dir)
}

// yaml are the project's keys that say so.
func (h home) yaml() string {
	out := "warehouse: {type: duckdb, path: w.duckdb, threads: 1, wait: 300ms}\n"
	if h.warehouse != "" {
		out = "warehouse: {type: postgres, url: \"" + h.warehouse + "\"}\n"
	}
	if h.state != "" {
		out += "state: \"" + h.state + "\"\n"
	}
	return out
}

const huntedYAML = `
name: hunted
version: 1
sources: [{name: raw, schema: raw, tables: [{name: rows}]}]
models:
  - name: rows
    primary_key: id
    materialized: table
    sql: |
      select id, 'Ærø ' || id || '/' || v as name, v as n, cast(v as double precision) / 4 as score, v % 2 = 0 as even
      from {{ source('raw', 'rows') }}
destinations: [{name: hook, type: webhook, url: "${HOOK}", batch_size: 20, settle: 0s}]
syncs:
  - name: rows
    model: rows
    destination: hook
    object: rows
    key: {id: id}
    fields: {name: name, n: n, score: score, even: even}
    guard: {max_removes: 100%, max_changes: 100%, floor: 100000}
    retry: {attempts: 1}
`

func newHunted(t *testing.T, mode string) *hunted {
	t.Helper()
	return newHuntedAt(t, home{}, mode)
}

func newHuntedAt(t *testing.T, at home, mode string) *hunted {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	h := &hunted{
		t: t, seed: seed, life: time.Second, rng: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), home: at, store: newStore(t, seed),
		insert: strings.Contains(mode, "insert"), model: map[int64]int{}, next: firstRows, owed: map[int64]bool{}, killed: map[string]bool{},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with: go test ./cmd/dray -run '%s' -seed %d\n%s", t.Name(), seed, strings.Join(h.trace, "\n"))
		}
	})
	h.store.insert = h.insert
	h.write("dray.yaml", []byte(huntedYAML+"    "+mode+"\n"+at.yaml()))
	rows := "range(0, %d)"
	if at.warehouse != "" {
		rows = "generate_series(0, %d - 1)"
	}
	h.sql("CREATE SCHEMA raw", fmt.Sprintf("CREATE TABLE raw.rows AS SELECT CAST(i AS BIGINT) AS id, CAST(i AS INTEGER) AS v FROM "+rows+" AS r(i)", firstRows))
	for id := range int64(firstRows) {
		h.model[id] = int(id)
	}
	return h
}

func (h *hunted) write(name string, content []byte) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), content, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hunted) logf(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

// sql changes the warehouse in one transaction, while no run has it.
func (h *hunted) sql(statements ...string) {
	h.t.Helper()
	w, err := h.home.open(h.t.Context(), h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := errors.Join(w.Atomic(h.t.Context(), statements...), w.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// column reads a query's only column of numbers.
func (h *hunted) column(query string) []int64 {
	h.t.Helper()
	w, err := h.home.open(h.t.Context(), h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Close()
	rows, err := w.Query(h.t.Context(), query)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			h.t.Fatal(err)
		}
		n, ok := v[0].(int64)
		if !ok {
			h.t.Fatalf("%s: %v is no number", query, v[0])
		}
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// change changes a share of the model: rows change, leave, come, and come back. Versions are never used twice, so that a row
// sent as it was before can only be one that was sent again. Events do not change: they come, leave and come back.
func (h *hunted) change(share float64) {
	h.t.Helper()
	ids := slices.Sorted(maps.Keys(h.model))
	h.rng.Shuffle(len(ids), func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
	var left, values []string
	put := func(id int64, version int) {
		h.model[id] = version
		values = append(values, fmt.Sprintf("(%d, %d)", id, version))
	}
	for _, id := range ids[:int(share*float64(len(ids)))] {
		h.next++
		switch x := h.rng.IntN(10); {
		case x < 3:
			left = append(left, fmt.Sprint(id))
			h.gone = append(h.gone, id)
			delete(h.model, id)
		case x < 5:
			put(h.next, int(h.next))
		case x == 5 && len(h.gone) > 0:
			i := h.rng.IntN(len(h.gone))
			back := h.gone[i]
			h.gone = slices.Delete(h.gone, i, i+1)
			left = append(left, fmt.Sprint(back)) // it may have left in this very change
			put(back, h.version(back))
		case !h.insert:
			left = append(left, fmt.Sprint(id))
			put(id, h.version(id))
		}
	}
	h.sql("DELETE FROM raw.rows WHERE id IN (-1, "+strings.Join(append(left, "-1"), ", ")+")",
		"INSERT INTO raw.rows SELECT * FROM (VALUES (-1, -1), "+strings.Join(append(values, "(-1, -1)"), ", ")+") AS x(id, v) WHERE id >= 0")
	h.logf("%d rows left or changed, %d came or changed", len(left), len(values))
}

func (h *hunted) version(id int64) int {
	if h.insert {
		return int(id)
	}
	return int(h.next)
}

// fields is a row as the destination ought to hold it.
func fields(id int64, version int) string {
	return text(map[string]any{"name": fmt.Sprintf("Ærø %d/%d", id, version), "n": version, "score": float64(version) / 4, "even": version%2 == 0})
}

// wanted is what the destination ought to hold.
func (h *hunted) wanted() map[int64]string {
	out := make(map[int64]string, len(h.model))
	for id, version := range h.model {
		out[id] = fields(id, version)
	}
	return out
}

// process is one dray under way.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           context.CancelFunc
}

// start starts the binary that testscript.Main puts into the PATH: this one, whose main is dray's.
func (h *hunted) start(args ...string) *process {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	p := &process{cmd: exec.CommandContext(ctx, "dray", args...), done: cancel}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = h.dir, &p.stdout, &p.stderr
	p.cmd.Env = append(append(slices.DeleteFunc(os.Environ(), isProxy), "HOOK="+h.store.URL), h.env...)
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// wait returns the exit code; -1 of a process that was killed.
func (p *process) wait() int {
	defer p.done()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) said() string { return p.stdout.String() + p.stderr.String() }

// run lets a run live to its end, which must have an exit code, and tells how many requests it made.
func (h *hunted) run(code int) (said string, requests int) {
	h.t.Helper()
	h.store.reset()
	p := h.start("run")
	got := p.wait()
	h.store.settled(h.t)
	_, requests = h.store.reset()
	h.logf("run: exit %d, %d requests", got, requests)
	if got == 5 && code != 5 && h.home.state != "" && requests == 0 { // locked by one that died between its lock and its fence
		h.outlive()
		return h.run(code)
	}
	if got != code {
		h.t.Fatalf("exit code %d, want %d\n%s", got, code, p.said())
	}
	return p.said(), requests
}

// pending is about how many requests the next run will make.
func (h *hunted) pending() int {
	held, n := h.store.held(), 0
	for id, fields := range h.wanted() {
		if held[id] != fields {
			n++
		}
	}
	return n/batchSize + 1
}

// hunt starts a run and kills it: at some time of its life, or at one of its requests, or a little after that. Now and then a
// run gets away; it must then have ended as a run does at a destination that drops connections.
func (h *hunted) hunt() {
	h.t.Helper()
	h.store.reset()
	began, how := time.Now(), ""
	p := h.start("run")
	if h.rng.IntN(3) == 0 {
		after := time.Duration(h.rng.Int64N(int64(h.life)))
		how = "after " + after.String()
		timer := time.AfterFunc(after, p.kill)
		defer timer.Stop()
	} else {
		at, late, after := 1+h.rng.IntN(h.pending()), h.rng.IntN(2) == 0, time.Duration(h.rng.IntN(2)*h.rng.IntN(60))*time.Millisecond
		how = fmt.Sprintf("%v after request %d (applied: %v)", after, at, late)
		h.store.arm(at, late, func() {
			if after > 0 {
				time.AfterFunc(after, p.kill)
				return
			}
			p.kill()
		})
	}
	code := p.wait()
	h.store.settled(h.t)
	run, requests := h.store.reset()
	h.logf("run killed %s: exit %d, %d requests", how, code, requests)
	if requests > 0 { // its plan was open: what is in it is promised
		for id := range h.model {
			h.owed[id] = true
		}
	}
	down := code == 1 && strings.Contains(p.said(), "does not take deliveries")
	locked := code == 5 && h.home.state != "" && requests == 0
	if code != -1 && code != 0 && code != 3 && !down && !locked {
		h.t.Fatalf("exit code %d\n%s", code, p.said())
	}
	if locked || h.home.warehouse != "" {
		h.outlive()
	}
	if h.killed[run] = code == -1; code != -1 {
		h.life = time.Since(began)
	}
}

func (h *hunted) loseState() {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.dir, ".dray")); err != nil {
		h.t.Fatal(err)
	}
	if h.home.state != "" {
		h.server(h.home.state, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
	}
	h.store.excuse()
	h.logf("the control state is lost")
}

// hounded kills runs while the model changes and the destination fails, and loses the control state now and then.
func (h *hunted) hounded() {
	h.t.Helper()
	n := 25
	if testing.Short() {
		n = 8
	}
	if *kills > 0 {
		n = *kills
	}
	h.store.faults = true
	for range n {
		h.hunt()
		share := 0.01
		if h.rng.IntN(6) == 0 {
			share = 0.3 // a long delivery again
		}
		h.change(share)
		if h.rng.IntN(8) == 0 {
			h.loseState()
		}
	}
	h.store.faults = false
}

// converged lets dray run to its end and asserts what I3 promises: the destination is the model, nothing is left to send, nothing
// is uncertain, and no run delivered more rows for nothing than were in flight when it was killed.
func (h *hunted) converged() {
	h.t.Helper()
	h.run(0)
	if _, requests := h.run(0); requests != 0 {
		h.t.Errorf("the run after made %d requests", requests)
	}
	if len(h.store.broken) > 0 {
		h.t.Errorf("the store refused: %s", strings.Join(h.store.broken, "; "))
	}
	spec, _ := registry.Spec("webhook")
	inFlight := spec.Concurrency * batchSize
	for run, again := range h.store.again {
		if !h.killed[run] {
			h.t.Errorf("run %s was not killed, and %d rows that it had delivered came again", run, again)
		}
		if again > inFlight {
			h.t.Errorf("%d rows of run %s came again; %d at most were in flight when it was killed", again, run, inFlight)
		}
	}
	h.logf("rows that came again, by run: %v", h.store.again)
}

// same reports where what is held differs from what ought to be.
func (h *hunted) same(got, want map[int64]string) {
	h.t.Helper()
	if maps.Equal(got, want) {
		return
	}
	var wrong []string
	for id := range h.next + 1 {
		if got[id] != want[id] {
			wrong = append(wrong, fmt.Sprintf("%d: %s, want %s", id, got[id], want[id]))
		}
	}
	h.t.Errorf("%d rows are held, want %d; %d are wrong:\n%s", len(got), len(want), len(wrong), strings.Join(wrong[:min(len(wrong), 10)], "\n"))
}

// remembers compares the keys of the snapshot with those it ought to hold, none of them uncertain.
func (h *hunted) remembers(want []int64) {
	h.t.Helper()
	if got := h.column("SELECT dest_id FROM (SELECT CAST(dest_key AS BIGINT) AS dest_id FROM dray.snapshot_rows) AS s ORDER BY 1"); !slices.Equal(got, want) {
		h.t.Errorf("the snapshot holds %d keys, not the %d that were delivered", len(got), len(want))
	}
	if n := h.column("SELECT count(*) FROM dray.snapshot_rows WHERE uncertain_until IS NOT NULL OR hash < 0"); n[0] != 0 {
		h.t.Errorf("%d rows of the snapshot are uncertain", n[0])
	}
}

// mirrors kills runs until all is done: destination, model and snapshot are the same then.
func (h *hunted) mirrors() {
	h.t.Helper()
	h.hounded()
	h.converged()
	h.same(h.store.held(), h.wanted())
	h.remembers(slices.Sorted(maps.Keys(h.model)))
}

// Whatever instruction a run dies at, the destination becomes the model, and rows in flight alone come twice.
func TestKilledMirror(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: mirror\n    on_remove: delete")
	h.mirrors()
}

// Every event that a run had planned arrives, under one dedupe id, although it left the model or the state was lost meanwhile.
func TestKilledInsert(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: insert")
	h.hounded()
	h.converged()
	for id := range h.model {
		h.owed[id] = true
	}
	held, want := h.store.held(), map[int64]string{}
	for id := range h.owed {
		want[id] = fields(id, h.version(id))
	}
	for id := range held { // of a plan that no request was made of
		want[id] = fields(id, h.version(id))
	}
	h.same(held, want)
	h.remembers(slices.Sorted(maps.Keys(held)))
	if n := h.column("SELECT count(*) FROM dray.pending_rows"); n[0] != 0 {
		t.Errorf("%d events are still owed", n[0])
	}
}

// A first run that is killed a little later each time, until one lives to its end: in the build, the plan, the delivery, the commit.
func TestKilledFirstRun(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: mirror\n    on_remove: delete")
	step := 40 * time.Millisecond
	if testing.Short() {
		step *= 4
	}
	for after := time.Duration(0); ; after += step {
		p := h.start("run")
		timer := time.AfterFunc(after, p.kill)
		code := p.wait()
		timer.Stop()
		h.store.settled(t)
		run, requests := h.store.reset()
		h.killed[run] = code == -1
		h.logf("run killed after %v: exit %d, %d requests", after, code, requests)
		if code == 0 {
			break
		}
		if code != -1 || after > time.Minute {
			t.Fatalf("exit code %d\n%s", code, p.said())
		}
	}
	h.same(h.store.held(), h.wanted())
	h.converged()
	h.same(h.store.held(), h.wanted())
	h.remembers(slices.Sorted(maps.Keys(h.model)))
}

// A second process is told who has the warehouse, sends nothing, and does no harm to the first.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: mirror\n    on_remove: delete")
	there, goOn := make(chan struct{}), make(chan struct{})
	h.store.arm(5, false, func() { close(there); <-goOn })
	first := h.start("run")
	select {
	case <-there:
	case <-time.After(time.Minute):
		t.Fatal("the first run made no fifth request")
	}
	for range 2 {
		second := h.start("run")
		if code := second.wait(); code != 5 || !strings.Contains(second.said(), fmt.Sprintf("process %d", first.cmd.Process.Pid)) {
			t.Errorf("exit code %d, want 5 and the name of process %d\n%s", code, first.cmd.Process.Pid, second.said())
		}
	}
	close(goOn)
	if code := first.wait(); code != 0 {
		t.Errorf("the first: exit code %d\n%s", code, first.said())
	}
	h.same(h.store.held(), h.wanted())
	h.converged()
}

// A control state that is damaged is put aside and a new one begun: nothing but the history is lost.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("no database "), 3000)
	for _, test := range []struct {
		name   string
		damage func(h *hunted)
	}{
		{"after a run", func(h *hunted) { h.run(0) }},
		{"after a kill", func(h *hunted) {
			p := h.start("run")
			h.store.arm(40, true, p.kill)
			if code := p.wait(); code != -1 {
				h.t.Fatalf("exit code %d\n%s", code, p.said())
			}
			h.store.settled(h.t)
			h.write(".dray/state.db-wal", garbage)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHunted(t, "mode: mirror\n    on_remove: delete")
			test.damage(h)
			h.write(".dray/state.db", garbage)
			h.change(0.01)
			h.store.excuse()
			if said, _ := h.run(0); !strings.Contains(said, "put aside") || strings.Contains(said, "goroutine ") {
				t.Errorf("it says:\n%s", said)
			}
			if aside, _ := filepath.Glob(filepath.Join(h.dir, ".dray/state.db.damaged-*")); len(aside) == 0 {
				t.Error("nothing was put aside")
			}
			h.converged()
			h.same(h.store.held(), h.wanted())
		})
	}
}
