package file

import (
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"
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
		group[c.Name] = pq.Optional(node(c))
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

func node(c destination.Column) pq.Node {
	if precision, scale, ok := decimal(c); ok {
		return pq.Decimal(scale, precision, pq.FixedLenByteArrayType(decimalSize))
	}
	switch c.Kind {
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
	default: // text, and decimals of which no scale is known
		return pq.String()
	}
}

func (p *parquetRows) write(changes []destination.Change, outcomes []destination.Outcome) error {
	p.rows = p.rows[:0]
	for i := range changes {
		row := make(pq.Row, 0, len(p.columns))
		err := cells(p.schema, &changes[i], func(column int, v any) error {
			cell, err := parquetValue(v, p.columns[column])
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

// decimalSize holds 38 digits, the most that Parquet's readers take.
const (
	decimalSize = 16
	maxDigits   = 38
)

var sized = regexp.MustCompile(`(?i)^(?:decimal|numeric)\((\d+)(?:, *(\d+))?\)$`)

// decimal is the precision and scale of a column of decimals, where its type tells one that Parquet can hold.
func decimal(c destination.Column) (precision, scale int, ok bool) {
	if c.Kind != warehouse.Decimal {
		return 0, 0, false
	}
	if strings.EqualFold(c.Type, "UBIGINT") {
		return 20, 0, true
	}
	m := sized.FindStringSubmatch(c.Type)
	if m == nil {
		return 0, 0, false
	}
	precision, _ = strconv.Atoi(m[1])
	scale, _ = strconv.Atoi(m[2])
	return precision, scale, precision >= 1 && precision <= maxDigits && scale <= precision
}

// decimalValue is a number as its digits before and after the point, in two's complement with the highest byte first.
func decimalValue(s string, precision, scale int) (pq.Value, error) {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return pq.NullValue(), encode.ErrValue
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() || len(new(big.Int).Abs(r.Num()).String()) > precision {
		return pq.NullValue(), encode.ErrValue
	}
	n := new(big.Int).Set(r.Num())
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), 8*decimalSize))
	}
	return pq.FixedLenByteArrayValue(n.FillBytes(make([]byte, decimalSize))), nil
}

// parquetValue writes a value as its column is. The values of on_remove: {set: …} come as YAML has them, and are converted.
func parquetValue(v any, c destination.Column) (pq.Value, error) {
	if precision, scale, ok := decimal(c); ok && v != nil {
		return decimalValue(plainText(v), precision, scale)
	}
	switch v := v.(type) {
	case nil:
		return pq.NullValue(), nil
	case bool:
		if c.Kind == warehouse.Bool {
			return pq.BooleanValue(v), nil
		}
	case int64:
		switch c.Kind {
		case warehouse.Int:
			return pq.Int64Value(v), nil
		case warehouse.Float:
			return pq.DoubleValue(float64(v)), nil
		}
	case float64:
		if c.Kind == warehouse.Float {
			return pq.DoubleValue(v), nil
		}
	case time.Time:
		switch c.Kind {
		case warehouse.Date:
			return pq.Int32Value(int32(v.UTC().Truncate(24*time.Hour).Unix() / 86400)), nil
		case warehouse.Timestamp:
			return pq.Int64Value(v.UnixMicro()), nil
		}
	case string:
		switch c.Kind {
		case warehouse.Date, warehouse.Timestamp:
			for _, layout := range []string{time.DateOnly, time.DateTime, time.RFC3339Nano} {
				if t, err := time.Parse(layout, v); err == nil {
					return parquetValue(t, c)
				}
			}
		}
	}
	switch c.Kind {
	case warehouse.Text, warehouse.Decimal, warehouse.JSON:
		if s := plainText(v); s != "" || v == "" {
			return pq.ByteArrayValue([]byte(s)), nil
		}
	}
	return pq.NullValue(), encode.ErrValue
}

// plainText is a scalar as text; "" for anything else.
func plainText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	default:
		return ""
	}
}
