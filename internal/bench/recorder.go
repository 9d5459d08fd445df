package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// recorder is a warehouse that notes each statement, how long it took and how many rows it gave out.
type recorder struct {
	warehouse.Warehouse
	off bool // note nothing, and leave rows alone: for measuring memory and delivery

	mu         sync.Mutex
	statements []statement
}

// statement is one that ran. A query's time ends when its rows are closed.
type statement struct {
	text string
	rows int64 // that left the warehouse
	took time.Duration
}

func (r *recorder) note(text string, began time.Time, rows int64) {
	if r.off {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = append(r.statements, statement{text, rows, time.Since(began)})
}

// reset forgets what was noted.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = nil
}

// noted are the statements since reset whose text has one of the words; without words, all.
func (r *recorder) noted(words ...string) []statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []statement
	for _, s := range r.statements {
		if len(words) == 0 {
			out = append(out, s)
			continue
		}
		for _, word := range words {
			if strings.Contains(s.text, word) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// total sums time and rows.
func total(statements []statement) (took time.Duration, rows int64) {
	for _, s := range statements {
		took += s.took
		rows += s.rows
	}
	return took, rows
}

// Exec notes the statement.
func (r *recorder) Exec(ctx context.Context, sql string) (int64, error) {
	defer r.note(sql, time.Now(), 0)
	return r.Warehouse.Exec(ctx, sql)
}

// Atomic notes the statements as one.
func (r *recorder) Atomic(ctx context.Context, statements ...string) error {
	defer r.note(strings.Join(statements, ";\n"), time.Now(), 0)
	return r.Warehouse.Atomic(ctx, statements...)
}

// Query notes the statement when its rows are closed.
func (r *recorder) Query(ctx context.Context, sql string) (warehouse.Rows, error) {
	began := time.Now()
	rows, err := r.Warehouse.Query(ctx, sql)
	if err != nil || r.off {
		return rows, err
	}
	return &recordedRows{Rows: rows, r: r, sql: sql, began: began}, nil
}

// Load notes the table.
func (r *recorder) Load(ctx context.Context, table warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	defer r.note("LOAD "+table.Name, time.Now(), 0)
	return r.Warehouse.Load(ctx, table, columns, next)
}

type recordedRows struct {
	warehouse.Rows
	r      *recorder
	sql    string
	began  time.Time
	n      int64
	closed bool
}

// Next counts.
func (r *recordedRows) Next() bool {
	if !r.Rows.Next() {
		return false
	}
	r.n++
	return true
}

// Cells counts too.
func (r *recordedRows) Cells() (warehouse.Cells, bool) {
	in, ok := r.Rows.(warehouse.InPlace)
	if !ok {
		return nil, false
	}
	cells, ok := in.Cells()
	return &recordedCells{cells, r}, ok
}

type recordedCells struct {
	warehouse.Cells
	r *recordedRows
}

// Next counts.
func (c *recordedCells) Next() bool {
	if !c.Cells.Next() {
		return false
	}
	c.r.n++
	return true
}

// Close notes the query, once.
func (r *recordedRows) Close() error {
	if !r.closed {
		r.closed = true
		r.r.note(r.sql, r.began, r.n)
	}
	return r.Rows.Close()
}
