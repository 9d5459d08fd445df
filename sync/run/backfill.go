package run

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/guard"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
)

// Backfill sends rows of one sync again, whatever the difference says, under its limits and guards.
func (s *Session) Backfill(ctx context.Context, name string, b Backfill, o RunOptions) (rep report.Run, err error) {
	names, err := s.Syncs([]string{name})
	if err != nil {
		return report.Run{}, err
	}
	c := s.Graph.Nodes[syncID(name)].Sync
	if b, err = s.resumed(ctx, name, b); err != nil {
		return report.Run{}, err
	}
	if err := b.check(c); err != nil {
		return report.Run{}, err
	}
	if b.DryRun {
		return s.dryBackfill(ctx, name, b)
	}
	if err := s.approve(ctx, names, o.Allow); err != nil {
		return report.Run{}, err
	}
	prog, built, err := s.built(ctx, names, false, false)
	if err == nil {
		err = blocked(built, s.Graph, name)
	}
	if err != nil {
		return report.Run{}, err
	}
	for {
		part, yielded, err := s.backfillPart(ctx, prog.Syncs[name], b, o)
		tried := part.Planned.Total() - part.Deferred.Total()
		if len(b.Parts) > 0 {
			part = part.Continue(rep)
		}
		rep = part
		if err != nil || !yielded || b.Limit > 0 && b.Limit <= tried {
			return rep, err
		}
		// The sync went to a run that wanted it. Afterwards the backfill goes on with what it has not tried, planned anew: what was
		// planned before may be older than what that run sent.
		b.Parts = append(slices.Clone(b.Parts), rep.RunID)
		if b.Limit > 0 {
			b.Limit -= tried
		}
	}
}

// backfillPart is one run of a backfill: all of it, unless another run wants the sync meanwhile.
func (s *Session) backfillPart(ctx context.Context, c *compile.Sync, b Backfill, o RunOptions) (rep report.Run, yielded bool, err error) {
	pb, keys, done, err := s.backfillPlan(ctx, c, b, s.Project.Schema)
	defer func() {
		if derr := done(context.WithoutCancel(ctx)); err == nil {
			err = derr
		}
	}()
	if err != nil {
		return report.Run{}, false, err
	}
	r := s.begin(c, o)
	r.report.Keys = keys
	r.backfill, r.asked, r.again = pb, &b, len(b.Parts) > 0
	rep, err = r.finish(ctx, r.path(ctx))
	return rep, r.yielded, err
}

// resumed completes a backfill that goes on where another stopped: what that one meant is written in the warehouse, beside the
// beginning of its run.
func (s *Session) resumed(ctx context.Context, name string, b Backfill) (Backfill, error) {
	if b.Resume == "" {
		return b, nil
	}
	text, known, err := s.ledger.RunBegan(ctx, name, b.Resume)
	if err != nil {
		return b, err
	}
	var first Backfill
	switch {
	case !known:
		return b, diag.Errorf(diag.Invalid, "backfill.unknown_run", "%s has no run %s", name, b.Resume).WithHint("dray runs %s lists them", name)
	case text == "" || json.Unmarshal([]byte(text), &first) != nil:
		return b, diag.Errorf(diag.Invalid, "backfill.no_backfill", "run %s of %s was no backfill that began to send", b.Resume, name).
			WithHint("dray run %s takes up an ordinary run; start a backfill with --full, --where, --keys, --since, --fields or --limit", name)
	}
	b.Runs = append(append(first.Runs, first.Parts...), b.Resume)
	done, err := s.ledger.Delivered(ctx, []string{b.Resume}) // its limit was without what those before it delivered
	if err != nil {
		return b, err
	}
	first.Resume, first.DryRun, first.Runs, first.Parts = b.Resume, b.DryRun, b.Runs, nil
	if first.Limit > 0 {
		if first.Limit -= done; first.Limit <= 0 {
			return b, diag.Errorf(diag.Invalid, "backfill.resume", "nothing is left of run %s: it delivered the rows of its --limit", b.Resume)
		}
	}
	return first, nil
}

func (b Backfill) check(c *config.Sync) error {
	switch {
	case c.Mode == "insert" && !b.Resend && b.Resume == "":
		return diag.At(c.At("mode"), "backfill.insert", "%s inserts: sending again needs --resend", c.Name).
			WithHint("rows keep their dedupe ids; what the destination does with them again is its own")
	case !b.Full && b.Where == "" && b.Keys == "" && b.Since == "" && b.Limit == 0 && b.Resume == "" && len(b.Fields) == 0:
		return diag.Errorf(diag.Invalid, "backfill.what", "say which rows to send again: --full, --where SQL, --keys FILE, --since T, --limit N or --fields a,b")
	}
	for _, f := range b.Fields {
		if !slices.ContainsFunc(c.Fields, func(x *config.Field) bool { return x.Name == f }) {
			var known []string
			for _, x := range c.Fields {
				known = append(known, x.Name)
			}
			e := diag.Errorf(diag.Invalid, "backfill.field", "%s has no field %q", c.Name, f)
			if hint := config.Suggest(f, known); hint != "" {
				e.Hint = "did you mean " + hint + "?"
			}
			return e
		}
	}
	return nil
}

// backfillPlan turns the flags into a condition over the sync's rows. What it loads for that stands in schema until done is called. found
// is nil where it loads no keys.
func (s *Session) backfillPlan(ctx context.Context, c *compile.Sync, b Backfill, schema string) (out *plan.Backfill, found *report.Keys, done func(context.Context) error, err error) {
	done = func(context.Context) error { return nil }
	out = &plan.Backfill{Limit: b.Limit, Except: b.Runs, Tried: b.Parts, Resend: b.Resend, Removes: b.Full && c.Mode == destination.Mirror}
	if len(b.Fields) > 0 {
		out.Fields = b.Fields
	}
	var parts []string
	if b.Where != "" {
		parts = append(parts, "("+b.Where+")")
	}
	if b.Since != "" {
		since, err := s.since(c, b.Since)
		if err != nil {
			return nil, nil, done, err
		}
		parts = append(parts, since)
	}
	if b.Keys != "" {
		t := warehouse.Table{Schema: schema, Name: "backfill_" + c.Name}
		keys, counts, err := s.loadKeys(ctx, c, b.Keys, t)
		done = func(ctx context.Context) error {
			_, err := s.Warehouse.Exec(ctx, "DROP TABLE IF EXISTS "+s.table(t)) // it holds customers' keys
			return err
		}
		if err != nil {
			return nil, nil, done, err
		}
		found = &counts
		parts = append(parts, keys)
	}
	out.Where = strings.Join(parts, " AND ")
	return out, found, done, nil
}

func (s *Session) since(c *compile.Sync, text string) (string, error) {
	if c.LoadedAt == "" {
		if c.Config.Model == "" {
			return "", diag.At(c.Config.Pos, "backfill.since", "--since needs a time: %s has no event.at, and profiles have no time at which they were loaded", c.Name).
				WithHint("choose by a trait: --where \"last_order_at >= '2026-01-31'\"")
		}
		return "", diag.At(c.Config.Pos, "backfill.since", "--since needs a time: %s has no event.at and its model no loaded_at", c.Name).
			WithHint("say loaded_at: column on the model, or use --where")
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			d := s.Warehouse.Dialect()
			return d.Cast(d.Quote(c.LoadedAt), warehouse.Timestamp) + " >= " + d.Time(t), nil
		}
	}
	return "", diag.Errorf(diag.Invalid, "backfill.since", "--since takes a time such as 2026-01-31 or 2026-01-31T12:00:00Z")
}

// dryBackfill counts what a backfill would send, built in scratch.
func (s *Session) dryBackfill(ctx context.Context, name string, b Backfill) (report.Run, error) {
	var rep report.Run
	err := s.inScratch(ctx, []string{name}, func(prog *compile.Program, built build.Result) error {
		r := s.begin(prog.Syncs[name], RunOptions{})
		r.report.DryRun = true
		err := blocked(built, s.Graph, name)
		if err == nil {
			err = r.dryPlan(ctx, prog, b)
		}
		err = r.conclude(err)
		if err == nil && r.report.Status == report.Partial && r.report.Rejected.Total() == 0 {
			r.report.Status, r.report.ExitCode = report.Succeeded, 0 // deferred because nothing is sent
		}
		rep = r.report
		return err
	})
	return rep, err
}

func (r *one) dryPlan(ctx context.Context, prog *compile.Program, b Backfill) error {
	if err := r.scratchSchema(ctx, prog); err != nil {
		return err
	}
	pb, keys, _, err := r.backfillPlan(ctx, r.sync, b, prog.Target.Schema)
	if err != nil {
		return err
	}
	r.report.Keys = keys
	if r.changes, _, _, err = r.diff(ctx, prog, r.sync, pb); err != nil {
		return err
	}
	if r.verdict, err = r.judge(ctx, r.sync, r.changes, pb); err != nil {
		return err
	}
	r.report.Reasons, r.report.Allow = r.verdict.Reasons, r.verdict.Allow
	if r.verdict.Status == guard.Stopped {
		return stopped(r.sync.Name, r.verdict)
	}
	return nil
}
