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
		return fmt.Sprintf("(%s = %s OR lower(%s) = lower(%[2]s))", text(alias+".primary_key"), d.Text(key), text(alias+".dest_key"))
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
	query := fmt.Sprintf("SELECT %s FROM (SELECT m.*, true AS present FROM (%s) m WHERE %s) n FULL OUTER JOIN (SELECT o.*, true AS present FROM %s o WHERE %s) s ON n.dest_key = s.dest_key LEFT JOIN %s p ON p.dest_key = coalesce(n.dest_key, s.dest_key) ORDER BY 1, 2 LIMIT 20",
		strings.Join(cols, ", "), l.mapped(nil), is("m"), l.snapshotFrom(o.Standing, o.Now), is("o"), d.Table(l.Plan))
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
