package build

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/compile"
)

// Hooks answers compile's questions with this warehouse.
func Hooks(ctx context.Context, w warehouse.Warehouse, o compile.Options) compile.Options {
	o.TextColumns = TextColumns(ctx, w)
	o.Columns = func(from string) ([]warehouse.Column, error) {
		columns, err := w.Columns(ctx, "SELECT * FROM "+from)
		if _, refused := theirs(err); refused {
			return nil, nil
		}
		return columns, err
	}
	o.Built = func(t warehouse.Table) (bool, error) { return isTable(ctx, w, t) }
	return o
}

// isTable tells whether a table, as against a view, stands under a name.
func isTable(ctx context.Context, w warehouse.Warehouse, t warehouse.Table) (bool, error) {
	d := w.Dialect()
	rows, err := w.Query(ctx, "SELECT table_name FROM ("+d.Relations(t.Schema)+") r WHERE table_type = 'BASE TABLE' AND lower(table_name) = lower("+d.Text(d.Kept(t.Name))+")")
	if err != nil {
		return false, failed("looking for "+t.Name, err)
	}
	defer rows.Close()
	return rows.Next(), rows.Err()
}

// TextColumns looks into CSV files for columns that must stay text: those the engine would read as numbers although some value
// is two or more digits beginning with 0 ('007'). The whole file is read, once a process: a sample would find it now and not
// the next time. It is compile.Options' hook.
func TextColumns(ctx context.Context, w warehouse.Warehouse) func(f warehouse.File) ([]string, error) {
	var mu sync.Mutex
	known := map[string][]string{}
	return func(f warehouse.File) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprint(f)
		if columns, ok := known[key]; ok {
			return columns, nil
		}
		columns, err := textColumns(ctx, w, f)
		if _, refused := theirs(err); refused {
			return nil, nil // whatever reads the file will say so, and only that will not be built
		}
		if err == nil {
			known[key] = columns
		}
		return columns, err
	}
}

func textColumns(ctx context.Context, w warehouse.Warehouse, f warehouse.File) ([]string, error) {
	d := w.Dialect()
	from, err := d.ReadFile(f)
	if err != nil || !strings.HasPrefix(from, "read_csv(") {
		return nil, err
	}
	columns, err := w.Columns(ctx, "SELECT * FROM "+from)
	if err != nil {
		return nil, err
	}
	asText := f
	asText.Types = map[string]string{}
	var numbers, checks []string
	for _, c := range columns {
		_, given := f.Types[c.Name]
		if given || (c.Kind != warehouse.Int && c.Kind != warehouse.Decimal && c.Kind != warehouse.Float) {
			continue
		}
		asText.Types[c.Name] = "text"
		numbers = append(numbers, c.Name)
		checks = append(checks, fmt.Sprintf("coalesce(bool_or(CASE WHEN %[1]s LIKE '0_%%' THEN regexp_full_match(%[1]s, '0[0-9]+') END), false)", d.Quote(c.Name)))
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	for name, typ := range f.Types {
		asText.Types[name] = typ
	}
	if from, err = d.ReadFile(asText); err != nil {
		return nil, err
	}
	rows, err := w.Query(ctx, "SELECT "+strings.Join(checks, ", ")+" FROM "+from)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	if rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if v == true {
				out = append(out, numbers[i])
			}
		}
	}
	return out, rows.Err()
}
