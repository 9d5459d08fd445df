package state

import (
	"context"
	"strings"
	"time"
)

// RunFilter picks runs; what is zero picks all.
type RunFilter struct {
	Schema, Sync, RunID string
	Status              []string // how they ended; interrupted also where they have not
	Ended               bool     // only those that have
	Since, Until        time.Time
	// Before is the last run of the page before, by when it began and its id; zero = the first page.
	Before   time.Time
	BeforeID string
	Limit    int // 0 = no limit
}

// Runs lists runs, those that began last first.
func (s *State) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	where, args := []string{"schema = ?"}, []any{s.scope(f.Schema)}
	add := func(condition string, values ...any) { where, args = append(where, condition), append(args, values...) }
	if f.Sync != "" {
		add("sync = ?", f.Sync)
	}
	if f.RunID != "" {
		add("run_id = ?", f.RunID)
	}
	if len(f.Status) > 0 {
		marks := make([]string, len(f.Status))
		for i, status := range f.Status {
			marks[i] = "?"
			args = append(args, status)
		}
		add("coalesce(status, 'interrupted') IN (" + strings.Join(marks, ", ") + ")")
	}
	if f.Ended {
		add("report IS NOT NULL")
	}
	if !f.Since.IsZero() {
		add("started_at >= ?", inText(f.Since))
	}
	if !f.Until.IsZero() {
		add("started_at < ?", inText(f.Until))
	}
	if !f.Before.IsZero() {
		add("(started_at < ? OR started_at = ? AND run_id < ?)", inText(f.Before), inText(f.Before), f.BeforeID)
	}
	query := "SELECT run_id, sync, started_at, coalesce(finished_at, ''), coalesce(status, ''), coalesce(report, '') FROM {runs} WHERE " + strings.Join(where, " AND ") + " ORDER BY started_at DESC, run_id DESC"
	if f.Limit > 0 {
		query += " LIMIT ?"
		args = append(args, f.Limit)
	}
	rows, err := s.db.QueryContext(ctx, s.sql(query), args...)
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	defer rows.Close()
	var out []Run
	for rows.Next() {
		r := Run{Schema: f.Schema}
		var started, finished string
		if err := rows.Scan(&r.RunID, &r.Sync, &started, &finished, &r.Status, &r.Report); err != nil {
			return nil, s.wrap("reading", err)
		}
		r.StartedAt, _ = time.Parse(time.RFC3339Nano, started)
		r.FinishedAt, _ = time.Parse(time.RFC3339Nano, finished)
		out = append(out, r)
	}
	return out, s.wrap("reading", rows.Err())
}

func inText(t time.Time) string { return t.UTC().Format(instant) }
