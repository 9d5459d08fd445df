package deliver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
)

const (
	// headroom is the part of the allowed rate that is used. Requests are evenly spaced, so that a window of any position holds
	// at most headroom × allowed + 1; what is left lies between that and the limit for requests that arrive closer together than
	// they were sent.
	headroom = 0.985
	slower   = 0.8 // of the rate, once the vendor says that it was too fast
	// A timer may wake a request a little late without the next ones being late too: by half of what headroom leaves in the vendor's
	// window, so that requests that were late and those that were not still fit into it together.
	leastLate, mostLate = 10 * time.Millisecond, 50 * time.Millisecond
	// leastRate is as slow as it gets, in requests a second.
	leastRate = 0.2
)

// Pacer spaces the requests of one credential; all syncs that use it share one. It starts from the rate the connector declares,
// takes over what the vendor's headers say, and slows down where the vendor answers 429, also at a rate it was never told.
// Safe for concurrent use.
type Pacer struct {
	headers    destination.Rate
	now        func() time.Time
	turn       chan struct{} // held by the one who waits for the next place
	credential string        // its hash

	mu      sync.Mutex
	shared  Budget  // nil: the credential is this process's alone
	allowed float64 // requests a second that may be made; 0 = not known
	window  time.Duration
	rate    float64   // that are made at most; 0 = unlimited
	next    time.Time // when the next request may start
	paused  time.Time
	slowed  time.Time // when a 429 was last acted on; zero = the rate is what is allowed
	ceiling float64   // the rate at which that was
	grown   time.Time
	second  time.Time // of the count below
	count   int       // requests that were not too many
	recent  float64   // of them in the second before
	left    int       // places that were reserved in the shared budget, the first of them at next
	every   time.Duration
}

// Budget is what processes share that use one credential. Reserve takes n places in the row, each so long after the one before,
// and tells how far off the first is; Pause lets nobody begin a request for a while.
type Budget interface {
	Reserve(ctx context.Context, credential string, n int, every time.Duration) (wait time.Duration, err error)
	Pause(ctx context.Context, credential string, d time.Duration) error
}

// reserved is for how long places are reserved ahead: so much of the allowance a process that stops leaves unused.
const reserved = 250 * time.Millisecond

// NewPacer spaces requests by a declared rate; without one they are unlimited until the vendor refuses some.
func NewPacer(r destination.Rate) *Pacer {
	p := &Pacer{headers: r, now: time.Now, turn: make(chan struct{}, 1)}
	if r.Requests > 0 && r.Per > 0 {
		p.set(r.Requests, r.Per)
	}
	return p
}

// set takes over what is allowed. With p.mu held, or before p is shared.
func (p *Pacer) set(requests int, per time.Duration) {
	p.window = per
	allowed := headroom * float64(requests) / per.Seconds()
	if allowed == p.allowed {
		return
	}
	p.allowed, p.rate, p.slowed = allowed, allowed, time.Time{}
}

// Pause lets nobody start a request for a while: the vendor asked for it.
func (p *Pacer) Pause(d time.Duration) {
	if d <= 0 {
		return
	}
	p.mu.Lock()
	longer, shared := p.now().Add(d).After(p.paused), p.shared
	if longer {
		p.paused = p.now().Add(d)
	}
	p.mu.Unlock()
	if shared != nil && longer {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = shared.Pause(ctx, p.credential, d) // without it the others find out for themselves
	}
}

// Wait returns when a request may start; an error where the run ends first. Who waits has no place in the row yet: what the
// vendor says meanwhile, and another rate, hold for all.
func (p *Pacer) Wait(ctx context.Context, halted <-chan struct{}) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-halted:
		return errHalted
	}
	defer func() { <-p.turn }()
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-halted:
			return errHalted
		default:
		}
		wait, dry := p.take()
		if dry {
			if err := p.reserve(ctx); err != nil {
				return err
			}
			continue
		}
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-halted:
		}
		timer.Stop()
	}
}

// take gives the next place in the row if it is due, and otherwise tells how far off it is. Places lie on a grid: one that is
// taken a little late does not shift those after it. dry: the shared budget must be asked for more.
func (p *Pacer) take() (wait time.Duration, dry bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	shared := p.shared != nil && p.rate > 0
	if shared {
		for p.left > 0 && (now.Sub(p.next) > p.lateness(p.every) || p.paused.After(p.next)) { // it is too late for this one
			p.left--
			p.next = p.next.Add(p.every)
		}
		if p.left == 0 {
			return max(0, p.paused.Sub(now)), !p.paused.After(now)
		}
	}
	due := p.paused
	if p.rate > 0 && p.next.After(due) {
		due = p.next
	}
	if due.After(now) {
		return due.Sub(now), false
	}
	if shared {
		p.left--
		p.next = p.next.Add(p.every)
		return 0, false
	}
	if p.rate > 0 {
		interval := time.Duration(float64(time.Second) / p.rate)
		if now.Sub(p.next) < p.lateness(interval) {
			p.next = p.next.Add(interval)
		} else {
			p.next = now.Add(interval)
		}
	}
	return 0, false
}

// lateness is how late a place may be taken that is so long before the next one.
func (p *Pacer) lateness(interval time.Duration) time.Duration {
	return min(interval/2, max(leastLate, min(p.window/200, mostLate)))
}

// reserve takes some places for this process, at the rate it thinks is allowed. The caller holds the turn.
func (p *Pacer) reserve(ctx context.Context) error {
	p.mu.Lock()
	every, shared := time.Duration(float64(time.Second)/max(p.rate, leastRate)), p.shared
	p.mu.Unlock()
	n := max(1, int(reserved/every))
	wait, err := shared.Reserve(ctx, p.credential, n, every)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.every, p.next = n, every, p.now().Add(wait)
	return nil
}

// Gate is httpx's question before each request. The first one of a Write has waited already (httpx.Paid).
func (p *Pacer) Gate(ctx context.Context) error { return p.Wait(ctx, nil) }

// Observe is told each answer: whether it says that there were too many requests, and its headers.
func (p *Pacer) Observe(tooMany bool, header func(name string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if requests, per, ok := p.told(header); ok {
		p.set(requests, per)
	}
	if tooMany {
		p.slowDown(now)
		return
	}
	if now.Sub(p.second) >= time.Second {
		p.recent, p.count, p.second = float64(p.count)/max(now.Sub(p.second).Seconds(), 1), 0, now
	}
	p.count++
	p.speedUp(now)
}

// told reads the vendor's headers, where the connector names them.
func (p *Pacer) told(header func(string) string) (requests int, per time.Duration, ok bool) {
	if p.headers.LimitHeader == "" {
		return 0, 0, false
	}
	requests, err := strconv.Atoi(header(p.headers.LimitHeader))
	if err != nil || requests <= 0 {
		return 0, 0, false
	}
	per = p.headers.Per
	if ms, err := strconv.Atoi(header(p.headers.WindowHeader)); err == nil && ms > 0 {
		per = time.Duration(ms) * time.Millisecond
	}
	return requests, per, per > 0
}

// slowDown acts once on the 429s of requests that were under way together.
func (p *Pacer) slowDown(now time.Time) {
	if now.Sub(p.slowed) < time.Second {
		return
	}
	p.slowed, p.grown = now, now
	if taken := max(p.recent, float64(p.count), 1); p.rate == 0 || p.allowed == 0 && taken < p.rate {
		p.rate = taken
	}
	p.ceiling = p.rate
	p.rate = max(slower*p.rate, leastRate)
}

func (p *Pacer) speedUp(now time.Time) {
	if p.slowed.IsZero() || now.Sub(p.grown) < time.Second {
		return
	}
	p.grown = now
	switch { // fast where it is safe, slowly near the rate that was too much, and fast again once that is left behind
	case p.rate < 0.75*p.ceiling, p.rate > 1.2*p.ceiling:
		p.rate *= 1.2
	default:
		p.rate *= 1.02
	}
	if p.allowed > 0 && p.rate >= p.allowed {
		p.rate, p.slowed = p.allowed, time.Time{}
	}
}

// Rate is how many requests a second may be made now; 0 = no limit is known.
func (p *Pacer) Rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// Pacers holds the pacers of a process, one for each credential. The zero value is ready to use; safe for concurrent use.
type Pacers struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*Pacer
}

// For is the pacer of a credential: of the connector's type, the address it goes to and its secrets. These are not kept. shared is
// the budget of several processes, nil where there is one; the last asker's stands.
func (p *Pacers) For(shared Budget, r destination.Rate, credential ...string) *Pacer {
	key := hashOf(credential)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[[sha256.Size]byte]*Pacer{}
	}
	if p.all[key] == nil {
		p.all[key] = NewPacer(r)
		p.all[key].credential = hex.EncodeToString(key[:])
	}
	one := p.all[key]
	one.mu.Lock()
	defer one.mu.Unlock()
	one.shared = shared
	return one
}

// Rate is the rate in force for a credential, in requests a second; 0 where this process has made no request with it, or may make
// as many as it likes.
func (p *Pacers) Rate(credential ...string) float64 {
	p.mu.Lock()
	one := p.all[hashOf(credential)]
	p.mu.Unlock()
	if one == nil {
		return 0
	}
	return one.Rate()
}

func hashOf(credential []string) [sha256.Size]byte {
	h := sha256.New()
	for _, c := range credential {
		_, _ = h.Write(append(strconv.AppendInt(nil, int64(len(c)), 10), ":"+c...))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
