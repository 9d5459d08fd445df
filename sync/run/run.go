package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
)

// Run builds what the syncs need, once, and takes them one after the other through the main path. There is one report a sync, in
// the order they ran, complete also when the error is not nil; the error joins those of all syncs.
func (s *Session) Run(ctx context.Context, names []string, o RunOptions) (_ []report.Run, err error) {
	ctx, end := s.span(ctx, "run", attribute.String("dray.project", s.Project.Name), attribute.Bool("dray.dry_run", o.DryRun))
	defer func() { end(err) }()
	names, err = s.Syncs(names)
	if err != nil {
		return nil, err
	}
	if o.DryRun {
		return s.dryRun(ctx, names, o)
	}
	if err := s.approve(ctx, names, o.Allow); err != nil {
		return nil, err
	}
	prog, built, err := s.built(ctx, names, false, o.Full)
	if err != nil && built.Nodes == nil {
		return s.allFailed(ctx, names, err)
	}
	var reports []report.Run
	var problems []error
	began := s.deps.now()
	for _, name := range names {
		if ctx.Err() != nil || (s.options.FailFast && len(problems) > 0) {
			break
		}
		if err := s.unready(name, reports); err != nil {
			r := s.begin(prog.Syncs[name], o)
			// Those before it that did end well, did so after this: the scheduler need not wait for them again.
			r.report.StartedAt = began.UTC().Truncate(time.Microsecond)
			rep, err := r.finish(ctx, err)
			reports, problems = append(reports, rep), append(problems, err)
			continue
		}
		r, err := s.runBuilt(ctx, prog, built, name, o)
		reports = append(reports, r)
		if err != nil {
			problems = append(problems, err)
		}
	}
	if ctx.Err() != nil && len(reports) < len(names) {
		problems = append(problems, ctx.Err())
	}
	return reports, errors.Join(problems...)
}

// unready is why a sync may not run: one of those that it comes after did not end well in this very call. Those that were not
// called for are not waited for.
func (s *Session) unready(name string, ended []report.Run) error {
	for _, a := range s.Graph.Nodes[syncID(name)].Sync.After {
		i := slices.IndexFunc(ended, func(r report.Run) bool { return r.Sync == a.Sync })
		if i >= 0 && !ended[i].Status.Enough(a.When) {
			return diag.Errorf(diag.Stopped, "sync.after", "%s was not run: %s, which comes before it, %s", name, a.Sync, ended[i].Status.Words()).
				WithHint("once %s has ended as `after:` asks: dray run %s", a.Sync, name)
		}
	}
	return nil
}

// runBuilt runs one sync unless what it reads could not be built.
func (s *Session) runBuilt(ctx context.Context, prog *compile.Program, built build.Result, name string, o RunOptions) (report.Run, error) {
	c := prog.Syncs[name]
	if err := blocked(built, s.Graph, name); err != nil {
		r := s.begin(c, o)
		return r.finish(ctx, err)
	}
	return s.sync(ctx, c, o, nil)
}

// allFailed reports every sync as failed for one reason: nothing could be built.
func (s *Session) allFailed(ctx context.Context, names []string, err error) ([]report.Run, error) {
	var out []report.Run
	for _, name := range names {
		r := s.begin(&compile.Sync{Name: name, Config: s.Graph.Nodes[syncID(name)].Sync}, RunOptions{})
		rep, _ := r.finish(ctx, err)
		out = append(out, rep)
	}
	return out, err
}

// built builds the ancestors of syncs.
func (s *Session) built(ctx context.Context, names []string, scratch, full bool) (*compile.Program, build.Result, error) {
	if !scratch {
		if err := s.move(ctx); err != nil {
			return nil, build.Result{}, err
		}
	}
	prog, err := s.Program(ctx, scratch, full)
	if err != nil {
		return nil, build.Result{}, err
	}
	done, err := s.building(ctx)
	if err != nil {
		return prog, build.Result{}, err
	}
	defer done()
	targets := s.reads(names)
	ctx, end := s.span(ctx, "build", attribute.Int("dray.targets", len(targets)))
	result, err := build.Run(ctx, s.buildDeps(), prog, targets)
	end(err)
	return prog, result, err
}

// reads is what syncs read.
func (s *Session) reads(names []string) []graph.ID {
	targets := map[graph.ID]bool{}
	for _, name := range names {
		for _, id := range s.Graph.Nodes[syncID(name)].Parents {
			if n := s.Graph.Nodes[id]; n.Kind != graph.Sync && n.Kind != graph.Destination {
				targets[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(targets))
}

func (s *Session) buildDeps() build.Deps {
	d := build.Deps{Warehouse: s.Warehouse, Log: s.log, Threads: s.options.Threads, FailFast: s.options.FailFast, Now: s.deps.now}
	if s.deps.Built != nil {
		d.Progress = s.deps.Built
	}
	return d
}

// blocked is why a sync cannot run: a node it reads failed, a test of it, or something before it.
func blocked(built build.Result, g *graph.Graph, name string) error {
	var out diag.List
	var reads []graph.ID // not what the syncs before it read: those have their own runs
	for _, id := range g.Nodes[syncID(name)].Parents {
		if g.Nodes[id].Kind != graph.Sync {
			reads = append(reads, id)
		}
	}
	for _, id := range g.Ancestors(reads...) {
		n, ok := built.Node(id)
		if !ok || n.Status == build.OK || n.Status == build.Tested {
			continue
		}
		if n.Status == build.Failed {
			if n.Err != nil {
				out.Add(n.Err)
				continue
			}
			out.Add(diag.Errorf(diag.Failed, "build.failed", "%s could not be built", id))
		}
	}
	if err := out.Err(); err != nil {
		return fmt.Errorf("%s was not run: %w", name, err)
	}
	return nil
}

// approve stores what --allow grants, for whichever run comes next: kind=fingerprint, several joined by commas.
func (s *Session) approve(ctx context.Context, names, allow []string) error {
	if len(allow) == 0 {
		return nil
	}
	if err := s.ledger.Ensure(ctx); err != nil {
		return err
	}
	for _, list := range allow {
		for a := range strings.SplitSeq(list, ",") {
			kind, fingerprint, ok := strings.Cut(strings.TrimSpace(a), "=")
			if !ok || !slices.Contains([]string{"removes", "changes", "empty", "rows", "mapping"}, kind) || fingerprint == "" {
				return diag.Errorf(diag.Invalid, "call.allow", "--allow takes what dray plan prints, such as removes=3f2a9c01b7de")
			}
			for _, name := range names {
				if err := s.ledger.Approve(ctx, name, kind, fingerprint, s.deps.now()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Build materialises models, identity, profiles and segments: the named nodes and what they need; all where none is named.
func (s *Session) Build(ctx context.Context, ids []graph.ID, full bool) (build.Result, error) {
	if err := s.move(ctx); err != nil {
		return build.Result{}, err
	}
	prog, err := s.Program(ctx, false, full)
	if err != nil {
		return build.Result{}, err
	}
	if len(ids) == 0 {
		ids = s.buildable()
	}
	done, err := s.building(ctx)
	if err != nil {
		return build.Result{}, err
	}
	defer done()
	return build.Run(ctx, s.buildDeps(), prog, ids)
}

func (s *Session) buildable() []graph.ID {
	var ids []graph.ID
	for _, n := range s.Graph.Order() {
		if n.Kind == graph.Model || n.Kind == graph.Entity || n.Kind == graph.Segment {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Test runs the tests of models; of all where none is named. Models that were never built are built first.
func (s *Session) Test(ctx context.Context, ids []graph.ID) (build.Result, error) {
	prog, err := s.Program(ctx, false, false)
	if err != nil {
		return build.Result{}, err
	}
	done, err := s.building(ctx)
	if err != nil {
		return build.Result{}, err
	}
	defer done()
	if len(ids) == 0 {
		for _, id := range s.buildable() {
			if s.Graph.Nodes[id].Kind == graph.Model {
				ids = append(ids, id)
			}
		}
	}
	for _, id := range ids {
		n := prog.Node(id)
		if n == nil || n.Materialized == "" {
			continue
		}
		there, err := s.Warehouse.Exists(ctx, n.Relation)
		if err != nil {
			return build.Result{}, err
		}
		if !there {
			return build.Run(ctx, s.buildDeps(), prog, ids)
		}
	}
	return build.Test(ctx, s.buildDeps(), prog, ids)
}

// Validate asks the warehouse to explain every query of the project, and each destination's declared fields were checked by Prepare.
// scanned is what they would read, in bytes, where the engine estimates that; see build.Explain.
func (s *Session) Validate(ctx context.Context) (scanned int64, err error) {
	prog, err := s.Program(ctx, true, false)
	if err != nil {
		return 0, err
	}
	return build.Explain(ctx, s.Warehouse, prog)
}
