// Package duckdb is the embedded warehouse: one file, one process (DESIGN §4).
//
// Opening the file for writing is itself the lock of I5 on this engine: DuckDB lets one process have it.
package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	duck "github.com/duckdb/duckdb-go/v2"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Options are the keys of `warehouse:` besides type.
type Options struct {
	Path        string        // relative to the project; "" or ":memory:" for none
	MemoryLimit string        // DuckDB's: 4GB, 80%
	Threads     int           // 0 = all cores
	Attach      []Attached    // by name
	Wait        time.Duration // how long to wait for the file; default 5 s
}

// Attached is another DuckDB file, which is only read.
type Attached struct{ Name, Path string }

// Warehouse is one DuckDB database. Safe for concurrent use.
type Warehouse struct {
	db      *sql.DB
	dialect Dialect
}

// Open opens (or creates) the database file. Where another process has it, Open waits Options.Wait and then fails with
// warehouse.ErrLocked, naming the holder as DuckDB tells it.
func Open(ctx context.Context, options map[string]any, dir string) (*Warehouse, error) {
	o, err := parse(options, dir)
	if err != nil {
		return nil, err
	}
	if o.Path != "" {
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
			return nil, &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "making the folder of the DuckDB file", Err: err}
		}
	}
	deadline := time.Now().Add(o.Wait)
	for {
		w, err := open(ctx, o)
		if !errors.Is(err, warehouse.ErrLocked) || time.Now().After(deadline) {
			return w, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func parse(options map[string]any, dir string) (Options, error) {
	o := Options{Wait: 5 * time.Second}
	for key, v := range options {
		switch key {
		case "path":
			o.Path, _ = v.(string)
		case "memory_limit":
			o.MemoryLimit = fmt.Sprint(v)
		case "threads":
			n, ok := v.(int)
			if !ok || n < 1 {
				return o, diag.Errorf(diag.Invalid, "warehouse.option", "threads of the DuckDB warehouse must be a whole number of at least 1")
			}
			o.Threads = n
		case "attach":
			files, _ := v.(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(files)) {
				path, ok := files[name].(string)
				if !ok || path == "" {
					return o, diag.Errorf(diag.Invalid, "warehouse.option", "attach of the DuckDB warehouse wants the path of a file for %q", name)
				}
				if !filepath.IsAbs(path) {
					path = filepath.Join(dir, path)
				}
				o.Attach = append(o.Attach, Attached{Name: name, Path: path})
			}
		case "wait":
			d, err := time.ParseDuration(fmt.Sprint(v))
			if err != nil {
				return o, diag.Errorf(diag.Invalid, "warehouse.option", "wait of the DuckDB warehouse is not a duration such as 5s")
			}
			o.Wait = d
		default:
			return o, diag.Errorf(diag.Invalid, "warehouse.option", "the DuckDB warehouse has no option %q", key).
				WithHint("it has path, attach, memory_limit, threads, wait")
		}
	}
	if o.Path == ":memory:" {
		o.Path = ""
	}
	if o.Path != "" && !filepath.IsAbs(o.Path) {
		o.Path = filepath.Join(dir, o.Path)
	}
	return o, nil
}

func open(ctx context.Context, o Options) (*Warehouse, error) {
	settings := []string{"SET TimeZone = 'UTC'", "SET preserve_insertion_order = false"}
	if o.MemoryLimit != "" {
		settings = append(settings, "SET memory_limit = "+Dialect{}.Text(o.MemoryLimit))
	}
	if o.Threads > 0 {
		settings = append(settings, fmt.Sprintf("SET threads = %d", o.Threads))
	}
	connector, err := duck.NewConnector(o.Path, func(execer driver.ExecerContext) error {
		for _, s := range settings {
			if _, err := execer.ExecContext(ctx, s, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, openError(o.Path, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(8)
	w := &Warehouse{db: db}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, openError(o.Path, err)
	}
	if _, err := w.Exec(ctx, "ATTACH IF NOT EXISTS ':memory:' AS "+workDatabase); err != nil {
		_ = db.Close()
		return nil, openError(o.Path, err)
	}
	for _, a := range o.Attach {
		if err := w.attach(ctx, a); err != nil {
			_ = db.Close()
			return nil, err
		}
	}
	w.dialect.release, err = w.text(ctx, "SELECT version()")
	if err != nil {
		_ = db.Close()
		return nil, openError(o.Path, err)
	}
	return w, nil
}

// attach makes another file readable under a name. While it is, no other process can write to it.
func (w *Warehouse) attach(ctx context.Context, a Attached) error {
	if _, err := os.Stat(a.Path); errors.Is(err, fs.ErrNotExist) {
		return diag.Errorf(diag.Invalid, "warehouse.attach", "there is no DuckDB file %s to attach as %s", filepath.Base(a.Path), a.Name).
			WithHint("attach: {%s: path}, from the project's folder", a.Name)
	}
	if _, err := w.Exec(ctx, "ATTACH "+w.dialect.Text(a.Path)+" AS "+w.dialect.Quote(a.Name)+" (READ_ONLY)"); err != nil {
		return openError(a.Path, err)
	}
	return nil
}

var holder = regexp.MustCompile(`Conflicting lock is held in (.*?) ?(?:\(PID (\d+)\)|PID (\d+))`)

func openError(path string, err error) error {
	err = wrap(err)
	file := filepath.Base(path)
	if errors.Is(err, warehouse.ErrLocked) {
		e := diag.Errorf(diag.Locked, "warehouse.busy", "not started: busy: %s is open in another process", file)
		if m := holder.FindStringSubmatch(err.Error()); m != nil {
			e.Msg += fmt.Sprintf(" (%s, process %s)", filepath.Base(m[1]), m[2]+m[3])
		}
		e.Err = warehouse.ErrLocked
		return e.WithHint("wait until it has ended, or end it; a DuckDB file is one process's at a time")
	}
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "opening the DuckDB file " + file, Err: err}
	switch {
	case strings.Contains(err.Error(), "not a valid DuckDB database file"):
		e.Hint = "warehouse.path must name a DuckDB file, or a file that does not exist yet"
	case errors.Is(err, warehouse.ErrReadOnly), strings.Contains(err.Error(), "ermission denied"):
		e.Hint = "Dray writes its tables beside the data: make the file and its folder writable for this user"
	}
	return e
}

// Dialect writes DuckDB's SQL.
func (w *Warehouse) Dialect() warehouse.Dialect { return w.dialect }

// Close writes DuckDB's log into the file and lets it go.
func (w *Warehouse) Close() error { return w.db.Close() }

// Exec runs one statement.
func (w *Warehouse) Exec(ctx context.Context, statement string) (int64, error) {
	res, err := w.db.ExecContext(ctx, statement)
	if err != nil {
		return 0, wrap(err)
	}
	n, err := res.RowsAffected()
	return n, wrap(err)
}

// Atomic runs the statements in one transaction.
func (w *Warehouse) Atomic(ctx context.Context, statements ...string) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return wrap(err)
	}
	defer tx.Rollback() // after Commit it does nothing; before it, the first error is the one to tell
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return wrap(err)
		}
	}
	return wrap(tx.Commit())
}

// Columns describes a query without running it.
func (w *Warehouse) Columns(ctx context.Context, query string) ([]warehouse.Column, error) {
	rows, err := w.db.QueryContext(ctx, "DESCRIBE "+query)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var out []warehouse.Column
	for rows.Next() {
		var name, typ string
		var null, key, def, extra any
		if err := rows.Scan(&name, &typ, &null, &key, &def, &extra); err != nil {
			return nil, wrap(err)
		}
		out = append(out, warehouse.Column{Name: name, Type: typ, Kind: w.dialect.KindOf(typ)})
	}
	return out, wrap(rows.Err())
}

// Exists tells whether a table or view is there.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	if t.Schema != "" { // to be read is to be there; the catalogue's views cost ten times as much
		if stmt, err := w.db.PrepareContext(ctx, "SELECT 1 FROM "+w.dialect.Table(t)); err == nil {
			defer stmt.Close()
			return true, nil
		}
	}
	of := " WHERE lower(name) = lower(" + w.dialect.Text(t.Name) + ")"
	if t.Schema != "" {
		of += " AND lower(schema_name) = lower(" + w.dialect.Text(t.Schema) + ")"
	}
	if t.Database != "" {
		of += " AND lower(database_name) = lower(" + w.dialect.Text(t.Database) + ")"
	} else {
		of += " AND database_name = current_database()"
	}
	query := "SELECT count(*) FROM (SELECT table_name AS name, schema_name, database_name FROM duckdb_tables() UNION ALL SELECT view_name, schema_name, database_name FROM duckdb_views()) t" + of
	var n int64
	err := w.db.QueryRowContext(ctx, query).Scan(&n)
	return n > 0, wrap(err)
}

func (w *Warehouse) text(ctx context.Context, query string) (string, error) {
	var s string
	err := w.db.QueryRowContext(ctx, query).Scan(&s)
	return s, wrap(err)
}
