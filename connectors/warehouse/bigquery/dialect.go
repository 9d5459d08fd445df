// Package bigquery is BigQuery as a warehouse: its dialect (GoogleSQL) and its client.
package bigquery

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Dialect writes GoogleSQL as BigQuery speaks it. The zero value is ready.
type Dialect struct{}

// Name is bigquery.
func (Dialect) Name() string { return "bigquery" }

// Lease is renewed at a quarter of it, by one more UPDATE each time.
func (Dialect) Lease() time.Duration { return 15 * time.Minute }

// maxColumn is how many letters a column's name has at most, maxTable how many bytes a table's.
const (
	maxColumn = 300
	maxTable  = 1024
)

// Quote quotes an identifier, which is a column's unless Table writes it; one that is too long is shortened, with a hash that keeps it
// apart from others. Between backticks the escapes of strings hold.
func (d Dialect) Quote(id string) string { return quoted(d.Kept(id)) }

// Kept is the name that is shortened where it is too long.
func (Dialect) Kept(id string) string {
	return warehouse.ShortName(id, maxColumn, utf8.RuneCountInString)
}

func quoted(id string) string { return "`" + escape(id, '`') + "`" }

// Table quotes a relation's name: project, dataset, table.
func (Dialect) Table(t warehouse.Table) string {
	return warehouse.QualifiedName(func(id string) string { return quoted(warehouse.ShortName(id, maxTable, warehouse.Bytes)) }, t)
}

// Text is a string literal.
func (Dialect) Text(s string) string { return "'" + escape(s, '\'') + "'" }

// escape writes what may not stand as it is in a literal of one line.
func escape(s string, quote byte) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == quote, c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ', c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Time is an instant: BigQuery's TIMESTAMP knows no other zone than UTC.
func (Dialect) Time(t time.Time) string {
	return "TIMESTAMP '" + t.UTC().Format("2006-01-02 15:04:05.999999") + "+00'"
}

// Value is a literal of a Go scalar. A whole number that is no INT64 has a point, without which it is refused.
func (d Dialect) Value(v any) string {
	s := warehouse.Literal(d, v, float)
	switch v.(type) {
	case uint64, json.Number:
		if _, err := strconv.ParseInt(s, 10, 64); errors.Is(err, strconv.ErrRange) && !strings.ContainsAny(s, ".eE") {
			return s + ".0"
		}
	}
	return s
}

// float is a literal of double precision, with an exponent, so that it is nothing else on any engine.
func float(v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "CAST('" + strconv.FormatFloat(v, 'g', -1, 64) + "' AS FLOAT64)"
	}
	return strconv.FormatFloat(v, 'e', -1, 64)
}

// Type is the type for a kind. NUMERIC has 38 digits, nine of them behind the point.
func (Dialect) Type(k warehouse.Kind) string {
	return [...]string{"STRING", "BOOL", "INT64", "FLOAT64", "NUMERIC", "DATE", "TIMESTAMP", "JSON"}[k]
}

// KindOf says what one of BigQuery's types means, by its name in SQL or in the API.
func (Dialect) KindOf(t string) warehouse.Kind {
	base := strings.ToUpper(t)
	if i := strings.IndexAny(base, "(<"); i >= 0 {
		base = base[:i]
	}
	switch strings.TrimSpace(base) {
	case "BOOL", "BOOLEAN":
		return warehouse.Bool
	case "INT64", "INTEGER", "INT", "SMALLINT", "BIGINT", "TINYINT", "BYTEINT":
		return warehouse.Int
	case "FLOAT64", "FLOAT":
		return warehouse.Float
	case "NUMERIC", "DECIMAL", "BIGNUMERIC", "BIGDECIMAL":
		return warehouse.Decimal
	case "DATE":
		return warehouse.Date
	case "TIMESTAMP", "DATETIME":
		return warehouse.Timestamp
	case "JSON", "ARRAY", "STRUCT", "RECORD":
		return warehouse.JSON
	default:
		return warehouse.Text
	}
}

// Cast casts to a kind's type. JSON is read from a text.
func (d Dialect) Cast(expr string, k warehouse.Kind) string {
	if k == warehouse.JSON {
		return "PARSE_JSON(" + expr + ")"
	}
	return "CAST(" + expr + " AS " + d.Type(k) + ")"
}

// TryCast gives NULL where the value does not fit.
func (Dialect) TryCast(expr, typ string) string {
	if strings.EqualFold(typ, "JSON") {
		return "SAFE.PARSE_JSON(" + expr + ")"
	}
	return "SAFE_CAST(" + expr + " AS " + typ + ")"
}

// Hash is Google's fingerprint (FarmHash, which BigQuery promises never to change) of the values as JSON, as a 63-bit number: BigQuery
// hashes texts and bytes only, and in JSON NULL, ” and ('a', 'bc')/('ab', 'c') differ.
func (Dialect) Hash(exprs ...string) string {
	if len(exprs) == 0 {
		return "CAST(0 AS INT64)"
	}
	fields := make([]string, len(exprs))
	for i, e := range exprs {
		fields[i] = fmt.Sprintf("%s AS c%d", e, i+1)
	}
	return "(FARM_FINGERPRINT(TO_JSON_STRING(STRUCT(" + strings.Join(fields, ", ") + "))) & 9223372036854775807)"
}

// HashType is the type of Hash.
func (Dialect) HashType() string { return "INT64" }

// HashVersion names what is hashed; the function itself does not change.
func (Dialect) HashVersion() string { return "bigquery farm63 json1" }

// HashText is 16 hexadecimal digits.
func (Dialect) HashText(h string) string { return "FORMAT('%016x', " + h + ")" }

// Bucket is 0 … n-1.
func (Dialect) Bucket(h string, n int64) string { return fmt.Sprintf("MOD(%s, %d)", h, n) }

// SortArray sorts arrays; elements that have no order of their own go by their JSON.
func (Dialect) SortArray(expr string, c warehouse.Column) string {
	t := strings.ToUpper(c.Type)
	if !strings.HasPrefix(t, "ARRAY") {
		return expr
	}
	by := "e"
	if strings.HasPrefix(t, "ARRAY<STRUCT") || strings.HasPrefix(t, "ARRAY<JSON") || strings.HasPrefix(t, "ARRAY<GEOGRAPHY") {
		by = "TO_JSON_STRING(e)"
	}
	return "ARRAY(SELECT e FROM UNNEST(" + expr + ") AS e ORDER BY " + by + ")"
}

// Comparable gives a text for what has no equality. BigQuery keeps JSON with its keys in order and its numbers in one form, so that
// the text is equal where the values are.
func (Dialect) Comparable(expr string, c warehouse.Column) string {
	switch t := strings.ToUpper(c.Type); {
	case strings.HasPrefix(t, "JSON"), strings.HasPrefix(t, "ARRAY"), strings.HasPrefix(t, "STRUCT"), strings.HasPrefix(t, "RECORD"):
		return jsonText(expr)
	case strings.HasPrefix(t, "GEOGRAPHY"):
		return "ST_ASTEXT(" + expr + ")"
	}
	return expr
}

// jsonText is a value's JSON, NULL for NULL: TO_JSON_STRING makes a text of that.
func jsonText(expr string) string {
	return "IF(" + expr + " IS NULL, NULL, TO_JSON_STRING(" + expr + "))"
}

// Slice is a range of key hashes, which are spread evenly; plans are clustered by them, so that other rows are not looked at.
func (Dialect) Slice(alias string, from, to, n, _ int64) string {
	return warehouse.HashSlice(alias, from, to, n)
}

// SliceNumber is the part a row is in. BigQuery has no row numbers to read by.
func (Dialect) SliceNumber(alias string, n, _ int64) string {
	return fmt.Sprintf("LEAST(DIV(COALESCE(%s.key_hash, 0), %d), %d)", alias, warehouse.HashSliceWidth(n), n-1)
}

// Highest is of no use here: parts are made of hashes.
func (Dialect) Highest() string { return "COUNT(*)" }

// workPrefix marks tables that are needed during one build only: they expire by themselves.
const workPrefix = "dray_work_"

// workHours is how long a table that a build left behind stays.
const workHours = 24

// Work is a table beside the others that expires: BigQuery's temporary tables belong to one session.
func (Dialect) Work(t warehouse.Table) warehouse.Table {
	t.Name = workPrefix + t.Name
	return t
}

// CreateTableAs replaces a table in one statement.
func (d Dialect) CreateTableAs(t warehouse.Table, query string, by ...string) string {
	options := d.clusterBy(by)
	if strings.HasPrefix(t.Name, workPrefix) {
		options += fmt.Sprintf(" OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL %d HOUR))", workHours)
	}
	return "CREATE OR REPLACE TABLE " + d.Table(t) + options + " AS " + query
}

func (d Dialect) clusterBy(columns []string) string {
	if len(columns) == 0 {
		return ""
	}
	return " CLUSTER BY " + warehouse.QuotedList(d.Quote, columns)
}

// CreateTable makes a table if it is missing, a partition a day.
func (d Dialect) CreateTable(t warehouse.Table, columns []string, day string, by ...string) string {
	s := warehouse.CreateMissing(d, t, columns)
	if day != "" {
		s += " PARTITION BY TIMESTAMP_TRUNC(" + d.Quote(day) + ", DAY)"
	}
	return s + d.clusterBy(by)
}

// Swap replaces all rows in one statement, whose query may read the table as it was: BigQuery makes no permanent tables in a
// transaction.
func (d Dialect) Swap(t warehouse.Table, there bool, query string) (before, within []string) {
	if !there {
		before = []string{"CREATE TABLE IF NOT EXISTS " + d.Table(t) + " AS SELECT * FROM (" + query + ") AS q LIMIT 0"}
	}
	return before, []string{"MERGE INTO " + d.Table(t) + " AS t USING (" + query + ") AS q ON FALSE WHEN NOT MATCHED BY TARGET THEN INSERT ROW WHEN NOT MATCHED BY SOURCE THEN DELETE"}
}

// Empty deletes all rows, which costs nothing: a table as a whole is only marked so.
func (d Dialect) Empty(t warehouse.Table) string { return "DELETE FROM " + d.Table(t) + " WHERE TRUE" }

// Discard leaves an empty table: BigQuery drops no permanent tables in a transaction.
func (d Dialect) Discard(t warehouse.Table) string { return d.Empty(t) }

// DDL is no part of transactions.
func (Dialect) DDL() bool { return false }

// Relations reads the dataset's catalogue.
func (d Dialect) Relations(schema string) string {
	return "SELECT table_name, table_type FROM " + d.Quote(schema) + ".INFORMATION_SCHEMA.TABLES"
}

// Contains is STRPOS.
func (Dialect) Contains(expr, part string) string { return "STRPOS(" + expr + ", " + part + ") > 0" }

// Xor is BIT_XOR.
func (Dialect) Xor(expr string) string { return "BIT_XOR(" + expr + ")" }

// Order writes NULL's place as a key of its own where BigQuery has no words for it in aggregates and windows: by itself NULL is
// less than any value.
func (Dialect) Order(expr string, desc, nullsFirst bool) string {
	switch {
	case desc && nullsFirst:
		return expr + " IS NOT NULL, " + expr + " DESC"
	case desc:
		return expr + " DESC"
	case nullsFirst:
		return expr
	default:
		return expr + " IS NULL, " + expr
	}
}

// Materialized is nothing: BigQuery decides itself.
func (Dialect) Materialized() string { return "" }

// CreateView replaces a view in one statement.
func (d Dialect) CreateView(t warehouse.Table, query string) string {
	return "CREATE OR REPLACE VIEW " + d.Table(t) + " AS " + query
}

// DropSchema takes a schema away with what stands in it.
func (d Dialect) DropSchema(schema string) string { return warehouse.DropSchema(d, schema) }

// CreateSchema makes a dataset if it is missing.
func (d Dialect) CreateSchema(schema string) string {
	return "CREATE SCHEMA IF NOT EXISTS " + d.Quote(schema)
}

// RenameTable leaves the table in its dataset.
func (d Dialect) RenameTable(t warehouse.Table, name string) string {
	return "ALTER TABLE " + d.Table(t) + " RENAME TO " + d.Quote(name)
}

// Now is the clock.
func (Dialect) Now() string { return "CURRENT_TIMESTAMP()" }

// AddSeconds moves a timestamp by whole seconds.
func (Dialect) AddSeconds(ts, seconds string) string {
	return "TIMESTAMP_ADD(" + ts + ", INTERVAL (" + seconds + ") SECOND)"
}

// Interval is in seconds, or in microseconds where it has to be.
func (Dialect) Interval(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("INTERVAL %d SECOND", int64(d/time.Second))
	}
	return fmt.Sprintf("INTERVAL %d MICROSECOND", d.Microseconds())
}

// UTC reads a DATETIME, which has no zone, in one: it becomes an instant. A TIMESTAMP is one.
func (d Dialect) UTC(expr string, c warehouse.Column, zone string) string {
	if !strings.EqualFold(c.Type, "DATETIME") {
		return expr
	}
	return "TIMESTAMP(" + expr + ", " + d.Text(zone) + ")"
}

// Wire casts what the client would give in types of its own.
func (Dialect) Wire(expr string, c warehouse.Column) string {
	t := strings.ToUpper(c.Type)
	switch c.Kind {
	case warehouse.Bool, warehouse.Date, warehouse.Int, warehouse.Float:
		return expr
	case warehouse.Timestamp:
		if t == "DATETIME" {
			return "TIMESTAMP(" + expr + ")"
		}
		return expr
	case warehouse.JSON:
		return jsonText(expr)
	default:
		switch {
		case strings.HasPrefix(t, "STRING"):
			return expr
		case strings.HasPrefix(t, "BYTES"):
			return "TO_BASE64(" + expr + ")"
		case strings.HasPrefix(t, "GEOGRAPHY"):
			return "ST_ASTEXT(" + expr + ")"
		default:
			return "CAST(" + expr + " AS STRING)"
		}
	}
}

// JSONArray is the JSON text of several values.
func (Dialect) JSONArray(exprs ...string) string {
	return "TO_JSON_STRING(JSON_ARRAY(" + strings.Join(exprs, ", ") + "))"
}

// Trim is TRIM of what is listed: by itself it takes tabs and line breaks too.
func (d Dialect) Trim(text string) string {
	return "TRIM(" + text + ", " + d.Text(warehouse.Blanks) + ")"
}

// Digest is MD5, which BigQuery gives as bytes.
func (Dialect) Digest(expr string) string { return "TO_HEX(MD5(" + expr + "))" }

// Matches uses RE2, as BigQuery does.
func (d Dialect) Matches(expr, pattern string) string {
	return "REGEXP_CONTAINS(" + expr + ", " + d.Text("^(?:"+pattern+")$") + ")"
}

// EditDistance is EDIT_DISTANCE.
func (Dialect) EditDistance(a, b string) (expr, wayOut string) {
	return "EDIT_DISTANCE(" + a + ", " + b + ")", ""
}

// JaroWinkler is not there: SQL of BigQuery's has no such function.
func (Dialect) JaroWinkler(_, _ string) (expr, wayOut string) { return "", "use edit_distance" }

// Soundex is put together, so that it is the same on every engine.
func (d Dialect) Soundex(name string) string {
	return warehouse.Soundex(name, func(expr, pattern, by string) string {
		return "REGEXP_REPLACE(" + expr + ", " + d.Text(pattern) + ", " + d.Text(by) + ")"
	})
}

// Days is DATE_DIFF.
func (Dialect) Days(from, to string) string { return "DATE_DIFF(" + to + ", " + from + ", DAY)" }

// IntDiv is DIV: / gives a fraction.
func (Dialect) IntDiv(expr string, by int64) string { return fmt.Sprintf("DIV(%s, %d)", expr, by) }

// First is the first of what is gathered in order, rows that do not count last; it stands in a struct, for an array holds no arrays.
func (Dialect) First(value, _, orderBy, where string) string {
	if where != "" {
		value = "IF(" + where + ", " + value + ", NULL)"
		orderBy = "IF(" + where + ", 0, 1), " + orderBy
	}
	return "ARRAY_AGG(STRUCT(" + value + " AS v) ORDER BY " + orderBy + " LIMIT 1)[SAFE_OFFSET(0)].v"
}

// ReadFile is refused: files are external tables there.
func (Dialect) ReadFile(warehouse.File) (string, error) {
	return "", errors.New("BigQuery does not read the project's files in place: load them into tables or make an external table of them")
}

var _ warehouse.Dialect = Dialect{}
