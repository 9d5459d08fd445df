package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/schedule"
	"github.com/dray-dev/dray/sync/state"
)

// benchScheduler has 10,000 syncs that do nothing in one process, on the control state's SQLite: all of them due at once; then
// none due for a while; then all due every minute for some minutes, jitter included. What it measures is the scheduler and its
// queue: processor time of this process, and what the Go runtime holds from the system, freed pages taken off.
func benchScheduler(ctx context.Context, l *lab) (results []result, err error) {
	n := l.rows(10_000)
	s, err := state.Open(ctx, filepath.Join(l.dir, "state.db"), state.Options{Project: "bench"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var peak uint64
	stop := watch(&peak)
	defer func() { stop() }()

	w := &idle{n: n}
	yearly, err := w.project(l.dir, `"0 0 1 1 *"`)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range yearly.Project.Syncs {
		names = append(names, c.Name)
	}
	if err := s.Begun(ctx, yearly.Project.Schema, names, time.Now().Add(-400*24*time.Hour)); err != nil {
		return nil, err
	}
	l.say("%d syncs due at once", n)
	began := time.Now()
	end, err := w.serve(ctx, s, yearly)
	if err != nil {
		return nil, err
	}
	if err := w.await(ctx, int64(n)); err != nil {
		return nil, errors.Join(err, end())
	}
	drained := time.Since(began)
	results = append(results, result{what: fmt.Sprintf("%d syncs due at once and doing nothing: drained", n), ours: round(drained), target: "≤ 10 s", met: drained <= 10*time.Second})

	l.say("and none due")
	stop()                      // it costs more than what it would watch
	time.Sleep(5 * time.Second) // the queue tidies up
	share := busy(20 * time.Second)
	stop = watch(&peak)
	results = append(results, result{what: fmt.Sprintf("%d syncs, none due: processor", n), ours: fmt.Sprintf("%.1f %% of a core", 100*share), target: "< 2 %", met: share < 0.02})
	if err := end(); err != nil {
		return results, err
	}

	minutes := max(int(3*l.scale), 1)
	l.say("and all due every minute, for %d minutes", minutes+2)
	often, err := w.project(l.dir, `"* * * * *"`)
	if err != nil {
		return results, err
	}
	w.done.Store(0)
	if end, err = w.serve(ctx, s, often); err != nil {
		return results, err
	}
	_ = w.after(ctx, n) // what was missed is caught up
	first := w.after(ctx, n)
	w.lag.Store(0)
	w.most.Store(0)
	counted := w.done.Load()
	started := processorTime()
	clock := time.Now()
	last := first
	for range minutes {
		last = w.after(ctx, n)
	}
	used := (processorTime() - started).Seconds() / time.Since(clock).Seconds()
	err = end()
	total := w.done.Load() - counted
	mean := time.Duration(0)
	if total > 0 {
		mean = time.Duration(w.lag.Load() / total)
	}
	steady := float64(last.heap) <= 1.2*float64(first.heap)+(2<<20) && last.goroutines <= first.goroutines+20
	results = append(
		results,
		result{what: "soak: start after due (jitter of up to 6 s included), mean and most", ours: round(mean) + ", " + round(time.Duration(w.most.Load())), target: "≤ 16 s", met: w.most.Load() <= int64(16*time.Second)},
		result{what: fmt.Sprintf("soak: processor, %d jobs a minute", n), ours: fmt.Sprintf("%.0f %% of a core", 100*used), target: "(told)", met: true},
		result{what: "soak: memory in use and goroutines, last minute to first", ours: fmt.Sprintf("%s, %d", mebibytes(last.heap), last.goroutines), reference: fmt.Sprintf("%s, %d", mebibytes(first.heap), first.goroutines), target: "not growing", met: steady},
		result{what: "soak: runs of the due ones", ours: fmt.Sprint(total), reference: fmt.Sprint(n * minutes), target: "all", met: total >= int64(n*minutes)},
		result{what: fmt.Sprintf("%d syncs: peak memory", n), ours: mebibytes(peak), target: "≤ 100 MiB", met: peak <= 100<<20},
	)
	return results, err
}

// idle is many syncs that do nothing.
type idle struct {
	n               int
	done, lag, most atomic.Int64
}

func (w *idle) project(dir, schedule string) (*run.Prepared, error) {
	var b strings.Builder
	b.WriteString("name: bench\nversion: 1\nmodels:\n  - {name: m, primary_key: id, sql: select 1 as id}\ndestinations:\n  - {name: out, type: file, path: out}\nsyncs:\n")
	for i := range w.n {
		fmt.Fprintf(&b, "  - {name: s%d, model: m, destination: out, object: o%d, mode: upsert, key: {id: id}, schedule: %s}\n", i, i, schedule)
	}
	if err := os.WriteFile(filepath.Join(dir, "dray.yaml"), []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return run.Prepare(run.Deps{Connector: registry.Destination}, run.Options{Dir: dir})
}

func (w *idle) serve(ctx context.Context, s *state.State, p *run.Prepared) (end func() error, err error) {
	scheduler, err := schedule.New(ctx, schedule.Options{
		State: s, Project: p, Workers: 200, Log: slog.New(slog.DiscardHandler), Observe: w,
		Run: func(_ context.Context, _ *run.Prepared, sync string, _ time.Time) (report.Run, error) {
			w.done.Add(1)
			return report.Run{Sync: sync, Status: report.Succeeded}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- scheduler.Run(ctx) }()
	return func() error { cancel(); return <-done }, nil
}

// Started counts how late a run is.
func (w *idle) Started(_ string, lag time.Duration) {
	w.lag.Add(int64(lag))
	for {
		most := w.most.Load()
		if int64(lag) <= most || w.most.CompareAndSwap(most, int64(lag)) {
			return
		}
	}
}

// Skipped never happens here.
func (w *idle) Skipped(string) {}

func (w *idle) await(ctx context.Context, n int64) error {
	for deadline := time.Now().Add(5 * time.Minute); w.done.Load() < n; time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("%d of %d ran", w.done.Load(), n)
		}
	}
	return nil
}

// usage is what a process holds.
type usage struct {
	heap       uint64
	goroutines int
}

// after waits until each sync has run once more, and reads what is held then.
func (w *idle) after(ctx context.Context, n int) usage {
	if err := w.await(ctx, w.done.Load()/int64(n)*int64(n)+int64(n)); err != nil {
		return usage{}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapInuse + m.StackInuse, runtime.NumGoroutine()}
}

// busy is the share of a core that this process uses for a while.
func busy(d time.Duration) float64 {
	used, began := processorTime(), time.Now()
	time.Sleep(d)
	return (processorTime() - used).Seconds() / time.Since(began).Seconds()
}
