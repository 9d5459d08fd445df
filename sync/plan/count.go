package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// check is what the counting statement finds beside the groups.
type check struct {
	collisions int64 // rows joined by hash whose keys differ, or planned rows of different keys with one hash
	doubled    int64 // planned rows of the model that share their key with another
}

// count reads the plan's groups and the two row counts in one statement.
func (c *Changes) count(ctx context.Context, w Querier, o Options) (check, error) {
	l := c.Layout
	d := l.Dialect
	snapshot := "0"
	if o.Standing.Exists {
		snapshot = "(SELECT count(*) FROM " + d.Table(l.Names.Snapshot(l.Sync.Name)) + ")"
	}
	table := d.Table(l.Plan)
	query := fmt.Sprintf(`SELECT operation, state, coalesce(reason, ''), %[7]s AS known, was_uncertain IS NOT NULL AS unc, from_model, coalesce(matched, false) AS matched, count(*) AS n FROM %[1]s GROUP BY 1, 2, 3, 4, 5, 6, 7
UNION ALL SELECT '#', '', '', false, false, false, false, %[2]s
UNION ALL SELECT '#s', '', '', false, false, false, false, %[3]s
UNION ALL SELECT '#h', '', '', false, false, false, false, (SELECT %[4]s FROM %[5]s)
UNION ALL SELECT '#d', '', '', false, false, false, false, (SELECT count(*) - count(DISTINCT key_hash) FROM %[1]s WHERE dest_key IS NOT NULL AND coalesce(reason, '') <> 'duplicate_key')
UNION ALL SELECT '#o', '', '', false, false, false, false, (SELECT count(*) FROM %[1]s WHERE changed = '%[6]s')
UNION ALL SELECT '#x', '', '', false, false, false, false, %[8]s
UNION ALL SELECT '#c', '', '', false, false, false, false, (SELECT count(*) FROM %[1]s WHERE state = 'collided')`,
		table, c.modelRows(o), snapshot, d.Highest(), table, owedMark, Known, c.controlRows(o))
	rows, err := w.Query(ctx, query)
	if err != nil {
		return check{}, err
	}
	defer rows.Close()
	var found check
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return check{}, err
		}
		n, _ := v[7].(int64)
		switch op, _ := v[0].(string); op {
		case "#":
			c.Rows += n
		case "#s":
			c.Snapshot = n
		case "#o":
			c.Rows += n
		case "#x":
			c.Rows += n
			c.HeldOut = n
		case "#h":
			c.Highest = n
		case "#d":
			found.doubled = n
		case "#c":
			found.collisions = n
		default:
			g := Group{Operation: destination.Operation(op), Rows: n}
			g.State, _ = v[1].(string)
			g.Reason, _ = v[2].(string)
			g.Known, _ = v[3].(bool)
			g.Uncertain, _ = v[4].(bool)
			g.FromModel, _ = v[5].(bool)
			g.Matched, _ = v[6].(bool)
			c.Groups = append(c.Groups, g)
		}
	}
	return found, rows.Err()
}

// Known is the condition on plan_<sync> of differences between the model and known acknowledged values, which max_changes counts:
// not what is uncertain, what was refused before and comes again as it was, or what is only sent again for its age (DESIGN §7).
const Known = "operation = 'update' AND acknowledged AND was_uncertain IS NULL AND attempts IS NULL AND coalesce(reason, '') <> '" + Refresh + "'"

// owedMark stands in the column changed of an insert that is owed although its row left the model.
const owedMark = "owed"

// controlRows counts the control group; a backfill does not look at it.
func (c *Changes) controlRows(o Options) string {
	if c.Layout.Sync.HeldOut == "" || o.Backfill != nil {
		return "0"
	}
	return "(SELECT count(*) FROM (" + c.Layout.Sync.Input + ") src WHERE " + c.Layout.Sync.HeldOut + ")"
}

// modelRows counts the sync's rows that may be sent on their own; of a backfill those it picks, in insert mode also those owed that left.
func (c *Changes) modelRows(o Options) string {
	l := c.Layout
	if o.Backfill == nil {
		return "(SELECT count(*) FROM " + l.rows() + ")"
	}
	count := "(SELECT count(*) FROM (SELECT " + l.picked(o.Backfill) + " AS picked FROM " + l.rows() + ") k WHERE k.picked)"
	if l.Sync.Mode == destination.Insert && !o.Backfill.Resend { // rows that were sent are none of its business
		count = "(SELECT count(*) FROM " + l.Dialect.Table(l.Plan) + " WHERE from_model)"
	}
	return count
}

// duplicates stops a run whose rows do not have a key of their own. With M rows in the model and S in the snapshot no key is
// doubled among the matched ones exactly when M − adds = S − those that left; the planned ones were grouped by the counting
// statement. Only when one of the two fails is the model searched, for the numbers to show.
func (c *Changes) duplicates(ctx context.Context, w Querier, found check, o Options) error {
	l := c.Layout
	suspicious := found.doubled > 0
	if !l.dedupes() && l.Sync.Mode != destination.Insert && o.Backfill == nil {
		adds := c.Count(func(g Group) bool { return g.FromModel && !g.Matched })
		left := c.Count(func(g Group) bool { return !g.FromModel })
		suspicious = suspicious || c.Rows-c.HeldOut-adds != c.Snapshot-left
	}
	if !suspicious {
		return nil
	}
	err := l.Unique(ctx, w)
	if err == nil && found.doubled > 0 {
		return errCollision
	}
	return err
}

// Unique fails where rows of the model share a key that on_duplicate_key does not tell apart, with their numbers.
func (l *Layout) Unique(ctx context.Context, w Querier) error {
	if l.dedupes() {
		return nil
	}
	keys, rows, err := l.search(ctx, w)
	if err != nil || keys == 0 {
		return err
	}
	what := "destination key " + keyNames(l.SentKeys())
	if l.Sync.Mode == destination.Insert {
		what = "event id " + strings.Join(l.Sync.EventID, ", ")
	}
	stand := fmt.Sprintf("%d keys stand", keys)
	if keys == 1 {
		stand = "1 key stands"
	}
	e := diag.At(l.Sync.Config.At("key"), "sync.duplicate_key", "%s: the %s is not unique: %s in %d rows; nothing was sent",
		l.Sync.Name, what, stand, rows)
	if l.Sync.Mode == destination.Insert {
		return e.WithHint("every row needs an event id of its own: set event.id, or correct the model's primary_key")
	}
	return e.WithHint("correct the model, or say on_duplicate_key: reject or {keep: first, order_by: …}")
}

func keyNames(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// search counts the keys that stand in several rows of the model, and those rows.
func (l *Layout) search(ctx context.Context, w Querier) (keys, rows int64, err error) {
	query := "SELECT count(*), " + l.Dialect.Cast("coalesce(sum(n), 0)", warehouse.Int) + " FROM (SELECT dest_key, count(*) AS n FROM (" + l.mapped(nil) +
		") m WHERE dest_key IS NOT NULL GROUP BY dest_key HAVING count(*) > 1) g"
	found, err := w.Query(ctx, query)
	if err != nil {
		return 0, 0, err
	}
	defer found.Close()
	if found.Next() {
		v, err := found.Values()
		if err != nil {
			return 0, 0, err
		}
		keys, _ = v[0].(int64)
		rows, _ = v[1].(int64)
	}
	return keys, rows, found.Err()
}

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
	same := ""
	if l.Sync.Object.MembersByID { // a member moves only where both keys name the same record
		same = " AND a.remote_id = g.remote_id"
	}
	pairs := fmt.Sprintf(`(SELECT s.*, a.key_hash AS new_hash, g.remote_id AS record FROM
(SELECT primary_key, min(key_hash) AS key_hash, min(remote_id) AS remote_id FROM %[1]s WHERE operation = 'add' AND state = 'send' GROUP BY primary_key HAVING count(*) = 1) a
JOIN (SELECT primary_key, min(dest_key) AS dest_key, min(remote_id) AS remote_id FROM %[1]s WHERE NOT from_model AND state <> 'pending' AND remote_id IS NOT NULL GROUP BY primary_key HAVING count(*) = 1) g
ON a.primary_key = g.primary_key%[2]s
JOIN %[3]s s ON s.dest_key = g.dest_key)`, t, same, l.snapshotFrom(o.Standing, o.Now))
	err := w.Atomic(ctx,
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

// again counts a plan that was changed after it was counted.
func (c *Changes) again(ctx context.Context, w Querier, o Options) error {
	c.Groups, c.Rows = nil, 0
	_, err := c.count(ctx, w, o)
	return err
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
