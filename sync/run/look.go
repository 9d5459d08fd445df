package run

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/timetable"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
)

// SyncStatus is one line of `dray status`.
type SyncStatus struct {
	Sync        string      `json:"sync"`
	Source      string      `json:"source"`
	Destination string      `json:"destination"`
	Object      string      `json:"object"`
	Mode        string      `json:"mode"`
	Enabled     bool        `json:"enabled"`
	Orphaned    bool        `json:"orphaned"` // not in the project any more; its tables are kept
	Schedule    string      `json:"schedule,omitempty"`
	NextRun     *time.Time  `json:"next_run,omitempty"`
	After       []string    `json:"after,omitempty"`     // the syncs that come first
	PausedAt    *time.Time  `json:"paused_at,omitempty"` // dray serve does not start it
	Note        string      `json:"note,omitempty"`      // why it was not started when it was last due
	LastRun     *report.Run `json:"last_run,omitempty"`
	LastSuccess *time.Time  `json:"last_success_at,omitempty"` // when the last run ended that succeeded or was partial
	Lag         *int64      `json:"lag_seconds,omitempty"`     // since then
	Held        int64       `json:"held"`                      // rows that a guard or their origin held in the last run
	Snapshot    int64       `json:"snapshot"`                  // rows acknowledged
	Waiting     int64       `json:"waiting"`                   // rejected rows that wait for their retry
	Parked      int64       `json:"parked"`
	Uncertain   int64       `json:"uncertain"`
	OpenRun     string      `json:"open_run,omitempty"` // killed, or under way in another process
}

// Status lists every sync of the project, and those that are only left in the warehouse.
func (s *Session) Status(ctx context.Context) ([]SyncStatus, error) {
	if err := s.findMoved(ctx); err != nil {
		return nil, err
	}
	metas, err := s.ledger.All(ctx)
	if err != nil {
		return nil, err
	}
	for i, m := range metas {
		for _, name := range s.syncNames() {
			if was := s.ledger.Names.Was(name); was != name && was == m.Sync {
				metas[i].Sync = name
			}
		}
	}
	open := map[string]string{}
	known := map[string]bool{}
	for _, m := range metas {
		open[m.Sync], known[m.Sync] = m.OpenRun, true
	}
	kept, err := s.State.Schedules(ctx, s.Project.Schema)
	if err != nil {
		return nil, err
	}
	var out []SyncStatus
	for _, name := range s.syncNames() {
		n := s.Graph.Nodes[syncID(name)].Sync
		st := SyncStatus{
			Sync: name, Destination: n.Destination, Object: n.Object, Mode: n.Mode, Schedule: n.Schedule,
			Enabled: n.Enabled == nil || *n.Enabled, OpenRun: open[name], Source: first(n.Model, n.Segment, n.Entity),
		}
		for _, a := range n.After {
			st.After = append(st.After, a.Sync)
		}
		st.Note = kept[name].Note
		if at := kept[name].PausedAt; !at.IsZero() {
			st.PausedAt = &at
		} else if st.Enabled {
			st.NextRun = s.next(n.Schedule, n.Timezone)
		}
		delete(known, name)
		out = append(out, st)
	}
	for _, m := range metas {
		if known[m.Sync] {
			out = append(out, SyncStatus{Sync: m.Sync, Destination: m.Destination, Object: m.Object, Orphaned: true, OpenRun: m.OpenRun})
		}
	}
	for i := range out {
		if err := s.fill(ctx, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func first(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// next is when a schedule would start a run; nil where there is none, or where schedules are off.
func (s *Session) next(schedule, zone string) *time.Time {
	if schedule == "" || s.Project.Schedules == "off" {
		return nil
	}
	table, err := timetable.Parse(schedule, zone)
	if err != nil {
		return nil
	}
	t := table.Next(s.deps.now())
	return &t
}

func (s *Session) fill(ctx context.Context, st *SyncStatus) error {
	runs, err := s.Runs(ctx, RunFilter{Sync: st.Sync, Limit: 1})
	if err != nil {
		return err
	}
	if len(runs) > 0 {
		st.LastRun, st.Held = &runs[0], runs[0].Held.Total()
	}
	if err := s.lag(ctx, st); err != nil {
		return err
	}
	if st.Snapshot, err = s.snapshotRows(ctx, st.Sync); err != nil {
		return err
	}
	n := s.ledger.Names
	if st.Snapshot > 0 {
		if st.Uncertain, err = s.number(ctx, "SELECT count(*) FROM "+s.table(n.Snapshot(st.Sync))+" WHERE uncertain_until IS NOT NULL"); err != nil {
			return err
		}
	}
	there, err := s.Warehouse.Exists(ctx, n.Retry(st.Sync))
	if err != nil || !there {
		return err
	}
	if st.Parked, err = s.number(ctx, "SELECT count(*) FROM "+s.table(n.Retry(st.Sync))+" WHERE parked"); err != nil {
		return err
	}
	st.Waiting, err = s.number(ctx, "SELECT count(*) FROM "+s.table(n.Retry(st.Sync))+" WHERE NOT parked")
	return err
}

// CheckResult is what a live connection check found.
type CheckResult struct {
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	OK      bool            `json:"ok"`
	Account string          `json:"account,omitempty"`
	Error   *report.Problem `json:"error,omitempty"`
	Fields  []string        `json:"unknown_fields,omitempty"` // mapped by a sync, and not there
}

// Check connects to destinations, all where none is named, and compares mapped fields with those that the vendor lists. Where none is
// named, a warehouse that can tell what it is not allowed comes first.
func (s *Session) Check(ctx context.Context, names []string) ([]CheckResult, error) {
	out := []CheckResult{}
	var problems []error
	if w, ok := warehouse.As[warehouse.Checker](s.Warehouse); ok && len(names) == 0 {
		r, err := s.checkWarehouse(ctx, w)
		out, problems = append(out, r), append(problems, err)
	}
	for _, n := range s.Graph.Order() {
		if n.Kind != graph.Destination || (len(names) > 0 && !contains(names, n.Name)) {
			continue
		}
		r := CheckResult{Name: n.Name, Type: n.Destination.Type}
		err := s.checkOne(ctx, n, &r)
		if r.OK = err == nil; err != nil {
			err = destinationError(n.Name, err)
			r.Error = problemOf(err)
			problems = append(problems, err)
		}
		out = append(out, r)
	}
	for _, name := range names {
		if s.Graph.Nodes[graph.ID("destination."+name)] == nil {
			problems = append(problems, diag.Errorf(diag.Invalid, "destination.unknown", "there is no destination %q", name))
		}
	}
	return out, errors.Join(problems...)
}

// checkWarehouse asks for what the project's sources and Dray's own tables need.
func (s *Session) checkWarehouse(ctx context.Context, w warehouse.Checker) (CheckResult, error) {
	r := CheckResult{Name: "warehouse", Type: s.Warehouse.Dialect().Name()}
	var changed, read []warehouse.Table
	meta := s.ledger.Names.Meta()
	there, err := s.Warehouse.Exists(ctx, meta)
	if there {
		changed = append(changed, meta)
	}
	if err != nil && !errors.Is(err, warehouse.ErrDenied) {
		return r, err
	}
	for _, n := range s.Graph.Order() {
		if n.SourceTable != nil {
			read = append(read, warehouse.Table{Database: n.Source.Database, Schema: n.Source.Schema, Name: n.SourceTable.Name})
		}
	}
	r.Account, err = w.Check(ctx, s.Project.Schema, changed, read)
	if r.OK = err == nil; err != nil {
		r.Error = problemOf(err)
		r.Error.Message = strings.ReplaceAll(err.Error(), "\n", "; ") // all of them
	}
	return r, err
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (s *Session) checkOne(ctx context.Context, n *graph.Node, r *CheckResult) error {
	c, err := s.connect(ctx, n.Destination)
	if err != nil {
		return err
	}
	account, err := c.check(ctx)
	if err != nil {
		return err
	}
	r.Account = first(account.Name, account.ID)
	lister, ok := c.dest.(destination.FieldLister)
	if !ok {
		return nil
	}
	for _, name := range s.syncNames() {
		sync := s.Graph.Nodes[syncID(name)].Sync
		if sync.Destination != n.Name {
			continue
		}
		object, _ := c.spec.FindObject(sync.Object)
		options, _ := graph.ObjectOptions(sync, object)
		fields, err := lister.Fields(ctx, sync.Object, options)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for _, f := range fields {
			known[f.Name] = true
		}
		for _, f := range sync.Fields {
			if len(fields) > 0 && !known[f.Name] {
				r.Fields = append(r.Fields, name+": "+f.Name)
			}
		}
	}
	if len(r.Fields) > 0 {
		return diag.Errorf(diag.Invalid, "destination.unknown_field", "fields that are mapped and do not exist there: %s", strings.Join(r.Fields, ", ")).
			WithHint("create them at the destination, or correct fields:")
	}
	return nil
}
