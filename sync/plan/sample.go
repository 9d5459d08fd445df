package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
)

// samplesEach is how many changes of each operation a plan shows.
const samplesEach = 3

// Fingerprint covers exactly the planned keys that pass a condition on plan_<sync>: the same keys give the same text, any other
// set another (DESIGN §7). It is empty where no row passes.
func (c *Changes) Fingerprint(ctx context.Context, w Querier, condition string) (string, error) {
	d := c.Layout.Dialect
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT count(*), coalesce(%s, ''), coalesce(%s, '') FROM %s WHERE %s",
		d.Cast("sum("+d.Bucket("key_hash", 1<<32)+")", warehouse.Text), d.Cast(d.Xor("key_hash"), warehouse.Text), d.Table(c.Layout.Plan), condition))
	if err != nil {
		return "", err
	}
	defer rows.Close()
	if !rows.Next() {
		return "", rows.Err()
	}
	v, err := rows.Values()
	if err != nil || v[0] == int64(0) {
		return "", err
	}
	return shortHash(fmt.Sprintf("%s/%v/%v/%v", c.Layout.Sync.Name, v[0], v[1], v[2])), nil
}

// ChangedFields counts, by field, the updates that change it.
func (c *Changes) ChangedFields(ctx context.Context, w Querier) (map[string]int64, error) {
	out := map[string]int64{}
	updates := c.Count(func(g Group) bool { return g.Operation == destination.OpUpdate })
	if updates == 0 || len(c.Layout.Fields) == 0 {
		return out, nil
	}
	var cols []string
	for i := range c.Layout.Fields {
		cols = append(cols, fmt.Sprintf("count(CASE WHEN substr(changed, %d, 1) = '1' THEN 1 END)", i+1))
	}
	rows, err := w.Query(ctx, "SELECT "+strings.Join(cols, ", ")+" FROM "+c.Layout.Dialect.Table(c.Layout.Plan)+
		" WHERE operation = 'update' AND acknowledged AND state = 'send'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		for i, f := range c.Layout.Fields {
			if n, _ := v[i].(int64); n > 0 {
				out[f.Name] = n
			}
		}
	}
	return out, rows.Err()
}

// Samples reads a few changes of each operation. Values are read only where they were asked for (I6).
func (c *Changes) Samples(ctx context.Context, w Querier, o Options, showValues bool) ([]report.Sample, error) {
	l, d := c.Layout, c.Layout.Dialect
	cols := []string{"p.operation", d.HashText("p.key_hash"), d.Cast("p.dest_key", warehouse.Text), "coalesce(p.changed, '')"}
	for _, f := range l.Fields {
		col := warehouse.Column{Type: f.Type, Kind: f.Kind}
		before, now := "s."+d.Quote(f.Column), "p."+d.Quote(f.Column)
		if l.Sync.Mode == destination.Insert {
			before = "NULL" // its snapshot remembers keys alone
		}
		if showValues {
			cols = append(cols, d.Wire(before, col), d.Wire(now, col))
		} else {
			cols = append(cols, before+" IS NULL", now+" IS NULL")
		}
	}
	query := fmt.Sprintf(`SELECT %s FROM (SELECT *, row_number() OVER (PARTITION BY operation ORDER BY key_hash) AS rn FROM %s WHERE state IN ('send', 'held')) p LEFT JOIN %s s ON s.dest_key = p.dest_key WHERE p.rn <= %d ORDER BY p.operation, p.rn`,
		strings.Join(cols, ", "), d.Table(l.Plan), l.snapshotFrom(o.Standing, o.Now), samplesEach)
	rows, err := w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []report.Sample
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		out = append(out, c.sample(v, showValues))
	}
	return out, rows.Err()
}

func (c *Changes) sample(v []any, showValues bool) report.Sample {
	s := report.Sample{}
	s.Operation, _ = v[0].(string)
	s.Key, _ = v[1].(string)
	if key, ok := v[2].(string); ok && showValues {
		s.Key = key
	}
	mask, _ := v[3].(string)
	for i, f := range c.Layout.Fields {
		old, now := v[4+2*i], v[5+2*i]
		switch s.Operation {
		case "update":
			if i >= len(mask) || mask[i] != '1' {
				continue
			}
		case "add":
			old = nil
		default:
			continue
		}
		field := report.SampleField{Name: f.Name}
		if showValues {
			field.Old, field.New = old, now
		}
		s.Fields = append(s.Fields, field)
	}
	return s
}
