package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Field is a column of the data that every engine is held to: its name, what it means, and its values as Go has them. What a test
// wants is worked out from these values in Go, never read from an engine.
type Field struct {
	Name string
	Kind warehouse.Kind
	// Type is the engine's own type; "" = the dialect's for the kind.
	Type map[string]string
	// Values are of the Go types of warehouse.Rows.Values: Decimal its digits, JSON its text, Date and Timestamp times in UTC. NULL is
	// among them.
	Values []any
	write  func(d warehouse.Dialect, v any) string // of what is not NULL; nil = a literal of the kind
}

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

// Texts are those that are easily broken on their way through SQL.
func Texts() []any {
	return []any{
		"", " ", "plain", "it's", `say "no"`, "`tick`", `back\slash`, `\n`, `ends in \`, `''`, `\'`, "line\nbreak", "tab\tbed", "cr\rlf\r\n", "$1 $$ $dray$ %s {{ x }} ${Y} ?",
		"-- no comment", "/* nor */ this; DROP TABLE x", "Gås", "Ga\u030as", "👩‍👩‍👧 😀", "שלום עולם", "\u202eabc\u202c", "zero\u200bwidth", "\u00a0", "\x01\x1f\x7f", "NULL", "null", "007", "1e5",
		strings.Repeat("long ", 200), nil,
	}
}

// Fields are all kinds with the values at their edges, under names that have to be quoted.
func Fields(d warehouse.Dialect) []Field {
	// BigQuery's names have no quotes but the single one, no points and no backslashes.
	quotes := `it's "so"`
	if d.Name() == "bigquery" {
		quotes = "it's so"
	}
	instants := []any{
		instant("0001-01-01T00:00:00Z"), instant("9999-12-31T23:59:59.999999Z"), instant("1969-12-31T23:59:59.999999Z"), instant("1970-01-01T00:00:00Z"),
		instant("2024-03-31T00:59:59.999999Z"), instant("2024-03-31T01:00:00Z"), instant("2024-10-27T00:30:00.1Z"), instant("2024-10-27T01:30:00.000001Z"),
		instant("2024-02-29T12:34:56.123456Z"), nil,
	}
	return []Field{
		{Name: "select", Kind: warehouse.Bool, Values: []any{true, false, nil}},
		{Name: "group", Kind: warehouse.Int, Values: []any{int64(0), int64(1), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MaxInt64 - 1), int64(1<<53 + 1), nil}},
		{Name: "firstName", Kind: warehouse.Text, Values: Texts()},
		{Name: "two words", Kind: warehouse.Float, Values: []any{0.0, math.Copysign(0, -1), 1.0, -1.5, 0.1, 0.30000000000000004, 5e-324, math.MaxFloat64, -1e-300, 1e21, 9007199254740993.0, nil}},
		{Name: quotes, Kind: warehouse.Decimal, Values: []any{
			"0", "-0.000000001", "99999999999999999999999999999.999999999", "-99999999999999999999999999999.999999999", "1.1", "12345678901234567890.123456789", "100", "9223372036854775808", nil,
		}},
		{Name: "price", Kind: warehouse.Decimal, Type: map[string]string{"": "NUMERIC(18,2)", "snowflake": "NUMBER(18,2)"}, Values: []any{"0.01", "-9999999999999999.99", "9999999999999999.99", "5.5", "0", nil}},
		{Name: "order", Kind: warehouse.Date, Values: []any{
			day("0001-01-01"), day("9999-12-31"), day("1969-12-31"), day("1970-01-01"), day("2024-02-29"), day("2000-02-29"), day("1900-02-28"), day("1582-10-10"), nil,
		}},
		{Name: "größe_ß", Kind: warehouse.Timestamp, Values: instants},
		{
			Name: "table", Kind: warehouse.Timestamp, Values: instants,
			Type:  map[string]string{"": "TIMESTAMP WITH TIME ZONE", "bigquery": "TIMESTAMP", "snowflake": "TIMESTAMP_TZ(6)"},
			write: zoned,
		},
		{Name: "from", Kind: warehouse.JSON, Values: []any{
			`{"b":1,"a":[1,2,{"x":null,"y":{"z":true}}]}`, `{}`, `[]`, `"a text"`, `[[],[[]]]`, `-0.5`, `{"æ\"ø":"😀 it's \"q\" \\ \n\t","":"empty"}`, `[null,false]`, `12345678901`, nil,
		}},
		{
			Name: "Tags", Kind: warehouse.JSON, Values: []any{`["b","a","it's \"q\" \\"]`, `[]`, `["é","e","E",""]`, `["a","a"]`, nil},
			Type:  map[string]string{"duckdb": "VARCHAR[]", "postgres": "TEXT[]", "bigquery": "ARRAY<STRING>", "snowflake": "ARRAY"},
			write: array(warehouse.Text),
		},
		{
			Name: "nums", Kind: warehouse.JSON, Values: []any{`[10,9,-1,9223372036854775807]`, `[]`, `[2]`, nil},
			Type:  map[string]string{"duckdb": "BIGINT[]", "postgres": "BIGINT[]", "bigquery": "ARRAY<INT64>", "snowflake": "ARRAY"},
			write: array(warehouse.Int),
		},
	}
}

// TypeIn is the field's type on an engine.
func (f Field) TypeIn(d warehouse.Dialect) string {
	for _, engine := range []string{d.Name(), ""} {
		if t := f.Type[engine]; t != "" {
			return t
		}
	}
	return d.Type(f.Kind)
}

// Literal writes one of the field's values as an expression of its type.
func (f Field) Literal(d warehouse.Dialect, v any) string {
	typ := f.TypeIn(d)
	switch {
	case v == nil:
		return "CAST(NULL AS " + typ + ")"
	case f.write != nil:
		return f.write(d, v)
	case f.Kind == warehouse.JSON:
		return d.Cast(d.Text(fmt.Sprint(v)), f.Kind)
	case f.Kind == warehouse.Date:
		return d.Cast(d.Text(v.(time.Time).Format(time.DateOnly)), f.Kind) //nolint:forcetypeassert // a date
	case f.Kind == warehouse.Decimal:
		return "CAST(" + d.Text(fmt.Sprint(v)) + " AS " + typ + ")"
	default:
		return "CAST(" + d.Value(v) + " AS " + typ + ")"
	}
}

// zoned is an instant, written in a zone that is not UTC.
func zoned(d warehouse.Dialect, v any) string {
	typ := map[string]string{"bigquery": "TIMESTAMP", "snowflake": "TIMESTAMP_TZ(6)"}[d.Name()]
	if typ == "" {
		typ = "TIMESTAMP WITH TIME ZONE"
	}
	at := v.(time.Time) //nolint:forcetypeassert // of this field's values
	zone := time.FixedZone("", -7*60*60)
	if at.Year() == 1 { // the year has four digits there too
		zone = time.FixedZone("", 7*60*60)
	}
	return "CAST(" + d.Text(at.In(zone).Format("2006-01-02 15:04:05.999999-07:00")) + " AS " + typ + ")"
}

// array writes the engine's own array of what stands in JSON.
func array(elements warehouse.Kind) func(d warehouse.Dialect, v any) string {
	return func(d warehouse.Dialect, v any) string {
		var list []any
		if err := decode(fmt.Sprint(v), &list); err != nil {
			panic(err)
		}
		parts := make([]string, len(list))
		for i, e := range list {
			if parts[i] = fmt.Sprint(e); elements == warehouse.Text {
				parts[i] = d.Text(parts[i])
			}
		}
		inside := strings.Join(parts, ", ")
		typ := d.Type(elements)
		switch d.Name() {
		case "postgres":
			return "CAST(ARRAY[" + inside + "] AS " + typ + "[])"
		case "duckdb":
			return "CAST([" + inside + "] AS " + typ + "[])"
		case "snowflake":
			return "ARRAY_CONSTRUCT(" + inside + ")"
		default:
			return "ARRAY<" + typ + ">[" + inside + "]"
		}
	}
}

func decode(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// Rows are the data: as many rows as the longest field has values, with a number in front. Row i has the fields' i-th values, over and
// over, each from a place of its own, so that NULLs meet all others; the last row has nothing but NULLs.
func Rows(fields []Field) [][]any {
	most := 0
	for _, f := range fields {
		most = max(most, len(f.Values))
	}
	var rows [][]any
	for i := range most + 1 {
		row := []any{int64(i + 1)}
		for k, f := range fields {
			var v any
			if i < most {
				v = f.Values[(i+k*k)%len(f.Values)]
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	return rows
}

// ID is the number of a row of Rows.
func ID() Field { return Field{Name: "id", Kind: warehouse.Int} }

// Select is a query of rows, each value an expression of its type, in the dialect's words. fields are those of the rows.
func Select(d warehouse.Dialect, fields []Field, rows [][]any) string {
	selects := make([]string, len(rows))
	for i, row := range rows {
		exprs := make([]string, len(row))
		for k, v := range row {
			exprs[k] = fields[k].Literal(d, v) + " AS " + d.Quote(fields[k].Name)
		}
		selects[i] = "SELECT " + strings.Join(exprs, ", ")
	}
	return strings.Join(selects, " UNION ALL ")
}

// Exec runs statements that are written by the dialect: a carried one is carried, whatever test asks for it.
func Exec(t testing.TB, w warehouse.Warehouse, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := w.Exec(t.Context(), s); err != nil {
			t.Fatalf("%v\n%.2000s", err, s)
		}
	}
}

// Table makes a table of rows.
func Table(t testing.TB, w warehouse.Warehouse, table warehouse.Table, fields []Field, rows [][]any) {
	t.Helper()
	d := w.Dialect()
	if table.Schema != "" {
		Exec(t, w, d.CreateSchema(table.Schema))
	}
	const atOnce = 100 // a statement that unites more is too deep for the transpiler
	Exec(t, w, d.CreateTableAs(table, Select(d, fields, rows[:min(atOnce, len(rows))])))
	for n := atOnce; n < len(rows); n += atOnce {
		Exec(t, w, "INSERT INTO "+d.Table(table)+" "+Select(d, fields, rows[n:min(n+atOnce, len(rows))]))
	}
}

// Read gives a query's rows as the engine's Rows promise them, after Dialect.Wire, and in the form of Canon.
func Read(t testing.TB, w warehouse.Warehouse, query string) [][]string {
	t.Helper()
	d := w.Dialect()
	columns, err := w.Columns(t.Context(), query)
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, query)
	}
	wire := make([]string, len(columns))
	for i, c := range columns {
		wire[i] = d.Wire("q."+d.Quote(c.Name), c) + " AS " + d.Quote(fmt.Sprintf("c%d", i))
	}
	rows, err := w.Query(t.Context(), "SELECT "+strings.Join(wire, ", ")+" FROM ("+query+") AS q")
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, query)
	}
	defer rows.Close()
	var out [][]string
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = Canon(columns[i].Kind, v)
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// Want is what Read gives of rows.
func Want(fields []Field, rows [][]any) [][]string {
	var out [][]string
	for _, row := range rows {
		line := make([]string, len(row))
		for i, v := range row {
			line[i] = Canon(fields[i].Kind, v)
		}
		out = append(out, line)
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// Canon is a value as a text that is the same exactly for the same values: decimals without zeros at the end, JSON with its keys in
// order. A value of another Go type than its kind promises says so.
func Canon(k warehouse.Kind, v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case bool:
		if k == warehouse.Bool {
			return strconv.FormatBool(v)
		}
	case int64:
		if k == warehouse.Int {
			return strconv.FormatInt(v, 10)
		}
	case float64:
		if k == warehouse.Float {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	case time.Time:
		switch {
		case v.Location() != time.UTC:
		case k == warehouse.Date:
			return v.Format("2006-01-02 15:04:05.999999999")
		case k == warehouse.Timestamp:
			return v.Format(time.RFC3339Nano)
		}
	case string:
		switch k {
		case warehouse.Text:
			return strconv.Quote(v)
		case warehouse.Decimal:
			return number(v)
		case warehouse.JSON:
			return CanonJSON(v)
		}
	}
	return fmt.Sprintf("%s as %T %v", k, v, v)
}

func number(text string) string {
	if r := rat(text); r != nil {
		return r.RatString()
	}
	return "no number: " + text
}

// rat is a number's exact value; nil = it is none.
func rat(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

// CanonJSON is a JSON text with its keys in order and its numbers by value.
func CanonJSON(text string) string {
	var v any
	if err := decode(text, &v); err != nil {
		return "no JSON: " + text
	}
	var b bytes.Buffer
	canonJSON(&b, v)
	return b.String()
}

func canonJSON(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b.WriteByte('{')
		for _, k := range keys {
			fmt.Fprintf(b, "%q:", k)
			canonJSON(b, v[k])
			b.WriteByte(',')
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			canonJSON(b, e)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case json.Number:
		b.WriteString(number(v.String()))
	case string:
		fmt.Fprintf(b, "%q", v)
	default:
		fmt.Fprint(b, v)
	}
}
