package deliver

import (
	"context"
	"errors"
	"sync"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
)

// circuit is the breaker between the workers and a vendor that may be down. It is open at first, and after a request that the vendor
// did not answer: then one batch goes through with all its tries, and the others wait for it. So a vendor that is down is met by one
// request at a time, whatever the concurrency, and as few rows as that become uncertain. Safe for concurrent use.
type circuit struct {
	mu     sync.Mutex
	closed bool
	probe  chan struct{} // held by the one batch that goes through while open
}

// pass is a batch's way through: it may hold the probe, from its first try to its last.
type pass struct{ holds bool }

func newCircuit() *circuit { return &circuit{probe: make(chan struct{}, 1)} }

func (c *circuit) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// enter returns when a request of a batch may start; an error where the run ends first.
func (c *circuit) enter(ctx context.Context, halted <-chan struct{}, p *pass) error {
	if p.holds || c.isClosed() {
		return nil
	}
	select {
	case c.probe <- struct{}{}:
		p.holds = true
	case <-ctx.Done():
		return ctx.Err()
	case <-halted:
		return errHalted
	}
	if c.isClosed() { // it was answered meanwhile
		c.leave(p)
	}
	return nil
}

// tell takes how a request ended. Who waits goes on after an answer.
func (c *circuit) tell(p *pass, answered bool) {
	c.mu.Lock()
	c.closed = answered
	c.mu.Unlock()
	if answered {
		c.leave(p)
	}
}

// leave lets the next batch through; it is called when a batch is done with, and does nothing if it does not hold the probe.
func (c *circuit) leave(p *pass) {
	if p.holds {
		p.holds = false
		<-c.probe
	}
}

// answers tells whether a vendor that gave this error goes on taking requests: it refused a batch, as against being silent, out of
// reach, broken, or refusing everything.
func answers(err error) bool {
	if err == nil {
		return true
	}
	e := asError(err)
	switch e.Class {
	case destination.Unknown, destination.Stop:
		return false
	case destination.Retry:
		return !unreachable(e) && e.RetryAfter <= maxWait
	}
	return true
}

// unreachable tells whether no request left: there is nobody at that address.
func unreachable(e *destination.Error) bool {
	var h *httpx.Error
	return errors.As(e, &h) && h.NotSent
}
