// Package snowflake is Snowflake as a warehouse: its dialect and its client, which stands on Snowflake's own driver.
package snowflake

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Dialect writes Snowflake's SQL. The zero value is ready.
type Dialect struct{}

// Name is snowflake.
func (Dialect) Name() string { return "snowflake" }

// Lease is renewed at a quarter of it, by one more UPDATE each time.
func (Dialect) Lease() time.Duration { return 15 * time.Minute }

// maxIdentifier is how many letters a name has at most.
const maxIdentifier = 255

var (
	plainLower = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)
	plainUpper = regexp.MustCompile(`^[A-Z_][A-Z0-9_$]*$`)
)

// fold is a name as Snowflake has it. Names without quotes are folded to upper case there, and the other way round elsewhere: a name in
// lower case alone means the folded one, which is also what people write in Snowflake's SQL. Names of mixed case are kept.
func fold(name string) string {
	if plainLower.MatchString(name) {
		return strings.ToUpper(name)
	}
	return name
}

// unfold is fold's other way.
func unfold(name string) string {
	if plainUpper.MatchString(name) {
		return strings.ToLower(name)
	}
	return name
}

// Quote quotes an identifier; one that is too long is shortened, with a hash that keeps it apart from others.
func (Dialect) Quote(id string) string {
	return `"` + strings.ReplaceAll(short(fold(id)), `"`, `""`) + `"`
}

// Kept is the name as it is read: shortened where it is too long.
func (Dialect) Kept(id string) string { return unfold(short(fold(id))) }

func short(id string) string { return warehouse.ShortName(id, maxIdentifier, utf8.RuneCountInString) }

// Table quotes a relation's name: database, schema, table.
func (d Dialect) Table(t warehouse.Table) string { return warehouse.QualifiedName(d.Quote, t) }

// Text is a string literal, in which a backslash escapes too.
func (Dialect) Text(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''")
	return "'" + strings.ReplaceAll(s, "\x00", `\0`) + "'"
}

// Time is a timestamp literal in UTC.
func (Dialect) Time(t time.Time) string {
	return "CAST('" + t.UTC().Format("2006-01-02 15:04:05.999999") + "' AS TIMESTAMP_NTZ(6))"
}

// Value is a literal of a Go scalar.
func (d Dialect) Value(v any) string { return warehouse.Literal(d, v, float) }

// float is a literal of double precision.
func float(v float64) string {
	switch { // a literal with a point would be a decimal
	case math.IsNaN(v):
		return "CAST('NaN' AS FLOAT)"
	case math.IsInf(v, 0):
		return "CAST('" + strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(v, 'g', -1, 64), "+")) + "' AS FLOAT)"
	}
	return "CAST('" + strconv.FormatFloat(v, 'g', -1, 64) + "' AS FLOAT)"
}

// Type is the type for a kind. All whole numbers are decimals to Snowflake; 19 digits are those that Snowflake's own HASH has, and the
// largest that are kept in 64 bits here.
func (Dialect) Type(k warehouse.Kind) string {
	return [...]string{"VARCHAR", "BOOLEAN", "NUMBER(19,0)", "FLOAT", "NUMBER(38,9)", "DATE", "TIMESTAMP_NTZ(6)", "VARIANT"}[k]
}

// maxInt is how many digits a whole number has at most that is taken for one of 64 bits. Columns of more, which those that are declared
// as INTEGER or BIGINT are, are decimals: their digits are kept whatever they are.
const maxInt = 19

var size = regexp.MustCompile(`^[A-Z]+ *\( *(\d+) *(?:, *(\d+) *)?\)$`)

// KindOf says what one of Snowflake's types means.
func (Dialect) KindOf(t string) warehouse.Kind {
	t = strings.ToUpper(strings.TrimSpace(t))
	base, _, _ := strings.Cut(t, "(")
	switch base = strings.TrimSpace(base); {
	case strings.HasPrefix(base, "TIMESTAMP"), base == "DATETIME":
		return warehouse.Timestamp
	}
	switch base {
	case "BOOLEAN":
		return warehouse.Bool
	case "NUMBER", "DECIMAL", "NUMERIC", "FIXED":
		m := size.FindStringSubmatch(t)
		if m == nil || m[2] != "" && m[2] != "0" {
			return warehouse.Decimal
		}
		if digits, _ := strconv.Atoi(m[1]); digits > maxInt {
			return warehouse.Decimal
		}
		return warehouse.Int
	case "INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT", "DECFLOAT":
		return warehouse.Decimal
	case "FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL":
		return warehouse.Float
	case "DATE":
		return warehouse.Date
	case "VARIANT", "OBJECT", "ARRAY", "MAP", "VECTOR":
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

// TryCast gives NULL where the value does not fit. Snowflake's own takes texts alone.
func (Dialect) TryCast(expr, typ string) string {
	text := "CAST(" + expr + " AS VARCHAR)"
	switch t := strings.ToUpper(typ); {
	case t == "VARIANT":
		return "TRY_PARSE_JSON(" + text + ")"
	case t == "OBJECT", t == "ARRAY":
		return "AS_" + t + "(TRY_PARSE_JSON(" + text + "))"
	}
	return "TRY_CAST(" + text + " AS " + typ + ")"
}

// Hash is Snowflake's own hash over the typed values, as a 63-bit number. NULL is a value to it.
func (d Dialect) Hash(exprs ...string) string {
	if len(exprs) == 0 {
		return d.Cast("0", warehouse.Int)
	}
	return d.Cast("BITAND(HASH("+strings.Join(exprs, ", ")+"), 9223372036854775807)", warehouse.Int)
}

// HashType is the type of Hash.
func (d Dialect) HashType() string { return d.Type(warehouse.Int) }

// HashVersion names what is hashed; Snowflake has no releases to name.
func (Dialect) HashVersion() string { return "snowflake hash63" }

// HashText is 16 hexadecimal digits.
func (Dialect) HashText(h string) string {
	return "LPAD(LOWER(TRIM(TO_CHAR(" + h + ", 'XXXXXXXXXXXXXXXX'))), 16, '0')"
}

// Bucket is 0 … n-1.
func (Dialect) Bucket(h string, n int64) string { return fmt.Sprintf("MOD(%s, %d)", h, n) }

// SortArray sorts arrays.
func (Dialect) SortArray(expr string, c warehouse.Column) string {
	if strings.HasPrefix(strings.ToUpper(c.Type), "ARRAY") {
		return "ARRAY_SORT(" + expr + ")"
	}
	return expr
}

// Comparable gives a text for what has no equality. Snowflake keeps objects with their keys in order.
func (Dialect) Comparable(expr string, c warehouse.Column) string {
	switch t := strings.ToUpper(c.Type); {
	case strings.HasPrefix(t, "VARIANT"), strings.HasPrefix(t, "OBJECT"), strings.HasPrefix(t, "ARRAY"), strings.HasPrefix(t, "MAP"):
		return "TO_JSON(" + expr + ")"
	case strings.HasPrefix(t, "GEO"):
		return "ST_ASWKT(" + expr + ")"
	}
	return expr
}

// Slice is a range of key hashes, which are spread evenly; plans are written in their order, so that other rows are not looked at.
func (Dialect) Slice(alias string, from, to, n, _ int64) string {
	return warehouse.HashSlice(alias, from, to, n)
}

// SliceNumber is the part a row is in. Snowflake has no row numbers to read by.
func (Dialect) SliceNumber(alias string, n, _ int64) string {
	return fmt.Sprintf("LEAST(%s, %d)", Dialect{}.IntDiv("COALESCE("+alias+".key_hash, 0)", warehouse.HashSliceWidth(n)), n-1)
}

// Highest is of no use here: parts are made of hashes.
func (Dialect) Highest() string { return "COUNT(*)" }

// workPrefix marks tables that are needed during one build only: they are not kept after they are dropped.
const workPrefix = "dray_work_"

// Work is a transient table beside the others: Snowflake's temporary tables belong to one session.
func (Dialect) Work(t warehouse.Table) warehouse.Table {
	t.Name = workPrefix + t.Name
	return t
}

// CreateTableAs replaces a table in one statement. Rows are written in the order by which they are looked up, so that the
// micro-partitions are apart; a clustering key would have Snowflake keep that order, at a price, in tables that are soon replaced.
func (d Dialect) CreateTableAs(t warehouse.Table, query string, by ...string) string {
	kind, options := "TABLE", ""
	if strings.HasPrefix(t.Name, workPrefix) {
		kind, options = "TRANSIENT TABLE", " DATA_RETENTION_TIME_IN_DAYS = 0"
	}
	if len(by) > 0 {
		query = "SELECT * FROM (" + query + "\n) AS q ORDER BY " + warehouse.QuotedList(d.Quote, by)
	}
	return "CREATE OR REPLACE " + kind + " " + d.Table(t) + options + " AS " + query
}

// CreateTable makes a table if it is missing. Days lie apart by themselves where rows come as time goes.
func (d Dialect) CreateTable(t warehouse.Table, columns []string, _ string, _ ...string) string {
	return warehouse.CreateMissing(d, t, columns)
}

// Swap replaces all rows in one statement, whose query may read the table as it was, and which is no end of the transaction.
func (d Dialect) Swap(t warehouse.Table, there bool, query string) (before, within []string) {
	if !there {
		before = []string{"CREATE TABLE IF NOT EXISTS " + d.Table(t) + " AS SELECT * FROM (" + query + "\n) AS q LIMIT 0"}
	}
	return before, []string{"INSERT OVERWRITE INTO " + d.Table(t) + " " + query}
}

// Empty deletes all rows. TRUNCATE would commit.
func (d Dialect) Empty(t warehouse.Table) string { return "DELETE FROM " + d.Table(t) }

// Discard leaves an empty table: dropping it would commit.
func (d Dialect) Discard(t warehouse.Table) string { return d.Empty(t) }

// DDL is no part of transactions.
func (Dialect) DDL() bool { return false }

// Relations reads the database's catalogue.
func (d Dialect) Relations(schema string) string {
	return "SELECT CASE WHEN table_name = UPPER(table_name) THEN LOWER(table_name) ELSE table_name END AS table_name, table_type FROM information_schema.tables WHERE table_schema = " +
		d.Text(fold(schema))
}

// Contains has a function of its own.
func (Dialect) Contains(expr, part string) string { return "CONTAINS(" + expr + ", " + part + ")" }

// Xor is BITXOR_AGG: BIT_XOR takes two values there.
func (Dialect) Xor(expr string) string { return "BITXOR_AGG(" + expr + ")" }

// Order says where NULL goes: by itself it is the greatest of all.
func (Dialect) Order(expr string, desc, nullsFirst bool) string {
	return warehouse.OrderNulls(expr, desc, nullsFirst)
}

// Materialized is nothing: Snowflake decides itself.
func (Dialect) Materialized() string { return "" }

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

// RenameTable leaves the table in its schema; a name alone would be looked for in the session's.
func (d Dialect) RenameTable(t warehouse.Table, name string) string {
	to := t
	to.Name = name
	return "ALTER TABLE " + d.Table(t) + " RENAME TO " + d.Table(to)
}

// Now is the clock in UTC, without a zone.
func (Dialect) Now() string {
	return "CAST(CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()) AS TIMESTAMP_NTZ(6))"
}

// AddSeconds moves a timestamp by whole seconds.
func (Dialect) AddSeconds(ts, seconds string) string {
	return "DATEADD(second, " + seconds + ", " + ts + ")"
}

// Interval is in seconds, or in microseconds where it has to be.
func (Dialect) Interval(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("INTERVAL '%d second'", int64(d/time.Second))
	}
	return fmt.Sprintf("INTERVAL '%d microsecond'", d.Microseconds())
}

// UTC reads a timestamp without a zone in one.
func (d Dialect) UTC(expr string, c warehouse.Column, zone string) string {
	if t := strings.ToUpper(c.Type); !strings.HasPrefix(t, "TIMESTAMP_NTZ") && t != "DATETIME" {
		return expr
	}
	return "CONVERT_TIMEZONE(" + d.Text(zone) + ", 'UTC', " + expr + ")"
}

// Wire casts what the client would give in types of its own.
func (Dialect) Wire(expr string, c warehouse.Column) string {
	t := strings.ToUpper(c.Type)
	switch c.Kind {
	case warehouse.Bool, warehouse.Date, warehouse.Int, warehouse.Float:
		return expr
	case warehouse.Timestamp:
		if strings.HasPrefix(t, "TIMESTAMP_LTZ") || strings.HasPrefix(t, "TIMESTAMP_TZ") {
			return "CAST(CONVERT_TIMEZONE('UTC', " + expr + ") AS TIMESTAMP_NTZ)"
		}
		return expr
	case warehouse.JSON:
		if strings.HasPrefix(t, "VECTOR") {
			expr = "CAST(" + expr + " AS ARRAY)"
		}
		return "TO_JSON(" + expr + ")"
	default:
		switch {
		case strings.HasPrefix(t, "VARCHAR"):
			return expr
		case strings.HasPrefix(t, "BINARY"):
			return "BASE64_ENCODE(" + expr + ")"
		case strings.HasPrefix(t, "GEO"):
			return "ST_ASWKT(" + expr + ")"
		default:
			return "CAST(" + expr + " AS VARCHAR)"
		}
	}
}

// JSONArray is the JSON text of several values; a NULL has to be said.
func (Dialect) JSONArray(exprs ...string) string {
	parts := make([]string, len(exprs))
	for i, e := range exprs {
		parts[i] = "COALESCE(TO_VARIANT(" + e + "), PARSE_JSON('null'))"
	}
	return "TO_JSON(ARRAY_CONSTRUCT(" + strings.Join(parts, ", ") + "))"
}

// Trim is TRIM of what is listed: by itself it takes the common blank alone.
func (d Dialect) Trim(text string) string {
	return "TRIM(" + text + ", " + d.Text(warehouse.Blanks) + ")"
}

// Digest is MD5, which Snowflake gives as hexadecimal digits.
func (Dialect) Digest(expr string) string { return "MD5(" + expr + ")" }

// Matches uses Snowflake's own expressions, of the whole text; they agree with RE2 in what is usual.
func (d Dialect) Matches(expr, pattern string) string {
	parameters := ""
	if rest, ok := strings.CutPrefix(pattern, "(?i)"); ok {
		parameters, pattern = ", 'i'", rest
	}
	return "REGEXP_LIKE(" + expr + ", " + d.Text(capturing(pattern)) + parameters + ")"
}

// capturing writes groups as POSIX has them: Snowflake has none that do not capture.
func capturing(pattern string) string { return strings.ReplaceAll(pattern, "(?:", "(") }

// EditDistance is EDITDISTANCE.
func (Dialect) EditDistance(a, b string) (expr, wayOut string) {
	return "EDITDISTANCE(" + a + ", " + b + ")", ""
}

// JaroWinkler is Snowflake's, in whole percent.
func (d Dialect) JaroWinkler(a, b string) (expr, wayOut string) {
	return "CAST(JAROWINKLER_SIMILARITY(" + a + ", " + b + ") AS " + d.Type(warehouse.Float) + ") / 100", ""
}

// Soundex is put together: Snowflake's own takes no notice of h and w.
func (d Dialect) Soundex(name string) string {
	return warehouse.Soundex(name, func(expr, pattern, by string) string {
		return "REGEXP_REPLACE(" + expr + ", " + d.Text(pattern) + ", " + d.Text(by) + ")"
	})
}

// Days is DATEDIFF.
func (Dialect) Days(from, to string) string { return "DATEDIFF(day, " + from + ", " + to + ")" }

// IntDiv takes the remainder off first: / gives six digits behind the point, and rounds the last.
func (d Dialect) IntDiv(expr string, by int64) string {
	return d.Cast(fmt.Sprintf("((%[1]s) - MOD(%[1]s, %[2]d)) / %[2]d", expr, by), warehouse.Int)
}

// First is the first of what is gathered in order, in an object, for an array takes no NULL. Arrays hold VARIANT: the type is put back.
func (Dialect) First(value, typ, orderBy, where string) string {
	v := "OBJECT_CONSTRUCT_KEEP_NULL('v', " + value + ")"
	if where != "" {
		v = "IFF(" + where + ", " + v + ", NULL)"
	}
	first := "STRIP_NULL_VALUE(GET_PATH(GET(ARRAY_AGG(" + v + ") WITHIN GROUP (ORDER BY " + orderBy + "), 0), 'v'))"
	if typ == "" || typ == "VARIANT" {
		return first
	}
	return "CAST(" + first + " AS " + typ + ")"
}

// FirstNeedsType marks that First has to be told the type: see warehouse.FirstNeedsType.
func (Dialect) FirstNeedsType() {}

// ReadFile is refused: files are stages there.
func (Dialect) ReadFile(warehouse.File) (string, error) {
	return "", errors.New("files of the project are not read in place by Snowflake: load them into tables, or make an external table of them")
}

var _ warehouse.Dialect = Dialect{}
