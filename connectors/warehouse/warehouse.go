// Package warehouse is the contract between Dray and the engine that holds the data.
//
// Everything that grows with the data runs as SQL behind this contract (I2); rows come out only as pages of changes or as
// small counts. The four engines live below this folder, each in a package of its own, and are known to connectors/registry alone.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Warehouse is one open connection (or pool) to an engine. It is safe for concurrent use.
type Warehouse interface {
	Dialect() Dialect
	// Exec runs one statement and returns the number of rows it changed (0 where the engine does not tell).
	Exec(ctx context.Context, sql string) (int64, error)
	// Atomic runs the statements in one transaction, or as one script that is all or nothing.
	Atomic(ctx context.Context, statements ...string) error
	// Query runs one statement; the caller closes the rows.
	Query(ctx context.Context, sql string) (Rows, error)
	// Load appends rows to an existing table in bulk, outside Atomic. Values are those of Rows.Scan; next returns nil at the end.
	Load(ctx context.Context, table Table, columns []string, next func() ([]any, error)) (int64, error)
	// Columns describes what a query would return, without running it.
	Columns(ctx context.Context, query string) ([]Column, error)
	// Exists tells whether a relation is there.
	Exists(ctx context.Context, table Table) (bool, error)
	Close() error
}

// Rows are read one at a time, like database/sql's.
type Rows interface {
	Columns() []Column
	Next() bool
	// Values returns the current row; the slice is reused by the following Next. Go types by Kind: Bool bool, Int int64,
	// Float float64, Date and Timestamp time.Time in UTC, all others string (Decimal its digits, JSON its text); NULL is nil.
	Values() ([]any, error)
	Err() error
	Close() error
}

// Table names a relation. Schema may be empty for the engine's default; Database too.
type Table struct{ Database, Schema, Name string }

// Column is a name with the engine's own type and what it means to Dray.
type Column struct {
	Name string
	Type string // as the engine writes it: DECIMAL(18,2), VARCHAR
	Kind Kind
}

// Kind is what a type means to plan and to destinations, the same for every engine.
type Kind int

// The kinds.
const (
	Text Kind = iota // also UUID, enums, intervals, times of day, bytes (base64)
	Bool
	Int       // fits 64 bits signed
	Float     // binary floating point
	Decimal   // exact: decimals and integers over 64 bits
	Date      // a calendar day
	Timestamp // an instant, UTC
	JSON      // objects and arrays, structs, lists and maps included
)

// String is the kind's name in messages.
func (k Kind) String() string {
	return [...]string{"text", "boolean", "integer", "float", "decimal", "date", "timestamp", "json"}[k]
}

// Errors that callers act on. Engines wrap them.
var (
	ErrLocked   = errors.New("the warehouse is locked by another process")
	ErrReadOnly = errors.New("the warehouse is read-only")
	ErrNotFound = errors.New("not found")
	// ErrDenied: the credentials are not good, or may not do what the statement does.
	ErrDenied = errors.New("the warehouse denies access")
	// ErrEngine: the engine itself failed (no memory, a full disk, a lost connection), as against a statement that is wrong.
	ErrEngine = errors.New("the warehouse failed")
)

// QueryError is a statement that the engine refused. Its text carries the engine's words and never the statement's literals.
type QueryError struct {
	Line int    // in the statement, from 1; 0 where the engine does not tell
	Msg  string // the engine's message
	Hint string // the way out, where the engine's package knows one
	Err  error
}

func (e *QueryError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
	}
	return e.Msg
}

// Unwrap gives the driver's error or one of the sentinels above.
func (e *QueryError) Unwrap() error { return e.Err }

// Dialect writes SQL for one engine. All methods are pure.
type Dialect interface {
	Name() string // duckdb, postgres, bigquery, snowflake
	// Lease is how long a lock that is kept in the engine lasts unless it is renewed: longer where statements are slow or counted.
	Lease() time.Duration
	// Quote writes an identifier; Table a relation; Text, Time and Value literals.
	Quote(identifier string) string
	// Kept is a name as Rows and Relations give it where Quote wrote it: one that is longer than the engine takes is shortened with
	// a hash of the whole, so that two of the same beginning never meet.
	Kept(identifier string) string
	Table(t Table) string
	Text(value string) string
	Time(t time.Time) string
	Value(v any) string // nil, bool, int, int64, uint64, json.Number (its digits, exactly), float64, string, time.Time; a list is not accepted

	// Type is the engine's type for a kind, as in CREATE TABLE and CAST.
	Type(k Kind) string
	KindOf(engineType string) Kind
	Cast(expr string, k Kind) string
	// TryCast gives NULL where the value does not fit.
	TryCast(expr, engineType string) string

	// Hash is the engine's fastest good hash of typed values as a signed or unsigned 64-bit value: NULL, '' and
	// ('a','bc')/('ab','c') all differ. HashVersion changes whenever the same values could hash differently.
	Hash(exprs ...string) string
	HashType() string
	HashVersion() string
	// HashText is a hash as text for people and JSON (16 hexadecimal digits).
	HashText(hashExpr string) string
	// Bucket is the remainder by n of a whole number that is not negative, as a hash is: it spreads hashes over n pages, 0 … n-1.
	Bucket(hashExpr string, n int64) string

	// SortArray sorts an array's elements, so that order does not make a difference; other columns stay as they are.
	SortArray(expr string, c Column) string
	// Comparable is an expression that is equal exactly where the values are: JSON by value, not by text.
	Comparable(expr string, c Column) string
	// Slice picks the parts from … to-1 of n of a plan that is not changed meanwhile, of which highest is Highest's number; all
	// parts together are the plan, each about as large as the others. SliceNumber is a row's part. alias is the plan's in the query.
	Slice(alias string, from, to, n, highest int64) string
	SliceNumber(alias string, n, highest int64) string
	// Highest is an aggregate over a plan for Slice.
	Highest() string

	// Work is where a table of this name lies that is needed during one build only: where the engine has a place without
	// durability, there. All connections of the Warehouse see it; Atomic does not mix it with other tables.
	Work(t Table) Table
	// CreateTableAs replaces a table by a query's result in one statement; CreateView the same for a view. by are the columns by
	// which rows are looked up, for engines that keep rows in an order of choice (clustering).
	CreateTableAs(t Table, query string, by ...string) string
	CreateView(t Table, query string) string
	// CreateTable makes a table if it is missing: columns are name and type. day is a timestamp by whose day rows are looked up and
	// pruned, "" = none, for engines that keep days apart (partitioning); by as in CreateTableAs.
	CreateTable(t Table, columns []string, day string, by ...string) string
	CreateSchema(schema string) string
	// DropSchema takes a schema away with what stands in it, or all of that alone where the schema could not be made again. One that
	// is not there is no error.
	DropSchema(schema string) string
	// Swap puts a query's result, which may read the table, in the table's place as a part of Atomic: within stands there. Some engines make no tables in a
	// transaction: the table, if it is not there, is made by before, run on its own, and its columns stay as they are.
	Swap(t Table, there bool, query string) (before, within []string)
	// Empty takes all rows out of a table, Discard also the table where the engine can do that in a transaction: parts of Atomic.
	// A table that was discarded may be there, without rows.
	Empty(t Table) string
	Discard(t Table) string
	// DDL tells whether Atomic takes back tables that it made, dropped or renamed. Where it does not they are no part of it: Atomic
	// takes such statements alone, and runs one after the other.
	DDL() bool
	// Relations is a query of the relations of a schema: their name and BASE TABLE or VIEW.
	Relations(schema string) string
	// RenameTable gives a table another name in its schema; part of a transaction.
	RenameTable(t Table, name string) string

	// Now is the engine's clock as a timestamp in UTC; AddSeconds moves a timestamp.
	Now() string
	AddSeconds(ts string, seconds string) string
	// Interval is a span of time as a literal that can be taken from a timestamp.
	Interval(d time.Duration) string
	// UTC is a column whose times without a zone are a zone's (Europe/Copenhagen), in UTC and still without one; columns of other
	// types stay as they are.
	UTC(expr string, c Column, zone string) string
	// Wire is the expression by which a column leaves the warehouse so that Rows gives the Go types promised above.
	Wire(expr string, c Column) string
	// JSONArray makes a JSON text of several typed values: the canonical form of a composite key.
	JSONArray(exprs ...string) string

	// NormalizeEmail, NormalizePhone, NormalizeName and NormalizeDate are the normalisers of DESIGN §12; NULL for what cannot be parsed.
	NormalizeEmail(expr string) string
	NormalizePhone(expr, country string) string
	NormalizeName(expr string) string
	NormalizeDate(expr string) string
	NormalizeText(expr string) string

	// Trim takes the blanks of Unicode (category Zs, the no-break space among them) off both ends of a text; not tabs and line breaks.
	Trim(text string) string
	// Digest is the MD5 of a text as 32 lower-case hexadecimal digits: the same on every engine, so that ids made of it are.
	Digest(expr string) string
	// Matches tells whether the whole of a text matches a regular expression (RE2).
	Matches(expr, pattern string) string
	// IntDiv divides a whole number that is not negative by a constant, without its fraction.
	IntDiv(expr string, by int64) string

	// EditDistance is how many letters have to be put in, left out or changed to make one text of another (Levenshtein), JaroWinkler how
	// alike two texts are, from 0 to 1, more so where they begin alike. expr is "" where the engine has no such function; wayOut says
	// what to do where it has none, or refuses it. NULL for NULL. DuckDB counts bytes, not letters: texts should be without accents.
	EditDistance(a, b string) (expr, wayOut string)
	JaroWinkler(a, b string) (expr, wayOut string)
	// Soundex is the American Soundex of a text as NormalizeName gives it (R163): the same on every engine; NULL without a letter from a to z.
	Soundex(name string) string
	// Days is how many days lie between two dates, negative where the first is the later.
	Days(from, to string) string

	// Contains tells whether a text has another in it.
	Contains(expr, part string) string
	// Xor is the aggregate of whole numbers that sets the bits which an odd number of them have.
	Xor(expr string) string
	// Order is one key of an ORDER BY, also in an aggregate or a window: NULL comes last unless nullsFirst.
	Order(expr string, desc, nullsFirst bool) string
	// Materialized is what stands between AS and the parenthesis of a common table expression that is to be computed once.
	Materialized() string
	// First is an aggregate: value in the first row, in the order orderBy, of the group's rows for which where holds ("" = all),
	// also where it is NULL there; NULL where there is no such row. typ is the value's type; "" = it is not known, see FirstNeedsType.
	First(value, typ, orderBy, where string) string

	// ReadFile is a FROM item that reads files in place; an error where the engine cannot.
	ReadFile(f File) (string, error)
}

// File is a source table that lies in files (YAML.md §2). Paths are absolute or URLs; globs allowed.
type File struct {
	Path      string
	Format    string // csv, parquet, json; empty = by the path's ending
	Types     map[string]string
	Delimiter string
	NoHeader  bool   // the first line of a CSV file is a row already
	Quote     string // "" = the engine finds out
	Escape    string
	Nulls     []string // texts that stand for NULL; nil = the empty one
	Encoding  string   // utf-8, utf-16, latin-1; "" = utf-8
	Union     bool     // columns of several files go by their names
	Hive      bool
	TextCols  []string // columns that must be text although they look like numbers ('007')
}
