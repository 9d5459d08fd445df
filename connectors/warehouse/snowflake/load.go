package snowflake

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// loadBytes is about how much of JSON one INSERT takes. Snowflake reads JSON texts of 16 MB at most.
const loadBytes = 4 << 20

// Load appends rows: all of them, or none. They go as the one value of an INSERT, an array of arrays of texts, which Snowflake takes
// apart and casts. What PUT and COPY would do faster needs a way to the storage of the account's cloud, and pays from some millions of
// rows on; Dray loads what destinations refused.
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	row, err := next()
	if err != nil || row == nil {
		return 0, err
	}
	types, err := w.columnsOf(ctx, t, columns)
	if err != nil {
		return 0, err
	}
	batches := &batches{types: types, next: next, row: row}
	insert := w.insert(t, columns, types)
	first, err := batches.text()
	if err != nil {
		return 0, err
	}
	if batches.row == nil {
		r, err := w.run(ctx, insert, bound(first))
		if err != nil {
			return 0, err
		}
		return r.changed(), nil
	}
	var n int64
	conn, err := w.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = w.within(ctx, conn, func() error {
		for text := first; ; {
			r, err := w.on(ctx, conn, insert, bound(text))
			if err != nil {
				return err
			}
			n += r.changed()
			if batches.row == nil {
				return nil
			}
			if text, err = batches.text(); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func bound(text string) driver.NamedValue { return driver.NamedValue{Ordinal: 1, Value: text} }

// columnsOf are some of a table's.
func (w *Warehouse) columnsOf(ctx context.Context, t warehouse.Table, names []string) ([]warehouse.Column, error) {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = w.dialect.Quote(n)
	}
	return w.Columns(ctx, "SELECT "+strings.Join(quoted, ", ")+" FROM "+w.dialect.Table(t))
}

// insert takes the rows apart. A null of JSON becomes NULL when it is cast to a text.
func (w *Warehouse) insert(t warehouse.Table, names []string, types []warehouse.Column) string {
	into, from := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		into[i] = w.dialect.Quote(name)
		text := fmt.Sprintf("CAST(GET(r.value, %d) AS VARCHAR)", i)
		switch typ := types[i].Type; {
		case typ == "VARIANT":
			from[i] = "PARSE_JSON(" + text + ")"
		case types[i].Kind == warehouse.JSON:
			from[i] = "CAST(PARSE_JSON(" + text + ") AS " + typ + ")"
		case typ == "BINARY":
			from[i] = "BASE64_DECODE_BINARY(" + text + ")"
		default:
			from[i] = "CAST(" + text + " AS " + typ + ")"
		}
	}
	return "INSERT INTO " + w.dialect.Table(t) + " (" + strings.Join(into, ", ") + ") SELECT " + strings.Join(from, ", ") +
		" FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS r"
}

// batches writes rows as JSON.
type batches struct {
	types []warehouse.Column
	next  func() ([]any, error)
	row   []any // the one to come; nil at the end
}

func (b *batches) text() (string, error) {
	var s strings.Builder
	s.WriteByte('[')
	for b.row != nil && s.Len() < loadBytes {
		if s.Len() > 1 {
			s.WriteByte(',')
		}
		s.WriteByte('[')
		for i, v := range b.row {
			if i > 0 {
				s.WriteByte(',')
			}
			text, err := asText(v, b.types[i])
			if err != nil {
				return "", fmt.Errorf("column %s: %w", b.types[i].Name, err)
			}
			s.Write(text)
		}
		s.WriteByte(']')
		var err error
		if b.row, err = b.next(); err != nil {
			return "", err
		}
	}
	s.WriteByte(']')
	return s.String(), nil
}

// asText is a value as JSON: null, or a text that the column's type reads.
func asText(v any, c warehouse.Column) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return []byte("null"), nil
	case bool:
		return strconv.AppendQuote(nil, strconv.FormatBool(v)), nil
	case int64:
		return strconv.AppendQuote(nil, strconv.FormatInt(v, 10)), nil
	case float64:
		switch {
		case math.IsNaN(v):
			return []byte(`"NaN"`), nil
		case math.IsInf(v, 0):
			return strconv.AppendQuote(nil, strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(v, 'g', -1, 64)), "+")), nil
		}
		return strconv.AppendQuote(nil, strconv.FormatFloat(v, 'g', -1, 64)), nil
	case time.Time:
		layout := "2006-01-02 15:04:05.999999999"
		switch {
		case c.Kind == warehouse.Date:
			layout = "2006-01-02"
		case !strings.HasPrefix(c.Type, "TIMESTAMP_NTZ"):
			layout += " -0700"
		}
		return json.Marshal(v.UTC().Format(layout))
	case string:
		return json.Marshal(v)
	default:
		return nil, fmt.Errorf("a %T cannot be loaded", v)
	}
}
