package run

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/state"
)

// RunFilter picks runs; what is zero picks all.
type RunFilter struct {
	Sync         string
	Status       []report.Status
	Since, Until time.Time // of their beginning; Until is not part of it
	Before       string    // the id of a run: those that began before it, for the next page
	Limit        int       // 0 = 20
}

// Past is one run with what became of its rows, by operation, outcome and code.
type Past struct {
	report.Run
	Outcomes []ledger.Outcomes `json:"outcomes"`
}

// Runs lists runs, those that began last first: from the control state, and those that it does not know, because it was lost or
// another machine has its own, from the warehouse.
func (s *Session) Runs(ctx context.Context, f RunFilter) ([]report.Run, error) {
	if f.Limit <= 0 {
		f.Limit = 20
	}
	in := state.RunFilter{Schema: s.Project.Schema, Sync: f.Sync, Since: f.Since, Until: f.Until, Limit: f.Limit}
	for _, status := range f.Status {
		in.Status = append(in.Status, string(status))
	}
	if f.Before != "" {
		last, err := s.runByID(ctx, f.Before)
		if err != nil {
			return nil, err
		}
		in.Before, in.BeforeID = last.StartedAt, last.RunID
	}
	return s.merged(ctx, in)
}

// PastRun is one run by its id, with what became of its rows.
func (s *Session) PastRun(ctx context.Context, id string) (Past, error) {
	r, err := s.runByID(ctx, id)
	if err != nil {
		return Past{}, err
	}
	out := Past{Run: r}
	out.Outcomes, err = s.ledger.OutcomesOf(ctx, id)
	return out, err
}

func (s *Session) runByID(ctx context.Context, id string) (report.Run, error) {
	found, err := s.merged(ctx, state.RunFilter{Schema: s.Project.Schema, RunID: id})
	if err == nil && len(found) == 0 {
		err = diag.Errorf(diag.Invalid, "run.unknown", "there is no run %s", id).WithHint("dray runs lists them; they are kept for the project's retention")
	}
	if err != nil {
		return report.Run{}, err
	}
	return found[0], nil
}

// merged joins what state and warehouse know. Each has at most Limit of the runs wanted, so that the first Limit of both are right.
func (s *Session) merged(ctx context.Context, f state.RunFilter) ([]report.Run, error) {
	known, err := s.State.Runs(ctx, f)
	if err != nil {
		return nil, err
	}
	past, err := s.ledger.Past(ctx, ledger.RunFilter{
		Sync: f.Sync, RunID: f.RunID, Status: f.Status, Since: f.Since, Until: f.Until, Before: f.Before, BeforeID: f.BeforeID, Limit: f.Limit,
	})
	if err != nil {
		return nil, err
	}
	byID := map[string]report.Run{}
	for _, r := range past {
		if byID[r.RunID], err = reportOf(r.RunID, r.Sync, r.Status, []byte(r.Report), r.StartedAt, r.FinishedAt); err != nil {
			return nil, err
		}
	}
	for _, r := range known {
		if _, there := byID[r.RunID]; there && r.FinishedAt.IsZero() { // the warehouse may know its end
			continue
		}
		if byID[r.RunID], err = reportOf(r.RunID, r.Sync, r.Status, r.Report, r.StartedAt, r.FinishedAt); err != nil {
			return nil, err
		}
	}
	out := make([]report.Run, 0, len(byID))
	for _, r := range byID {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b report.Run) int {
		if c := b.StartedAt.Compare(a.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(b.RunID, a.RunID)
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, nil
}

// reportOf is a run's report, or what can be said of one that left none.
func reportOf(id, sync, status string, text []byte, started, finished time.Time) (report.Run, error) {
	if len(text) > 0 {
		var r report.Run
		if err := json.Unmarshal(text, &r); err != nil {
			return r, fmt.Errorf("reading run %s: %w", id, err)
		}
		return r, nil
	}
	r := report.Run{
		RunID: id, Sync: sync, Status: report.Interrupted, ExitCode: diag.Interrupted.ExitCode(), StartedAt: started, FinishedAt: finished,
		Skipped: report.Skipped{Reasons: map[string]int64{}},
		Error:   &report.Problem{Code: "killed", Message: "the run has not ended: it was killed, or is under way"},
	}
	if !finished.IsZero() {
		r.Error.Message = "the run was killed; a later one committed what it had delivered: dray runs " + id + " counts it"
	}
	return r, nil
}

// lag is how long a sync has not succeeded.
func (s *Session) lag(ctx context.Context, st *SyncStatus) error {
	good, err := s.Runs(ctx, RunFilter{Sync: st.Sync, Status: []report.Status{report.Succeeded, report.Partial}, Limit: 1})
	if err != nil || len(good) == 0 {
		return err
	}
	at := good[0].FinishedAt
	seconds := int64(s.deps.now().Sub(at).Seconds())
	st.LastSuccess, st.Lag = &at, &seconds
	return nil
}
