package file

import (
	"io"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// rowGroup bounds the memory of a Parquet file being written: rows are held until a group is full.
const rowGroup = 50_000

// parquetRows writes typed columns, all of them optional.
type parquetRows struct {
	schema  *destination.Schema
	columns []destination.Column
	w       *pq.GenericWriter[any]
	rows    []pq.Row
}

// ordered is a group whose columns keep their order; the library's own sorts them by name.
type ordered struct {
	pq.Group
	fields []pq.Field
}

func (o ordered) Fields() []pq.Field { return o.fields }

func newParquet(w io.Writer, s *destination.Schema) *parquetRows {
	p := &parquetRows{schema: s, columns: columns(s)}
	group := pq.Group{}
	for _, c := range p.columns {
		group[c.Name] = pq.Optional(node(c.Kind))
	}
	byName := map[string]pq.Field{}
	for _, f := range group.Fields() {
		byName[f.Name()] = f
	}
	root := ordered{Group: group}
	for _, c := range p.columns {
		root.fields = append(root.fields, byName[c.Name])
	}
	p.w = pq.NewGenericWriter[any](w, pq.NewSchema("changes", root), pq.Compression(&pq.Zstd), pq.MaxRowsPerRowGroup(rowGroup))
	return p
}

func node(k warehouse.Kind) pq.Node {
	switch k {
	case warehouse.Bool:
		return pq.Leaf(pq.BooleanType)
	case warehouse.Int:
		return pq.Int(64)
	case warehouse.Float:
		return pq.Leaf(pq.DoubleType)
	case warehouse.Date:
		return pq.Date()
	case warehouse.Timestamp:
		return pq.Timestamp(pq.Microsecond)
	case warehouse.JSON:
		return pq.JSON()
	default: // text, and decimals, whose scale differs from row to row
		return pq.String()
	}
}

func (p *parquetRows) write(changes []destination.Change, outcomes []destination.Outcome) error {
	p.rows = p.rows[:0]
	for i := range changes {
		row := make(pq.Row, 0, len(p.columns))
		err := cells(p.schema, &changes[i], func(column int, v any) error {
			cell, err := parquetValue(v, p.columns[column].Kind)
			definition := 1
			if v == nil {
				definition = 0
			}
			row = append(row, cell.Level(0, definition, column))
			return err
		})
		if err != nil {
			outcomes[i] = rejected(err)
			continue
		}
		outcomes[i] = delivered()
		p.rows = append(p.rows, row)
	}
	_, err := p.w.WriteRows(p.rows)
	return err
}

func (p *parquetRows) close() error { return p.w.Close() }

func parquetValue(v any, kind warehouse.Kind) (pq.Value, error) {
	switch v := v.(type) {
	case nil:
		return pq.NullValue(), nil
	case bool:
		if kind == warehouse.Bool {
			return pq.BooleanValue(v), nil
		}
	case int64:
		if kind == warehouse.Int {
			return pq.Int64Value(v), nil
		}
	case float64:
		if kind == warehouse.Float {
			return pq.DoubleValue(v), nil
		}
	case time.Time:
		if kind == warehouse.Date {
			return pq.Int32Value(int32(v.UTC().Truncate(24*time.Hour).Unix() / 86400)), nil
		}
		if kind == warehouse.Timestamp {
			return pq.Int64Value(v.UnixMicro()), nil
		}
	case string:
		switch kind {
		case warehouse.Text, warehouse.Decimal, warehouse.JSON:
			return pq.ByteArrayValue([]byte(v)), nil
		}
	}
	return pq.NullValue(), encode.ErrValue
}
