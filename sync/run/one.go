package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/guard"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/state"
)

// one is one sync's run under way.
type one struct {
	*Session
	// Warehouse and ledger are the session's, fenced while the run has its lock.
	Warehouse warehouse.Warehouse
	ledger    *ledger.Ledger
	lease     *lease // while locked
	sync      *compile.Sync
	o         RunOptions
	holder    ledger.Holder
	report    report.Run
	conn      *connection
	meta      ledger.Meta
	found     *ledger.Meta // meta as it was found under the lock; nil = not read, or not as it is now
	layout    *plan.Layout
	changes   *plan.Changes
	remember  []string // insert mode: statements that close the plan beside the others
	verdict   guard.Verdict
	backfill  *plan.Backfill
	asked     *Backfill // the flags of backfill
	options   destination.Config
	bound     ledger.Meta // what the snapshot ought to be about
	locked    bool
	free      func()          // gives up the sync in this process; nil = it is not taken
	wanted    <-chan struct{} // closed when another run waits for the sync
	again     bool            // a backfill that goes on after it gave way
	yielded   bool            // a backfill that gave way
	part      bool            // of another run, which has the hooks
	retiring  bool            // the model is taken for empty: key and mode of the snapshot stand
	closed    bool            // the plan was committed and closed
	outcomes  counted
	stats     deliver.Stats
	retries   bool        // rows were rejected before and wait
	used      []string    // approvals that this run lives by
	earlier   *report.Run // of the removal that came before, where the sync began anew

	controls  []string // statements that record the control group
	refreshed int64    // rows delivered again for their age alone
}

// sync takes one sync through lock → recover → bind → plan → guard → deliver → commit → report; what it reads was built before.
// The report is complete on every path; the error says why the run did not finish.
func (s *Session) sync(ctx context.Context, c *compile.Sync, o RunOptions, b *plan.Backfill) (report.Run, error) {
	r := s.begin(c, o)
	r.backfill = b
	err := r.traced(ctx)
	return r.finish(ctx, err)
}

func (s *Session) begin(c *compile.Sync, o RunOptions) *one {
	id := uuid.Must(uuid.NewV7()).String()
	host, _ := os.Hostname()
	r := &one{Session: s, Warehouse: s.Warehouse, ledger: s.ledger, sync: c, o: o, holder: ledger.Holder{RunID: id, State: s.State.ID(), Host: host}}
	r.report = report.Run{RunID: id, Sync: c.Name, StartedAt: s.deps.now().UTC().Truncate(time.Microsecond), Skipped: report.Skipped{Reasons: map[string]int64{}}}
	return r
}

// traced is the path within a span of its own.
func (r *one) traced(ctx context.Context) (err error) {
	ctx = warehouse.Label(warehouse.Label(ctx, "sync", r.sync.Name), "run", r.holder.RunID)
	ctx, end := r.span(ctx, "sync "+r.sync.Name, r.begun()...)
	defer func() {
		trace.SpanFromContext(ctx).SetAttributes(ended(r.report)...)
		end(err)
	}()
	return r.path(ctx)
}

func (r *one) path(ctx context.Context) error {
	if err := r.State.Begin(ctx, state.Run{RunID: r.holder.RunID, Schema: r.Project.Schema, Sync: r.sync.Name, StartedAt: r.report.StartedAt}); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.step(ctx, "recover", r.recover); err != nil { // I3
		return err
	}
	if err := r.before(ctx); err != nil {
		return err
	}
	if err := r.shaped(ctx); err != nil {
		return err
	}
	err := r.step(ctx, "bind", r.bind) // I4: the account, list and key that the snapshot is about
	if errors.Is(err, errRelocate) {
		err = r.relocate(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.poll(ctx); err != nil { // what earlier runs handed over
		return err
	}
	if err := r.required(ctx, r.sync); err != nil {
		return err
	}
	began := r.deps.now()
	err = r.step(ctx, "plan", r.plan)
	r.report.PlanSeconds = r.deps.now().Sub(began).Seconds()
	if err != nil {
		return err
	}
	if err := r.step(ctx, "guard", r.guard); err != nil { // I4: nothing has been sent yet
		return err
	}
	began = r.deps.now()
	err = r.step(ctx, "deliver", r.deliver) // I1, I2
	r.report.DeliverySeconds = r.deps.now().Sub(began).Seconds()
	return err
}

// shaped stops where what the sync reads does not have the columns that it names, before its binding is looked at: that a key's
// column is gone is a fault of the project (exit 2), not a change that anybody should approve.
func (r *one) shaped(ctx context.Context) error {
	_, err := r.describe(ctx, r.sync, r.ledger.Names.Plan(r.sync.Name))
	return err
}

// describe asks for the types of what a sync sends; the error names each column that is not there, where the project names it.
func (s *Session) describe(ctx context.Context, c *compile.Sync, planned warehouse.Table) (*plan.Layout, error) {
	if err := c.Bind(ctx, s.Warehouse); err != nil {
		return nil, err
	}
	l, err := plan.Describe(ctx, s.Warehouse, s.Warehouse.Dialect(), c, s.ledger.Names, planned)
	if err == nil {
		return l, nil
	}
	if kindOfSQL(err) == diag.Invalid {
		if named := build.ExplainSync(ctx, s.Warehouse, c); named != nil {
			return nil, named
		}
	}
	return nil, sqlError(c, err)
}

// plan computes the changes in the warehouse.
func (r *one) plan(ctx context.Context) error {
	l, err := r.describe(ctx, r.sync, r.ledger.Names.Plan(r.sync.Name))
	if err != nil {
		return err
	}
	l.Salt = r.meta.KeySalt
	r.layout = l
	for {
		o, err := r.planOptions(ctx, l)
		if err != nil {
			return err
		}
		if err := r.prepare(ctx, l, &o); err != nil {
			return err
		}
		r.retries = o.HasRetry
		r.remember = l.RememberSQL(o)
		if r.backfill == nil && r.sync.HeldOut != "" {
			r.controls = l.ControlsSQL(r.AsOf, r.sync.Seed)
		}
		r.changes, err = plan.Diff(ctx, r.Warehouse, l, o)
		if plan.IsCollision(err) && l.Salt < 8 {
			l.Salt++
			continue
		}
		if err != nil {
			return sqlError(r.sync, err)
		}
		return nil
	}
}

// prepare makes the tables that the plan reads fit the layout, and says so in meta.
func (r *one) prepare(ctx context.Context, l *plan.Layout, o *plan.Options) error {
	now := r.deps.now()
	misfits, err := l.Misfits(ctx, r.Warehouse, o.Standing)
	if err != nil {
		return err
	}
	if misfits > 0 { // their removes would name nobody
		return diag.Errorf(diag.Stopped, "binding.key_type", "%s: the key's type is %s now, and %d keys that were sent do not fit it; nothing was sent", r.sync.Name, l.DestKey.Type, misfits).
			WithHint("correct the type in the model; or begin anew: dray reset %s", r.sync.Name)
	}
	if r.report.ChangedTypes == nil { // a salted plan comes here again, when the snapshot is carried over
		if r.report.ChangedTypes, err = l.Retyped(ctx, r.Warehouse, o.Standing); err != nil {
			return err
		}
	}
	if err := l.Prepare(ctx, r.Warehouse, o.Standing, now); err != nil {
		return err
	}
	if o.Pending, err = l.PreparePending(ctx, r.Warehouse, o.Standing, o.Pending); err != nil {
		return err
	}
	if err := l.PrepareControls(ctx, r.Warehouse); err != nil {
		return err
	}
	if !r.meta.Exists || !o.Standing.Exists || l.Carried(o.Standing) || r.meta.Mapping != r.bound.Mapping {
		r.meta = r.standing(l, o.Standing, now)
		if err := r.ledger.Write(ctx, r.meta, now); err != nil {
			return err
		}
		o.Standing = standingOf(r.meta, true)
	}
	return nil
}

// standing is the meta row with the layout's columns.
func (r *one) standing(l *plan.Layout, st plan.Standing, now time.Time) ledger.Meta {
	m := r.bound
	m.Generation, m.Revision = max(r.meta.Generation, r.bound.Generation), max(r.meta.Revision, r.bound.Revision)
	m.KeySalt, m.HashVersion = l.Salt, l.HashVersion()
	m.Standing = ledger.Standing{PrimaryKey: l.PrimaryKey, DestKey: l.DestKey, Keys: l.Keys, Fields: l.StandingColumns(st, now), Named: r.meta.Standing.Named}
	if l.Sync.Mode == destination.Insert {
		m.Standing.EventID = l.Sync.EventID
	}
	m.Exists = true
	return m
}

func standingOf(m ledger.Meta, exists bool) plan.Standing {
	return plan.Standing{
		Exists: exists, Columns: m.Standing.Fields, PrimaryKey: m.Standing.PrimaryKey, DestKey: m.Standing.DestKey,
		Keys: m.Standing.Keys, HashVersion: m.HashVersion, KeySalt: m.KeySalt,
	}
}

// planOptions reads what the plan must know of the tables around it.
func (s *Session) planOptions(ctx context.Context, c *compile.Sync, m ledger.Meta, l *plan.Layout) (plan.Options, error) {
	names := s.ledger.Names
	o := plan.Options{Now: s.deps.now(), AsOf: s.AsOf, LastRun: m.UpdatedAt}
	there, err := s.Warehouse.Exists(ctx, names.Snapshot(c.Name))
	if err != nil {
		return o, err
	}
	o.Standing = standingOf(m, there && m.Exists && !begunAnew(c, m))
	retries, err := s.rowsOf(ctx, names.Retry(c.Name))
	if err != nil {
		return o, err
	}
	o.HasRetry = retries > 0
	if l.Pends() {
		if o.Pending, err = l.PendingColumns(ctx, s.Warehouse); err != nil {
			return o, err
		}
	}
	if c.Via != "" {
		if o.ViaReady, err = s.Warehouse.Exists(ctx, names.Snapshot(c.Via)); err != nil {
			return o, err
		}
	}
	if c.Mode == destination.Mirror && c.OnRemove.Act == "delete" {
		for _, other := range s.others(c) {
			if there, err := s.Warehouse.Exists(ctx, names.Snapshot(other)); err != nil {
				return o, err
			} else if there {
				o.Others = append(o.Others, names.Snapshot(other))
			}
		}
	}
	return o, nil
}

func (r *one) planOptions(ctx context.Context, l *plan.Layout) (plan.Options, error) {
	o, err := r.Session.planOptions(ctx, r.sync, r.meta, l)
	o.Backfill = r.backfill
	if r.meta.AllUncertain {
		o.Standing.UncertainUntil = r.deps.now().Add(r.settle(r.sync.Destination, r.conn))
	}
	return o, err
}

// others are the other syncs that deliver to the same destination and object.
func (s *Session) others(c *compile.Sync) []string {
	var out []string
	for _, name := range s.syncNames() {
		n := s.Graph.Nodes[syncID(name)].Sync
		if name != c.Name && n.Destination == c.Config.Destination && n.Object == c.Config.Object && n.Mode != "insert" {
			out = append(out, name)
		}
	}
	return out
}

// guard judges the plan; a verdict that stops is an error, one that holds is not.
func (r *one) guard(ctx context.Context) error {
	v, err := r.judge(ctx, r.sync, r.changes, r.backfill)
	if err != nil {
		return err
	}
	r.verdict = v
	r.report.Reasons, r.report.Allow = v.Reasons, v.Allow
	if v.Status != guard.Stopped {
		return nil
	}
	if r.changes.Count(func(g plan.Group) bool { return g.Reason == plan.Consent && g.State == plan.Send }) == 0 {
		return stopped(r.sync.Name, v)
	}
	// Withdrawn consent waits for nobody: everything else is held.
	r.verdict.Hold = []destination.Operation{destination.OpAdd, destination.OpUpdate, destination.OpRekey, destination.OpRemove, plan.Forget}
	return nil
}

func stopped(sync string, v guard.Verdict) error {
	e := diag.Errorf(diag.Stopped, "guard.stopped", "%s: %s; nothing was sent", sync, strings.Join(v.Reasons, "; "))
	if v.Allow != "" {
		return e.WithHint("look at dray plan %s; to let exactly this through: dray run %[1]s --allow %s", sync, v.Allow)
	}
	return e
}

// judge reads what the guards need and asks them. Fingerprints are computed only where a guard could trip.
func (s *Session) judge(ctx context.Context, c *compile.Sync, changes *plan.Changes, backfill *plan.Backfill) (guard.Verdict, error) {
	in := guard.Input{Guard: c.Config.Guard, Rows: changes.Rows, Snapshot: changes.Snapshot, Fingerprints: map[string]string{}}
	in.Removes = changes.Count(func(g plan.Group) bool {
		return g.Operation == destination.OpRemove && g.State == plan.Send && g.Reason != plan.Consent && !g.Uncertain
	})
	in.Withdrawn = changes.Count(func(g plan.Group) bool { return g.Reason == plan.Consent })
	in.Forgets = changes.Count(func(g plan.Group) bool { return g.Operation == plan.Forget && g.State == plan.Send && !g.Uncertain })
	in.Acknowledged = changes.Snapshot - changes.Count(func(g plan.Group) bool { return g.Uncertain })
	if backfill == nil {
		in.Changes = changes.Count(func(g plan.Group) bool {
			return g.Known && g.State != plan.Skipped && g.State != plan.Rejected && g.State != plan.Pending
		})
	} else {
		// Its rows are those it picks; only a full one in mirror mode looks at the whole model, and removes what left.
		in.Guard.AllowEmpty, in.Guard.MinModelRows = in.Guard.AllowEmpty || !backfill.Removes, 0
		in.Rows = changes.Model + changes.HeldOut // those that were sent in another part of it stand there too
	}
	if c.Mode == destination.Insert {
		in.Guard.AllowEmpty = true // an empty model of events sends and forgets nothing
	}
	var err error
	if in.Removes+in.Forgets > 0 {
		w, err := s.ledger.Window(ctx, c.Name, s.deps.now().Add(-c.Config.Guard.Window.Duration))
		if err != nil {
			return guard.Verdict{}, err
		}
		in.WindowRows, in.WindowRemoved = w.Rows, w.Removed
	}
	v := guard.Check(in)
	if v.Status == guard.OK {
		return v, nil
	}
	others := " AND coalesce(reason, '') NOT IN ('" + plan.Consent + "', '" + plan.HeldOut + "')"
	conditions := map[string]string{
		"removes": "operation IN ('remove', 'forget') AND state = 'send'" + others,
		"empty":   "operation IN ('remove', 'forget')" + others,
		"rows":    "state = 'send'",
		"changes": plan.Known + " AND state NOT IN ('skipped', 'rejected', 'pending')",
	}
	for _, kind := range slices.Sorted(maps.Keys(conditions)) {
		if in.Fingerprints[kind], err = changes.Fingerprint(ctx, s.Warehouse, conditions[kind]); err != nil {
			return v, fmt.Errorf("fingerprinting the plan of %s: %w", c.Name, err)
		}
	}
	if in.Approved, err = s.ledger.Approved(ctx, c.Name); err != nil {
		return v, err
	}
	return guard.Check(in), nil
}

// finish completes the report, writes it where it is kept, and frees the lock.
func (r *one) finish(ctx context.Context, err error) (report.Run, error) {
	if kind, known := diag.KindOf(err); err != nil && ctx.Err() != nil && (!known || kind == diag.Failed) && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", context.Canceled, err) // the engine's own word for a statement that was cut off
	}
	defer r.release()
	ctx = context.WithoutCancel(ctx)
	err = r.conclude(err)
	if r.locked {
		if lerr := r.leave(ctx); lerr != nil && err == nil {
			err = r.conclude(lerr)
		}
	}
	r.after(ctx)
	text, jerr := json.Marshal(r.report)
	if jerr != nil {
		return r.report, errors.Join(err, jerr)
	}
	if serr := r.State.End(ctx, state.Run{
		RunID: r.holder.RunID, Schema: r.Project.Schema, Sync: r.sync.Name, StartedAt: r.report.StartedAt,
		FinishedAt: r.report.FinishedAt, Status: string(r.report.Status), Report: text,
	}); serr != nil && err == nil {
		err = serr
	}
	if h := r.deps.Host; h != nil && h.ended != nil {
		h.ended(ctx, r.Session, r.report)
	}
	return r.report, err
}

// conclude completes the report for a run that ends so. The last call stands.
func (r *one) conclude(err error) error {
	r.report.FinishedAt = r.deps.now().UTC()
	r.tally()
	if sums := r.report.Check(); sums != nil { // I7
		err = errors.Join(err, &diag.Error{Kind: diag.Failed, Code: "run.sums", Err: sums, Hint: "this is a fault of Dray: please report it"})
	}
	r.report.Status, r.report.ExitCode = statusOf(&r.report, err)
	r.report.Error = nil
	if err != nil {
		r.report.Error = problemOf(err)
	}
	return err
}

// leave ends a run that did not come to close its plan: the plan is emptied of its values unless a later run must recover it, the
// end is written down, and the lock freed.
func (r *one) leave(ctx context.Context) error {
	statements, err := r.leaving(ctx)
	if err == nil {
		err = r.Warehouse.Atomic(ctx, append(statements, r.ledger.UnlockSQL(r.sync.Name, r.holder))...)
	}
	if err != nil && r.lease.lost() { // there is nothing to give back
		err = nil
	}
	return errors.Join(err, r.unlocked(ctx)) // whatever the warehouse says, nobody renews the lock of a run that is over
}

// leaving are the statements of leave, but for the lock's.
func (r *one) leaving(ctx context.Context) ([]string, error) {
	if r.meta.OpenRun != "" {
		return nil, nil
	}
	var statements []string
	if r.layout != nil {
		there, err := r.Warehouse.Exists(ctx, r.layout.Plan)
		if err != nil {
			return nil, err
		}
		if there {
			statements = append(statements, r.Warehouse.Dialect().Empty(r.layout.Plan))
		}
	}
	end, err := r.endRow()
	return append(statements, end), err
}

// statusOf maps how a run ended to its status and exit code (DESIGN §9).
func statusOf(r *report.Run, err error) (report.Status, int) {
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return report.Interrupted, 130
		}
		kind, ok := diag.KindOf(err)
		if !ok {
			return report.Failed, 1
		}
		switch kind {
		case diag.Stopped:
			return report.Stopped, 4
		case diag.Locked:
			return report.Locked, 5
		case diag.Interrupted:
			return report.Interrupted, 130
		default:
			return report.Failed, kind.ExitCode()
		}
	}
	switch {
	case r.Held.Total() > 0 || len(r.Reasons) > 0:
		return report.Stopped, 4
	case r.Rejected.Total()+r.Uncertain.Total()+r.Deferred.Total() > 0:
		return report.Partial, 3
	default:
		return report.Succeeded, 0
	}
}

func problemOf(err error) *report.Problem {
	p := &report.Problem{Code: "failed", Message: err.Error()}
	if errors.Is(err, context.Canceled) {
		return &report.Problem{Code: "interrupted", Message: "interrupted"}
	}
	var e *diag.Error
	if errors.As(err, &e) {
		p.Code, p.Hint, p.Message = e.Code, e.Hint, e.Message()
		if !e.Pos.IsZero() {
			p.At = e.Pos.String()
		}
	}
	if q := (*warehouse.QueryError)(nil); p.Hint == "" && errors.As(err, &q) {
		p.Hint = q.Hint
	}
	return p
}

// sqlError gives an error of a sync's own SQL (where, sql: of a field) the sync's place.
func sqlError(c *compile.Sync, err error) error {
	var known *diag.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	hint := "look at the statement: dray compile " + c.Name
	switch {
	case errors.Is(err, warehouse.ErrEngine):
		hint = "free disk space or memory for the warehouse, then run again: nothing that was acknowledged is lost"
	case errors.Is(err, warehouse.ErrReadOnly):
		hint = "the warehouse must be writable: see warehouse: in dray.yaml and the file's permissions"
	}
	if q := (*warehouse.QueryError)(nil); errors.As(err, &q) && q.Hint != "" {
		hint = q.Hint
	}
	return &diag.Error{Kind: kindOfSQL(err), Pos: c.Config.Pos, Code: "sync.sql", Msg: "sync " + c.Name, Err: err, Hint: hint}
}
