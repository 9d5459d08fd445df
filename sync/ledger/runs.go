package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// RunRow is one line of the table runs: one when a run begins to deliver, one when it ends.
type RunRow struct {
	RunID, Sync, Status string
	StartedAt           time.Time
	FinishedAt          time.Time // zero = it has not ended
	Snapshot            *int64    // rows of the snapshot when the run began; nil = it did not come so far
	Removed             int64     // removed or forgotten, for the guard's window
	Report              string    // JSON: of report.Run at the end; where a backfill begins, of its flags
}

// RunSQL writes it; part of a transaction.
func (l *Ledger) RunSQL(r RunRow) string {
	d := l.W.Dialect()
	snapshot, finished, removed, report := "NULL", "NULL", "NULL", "NULL"
	if r.Snapshot != nil {
		snapshot = fmt.Sprint(*r.Snapshot)
	}
	if !r.FinishedAt.IsZero() {
		finished, removed = d.Time(r.FinishedAt), fmt.Sprint(r.Removed)
	}
	if r.Report != "" {
		report = d.Text(r.Report)
	}
	return fmt.Sprintf("INSERT INTO %s (run_id, sync, status, started_at, finished_at, snapshot_rows, removed, report) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
		d.Table(l.Names.Runs()), d.Text(r.RunID), d.Text(r.Sync), d.Text(r.Status), d.Time(r.StartedAt), finished, snapshot, removed, report)
}

// RunBegan is what the line says that a run wrote when it began to deliver; "" where it wrote none. known says that there is such a run.
func (l *Ledger) RunBegan(ctx context.Context, sync, runID string) (began string, known bool, err error) {
	d := l.W.Dialect()
	where := " WHERE sync = " + d.Text(sync) + " AND run_id = " + d.Text(runID)
	id, err := l.text(ctx, "SELECT run_id FROM "+d.Table(l.Names.Runs())+where)
	if err != nil || id == "" {
		return "", false, err
	}
	began, err = l.text(ctx, "SELECT report FROM "+d.Table(l.Names.Runs())+where+" AND finished_at IS NULL")
	return began, true, err
}

// LastReport is the report of a sync's run that ended last; "" where there is none.
func (l *Ledger) LastReport(ctx context.Context, sync string) (string, error) {
	d := l.W.Dialect()
	return l.text(ctx, "SELECT report FROM "+d.Table(l.Names.Runs())+" WHERE sync = "+d.Text(sync)+" AND report IS NOT NULL AND snapshot_rows IS NOT NULL AND finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1")
}

func (l *Ledger) text(ctx context.Context, query string) (string, error) {
	there, err := l.W.Exists(ctx, l.Names.Runs())
	if err != nil || !there {
		return "", err
	}
	v, err := l.first(ctx, query)
	s, _ := v.(string)
	return s, err
}

// first is the first value of a query; nil where it has none.
func (l *Ledger) first(ctx context.Context, query string) (any, error) {
	rows, err := l.W.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("reading the runs: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	v, err := rows.Values()
	if err != nil || len(v) == 0 {
		return nil, err
	}
	return v[0], nil
}

// PastRun is a run as the warehouse knows it.
type PastRun struct {
	RunID, Sync, Status   string
	StartedAt, FinishedAt time.Time // FinishedAt zero = it has not ended
	Report                string    // JSON of report.Run; "" where the run was killed
}

// RunFilter picks runs as state.RunFilter does; what is zero picks all.
type RunFilter struct {
	Sync, RunID          string
	Status               []string
	Since, Until, Before time.Time
	BeforeID             string
	Limit                int
}

// Past lists runs, those that began last first. It knows those that came to deliver, and those that ended.
func (l *Ledger) Past(ctx context.Context, f RunFilter) ([]PastRun, error) {
	there, err := l.W.Exists(ctx, l.Names.Runs())
	if err != nil || !there {
		return nil, err
	}
	d := l.W.Dialect()
	where := []string{"n = 1"}
	add := func(format string, args ...any) { where = append(where, fmt.Sprintf(format, args...)) }
	if f.Sync != "" {
		add("sync = %s", d.Text(f.Sync))
	}
	if f.RunID != "" {
		add("run_id = %s", d.Text(f.RunID))
	}
	if len(f.Status) > 0 {
		list := make([]string, len(f.Status))
		for i, status := range f.Status {
			list[i] = d.Text(status)
		}
		add("CASE WHEN finished_at IS NULL THEN 'interrupted' ELSE status END IN (%s)", strings.Join(list, ", "))
	}
	if !f.Since.IsZero() {
		add("started_at >= %s", d.Time(f.Since))
	}
	if !f.Until.IsZero() {
		add("started_at < %s", d.Time(f.Until))
	}
	if !f.Before.IsZero() {
		add("(started_at < %[1]s OR (started_at = %[1]s AND run_id < %[2]s))", d.Time(f.Before), d.Text(f.BeforeID))
	}
	limit := ""
	if f.Limit > 0 {
		limit = fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	rows, err := l.W.Query(ctx, fmt.Sprintf("SELECT run_id, sync, status, started_at, finished_at, CASE WHEN finished_at IS NULL THEN '' ELSE coalesce(report, '') END FROM (SELECT r.*, row_number() OVER (PARTITION BY run_id ORDER BY CASE WHEN finished_at IS NULL THEN 1 ELSE 0 END) AS n FROM %s r) r WHERE %s ORDER BY started_at DESC, run_id DESC%s",
		d.Table(l.Names.Runs()), strings.Join(where, " AND "), limit))
	if err != nil {
		return nil, fmt.Errorf("reading the runs: %w", err)
	}
	defer rows.Close()
	var out []PastRun
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		var r PastRun
		r.RunID, _ = v[0].(string)
		r.Sync, _ = v[1].(string)
		r.Status, _ = v[2].(string)
		r.StartedAt, _ = v[3].(time.Time)
		r.FinishedAt, _ = v[4].(time.Time)
		r.Report, _ = v[5].(string)
		out = append(out, r)
	}
	return out, rows.Err()
}

// Outcomes are rows of one run with one outcome.
type Outcomes struct {
	Operation string `json:"operation"`
	Outcome   string `json:"outcome"`
	Code      string `json:"code,omitempty"`
	Rows      int64  `json:"rows"`
}

// OutcomesOf counts what became of a run's rows, most first.
func (l *Ledger) OutcomesOf(ctx context.Context, runID string) ([]Outcomes, error) {
	out := []Outcomes{}
	there, err := l.W.Exists(ctx, l.Names.Deliveries())
	if err != nil || !there {
		return out, err
	}
	d := l.W.Dialect()
	rows, err := l.W.Query(ctx, "SELECT operation, outcome, coalesce(code, ''), count(*) FROM "+d.Table(l.Names.Deliveries())+" WHERE run_id = "+d.Text(runID)+" GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3")
	if err != nil {
		return nil, fmt.Errorf("reading deliveries: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		var o Outcomes
		o.Operation, _ = v[0].(string)
		o.Outcome, _ = v[1].(string)
		o.Code, _ = v[2].(string)
		o.Rows, _ = v[3].(int64)
		out = append(out, o)
	}
	return out, rows.Err()
}

// Delivered counts the rows that runs delivered.
func (l *Ledger) Delivered(ctx context.Context, runs []string) (int64, error) {
	d := l.W.Dialect()
	list := make([]string, len(runs))
	for i, id := range runs {
		list[i] = d.Text(id)
	}
	v, err := l.first(ctx, "SELECT count(*) FROM "+d.Table(l.Names.Deliveries())+" WHERE run_id IN ("+strings.Join(list, ", ")+") AND outcome IN ('delivered', 'accepted')")
	n, _ := v.(int64)
	return n, err
}

// RecoveredSQL writes the end of a run that was killed, after its outcomes were committed: what it removed, or may have, counts in
// the guard's window.
func (l *Ledger) RecoveredSQL(sync, runID string, now time.Time) string {
	d := l.W.Dialect()
	runs, id, ts := d.Table(l.Names.Runs()), d.Text(runID), d.Type(warehouse.Timestamp)
	return fmt.Sprintf("INSERT INTO %s (run_id, sync, status, started_at, finished_at, snapshot_rows, removed) SELECT %s, %s, 'interrupted', coalesce((SELECT max(started_at) FROM %[1]s WHERE run_id = %[2]s), CAST(%[4]s AS %[5]s)), CAST(%[4]s AS %[5]s), (SELECT max(snapshot_rows) FROM %[1]s WHERE run_id = %[2]s), (SELECT count(*) FROM %[6]s WHERE run_id = %[2]s AND operation = 'remove' AND coalesce(code, '') <> 'consent' AND outcome IN ('delivered', 'accepted', 'uncertain'))",
		runs, id, d.Text(sync), d.Time(now), ts, d.Table(l.Names.Deliveries()))
}

// PruneSQL drops what is older than the project keeps; part of a transaction.
func (l *Ledger) PruneSQL(before time.Time) []string {
	d := l.W.Dialect()
	return []string{
		"DELETE FROM " + d.Table(l.Names.Deliveries()) + " WHERE " + d.Quote("at") + " < " + d.Time(before),
		"DELETE FROM " + d.Table(l.Names.Runs()) + " WHERE started_at < " + d.Time(before),
	}
}

// UsedSQL drops approvals (kind=fingerprint) that let a run through: the same keys another day need another.
func (l *Ledger) UsedSQL(sync string, used []string) []string {
	if len(used) == 0 {
		return nil
	}
	d := l.W.Dialect()
	list := make([]string, len(used))
	for i, u := range used {
		list[i] = d.Text(u)
	}
	return []string{"DELETE FROM " + d.Table(l.Names.Approvals()) + " WHERE sync = " + d.Text(sync) + " AND kind || '=' || fingerprint IN (" + strings.Join(list, ", ") + ")"}
}

// Window is what a rolling guard needs: the snapshot's rows when the window began, and what was removed in it.
type Window struct {
	Rows    int64 // 0 = no run in the window
	Removed int64
}

// Window reads the runs of a sync since a time.
func (l *Ledger) Window(ctx context.Context, sync string, since time.Time) (Window, error) {
	d := l.W.Dialect()
	there, err := l.W.Exists(ctx, l.Names.Runs())
	if err != nil || !there {
		return Window{}, err
	}
	rows, err := l.W.Query(ctx, fmt.Sprintf("SELECT coalesce("+d.First("snapshot_rows", d.Type(warehouse.Int), "started_at", "snapshot_rows IS NOT NULL")+", 0), "+d.Cast("coalesce(sum(removed), 0)", warehouse.Int)+" FROM %s WHERE sync = %s AND started_at >= %s",
		d.Table(l.Names.Runs()), d.Text(sync), d.Time(since)))
	if err != nil {
		return Window{}, fmt.Errorf("reading the runs of the guard's window: %w", err)
	}
	defer rows.Close()
	var out Window
	if rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return Window{}, err
		}
		out.Rows, _ = v[0].(int64)
		out.Removed, _ = v[1].(int64)
	}
	return out, rows.Err()
}
