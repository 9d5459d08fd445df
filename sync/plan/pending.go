package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// Pending is the state of a row that an asynchronous vendor has and has not told about: it is left out until its job ends, and
// counts as accepted (DESIGN §6.6).
const Pending = "pending"

// Pends tells whether the sync keeps rows in pending_<sync>: inserts still owed, and rows handed to an asynchronous vendor.
func (l *Layout) Pends() bool { return l.Sync.Mode == destination.Insert || l.Sync.Spec.Async != nil }

// pendingTail are the columns of pending_<sync> behind the data: those of a plan, filled where a vendor has the row, then since
// when it waits, until when it is uncertain, the vendor's job and the row's place in it. An owed insert has no job.
func (l *Layout) pendingTail() [][2]string {
	d := l.Dialect
	ts := d.Type(warehouse.Timestamp)
	return append(l.tailTypes(), [][2]string{
		{"since", ts},
		{"uncertain_until", ts},
		{"job", d.Type(warehouse.Text)},
		{"seq", d.Type(warehouse.Int)},
	}...)
}

// PreparePending makes the table, or carries it over to new columns, types and hashes as the snapshot is carried over. have are the
// columns that it has, nil where there is none; it returns those that it has then.
func (l *Layout) PreparePending(ctx context.Context, w Querier, st Standing, have []string) ([]string, error) {
	if !l.Pends() {
		return have, nil
	}
	var err error
	d, t := l.Dialect, l.Names.Pending(l.Sync.Name)
	switch {
	case have == nil:
		_, err = w.Exec(ctx, d.CreateTableAs(t, "SELECT "+l.pendingColumns(nil)+", "+l.pendingRest(nil)+" LIMIT 0"))
	case !l.pendingFits(have) || l.Carried(st):
		query := "SELECT " + l.pendingColumns(have) + ", " + l.pendingRest(have) + " FROM " + d.Table(t)
		cols := make([]string, 0, len(l.columns()))
		for _, c := range l.columns() {
			cols = append(cols, "c."+d.Quote(c.Column))
		}
		for _, c := range l.pendingTail() {
			switch c[0] {
			case "key_hash":
				cols = append(cols, l.keyHash("c.dest_key")+" AS key_hash")
			case "hash":
				cols = append(cols, "CASE WHEN c.operation IN ('add', 'update', 'rekey') THEN "+l.rowHash("c")+" ELSE c.hash END AS "+l.hash())
			default:
				cols = append(cols, "c."+c[0])
			}
		}
		_, err = w.Exec(ctx, d.CreateTableAs(t, "SELECT "+strings.Join(cols, ", ")+" FROM ("+query+") c"))
	default:
		return have, nil
	}
	if err != nil {
		return nil, fmt.Errorf("making the table of pending rows of %s: %w", l.Sync.Name, err)
	}
	return l.pendingNames(), nil
}

// pendingNames are the columns of the table as it is made, under the names that the engine keeps.
func (l *Layout) pendingNames() []string {
	var out []string
	for _, c := range l.columns() {
		out = append(out, l.Dialect.Kept(c.Column))
	}
	for _, c := range l.pendingTail() {
		out = append(out, c[0])
	}
	return out
}

// PendingColumns are the columns of the table of pending rows; nil where there is none.
func (l *Layout) PendingColumns(ctx context.Context, w Querier) ([]string, error) {
	return PendingColumns(ctx, w, l.Dialect, l.Names.Pending(l.Sync.Name))
}

// PendingColumns are the columns that a table of pending rows has; nil where there is none.
func PendingColumns(ctx context.Context, w Querier, d warehouse.Dialect, t warehouse.Table) ([]string, error) {
	there, err := w.Exists(ctx, t)
	if err != nil || !there {
		return nil, err
	}
	columns, err := w.Columns(ctx, "SELECT * FROM "+d.Table(t))
	if err != nil {
		return nil, err
	}
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.Name
	}
	return out, nil
}

func (l *Layout) pendingFits(have []string) bool {
	return !slices.ContainsFunc(l.pendingNames(), func(name string) bool { return !slices.Contains(have, name) })
}

// pendingColumns reads the data of pending rows; a field that was mapped after a row became pending is NULL in it.
func (l *Layout) pendingColumns(have []string) string {
	var cols []string
	for _, c := range l.columns() {
		q := l.Dialect.Quote(c.Column)
		if slices.Contains(have, l.Dialect.Kept(c.Column)) {
			cols = append(cols, l.Dialect.TryCast(q, c.Type)+" AS "+q)
		} else {
			cols = append(cols, "CAST(NULL AS "+c.Type+") AS "+q)
		}
	}
	return strings.Join(cols, ", ")
}

func (l *Layout) pendingRest(have []string) string {
	var cols []string
	for _, c := range l.pendingTail() {
		if slices.Contains(have, c[0]) {
			cols = append(cols, l.Dialect.TryCast(l.Dialect.Quote(c[0]), c[1])+" AS "+l.Dialect.Quote(c[0]))
		} else {
			cols = append(cols, "CAST(NULL AS "+c[1]+") AS "+l.Dialect.Quote(c[0]))
		}
	}
	return strings.Join(cols, ", ")
}

// owedFrom is the FROM item of the inserts that are owed, without those that a vendor has.
func (l *Layout) owedFrom(o Options) string {
	t := l.Dialect.Table(l.Names.Pending(l.Sync.Name))
	if !slices.Contains(o.Pending, "job") {
		return t
	}
	return "(SELECT * FROM " + t + " WHERE job IS NULL)"
}

// atVendor is the condition on a row of the plan that an asynchronous vendor has it, or is changing its key; "" where none can be.
func (l *Layout) atVendor(o Options) string {
	if !slices.Contains(o.Pending, "job") || !slices.Contains(o.Pending, "old_dest_key") {
		return ""
	}
	from := " FROM " + l.Dialect.Table(l.Names.Pending(l.Sync.Name)) + " WHERE job IS NOT NULL"
	key := func(column string) string { return l.keyHash(l.Dialect.TryCast(column, l.DestKey.Type)) }
	return "c.key_hash IN (SELECT " + key("dest_key") + from + ") OR c.key_hash IN (SELECT " + key("old_dest_key") + from + " AND old_dest_key IS NOT NULL)"
}

// Job is what an asynchronous vendor has of a sync.
type Job struct {
	ID    string
	Rows  int64
	Since time.Time // when it was handed over
}

// Jobs lists those of a sync, the oldest first; have are the columns of its table of pending rows.
func Jobs(ctx context.Context, w Querier, d warehouse.Dialect, t warehouse.Table, have []string) ([]Job, error) {
	if !slices.Contains(have, "job") {
		return nil, nil
	}
	since := d.Wire("min(since)", warehouse.Column{Type: d.Type(warehouse.Timestamp), Kind: warehouse.Timestamp})
	rows, err := w.Query(ctx, "SELECT job, count(*), "+since+" FROM "+d.Table(t)+" WHERE job IS NOT NULL GROUP BY job ORDER BY min(since), job")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Job
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		var j Job
		j.ID, _ = v[0].(string)
		j.Rows, _ = v[1].(int64)
		j.Since, _ = v[2].(time.Time)
		out = append(out, j)
	}
	return out, rows.Err()
}

// JobPage reads the rows of one job as they were handed over, in their order. It holds them all: a job is a batch, and a batch a
// part of a page. keys and fields are the columns that the table has.
func JobPage(ctx context.Context, w Querier, d warehouse.Dialect, t warehouse.Table, keys, fields []Column, job string) (*Page, *destination.Schema, error) {
	schema := &destination.Schema{}
	var cols []string
	wire := func(c Column) {
		cols = append(cols, d.Wire(d.Quote(c.Column), warehouse.Column{Name: c.Column, Type: c.Type, Kind: c.Kind}))
	}
	for _, c := range keys {
		wire(c)
		schema.Key = append(schema.Key, destination.Column{Name: c.Name, Path: []string{c.Name}, Kind: c.Kind, Type: c.Type})
	}
	for _, c := range fields {
		wire(c)
		schema.Fields = append(schema.Fields, destination.Column{Name: c.Name, Path: config.SplitPath(c.Name), Kind: c.Kind, Type: c.Type})
	}
	ts := warehouse.Column{Type: d.Type(warehouse.Timestamp), Kind: warehouse.Timestamp}
	cols = append(cols, "key_hash", "coalesce("+d.Quote("hash")+", 0)", "operation", "remote_id", "changed",
		d.Wire("CASE WHEN uncertain_until IS NULL OR was_uncertain > uncertain_until THEN was_uncertain ELSE uncertain_until END", ts))
	rows, err := w.Query(ctx, "SELECT "+strings.Join(cols, ", ")+" FROM "+d.Table(t)+" WHERE job = "+d.Text(job)+" ORDER BY seq")
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	page := &Page{Number: -1}
	n := len(keys) + len(fields)
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, nil, err
		}
		data := slices.Clone(v[:n])
		c := destination.Change{Key: data[:len(keys):len(keys)], Fields: data[len(keys):]}
		keyHash, _ := v[n].(int64)
		op, _ := v[n+2].(string)
		c.Operation = destination.Operation(op)
		c.RemoteID, _ = v[n+3].(string)
		uncertain, _ := v[n+5].(time.Time)
		page.Changes = append(page.Changes, c)
		page.KeyHash = append(page.KeyHash, keyHash)
		page.Uncertain = append(page.Uncertain, uncertain)
		rowHash, _ := v[n+1].(int64)
		page.rowHash = append(page.rowHash, rowHash)
	}
	return page, schema, rows.Err()
}

// Identify gives the changes of a job's page their dedupe ids again.
func (p *Page) Identify(dedupe func(op destination.Operation, keyHash, rowHash int64) string) {
	for i := range p.Changes {
		p.Changes[i].DedupeID = dedupe(p.Changes[i].Operation, p.KeyHash[i], p.rowHash[i])
	}
}
