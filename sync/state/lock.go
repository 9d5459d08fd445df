package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Held is who has a sync's lock.
type Held struct {
	RunID, Host string
	Since       time.Time
}

// Lock takes a sync's lock in a shared state, by a row with a lease and the server's clock (DESIGN §6.1): a session's lock would
// not survive a pool of connections, nor tell a dead holder from one that is cut off. It is taken where nobody has it, where the
// lease has ended, or where the holder is the run dead, of which the caller knows that it does not live. taken is false where
// another has it; by then says who.
func (s *State) Lock(ctx context.Context, schema, sync, run, host string, lease time.Duration, dead string) (taken bool, by Held, err error) {
	n, err := s.exec(ctx, `INSERT INTO {locks} AS l (schema, sync, run_id, host, since, until)
VALUES (?, ?, ?, ?, clock_timestamp(), clock_timestamp() + CAST(? AS DOUBLE PRECISION) * interval '1 second')
ON CONFLICT (schema, sync) DO UPDATE SET run_id = excluded.run_id, host = excluded.host, since = excluded.since, until = excluded.until
WHERE l.run_id IS NULL OR l.until < clock_timestamp() OR l.run_id = excluded.run_id OR l.run_id = ?`,
		s.scope(schema), sync, run, host, lease.Seconds(), dead)
	if err != nil {
		return false, by, s.wrap("writing", err)
	}
	if n > 0 {
		return true, Held{RunID: run, Host: host}, nil
	}
	by, err = s.Holder(ctx, schema, sync)
	return false, by, err
}

// Holder is who has a sync's lock in a shared state; no run id = nobody.
func (s *State) Holder(ctx context.Context, schema, sync string) (Held, error) {
	var by Held
	var run, host sql.NullString
	var since sql.NullTime
	err := s.row(ctx, "SELECT run_id, host, since FROM {locks} WHERE schema = ? AND sync = ?", s.scope(schema), sync).Scan(&run, &host, &since)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	by.RunID, by.Host, by.Since = run.String, host.String, since.Time.UTC()
	return by, s.wrap("reading", err)
}

// Renew prolongs the lease; held is false where another run has the lock, or nobody.
func (s *State) Renew(ctx context.Context, schema, sync, run string, lease time.Duration) (held bool, err error) {
	n, err := s.exec(ctx, "UPDATE {locks} SET until = clock_timestamp() + CAST(? AS DOUBLE PRECISION) * interval '1 second' WHERE schema = ? AND sync = ? AND run_id = ?",
		lease.Seconds(), s.scope(schema), sync, run)
	return n > 0, s.wrap("writing", err)
}

// Unlock frees the lock if the run still has it.
func (s *State) Unlock(ctx context.Context, schema, sync, run string) error {
	_, err := s.exec(ctx, "UPDATE {locks} SET run_id = NULL, until = NULL WHERE schema = ? AND sync = ? AND run_id = ?", s.scope(schema), sync, run)
	return s.wrap("writing", err)
}
