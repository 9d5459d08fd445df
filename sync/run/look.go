package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
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
	LastRun     *report.Run `json:"last_run,omitempty"`
	Snapshot    int64       `json:"snapshot"` // rows acknowledged
	Waiting     int64       `json:"waiting"`  // rejected rows that wait for their retry
	Parked      int64       `json:"parked"`
	Uncertain   int64       `json:"uncertain"`
	OpenRun     string      `json:"open_run,omitempty"` // killed, or under way in another process
}

// Status lists every sync of the project, and those that are only left in the warehouse.
func (s *Session) Status(ctx context.Context) ([]SyncStatus, error) {
	metas, err := s.ledger.All(ctx)
	if err != nil {
		return nil, err
	}
	open := map[string]string{}
	known := map[string]bool{}
	for _, m := range metas {
		open[m.Sync], known[m.Sync] = m.OpenRun, true
	}
	var out []SyncStatus
	for _, name := range s.syncNames() {
		n := s.Graph.Nodes[syncID(name)].Sync
		st := SyncStatus{
			Sync: name, Destination: n.Destination, Object: n.Object, Mode: n.Mode, Schedule: n.Schedule,
			Enabled: n.Enabled == nil || *n.Enabled, OpenRun: open[name], Source: first(n.Model, n.Segment, n.Entity),
		}
		st.NextRun = s.next(n.Schedule, n.Timezone)
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
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil
	}
	parsed, err := cron.ParseStandard(schedule)
	if err != nil {
		return nil
	}
	t := parsed.Next(s.deps.now().In(loc)).UTC()
	return &t
}

func (s *Session) fill(ctx context.Context, st *SyncStatus) error {
	runs, err := s.Runs(ctx, st.Sync, 1)
	if err != nil {
		return err
	}
	if len(runs) > 0 {
		st.LastRun = &runs[0]
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

// Runs lists runs from the control state, newest first; sync "" = of all.
func (s *Session) Runs(ctx context.Context, sync string, limit int) ([]report.Run, error) {
	if limit <= 0 {
		limit = 20
	}
	list, err := s.State.Runs(ctx, s.Project.Schema, sync, limit)
	if err != nil {
		return nil, err
	}
	out := []report.Run{}
	for _, r := range list {
		var rep report.Run
		if len(r.Report) > 0 {
			if err := json.Unmarshal(r.Report, &rep); err != nil {
				return nil, fmt.Errorf("reading run %s: %w", r.RunID, err)
			}
		} else {
			rep = report.Run{
				RunID: r.RunID, Sync: r.Sync, Status: report.Interrupted, ExitCode: 130, StartedAt: r.StartedAt,
				Error: &report.Problem{Code: "killed", Message: "the run has not ended: it was killed, or is under way"},
			}
		}
		out = append(out, rep)
	}
	return out, nil
}

// ErrorGroup is rejected rows with one reason.
type ErrorGroup struct {
	Code        string    `json:"code"`
	Message     string    `json:"message"`
	Operation   string    `json:"operation"`
	Reason      string    `json:"reason"` // rejected, not_found
	Rows        int64     `json:"rows"`
	Parked      int64     `json:"parked"`
	ExampleKey  string    `json:"example_key"` // hash of a destination key; the key itself with --show-values
	FirstAt     time.Time `json:"first_at"`
	LastAt      time.Time `json:"last_at"`
	NextAttempt time.Time `json:"next_attempt_at"`
	Advice      string    `json:"advice"`
}

// Errors groups a sync's rejected rows by the vendor's reason, most first.
func (s *Session) Errors(ctx context.Context, name string, showValues bool) ([]ErrorGroup, error) {
	if _, err := s.Syncs([]string{name}); err != nil {
		return nil, err
	}
	out := []ErrorGroup{}
	n := s.ledger.Names
	there, err := s.Warehouse.Exists(ctx, n.Retry(name))
	if err != nil || !there {
		return out, err
	}
	d := s.Warehouse.Dialect()
	example := d.HashText("min(r.key_hash)")
	rows, err := s.Warehouse.Query(ctx, "SELECT coalesce(r.code, ''), coalesce(r.message, ''), r.operation, r.reason, count(*), count(CASE WHEN r.parked THEN 1 END), "+example+
		", min(r.first_at), max(r.last_at), min(r.next_attempt_at), min(r.key_hash) FROM "+d.Table(n.Retry(name))+" r GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2")
	if err != nil {
		return nil, fmt.Errorf("reading the rejected rows of %s: %w", name, err)
	}
	defer rows.Close()
	var keys []int64
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		g := ErrorGroup{}
		g.Code, _ = v[0].(string)
		g.Message, _ = v[1].(string)
		g.Operation, _ = v[2].(string)
		g.Reason, _ = v[3].(string)
		g.Rows, _ = v[4].(int64)
		g.Parked, _ = v[5].(int64)
		g.ExampleKey, _ = v[6].(string)
		g.FirstAt, _ = v[7].(time.Time)
		g.LastAt, _ = v[8].(time.Time)
		g.NextAttempt, _ = v[9].(time.Time)
		k, _ := v[10].(int64)
		keys = append(keys, k)
		g.Advice = advice(g)
		out = append(out, g)
	}
	if err := rows.Err(); err != nil {
		return out, err
	}
	if showValues {
		if err := s.exampleKeys(ctx, name, keys, out); err != nil {
			return out, err
		}
	}
	refused, err := s.refused(ctx, name)
	return append(out, refused...), err
}

// refused are the rows that the last run could not send at all, by reason.
func (s *Session) refused(ctx context.Context, name string) ([]ErrorGroup, error) {
	text, err := s.ledger.LastReport(ctx, name)
	if err != nil || text == "" {
		return nil, err
	}
	var last report.Run
	if err := json.Unmarshal([]byte(text), &last); err != nil {
		return nil, fmt.Errorf("reading the last run of %s: %w", name, err)
	}
	var out []ErrorGroup
	for _, reason := range slices.Sorted(maps.Keys(last.Refused)) {
		g := ErrorGroup{Code: reason, Operation: "add", Reason: "rejected", Rows: last.Refused[reason], FirstAt: last.StartedAt, LastAt: last.FinishedAt}
		switch reason {
		case "null_key":
			g.Message, g.Advice = "the row has no destination key", "fill the key in the source, leave such rows out with where, or say null_key: skip"
		case "duplicate_key":
			g.Message, g.Advice = "other rows have the same destination key", "make the key unique in the model, or say on_duplicate_key: {keep: first, order_by: …}"
		}
		out = append(out, g)
	}
	return out, nil
}

// exampleKeys finds the primary keys behind the example hashes, in the deliveries.
func (s *Session) exampleKeys(ctx context.Context, name string, keys []int64, groups []ErrorGroup) error {
	d := s.Warehouse.Dialect()
	for i := range keys {
		rows, err := s.Warehouse.Query(ctx, fmt.Sprintf("SELECT primary_key FROM %s WHERE sync = %s AND key_hash = %s ORDER BY %s DESC LIMIT 1",
			d.Table(s.ledger.Names.Deliveries()), d.Text(name), d.Text(groups[i].ExampleKey), d.Quote("at")))
		if err != nil {
			return err
		}
		if rows.Next() {
			if v, err := rows.Values(); err == nil {
				if key, ok := v[0].(string); ok {
					groups[i].ExampleKey = key
				}
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// advice is the next step for a group of rejected rows.
func advice(g ErrorGroup) string {
	code := strings.ToLower(g.Code + " " + g.Message)
	switch {
	case g.Reason == "not_found":
		return "the record does not exist there; mode update does not create: use upsert, or wait, it is looked for daily"
	case strings.Contains(code, "property_doesnt_exist"), strings.Contains(code, "does not exist"), strings.Contains(code, "unknown field"):
		return "create the field at the destination, or correct fields: in the sync"
	case strings.Contains(code, "email"):
		return "correct the address in the source; the row goes again when it changes"
	case strings.Contains(code, "413"), strings.Contains(code, "too large"):
		return "the row is larger than the destination takes: map fewer or shorter fields"
	case g.Parked == g.Rows:
		return "parked: correct the rows or the destination, then dray retry"
	default:
		return "correct the rows in the source: they go again when they change; or dray retry after a change at the destination"
	}
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

// Check connects to destinations, all where none is named, and compares mapped fields with those that the vendor lists.
func (s *Session) Check(ctx context.Context, names []string) ([]CheckResult, error) {
	out := []CheckResult{}
	var problems []error
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
