// Package faulty is a warehouse that fails when a test says so: a connection that drops before or after a statement had its effect,
// a disk that is full. It is imported by tests only.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Fault is what happens at a call.
type Fault int

// The faults.
const (
	None   Fault = iota
	Before       // the connection drops before the statement has an effect
	After        // the statement has its effect, and then the connection drops
	Full         // the disk is full: nothing can be written, until Mend
)

// Call is one use of the warehouse.
type Call struct {
	N      int    // from 1
	Method string // Exec, Atomic, Query, Load, Columns, Exists
	SQL    string // the first statement
}

// Writes tells whether the call can change anything.
func (c Call) Writes() bool { return c.Method == "Exec" || c.Method == "Atomic" || c.Method == "Load" }

// Warehouse passes calls on until a fault. After a dropped connection every call fails, as those of a process whose network is gone
// do, until Mend. Safe for concurrent use.
type Warehouse struct {
	warehouse.Warehouse
	At func(c Call) Fault // nil = none

	mu    sync.Mutex
	calls int
	state Fault
}

// ErrDropped is the lost connection.
var ErrDropped = errors.New("the connection was lost")

// Calls is how many there were.
func (w *Warehouse) Calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// Mend ends the fault.
func (w *Warehouse) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.At = None, nil
}

// step makes a call, or fails it.
func (w *Warehouse) step(method, sql string, do func() error) error {
	w.mu.Lock()
	w.calls++
	c := Call{N: w.calls, Method: method, SQL: sql}
	f := w.state
	if f == None && w.At != nil {
		f = w.At(c)
		w.state = f
		if f == After {
			w.state = Before // of every later one
		}
	}
	w.mu.Unlock()
	switch {
	case f == Before:
		return dropped()
	case f == After:
		_ = do()
		return dropped()
	case f == Full && c.Writes():
		return &warehouse.QueryError{Msg: "could not write: No space left on device", Err: warehouse.ErrEngine}
	default:
		return do()
	}
}

func dropped() error {
	return &warehouse.QueryError{Msg: ErrDropped.Error(), Err: fmt.Errorf("%w: %w", warehouse.ErrEngine, ErrDropped)}
}

// Exec is Warehouse's.
func (w *Warehouse) Exec(ctx context.Context, q string) (n int64, err error) {
	err = w.step("Exec", q, func() error { n, err = w.Warehouse.Exec(ctx, q); return err })
	return n, err
}

// Atomic is Warehouse's.
func (w *Warehouse) Atomic(ctx context.Context, q ...string) error {
	first := ""
	if len(q) > 0 {
		first = q[0]
	}
	return w.step("Atomic", first, func() error { return w.Warehouse.Atomic(ctx, q...) })
}

// Query is Warehouse's.
func (w *Warehouse) Query(ctx context.Context, q string) (rows warehouse.Rows, err error) {
	err = w.step("Query", q, func() error { rows, err = w.Warehouse.Query(ctx, q); return err })
	if err != nil && rows != nil {
		_ = rows.Close()
		rows = nil
	}
	return rows, err
}

// Load is Warehouse's.
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (n int64, err error) {
	err = w.step("Load", t.Name, func() error { n, err = w.Warehouse.Load(ctx, t, columns, next); return err })
	return n, err
}

// Columns is Warehouse's.
func (w *Warehouse) Columns(ctx context.Context, q string) (cols []warehouse.Column, err error) {
	err = w.step("Columns", q, func() error { cols, err = w.Warehouse.Columns(ctx, q); return err })
	return cols, err
}

// Exists is Warehouse's.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (ok bool, err error) {
	err = w.step("Exists", t.Name, func() error { ok, err = w.Warehouse.Exists(ctx, t); return err })
	return ok, err
}
