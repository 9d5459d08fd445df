package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"
)

// Scheduled is what the control state keeps of a sync's schedule.
type Scheduled struct {
	DueAt    time.Time // when it was last due; zero = never
	PausedAt time.Time // zero = it is not paused
	Note     string    // why the last due time came to no run; "" = it did
}

// Schedules reads what is kept, by sync.
func (s *State) Schedules(ctx context.Context, schema string) (map[string]Scheduled, error) {
	rows, err := s.query(ctx, "SELECT sync, coalesce(due_at, 0), coalesce(paused_at, 0), coalesce(note, '') FROM {schedule} WHERE schema = ?", s.scope(schema))
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	defer rows.Close()
	out := map[string]Scheduled{}
	for rows.Next() {
		var sync, note string
		var due, paused int64
		if err := rows.Scan(&sync, &due, &paused, &note); err != nil {
			return nil, s.wrap("reading", err)
		}
		out[sync] = Scheduled{DueAt: micros(due), PausedAt: micros(paused), Note: note}
	}
	return out, s.wrap("reading", rows.Err())
}

// Scheduled reads one sync's.
func (s *State) Scheduled(ctx context.Context, schema, sync string) (Scheduled, error) {
	var due, paused int64
	var out Scheduled
	err := s.row(ctx, "SELECT coalesce(due_at, 0), coalesce(paused_at, 0), coalesce(note, '') FROM {schedule} WHERE schema = ? AND sync = ?", s.scope(schema), sync).
		Scan(&due, &paused, &out.Note)
	if errors.Is(err, sql.ErrNoRows) {
		return out, nil
	}
	out.DueAt, out.PausedAt = micros(due), micros(paused)
	return out, s.wrap("reading", err)
}

func micros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Pause keeps serve from starting syncs. One that is paused already keeps its time.
func (s *State) Pause(ctx context.Context, schema string, syncs []string, at time.Time) error {
	return s.each(ctx, syncs, func(sync string) error {
		_, err := s.exec(ctx, "INSERT INTO {schedule} AS s (schema, sync, paused_at) VALUES (?, ?, ?) ON CONFLICT (schema, sync) DO UPDATE SET paused_at = coalesce(s.paused_at, excluded.paused_at)",
			s.scope(schema), sync, microsOf(at))
		return err
	})
}

// Resume lets serve start them again, from the next time they are due.
func (s *State) Resume(ctx context.Context, schema string, syncs []string, at time.Time) error {
	return s.each(ctx, syncs, func(sync string) error {
		_, err := s.exec(ctx, "UPDATE {schedule} SET paused_at = NULL, due_at = ? WHERE schema = ? AND sync = ? AND paused_at IS NOT NULL", microsOf(at), s.scope(schema), sync)
		return err
	})
}

func (s *State) each(ctx context.Context, syncs []string, do func(sync string) error) error {
	for _, sync := range syncs {
		if err := do(sync); err != nil {
			return s.wrap("writing", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Note keeps why a due time came to no run; "" = it did.
func (s *State) Note(ctx context.Context, schema, sync, note string) error {
	_, err := s.exec(ctx, "UPDATE {schedule} SET note = ? WHERE schema = ? AND sync = ? AND coalesce(note, '') <> ?", note, s.scope(schema), sync, note)
	return s.wrap("writing", err)
}

// ClaimSQL is the statement by which a process takes on due times that no other took: it gives back the syncs that are this
// process's to start. Its arguments are those of Claim.
func (s *State) ClaimSQL() string {
	return s.sql(`INSERT INTO {schedule} AS s (schema, sync, due_at) SELECT CAST(? AS TEXT), ` + s.eachOf("?", "s", "d") + ` WHERE true
ON CONFLICT (schema, sync) DO UPDATE SET due_at = excluded.due_at WHERE coalesce(s.due_at, 0) < excluded.due_at
RETURNING sync`)
}

// Take writes down due times that this process took, where no other does.
func (s *State) Take(ctx context.Context, schema string, dues map[string]time.Time) error {
	args, err := s.ClaimArgs(schema, dues)
	if err == nil {
		_, err = s.db.ExecContext(ctx, s.ClaimSQL(), args...)
	}
	return s.wrap("writing", err)
}

// ClaimArgs are its arguments: the due times of syncs.
func (s *State) ClaimArgs(schema string, dues map[string]time.Time) ([]any, error) {
	type item struct {
		S string `json:"s"`
		D int64  `json:"d"`
	}
	list := make([]item, 0, len(dues))
	for sync, due := range dues {
		list = append(list, item{sync, due.UnixMicro()})
	}
	text, err := json.Marshal(list)
	return []any{s.scope(schema), string(text)}, err
}

// eachOf selects a text and a whole number from each object of a JSON list.
func (s *State) eachOf(list, text, number string) string {
	if s.pool != nil {
		return "v ->> '" + text + "', CAST(v ->> '" + number + "' AS BIGINT) FROM jsonb_array_elements(CAST(" + list + " AS JSONB)) v"
	}
	return "value ->> '" + text + "', CAST(value ->> '" + number + "' AS INTEGER) FROM json_each(" + list + ")"
}

// inList holds for a column whose value is in a JSON list of texts.
func (s *State) inList(column string) string {
	if s.pool != nil {
		return column + " IN (SELECT jsonb_array_elements_text(CAST(? AS JSONB)))"
	}
	return column + " IN (SELECT value FROM json_each(?))"
}

// Begun writes down from when on syncs without a due time are followed, so that what was due before they were is not caught up.
func (s *State) Begun(ctx context.Context, schema string, syncs []string, at time.Time) error {
	if len(syncs) == 0 {
		return nil
	}
	dues := map[string]time.Time{}
	for _, sync := range syncs {
		dues[sync] = at
	}
	args, err := s.ClaimArgs(schema, dues)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO {schedule} AS s (schema, sync, due_at) SELECT CAST(? AS TEXT), `+s.eachOf("?", "s", "d")+` WHERE true
ON CONFLICT (schema, sync) DO UPDATE SET due_at = excluded.due_at WHERE s.due_at IS NULL`, args...)
	return s.wrap("writing", err)
}

// Unfollow forgets when syncs were due: they are off, and what they would have missed is not caught up.
func (s *State) Unfollow(ctx context.Context, schema string, syncs []string) error {
	if len(syncs) == 0 {
		return nil
	}
	list, err := json.Marshal(syncs)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, "UPDATE {schedule} SET due_at = NULL WHERE schema = ? AND "+s.inList("sync")+" AND due_at IS NOT NULL", s.scope(schema), string(list))
	return s.wrap("writing", err)
}

func (s *State) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return s.db.QueryContext(ctx, s.sql(q), args...)
}

// Ended is when a sync's runs last ended with one status.
type Ended struct {
	Status             string // "" = not ended: killed, or under way
	StartedAt, EndedAt time.Time
}

// Ends reads, for each of the syncs, the latest run of each status.
func (s *State) Ends(ctx context.Context, schema string, syncs []string) (map[string][]Ended, error) {
	list, err := json.Marshal(syncs)
	if err != nil {
		return nil, err
	}
	rows, err := s.query(ctx, "SELECT sync, coalesce(status, ''), max(started_at), coalesce(max(finished_at), '') FROM {runs} WHERE schema = ? AND "+s.inList("sync")+" GROUP BY 1, 2", s.scope(schema), string(list))
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	defer rows.Close()
	out := map[string][]Ended{}
	for rows.Next() {
		var e Ended
		var sync, started, ended string
		if err := rows.Scan(&sync, &e.Status, &started, &ended); err != nil {
			return nil, s.wrap("reading", err)
		}
		e.StartedAt, _ = time.Parse(time.RFC3339Nano, started)
		e.EndedAt, _ = time.Parse(time.RFC3339Nano, ended)
		out[sync] = append(out[sync], e)
	}
	return out, s.wrap("reading", rows.Err())
}

// Alert is what one destination was last told of one sync.
type Alert struct {
	To, Sync string
	States   []string  // those it was told of; none = all is well
	Since    time.Time // when they were first met
}

// Alerts reads what was told.
func (s *State) Alerts(ctx context.Context, schema string) ([]Alert, error) {
	rows, err := s.query(ctx, "SELECT destination, sync, states, since FROM {alerts} WHERE schema = ?", s.scope(schema))
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	defer rows.Close()
	var out []Alert
	for rows.Next() {
		var a Alert
		var states string
		var since int64
		if err := rows.Scan(&a.To, &a.Sync, &states, &since); err != nil {
			return nil, s.wrap("reading", err)
		}
		if err := json.Unmarshal([]byte(states), &a.States); err != nil {
			return nil, s.wrap("reading", err)
		}
		a.Since = micros(since)
		out = append(out, a)
	}
	return out, s.wrap("reading", rows.Err())
}

// Told writes down what a destination was told, in place of what it was told before. It says whether this call changed it: of
// several processes one may tell it.
func (s *State) Told(ctx context.Context, schema string, a, before Alert) (bool, error) {
	states, err := json.Marshal(a.States)
	if err != nil {
		return false, err
	}
	old, err := json.Marshal(before.States)
	if err != nil {
		return false, err
	}
	n, err := s.exec(ctx, `INSERT INTO {alerts} AS a (schema, destination, sync, states, since) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (schema, destination, sync) DO UPDATE SET states = excluded.states, since = excluded.since WHERE a.states = ?`,
		s.scope(schema), a.To, a.Sync, string(states), microsOf(a.Since), string(old))
	return n > 0, s.wrap("writing", err)
}

// Lives says, in a shared state, that a worker lives now; workers that have not said so for a day are forgotten.
func (s *State) Lives(ctx context.Context, worker, host string) error {
	_, err := s.exec(ctx, "INSERT INTO {workers} (id, host, seen_at) VALUES (?, ?, clock_timestamp()) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at", worker, host)
	if err == nil {
		_, err = s.exec(ctx, "DELETE FROM {workers} WHERE seen_at < clock_timestamp() - interval '1 day'")
	}
	return s.wrap("writing", err)
}
