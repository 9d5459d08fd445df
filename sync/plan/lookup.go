package plan

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Row is one row as the sync, the snapshot and the plan have it.
type Row struct {
	PrimaryKey, DestKey string
	KeyHash             string
	Now, Acknowledged   map[string]any // by field; nil where the row is not there
	Operation           string         // planned; "" = nothing
	State, Reason       string
	RemoteID, Origin    string
	AcknowledgedAt      *time.Time
	UncertainUntil      *time.Time
}

// Lookup finds rows by primary or destination key, as text. Values are read: it is for who asked for this very row.
func (c *Changes) Lookup(ctx context.Context, w Querier, o Options, key string) ([]Row, error) {
	l, d := c.Layout, c.Layout.Dialect
	text := func(expr string) string { return d.Cast(expr, warehouse.Text) }
	is := func(alias string) string {
		return "(" + l.named(text(alias+".primary_key"), len(l.Sync.PrimaryKey) > 1, key) + " OR " + l.named(text(alias+".dest_key"), !l.KeyIsDest, key) + ")"
	}
	cols := []string{
		text("coalesce(n.primary_key, s.primary_key)"), text("coalesce(n.dest_key, s.dest_key)"),
		d.HashText(l.keyHash("coalesce(n.dest_key, s.dest_key)")), "n.present", "s.present", "coalesce(p.operation, '')", "coalesce(p.state, '')",
		"coalesce(p.reason, '')", "coalesce(s.remote_id, '')", "coalesce(s.origin, '')", "s.acknowledged_at", "s.uncertain_until",
	}
	for _, f := range l.Fields {
		col := warehouse.Column{Type: f.Type, Kind: f.Kind}
		cols = append(cols, d.Wire("n."+d.Quote(f.Column), col))
		if len(l.Kept()) == len(l.columns()) {
			cols = append(cols, d.Wire("s."+d.Quote(f.Column), col))
		} else {
			cols = append(cols, "NULL")
		}
	}
	query := fmt.Sprintf("SELECT %s FROM (SELECT m.*, true AS present FROM (%s) m WHERE %s) n FULL OUTER JOIN (SELECT o.*, true AS present FROM %s o WHERE %s) s ON n.dest_key = s.dest_key LEFT JOIN %s p ON p.dest_key = coalesce(n.dest_key, s.dest_key) AND p.state <> '%s' ORDER BY 1, 2 LIMIT 20",
		strings.Join(cols, ", "), l.mapped(nil), is("m"), l.snapshotFrom(o.Standing, o.Now), is("o"), d.Table(l.Plan), Same)
	rows, err := w.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("looking up a row of %s: %w", l.Sync.Name, err)
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		out = append(out, c.row(v))
	}
	return out, rows.Err()
}

// named is the condition that a key, as text, is what a person wrote: as it is stored but for capitals; of several columns, which
// are stored as JSON, also with commas alone.
func (l *Layout) named(text string, several bool, key string) string {
	d := l.Dialect
	is := "lower(" + text + ") = lower(" + d.Text(key) + ")"
	if !several {
		return is
	}
	for _, c := range []string{"[", "]", `"`, " "} {
		text = "replace(" + text + ", " + d.Text(c) + ", '')"
		key = strings.ReplaceAll(key, c, "")
	}
	return "(" + is + " OR lower(" + text + ") = lower(" + d.Text(key) + "))"
}

// Gone finds the rows that only the deliveries know, by the primary key or the destination key that they were sent under: primary
// key and hash, those of the last delivery first.
func (l *Layout) Gone(ctx context.Context, w Querier, sync, key string) ([]Row, error) {
	d := l.Dialect
	t := d.Table(l.Names.Deliveries())
	where := l.named("primary_key", len(l.Sync.PrimaryKey) > 1, key)
	if hash, ok := l.hashOf(ctx, w, key); ok {
		where = "(" + where + " OR key_hash = " + d.Text(hash) + ")"
	}
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT primary_key, key_hash, max(%s) FROM %s WHERE sync = %s AND %s GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20", d.Quote("at"), t, d.Text(sync), where))
	if err != nil {
		return nil, fmt.Errorf("looking up a row of %s in the deliveries: %w", sync, err)
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		var r Row
		r.PrimaryKey, _ = v[0].(string)
		r.KeyHash, _ = v[1].(string)
		out = append(out, r)
	}
	return out, rows.Err()
}

// hashOf is the hash of a destination key of one column; false where the text is no such key.
func (l *Layout) hashOf(ctx context.Context, w Querier, key string) (string, bool) {
	d := l.Dialect
	if !l.KeyIsDest {
		return "", false
	}
	value := "CAST(" + d.Text(key) + " AS " + l.DestKey.Type + ")"
	if l.Sync.Keys[0][0].Insensitive {
		value = d.NormalizeText(d.Text(key))
	}
	rows, err := w.Query(ctx, "SELECT "+d.HashText(l.keyHash(value)))
	if err != nil {
		return "", false // no such number or date
	}
	defer rows.Close()
	if !rows.Next() {
		return "", false
	}
	v, err := rows.Values()
	if err != nil {
		return "", false
	}
	hash, ok := v[0].(string)
	return hash, ok
}

// Without is the same changes over the sync's rows before where: to look up what it leaves out.
func (c *Changes) Without() *Changes {
	sync, layout, out := *c.Layout.Sync, *c.Layout, *c
	sync.Input = sync.Unfiltered
	layout.Sync, out.Layout = &sync, &layout
	return &out
}

func (c *Changes) row(v []any) Row {
	str := func(i int) string { s, _ := v[i].(string); return s }
	when := func(i int) *time.Time {
		if t, ok := v[i].(time.Time); ok {
			return &t
		}
		return nil
	}
	r := Row{
		PrimaryKey: str(0), DestKey: str(1), KeyHash: str(2), Operation: str(5), State: str(6), Reason: str(7), RemoteID: str(8), Origin: str(9),
		AcknowledgedAt: when(10), UncertainUntil: when(11),
	}
	if v[3] == true {
		r.Now = map[string]any{}
	}
	if v[4] == true {
		r.Acknowledged = map[string]any{}
	}
	for i, f := range c.Layout.Fields {
		if r.Now != nil {
			r.Now[f.Name] = v[12+2*i]
		}
		if r.Acknowledged != nil {
			r.Acknowledged[f.Name] = v[13+2*i]
		}
	}
	return r
}
