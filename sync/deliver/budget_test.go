package deliver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// row is a shared budget as the control state keeps it.
type row struct {
	mu     sync.Mutex
	next   time.Time
	paused time.Time
}

func (r *row) Reserve(_ context.Context, _ string, n int, every time.Duration) (time.Duration, error) {
	time.Sleep(2 * time.Millisecond)
	r.mu.Lock()
	now := time.Now()
	first := r.next
	if first.Before(now) {
		first = now
	}
	if r.paused.After(first) {
		first = r.paused
	}
	r.next = first.Add(time.Duration(n) * every)
	r.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
	return first.Sub(now), nil
}

func (r *row) Pause(_ context.Context, _ string, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = time.Now().Add(d)
	return nil
}

// Several processes with one credential stay within the vendor's window together, and use it.
func TestPaceOfASharedBudget(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			shared, w := &row{}, &window{requests: 100, per: 10 * time.Second}
			var wait sync.WaitGroup
			for range processes {
				var own Pacers
				p := own.For(shared, hub, "hubspot", "secret")
				wait.Go(func() { send(t.Context(), p, w, 8, 10*time.Minute, nil) })
			}
			wait.Wait()
			if w.refused > 0 || w.taken < 98*60 {
				t.Errorf("%d processes: %d of %d allowed requests, %d refused", processes, w.taken, 100*60, w.refused)
			}
		})
	}
}

// What the vendor tells one process to wait, the others wait too.
func TestSharedPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := &row{}
		var a, b Pacers
		one, two := a.For(shared, hub, "x"), b.For(shared, hub, "x")
		one.Pause(7 * time.Second)
		started := time.Now()
		if err := two.Gate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 6900*time.Millisecond {
			t.Errorf("the other waited %s of 7 s", took)
		}
	})
}
