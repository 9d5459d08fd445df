package postgres

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Functions is the schema of the few functions that PostgreSQL lacks; Open makes them.
const Functions = "dray_functions"

// Dialect writes PostgreSQL's SQL. The zero value writes everything but HashVersion, which names the server's release.
type Dialect struct {
	warehouse.PostgresFamily
	release string
	fold    string // how lower() is told to fold letters beyond ASCII, where the database's own locale does not
}

// lower folds a text.
func (d Dialect) lower(expr string) string { return "lower((" + expr + ")" + d.fold + ")" }

// Name is postgres.
func (Dialect) Name() string { return "postgres" }

// Lease is renewed at a quarter of it.
func (Dialect) Lease() time.Duration { return 2 * time.Minute }

// maxIdentifier is what PostgreSQL keeps of a name, in bytes (NAMEDATALEN); the rest it would cut off silently.
const maxIdentifier = 63

// Quote quotes an identifier; one that is too long is shortened, with a hash that keeps it apart from others.
func (Dialect) Quote(id string) string { return `"` + strings.ReplaceAll(short(id), `"`, `""`) + `"` }

// Kept is the name that is shortened where it is too long.
func (Dialect) Kept(id string) string { return short(id) }

func short(id string) string { return warehouse.ShortName(id, maxIdentifier, warehouse.Bytes) }

// Table quotes a relation's name. A database cannot be named in PostgreSQL unless it is the one that is connected to.
func (d Dialect) Table(t warehouse.Table) string { return warehouse.QualifiedName(d.Quote, t) }

// Text is a string literal. PostgreSQL's texts have no NUL.
func (Dialect) Text(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// Time is a timestamp literal in UTC.
func (Dialect) Time(t time.Time) string {
	return "TIMESTAMP '" + t.UTC().Format("2006-01-02 15:04:05.999999") + "'"
}

// Value is a literal of a Go scalar.
func (d Dialect) Value(v any) string { return warehouse.Literal(d, v, float) }

// float is a literal of double precision.
func float(v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "CAST('" + strings.TrimPrefix(strconv.FormatFloat(v, 'g', -1, 64), "+") + "' AS DOUBLE PRECISION)"
	}
	return "CAST('" + strconv.FormatFloat(v, 'g', -1, 64) + "' AS DOUBLE PRECISION)"
}

// Type is the type for a kind.
func (Dialect) Type(k warehouse.Kind) string {
	return [...]string{"TEXT", "BOOLEAN", "BIGINT", "DOUBLE PRECISION", "NUMERIC(38,9)", "DATE", "TIMESTAMP", "JSONB"}[k]
}

// KindOf says what one of PostgreSQL's types, as format_type writes it, means.
func (Dialect) KindOf(t string) warehouse.Kind {
	t = strings.ToLower(t)
	base, _, _ := strings.Cut(t, "(")
	base = strings.TrimSpace(base)
	switch {
	case strings.HasSuffix(t, "[]"), t == "json", t == "jsonb":
		return warehouse.JSON
	case base == "numeric", base == "decimal":
		return warehouse.Decimal
	case strings.HasPrefix(t, "timestamp"):
		return warehouse.Timestamp
	}
	switch base {
	case "boolean", "bool":
		return warehouse.Bool
	case "smallint", "integer", "bigint", "int2", "int4", "int8", "oid":
		return warehouse.Int
	case "real", "double precision", "float4", "float8":
		return warehouse.Float
	case "date":
		return warehouse.Date
	default:
		return warehouse.Text
	}
}

// Cast casts to a kind's type.
func (d Dialect) Cast(expr string, k warehouse.Kind) string {
	return "CAST(" + expr + " AS " + d.Type(k) + ")"
}

// TryCast gives NULL where the value does not fit. PostgreSQL has no such cast: a function of Dray's tries, value by value.
func (d Dialect) TryCast(expr, typ string) string {
	return Functions + ".try_cast(CAST(" + expr + " AS TEXT), CAST(NULL AS " + typ + "), " + d.Text(typ) + ")"
}

// Hash is PostgreSQL's own hash of a row, over the typed values, as a 63-bit number: each value's own 64-bit hash, combined in order.
// A row has no hash in a row: what Comparable made a pair of is two values.
func (Dialect) Hash(exprs ...string) string {
	if len(exprs) == 0 {
		return "CAST(0 AS BIGINT)"
	}
	exprs = slices.Clone(exprs)
	for i, e := range exprs {
		if inside, ok := strings.CutPrefix(e, pairs); ok {
			exprs[i] = strings.TrimSuffix(inside, ")")
		}
	}
	return "(hash_record_extended(ROW(" + strings.Join(exprs, ", ") + "), 0) & 9223372036854775807)"
}

// HashType is the type of Hash.
func (Dialect) HashType() string { return "BIGINT" }

// HashVersion names the major release: PostgreSQL does not promise that its hash functions stay the same over those.
func (d Dialect) HashVersion() string { return "postgres " + d.release + " record63.2" }

// HashText is 16 hexadecimal digits.
func (Dialect) HashText(h string) string { return "lpad(to_hex(" + h + "), 16, '0')" }

// Bucket is 0 … n-1.
func (Dialect) Bucket(h string, n int64) string { return fmt.Sprintf("(%s %% %d)", h, n) }

// SortArray sorts arrays.
func (Dialect) SortArray(expr string, c warehouse.Column) string {
	if strings.HasSuffix(c.Type, "[]") {
		return "coalesce((SELECT array_agg(e ORDER BY e) FROM unnest(" + expr + ") e), " + expr + ")" // of no elements there is none
	}
	return expr
}

// Comparable gives what can be compared and hashed by value: jsonb for json, text for what has no equality. Where values of a type have
// one hash (hash_record_extended takes NULL for 0, which 0.0 is too; a number's sign is no part of it, nor how a document is nested),
// a row of the value and what tells them apart stands for it.
func (Dialect) Comparable(expr string, c warehouse.Column) string {
	t := strings.ToLower(c.Type)
	element, list := strings.CutSuffix(t, "[]")
	base, _, _ := strings.Cut(element, "(")
	switch {
	case t == "json":
		return shaped("CAST(" + expr + " AS JSONB)")
	case t == "json[]", t == "xml", t == "point", t == "box", t == "path", t == "polygon", t == "line", t == "circle":
		return "CAST(" + expr + " AS TEXT)"
	case list, t == "jsonb":
		return shaped(expr)
	case base == "numeric", base == "decimal":
		return pair(expr, "("+expr+") < 0")
	case t == "real", t == "double precision":
		return pair(expr, "("+expr+") IS NULL")
	}
	return expr
}

// shaped is a value beside its text without digits, which are not the same wherever numbers are (1.0 and 1.00).
func shaped(expr string) string {
	return pair(expr, "translate(CAST("+expr+" AS TEXT), '0123456789.', '')")
}

// pairs is how a pair begins, so that Hash knows it.
const pairs = "ROW(/* told apart */ "

// pair is a value beside what tells it apart from others of the same hash.
func pair(value, apart string) string { return pairs + value + ", " + apart + ")" }

// rowsABlock is how many row numbers a block of 8 kB stands for in Slice: about what plans of many columns have in one. A part is a
// range of blocks, so it never holds more rows than fit there.
const rowsABlock = 64

// Slice is a range of blocks, which PostgreSQL reads without looking at others (TID range scan, since 14).
func (Dialect) Slice(alias string, from, to, n, highest int64) string {
	size := blocksAPart(n, highest)
	return fmt.Sprintf("(%[1]s.ctid >= '(%[2]d,0)'::tid AND %[1]s.ctid < '(%[3]d,0)'::tid)", alias, from*size, to*size)
}

// SliceNumber is the part a row is in.
func (Dialect) SliceNumber(alias string, n, highest int64) string {
	return fmt.Sprintf("(%s / %d)", block(alias+".ctid"), blocksAPart(n, highest))
}

func block(ctid string) string { return "CAST((" + ctid + "::text::point)[0] AS BIGINT)" }

func blocksAPart(n, highest int64) int64 {
	blocks := highest/rowsABlock + 1
	return (blocks + n - 1) / n
}

// Highest is the number of the first row of the last block.
func (Dialect) Highest() string {
	return fmt.Sprintf("coalesce(max(%s), 0) * %d", block("ctid"), rowsABlock)
}

// workPrefix marks tables that are needed during one build only: they are not logged.
const workPrefix = "dray_work_"

// Work is a table without write-ahead log, beside the others.
func (Dialect) Work(t warehouse.Table) warehouse.Table {
	t.Name = workPrefix + t.Name
	return t
}

// CreateTableAs replaces a table in one statement. The query may read the table that is replaced. Where views of others stand on
// it and the columns stay the same, its rows are replaced and the table stays, so that the views do.
func (d Dialect) CreateTableAs(t warehouse.Table, query string, _ ...string) string {
	kind := "TABLE"
	if strings.HasPrefix(t.Name, workPrefix) {
		kind = "UNLOGGED TABLE"
	}
	beside := t
	beside.Name = "dray_new_" + t.Name
	return do(fmt.Sprintf(`DROP TABLE IF EXISTS %[1]s;
CREATE %[2]s %[1]s AS %[3]s
;
PERFORM %[4]s.put_in_place(%[5]s, %[6]s, %[7]s);`,
		d.Table(beside), kind, query, Functions, d.schemaText(t), d.Text(short(t.Name)), d.Text(short(beside.Name))))
}

// CreateView replaces a view in one statement, also where its columns are others now.
func (d Dialect) CreateView(t warehouse.Table, query string) string {
	return do(fmt.Sprintf(`PERFORM %[1]s.make_room_for_view(%[2]s, %[3]s);
BEGIN
  CREATE OR REPLACE VIEW %[4]s AS %[5]s
;
EXCEPTION WHEN invalid_table_definition THEN
  DROP VIEW %[4]s CASCADE;
  CREATE VIEW %[4]s AS %[5]s
;
END;`, Functions, d.schemaText(t), d.Text(short(t.Name)), d.Table(t), query))
}

// schemaText is a relation's schema as a text: NULL for the one that the connection has by itself.
func (d Dialect) schemaText(t warehouse.Table) string {
	if t.Schema == "" {
		return "current_schema()"
	}
	return d.Text(short(t.Schema))
}

// do is a block that is one statement. Its body stands between tags that no query of a user contains.
func do(body string) string {
	tag := "$dray$"
	for strings.Contains(body, tag) {
		tag = tag[:len(tag)-1] + "_$"
	}
	return "DO " + tag + " BEGIN\n" + body + "\nEND " + tag
}

// RenameTable leaves the table in its schema.
func (d Dialect) RenameTable(t warehouse.Table, name string) string {
	return "ALTER TABLE " + d.Table(t) + " RENAME TO " + d.Quote(name)
}

// CreateSchema makes a schema if it is missing. It looks first: IF NOT EXISTS asks for the right to make schemas also where there is
// nothing to make, and a role may well have its schemas made for it.
func (d Dialect) CreateSchema(schema string) string {
	name := d.Quote(schema)
	return "DO $do$ BEGIN IF to_regnamespace(" + d.Text(name) + ") IS NULL THEN CREATE SCHEMA IF NOT EXISTS " + name + "; END IF; END $do$"
}

// DropSchema takes a schema away with what stands in it. Where the role could not make it again it was made for it: it is emptied.
func (d Dialect) DropSchema(schema string) string {
	name := d.Quote(schema)
	return `DO $do$ DECLARE r record; BEGIN
IF has_database_privilege(current_database(), 'CREATE') THEN
  DROP SCHEMA IF EXISTS ` + name + ` CASCADE;
ELSE
  FOR r IN SELECT relname AS name, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind
    FROM pg_class WHERE relnamespace = to_regnamespace(` + d.Text(name) + `) AND relkind IN ('r', 'p', 'v', 'm') LOOP
    EXECUTE format('DROP %s IF EXISTS %I.%I CASCADE', r.kind, ` + d.Text(short(schema)) + `, r.name);
  END LOOP;
END IF;
END $do$`
}

// Now is the server's clock in UTC, without a zone; not the transaction's beginning, which now() is.
func (Dialect) Now() string { return "(clock_timestamp() AT TIME ZONE 'UTC')" }

// AddSeconds moves a timestamp.
func (Dialect) AddSeconds(ts, seconds string) string {
	return "(" + ts + " + (" + seconds + ") * INTERVAL '1 second')"
}

// Interval is in seconds.
func (Dialect) Interval(d time.Duration) string {
	return "INTERVAL '" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " seconds'"
}

// UTC reads a naive timestamp in a zone.
func (d Dialect) UTC(expr string, c warehouse.Column, zone string) string {
	t := strings.ToLower(c.Type)
	if d.KindOf(t) != warehouse.Timestamp || strings.HasSuffix(t, "with time zone") || strings.HasPrefix(t, "timestamptz") {
		return expr
	}
	return "((" + expr + ") AT TIME ZONE " + d.Text(zone) + ") AT TIME ZONE 'UTC'"
}

// Wire casts what the driver would give in types of its own.
func (d Dialect) Wire(expr string, c warehouse.Column) string {
	t := strings.ToLower(c.Type)
	switch c.Kind {
	case warehouse.Bool, warehouse.Date:
		return expr
	case warehouse.Int:
		return "CAST(" + expr + " AS BIGINT)"
	case warehouse.Float:
		return "CAST(" + expr + " AS DOUBLE PRECISION)"
	case warehouse.Timestamp:
		if strings.HasSuffix(t, "with time zone") || strings.HasPrefix(t, "timestamptz") {
			return "((" + expr + ") AT TIME ZONE 'UTC')"
		}
		return "CAST(" + expr + " AS TIMESTAMP)"
	case warehouse.JSON:
		if t == "json" || t == "jsonb" {
			return "CAST(" + expr + " AS TEXT)"
		}
		return "CAST(to_jsonb(" + expr + ") AS TEXT)"
	default:
		if t == "bytea" {
			return "translate(encode(" + expr + ", 'base64'), E'\\n', '')"
		}
		return "CAST(" + expr + " AS TEXT)"
	}
}

// JSONArray is the JSON text of several values.
func (Dialect) JSONArray(exprs ...string) string {
	return "CAST(jsonb_build_array(" + strings.Join(exprs, ", ") + ") AS TEXT)"
}

// Trim is btrim.
func (d Dialect) Trim(text string) string {
	return "btrim(" + text + ", " + d.Text(warehouse.Blanks) + ")"
}

// Digest is md5, which PostgreSQL gives as hexadecimal digits.
func (Dialect) Digest(expr string) string { return "md5(" + expr + ")" }

// Matches uses PostgreSQL's own expressions, which agree with RE2 in all that is usual; flags at the beginning are carried over.
func (d Dialect) Matches(expr, pattern string) string {
	op := "~"
	if rest, ok := strings.CutPrefix(pattern, "(?i)"); ok {
		op, pattern = "~*", rest
	}
	return "(" + expr + " " + op + " " + d.Text("^(?:"+strings.ReplaceAll(pattern, `\z`, `$`)+")$") + ")"
}

// fuzzyTexts is how many letters of a text fuzzystrmatch takes at most.
const fuzzyTexts = 255

// EditDistance is levenshtein of the extension fuzzystrmatch, which takes no long texts.
func (Dialect) EditDistance(a, b string) (expr, wayOut string) {
	return fmt.Sprintf("levenshtein(left(%s, %[3]d), left(%[2]s, %[3]d))", a, b, fuzzyTexts),
		"let an owner of the database run CREATE EXTENSION fuzzystrmatch, in a schema of the search_path: it comes with PostgreSQL (postgresql-contrib)"
}

// JaroWinkler is a function of Dray's: PostgreSQL has none. It takes some microseconds a letter.
func (Dialect) JaroWinkler(a, b string) (expr, wayOut string) {
	return Functions + ".jaro_winkler(" + a + ", " + b + ")", ""
}

// Soundex is put together: fuzzystrmatch's takes no notice of h and w.
func (d Dialect) Soundex(name string) string {
	return warehouse.Soundex(name, func(expr, pattern, by string) string {
		return "regexp_replace(" + expr + ", " + d.Text(pattern) + ", " + d.Text(by) + ", 'g')"
	})
}

// Days is the difference, which is a whole number.
func (Dialect) Days(from, to string) string { return "((" + to + ") - (" + from + "))" }

// IntDiv is /, which is whole for whole numbers.
func (Dialect) IntDiv(expr string, by int64) string { return fmt.Sprintf("(%s / %d)", expr, by) }

// First is the first element of what is gathered in order. Arrays of different lengths are not gathered: their text is.
func (Dialect) First(value, typ, orderBy, where string) string {
	list := strings.HasSuffix(typ, "[]")
	if list {
		value = "CAST(" + value + " AS TEXT)"
	}
	s := "(array_agg(" + value + " ORDER BY " + orderBy + ")"
	if where != "" {
		s += " FILTER (WHERE " + where + ")"
	}
	if s += ")[1]"; list {
		return "CAST(" + s + " AS " + typ + ")"
	}
	return s
}

// FirstNeedsType marks that First has to be told the type: see warehouse.FirstNeedsType.
func (Dialect) FirstNeedsType() {}

// ReadFile is refused: PostgreSQL reads no files of the project's.
func (Dialect) ReadFile(warehouse.File) (string, error) {
	return "", errors.New("PostgreSQL does not read files in place: load them into tables, or use DuckDB")
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
	return "SELECT table_name, table_type FROM information_schema.tables WHERE lower(table_schema) = lower(" + d.Text(schema) + ")"
}
