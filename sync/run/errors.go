package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
)

// ErrorGroup is rejected rows with one code.
type ErrorGroup struct {
	Code        string     `json:"code"`
	Message     string     `json:"message"`            // one of them, without values
	Messages    int64      `json:"messages,omitempty"` // how many different ones, where there are several
	Operation   string     `json:"operation"`
	Reason      string     `json:"reason"` // rejected, not_found
	Rows        int64      `json:"rows"`
	Parked      int64      `json:"parked"`
	Attempts    int64      `json:"attempts"`    // most of one row, one a run
	ExampleKey  string     `json:"example_key"` // hash of a destination key; the row's primary key with --show-values
	FirstAt     time.Time  `json:"first_at"`
	LastAt      time.Time  `json:"last_at"`
	NextAttempt *time.Time `json:"next_attempt_at,omitempty"` // the first of those that are not parked
	Advice      string     `json:"advice"`
}

// Errors groups a sync's rejected rows by the vendor's code, most first.
func (s *Session) Errors(ctx context.Context, name string, showValues bool) ([]ErrorGroup, error) {
	if _, err := s.Syncs([]string{name}); err != nil {
		return nil, err
	}
	if err := s.findMoved(ctx); err != nil {
		return nil, err
	}
	out := []ErrorGroup{}
	there, err := s.Warehouse.Exists(ctx, s.ledger.Names.Retry(name))
	if err != nil || !there {
		return out, err
	}
	keys, out, err := s.errorGroups(ctx, name, "true")
	if err != nil {
		return nil, err
	}
	if showValues {
		if err := s.exampleKeys(ctx, name, keys, out); err != nil {
			return out, err
		}
	}
	refused, err := s.refused(ctx, name)
	return append(out, refused...), err
}

// errorGroups reads the rejected rows that fulfil a condition, with the hash of an example key of each group.
func (s *Session) errorGroups(ctx context.Context, name, where string) ([]string, []ErrorGroup, error) {
	d := s.Warehouse.Dialect()
	rows, err := s.Warehouse.Query(ctx, "SELECT coalesce(r.code, ''), coalesce(max(r.message), ''), count(DISTINCT r.message), r.operation, r.reason, count(*), count(CASE WHEN r.parked THEN 1 END), max(r.attempts), "+
		d.HashText("min(r.key_hash)")+", min(r.first_at), max(r.last_at), min(CASE WHEN NOT r.parked THEN r.next_attempt_at END) FROM "+
		d.Table(s.ledger.Names.Retry(name))+" r WHERE "+where+" GROUP BY 1, 4, 5 ORDER BY 6 DESC, 1, 4")
	if err != nil {
		return nil, nil, fmt.Errorf("reading the rejected rows of %s: %w", name, err)
	}
	defer rows.Close()
	var keys []string
	out := []ErrorGroup{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, nil, err
		}
		g := ErrorGroup{}
		g.Code, _ = v[0].(string)
		g.Message, _ = v[1].(string)
		if g.Messages, _ = v[2].(int64); g.Messages < 2 {
			g.Messages = 0
		}
		g.Operation, _ = v[3].(string)
		g.Reason, _ = v[4].(string)
		g.Rows, _ = v[5].(int64)
		g.Parked, _ = v[6].(int64)
		g.Attempts, _ = v[7].(int64)
		g.ExampleKey, _ = v[8].(string)
		g.FirstAt, _ = v[9].(time.Time)
		g.LastAt, _ = v[10].(time.Time)
		if next, ok := v[11].(time.Time); ok {
			g.NextAttempt = &next
		}
		g.Advice = advice(g)
		keys, out = append(keys, g.ExampleKey), append(out, g)
	}
	return keys, out, rows.Err()
}

// refused are the rows that the last run could not send at all, by reason.
func (s *Session) refused(ctx context.Context, name string) ([]ErrorGroup, error) {
	text, err := s.ledger.LastReport(ctx, name)
	if err != nil || text == "" {
		return nil, err
	}
	var last report.Run
	if err := json.Unmarshal([]byte(text), &last); err != nil {
		return nil, fmt.Errorf("reading the last run of %s: %w", name, err)
	}
	var out []ErrorGroup
	for _, reason := range slices.Sorted(maps.Keys(last.Refused)) {
		g := ErrorGroup{Code: reason, Operation: "add", Reason: "rejected", Rows: last.Refused[reason], FirstAt: last.StartedAt, LastAt: last.FinishedAt}
		switch reason {
		case "null_key":
			g.Message, g.Advice = "the row has no destination key", "fill the key in the source, leave such rows out with where, or say null_key: skip"
		case "duplicate_key":
			g.Message, g.Advice = "other rows have the same destination key", "make the key unique in the model, or say on_duplicate_key: {keep: first, order_by: …}"
		}
		out = append(out, g)
	}
	return out, nil
}

// exampleKeys finds the primary keys behind the hashes of the examples, in the deliveries.
func (s *Session) exampleKeys(ctx context.Context, name string, keys []string, groups []ErrorGroup) error {
	d := s.Warehouse.Dialect()
	for i, hash := range keys {
		rows, err := s.Warehouse.Query(ctx, fmt.Sprintf("SELECT primary_key FROM %s WHERE sync = %s AND key_hash = %s ORDER BY %s DESC LIMIT 1",
			d.Table(s.ledger.Names.Deliveries()), d.Text(name), d.Text(hash), d.Quote("at")))
		if err != nil {
			return err
		}
		if rows.Next() {
			if v, err := rows.Values(); err == nil {
				if key, ok := v[0].(string); ok {
					groups[i].ExampleKey = key
				}
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// advices are what a person can do, by what code and message say; the first that fits.
func advices() []struct{ words, advice string } {
	return []struct{ words, advice string }{
		{"property_doesnt_exist|does not exist|unknown field|unknown property|no such field", "create the field at the destination, or correct fields: in the sync"},
		{"401|unauthor|invalid_auth|token", "renew the credential: dray check tells whether it works"},
		{"403|forbidden|missing_scope|permission|not allowed", "give the credential the right to write this object, then dray retry"},
		{"409|conflict|already exists|duplicate", "another record has this identity there: merge or correct it, then dray retry"},
		{"413|too large|too long|max_length|exceeds", "the row is larger than the destination takes: map fewer or shorter fields"},
		{"suppress|unsubscrib|opted out|do_not", "the person asked not to be contacted: leave the row out with where"},
		{"email", "correct the address in the source; the row goes again when it changes"},
		{"phone", "correct the number in the source: E.164, such as +4512345678; the row goes again when it changes"},
		{"required|missing", "the destination needs a field that is empty or not mapped: fill or map it"},
		{"enum|invalid_option|not one of|allowed options", "the value is none that the destination knows: add it there, or map it to one"},
		{"invalid date|invalid_date|date format|timestamp", "correct the date in the source or convert it with sql: in fields"},
		{"type|format|invalid", "correct the values in the source; the rows go again when they change"},
	}
}

// advice is the next step for a group of rejected rows.
func advice(g ErrorGroup) string {
	if g.Reason == "not_found" {
		return "the record does not exist there; mode update does not create: use upsert, or wait, it is looked for daily"
	}
	text := strings.ToLower(g.Code + " " + g.Message)
	out := "correct the rows in the source: they go again when they change; or dray retry after a change at the destination"
	for _, a := range advices() {
		if slices.ContainsFunc(strings.Split(a.words, "|"), func(word string) bool { return strings.Contains(text, word) }) {
			out = a.advice
			break
		}
	}
	if g.Parked == g.Rows && !strings.Contains(out, "dray retry") {
		out += "; they are parked: dray retry makes them due without a change"
	}
	return out
}

// Retry makes a sync's rejected rows, waiting or parked, due in the next run, and counts their attempts from the beginning.
func (s *Session) Retry(ctx context.Context, name string) (int64, error) {
	if _, err := s.Syncs([]string{name}); err != nil {
		return 0, err
	}
	if err := s.findMoved(ctx); err != nil {
		return 0, err
	}
	t := s.ledger.Names.Retry(name)
	there, err := s.Warehouse.Exists(ctx, t)
	if err != nil || !there {
		return 0, err
	}
	d := s.Warehouse.Dialect()
	n, err := s.Warehouse.Exec(ctx, fmt.Sprintf("UPDATE %s SET next_attempt_at = CAST(%s AS %s), first_at = CAST(%[2]s AS %[3]s), attempts = 0, parked = false WHERE true", d.Table(t),
		d.Time(s.deps.now().Add(-time.Second)), d.Type(warehouse.Timestamp)))
	if err != nil {
		return 0, fmt.Errorf("freeing the rejected rows of %s: %w", name, err)
	}
	return n, nil
}
