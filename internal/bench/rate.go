package main

import (
	"context"
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

	"github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	"github.com/dray-dev/dray/internal/pgtest"
)

// The vendor of the rate bench: so many requests in any stretch of so long.
const (
	rateRequests = 100
	ratePer      = 10 * time.Second
	rateOver     = time.Minute // after the first window
)

// windowed is HubSpot's stand-in, which enforces a true sliding window; it notes when requests were taken and refused.
type windowed struct {
	*httptest.Server
	mu      sync.Mutex
	taken   []time.Time
	refused []time.Time
}

func newWindowed() *windowed {
	w := &windowed{}
	hub := standin.New().Handler()
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		at := time.Now()
		noted := &status{ResponseWriter: out, code: http.StatusOK}
		hub.ServeHTTP(noted, req)
		w.mu.Lock()
		defer w.mu.Unlock()
		if noted.code == http.StatusTooManyRequests {
			w.refused = append(w.refused, at)
			return
		}
		w.taken = append(w.taken, at)
	}))
	return w
}

// status notes an answer's status.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// share is the part of the allowance that was used within a minute that begins a window after the first request, and how many
// requests were refused in it.
func (w *windowed) share() (used float64, refused int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.taken) == 0 {
		return 0, 0, errors.New("no request arrived")
	}
	from := w.taken[0].Add(ratePer)
	to := from.Add(rateOver)
	if !w.taken[len(w.taken)-1].After(to) {
		return 0, 0, errors.New("the requests ended before the minute did")
	}
	within := func(all []time.Time) int {
		return len(slices.DeleteFunc(slices.Clone(all), func(t time.Time) bool { return t.Before(from) || t.After(to) }))
	}
	return float64(within(w.taken)) / (rateRequests * rateOver.Seconds() / ratePer.Seconds()), within(w.refused), nil
}

// benchRate runs the binary against a vendor's window: one process, then two that share a credential through PostgreSQL.
func benchRate(ctx context.Context, l *lab) ([]result, error) {
	var out []result
	for _, processes := range []int{1, 2} {
		l.say("%d process(es) against %d requests per %s, %s", processes, rateRequests, ratePer, ratePer+rateOver)
		r, err := l.rate(ctx, processes)
		if err != nil {
			return out, fmt.Errorf("%d processes: %w", processes, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (l *lab) rate(ctx context.Context, processes int) (result, error) {
	w := newWindowed()
	defer w.Close()
	state := ""
	if processes > 1 {
		var server pgtest.Server
		defer server.Stop()
		url, err := server.New(ctx)
		if err != nil {
			return result{}, err
		}
		state = "state: " + url + "\n"
	}
	binary, err := l.binary(ctx)
	if err != nil {
		return result{}, err
	}
	ctx, stop := context.WithTimeout(ctx, ratePer+rateOver+20*time.Second)
	defer stop()
	var wait sync.WaitGroup
	failed := make([]error, processes)
	for i := range processes {
		dir := filepath.Join(l.dir, fmt.Sprintf("rate%d_%d", processes, i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return result{}, err
		}
		yaml := fmt.Sprintf(rateProject, i, state, w.URL)
		if err := os.WriteFile(filepath.Join(dir, "dray.yaml"), []byte(yaml), 0o600); err != nil {
			return result{}, err
		}
		wait.Go(func() { failed[i] = sendFor(ctx, w, binary, dir) })
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		return result{}, err
	}
	used, refused, err := w.share()
	if err != nil {
		return result{}, err
	}
	return result{
		what: fmt.Sprintf("share of a vendor's window used, %d process(es)", processes), ours: fmt.Sprintf("%.1f %%", 100*used),
		reference: "100 %", ratio: fmt.Sprintf("%.3f", used), target: fmt.Sprintf("≥ 0.98, 0 × 429 (had %d)", refused),
		met: used >= 0.98 && refused == 0,
	}, nil
}

// sendFor runs the binary, and interrupts it when the minute is over.
func sendFor(ctx context.Context, w *windowed, binary, dir string) error {
	cmd := exec.CommandContext(ctx, binary, "run")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "RATE_TOKEN=pat-na1-bench")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("ended early: %w: %s", err, said.String())
		case <-time.After(100 * time.Millisecond):
		}
		if _, _, err := w.share(); err == nil {
			break
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), errors.New(said.String()))
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	<-ended //nolint:errcheck // it was interrupted, and says so
	return ctx.Err()
}

// rateProject is a project of one sync; each process has its own, and the credential in common.
const rateProject = `
name: rate%d
version: 1
%swarehouse: {type: duckdb, path: w.duckdb, threads: 1}
models:
  - {name: people, primary_key: id, sql: "select i as id, 'p' || i || '@example.com' as email, 'n' || i as name from range(100000) t(i)"}
destinations:
  - {name: hub, type: hubspot, access_token: "${RATE_TOKEN}", base_url: "%s"}
syncs:
  - {name: people, model: people, destination: hub, object: contacts, mode: upsert, key: {email: email}, fields: {firstname: name}}
`
