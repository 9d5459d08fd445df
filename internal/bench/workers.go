package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/internal/pgtest"
)

// The soak of two workers: so many syncs, each due so often; a run makes three requests, each of which takes a while.
const (
	workerSyncs   = 12
	workerEvery   = 2 * time.Second
	workerAnswers = 100 * time.Millisecond
	workerSoak    = 20 * time.Second // both work, before one is killed and after the other has its jobs
	workerPatient = 4 * time.Minute  // until what was cut off has ended: a dead worker's jobs and lock are given up by time
)

// job is one run as the destination sees it: from its first request to the answer of its last.
type job struct {
	sync, worker string
	began, ended time.Time
	requests     int
}

// watcher is a destination that takes all, and notes whose requests they are.
type watcher struct {
	*httptest.Server
	mu   sync.Mutex
	jobs map[string]*job
}

func newWatcher() *watcher {
	w := &watcher{jobs: map[string]*job{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		var b struct {
			Sync  string `json:"sync"`
			RunID string `json:"run_id"`
		}
		if err := json.NewDecoder(req.Body).Decode(&b); err != nil {
			http.Error(out, "no JSON", http.StatusBadRequest)
			return
		}
		w.mu.Lock()
		j := w.jobs[b.RunID]
		if j == nil {
			j = &job{sync: b.Sync, worker: req.Header.Get("Worker"), began: time.Now()}
			w.jobs[b.RunID] = j
		}
		j.ended = time.Time{}
		w.mu.Unlock()
		time.Sleep(workerAnswers)
		w.mu.Lock()
		j.requests++
		j.ended = time.Now()
		w.mu.Unlock()
	}))
	return w
}

// all are the jobs so far, oldest first.
func (w *watcher) all() []job {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []job
	for _, j := range w.jobs {
		out = append(out, *j)
	}
	slices.SortFunc(out, func(a, b job) int { return a.began.Compare(b.began) })
	return out
}

// underWay are the jobs of a worker that have not made their last request.
func (w *watcher) underWay(worker string) (out []job) {
	for _, j := range w.all() {
		if j.worker == worker && j.requests < 3 {
			out = append(out, j)
		}
	}
	return out
}

// benchWorkers is the soak of two `dray serve` on one PostgreSQL, which is their state and their warehouse. One is killed while it
// sends; the other finishes its jobs.
func benchWorkers(ctx context.Context, l *lab) ([]result, error) {
	var server pgtest.Server
	defer server.Stop()
	url, err := server.New(ctx)
	if pgtest.Missing(err) {
		return []result{{what: "workers: skipped", ours: err.Error(), target: "1 at once", met: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	binary, err := l.binary(ctx)
	if err != nil {
		return nil, err
	}
	w := newWatcher()
	defer w.Close()
	if err := l.workersProject(ctx, url, w.URL); err != nil {
		return nil, err
	}
	start := func(name string) (kill func() error, err error) {
		log, err := os.Create(filepath.Join(l.dir, name+".log"))
		if err != nil {
			return nil, err
		}
		c := exec.CommandContext(ctx, binary, "serve", "--listen", "off")
		c.Dir, c.Stdout, c.Stderr = l.dir, log, log
		c.Env = append(os.Environ(), "NO_COLOR=1", "WORKER="+name)
		if err := c.Start(); err != nil {
			return nil, errors.Join(err, log.Close())
		}
		return func() error { err := c.Process.Kill(); _ = c.Wait(); return errors.Join(err, log.Close()) }, nil
	}
	killFirst, err := start("first")
	if err != nil {
		return nil, err
	}
	killSecond, err := start("second")
	if err != nil {
		return nil, errors.Join(err, killFirst())
	}
	killed, cut, err := w.killOne(ctx, l, killFirst)
	if err == nil {
		err = w.takenOver(ctx, l, cut, killed)
	}
	if err != nil {
		said, _ := os.ReadFile(filepath.Join(l.dir, "second.log"))
		err = fmt.Errorf("%w\n%s", err, said)
	}
	if err = errors.Join(err, killSecond()); err != nil {
		return nil, err
	}
	return w.judge(cut, killed), nil
}

func (l *lab) workersProject(ctx context.Context, url, hook string) error {
	db, err := registry.OpenWarehouse(ctx, "postgres", map[string]any{"url": url}, l.dir)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, "CREATE SCHEMA raw")
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `name: workers
version: 1
state: %q
warehouse: {type: postgres, url: %[1]q}
models:
  - {name: clock, primary_key: id, sql: "select i as id, extract(epoch from clock_timestamp()) as at from generate_series(1, 3) i"}
destinations:
  - {name: hook, type: webhook, url: %q, batch_size: 1, settle: 0s, headers: {Worker: "${WORKER}"}}
syncs:
`, url, hook)
	for i := range workerSyncs {
		fmt.Fprintf(&b, "  - {name: s%d, model: clock, destination: hook, object: o%[1]d, mode: upsert, key: {id: id}, fields: {at: at}, guard: {max_changes: 100%%}, schedule: \"@every %s\"}\n", i, workerEvery)
	}
	return l.write("dray.yaml", b.String())
}

// killOne waits until both have worked for a while and the first is sending, kills it, and returns the jobs it had under way.
func (w *watcher) killOne(ctx context.Context, l *lab, kill func() error) (killed time.Time, cut []job, err error) {
	l.say("%d syncs, each every %s, two workers for %s", workerSyncs, workerEvery, workerSoak)
	if err := await(ctx, workerPatient, func() bool {
		seen := map[string]bool{}
		for _, j := range w.all() {
			seen[j.worker] = seen[j.worker] || j.requests == 3
		}
		return seen["first"] && seen["second"]
	}); err != nil {
		return killed, nil, errors.Join(fmt.Errorf("both did not work: %w", err), kill())
	}
	time.Sleep(workerSoak)
	if err := await(ctx, time.Minute, func() bool { return len(w.underWay("first")) > 0 }); err != nil {
		return killed, nil, errors.Join(fmt.Errorf("the first has nothing under way: %w", err), kill())
	}
	if err := kill(); err != nil {
		return killed, nil, err
	}
	killed = time.Now()
	time.Sleep(2 * workerAnswers) // what it sent is answered
	cut = w.underWay("first")
	l.say("killed one with %d runs cut off", len(cut))
	return killed, cut, nil
}

// takenOver waits until the other worker has ended a run of each sync that was cut off, and for a while more.
func (w *watcher) takenOver(ctx context.Context, l *lab, cut []job, killed time.Time) error {
	if err := await(ctx, workerPatient, func() bool { return len(w.finished(cut, killed)) == len(syncsOf(cut)) }); err != nil {
		return fmt.Errorf("%d of %d syncs were taken over: %w", len(w.finished(cut, killed)), len(syncsOf(cut)), err)
	}
	l.say("taken over after %s; the other works on for %s", round(time.Since(killed)), workerSoak)
	time.Sleep(workerSoak)
	return nil
}

// syncsOf are the syncs of jobs.
func syncsOf(jobs []job) map[string]bool {
	out := map[string]bool{}
	for _, j := range jobs {
		out[j.sync] = true
	}
	return out
}

// finished are the syncs of the jobs cut off of which the second has ended a run that began after the first was killed.
func (w *watcher) finished(cut []job, killed time.Time) map[string]bool {
	of, out := syncsOf(cut), map[string]bool{}
	for _, j := range w.all() {
		if of[j.sync] && j.worker == "second" && j.began.After(killed) && j.requests >= 3 {
			out[j.sync] = true
		}
	}
	return out
}

// judge counts the jobs, how many of one sync were under way at once, and how long a sync stood still at most.
func (w *watcher) judge(cut []job, killed time.Time) []result {
	all, by := w.all(), map[string][]job{}
	done := map[string]int{}
	for _, j := range all {
		if j.ended.IsZero() { // its sender died before the answer, or the bench ended
			j.ended = time.Now()
		}
		if j.worker == "first" && j.ended.After(killed) {
			j.ended = killed
		}
		by[j.sync] = append(by[j.sync], j)
		done[j.worker]++
	}
	most, gap, usual := 0, time.Duration(0), time.Duration(0)
	for _, jobs := range by {
		for i, a := range jobs {
			at := 0
			for _, b := range jobs {
				if !b.began.After(a.began) && b.ended.After(a.began) {
					at++
				}
			}
			most = max(most, at)
			if i == 0 {
				continue
			}
			still := a.began.Sub(jobs[i-1].ended)
			gap = max(gap, still)
			if a.began.Before(killed) {
				usual = max(usual, still)
			}
		}
	}
	return []result{
		{what: fmt.Sprintf("two workers on PostgreSQL, %d syncs: jobs, of the first and the second", workerSyncs), ours: fmt.Sprintf("%d, %d", done["first"], done["second"]), target: "both work", met: done["first"] > 0 && done["second"] > 0},
		{what: "one killed: its syncs that the other finished", ours: fmt.Sprint(len(w.finished(cut, killed))), reference: fmt.Sprint(len(syncsOf(cut))), target: "all", met: len(cut) > 0 && len(w.finished(cut, killed)) == len(syncsOf(cut))},
		{what: "jobs of one sync at once, at most", ours: fmt.Sprint(most), target: "1", met: most == 1},
		{what: "longest gap between two jobs of a sync; before the kill", ours: round(gap), reference: round(usual), target: "(told)", met: true},
	}
}

// await looks again and again until something holds.
func await(ctx context.Context, patience time.Duration, holds func() bool) error {
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			return errors.New("it took too long")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
