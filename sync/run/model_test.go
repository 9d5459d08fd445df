package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// TestModel is the model check: a random project, a random life of its model, a random vendor, and a process that is killed at any
// call of the warehouse and around any request, sometimes losing its control state. In every run the numbers add up; no row that
// is surely there is sent again; and after the faults end, within a bounded number of runs, the destination is the model, the
// snapshot is the destination, and nothing is left to do.
//
// DRAY_CASES sets how many histories; a history that fails prints its seed, and -seed runs it alone. With one worker in delivery a
// seed always gives the same history; with several the order of requests is the scheduler's.
func TestModel(t *testing.T) {
	t.Parallel()
	if *oneSeed > 0 {
		checkHistory(t, *oneSeed)
		return
	}
	cases := 2000
	if text := os.Getenv("DRAY_CASES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("DRAY_CASES: %v", err)
		}
		cases = n
	}
	if testing.Short() {
		cases = min(cases, 20)
	}
	first := uint64(1)
	if text := os.Getenv("DRAY_FIRST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("DRAY_FIRST_SEED: %v", err)
		}
		first = n
	}
	var next, done atomic.Uint64
	var total tallied
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !t.Failed() {
				n := next.Add(1)
				if n > uint64(cases) {
					return
				}
				t.Run(fmt.Sprint("seed", first+n-1), func(t *testing.T) { // a failure ends its own goroutine
					total.add(checkHistory(t, first+n-1))
					done.Add(1)
				})
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories: %s", done.Load(), &total)
}

// tallied is what histories consisted of.
type tallied struct{ runs, kills, lost, requests, rows, lives, resent atomic.Int64 }

func (a *tallied) add(b *tallied) {
	for _, c := range [][2]*atomic.Int64{{&a.runs, &b.runs}, {&a.kills, &b.kills}, {&a.lost, &b.lost}, {&a.requests, &b.requests}, {&a.rows, &b.rows}, {&a.lives, &b.lives}, {&a.resent, &b.resent}} {
		c[0].Add(c[1].Load())
	}
}

func (a *tallied) String() string {
	return fmt.Sprintf("%d runs, %d killed, %d states lost, %d requests with %d changes, lives of %d rows, %d changes sent twice after a kill",
		a.runs.Load(), a.kills.Load(), a.lost.Load(), a.requests.Load(), a.rows.Load(), a.lives.Load(), a.resent.Load())
}

// shape is a random project.
type shape struct {
	mode       string
	moving     bool // the destination key moves between rows
	duplicates string
	nullKeys   string
	batch      int
	workers    int
	attempts   int
	settle     time.Duration
	guard      bool
	trip       string
	checkpoint string
	onRemove   string
	pageRows   int64
	keys       int
	omit, tol  bool // the fields o (nulls: omit) and t (tolerance), and c (write: on_add)
}

func drawShape(rng *rand.Rand) shape {
	pick := func(words ...string) string { return words[rng.IntN(len(words))] }
	s := shape{
		mode: pick("mirror", "mirror", "mirror", "upsert", "update", "insert"), batch: 1 + rng.IntN(7), workers: 1, attempts: 1 + rng.IntN(3),
		nullKeys: pick("", "", "reject", "skip"), checkpoint: pick("5m", "1s", "200ms"), pageRows: int64(2 + rng.IntN(6)), keys: 6 + rng.IntN(8),
		guard: rng.IntN(5) < 2, trip: pick("hold", "stop"), omit: rng.IntN(3) == 0, tol: rng.IntN(3) == 0,
	}
	if rng.IntN(2) == 0 {
		s.workers = 2 + rng.IntN(3)
	}
	if rng.IntN(3) == 0 {
		s.settle = 4 * time.Minute // runs are a minute apart, what is late lands within two
	}
	if s.mode == "mirror" {
		s.onRemove = pick("delete", "delete", "clear", "{set: {v: -1}}")
	}
	if s.mode == "mirror" || s.mode == "upsert" {
		s.moving = rng.IntN(3) == 0
		s.duplicates = pick("", "", "reject", "{keep: first, order_by: id}")
	}
	return s
}

func (s shape) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mode: %s, key: {k: k}, retry: {attempts: %d}, checkpoint: %s", s.mode, s.attempts, s.checkpoint)
	if s.onRemove != "" {
		b.WriteString(", on_remove: " + s.onRemove)
	}
	if s.nullKeys != "" {
		b.WriteString(", null_key: " + s.nullKeys)
	}
	if s.duplicates != "" {
		b.WriteString(", on_duplicate_key: " + s.duplicates)
	}
	b.WriteString(", fields: {v: v")
	if s.omit {
		b.WriteString(", o: {column: o, nulls: omit}, c: {column: v, write: on_add}")
	}
	if s.tol {
		b.WriteString(", t: {column: t, tolerance: 1.5}")
	}
	b.WriteString("}, guard: ")
	if s.guard {
		fmt.Fprintf(&b, "{max_removes: 20%%, max_changes: 70%%, floor: 1, window: 2m, on_trip: %s}", s.trip)
	} else {
		b.WriteString("{max_removes: 100%, max_changes: 100%, allow_empty: true}")
	}
	return b.String()
}

// record is a row of the model: key nil = NULL, o nil = NULL.
type record struct {
	k *int
	v int
	o *int
	t int
}

// story is one history.
type story struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the model and the runs
	shape shape
	p     *project
	w     warehouse.Warehouse

	prepared *run.Prepared

	mu      sync.Mutex // of all below, which requests touch
	fate    *rand.Rand // of requests and kills
	model   map[int]record
	ever    map[string]map[string]bool // values that each key had in the model, by field
	store   map[string]map[string]any
	clock   time.Time
	faults  bool
	process *mortal
	doomed  bool
	dead    bool
	pending []lateRequest
	runNo   int
	refused map[string]bool
	silent  map[string]time.Time // when the last request with this key went unanswered
	dedupe  map[string]map[string]bool

	// sure is what each key was last acknowledged with, where nothing makes it doubtful: sending it again would be for nothing.
	sure     map[string]string
	answered map[string]string // in the run under way
	lostAt   bool              // the state was lost, and no run has ended since
	doubted  time.Time         // when a run recovered without a journal: for settle from then on any row may be sent once more
	excused  int               // changes that may go twice: those in flight when a process was killed
	wanted   map[string]bool   // insert: keys that some finished run has seen

	gone gone

	stats  tallied
	traced sync.Mutex
	trace  []string
}

// limited is the webhook with another number of workers.
type limited struct {
	destination.Connector
	workers int
}

func (l limited) Spec() destination.Spec {
	s := l.Connector.Spec()
	s.Concurrency = l.workers
	return s
}

func checkHistory(t *testing.T, seed uint64) *tallied {
	rng := rand.New(rand.NewPCG(seed, 11))
	h := &story{
		t: t, seed: seed, rng: rng, fate: rand.New(rand.NewPCG(seed, 13)), shape: drawShape(rng), model: map[int]record{}, ever: map[string]map[string]bool{},
		store: map[string]map[string]any{}, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), refused: map[string]bool{}, silent: map[string]time.Time{},
		dedupe: map[string]map[string]bool{}, sure: map[string]string{}, answered: map[string]string{}, wanted: map[string]bool{},
	}
	h.open()
	defer h.w.Close()
	h.stats.lives.Store(int64(h.shape.keys))
	h.faults = rng.IntN(8) > 0
	for range 3 + rng.IntN(6) {
		h.live()
		rep, err := h.run(h.faults)
		if !h.faults {
			h.through(rep, err)
		}
		if h.lands(); h.shape.settle == 0 && rng.IntN(8) == 0 {
			h.tick(2 * 24 * time.Hour) // retries are due
		}
	}
	h.calm()
	return &h.stats
}

// through judges a run without faults: unless a guard has a say, the destination is the model after each.
func (h *story) through(rep report.Run, err error) {
	h.t.Helper()
	clear(h.refused)
	if rep.Status == report.Stopped {
		return
	}
	if err != nil {
		h.fatalf("a run without faults: %v", err)
	}
	for _, n := range h.claims() {
		if n > 1 && h.shape.duplicates == "reject" {
			return
		}
	}
	h.equal()
}

func (h *story) open() {
	h.p = newProject(h.t, fmt.Sprintf(`
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources: [{name: raw, schema: raw, tables: [{name: rows}]}]
models: [{name: rows, primary_key: id, sql: "select * from {{ source('raw', 'rows') }}"}]
destinations: [{name: hook, type: webhook, url: "http://hook.invalid/", batch_size: %d, settle: %s}]
syncs:
  - {name: rows, model: rows, destination: hook, object: rows, %s}
`, h.shape.batch, h.shape.settle, h.shape.yaml()), nil)
	if dir, err := os.MkdirTemp("/dev/shm", "dray"); err == nil { // the laws do not wait for a disk
		h.t.Cleanup(func() { _ = os.RemoveAll(dir) })
		text := h.p.read("dray.yaml")
		h.p.dir = dir
		h.p.write("dray.yaml", text)
	}
	h.p.now = func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.clock }
	w, err := registry.OpenWarehouse(context.Background(), "duckdb", map[string]any{"threads": 1}, h.p.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	h.w = w
	h.exec("CREATE SCHEMA raw", "CREATE TABLE raw.rows (id VARCHAR, k BIGINT, v INTEGER, o INTEGER, t DOUBLE)")
	h.log("project: %+v", h.shape)
}

func (h *story) exec(statements ...string) {
	h.t.Helper()
	for _, q := range statements {
		if _, err := h.w.Exec(context.Background(), q); err != nil {
			h.fatalf("%s: %v", q, err)
		}
	}
}

func (h *story) log(format string, args ...any) {
	h.traced.Lock()
	defer h.traced.Unlock()
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *story) fatalf(format string, args ...any) {
	h.t.Helper()
	h.traced.Lock()
	defer h.traced.Unlock()
	h.t.Fatalf("seed %d: %s\n%s", h.seed, fmt.Sprintf(format, args...), strings.Join(h.trace, "\n"))
}

// wrong is fatalf from another goroutine than the test's.
func (h *story) wrong(format string, args ...any) {
	h.log("  WRONG: "+format, args...)
	h.t.Errorf("seed %d: %s", h.seed, fmt.Sprintf(format, args...))
}

func (h *story) tick(d time.Duration) {
	h.mu.Lock()
	h.clock = h.clock.Add(d)
	h.mu.Unlock()
}

// live is a step of the model's life: rows come, change, change back, leave and return, and keys move between them.
func (h *story) live() {
	rng, n := h.rng, h.shape.keys
	small := func() *int { v := rng.IntN(3); return &v }
	for id := range n {
		switch x := rng.Float64(); {
		case x < 0.3:
			r := record{v: rng.IntN(2), t: rng.IntN(4)}
			if rng.IntN(3) > 0 {
				r.o = small()
			}
			k := id
			if r.k = &k; h.shape.nullKeys != "" && rng.IntN(8) == 0 && h.shape.mode != "insert" {
				r.k = nil
			}
			h.model[id] = r
		case x < 0.45 || rng.IntN(40) == 0:
			delete(h.model, id)
		}
	}
	if rng.IntN(12) == 0 {
		clear(h.model) // an upstream job failed
	}
	if h.shape.moving {
		keys := rng.Perm(n)
		for id, r := range h.model {
			if r.k != nil {
				r.k = &keys[id]
				h.model[id] = r
			}
		}
	}
	if h.shape.duplicates != "" && rng.IntN(3) == 0 {
		for id, r := range h.model {
			if other, ok := h.model[(id+1)%n]; ok && other.k != nil && rng.IntN(4) == 0 {
				r.k = other.k
				h.model[id] = r
			}
		}
	}
	h.mu.Lock()
	for k := range n {
		h.refused[keyOf(k)] = rng.IntN(9) == 0
	}
	h.mu.Unlock()
	h.publish()
}

func keyOf(k int) string { return fmt.Sprintf(`{"k":%d}`, k) }

func (h *story) publish() {
	var values []string
	for id := range h.shape.keys {
		r, ok := h.model[id]
		if !ok {
			continue
		}
		null := func(v *int) string {
			if v == nil {
				return "NULL"
			}
			return fmt.Sprint(*v)
		}
		values = append(values, fmt.Sprintf("('p%02d', %s, %d, %s, %d)", id, null(r.k), r.v, null(r.o), r.t))
	}
	h.exec("DELETE FROM raw.rows")
	if len(values) > 0 {
		h.exec("INSERT INTO raw.rows VALUES " + strings.Join(values, ", "))
	}
	h.log("model %s", strings.Join(values, " "))
	h.mu.Lock()
	defer h.mu.Unlock()
	want := h.want()
	for k, r := range want {
		if h.ever[k] == nil {
			h.ever[k] = map[string]bool{}
		}
		h.ever[k][fmt.Sprint("v", r.v)] = true
		if r.o != nil {
			h.ever[k][fmt.Sprint("o", *r.o)] = true
		}
	}
	for k := range h.sure { // what left and comes back is sent again where nothing is removed
		if _, there := want[k]; !there && h.shape.mode != "mirror" {
			delete(h.sure, k)
		}
	}
}

// want is what the destination ought to hold: by key the row that stands for it; keys in dispute under reject are not in it.
func (h *story) want() map[string]record {
	out := map[string]record{}
	for id := range h.shape.keys {
		r, ok := h.model[id]
		if !ok || r.k == nil {
			continue
		}
		if _, there := out[keyOf(*r.k)]; !there { // keep: first, order_by: id
			out[keyOf(*r.k)] = r
		}
	}
	for k, n := range h.claims() {
		if n > 1 && h.shape.duplicates == "reject" {
			delete(out, k)
		}
	}
	return out
}

// claims is how many rows of the model have each key.
func (h *story) claims() map[string]int {
	out := map[string]int{}
	for _, r := range h.model {
		if r.k != nil {
			out[keyOf(*r.k)]++
		}
	}
	return out
}

// RoundTrip is the network and the vendor behind it.
func (h *story) RoundTrip(req *http.Request) (*http.Response, error) {
	var b hookBody
	raw, err := io.ReadAll(req.Body)
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead { // what a process that died would have sent later never comes
		return nil, io.EOF
	}
	h.clock = h.clock.Add(200 * time.Millisecond)
	h.stats.requests.Add(1)
	h.stats.rows.Add(int64(len(b.Changes)))
	h.expect(&b)
	a := h.decide(&b)
	for i, c := range b.Changes {
		if a.late == 0 && a.applied(i) {
			h.apply(c)
		}
	}
	if a.late > 0 {
		h.pending = append(h.pending, lateRequest{h.runNo + a.late - 1, append([]hookChange(nil), b.Changes...)})
	}
	h.log("  %s: %s", a.what, described(b.Changes))
	h.goes(b.Changes, a)
	if a.kill && h.process != nil {
		h.process.die()
	}
	for i, c := range b.Changes {
		k := canonical(c.Key)
		delete(h.sure, k)
		delete(h.answered, k)
		switch {
		case a.err != nil || a.status >= 500 || a.mentions(i) == "":
			h.silent[k] = h.clock
		case a.mentions(i) == "delivered":
			h.answered[k] = valueOf(c)
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	resp := &http.Response{StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: req, Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body))}
	if a.retryAfter != "" {
		resp.Header.Set("Retry-After", a.retryAfter)
	}
	if a.cut {
		resp.ContentLength, resp.Body = -1, io.NopCloser(io.MultiReader(strings.NewReader(a.body[:len(a.body)/2]), broken{}))
	}
	return resp, nil
}

func described(changes []hookChange) string {
	var parts []string
	for _, c := range changes {
		parts = append(parts, fmt.Sprintf("%s %v %s", c.Operation, c.Key["k"], canonical(c.Fields)))
	}
	return strings.Join(parts, "; ")
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// expect judges a request before it has an effect.
func (h *story) expect(b *hookBody) {
	for _, c := range b.Changes {
		k := canonical(c.Key)
		if h.dedupe[k] == nil {
			h.dedupe[k] = map[string]bool{}
		}
		h.dedupe[k][c.DedupeID] = true
		if h.shape.mode == "insert" && len(h.dedupe[k]) > 1 {
			h.wrong("%s was inserted under two dedupe ids", k)
		}
		if c.Operation == "remove" && h.shape.mode != "mirror" {
			h.wrong("%s is removed in mode %s", k, h.shape.mode)
		}
		if c.Operation == "remove" && h.claims()[k] > 0 {
			h.wrong("%s is removed, and a row of the model has it", k)
		}
		if h.sure[k] != valueOf(c) {
			continue
		}
		if h.excused == 0 {
			h.wrong("%s was acknowledged as it is, and is sent again", k)
			return
		}
		h.excused--
		h.stats.resent.Add(1)
	}
}

// valueOf is a change as far as sending it twice would be for nothing.
func valueOf(c hookChange) string {
	if c.Operation == "remove" {
		return "removed"
	}
	return canonical(c.Fields)
}

func (h *story) apply(c hookChange) {
	if k := canonical(c.Key); c.Operation == "remove" {
		delete(h.store, k)
	} else {
		h.store[k] = c.Fields
	}
}

// reaction is what becomes of a request.
type reaction struct {
	what       string
	none       bool     // nothing of it takes effect
	only       []bool   // these rows do; nil = all
	late       int      // in this run, counted from 1 = the one under way
	err        error    // the connection's
	status     int      // of the answer
	rows       []string // what the answer says of each row; nil = nothing, which is delivered with 200
	body       string   // of rows
	retryAfter string
	cut        bool // the answer ends in its middle
	kill       bool
}

func (a reaction) applied(i int) bool { return !a.none && (a.only == nil || a.only[i]) }

// mentions is what the sender can know of a row: "" = nothing.
func (a reaction) mentions(i int) string {
	switch {
	case a.err != nil || a.status != 200 || a.cut || a.kill:
		if a.status >= 400 && a.status < 500 {
			return "refused"
		}
		return ""
	case a.rows == nil:
		return "delivered"
	case i >= len(a.rows):
		return ""
	default:
		return a.rows[i]
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "time-out" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func (h *story) decide(b *hookBody) reaction {
	f := h.fate
	if h.doomed && f.IntN(3) == 0 {
		taken := f.IntN(2) == 0
		return reaction{what: fmt.Sprint("the sender dies, taken=", taken), none: !taken, kill: true, err: io.EOF}
	}
	if !h.faults {
		return reaction{what: "taken", status: 200}
	}
	n := len(b.Changes)
	lost := []error{io.EOF, timeoutError{}, errors.New("connection reset")}[f.IntN(3)]
	if slices.ContainsFunc(b.Changes, func(c hookChange) bool { return !h.silent[canonical(c.Key)].IsZero() }) && f.IntN(3) == 0 {
		return reaction{what: "a try after silence, refused", none: true, status: 200}.saying(slices.Repeat([]string{"rejected"}, n))
	}
	if f.IntN(2) == 0 && slices.ContainsFunc(b.Changes, func(c hookChange) bool { return h.refused[canonical(c.Key)] }) {
		return reaction{what: "refused whole", none: true, status: 422}
	}
	switch x := f.IntN(40); {
	case x == 0:
		return reaction{what: "lost", none: true, err: lost}
	case x == 1:
		return reaction{what: "taken, no answer", err: lost}
	case x == 2:
		return reaction{what: "never connected", none: true, err: &net.OpError{Op: "dial", Err: errors.New("refused")}}
	case x == 3:
		return reaction{what: "500 after", status: 500}
	case x == 4:
		return reaction{what: "503 before", none: true, status: 503}
	case x == 5:
		return reaction{what: "429", none: true, status: 429}
	case x == 6 && f.IntN(8) == 0:
		return reaction{what: "429 with Retry-After", none: true, status: 429, retryAfter: "1"}
	case x == 7:
		return reaction{what: "taken, the answer is cut off", status: 200, cut: true}.saying(slices.Repeat([]string{"delivered"}, n))
	case x == 8 && n > 1: // only the first rows are mentioned
		return reaction{what: "taken, half of it answered", status: 200}.saying(slices.Repeat([]string{"delivered"}, n/2))
	case x == 9:
		return reaction{what: "taken, garbage answered", status: 200, rows: []string{}, body: `{"results": [{"status":`}
	case x <= 13 && h.shape.settle > 0:
		return reaction{what: "late", late: 1 + f.IntN(2), err: lost}
	}
	rows, only := make([]string, n), make([]bool, n)
	for i, c := range b.Changes {
		rows[i], only[i] = "delivered", true
		if h.refused[canonical(c.Key)] {
			rows[i], only[i] = "rejected", false
		}
	}
	return reaction{what: "answered " + strings.Join(rows, " "), only: only, status: 200}.saying(rows)
}

func (a reaction) saying(rows []string) reaction {
	var b bytes.Buffer
	b.WriteString(`{"results":[`)
	for i, status := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"status":%q,"code":"c"}`, status)
	}
	b.WriteString("]}")
	a.rows, a.body = rows, b.String()
	return a
}

// lands applies requests that were delayed and are due.
func (h *story) lands() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var rest []lateRequest
	for _, l := range h.pending {
		if h.faults && l.due > h.runNo {
			rest = append(rest, l)
			continue
		}
		for _, c := range l.changes {
			h.log("  lands late: %s", described([]hookChange{c}))
			h.apply(c)
			delete(h.sure, canonical(c.Key))
			h.silent[canonical(c.Key)] = h.clock
		}
	}
	h.pending = rest
}

// run is one process: it opens the project, runs, and ends or dies. may: it may be killed, and lose its state then.
func (h *story) run(may bool, allow ...string) (report.Run, error) {
	m := &mortal{Warehouse: h.w, left: -1}
	m.died = func() { // the caller holds h.mu, or is in a call of the warehouse
		h.dead = true
		h.p.freezeState()
	}
	h.mu.Lock()
	h.runNo++
	h.clock = h.clock.Add(time.Minute)
	h.dead, h.process, h.doomed = false, m, may && h.rng.IntN(5) < 3
	clear(h.answered)
	if h.doomed && h.rng.IntN(2) == 0 {
		m.left, m.after, h.doomed = 1+h.rng.IntN(30), h.rng.IntN(2) == 0, false
		m.died = func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.dead = true
			h.p.freezeState()
		}
	}
	h.mu.Unlock()
	deps := h.p.deps()
	deps.Transport, deps.PageRows = h, h.shape.pageRows
	deps.Connector = func(typ string) (destination.Connector, bool) {
		c, ok := registry.Destination(typ)
		return limited{c, h.shape.workers}, ok
	}
	deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) { return m, nil }
	deps.After = func(time.Duration) <-chan time.Time { c := make(chan time.Time); close(c); return c }
	if h.prepared == nil { // the project stays as it is
		prepared, err := run.Prepare(deps, h.p.options())
		if err != nil {
			h.fatalf("preparing: %v", err)
		}
		h.prepared = prepared
	}
	h.before()
	s, err := run.OpenPrepared(context.Background(), &run.Prepared{Project: h.prepared.Project, Graph: h.prepared.Graph, AsOf: h.p.now()}, deps, h.p.options())
	if err != nil {
		h.fatalf("opening: %v", err)
	}
	reports, err := s.Run(context.Background(), nil, run.RunOptions{Allow: allow})
	if cerr := s.Close(); cerr != nil {
		h.fatalf("closing: %v", cerr)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.runs.Add(1)
	h.within(len(allow) > 0)
	lost := false
	if h.dead {
		h.p.thawState()
		h.stats.kills.Add(1)
		h.excused = h.shape.workers * h.shape.batch
	}
	if may && h.shape.mode != "insert" && (h.dead && h.rng.IntN(3) == 0 || h.rng.IntN(20) == 0) {
		lost = true
		h.stats.lost.Add(1)
		if err := os.RemoveAll(h.p.dir + "/.dray"); err != nil {
			h.fatalf("%v", err)
		}
	}
	if h.lostAt {
		h.doubted = h.clock
	}
	h.lostAt = lost || h.lostAt && h.dead
	if h.dead && lost { // without a journal whatever this run had planned may have been sent
		clear(h.sure)
	}
	for k, v := range h.answered {
		if h.shape.settle > 0 && !h.doubted.IsZero() && h.clock.Sub(h.doubted) < h.shape.settle+time.Minute {
			continue
		}
		if at := h.silent[k]; !at.IsZero() && h.clock.Sub(at) < h.shape.settle+time.Minute && h.shape.settle > 0 {
			continue // to be sent once more
		}
		if h.dead && lost { // what was not committed is not known any more
			continue
		}
		delete(h.silent, k)
		h.sure[k] = v
	}
	rep := report.Run{}
	if len(reports) == 1 {
		rep = reports[0]
	}
	h.log("run %d: killed=%v lost=%v %s, %d rows, %d unchanged, planned %v, delivered %v, rejected %v, uncertain %v, held %v, skipped %v, deferred %v, forgotten %d, %v",
		h.runNo, h.dead, lost, rep.Status, rep.Rows, rep.Unchanged, rep.Planned, rep.Delivered, rep.Rejected, rep.Uncertain, rep.Held, rep.Skipped, rep.Deferred, rep.Forgotten, err)
	if h.t.Failed() {
		h.fatalf("see WRONG")
	}
	if !h.dead {
		h.adds(rep, err)
		// A plan is closed, and what it did not send is owed, also where the vendor was taken to be down.
		if down := rep.Error != nil && rep.Error.Code == "destination.down"; down || rep.Status == report.Succeeded || rep.Status == report.Partial {
			for k := range h.want() {
				h.wanted[k] = true
			}
		}
	}
	return rep, err
}

// adds checks I7 from outside: the report's sums, the rows of the model, and the deliveries that were written of it.
func (h *story) adds(rep report.Run, err error) {
	if err != nil && (rep.Error == nil || rep.Error.Code == "run.sums") {
		h.fatalf("run: %v: %s", err, canonical(rep))
	}
	own := func(c report.Counts) int64 { return c.Add + c.Update }
	outcomes := []report.Counts{rep.Delivered, rep.Accepted, rep.Rejected, rep.Uncertain, rep.Parked, rep.Held, rep.Skipped.Counts, rep.Deferred}
	rows, removes := rep.Unchanged+rep.HeldOut, int64(0)
	for _, c := range outcomes {
		rows, removes = rows+own(c), removes+c.Remove
	}
	if rows != rep.Rows || removes != rep.Planned.Remove {
		h.fatalf("I7: %d rows and %d removes are accounted for: %s", rows, removes, canonical(rep))
	}
	h.kept()
	ended := rep.Status == report.Succeeded || rep.Status == report.Partial || rep.Status == report.Stopped && err == nil
	if ended && rep.Rows != int64(len(h.model)) && h.shape.mode != "insert" { // insert: with those that are owed
		h.fatalf("I7: %d rows of the model, the report says %s", len(h.model), canonical(rep))
	}
	written := h.written(rep.RunID)
	for outcome, want := range map[string]int64{"delivered": rep.Delivered.Total(), "uncertain": rep.Uncertain.Total(), "rejected": rep.Rejected.Total() - refusedRows(rep)} {
		if got := written[outcome]; got != want {
			h.fatalf("I7: %d deliveries are %s, the report says %s", got, outcome, canonical(rep))
		}
	}
}

// written counts the deliveries that a run wrote, by outcome.
func (h *story) written(runID string) map[string]int64 {
	rows, err := h.w.Query(context.Background(), "SELECT outcome, count(*) FROM dray.deliveries WHERE run_id = '"+runID+"' GROUP BY outcome")
	if err != nil {
		h.fatalf("%v", err)
	}
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			h.fatalf("%v", err)
		}
		out[fmt.Sprint(v[0])], _ = v[1].(int64)
	}
	return out
}

func refusedRows(rep report.Run) (n int64) {
	for _, k := range rep.Refused {
		n += k
	}
	return n
}

// calm ends the faults: what is under way lands, the vendor takes everything, and a person approves what the guards hold. Then a
// bounded number of runs must bring the destination to the model.
func (h *story) calm() {
	h.mu.Lock()
	h.faults = false
	clear(h.refused)
	h.mu.Unlock()
	h.lands()
	for id, r := range h.model { // nobody can decide rows in dispute but their owner
		if h.shape.duplicates == "reject" && r.k != nil && h.claims()[keyOf(*r.k)] > 1 {
			delete(h.model, id)
		}
	}
	h.publish()
	h.tick(48 * time.Hour) // retries are due
	var allow []string
	const bound = 6
	for i := range bound {
		rep, err := h.run(false, allow...)
		allow = nil
		if rep.Allow != "" {
			allow = []string{rep.Allow}
		} else if err != nil {
			h.fatalf("a run without faults: %v", err)
		}
		h.tick(time.Hour) // settle times are over
		if i > 0 && rep.Allow == "" && rep.Planned.Total() == skippedTotal(rep) && rep.Forgotten == 0 {
			h.equal()
			if rep.Requests != 0 {
				h.fatalf("nothing was planned, and something was sent: %s", canonical(rep))
			}
			return
		}
	}
	h.fatalf("still not done after %d runs without faults: the destination holds %s", bound, canonical(h.store))
}

// skippedTotal are rows that are planned in every run and never sent: those without a key, and all but one of a key's.
func skippedTotal(rep report.Run) int64 { return rep.Skipped.Total() + refusedRows(rep) }

// equal compares the destination with the model, and the snapshot with the destination.
func (h *story) equal() {
	h.t.Helper()
	want := h.want()
	for k, r := range want {
		got := h.store[k]
		if got == nil {
			h.fatalf("%s is not there: %s", k, canonical(h.store))
		}
		if h.shape.mode == "insert" {
			continue // as it was when it was sent
		}
		if fmt.Sprint(got["v"]) != fmt.Sprint(r.v) {
			h.fatalf("%s has v %v, the model %d", k, got["v"], r.v)
		}
		if h.shape.omit {
			if r.o != nil && fmt.Sprint(got["o"]) != fmt.Sprint(*r.o) || r.o == nil && got["o"] != nil && !h.ever[k][fmt.Sprint("o", got["o"])] {
				h.fatalf("%s has o %v, the model another", k, got["o"])
			}
			if !h.ever[k][fmt.Sprint("v", got["c"])] {
				h.fatalf("%s has c %v, which it never was", k, got["c"])
			}
		}
		if h.shape.tol {
			if x, _ := got["t"].(float64); x-float64(r.t) > 1.5 || float64(r.t)-x > 1.5 {
				h.fatalf("%s has t %v, the model %d", k, got["t"], r.t)
			}
		}
	}
	for k := range h.store {
		if _, ok := want[k]; ok {
			continue
		}
		if h.shape.mode == "mirror" {
			h.fatalf("%s is there, and no row of the model has it", k)
		}
		if h.ever[k] == nil {
			h.fatalf("%s is there, and no row of the model ever had it", k)
		}
	}
	if h.shape.mode == "insert" {
		for k := range h.wanted {
			if h.store[k] == nil {
				h.fatalf("%s was planned and is owed", k)
			}
		}
	}
	h.snapshot(want)
}

// snapshot: it holds the rows of the model as the destination has them, nothing else, and nothing uncertain.
func (h *story) snapshot(want map[string]record) {
	columns := "dest_key"
	if h.shape.mode != "insert" {
		columns = "dest_key, v"
	}
	rows, err := h.w.Query(context.Background(), "SELECT "+columns+", uncertain_until IS NOT NULL AS doubt FROM dray.snapshot_rows")
	if err != nil {
		h.fatalf("reading the snapshot: %v", err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			h.fatalf("%v", err)
		}
		if n++; h.shape.mode == "insert" {
			continue
		}
		k := fmt.Sprintf(`{"k":%v}`, v[0])
		r, ok := want[k]
		if !ok {
			h.fatalf("the snapshot has %s, the model has not", k)
		}
		if v[len(v)-1] == true {
			h.fatalf("the snapshot doubts %s after calm runs", k)
		}
		if fmt.Sprint(v[1]) != fmt.Sprint(r.v) || fmt.Sprint(h.store[k]["v"]) != fmt.Sprint(v[1]) {
			h.fatalf("the snapshot has %s as %v, the model as %d, the destination as %v", k, v[1], r.v, h.store[k]["v"])
		}
	}
	if h.shape.mode != "insert" && n != len(want) {
		h.fatalf("the snapshot has %d rows, the model %d", n, len(want))
	}
}
