package deliver

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dray-dev/dray/connectors/destination"
)

// Pacer spaces the requests of one credential; all syncs that use it share one. Safe for concurrent use.
type Pacer struct {
	limiter *rate.Limiter // nil = no limit known
	mu      sync.Mutex
	paused  time.Time
}

// NewPacer spaces requests by a declared rate. The bucket holds a tenth of the window: a burst on top of a steady stream stays
// within what a sliding window allows only if it is small.
func NewPacer(r destination.Rate) *Pacer {
	if r.Requests <= 0 || r.Per <= 0 {
		return &Pacer{}
	}
	return &Pacer{limiter: rate.NewLimiter(rate.Limit(float64(r.Requests)/r.Per.Seconds()), max(1, r.Requests/10))}
}

// Pause lets nobody start a request for a while: the vendor asked for it.
func (p *Pacer) Pause(d time.Duration) {
	if d <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.paused) {
		p.paused = until
	}
}

// Wait returns when a request may start; an error where the run ends first.
func (p *Pacer) Wait(ctx context.Context, halted <-chan struct{}) error {
	p.mu.Lock()
	pause := time.Until(p.paused)
	p.mu.Unlock()
	if p.limiter != nil {
		pause = max(pause, p.limiter.Reserve().Delay())
	}
	if pause <= 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-halted:
			return errHalted
		default:
			return nil
		}
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-halted:
		return errHalted
	}
}
