package schedule

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/internal/leaks"
	"github.com/dray-dev/dray/internal/pgtest"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

var server pgtest.Server

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		os.Exit(worker(url))
	}
	os.Exit(leaks.Check(server.Main(m)))
}

const head = `
name: shop
version: 1
models:
  - {name: people, primary_key: id, sql: select 1 as id}
destinations:
  - {name: out, type: file, path: out}
syncs:
`

// syncs are those of a project, each with its own keys.
func syncs(keys ...string) string {
	var b strings.Builder
	for _, k := range keys {
		name, rest, _ := strings.Cut(k, " ")
		b.WriteString("  - {name: " + name + ", model: people, destination: out, object: " + name + ", mode: upsert, key: {id: id}, " + rest + "}\n")
	}
	return b.String()
}

func prepare(t testing.TB, dir, text string) *run.Prepared {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "dray.yaml"), []byte(head+text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := run.Prepare(run.Deps{Connector: registry.Destination}, run.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// world is a scheduler on a real control state whose runs do what the test says.
type world struct {
	testing.TB
	dir   string
	state *state.State

	mu      sync.Mutex
	began   map[string]int
	running map[string]bool
	twice   bool
	do      func(sync string) report.Status
}

func newWorld(t testing.TB) *world {
	return &world{TB: t, dir: t.TempDir(), began: map[string]int{}, running: map[string]bool{}, do: func(string) report.Status { return report.Succeeded }}
}

// serve runs a scheduler until stop is called; another one may follow on the same state.
func (w *world) serve(text string) (s *Scheduler, stop func()) {
	w.Helper()
	var err error
	if w.state, err = state.Open(w.Context(), filepath.Join(w.dir, "state.db"), state.Options{}); err != nil {
		w.Fatal(err)
	}
	s, err = New(w.Context(), Options{
		State: w.state, Project: prepare(w, w.dir, text), Workers: 8, Log: slog.New(slog.DiscardHandler),
		Run: func(ctx context.Context, _ *run.Prepared, sync string, _ time.Time) (report.Run, error) {
			return w.run(ctx, s, sync)
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	return s, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
		_ = w.state.Close()
	})
}

func (w *world) run(ctx context.Context, s *Scheduler, sync string) (report.Run, error) {
	w.mu.Lock()
	w.began[sync]++
	w.twice = w.twice || w.running[sync]
	w.running[sync] = true
	w.mu.Unlock()
	r := report.Run{RunID: sync + time.Now().Format(time.RFC3339Nano), Sync: sync, StartedAt: time.Now()}
	r.Status = w.do(sync)
	r.FinishedAt = time.Now()
	if ctx.Err() != nil {
		r.Status = report.Interrupted
	}
	w.mu.Lock()
	w.running[sync] = false
	w.mu.Unlock()
	err := w.state.End(context.WithoutCancel(ctx), state.Run{RunID: r.RunID, Schema: "dray", Sync: sync, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Status: string(r.Status)})
	s.Ended(r)
	return r, err
}

func (w *world) count(sync string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began[sync]
}

// until waits for what comes, on a machine that is busy with others.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}
