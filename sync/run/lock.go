package run

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/ledger"
)

// lock takes the sync's lock and keeps it (I5, DESIGN §6.1): in this process, then everywhere. With an embedded state it is a row
// in the warehouse. With one that several machines share it is a row there, and the warehouse's row is only the fence: the run id
// that each transaction checks.
func (r *one) lock(ctx context.Context) error {
	free, wanted, err := r.deps.Running.take(ctx, claim{
		schema: r.Project.Schema, sync: r.sync.Name, run: r.holder.RunID, now: r.deps.now(), yields: r.backfill != nil, again: r.again,
	})
	if err != nil {
		return err
	}
	r.free, r.wanted = free, wanted
	if err := r.lockOut(ctx); err != nil {
		r.release()
		return err
	}
	return nil
}

// lockOut keeps other processes out.
func (r *one) lockOut(ctx context.Context) error {
	l := r.Session.ledger
	if err := l.Ensure(ctx); err != nil {
		return err
	}
	if err := l.EnsureSync(ctx, r.sync.Name); err != nil {
		return err
	}
	if err := r.take(ctx, l); err != nil {
		return err
	}
	r.locked, r.lease = true, r.keepLease(ctx)
	r.Warehouse = &fenced{
		Warehouse: r.Session.Warehouse, run: r, fence: l.FenceSQL(r.sync.Name, r.holder), unlock: l.UnlockSQL(r.sync.Name, r.holder),
	}
	r.ledger = &ledger.Ledger{W: r.Warehouse, Names: l.Names}
	return nil
}

// release gives up the sync in this process.
func (r *one) release() {
	if r.free != nil {
		r.free()
	}
}

func (r *one) take(ctx context.Context, l *ledger.Ledger) error {
	// On DuckDB whoever has the file open for writing is alone with it.
	alone := r.Warehouse.Dialect().Name() == "duckdb"
	if !r.State.Shared() {
		return l.Lock(ctx, r.sync.Name, r.holder, alone, r.State.Alone())
	}
	dead := ""
	if alone { // so the run that the fence names, which had the file open, is dead; another may run on another file
		was, err := l.Holder(ctx, r.sync.Name)
		if err != nil {
			return err
		}
		dead = was.RunID
	}
	taken, by, err := r.State.Lock(ctx, r.Project.Schema, r.sync.Name, r.holder.RunID, r.holder.Host, r.term(), dead)
	if err != nil {
		return err
	}
	if !taken {
		return ledger.Locked(r.sync.Name, ledger.Held(by))
	}
	err = l.Lock(ctx, r.sync.Name, r.holder, true, false)
	if err == nil { // who was held up between the two must not keep a fence that he put over another's
		var held bool
		if held, err = r.renew(ctx); err == nil && !held {
			err = leaseLost(r.sync.Name)
		}
	}
	if err != nil {
		return errors.Join(err, r.State.Unlock(context.WithoutCancel(ctx), r.Project.Schema, r.sync.Name, r.holder.RunID))
	}
	return nil
}

// term is how long the lock lasts unless it is renewed.
func (r *one) term() time.Duration { return r.Warehouse.Dialect().Lease() }

// renew prolongs the lock where it is kept.
func (r *one) renew(ctx context.Context) (held bool, err error) {
	if r.State.Shared() {
		return r.State.Renew(ctx, r.Project.Schema, r.sync.Name, r.holder.RunID, r.term())
	}
	return r.Session.ledger.Renew(ctx, r.sync.Name, r.holder)
}

// unlock gives up the sync everywhere.
func (r *one) unlock(ctx context.Context) error {
	defer r.release()
	if !r.locked {
		return nil
	}
	return errors.Join(r.Session.ledger.Unlock(ctx, r.sync.Name, r.holder), r.unlocked(ctx))
}

// unlocked ends what the lock needed; its row in the warehouse is free, or gone, already.
func (r *one) unlocked(ctx context.Context) error {
	r.locked = false
	r.lease.stop()
	r.Warehouse, r.ledger = r.Session.Warehouse, r.Session.ledger
	if !r.State.Shared() {
		return nil
	}
	return r.State.Unlock(ctx, r.Project.Schema, r.sync.Name, r.holder.RunID)
}

func leaseLost(sync string) *diag.Error {
	return diag.Errorf(diag.Locked, "sync.lease_lost", "%s: the lock went to another run while this one was under way; what was in flight counts as uncertain", sync).
		WithHint("run again once that one has ended")
}

// abandon ends a run whose lock went to another. What had an intent before that, the other has found in the journal, or taken for
// uncertain with all the rest; what came after it last was certain of its lock is marked, which needs no lock (DESIGN §6.1).
func (r *one) abandon(ctx context.Context) error {
	r.locked = false
	lost := leaseLost(r.sync.Name)
	j, err := r.State.Journal(ctx, r.holder.RunID)
	if err == nil {
		var keys []int64
		for _, b := range j.Batches {
			if !b.SentAt.Before(r.lease.renewed()) {
				keys = append(keys, b.Keys...)
			}
		}
		c := r.committer()
		c.W = r.Session.Warehouse // without the fence
		err = c.Late(ctx, keys, r.deps.now().Add(r.settle(r.sync.Destination, r.conn)))
	}
	return errors.Join(lost, err, r.unlocked(ctx))
}

// fenced is the warehouse as a run that has the lock writes to it: each transaction first proves that it still has it. Whoever was
// held up past his lease can then not write over what the next one wrote.
type fenced struct {
	warehouse.Warehouse
	run    *one
	fence  string
	unlock string // the statement that gives the lock back
}

// Unwrap is the warehouse without the fence.
func (f *fenced) Unwrap() warehouse.Warehouse { return f.Warehouse }

// Atomic is the transaction with the fence before it.
func (f *fenced) Atomic(ctx context.Context, statements ...string) error {
	l := f.run.lease
	shared := f.run.State.Shared()
	if !shared { // the fence is the lock: it renews, and must not meet the renewal
		l.turn.Lock()
		defer l.turn.Unlock()
	}
	began := l.now()
	err := f.Warehouse.Atomic(ctx, append([]string{f.fence}, statements...)...)
	if err == nil {
		if slices.Contains(statements, f.unlock) {
			l.end() // before its turn is given up: a renewal that waited for it would find the row free, and take that for a loss
		}
		if !shared {
			l.extend(began)
		}
		return nil
	}
	held, herr := f.run.Session.ledger.Holder(context.WithoutCancel(ctx), f.run.sync.Name)
	if herr == nil && held.RunID != f.run.holder.RunID {
		l.lose()
		return leaseLost(f.run.sync.Name)
	}
	return err
}

// lease is a lock's term. It is renewed four times a term from when the lock is taken until it is given back.
type lease struct {
	term   time.Duration
	now    func() time.Time
	renew  func(ctx context.Context) (held bool, err error)
	cancel context.CancelFunc
	wait   sync.WaitGroup
	turn   sync.Mutex // of whoever renews

	mu    sync.Mutex
	until time.Time
	gone  bool
	ended bool // the lock was given back
}

// renewal is how long one may take.
const renewal = 20 * time.Second

func (r *one) keepLease(ctx context.Context) *lease {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &lease{term: r.term(), until: r.deps.now().Add(r.term()), cancel: cancel, now: r.deps.now, renew: r.renew}
	l.wait.Go(func() {
		ticker := time.NewTicker(l.term / 4)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				l.prolong(ctx)
			}
		}
	})
	return l
}

func (l *lease) prolong(ctx context.Context) {
	l.turn.Lock()
	defer l.turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, renewal)
	defer cancel()
	began := l.now()
	held, err := l.renew(ctx)
	switch {
	case err != nil: // the next try may do better, and until then the term runs
	case held:
		l.extend(began)
	default:
		l.lose()
	}
}

func (l *lease) extend(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = began.Add(l.term)
}

func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = !l.ended
}

// end says that the lock was given back: nobody having it is no loss.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// outlives says whether a request of this time-out may be started: a batch is sent only while the lease outlives it. A clock that
// was set, or a machine that slept, may make a lease look ended that can still be renewed.
func (l *lease) outlives(ctx context.Context, timeout time.Duration) error {
	if l.good(timeout) {
		return nil
	}
	if !l.lost() {
		l.prolong(ctx)
	}
	if l.good(timeout) {
		return nil
	}
	return diag.Errorf(diag.Locked, "sync.lease_lost", "the lock could not be renewed in time").WithHint("run again")
}

// good asks both clocks: the one that stands still while the machine sleeps, and the one that can be set.
func (l *lease) good(timeout time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.now().Add(timeout)
	return !l.gone && !end.After(l.until) && !end.Round(0).After(l.until.Round(0))
}

func (l *lease) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// renewed is when the lock was certainly this run's.
func (l *lease) renewed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.Add(-l.term)
}

func (l *lease) stop() { l.cancel(); l.wait.Wait() }
