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
	whole := "0"
	if o.Backfill != nil && o.Backfill.Removes {
		whole = "(SELECT count(*) FROM " + l.rows() + ")"
	}
	table := d.Table(l.Plan)
	query := fmt.Sprintf(`SELECT operation, state, coalesce(reason, ''), %[7]s AS known, was_uncertain IS NOT NULL AS unc, from_model, coalesce(matched, false) AS matched, count(*) AS n FROM %[1]s GROUP BY 1, 2, 3, 4, 5, 6, 7
UNION ALL SELECT '#', '', '', false, false, false, false, %[2]s
UNION ALL SELECT '#s', '', '', false, false, false, false, %[3]s
UNION ALL SELECT '#m', '', '', false, false, false, false, %[9]s
UNION ALL SELECT '#h', '', '', false, false, false, false, (SELECT %[4]s FROM %[5]s)
UNION ALL SELECT '#d', '', '', false, false, false, false, (SELECT count(*) - count(DISTINCT key_hash) FROM %[1]s WHERE dest_key IS NOT NULL AND coalesce(reason, '') <> 'duplicate_key')
UNION ALL SELECT '#o', '', '', false, false, false, false, (SELECT count(*) FROM %[1]s WHERE changed = '%[6]s')
UNION ALL SELECT '#x', '', '', false, false, false, false, %[8]s
UNION ALL SELECT '#c', '', '', false, false, false, false, (SELECT count(*) FROM %[1]s WHERE state = 'collided')`,
		table, c.modelRows(o), snapshot, d.Highest(), table, owedMark, Known, c.controlRows(o), whole)
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
		case "#m":
			c.Model = n
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
			if g.State == Same {
				c.Same += n
				continue
			}
			c.Groups = append(c.Groups, g)
		}
	}
	return found, rows.Err()
}

// Known is the condition on plan_<sync> of differences between the model and known acknowledged values, which max_changes counts:
// not what is uncertain, what was refused before and comes again as it was, or what is only sent again for its age (DESIGN §7).
const Known = "operation = 'update' AND state <> '" + Same + "' AND coalesce(matched, false) AND was_uncertain IS NULL AND attempts IS NULL AND coalesce(reason, '') <> '" + Refresh + "'"

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

// again counts a plan that was changed after it was counted.
func (c *Changes) again(ctx context.Context, w Querier, o Options) error {
	c.Groups, c.Rows, c.Same = nil, 0, 0
	_, err := c.count(ctx, w, o)
	return err
}
