package snowflake

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	sf "github.com/snowflakedb/gosnowflake"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// result is what a statement gave. Its rows, beyond the first few, are in files that are fetched when they are read; the session is free
// by then.
type result struct {
	id     string // Snowflake's name of the statement
	stream sf.ArrowStreamLoader
	types  []rowType
	w      *Warehouse
}

// rowType is a column as the protocol describes it.
type rowType struct {
	name, typ        string
	precision, scale int
}

// run runs a statement in whichever session is free. A session that turns out to be over, before it took the statement, is replaced.
func (w *Warehouse) run(ctx context.Context, statement string, args ...driver.NamedValue) (*result, error) {
	for try := 1; ; try++ {
		conn, err := w.session(ctx)
		if err != nil {
			return nil, err
		}
		r, err := w.on(ctx, conn, statement, args...)
		_ = conn.Close()
		if err == nil || !isOver(err) || try == 2 {
			return r, err
		}
	}
}

// session takes one out of the pool, or signs in.
func (w *Warehouse) session(ctx context.Context) (*sql.Conn, error) {
	in, stop := withGiveUp(ctx)
	defer stop(nil)
	conn, err := w.db.Conn(in)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if cause := context.Cause(in); cause != nil {
		err = cause
	}
	return nil, w.signInError(err)
}

// on runs a statement in a session.
func (w *Warehouse) on(ctx context.Context, conn *sql.Conn, statement string, args ...driver.NamedValue) (*result, error) {
	ids := make(chan string, 1)
	sent := &atomic.Int32{}
	in := context.WithValue(ctx, sentKey{}, sent)
	in = sf.WithQueryTag(sf.WithQueryIDChan(in, ids), w.tag(ctx))
	out := &result{w: w}
	var failed error
	err := conn.Raw(func(c any) error {
		stream, ok := c.(interface {
			QueryArrowStream(ctx context.Context, query string, bindings ...driver.NamedValue) (sf.ArrowStreamLoader, error)
		})
		if !ok {
			return errors.New("the driver gives no Arrow")
		}
		out.stream, failed = stream.QueryArrowStream(in, statement, args...)
		if failed != nil && sessionIsOver(failed) {
			return driver.ErrBadConn // out of the pool
		}
		return nil
	})
	select {
	case out.id = <-ids:
	default:
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case failed != nil:
		err := w.wrap(failed, out.id)
		if sessionIsOver(failed) && out.id == "" && sent.Load() <= 1 {
			return nil, &overError{err} // it was refused at its first asking
		}
		return nil, err
	case err != nil:
		return nil, w.wrap(err, out.id)
	}
	for _, t := range out.stream.RowTypes() {
		out.types = append(out.types, rowType{t.Name, t.Type, int(t.Precision), int(t.Scale)})
	}
	return out, nil
}

// sentKey is where the transport counts how often a statement was sent.
type sentKey struct{}

// overError is a statement that a session that is over did not take.
type overError struct{ error }

func (e *overError) Unwrap() error { return e.error }

func isOver(err error) bool {
	var e *overError
	return errors.As(err, &e)
}

// discard takes a session out of the pool.
func discard(conn *sql.Conn) { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }

// maxTag is how long a query tag may be.
const maxTag = 2000

// tag says in the query history what a statement is for.
func (w *Warehouse) tag(ctx context.Context) string {
	all := map[string]string{"app": "dray"}
	if w.o.queryTag != "" {
		all["tag"] = w.o.queryTag
	}
	for k, v := range warehouse.Labels(ctx) {
		all[k] = strings.ToValidUTF8(v[:min(len(v), 200)], "")
	}
	text, err := json.Marshal(all)
	if err != nil || len(text) > maxTag {
		return "dray"
	}
	return string(text)
}

var (
	rowCount = regexp.MustCompile(`^number of rows (?:inserted|updated|deleted)$`)
	leading  = regexp.MustCompile(`^(?:\s+|--[^\n]*(?:\n|$)|//[^\n]*(?:\n|$)|/\*(?s:.*?)\*/)+`)
	word     = regexp.MustCompile(`^[A-Za-z]+`)
)

// changed is how many rows a statement changed; 0 of one that changes none. It is the statement's own result, one row with a number
// for each way.
func (r *result) changed() int64 {
	first := r.stream.JSONData()
	if len(first) != 1 {
		return 0
	}
	var n int64
	for i, t := range r.types {
		if rowCount.MatchString(t.name) && i < len(first[0]) && first[0][i] != nil {
			k, _ := strconv.ParseInt(*first[0][i], 10, 64)
			n += k
		}
	}
	return n
}

// definition tells whether a statement makes, alters or drops something, which commits whatever is open.
func definition(statement string) bool {
	switch strings.ToUpper(word.FindString(leading.ReplaceAllString(statement, ""))) {
	case "CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "COMMENT", "UNDROP":
		return true
	}
	return false
}

// columns are the result's, with types as SQL writes them.
func (r *result) columns() []warehouse.Column {
	out := make([]warehouse.Column, len(r.types))
	for i, t := range r.types {
		typ := t.sql()
		out[i] = warehouse.Column{Name: unfold(t.name), Type: typ, Kind: Dialect{}.KindOf(typ)}
	}
	return out
}

// sql is the type's name in SQL. Lengths are left out: they make no difference to Snowflake, and a column is not another because its
// longest text is.
func (t rowType) sql() string {
	switch t.typ {
	case "fixed":
		return "NUMBER(" + strconv.Itoa(t.precision) + "," + strconv.Itoa(t.scale) + ")"
	case "real":
		return "FLOAT"
	case "text":
		return "VARCHAR"
	case "timestamp_ntz", "timestamp_ltz", "timestamp_tz":
		return strings.ToUpper(t.typ) + "(" + strconv.Itoa(t.scale) + ")"
	}
	return strings.ToUpper(t.typ)
}
