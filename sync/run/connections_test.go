package run_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/sync/run"
)

// A server that ends connections at any moment, in planning, in delivery and in commits: every run that this ends is followed by
// one that goes on, and the destination becomes the model.
func TestConnectionsThatBreak(t *testing.T) {
	if server == "" {
		t.Skip("DuckDB has no connections: make test-postgres runs this")
	}
	law(t, 8, func(t testing.TB, seed uint64) {
		v := newWorld(t, seed, "mode: mirror, key: {id: id}, on_remove: delete, retry: {attempts: 2}")
		broken := 0
		for range 12 {
			v.mutate()
			stop := v.breakConnections()
			_, err := v.unreliable()
			stop()
			if err != nil {
				broken++
			}
		}
		if broken == 0 {
			v.fatalf("no run met a broken connection")
		}
		v.calm(2)
		v.equal()
		v.quiet()
	})
}

// breakConnections ends other connections of the project's database every few milliseconds until stop is called.
func (v *world) breakConnections() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	wait := time.Duration(1+v.rng.IntN(60)) * time.Millisecond
	done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			// It may end its own connection's siblings only: the pool takes another for the next round.
			_, _ = v.w.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'dray'")
		}
	})
	return func() { cancel(); done.Wait() }
}

// unreliable is a run on connections of its own.
func (v *world) unreliable() (ended bool, err error) {
	v.runNo++
	v.clock = v.clock.Add(time.Minute)
	deps := v.p.deps()
	deps.OpenWarehouse = func(ctx context.Context, _ string, _ map[string]any, dir string) (warehouse.Warehouse, error) {
		return conformance.OpenAt(ctx, dir, ":memory:")
	}
	deps.After = func(time.Duration) <-chan time.Time { c := make(chan time.Time); close(c); return c }
	s, err := run.Open(context.Background(), deps, v.p.options())
	if err != nil {
		v.log("run %d: not opened: %v", v.runNo, err)
		return false, err
	}
	defer s.Close()
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	v.log("run %d: %v %s", v.runNo, err, canonical(reports))
	return true, err
}
