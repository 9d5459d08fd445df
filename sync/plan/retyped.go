package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/report"
)

// Retyped names the fields and keys whose type is another now than in the snapshot, and how many acknowledged values do not fit the
// new one: their rows are ordinary differences, which the guard counts. One statement where there is any, none otherwise.
func (l *Layout) Retyped(ctx context.Context, w Querier, st Standing) ([]report.ChangedType, error) {
	if !st.Exists || l.Sync.Mode == destination.Insert { // which keeps no values
		return nil, nil
	}
	var out []report.ChangedType
	var counts []string
	look := func(have []Column, is Column) {
		i := slices.IndexFunc(have, func(h Column) bool { return h.Column == is.Column && h.Gone == "" && h.Type != is.Type })
		if i < 0 {
			return
		}
		out = append(out, report.ChangedType{Field: is.Name, From: have[i].Type, To: is.Type})
		q := "o." + l.Dialect.Quote(is.Column)
		counts = append(counts, "count(CASE WHEN "+q+" IS NOT NULL AND "+l.Dialect.TryCast(q, is.Type)+" IS NULL THEN 1 END)")
	}
	if len(l.Keys) > 0 {
		for _, k := range l.Keys {
			look(st.Keys, k)
		}
	} else {
		look([]Column{st.DestKey}, l.DestKey)
	}
	for _, f := range l.Fields {
		look(st.Columns, f)
	}
	if len(out) == 0 {
		return nil, nil
	}
	rows, err := w.Query(ctx, "SELECT "+strings.Join(counts, ", ")+" FROM "+l.Dialect.Table(l.Names.Snapshot(l.Sync.Name))+" o")
	if err != nil {
		return nil, fmt.Errorf("looking at the new types of %s: %w", l.Sync.Name, err)
	}
	defer rows.Close()
	if rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		for i := range out {
			out[i].Unfit, _ = values[i].(int64)
		}
	}
	return out, rows.Err()
}
