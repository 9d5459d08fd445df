package duckdb

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Dialect writes DuckDB's SQL. The zero value writes everything but HashVersion, which names the engine's release.
type Dialect struct {
	warehouse.PostgresFamily
	release string
}

// Name is duckdb.
func (Dialect) Name() string { return "duckdb" }

// Lease is renewed at a quarter of it.
func (Dialect) Lease() time.Duration { return 2 * time.Minute }

// Quote quotes an identifier.
func (Dialect) Quote(id string) string { return `"` + strings.ReplaceAll(id, `"`, `""`) + `"` }

// Kept is the name: there is no limit.
func (Dialect) Kept(id string) string { return id }

// Table quotes a relation's name.
func (d Dialect) Table(t warehouse.Table) string { return warehouse.QualifiedName(d.Quote, t) }

// Text is a string literal.
func (Dialect) Text(s string) string {
	lit := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.IndexByte(s, 0) >= 0 {
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "'", "''"), "\x00", "' || chr(0) || '") + "'"
	}
	return lit
}

// Time is a timestamp literal in UTC.
func (Dialect) Time(t time.Time) string {
	return "TIMESTAMP '" + t.UTC().Format("2006-01-02 15:04:05.999999") + "'"
}

// Value is a literal of a Go scalar.
func (d Dialect) Value(v any) string { return warehouse.Literal(d, v, float) }

// float is a literal of double precision. Without an exponent it would be a decimal to DuckDB, which has no -0 and other sums.
func float(v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "CAST('" + strconv.FormatFloat(v, 'g', -1, 64) + "' AS DOUBLE)"
	}
	return strconv.FormatFloat(v, 'e', -1, 64)
}

// Type is the type for a kind.
func (Dialect) Type(k warehouse.Kind) string {
	return [...]string{"VARCHAR", "BOOLEAN", "BIGINT", "DOUBLE", "DECIMAL(38,9)", "DATE", "TIMESTAMP", "JSON"}[k]
}

// KindOf says what one of DuckDB's types means.
func (Dialect) KindOf(t string) warehouse.Kind {
	t = strings.ToUpper(t)
	switch {
	case strings.HasSuffix(t, "]"), strings.HasPrefix(t, "STRUCT"), strings.HasPrefix(t, "MAP"), strings.HasPrefix(t, "UNION"),
		t == "JSON", t == "LIST", t == "ARRAY", t == "VARIANT":
		return warehouse.JSON
	case strings.HasPrefix(t, "DECIMAL"), strings.HasPrefix(t, "NUMERIC"):
		return warehouse.Decimal
	case strings.HasPrefix(t, "TIMESTAMP"), t == "DATETIME":
		return warehouse.Timestamp
	}
	switch t {
	case "BOOLEAN":
		return warehouse.Bool
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER":
		return warehouse.Int
	case "UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM", "VARINT":
		return warehouse.Decimal
	case "FLOAT", "DOUBLE", "REAL":
		return warehouse.Float
	case "DATE":
		return warehouse.Date
	default:
		return warehouse.Text
	}
}

// Cast casts to a kind's type.
func (d Dialect) Cast(expr string, k warehouse.Kind) string {
	return "CAST(" + expr + " AS " + d.Type(k) + ")"
}

// TryCast gives NULL where the value does not fit.
func (Dialect) TryCast(expr, typ string) string { return "TRY_CAST(" + expr + " AS " + typ + ")" }

// Hash is DuckDB's own hash over the typed values, as a 63-bit number (a BIGINT is the same on every engine).
func (Dialect) Hash(exprs ...string) string {
	if len(exprs) == 0 {
		return "CAST(0 AS BIGINT)"
	}
	return "CAST(hash(" + strings.Join(exprs, ", ") + ") >> 1 AS BIGINT)"
}

// HashType is the type of Hash.
func (Dialect) HashType() string { return "BIGINT" }

// HashVersion names the release: DuckDB does not promise that hash() stays the same.
func (d Dialect) HashVersion() string { return "duckdb " + d.release + " hash63.2" }

// HashText is 16 hexadecimal digits.
func (Dialect) HashText(h string) string { return "format('{:016x}', " + h + ")" }

// Bucket is 0 … n-1.
func (Dialect) Bucket(h string, n int64) string { return fmt.Sprintf("(%s %% %d)", h, n) }

// SortArray sorts lists.
func (Dialect) SortArray(expr string, c warehouse.Column) string {
	if strings.HasSuffix(c.Type, "[]") {
		return "list_sort(" + expr + ")"
	}
	return expr
}

// Comparable makes of JSON text the sorted list of its leaves. DuckDB's other types compare by value as they are, but some of their
// values have one hash: numbers of 128 bits whose halves are the same (0 and -1), and what is empty or NULL, or holds nothing else.
func (Dialect) Comparable(expr string, c warehouse.Column) string {
	t := strings.ToUpper(c.Type)
	element, list := strings.CutSuffix(t, "[]")
	switch {
	case t == "JSON":
		return "(SELECT list(t.fullkey || ' ' || t.type || ' ' || coalesce(CAST(t.atom AS VARCHAR), '') ORDER BY t.fullkey) FROM json_tree(" + expr + ") t)"
	case wide(t):
		return "{'v': " + expr + ", 'n': (" + expr + ") < 0}"
	case list && !wide(element) && !strings.ContainsAny(element, "[("):
		return "{'v': " + expr + ", 'n': len(" + expr + ")}"
	case strings.HasSuffix(t, "]"), strings.HasPrefix(t, "STRUCT"), strings.HasPrefix(t, "MAP"):
		return "CAST(to_json(" + expr + ") AS VARCHAR)"
	}
	return expr
}

// wide tells whether a type's numbers have 128 bits.
func wide(t string) bool {
	if t == "HUGEINT" || t == "UHUGEINT" {
		return true
	}
	size, ok := strings.CutPrefix(t, "DECIMAL(")
	if !ok {
		return false
	}
	precision, _, _ := strings.Cut(size, ",")
	n, err := strconv.Atoi(precision)
	return err == nil && n > 18
}

// Slice is a range of row numbers, which DuckDB keeps for nothing and reads without looking at other rows.
func (Dialect) Slice(alias string, from, to, n, highest int64) string {
	size := sliceSize(n, highest)
	return fmt.Sprintf("(%[1]s.rowid >= %[2]d AND %[1]s.rowid < %[3]d)", alias, from*size, to*size)
}

// SliceNumber is the part a row is in.
func (Dialect) SliceNumber(alias string, n, highest int64) string {
	return fmt.Sprintf("(%s.rowid // %d)", alias, sliceSize(n, highest))
}

func sliceSize(n, highest int64) int64 { return (highest + n) / n }

// Highest is the last row number.
func (Dialect) Highest() string { return "coalesce(max(rowid), 0)" }

// workDatabase is attached in memory, beside the file: what lies there is neither compressed nor logged, and spills like any
// other. Temporary tables would be one connection's.
const workDatabase = "dray_work"

// Work puts a table into the database in memory; the schema becomes a part of the name.
func (Dialect) Work(t warehouse.Table) warehouse.Table {
	if t.Schema != "" {
		t.Name = t.Schema + "." + t.Name
	}
	return warehouse.Table{Database: workDatabase, Schema: "main", Name: t.Name}
}

// CreateTableAs replaces a table in one statement, which DuckDB does atomically.
func (d Dialect) CreateTableAs(t warehouse.Table, query string, _ ...string) string {
	return "CREATE OR REPLACE TABLE " + d.Table(t) + " AS " + query
}

// CreateView replaces a view in one statement.
func (d Dialect) CreateView(t warehouse.Table, query string) string {
	return "CREATE OR REPLACE VIEW " + d.Table(t) + " AS " + query
}

// DropSchema takes a schema away with what stands in it.
func (d Dialect) DropSchema(schema string) string { return warehouse.DropSchema(d, schema) }

// CreateSchema makes a schema if it is missing.
func (d Dialect) CreateSchema(schema string) string {
	return "CREATE SCHEMA IF NOT EXISTS " + d.Quote(schema)
}

// Now is the clock in UTC, without a zone.
func (Dialect) Now() string { return "CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP)" }

// AddSeconds moves a timestamp.
func (Dialect) AddSeconds(ts, seconds string) string {
	return "(" + ts + " + to_seconds(" + seconds + "))"
}

// Interval is in whole seconds where it can be.
func (Dialect) Interval(d time.Duration) string {
	return "INTERVAL '" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " seconds'"
}

// UTC reads a naive timestamp in a zone. DuckDB has naive ones of several precisions; AT TIME ZONE takes microseconds.
func (d Dialect) UTC(expr string, c warehouse.Column, zone string) string {
	t := strings.ToUpper(c.Type)
	if d.KindOf(t) != warehouse.Timestamp || strings.HasSuffix(t, "WITH TIME ZONE") || t == "TIMESTAMPTZ" {
		return expr
	}
	return "(CAST(" + expr + " AS TIMESTAMP) AT TIME ZONE " + d.Text(zone) + ") AT TIME ZONE 'UTC'"
}

// Wire casts what the driver would give slowly, or in types of its own.
func (Dialect) Wire(expr string, c warehouse.Column) string {
	t := strings.ToUpper(c.Type)
	switch c.Kind {
	case warehouse.Bool, warehouse.Date:
		return expr
	case warehouse.Int:
		if t == "BIGINT" {
			return expr
		}
		return "CAST(" + expr + " AS BIGINT)"
	case warehouse.Float:
		if t == "DOUBLE" {
			return expr
		}
		return "CAST(" + expr + " AS DOUBLE)"
	case warehouse.Timestamp:
		if t == "TIMESTAMP" {
			return expr
		}
		return "CAST(" + expr + " AS TIMESTAMP)"
	case warehouse.JSON:
		if t == "JSON" {
			return "CAST(" + expr + " AS VARCHAR)"
		}
		return "CAST(to_json(" + expr + ") AS VARCHAR)"
	default:
		switch t {
		case "VARCHAR":
			return expr
		case "BLOB":
			return "to_base64(" + expr + ")"
		default:
			return "CAST(" + expr + " AS VARCHAR)"
		}
	}
}

// JSONArray is the JSON text of several values.
func (Dialect) JSONArray(exprs ...string) string {
	return "CAST(json_array(" + strings.Join(exprs, ", ") + ") AS VARCHAR)"
}

// RenameTable leaves the table in its schema.
func (d Dialect) RenameTable(t warehouse.Table, name string) string {
	return "ALTER TABLE " + d.Table(t) + " RENAME TO " + d.Quote(name)
}

// Trim is trim, which DuckDB does for all blanks.
func (Dialect) Trim(text string) string { return "trim(" + text + ")" }

// Digest is md5, which DuckDB gives as hexadecimal digits.
func (Dialect) Digest(expr string) string { return "md5(" + expr + ")" }

// Matches uses RE2, as DuckDB does.
func (d Dialect) Matches(expr, pattern string) string {
	return "regexp_full_match(" + expr + ", " + d.Text(pattern) + ")"
}

// EditDistance is levenshtein, which counts bytes.
func (Dialect) EditDistance(a, b string) (expr, wayOut string) {
	return "levenshtein(" + a + ", " + b + ")", ""
}

// JaroWinkler is DuckDB's own, which counts bytes; of two texts that are alike by less than 0.7 it takes no notice of how they begin.
func (Dialect) JaroWinkler(a, b string) (expr, wayOut string) {
	return "jaro_winkler_similarity(" + a + ", " + b + ")", ""
}

// Soundex is put together: DuckDB has none.
func (d Dialect) Soundex(name string) string {
	return warehouse.Soundex(name, func(expr, pattern, by string) string {
		return "regexp_replace(" + expr + ", " + d.Text(pattern) + ", " + d.Text(by) + ", 'g')"
	})
}

// Days is the difference.
func (Dialect) Days(from, to string) string { return "date_diff('day', " + from + ", " + to + ")" }

// IntDiv is //, for DuckDB's / gives a fraction.
func (Dialect) IntDiv(expr string, by int64) string { return fmt.Sprintf("(%s // %d)", expr, by) }

// First is DuckDB's first, which it turns into an arg_min without sorting.
func (Dialect) First(value, _, orderBy, where string) string {
	s := "first(" + value + " ORDER BY " + orderBy + ")"
	if where != "" {
		s += " FILTER (WHERE " + where + ")"
	}
	return s
}

// ReadFile is read_csv, read_parquet or read_json, by the format or the path's ending.
func (d Dialect) ReadFile(f warehouse.File) (string, error) {
	format := f.Format
	if format == "" {
		format = formatOf(f.Path)
	}
	args := []string{d.Text(f.Path)}
	if f.Hive {
		args = append(args, "hive_partitioning = true")
	}
	if f.Union {
		args = append(args, "union_by_name = true")
	}
	switch format {
	case "csv":
		args = append(args, fmt.Sprintf("header = %t", !f.NoHeader))
		for _, option := range []struct{ name, text string }{{"delim", f.Delimiter}, {"quote", f.Quote}, {"escape", f.Escape}, {"encoding", f.Encoding}} {
			if option.text != "" {
				args = append(args, option.name+" = "+d.Text(option.text))
			}
		}
		if len(f.Nulls) > 0 {
			nulls := make([]string, len(f.Nulls))
			for i, text := range f.Nulls {
				nulls[i] = d.Text(text)
			}
			args = append(args, "nullstr = ["+strings.Join(nulls, ", ")+"]")
		}
		if types := d.csvTypes(f); types != "" {
			args = append(args, "types = "+types)
		}
		return "read_csv(" + strings.Join(args, ", ") + ")", nil
	case "parquet":
		return "read_parquet(" + strings.Join(args, ", ") + ")", nil
	case "json":
		return "read_json(" + strings.Join(args, ", ") + ")", nil
	default:
		return "", fmt.Errorf("DuckDB reads .csv, .tsv, .txt, .parquet, .json, .jsonl and .ndjson files (and .gz, .zst of them)")
	}
}

func (d Dialect) csvTypes(f warehouse.File) string {
	var pairs []string
	seen := map[string]bool{}
	for _, name := range sortedKeys(f.Types) {
		pairs = append(pairs, d.Text(name)+": "+d.Text(csvType(f.Types[name])))
		seen[name] = true
	}
	for _, name := range f.TextCols {
		if !seen[name] {
			pairs = append(pairs, d.Text(name)+": 'VARCHAR'")
		}
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// csvType lets YAML say text, as other engines do; everything else is DuckDB's own name.
func csvType(t string) string {
	if strings.EqualFold(t, "text") || strings.EqualFold(t, "string") {
		return "VARCHAR"
	}
	return t
}

func formatOf(path string) string {
	p := strings.ToLower(path)
	for _, z := range []string{".gz", ".zst"} {
		p = strings.TrimSuffix(p, z)
	}
	for ending, format := range map[string]string{
		".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet",
		".json": "json", ".jsonl": "json", ".ndjson": "json",
	} {
		if strings.HasSuffix(p, ending) {
			return format
		}
	}
	return ""
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// CreateTable makes a table if it is missing.
func (d Dialect) CreateTable(t warehouse.Table, columns []string, _ string, _ ...string) string {
	return warehouse.CreateMissing(d, t, columns)
}

// Swap replaces the table, which a transaction may do.
func (d Dialect) Swap(t warehouse.Table, _ bool, query string) (before, within []string) {
	return nil, []string{d.CreateTableAs(t, query)}
}

// Empty replaces the table by none of its rows: nothing of its values stays.
func (d Dialect) Empty(t warehouse.Table) string {
	return d.CreateTableAs(t, "SELECT * FROM "+d.Table(t)+" LIMIT 0")
}

// Discard drops the table.
func (d Dialect) Discard(t warehouse.Table) string { return "DROP TABLE IF EXISTS " + d.Table(t) }

// Relations reads the catalogue.
func (d Dialect) Relations(schema string) string {
	return "SELECT table_name, table_type FROM information_schema.tables WHERE lower(table_schema) = lower(" + d.Text(schema) + ") AND table_catalog = current_database()"
}
