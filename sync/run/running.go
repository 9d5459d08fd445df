package run

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/internal/diag"
)

// Running is what runs in this process, where several sessions share it (I5). The lock in the warehouse keeps other processes out;
// on an engine that lets one process in it keeps nobody out, and this does. A backfill gives way: it stops between batches when
// another run wants the sync, and goes on afterwards. The zero value is ready to use; safe for concurrent use.
type Running struct {
	mu    sync.Mutex
	slots map[string]*slot
}

// slot is one sync's.
type slot struct {
	run     string // the id of the run that has it; "" = free
	since   time.Time
	yields  bool          // it is a backfill's
	wanted  chan struct{} // closed when another run waits for it
	waiters int           // runs for which a backfill gives way
	changed chan struct{} // closed, and replaced, when any of that changes
}

func (s *slot) change() {
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
}

// claim says who wants a slot.
type claim struct {
	sync, schema, run string
	now               time.Time
	yields            bool // a backfill
	again             bool // it gave way before: it waits until it may go on
}

// take gets the slot, or says who has it. wanted is closed when another run asks for it.
func (r *Running) take(ctx context.Context, c claim) (free func(), wanted <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		r.slots = map[string]*slot{}
	}
	key := c.schema + "." + c.sync
	s := r.slots[key]
	if s == nil {
		s = &slot{changed: make(chan struct{})}
		r.slots[key] = s
	}
	asks := false
	defer func() {
		if asks {
			s.waiters--
			s.change()
		}
	}()
	for s.run != "" || c.yields && s.waiters > 0 {
		gives := s.run != "" && s.yields && !c.yields
		if s.run != "" && !gives && !asks && !c.again {
			return nil, nil, lockedHere(c.sync, s)
		}
		if gives && !asks {
			asks = true
			if s.waiters++; s.waiters == 1 {
				close(s.wanted)
			}
		}
		if err := r.wait(ctx, s); err != nil {
			return nil, nil, err
		}
	}
	s.run, s.since, s.yields, s.wanted = c.run, c.now, c.yields, make(chan struct{})
	s.change()
	return sync.OnceFunc(func() { r.free(s) }), s.wanted, nil
}

// wait lets go of the mutex until the slot changes.
func (r *Running) wait(ctx context.Context, s *slot) error {
	changed := s.changed
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Running) free(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.run = ""
	s.change()
}

func lockedHere(sync string, s *slot) error {
	return diag.Errorf(diag.Locked, "sync.locked", "%s is locked by run %s in this process since %s", sync, s.run, s.since.UTC().Format(time.RFC3339)).
		WithHint("wait until it ends")
}

// busy lists the syncs of a schema that a run has which gives way to nobody.
func (r *Running) busy(schema string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for key, s := range r.slots {
		if sync, ok := strings.CutPrefix(key, schema+"."); ok && s.run != "" && !s.yields {
			out = append(out, sync)
		}
	}
	return out
}
