package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/sync/guard"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
)

// Plan says what a run would do. Everything is built and planned in scratch: nothing is sent, and no table of a run is changed.
// The vendor is not asked; a binding that changed is found by the run.
func (s *Session) Plan(ctx context.Context, names []string, _ RunOptions) ([]report.Plan, error) {
	names, err := s.Syncs(names)
	if err != nil {
		return nil, err
	}
	var out []report.Plan
	err = s.inScratch(ctx, names, func(prog *compile.Program, built build.Result) error {
		var problems []error
		for _, name := range names {
			p, err := s.planOne(ctx, prog, built, name)
			if err != nil {
				p.Error = problemOf(err)
				problems = append(problems, err)
			}
			out = append(out, p)
		}
		return errors.Join(problems...)
	})
	return out, err
}

// inScratch builds what syncs need in the scratch schema, and drops it afterwards.
func (s *Session) inScratch(ctx context.Context, names []string, do func(*compile.Program, build.Result) error) (err error) {
	done, err := s.scratching(ctx)
	if err != nil {
		return err
	}
	defer done()
	prog, built, err := s.built(ctx, names, true, false)
	if prog != nil {
		defer func() {
			if derr := build.DropScratch(context.WithoutCancel(ctx), s.Warehouse, prog); err == nil {
				err = derr
			}
		}()
	}
	if err != nil && built.Nodes == nil {
		return err
	}
	return do(prog, built)
}

func (s *Session) planOne(ctx context.Context, prog *compile.Program, built build.Result, name string) (report.Plan, error) {
	p := report.Plan{Sync: name, ChangedFields: map[string]int64{}, Samples: []report.Sample{}, Guard: report.Guard{Status: string(guard.OK), Reasons: []string{}}}
	if err := blocked(built, s.Graph, name); err != nil {
		return p, err
	}
	c := prog.Syncs[name]
	changes, o, m, err := s.diff(ctx, prog, c, nil)
	if err != nil {
		return p, err
	}
	if p.Identity, err = s.moving(ctx, prog, built, c); err != nil {
		return p, fmt.Errorf("counting the merges and splits of %s: %w", name, err)
	}
	v, err := s.judge(ctx, c, changes, nil)
	if err != nil {
		return p, err
	}
	s.mapped(ctx, c, m, &v)
	reasons, err := s.stale(ctx, c)
	if err != nil {
		return p, err
	}
	if len(reasons) > 0 {
		v.Status = guard.Stopped
		v.Reasons = append(v.Reasons, reasons...)
	}
	fillPlan(&p, changes, v)
	if begunAnew(c, m) && c.Mode == destination.Mirror && !m.KeepsEvents() {
		left, err := s.snapshotRows(ctx, name)
		if err != nil {
			return p, err
		}
		p.Remove += left
	}
	if p.ChangedFields, err = changes.ChangedFields(ctx, s.Warehouse); err != nil {
		return p, fmt.Errorf("counting the changed fields of %s: %w", name, err)
	}
	if p.ChangedTypes, err = changes.Layout.Retyped(ctx, s.Warehouse, o.Standing); err != nil {
		return p, err
	}
	if p.Samples, err = changes.Samples(ctx, s.Warehouse, o, s.options.ShowValues); err != nil {
		return p, fmt.Errorf("reading samples of %s: %w", name, err)
	}
	if p.Samples == nil {
		p.Samples = []report.Sample{}
	}
	p.Estimate = s.estimate(c, changes.Layout, p)
	if p.Estimate.BytesScanned, err = s.scanned(ctx, prog, c, changes.Layout.Reads(o)); err != nil {
		return p, fmt.Errorf("estimating what %s reads: %w", name, err)
	}
	return p, nil
}

// profilesShown is how many of the largest profiles a plan names.
const profilesShown = 3

// moving says what became of the ids of the profiles that a sync delivers, in the scratch build; nil where it delivers none.
func (s *Session) moving(ctx context.Context, prog *compile.Program, built build.Result, c *compile.Sync) (*report.Identity, error) {
	entity := s.entityOf(c)
	n, ok := built.Node(graph.MakeID(graph.Entity, entity))
	if !ok || n.Identity == nil {
		return nil, nil
	}
	out := &report.Identity{
		Entity: entity, Profiles: n.Identity.Profiles, Born: n.Identity.Born, Merged: n.Identity.Merged, Split: n.Identity.Split,
		Largest: []report.Profile{},
	}
	largest, err := identity.Largest(ctx, s.Warehouse, prog.Target.Identity(entity))
	if err != nil {
		return nil, err
	}
	for _, l := range largest[:min(len(largest), profilesShown)] {
		out.Largest = append(out.Largest, report.Profile{ProfileID: l.ProfileID, Values: l.Values})
	}
	snapshot := s.ledger.Names.Snapshot(c.Name)
	if out.Merged+out.Split == 0 || c.Moves == nil {
		return out, nil
	}
	there, err := s.Warehouse.Exists(ctx, snapshot)
	if err != nil || !there {
		return out, err
	}
	out.Members.Merged, out.Members.Split, err = identity.Moving(ctx, s.Warehouse, snapshot, "primary_key", prog.Target.Merges(entity))
	return out, err
}

// diff plans in scratch.
func (s *Session) diff(ctx context.Context, prog *compile.Program, c *compile.Sync, b *plan.Backfill) (*plan.Changes, plan.Options, ledger.Meta, error) {
	m, err := s.ledger.Read(ctx, c.Name)
	if err != nil {
		return nil, plan.Options{}, m, err
	}
	if err := m.Current(); err != nil {
		return nil, plan.Options{}, m, err
	}
	if err := s.scratchSchema(ctx, prog); err != nil {
		return nil, plan.Options{}, m, err
	}
	l, err := s.describe(ctx, c, warehouse.Table{Schema: prog.Target.Schema, Name: "plan_" + c.Name})
	if err != nil {
		return nil, plan.Options{}, m, err
	}
	l.Salt = m.KeySalt
	for {
		o, err := s.planOptions(ctx, c, m, l)
		if err != nil {
			return nil, o, m, err
		}
		o.Backfill = b
		changes, err := plan.Diff(ctx, s.Warehouse, l, o)
		if plan.IsCollision(err) && l.Salt < 8 {
			l.Salt++
			continue
		}
		return changes, o, m, sqlError(c, err)
	}
}

// scratchSchema makes the schema that a scratch program builds into.
func (s *Session) scratchSchema(ctx context.Context, prog *compile.Program) error {
	if prog.Target.Schema == "" {
		return nil
	}
	_, err := s.Warehouse.Exec(ctx, s.Warehouse.Dialect().CreateSchema(prog.Target.Schema))
	return err
}

// mapped adds to a verdict that key, object, options or mode are not those of the snapshot.
func (s *Session) mapped(ctx context.Context, c *compile.Sync, m ledger.Meta, v *guard.Verdict) {
	if !m.Exists || m.Mapping == mapping(c) {
		return
	}
	approved, err := s.ledger.Approved(ctx, c.Name)
	if err == nil && approved["mapping="+mapping(c)] {
		return
	}
	v.Status, v.Allow = guard.Stopped, "mapping="+mapping(c)
	v.Reasons = append(v.Reasons, "key, object, options or mode changed since the last run")
}

func fillPlan(p *report.Plan, c *plan.Changes, v guard.Verdict) {
	p.Rows, p.Unchanged, p.HeldOut = c.Rows, c.Unchanged(), c.HeldOut
	if s := c.Layout.Sync; s.Consent != "" {
		p.Consent = &report.Consent{Purpose: s.Destination.Purpose, Condition: s.Consent + " is true", Act: s.Object.Withdraw}
	}
	for _, g := range c.Groups {
		switch {
		case g.State == plan.Parked:
			p.Parked += g.Rows
		case g.State == plan.Held || holds(v, g):
			p.Held += g.Rows
		case g.State == plan.Skipped:
			p.Skipped += g.Rows
		case g.State == plan.Rejected:
			p.Rejected += g.Rows
		case g.State == plan.Deferred:
			p.Deferred += g.Rows
		case g.State == plan.Pending && g.Operation != plan.Forget:
			p.Pending += g.Rows
		}
		if g.State == plan.Pending || g.State == plan.Skipped || g.State == plan.Rejected || g.State == plan.Deferred || g.State == plan.Parked {
			continue
		}
		if g.Uncertain && g.State == plan.Send {
			p.Uncertain += g.Rows
		}
		switch g.Reason {
		case plan.Refresh:
			p.Refreshed += g.Rows
		case plan.Consent:
			p.Consent.Withdrawn += g.Rows
		}
		switch g.Operation {
		case destination.OpAdd:
			p.Add += g.Rows
		case destination.OpUpdate, destination.OpRekey:
			p.Update += g.Rows
		case destination.OpRemove:
			p.Remove += g.Rows
		case plan.Forget:
			if g.State == plan.Send {
				p.Forgotten += g.Rows
			}
		}
	}
	p.Guard = report.Guard{Status: string(v.Status), Reasons: v.Reasons, Fingerprint: v.Fingerprint(), Allow: v.Allow}
	if p.Guard.Reasons == nil {
		p.Guard.Reasons = []string{}
	}
}

// estimate is what a plan's rows cost: requests at the object's batch size, minutes at the rate in force, and what share of the account's
// day they are; unknown numbers stay 0. Reads are counted as one a batch, which is the most they can be.
func (s *Session) estimate(c *compile.Sync, l *plan.Layout, p report.Plan) report.Estimate {
	cfg, _ := graph.DestinationConfig(c.Destination, c.Spec) // checked by graph
	size := int64(c.Spec.BatchSize(c.Object, cfg))
	batches := func(rows ...int64) (n int64) {
		for _, r := range rows {
			n += (r + size - 1) / size
		}
		return n
	}
	written, all := batches(p.Add, p.Update), batches(p.Add, p.Update, p.Remove)
	if c.Object.Mixed {
		written, all = batches(p.Add+p.Update), batches(p.Add+p.Update+p.Remove)
	}
	reads := int64(len(l.Lookups()))
	if len(l.IfEmpty()) > 0 {
		reads++
	}
	e := report.Estimate{Requests: all + written*reads}
	perMinute := 60 * s.pacers.Rate(credential(c.Destination, c.Spec, cfg)...)
	if r := c.Spec.Rate; perMinute == 0 && r.Requests > 0 {
		perMinute = float64(r.Requests) / r.Per.Minutes()
	}
	if perMinute > 0 {
		e.Minutes = float64(e.Requests) / perMinute
	}
	if daily := c.Spec.Rate.Daily; daily > 0 {
		e.QuotaShare = float64(e.Requests) / float64(daily)
	}
	return e
}

// scanned is what a run would read in the warehouse, where the engine estimates that: the tables that its models are built into, and
// the plan. 0 where it does not.
func (s *Session) scanned(ctx context.Context, prog *compile.Program, c *compile.Sync, plan string) (int64, error) {
	w, ok := warehouse.As[warehouse.Estimator](s.Warehouse)
	if !ok {
		return 0, nil
	}
	total, err := w.Estimate(ctx, plan)
	if err != nil {
		return 0, err
	}
	seen := map[graph.ID]bool{}
	var add func(id graph.ID) error
	add = func(id graph.ID) error {
		n := prog.Node(id)
		if n == nil || seen[id] {
			return nil
		}
		seen[id] = true
		if n.Query != "" && n.Materialized != "view" {
			bytes, err := w.Estimate(ctx, n.Query)
			if err != nil {
				return err
			}
			total += bytes
		}
		for _, parent := range n.Parents {
			if err := add(parent); err != nil {
				return err
			}
		}
		return nil
	}
	return total, add(syncID(c.Name))
}

// dryRun answers `dray run --dry-run`: the plan, as reports in which everything that would be sent is deferred.
func (s *Session) dryRun(ctx context.Context, names []string, o RunOptions) ([]report.Run, error) {
	var out []report.Run
	err := s.inScratch(ctx, names, func(prog *compile.Program, built build.Result) error {
		var problems []error
		for _, name := range names {
			r, err := s.dryOne(ctx, prog, built, name, o)
			out = append(out, r)
			problems = append(problems, err)
		}
		return errors.Join(problems...)
	})
	return out, err
}

func (s *Session) dryOne(ctx context.Context, prog *compile.Program, built build.Result, name string, o RunOptions) (report.Run, error) {
	c := prog.Syncs[name]
	r := s.begin(c, o)
	r.report.DryRun = true
	err := blocked(built, s.Graph, name)
	if err == nil {
		err = s.required(ctx, c)
	}
	if err == nil {
		r.changes, _, _, err = s.diff(ctx, prog, c, nil)
	}
	if err == nil {
		r.verdict, err = s.judge(ctx, c, r.changes, nil)
		r.report.Reasons, r.report.Allow = r.verdict.Reasons, r.verdict.Allow
	}
	if err == nil && r.verdict.Status == guard.Stopped {
		err = stopped(name, r.verdict)
	}
	r.report.FinishedAt = s.deps.now().UTC()
	r.tally()
	r.report.Status, r.report.ExitCode = statusOf(&r.report, err)
	if err == nil && r.report.Status == report.Partial && r.report.Rejected.Total() == 0 {
		r.report.Status, r.report.ExitCode = report.Succeeded, 0 // deferred because nothing is sent
	}
	if err != nil {
		r.report.Error = problemOf(err)
	}
	return r.report, err
}
