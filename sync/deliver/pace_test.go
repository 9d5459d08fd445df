package deliver

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
)

// window is a vendor that allows so many requests in any stretch of time.
type window struct {
	mu       sync.Mutex
	requests int
	per      time.Duration
	recent   []time.Time
	taken    int
	refused  int
}

// take counts a request that arrives now.
func (w *window) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for len(w.recent) > 0 && !w.recent[0].After(now.Add(-w.per)) {
		w.recent = w.recent[1:]
	}
	if len(w.recent) >= w.requests {
		w.refused++
		return false
	}
	w.recent = append(w.recent, now)
	w.taken++
	return true
}

// send has so many workers send for a while, as a delivery does: wait, request with latency and jitter, be told the answer.
func send(ctx context.Context, p *Pacer, w *window, workers int, lasting time.Duration, headers map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, lasting)
	defer cancel()
	request := func() {
		time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
		ok := w.take()
		time.Sleep(200 * time.Millisecond)
		p.Observe(!ok, func(name string) string { return headers[name] })
	}
	if p.Gate(ctx) == nil {
		request() // the connection check
	}
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for p.Wait(ctx, nil) == nil {
				request()
			}
		})
	}
	wait.Wait()
}

var hub = destination.Rate{Requests: 100, Per: 10 * time.Second, LimitHeader: "max", WindowHeader: "per"}

// DESIGN §10: at least 98 % of the allowed rate, and no 429.
func TestPaceOfADeclaredRate(t *testing.T) {
	t.Parallel()
	for _, headers := range []map[string]string{nil, {"max": "100", "per": "10000"}} {
		synctest.Test(t, func(t *testing.T) {
			w := &window{requests: 100, per: 10 * time.Second}
			send(t.Context(), NewPacer(hub), w, 8, 10*time.Minute, headers)
			if w.refused > 0 || w.taken < 98*60 {
				t.Errorf("with headers %v: %d of %d allowed requests, %d refused", headers, w.taken, 100*60, w.refused)
			}
		})
	}
}

// The account may do more, or less, than what is declared: the answers say so.
func TestPaceFollowsTheAnswers(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{190, 60} {
		synctest.Test(t, func(t *testing.T) {
			w := &window{requests: allowed, per: 10 * time.Second}
			send(t.Context(), NewPacer(hub), w, 16, 10*time.Minute, map[string]string{"max": strconv.Itoa(allowed), "per": "10000"})
			if w.refused > 0 || w.taken < allowed*60*98/100 {
				t.Errorf("%d of %d allowed requests, %d refused", w.taken, allowed*60, w.refused)
			}
		})
	}
}

// A vendor that never said what it allows is found out by its refusals, and these become rare.
func TestPaceOfAnUnknownRate(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{5, 100} {
		synctest.Test(t, func(t *testing.T) {
			w := &window{requests: allowed, per: time.Second}
			send(t.Context(), NewPacer(destination.Rate{}), w, 8*allowed, 10*time.Minute, nil)
			if w.taken < allowed*600*80/100 || w.refused > w.taken/20 {
				t.Errorf("%d of %d allowed requests, %d refused", w.taken, allowed*600, w.refused)
			}
		})
	}
}

// A single refusal, of a vendor that had a bad moment, does not slow a long run down for good.
func TestPaceRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(destination.Rate{})
		p.Observe(true, func(string) string { return "" })
		w := &window{requests: 1000, per: time.Second}
		send(t.Context(), p, w, 100, 90*time.Second, nil)
		if w.taken < 5000 || w.refused > 0 {
			t.Errorf("%d requests in 90 s", w.taken)
		}
	})
}

func TestNoPaceWithoutALimit(t *testing.T) {
	t.Parallel()
	p := NewPacer(destination.Rate{})
	started := time.Now()
	for range 10_000 {
		if err := p.Wait(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		p.Observe(false, func(string) string { return "" })
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("10,000 requests waited %s", took)
	}
}

// Two syncs with one credential share what it may do; others do not disturb them.
func TestOnePacerACredential(t *testing.T) {
	t.Parallel()
	var all Pacers
	one := all.For(nil, hub, "hubspot", "", "secret")
	if all.For(nil, hub, "hubspot", "", "secret") != one {
		t.Error("the same credential has two pacers")
	}
	for _, other := range [][]string{{"hubspot", "", "other"}, {"hubspot", "secret"}, {"hubspot", "s", "ecret"}, {"hubspot", "", "secret", ""}} {
		if all.For(nil, hub, other...) == one {
			t.Errorf("%q shares a pacer", other)
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(hub)
		p.Pause(7 * time.Second)
		p.Pause(3 * time.Second) // a shorter one takes nothing back
		started := time.Now()
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				if err := p.Wait(t.Context(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(started); took < 7400*time.Millisecond || took > 7500*time.Millisecond {
			t.Errorf("five requests after a pause of 7 s took %s, want them one by one after it", took)
		}
		p.Pause(time.Hour)
		halted := make(chan struct{})
		close(halted)
		if err := p.Wait(t.Context(), halted); err == nil {
			t.Error("a run that was halted waits on")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Wait(ctx, nil); err == nil {
			t.Error("a run that was interrupted waits on")
		}
	})
}

// What a plan estimates with is the rate in force: what is declared until the vendor says otherwise, and nothing of a credential that
// was not used yet.
func TestRateInForce(t *testing.T) {
	t.Parallel()
	var all Pacers
	if got := all.Rate("webhook", "a"); got != 0 {
		t.Errorf("%v requests a second with a credential that nobody used", got)
	}
	p := all.For(nil, destination.Rate{Requests: 10, Per: time.Second}, "webhook", "a")
	if got := all.Rate("webhook", "a"); got != 10*headroom {
		t.Errorf("%v requests a second, of 10 declared", got)
	}
	p.Observe(true, func(string) string { return "" })
	if got := all.Rate("webhook", "a"); got <= 0 || got >= 10*headroom {
		t.Errorf("%v requests a second after a 429", got)
	}
	if got := all.Rate("webhook", "b"); got != 0 {
		t.Errorf("%v requests a second with another credential", got)
	}
}
