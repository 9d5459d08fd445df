// Package alert tells people of syncs that are not well: `alerts:`.
//
// For each destination of alerts and each sync the control state keeps which states were told. A message is sent when a state is
// met that was not told yet, and, where recovered is asked for, one when none is left: once per change, also over restarts. What
// could not be sent is tried again. Messages hold names, codes and counts, never a customer's value (I6).
package alert

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/timetable"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

// Teller tells of the syncs of one project. Safe for concurrent use.
type Teller struct {
	State *state.State
	Send  func(ctx context.Context, p *run.Prepared, to string, n destination.Notice) error
	Now   func() time.Time
	Log   *slog.Logger

	mu     sync.Mutex // one message at a time: of two for the same change one would be too many
	last   map[string]report.Run
	began  time.Time
	loaded bool // also what ended before this process began
}

// The states, gravest first.
const (
	failed    = "failed"
	held      = "held"
	stale     = "stale"
	rejected  = "rejected"
	partial   = "partial"
	recovered = "recovered"
)

func states() []string { return []string{failed, held, stale, rejected, partial} }

// patience is how long a message may take to be sent.
const patience = 30 * time.Second

// Ended tells of a run that ended, where there is something to tell.
func (t *Teller) Ended(ctx context.Context, p *run.Prepared, r report.Run) {
	if len(p.Project.Alerts) == 0 || r.DryRun || r.Status == report.Locked || r.Status == report.Interrupted {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remember(r)
	t.look(ctx, p, func(sync string) bool { return sync == r.Sync })
}

func (t *Teller) remember(r report.Run) {
	if t.last == nil {
		t.last, t.began = map[string]report.Run{}, t.Now()
	}
	if known, ok := t.last[r.Sync]; r.Sync != "" && !ok || ok && known.StartedAt.Before(r.StartedAt) {
		t.last[r.Sync] = r
	}
}

// Look tells what no end of a run would: syncs that have not succeeded for long, and what could not be sent before.
func (t *Teller) Look(ctx context.Context, p *run.Prepared, reports func(ctx context.Context, sync string) ([]report.Run, error)) {
	if len(p.Project.Alerts) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		t.remember(report.Run{})
		for _, c := range p.Project.Syncs {
			runs, err := reports(ctx, c.Name)
			if err != nil {
				t.Log.Error("reading runs for alerts", "error", err.Error())
				return
			}
			for _, r := range runs {
				if r.Status != report.Locked && r.Status != report.Interrupted {
					t.remember(r)
					break
				}
			}
		}
		t.loaded = true
	}
	t.look(ctx, p, func(string) bool { return true })
}

// wish is what one destination wants to hear of one sync.
type wish struct {
	on []config.AlertOn
}

func (t *Teller) look(ctx context.Context, p *run.Prepared, of func(sync string) bool) {
	told, err := t.State.Alerts(ctx, p.Project.Schema)
	if err != nil {
		t.Log.Error("reading what alerts have told", "error", err.Error())
		return
	}
	succeeded, err := t.successes(ctx, p, of)
	if err != nil {
		t.Log.Error("reading what alerts have told", "error", err.Error())
		return
	}
	for _, c := range p.Project.Syncs {
		if !of(c.Name) {
			continue
		}
		for to, w := range wishes(p, c) {
			before := state.Alert{To: to, Sync: c.Name, States: []string{}}
			if i := slices.IndexFunc(told, func(a state.Alert) bool { return a.To == to && a.Sync == c.Name }); i >= 0 {
				before = told[i]
			}
			t.tell(ctx, p, c, w, before, succeeded[c.Name])
		}
	}
}

// wishes are who wants to hear of a sync.
func wishes(p *run.Prepared, c *config.Sync) map[string]*wish {
	out := map[string]*wish{}
	for _, a := range p.Project.Alerts {
		if len(a.Syncs) > 0 {
			nodes, err := p.Graph.Select(a.Syncs, nil, graph.Sync)
			if err != nil || !slices.ContainsFunc(nodes, func(n *graph.Node) bool { return n.Name == c.Name }) {
				continue // resolving the project has checked the selectors
			}
		}
		if out[a.To] == nil {
			out[a.To] = &wish{}
		}
		out[a.To].on = append(out[a.To].on, a.On)
	}
	return out
}

// successes are when syncs last succeeded, where an alert asks how long ago that is.
func (t *Teller) successes(ctx context.Context, p *run.Prepared, of func(string) bool) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	if !slices.ContainsFunc(p.Project.Alerts, func(a *config.Alert) bool { return a.On.Stale != nil }) {
		return out, nil
	}
	var names []string
	for _, c := range p.Project.Syncs {
		if of(c.Name) {
			names = append(names, c.Name)
		}
	}
	ends, err := t.State.Ends(ctx, p.Project.Schema, names)
	if err != nil {
		return nil, err
	}
	kept, err := t.State.Schedules(ctx, p.Project.Schema)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		at := t.began // it never succeeded: at the earliest since this process looks
		for _, e := range ends[name] {
			if e.Status == string(report.Succeeded) || e.Status == string(report.Partial) {
				at = e.EndedAt
				break
			}
		}
		for _, e := range ends[name] {
			if (e.Status == string(report.Succeeded) || e.Status == string(report.Partial)) && e.EndedAt.After(at) {
				at = e.EndedAt
			}
		}
		if kept[name].PausedAt.IsZero() {
			out[name] = at
		}
	}
	return out, nil
}

// tell sends what changed since before.
func (t *Teller) tell(ctx context.Context, p *run.Prepared, c *config.Sync, w *wish, before state.Alert, succeeded time.Time) {
	r, ran := t.last[c.Name]
	var now []string
	for _, s := range states() {
		for _, on := range w.on {
			if (ran && met(s, on, r) || s == stale && t.stale(on, p, c, succeeded)) && !slices.Contains(now, s) {
				now = append(now, s)
			}
		}
	}
	if !ran && !slices.Contains(now, stale) { // nothing is known of it: what was told stands
		return
	}
	added := slices.DeleteFunc(slices.Clone(now), func(s string) bool { return slices.Contains(before.States, s) })
	ended := len(now) == 0 && len(before.States) > 0
	if len(added) == 0 && len(now) == len(before.States) {
		return
	}
	after := state.Alert{To: before.To, Sync: c.Name, States: append([]string{}, now...), Since: t.Now()}
	if len(before.States) > 0 && !ended {
		after.Since = before.Since
	}
	if len(added) > 0 || ended && slices.ContainsFunc(w.on, func(on config.AlertOn) bool { return on.Recovered }) {
		n := t.notice(p, c, r, added, before, succeeded)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if err := t.Send(ctx, p, before.To, n); err != nil {
			t.Log.Error("an alert could not be sent; it is tried again", "to", before.To, "sync", c.Name, "error", err.Error())
			return
		}
		t.Log.Info("alert sent", "to", before.To, "sync", c.Name, "state", n.State)
	}
	if _, err := t.State.Told(context.WithoutCancel(ctx), p.Project.Schema, after, before); err != nil {
		t.Log.Error("writing what alerts have told", "error", err.Error())
	}
}

// met tells whether the last run of a sync is in a state that is to be told.
func met(s string, on config.AlertOn, r report.Run) bool {
	planned := float64(max(r.Planned.Total(), 1))
	switch s {
	case failed:
		return on.Failed && r.Status == report.Failed
	case held:
		return on.Held && r.Status == report.Stopped
	case rejected:
		return on.Rejected != nil && r.Rejected.Total() > 0 && float64(r.Rejected.Total())/planned > float64(*on.Rejected)
	case partial:
		left := r.Rejected.Total() + r.Uncertain.Total() + r.Deferred.Total()
		return on.Partial != nil && r.Status == report.Partial && float64(left)/planned > float64(*on.Partial)
	}
	return false
}

const (
	staleIntervals = 3
	leastStale     = 15 * time.Minute
)

// stale tells whether a sync has not succeeded for longer than an alert allows: without a limit of its own three of its
// intervals, a quarter of an hour at least; a sync without a schedule then never is.
func (t *Teller) stale(on config.AlertOn, p *run.Prepared, c *config.Sync, succeeded time.Time) bool {
	if on.Stale == nil || succeeded.IsZero() || p.Project.Schedules == "off" || c.Enabled != nil && !*c.Enabled {
		return false
	}
	limit := on.Stale.Duration
	if limit == 0 {
		table, err := timetable.Parse(c.Schedule, c.Timezone)
		if err != nil {
			return false
		}
		limit = max(staleIntervals*table.Interval(t.Now()), leastStale)
	}
	return t.Now().Sub(succeeded) > limit
}

// notice writes the message.
func (t *Teller) notice(p *run.Prepared, c *config.Sync, r report.Run, added []string, before state.Alert, succeeded time.Time) destination.Notice {
	n := destination.Notice{State: recovered, Project: p.Project.Name, Target: p.Project.TargetName, Sync: c.Name, At: t.Now()}
	var lines []string
	if len(added) > 0 {
		n.State = added[0]
	}
	said := map[string]string{
		failed: "failed", held: "was stopped or held back", stale: "has not succeeded for long", rejected: "had rows rejected", partial: "left rows undelivered",
		recovered: "is well again",
	}
	n.Title = p.Project.Name + ": " + c.Name + " " + said[n.State]
	for i, s := range added {
		if i > 0 {
			lines = append(lines, "It also "+said[s]+".")
		}
	}
	if n.State == stale || slices.Contains(added, stale) {
		lines = append(lines, "Last success, as far as is known: "+succeeded.UTC().Format(time.RFC3339)+".")
	}
	if n.State == recovered {
		lines = append(lines, "Told before: "+strings.Join(before.States, ", ")+", since "+before.Since.UTC().Format(time.RFC3339)+".")
	}
	if r.RunID != "" && n.State != stale {
		n.RunID = r.RunID
		lines = append(lines, fmt.Sprintf("Run %s: %s, %d rows, %d of %d changes delivered, %d rejected, %d uncertain, %d held, %d deferred.", r.RunID, r.Status,
			r.Rows, r.Delivered.Total()+r.Accepted.Total(), r.Planned.Total(), r.Rejected.Total(), r.Uncertain.Total(), r.Held.Total(), r.Deferred.Total()))
		if r.Error != nil { // its message may quote the warehouse, and that a value
			lines = append(lines, "Reason: "+r.Error.Code+".")
		}
		if n.State != recovered {
			lines = append(lines, "More: dray runs "+c.Name+", dray errors "+c.Name+".")
		}
	}
	n.Text = strings.Join(lines, "\n")
	n.ID = strings.Join([]string{p.Project.Name, c.Name, n.State, r.RunID}, ".")
	if r.RunID == "" || n.State == stale {
		n.ID = strings.Join([]string{p.Project.Name, c.Name, n.State, succeeded.UTC().Format("20060102T150405")}, ".")
	}
	return n
}
