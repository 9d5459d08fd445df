package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
)

// rekey joins a row that came and a row that left into one change of key, where the same primary key had them and the record
// is known by its id (DESIGN §5). That no row claims the old key and no record the new one is given: neither met a partner.
func (c *Changes) rekey(ctx context.Context, w Querier, o Options, found check) error {
	l := c.Layout
	came := c.Count(func(g Group) bool { return g.Operation == destination.OpAdd && g.State == Send })
	left := c.Count(func(g Group) bool { return !g.FromModel })
	if came == 0 || left == 0 || o.Backfill != nil {
		return nil
	}
	t := l.Dialect.Table(l.Plan)
	pairs, err := l.rekeyPairs(ctx, w, o)
	if err != nil {
		return err
	}
	err = w.Atomic(ctx,
		fmt.Sprintf("UPDATE %s AS p SET operation = 'rekey', old_dest_key = s.dest_key, remote_id = s.record, origin = s.origin, theirs = s.theirs, was_uncertain = s.uncertain_until, matched = true, first_failed_at = NULL%s FROM %s s WHERE p.key_hash = s.new_hash AND p.operation = 'add'",
			t, l.rekeyed(), pairs),
		fmt.Sprintf("DELETE FROM %s WHERE NOT from_model AND dest_key IN (SELECT old_dest_key FROM %[1]s WHERE operation = 'rekey')", t))
	if err != nil {
		return err
	}
	return c.again(ctx, w, o)
}

// rekeyed makes of an added row's values those of an update: what takes effect, its hash, and which fields differ.
func (l *Layout) rekeyed() string {
	d := l.Dialect
	var set strings.Builder
	hashed, mask := []string{"p.dest_key"}, []string{"''"}
	for i, c := range l.Fields {
		value := "(" + l.effectiveOf(i, "p", "true") + ")"
		set.WriteString(", " + d.Quote(c.Column) + " = " + value)
		if l.hashed(i) {
			hashed = append(hashed, l.comparable(value, c))
		}
		mask = append(mask, l.differs(i, value, nil))
	}
	if l.special() {
		set.WriteString(", " + l.hash() + " = " + d.Hash(hashed...))
	}
	return set.String() + ", changed = CASE WHEN s.hash >= 0 THEN " + strings.Join(mask, " || ") + " END"
}

// Follow is the statement by which the snapshot learns the primary keys of the rows that are otherwise the same.
func (c *Changes) Follow() string {
	d := c.Layout.Dialect
	return fmt.Sprintf("UPDATE %s AS s SET primary_key = p.primary_key FROM %s p WHERE p.state = '%s' AND s.dest_key = p.dest_key",
		d.Table(c.Layout.Names.Snapshot(c.Layout.Sync.Name)), d.Table(c.Layout.Plan), Same)
}

// mergeSteps is over how many merges, one after the other, a profile is followed between two runs of a sync.
const mergeSteps = 4

// rekeyPairs is a FROM item of the snapshot's rows that get another key: its columns, new_hash of the row that came, and record.
//
// A profile that was merged into another goes on under that one's id, so its record may take the other's key; where the other has a
// record of its own, that one does. Of a profile that was split since the last run it is not known which part its record belongs to:
// such a record takes nobody's key.
func (l *Layout) rekeyPairs(ctx context.Context, w Querier, o Options) (string, error) {
	d := l.Dialect
	t := d.Table(l.Plan)
	same := ""
	if l.Sync.Object.MembersByID { // a member moves only where both keys name the same record
		same = " AND a.remote_id = g.remote_id"
	}
	left := "SELECT primary_key, 1 AS own, dest_key, remote_id FROM " + t + " WHERE NOT from_model AND state <> 'pending' AND remote_id IS NOT NULL"
	whole := ""
	moves, err := l.moves(ctx, w)
	if err != nil {
		return "", err
	}
	if moves != "" {
		ids, joins := "", ""
		for i := mergeSteps; i >= 1; i-- {
			ids += fmt.Sprintf("m%d.into_id, ", i)
		}
		for i, from := 1, "x.primary_key"; i <= mergeSteps; i++ {
			joins += fmt.Sprintf(" LEFT JOIN (SELECT from_id, into_id FROM %s v WHERE rule = 'merge') m%d ON m%[2]d.from_id = %s", moves, i, from)
			from = fmt.Sprintf("m%d.into_id", i)
		}
		left = fmt.Sprintf("SELECT coalesce(%sx.primary_key) AS primary_key, CASE WHEN m1.into_id IS NULL THEN 1 ELSE 0 END AS own, x.dest_key, x.remote_id FROM (%s) x%s",
			ids, left, joins)
		since := ""
		if !o.LastRun.IsZero() {
			since = " AND v." + d.Quote("at") + " > " + d.Time(o.LastRun)
		}
		whole = fmt.Sprintf(" WHERE NOT EXISTS (SELECT 1 FROM %s v WHERE v.rule = 'split' AND v.from_id = s.primary_key%s)", moves, since)
	}
	// Of a profile's records its own comes first; of several of the same standing none is chosen.
	left = fmt.Sprintf(`SELECT primary_key, CASE WHEN sum(own) = 1 THEN min(CASE WHEN own = 1 THEN dest_key END) ELSE min(dest_key) END AS dest_key,
CASE WHEN sum(own) = 1 THEN min(CASE WHEN own = 1 THEN remote_id END) ELSE min(remote_id) END AS remote_id
FROM (%s) y GROUP BY primary_key HAVING sum(own) = 1 OR count(*) = 1`, left)
	return fmt.Sprintf(`(SELECT s.*, a.key_hash AS new_hash, g.remote_id AS record FROM
(SELECT primary_key, min(key_hash) AS key_hash, min(remote_id) AS remote_id FROM %s WHERE operation = 'add' AND state = 'send' GROUP BY primary_key HAVING count(*) = 1) a
JOIN (%s) g ON a.primary_key = g.primary_key%s
JOIN %s s ON s.dest_key = g.dest_key%s)`, t, left, same, l.snapshotFrom(o.Standing, o.Now), whole), nil
}

// moves is a FROM item of the merges and splits of the profiles that a sync's rows are; "" = its rows are no profiles, or none ever moved.
func (l *Layout) moves(ctx context.Context, w Querier) (string, error) {
	var parts []string
	for _, t := range l.Sync.Moves {
		there, err := w.Exists(ctx, t)
		if err != nil {
			return "", err
		}
		if there {
			parts = append(parts, "SELECT from_id, into_id, rule, "+l.Dialect.Quote("at")+" FROM "+l.Dialect.Table(t))
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	return "(" + strings.Join(parts, " UNION ALL ") + ")", nil
}

// moved keeps members in a list that are still meant to be there under another key. A member is written by its record's id, so
// two keys can name one member, and a remove planned for one of them would take the other's away: where the snapshot has the
// record under another key it is only forgotten, where a row yet to be added has it the remove waits for that row's outcome.
func (c *Changes) moved(ctx context.Context, w Querier, o Options) error {
	l := c.Layout
	if c.Count(func(g Group) bool { return g.Operation == destination.OpRemove && g.State == Send }) == 0 {
		return nil
	}
	t := l.Dialect.Table(l.Plan)
	leaving := "operation = 'remove' AND state = 'send' AND remote_id IS NOT NULL"
	err := w.Atomic(ctx,
		fmt.Sprintf("UPDATE %s SET operation = '%s', reason = 'moved' WHERE %s AND remote_id IN (SELECT s.remote_id FROM %s s LEFT JOIN %[1]s p ON p.dest_key = s.dest_key AND NOT p.from_model WHERE s.remote_id IS NOT NULL AND p.dest_key IS NULL)",
			t, Forget, leaving, l.snapshotFrom(o.Standing, o.Now)),
		fmt.Sprintf("UPDATE %s SET state = '%s', reason = 'moved' WHERE %s AND remote_id IN (SELECT remote_id FROM %[1]s WHERE operation = 'add' AND remote_id IS NOT NULL)",
			t, Deferred, leaving))
	if err != nil {
		return err
	}
	return c.again(ctx, w, o)
}

// Leaving tells which of these records the plan removes: a member that is added under another key in the same run must wait, or
// the remove could come last.
func (c *Changes) Leaving(ctx context.Context, w Querier, ids []string) (map[string]bool, error) {
	l, d := c.Layout, c.Layout.Dialect
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = d.Text(id)
	}
	among := " WHERE remote_id IN (" + strings.Join(quoted, ", ") + ") AND operation = 'remove' AND "
	query := "SELECT remote_id FROM " + d.Table(l.Plan) + among + "state = 'send'"
	if l.Sync.Spec.Async != nil { // a remove that the vendor has and has not told about
		query += " UNION ALL SELECT remote_id FROM " + d.Table(l.Names.Pending(l.Sync.Name)) + among + "job IS NOT NULL"
	}
	rows, err := w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if id, ok := v[0].(string); ok {
			out[id] = true
		}
	}
	return out, rows.Err()
}
