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

// Lease is how long a lock lasts unless it is renewed.
const Lease = 2 * time.Minute

// Lock takes the sync's one lock row with a single UPDATE, by the warehouse's clock, and reads it back (DESIGN §6.1). mine says
// that any earlier holder must be dead: the row names this state file whose OS lock we hold, or the engine lets one process in.
// A *diag.Error of kind Locked says who holds it and since when.
func (l *Ledger) Lock(ctx context.Context, sync string, h Holder, mine bool) error {
	d := l.W.Dialect()
	t := d.Table(l.Names.Lock(sync))
	until := d.AddSeconds(d.Now(), fmt.Sprint(int(Lease.Seconds())))
	free := fmt.Sprintf("run_id IS NULL OR until < %s OR run_id = %s", d.Now(), d.Text(h.RunID))
	if mine {
		free = "true"
	}
	_, err := l.W.Exec(ctx, fmt.Sprintf("UPDATE %s SET run_id = %s, holder = %s, host = %s, since = %s, until = %s WHERE %s",
		t, d.Text(h.RunID), d.Text(h.State), d.Text(h.Host), d.Now(), until, free))
	if err != nil {
		return fmt.Errorf("taking the lock of %s: %w", sync, err)
	}
	run, host, since, err := l.holder(ctx, t)
	if err != nil {
		return fmt.Errorf("reading the lock of %s: %w", sync, err)
	}
	if run != h.RunID {
		return diag.Errorf(diag.Locked, "sync.locked", "%s is locked by run %s on %s since %s", sync, run, host, since.Format(time.RFC3339)).
			WithHint("wait until it ends; a run that died gives the lock up when its lease ends")
	}
	return nil
}

// Renew prolongs the lease; held is false where another run has the lock.
func (l *Ledger) Renew(ctx context.Context, sync string, h Holder) (held bool, err error) {
	d := l.W.Dialect()
	t := d.Table(l.Names.Lock(sync))
	if _, err := l.W.Exec(ctx, fmt.Sprintf("UPDATE %s SET until = %s WHERE run_id = %s", t,
		d.AddSeconds(d.Now(), fmt.Sprint(int(Lease.Seconds()))), d.Text(h.RunID))); err != nil {
		return false, fmt.Errorf("renewing the lock of %s: %w", sync, err)
	}
	run, _, _, err := l.holder(ctx, t)
	return run == h.RunID, err
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

func (l *Ledger) holder(ctx context.Context, table string) (run, host string, since time.Time, err error) {
	d := l.W.Dialect()
	rows, err := l.W.Query(ctx, "SELECT run_id, host, "+d.Wire("since", warehouse.Column{Type: d.Type(warehouse.Timestamp), Kind: warehouse.Timestamp})+" FROM "+table)
	if err != nil {
		return "", "", time.Time{}, err
	}
	defer rows.Close()
	if rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return "", "", time.Time{}, err
		}
		run, _ = v[0].(string)
		host, _ = v[1].(string)
		since, _ = v[2].(time.Time)
	}
	return run, host, since, rows.Err()
}
