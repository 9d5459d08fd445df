package run_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/leaks"
	"github.com/dray-dev/dray/internal/pgtest"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

var postgres pgtest.Server

func TestMain(m *testing.M) { os.Exit(leaks.Check(postgres.Main(m))) }

// reachable is a warehouse that several machines reach, as DuckDB is not: what lets a run take over at once there must not here.
type reachable struct{ warehouse.Warehouse }

type reachableDialect struct{ warehouse.Dialect }

func (reachableDialect) Name() string { return "reachable" }

func (r reachable) Dialect() warehouse.Dialect { return reachableDialect{r.Warehouse.Dialect()} }
func (reachable) Close() error                 { return nil }

// machines are several that share a warehouse and a control state in PostgreSQL; each has sessions of its own.
type machines struct {
	*project
	r     *receiver
	w     warehouse.Warehouse
	url   string
	clock atomic.Int64 // nanoseconds that the clock is ahead
}

func newMachines(t *testing.T, sync string) *machines {
	m := &machines{r: newReceiver(t), url: postgres.Database(t)}
	m.project = hookProject(t, m.r, sync)
	m.write("dray.yaml", strings.Replace(m.read("dray.yaml"), "version: 1\n", "version: 1\nstate: ${STATE}\n", 1))
	m.env["STATE"] = m.url
	m.now = func() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }
	w, err := openWarehouse(context.Background(), "", map[string]any{"path": "w.duckdb"}, m.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	m.w = reachable{w}
	return m
}

func (m *machines) sql(statements ...string) {
	m.t.Helper()
	for _, q := range statements {
		if _, err := m.w.Exec(context.Background(), q); err != nil {
			m.t.Fatalf("%s: %v", q, err)
		}
	}
}

// state changes what PostgreSQL holds.
func (m *machines) state(q string) {
	m.t.Helper()
	db, err := sql.Open("pgx", m.url)
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), q); err != nil {
		m.t.Fatal(err)
	}
}

// machine runs the sync on one machine.
func (m *machines) machine(transport http.RoundTripper) (report.Run, error) {
	deps := m.deps()
	deps.Transport = transport
	deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) { return m.w, nil }
	s, err := run.Open(context.Background(), deps, m.options())
	if err != nil {
		m.t.Error(err)
		return report.Run{}, err
	}
	defer s.Close()
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if len(reports) != 1 {
		m.t.Errorf("%d reports: %v", len(reports), err)
		return report.Run{}, err
	}
	return reports[0], err
}

func (m *machines) wants(code int) report.Run {
	m.t.Helper()
	rep, err := m.machine(nil)
	if rep.ExitCode != code {
		m.t.Fatalf("exit code %d, want %d: %v: %s", rep.ExitCode, code, err, canonical(rep))
	}
	return rep
}

// same: the destination holds the model, and the next run has nothing to do.
func (m *machines) same() {
	m.t.Helper()
	if rep := m.wants(0); rep.Planned.Total() != 0 || rep.Requests != 0 {
		m.t.Errorf("the run after is not empty: %s", canonical(rep))
	}
	rows, err := m.w.Query(context.Background(), "SELECT id::VARCHAR, name FROM raw.people")
	if err != nil {
		m.t.Fatal(err)
	}
	defer rows.Close()
	want := map[string]string{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			m.t.Fatal(err)
		}
		want[fmt.Sprintf(`{"id":%s}`, v[0])] = fmt.Sprint(v[1])
	}
	store, _, _ := m.r.state()
	got := map[string]string{}
	for k, f := range store {
		got[k] = fmt.Sprint(f["name"])
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.t.Errorf("the destination holds %v, the model %v", got, want)
	}
}

// slow holds the n-th request of a machine back until it is let go, or that and all after it.
type slow struct {
	n       int32
	all     bool
	seen    atomic.Int32
	reached chan struct{}
	release chan struct{}
}

func newSlow(n int32) *slow {
	return &slow{n: n, reached: make(chan struct{}), release: make(chan struct{})}
}

func (s *slow) RoundTrip(req *http.Request) (*http.Response, error) {
	n := s.seen.Add(1)
	if n == s.n {
		close(s.reached)
	}
	if n == s.n || s.all && n > s.n {
		<-s.release
		req = req.WithContext(context.WithoutCancel(req.Context()))
	}
	return http.DefaultTransport.RoundTrip(req)
}

const people = "INSERT INTO raw.people SELECT i, 'p' || i || '@example.com', 'old', i FROM generate_series(0, 29) t(i)"

// others waits until all requests but the one held back have arrived, and gives what the destination holds then.
func (m *machines) others(changes int) map[string]map[string]any {
	m.t.Helper()
	for range 1000 {
		store, _, n := m.r.state()
		if changes -= n; changes <= 0 {
			return store
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatalf("%d changes did not arrive", changes)
	return nil
}

// I5: while one machine delivers, another is told who has the lock, and leaves.
func TestMachinesTakeTurns(t *testing.T) {
	t.Parallel()
	m := newMachines(t, "mode: mirror\nkey: {id: id}\non_remove: delete")
	m.sql(people)
	s := newSlow(3)
	first := make(chan report.Run, 1)
	go func() { rep, _ := m.machine(s); first <- rep }()
	<-s.reached
	rep := m.wants(5)
	if rep.Error == nil || rep.Error.Code != "sync.locked" || !strings.Contains(rep.Error.Message, "is locked by run") {
		t.Errorf("the second says %s", canonical(rep))
	}
	close(s.release)
	if rep := <-first; rep.ExitCode != 0 || rep.Delivered.Total() != 30 {
		t.Errorf("the first: %s", canonical(rep))
	}
	m.same()
}

// Another machine takes over a sync whose holder is cut off with a batch in flight: it reads the other's journal, commits what was
// acknowledged, and counts what was in flight as uncertain, adds too. The holder finds the lock gone and writes nothing over it.
func TestMachineTakesOver(t *testing.T) {
	t.Parallel()
	m := newMachines(t, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_removes: 100%}")
	m.write("dray.yaml", strings.Replace(m.read("dray.yaml"), "settle: 0s", "settle: 1h", 1))
	m.sql(people)
	s := newSlow(4)
	first := make(chan report.Run, 1)
	go func() { rep, _ := m.machine(s); first <- rep }()
	<-s.reached
	store := m.others(27)
	m.state("UPDATE dray_locks SET until = now() - interval '1 second'")
	// The rows that were not applied yet leave the model: what is in flight is an add of rows that the second does not have.
	var have []string
	for k := range store {
		have = append(have, strings.Trim(strings.TrimPrefix(k, `{"id":`), "}"))
	}
	m.sql("DELETE FROM raw.people WHERE id NOT IN (" + strings.Join(have, ", ") + ")")
	if rep := m.wants(0); rep.Unchanged != 27 || rep.Delivered.Remove != 3 {
		t.Fatalf("the second: %s", canonical(rep))
	}
	close(s.release) // and now the vendor gets it
	lost := <-first
	if lost.ExitCode != 5 || lost.Error == nil || lost.Error.Code != "sync.lease_lost" {
		t.Errorf("the first: %s", canonical(lost))
	}
	m.clock.Add(int64(2 * time.Hour))
	m.wants(0)
	m.same()
}

// A machine whose clock stood still (a laptop that slept) sends on after another took over. Its commit fails, and what it sent is
// marked without a lock, so that the next run puts it right.
func TestLateSends(t *testing.T) {
	t.Parallel()
	m := newMachines(t, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_changes: 100%}")
	m.write("dray.yaml", strings.Replace(m.read("dray.yaml"), "settle: 0s", "settle: 1h", 1))
	m.sql(people)
	m.wants(0)
	m.sql("UPDATE raw.people SET name = 'first'", "INSERT INTO raw.people SELECT i, NULL, 'first', i FROM generate_series(100, 109) t(i)")
	s := newSlow(2)
	s.all = true
	first := make(chan report.Run, 1)
	go func() { rep, _ := m.machine(s); first <- rep }()
	<-s.reached
	m.state("UPDATE dray_locks SET until = now() - interval '1 second'")
	m.sql("UPDATE raw.people SET name = 'second'")
	m.wants(0)
	close(s.release)
	lost := <-first
	if lost.ExitCode != 5 || lost.Error == nil || lost.Error.Code != "sync.lease_lost" {
		t.Fatalf("the first: %s", canonical(lost))
	}
	store, _, _ := m.r.state()
	wrong := 0
	for _, f := range store {
		if f["name"] == "first" {
			wrong++
		}
	}
	if wrong == 0 {
		t.Fatal("the first sent nothing late")
	}
	m.clock.Add(int64(2 * time.Hour))
	m.wants(0)
	m.same()
}

// A run that was killed on one machine is finished by another, from the journal in PostgreSQL: only what was in flight is sent twice.
func TestMachineRecoversAnother(t *testing.T) {
	t.Parallel()
	m := newMachines(t, "mode: insert\nkey: {id: id}")
	m.sql(people)
	s := newSlow(5)
	go func() { _, _ = m.machine(s) }() // it never ends while the others run
	<-s.reached
	m.state("UPDATE dray_locks SET until = now() - interval '1 second'")
	m.wants(0)
	m.r.mu.Lock()
	twice, changes := 0, m.r.changes
	for _, n := range m.r.ids {
		twice += n - 1
	}
	m.r.mu.Unlock()
	if twice != 0 || changes != 30 {
		t.Errorf("%d changes reached the destination, %d rows twice; want 30, none before the one in flight arrives", changes, twice)
	}
	close(s.release)
	m.t.Cleanup(func() { time.Sleep(100 * time.Millisecond) })
}
