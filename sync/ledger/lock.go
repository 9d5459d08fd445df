package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Holder is who takes a lock.
type Holder struct{ RunID, State, Host string }

// Held is who has a lock; no run id = nobody.
type Held struct {
	RunID, Host string
	Since       time.Time
}

// Lock takes the sync's one lock row with a single UPDATE, by the warehouse's clock, and reads it back (DESIGN §6.1). mine says
// that any earlier holder must be dead, for the engine lets one process in; alone that any of this holder's state file is, for
// this process has that file's OS lock. A *diag.Error of kind Locked says who holds it and since when.
func (l *Ledger) Lock(ctx context.Context, sync string, h Holder, mine, alone bool) error {
	d := l.W.Dialect()
	t := d.Table(l.Names.Lock(sync))
	free := fmt.Sprintf("run_id IS NULL OR until < %s OR run_id = %s", d.Now(), d.Text(h.RunID))
	if alone {
		free += " OR holder = " + d.Text(h.State)
	}
	if mine {
		free = "true"
	}
	_, err := l.W.Exec(ctx, fmt.Sprintf("UPDATE %s SET run_id = %s, holder = %s, host = %s, since = %s, until = %s WHERE %s",
		t, d.Text(h.RunID), d.Text(h.State), d.Text(h.Host), d.Now(), l.until(), free))
	if err != nil {
		return fmt.Errorf("taking the lock of %s: %w", sync, err)
	}
	held, err := l.Holder(ctx, sync)
	if err != nil {
		return err
	}
	if held.RunID != h.RunID {
		return Locked(sync, held)
	}
	return nil
}

// Locked is the error of a sync that another run has.
func Locked(sync string, by Held) error {
	return diag.Errorf(diag.Locked, "sync.locked", "%s is locked by run %s on %s since %s", sync, by.RunID, by.Host, by.Since.Format(time.RFC3339)).
		WithHint("wait until it ends; a run that died gives the lock up when its lease ends")
}

func (l *Ledger) until() string {
	d := l.W.Dialect()
	return d.AddSeconds(d.Now(), fmt.Sprint(int(d.Lease().Seconds())))
}

// FenceSQL begins a transaction of a run: it renews the run's lock row, or fails where another has it. As it writes the row, no
// other can take it before the transaction ends.
func (l *Ledger) FenceSQL(sync string, h Holder) string {
	d := l.W.Dialect()
	// The text depends on the row, so that no engine computes it, and fails, before it is needed.
	return fmt.Sprintf("UPDATE %s SET until = CASE WHEN run_id = %s THEN %s ELSE CAST('the lock is of run ' || coalesce(run_id, 'none') AS %s) END WHERE true",
		d.Table(l.Names.Lock(sync)), d.Text(h.RunID), l.until(), d.Type(warehouse.Timestamp))
}

// Renew prolongs the lease; held is false where another run has the lock.
func (l *Ledger) Renew(ctx context.Context, sync string, h Holder) (held bool, err error) {
	d := l.W.Dialect()
	t := d.Table(l.Names.Lock(sync))
	if _, err := l.W.Exec(ctx, fmt.Sprintf("UPDATE %s SET until = %s WHERE run_id = %s", t,
		l.until(), d.Text(h.RunID))); err != nil {
		return false, fmt.Errorf("renewing the lock of %s: %w", sync, err)
	}
	by, err := l.Holder(ctx, sync)
	return by.RunID == h.RunID, err
}

// UnlockSQL frees the lock if this run still has it; part of the closing transaction.
func (l *Ledger) UnlockSQL(sync string, h Holder) string {
	d := l.W.Dialect()
	return "UPDATE " + d.Table(l.Names.Lock(sync)) + " SET run_id = NULL, until = NULL WHERE run_id = " + d.Text(h.RunID)
}

// Unlock frees the lock.
func (l *Ledger) Unlock(ctx context.Context, sync string, h Holder) error {
	_, err := l.W.Exec(ctx, l.UnlockSQL(sync, h))
	return err
}

// Holder reads who has a sync's lock.
func (l *Ledger) Holder(ctx context.Context, sync string) (Held, error) {
	var by Held
	d := l.W.Dialect()
	rows, err := l.W.Query(ctx, "SELECT run_id, host, "+d.Wire("since", warehouse.Column{Type: d.Type(warehouse.Timestamp), Kind: warehouse.Timestamp})+" FROM "+d.Table(l.Names.Lock(sync)))
	if err != nil {
		return by, fmt.Errorf("reading the lock of %s: %w", sync, err)
	}
	defer rows.Close()
	if rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return by, fmt.Errorf("reading the lock of %s: %w", sync, err)
		}
		by.RunID, _ = v[0].(string)
		by.Host, _ = v[1].(string)
		by.Since, _ = v[2].(time.Time)
	}
	return by, rows.Err()
}
