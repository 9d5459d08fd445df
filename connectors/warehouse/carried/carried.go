// Package carried is a stand-in for a warehouse in the cloud: it speaks that warehouse's dialect and executes each statement on
// DuckDB, carried over by a transpiler. It is imported by tests only.
//
// It shows that the dialect's statements mean what Dray wants them to mean. It does not show that the cloud accepts them (for that
// internal/sqlcheck has Google's own analyzer), nor anything of speed, limits or concurrency. No statement is made weaker so that it
// can be carried: what the transpiler gets wrong is put right by the few rules of a Carrier, each of which has a name, and what
// cannot be carried is an error.
package carried

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
)

// Carrier is how one dialect is carried to DuckDB.
type Carrier struct {
	Dialect warehouse.Dialect
	// Setup is run once on each database: macros for functions that DuckDB lacks, settings that make it do as the warehouse does.
	Setup []string
	// Before is applied to a statement, after to what the transpiler makes of it.
	before, after func(sql string) (string, error)
	// Type is the warehouse's type for one of DuckDB's.
	Type func(duck string) string
	// folds: names in upper case alone are those that others write in lower case.
	folds bool
	// Script tells whether statements given to Atomic run in one transaction or one after the other, or refuses them.
	Script func(statements []string) (transaction bool, err error)
}

// Warehouse is DuckDB behind another dialect. Safe for concurrent use.
type Warehouse struct {
	inner   *duckdb.Warehouse
	carrier Carrier
	t       *Transpiler
	corpus  *Corpus
}

// Open opens a DuckDB file (or ":memory:") below dir. corpus may be nil.
func Open(ctx context.Context, c Carrier, t *Transpiler, corpus *Corpus, path, dir string) (*Warehouse, error) {
	inner, err := duckdb.Open(ctx, map[string]any{"path": path}, dir)
	if err != nil {
		return nil, err
	}
	for _, s := range c.Setup {
		if _, err := inner.Exec(ctx, s); err != nil {
			_ = inner.Close()
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	return &Warehouse{inner: inner, carrier: c, t: t, corpus: corpus}, nil
}

// Dialect is the cloud's.
func (w *Warehouse) Dialect() warehouse.Dialect { return w.carrier.Dialect }

// Close closes the database.
func (w *Warehouse) Close() error { return w.inner.Close() }

// NotCarriedError is a statement that DuckDB cannot be given.
type NotCarriedError struct {
	SQL string
	Err error
}

func (e *NotCarriedError) Error() string { return fmt.Sprintf("not carried: %v: %s", e.Err, e.SQL) }

// Unwrap gives the transpiler's words.
func (e *NotCarriedError) Unwrap() error { return e.Err }

// carry gives a statement in DuckDB's words.
func (w *Warehouse) carry(sql string) (string, error) {
	in, err := w.carrier.before(sql)
	if err != nil {
		return "", &NotCarriedError{sql, err}
	}
	parts, err := w.t.Transpile(in, w.carrier.Dialect.Name())
	if err != nil {
		return "", &NotCarriedError{sql, err}
	}
	for i := range parts {
		if parts[i], err = w.carrier.after(parts[i]); err != nil {
			return "", &NotCarriedError{sql, err}
		}
	}
	return strings.Join(parts, "; "), nil
}

// refused gives the warehouse's own error with the statement that was executed: what fails here is for whoever reads the test.
func refused(err error, carried string) error {
	if err == nil {
		return nil
	}
	return &carriedError{err, carried}
}

// Error names the statement that was executed where DRAY_CARRIED_SQL is set: for whoever looks into a failure.
func (e *carriedError) Error() string {
	if os.Getenv("DRAY_CARRIED_SQL") == "" {
		return e.error.Error()
	}
	return e.error.Error() + ": " + e.sql
}

type carriedError struct {
	error
	sql string
}

func (e *carriedError) Unwrap() error { return e.error }

// Exec runs one statement.
func (w *Warehouse) Exec(ctx context.Context, sql string) (int64, error) {
	if ofTest() {
		return w.inner.Exec(ctx, w.own(sql))
	}
	keep := w.corpus.note(ctx, w, sql)
	carried, err := w.carry(sql)
	if err != nil {
		return 0, err
	}
	n, err := w.inner.Exec(ctx, carried)
	return n, refused(keep(err), carried)
}

// Atomic runs the statements in one transaction.
func (w *Warehouse) Atomic(ctx context.Context, statements ...string) error {
	if ofTest() {
		for i := range statements {
			statements[i] = w.own(statements[i])
		}
		return w.inner.Atomic(ctx, statements...)
	}
	transaction, err := w.carrier.Script(statements)
	if err != nil {
		return err
	}
	carried := make([]string, len(statements))
	var keep []func(error) error
	for i, s := range statements {
		keep = append(keep, w.corpus.note(ctx, w, s))
		if carried[i], err = w.carry(s); err != nil {
			return err
		}
	}
	if transaction {
		err = w.inner.Atomic(ctx, carried...)
	} else {
		for i := 0; i < len(carried) && err == nil; i++ {
			_, err = w.inner.Exec(ctx, carried[i])
		}
	}
	for _, k := range keep {
		_ = k(err)
	}
	return refused(err, strings.Join(carried, ";\n"))
}

// Query runs one statement.
func (w *Warehouse) Query(ctx context.Context, sql string) (warehouse.Rows, error) {
	if ofTest() { // in DuckDB's words, or made of parts that Dray wrote
		if r, err := w.inner.Query(ctx, w.own(sql)); err == nil {
			return &rows{Rows: r, columns: w.columns(r.Columns())}, nil
		}
	}
	keep := w.corpus.note(ctx, w, sql)
	carried, err := w.carry(sql)
	if err != nil {
		return nil, err
	}
	r, err := w.inner.Query(ctx, carried)
	if keep(err) != nil {
		return nil, refused(err, carried)
	}
	return &rows{Rows: r, columns: w.columns(r.Columns())}, nil
}

// Load appends rows.
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	return w.inner.Load(ctx, t, columns, next)
}

// Columns describes a query.
func (w *Warehouse) Columns(ctx context.Context, query string) ([]warehouse.Column, error) {
	keep := nothing
	if ofTest() {
		query = w.own(query)
	} else {
		keep = w.corpus.note(ctx, w, query)
		var err error
		if query, err = w.carry(query); err != nil {
			return nil, err
		}
	}
	columns, err := w.inner.Columns(ctx, query)
	return w.columns(columns), refused(keep(err), query)
}

// Exists tells whether a relation is there.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	return w.inner.Exists(ctx, t)
}

func (w *Warehouse) columns(duck []warehouse.Column) []warehouse.Column {
	out := make([]warehouse.Column, len(duck))
	for i, c := range duck {
		c.Type = w.carrier.Type(c.Type)
		c.Kind = w.carrier.Dialect.KindOf(c.Type)
		out[i] = c
	}
	return out
}

// rows have the warehouse's types. A sum of whole numbers is a HUGEINT to DuckDB and a whole number elsewhere.
type rows struct {
	warehouse.Rows
	columns []warehouse.Column
}

func (r *rows) Columns() []warehouse.Column { return r.columns }

func (r *rows) Values() ([]any, error) {
	values, err := r.Rows.Values()
	for i, v := range values {
		if s, ok := v.(string); ok && r.columns[i].Kind == warehouse.Int {
			n, perr := strconv.ParseInt(s, 10, 64)
			if perr != nil {
				return nil, fmt.Errorf("column %s: %s does not fit 64 bits", r.columns[i].Name, s)
			}
			values[i] = n
		}
	}
	return values, err
}

// own is a test's own statement, in which names may be quoted as the dialect does.
func (w *Warehouse) own(sql string) string {
	tokens := lexer{names: "`\"", texts: "'"}.split(sql)
	for i, t := range tokens {
		if t.kind == quoted {
			tokens[i].s = `"` + t.s[1:len(t.s)-1] + `"`
			if w.carrier.folds && upperName.MatchString(tokens[i].s) {
				tokens[i].s = strings.ToLower(tokens[i].s)
			}
		}
	}
	return join(tokens)
}

// wrapper is a method of a test's own warehouse around this one.
var wrapper = regexp.MustCompile(`(_test\..*|\))\.(Exec|Atomic|Query|Columns|Estimate|step)(\.func[\d.]+)*$`)

// ofTest tells whether the statement is a test's own, which is DuckDB's already: test files make their tables and look at
// results in its words. What the tests of the dialects themselves run is carried, and what passes through a test's own wrapper is
// its caller's.
func ofTest() bool {
	pc := make([]uintptr, 16)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "/warehouse/conformance.") && !strings.HasSuffix(f.File, "_test.go") {
			return false // the shared data, which the dialect writes
		}
		if !strings.Contains(f.Function, "/connectors/warehouse") && !(strings.HasSuffix(f.File, "_test.go") && wrapper.MatchString(f.Function) && more) {
			return strings.HasSuffix(f.File, "_test.go")
		}
		if !more {
			return false
		}
	}
}
