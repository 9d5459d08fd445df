package run

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/commit"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/guard"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
)

// deliver sends what the guards let through, commits outcomes at checkpoints, and closes the plan.
func (r *one) deliver(ctx context.Context) error {
	toSend := r.changes.Count(func(g plan.Group) bool { return r.sends(g) })
	c := r.committer()
	if toSend == 0 {
		return r.close(ctx, c, commit.Set{}, nil)
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	sink := &sink{run: r, committer: c, last: r.deps.now(), provisional: r.provisional()}
	if r.deps.Progress != nil {
		r.deps.Progress.Start("delivering "+r.sync.Name, toSend, r.conn.pacer.Rate)
		defer r.deps.Progress.Done()
	}
	running := ctx
	limited, free := r.limited(ctx)
	defer free()
	sending, stop := r.yielding(limited)
	defer stop()
	stats, err := deliver.Run(sending, r.delivery(ctx, sink))
	if errors.Is(context.Cause(sending), errDeadline) && errors.Is(err, context.DeadlineExceeded) {
		r.log.Info("the deadline has passed: the rest is left for the next run", "sync", r.sync.Name, "deadline", r.sync.Config.Deadline.Duration)
		err = nil
	}
	r.stats.Requests, r.stats.Retries = r.stats.Requests+stats.Requests, r.stats.Retries+stats.Retries
	if errors.Is(context.Cause(sending), errYield) {
		if r.yielded = true; errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	// What was answered is written whatever ended the delivery (I1).
	ctx = context.WithoutCancel(ctx)
	if sink.provisional {
		err = sink.settle(ctx, err)
	}
	if sink.counted.of(deliver.Submitted) > 0 && !r.lease.lost() {
		// The rows stand in pending_<sync> before anybody looks at their jobs (DESIGN §6.6).
		cerr := sink.commit(ctx)
		if cerr == nil {
			cerr = r.await(running, &sink.counted)
		}
		err = errors.Join(err, cerr)
	}
	r.count(sink.counted) // what the vendor said, whatever becomes of it here
	if sink.refreshes != nil {
		r.refreshed = sink.refreshes.done
	}
	if !r.lease.lost() {
		err = errors.Join(err, r.close(ctx, c, sink.set, err))
	}
	if r.lease.lost() {
		err = errors.Join(err, r.abandon(ctx))
	}
	return err
}

var errDeadline = errors.New("the run's deadline has passed")

// limited is a context that ends when the run has sent for long enough: what is in flight is drained, and what was not started is
// deferred. It is the process's clock that counts, from the start of the run.
func (r *one) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.sync.Config.Deadline.Duration <= 0 {
		return ctx, func() {}
	}
	left := r.report.StartedAt.Add(r.sync.Config.Deadline.Duration).Sub(r.deps.now())
	return context.WithTimeoutCause(ctx, left, errDeadline)
}

var errYield = errors.New("another run wants the sync")

// yielding is a context that ends, for a backfill, when another run wants the sync: what is in flight is drained, the rest is left
// for when the backfill goes on.
func (r *one) yielding(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.backfill == nil || r.wanted == nil {
		return ctx, func() {}
	}
	out, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.wanted:
			cancel(errYield)
		case <-out.Done():
		}
	}()
	return out, func() { cancel(context.Canceled) }
}

// sends tells whether a group is sent in this run.
func (r *one) sends(g plan.Group) bool {
	return g.State == plan.Send && g.Operation != plan.Forget && !r.holds(g)
}

// holds tells whether a guard holds a group; withdrawn consent is never held.
func (r *one) holds(g plan.Group) bool { return holds(r.verdict, g) }

func holds(v guard.Verdict, g plan.Group) bool {
	return g.State == plan.Send && g.Reason != plan.Consent && slices.Contains(v.Hold, g.Operation)
}

func (r *one) committer() *commit.Committer {
	ops := map[destination.Operation]bool{}
	for _, g := range r.changes.Groups {
		ops[g.Operation] = true
	}
	c := r.committerOf(r.meta, r.holder.RunID, r.sync.Mode, r.verdict.Hold, r.changes.Highest)
	c.NoRetries = !r.retries
	c.Has = func(op destination.Operation) bool { return ops[op] }
	return c
}

func (r *one) committerOf(m ledger.Meta, runID string, mode destination.Mode, held []destination.Operation, highest int64) *commit.Committer {
	return &commit.Committer{
		W: r.Warehouse, Names: r.ledger.Names, Plan: r.ledger.Names.Plan(r.sync.Name), Sync: r.sync.Name, RunID: runID,
		Mode: mode, Columns: m.Standing, Held: held, Pages: plan.Pages(highest, r.deps.PageRows), Highest: highest,
		IfEmpty:     ifEmpty(r.layout, m),
		Own:         r.sync.Spec.OwnsObjects || r.sync.Object.Membership,
		GiveUpAfter: r.sync.Config.Retry.GiveUpAfter.Duration, OnUncertain: r.sync.Config.OnUncertain, Now: r.deps.now,
	}
}

// ifEmpty are the columns of the fields written only where the destination has nothing. Recovery does not know the mapping of the
// run that was killed: there it may be any.
func ifEmpty(l *plan.Layout, m ledger.Meta) []string {
	var out []string
	if l == nil {
		for _, f := range m.Standing.Fields {
			out = append(out, f.Column)
		}
		return out
	}
	for _, i := range l.IfEmpty() {
		out = append(out, l.Fields[i].Column)
	}
	return out
}

// open says in the warehouse that this run's plan is being delivered: whoever comes after a crash finds it there.
func (r *one) open(ctx context.Context) error {
	if err := r.State.OpenJournal(ctx, r.holder.RunID); err != nil {
		return err
	}
	r.meta.OpenRun, r.meta.OpenMode = r.holder.RunID, openMode(string(r.sync.Mode), r.verdict.Hold)
	statements, err := r.ledger.WriteSQL(r.meta, r.deps.now())
	if err != nil {
		return err
	}
	row, err := r.openRow()
	if err != nil {
		return err
	}
	statements = append(statements, row)
	if err := r.Warehouse.Atomic(ctx, statements...); err != nil {
		return fmt.Errorf("opening the plan of %s: %w", r.sync.Name, err)
	}
	return nil
}

func openMode(mode string, held []destination.Operation) string {
	for _, h := range held {
		mode += " " + string(h)
	}
	return mode
}

func parseOpenMode(s string) (destination.Mode, []destination.Operation) {
	parts := strings.Fields(s)
	if len(parts) == 0 {
		return "", nil
	}
	var held []destination.Operation
	for _, p := range parts[1:] {
		held = append(held, destination.Operation(p))
	}
	return destination.Mode(parts[0]), held
}

func (r *one) provisional() bool {
	_, ok := r.conn.dest.(destination.Finisher)
	return ok
}

func (r *one) delivery(ctx context.Context, s *sink) deliver.Config {
	attempts := r.sync.Config.Retry.Attempts
	if attempts <= 0 {
		attempts = 5
	}
	t := timeout(r.sync.Destination, r.conn.spec)
	c := r.deliveryBase()
	r.changes.PageRows = r.deps.PageRows
	var pages deliverPager = plan.NewPager(r.Warehouse, r.changes, r.verdict.Hold, r.takesJSON(), r.dedupeID)
	if r.sync.OnRemove.Act == "set" {
		pages = &setting{pages, r.setValues()}
	}
	if r.sync.Refresh > 0 {
		s.refreshes = &refreshes{deliverPager: pages, pages: map[int64]map[int64]bool{}}
		pages = s.refreshes
	}
	c.Schema, c.Pages, c.Journal, c.Attempts = r.layout.Schema(), pages, r.State, attempts
	c.BatchSize, c.MaxBytes = r.conn.spec.BatchSize(r.sync.Object, r.conn.config), r.conn.spec.BodySize(r.sync.Object, r.conn.config)
	c.Concurrency = r.conn.spec.Workers(r.conn.config)
	c.Lease = func() error { return r.lease.outlives(ctx, t) }
	c.Done, c.Provisional = s.done, s.provisional
	if r.backfill != nil && r.deps.Host != nil {
		c.Share = backfillShare
	}
	if c.IfEmpty = r.layout.IfEmpty(); len(c.IfEmpty) > 0 {
		c.Theirs = func(field int) string { return plan.Theirs(r.layout.Fields[field]) }
	}
	for _, i := range r.layout.Lookups() {
		l, value := r.sync.Fields[i].Lookup, r.layout.Fields[i]
		c.Lookups = append(c.Lookups, deliver.Lookup{
			Field: i, Object: l.Object, By: destination.Column{Name: l.By, Path: []string{l.By}, Kind: value.Kind, Type: value.Type},
		})
	}
	removes := r.changes.Count(func(g plan.Group) bool { return r.sends(g) && g.Operation == destination.OpRemove }) > 0
	if r.sync.Object.MembersByID && (removes || r.sync.Spec.Async != nil) {
		c.Leaving = func(ctx context.Context, ids []string) (map[string]bool, error) {
			return r.changes.Leaving(ctx, r.Warehouse, ids)
		}
	}
	if r.deps.Progress != nil {
		c.Progress = r.deps.Progress.Add
	}
	return c
}

// backfillShare is the part of a credential's rate that a backfill beside a schedule may use: the schedule keeps the rest.
const backfillShare = 0.5

// deliveryBase is what sending rows and asking for their jobs have in common.
func (r *one) deliveryBase() deliver.Config {
	return deliver.Config{
		Name: r.sync.Destination.Name, Destination: r.conn.dest, Spec: r.conn.spec, Object: r.sync.Object, Options: r.options, Container: r.bound.Container,
		Run:   destination.Run{ID: r.holder.RunID, Sync: r.sync.Name, Object: r.sync.Object.Name, Mode: r.sync.Mode, Started: r.report.StartedAt},
		Pacer: r.conn.pacer, Timeout: timeout(r.sync.Destination, r.conn.spec), Settle: r.settle(r.sync.Destination, r.conn),
		OnUncertain: r.sync.Config.OnUncertain, Now: r.deps.now, After: r.deps.After, Log: r.log, Tracer: r.deps.Tracer,
	}
}

// takesJSON tells whether the destination sends whole rows as JSON.
func (r *one) takesJSON() bool {
	t, ok := r.conn.dest.(destination.TakesJSON)
	return ok && r.sync.Object.Replaces && t.TakesJSON(r.sync.Object.Name)
}

// dedupeNamespace salts dedupe ids; its value is arbitrary and must never change.
const dedupeNamespace = "6c7be3a6-5f0e-4a0b-9a39-0d8a2f4f1c11"

// dedupeID names a change so that a vendor, or whoever stands behind a webhook, can drop what it has already: an insert by
// generation, sync and key; otherwise by key, row and operation.
func (r *one) dedupeID(op destination.Operation, keyHash, rowHash int64) string {
	if r.sync.Mode == destination.Insert && op == destination.OpAdd {
		ns := uuid.MustParse(dedupeNamespace)
		name := r.sync.Name
		if r.meta.Standing.Named != "" {
			name = r.meta.Standing.Named
		}
		return uuid.NewSHA1(ns, fmt.Appendf(nil, "%d/%s/%s/%016x", r.meta.Generation, r.Project.Name, name, keyHash)).String()
	}
	// One a row, so not by fmt: that took a sixth of the time of reading a page. A row that was never acknowledged has no hash.
	id := make([]byte, 0, 48)
	id = appendHex(append(appendHex(id, keyHash), '-'), max(rowHash, 0))
	id = append(append(id, '-'), op...)
	return string(id)
}

// appendHex appends a hash as 16 digits.
func appendHex(dst []byte, hash int64) []byte {
	return hex.AppendEncode(dst, binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(hash))) //nolint:gosec // its bits
}

type deliverPager interface {
	Pages() int64
	Read(ctx context.Context, k int64) (*plan.Page, error)
}

// setting gives removes the values of on_remove: {set: …}.
type setting struct {
	deliverPager
	set setValues
}

type setValues struct {
	values []any
	send   []bool
}

func (s *setting) Read(ctx context.Context, k int64) (*plan.Page, error) {
	p, err := s.deliverPager.Read(ctx, k)
	if err == nil {
		for i := range p.Changes {
			if p.Changes[i].Operation == destination.OpRemove && p.Changes[i].Remove == "set" {
				p.Changes[i].Fields, p.Changes[i].Send = s.set.values, s.set.send
			}
		}
	}
	return p, err
}

func (r *one) setValues() setValues {
	out := setValues{values: make([]any, len(r.layout.Fields)), send: make([]bool, len(r.layout.Fields))}
	for i, f := range r.layout.Fields {
		v, ok := r.sync.OnRemove.Set[f.Name]
		if !ok {
			continue
		}
		out.send[i] = true
		switch v := v.(type) {
		case int:
			out.values[i] = int64(v)
		case nil, bool, int64, float64, string:
			out.values[i] = v
		default:
			b, _ := json.Marshal(v)
			out.values[i] = string(b)
		}
	}
	return out
}

// sink gathers results between checkpoints and counts outcomes.
type sink struct {
	run         *one
	committer   *commit.Committer
	last        time.Time
	provisional bool
	set         commit.Set // not committed yet
	counted     counted
	refreshes   *refreshes // nil where nothing is sent again for its age
}

// refreshes counts the rows that were delivered again for their age alone. It knows them from when their page is read until it is done.
type refreshes struct {
	deliverPager
	mu    sync.Mutex
	pages map[int64]map[int64]bool
	done  int64
}

func (f *refreshes) Read(ctx context.Context, k int64) (*plan.Page, error) {
	p, err := f.deliverPager.Read(ctx, k)
	if err == nil && len(p.Refreshed) > 0 {
		keys := make(map[int64]bool, len(p.Refreshed))
		for _, hash := range p.Refreshed {
			keys[hash] = true
		}
		f.mu.Lock()
		f.pages[k] = keys
		f.mu.Unlock()
	}
	return p, err
}

// take counts those of a page that were delivered: all that are not listed with another outcome, or, where the page is not complete,
// those that are listed with this one.
func (f *refreshes) take(p deliver.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := f.pages[p.Page]
	delete(f.pages, p.Page)
	if p.Complete {
		f.done += int64(len(keys))
	}
	for _, r := range p.Rows {
		arrived := r.Class == deliver.Delivered || r.Class == deliver.Accepted || r.Class == deliver.Submitted
		switch {
		case !keys[r.KeyHash]:
		case arrived && !p.Complete:
			f.done++
		case !arrived && p.Complete:
			f.done--
		}
	}
}

// maxRowsHeld bounds the memory of outcomes between checkpoints.
const maxRowsHeld = 50_000

func (s *sink) done(ctx context.Context, p deliver.Result) error {
	s.counted.take(p)
	if s.refreshes != nil {
		s.refreshes.take(p)
	}
	s.set.Default = deliver.Delivered
	if p.Complete {
		s.set.Pages = append(s.set.Pages, p.Page)
	}
	s.set.Rows = append(s.set.Rows, p.Rows...)
	if s.provisional {
		return nil
	}
	every := s.run.sync.Config.Checkpoint.Duration
	if (every <= 0 || s.run.deps.now().Sub(s.last) < every) && len(s.set.Rows) < maxRowsHeld {
		return nil
	}
	return s.commit(ctx)
}

// commit is a checkpoint.
func (s *sink) commit(ctx context.Context) error {
	pages := s.set.Pages
	if err := s.run.step(ctx, "commit", func(ctx context.Context) error { return s.committer.Commit(ctx, s.set) }); err != nil {
		return err
	}
	s.set, s.last = commit.Set{Default: deliver.Delivered}, s.run.deps.now()
	return s.run.State.Committed(ctx, s.run.holder.RunID, pages, false)
}

// settle finishes a destination whose rows are delivered only when the run ends. Where that fails nothing was delivered.
func (s *sink) settle(ctx context.Context, err error) error {
	f, ok := s.run.conn.dest.(destination.Finisher)
	if !ok {
		return err
	}
	run := destination.Run{ID: s.run.holder.RunID, Sync: s.run.sync.Name, Object: s.run.sync.Object.Name, Mode: s.run.sync.Mode, Started: s.run.report.StartedAt}
	if s.counted.delivered() > 0 {
		ferr := f.Finish(ctx, run)
		if ferr == nil {
			return err
		}
		err = errors.Join(err, destinationError(s.run.sync.Destination.Name, ferr))
	}
	if aerr := f.Abort(ctx, run); aerr != nil {
		err = errors.Join(err, destinationError(s.run.sync.Destination.Name, aerr))
	}
	s.set, s.counted = commit.Set{}, counted{}
	if s.refreshes != nil {
		s.refreshes.done = 0
	}
	return err
}

// close commits what is left, ends the plan, writes the run's end down and frees the lock, in one transaction (DESIGN §6.8).
// cause is why delivery ended early.
func (r *one) close(ctx context.Context, c *commit.Committer, set commit.Set, cause error) error {
	m := r.meta
	m.OpenRun, m.OpenMode = "", ""
	m.Revision++
	now := r.deps.now()
	meta, err := r.ledger.WriteSQL(m, now)
	if err != nil {
		return err
	}
	r.closed = true // the report below is of a closed run
	_ = r.conclude(cause)
	end, err := r.endRow()
	if err != nil {
		r.closed = false
		return err
	}
	statements := append(slices.Clone(r.remember), r.controls...) // before Close empties the plan
	if r.changes != nil && r.changes.Same > 0 {
		statements = append(statements, r.changes.Follow())
	}
	statements = append(statements, c.Close(r.backfill == nil)...)
	statements = append(statements, meta...)
	if cause == nil && !r.yielded { // an approval serves once
		statements = append(statements, r.ledger.UsedSQL(r.sync.Name, append(slices.Clone(r.verdict.Used), r.used...))...)
	}
	keep := r.Project.Retention.Duration
	if keep > 0 {
		statements = append(statements, r.ledger.PruneSQL(now.Add(-keep))...)
	}
	statements = append(statements, end, r.ledger.UnlockSQL(r.sync.Name, r.holder))
	if err := r.step(ctx, "commit", func(ctx context.Context) error { return c.Commit(ctx, set, statements...) }); err != nil {
		r.closed = false
		return err
	}
	r.meta = m
	return errors.Join(r.learn(ctx, now), r.unlocked(ctx))
}

// learn lets the control state follow a plan that was closed.
func (r *one) learn(ctx context.Context, now time.Time) error {
	if err := r.State.Learn(ctx, r.Project.Schema, r.sync.Name, r.meta.Generation, r.meta.Revision); err != nil {
		return err
	}
	if keep := r.Project.Retention.Duration; keep > 0 {
		if err := r.State.Prune(ctx, now.Add(-keep)); err != nil {
			return err
		}
	}
	return r.State.Committed(ctx, r.holder.RunID, nil, true)
}

// openRow is the line of a run that begins to deliver, with what a backfill was asked for; endRow is the one of its end, with its report.
func (r *one) openRow() (string, error) {
	row := ledger.RunRow{
		RunID: r.holder.RunID, Sync: r.sync.Name, Status: "running", StartedAt: r.report.StartedAt, Snapshot: &r.changes.Snapshot,
	}
	if r.asked != nil {
		text, err := json.Marshal(r.asked)
		if err != nil {
			return "", err
		}
		row.Report = string(text)
	}
	return r.ledger.RunSQL(row), nil
}

func (r *one) endRow() (string, error) {
	text, err := json.Marshal(r.report)
	if err != nil {
		return "", err
	}
	row := ledger.RunRow{
		RunID: r.holder.RunID, Sync: r.sync.Name, Status: string(r.report.Status), StartedAt: r.report.StartedAt,
		FinishedAt: r.report.FinishedAt, Removed: r.removed(), Report: string(text),
	}
	if r.changes != nil {
		row.Snapshot = &r.changes.Snapshot
	}
	return r.ledger.RunSQL(row), nil
}

// removed is what this run adds to the guard's window: what went, or may have gone, and was not counted by the run that sent it
// before and heard no answer.
func (r *one) removed() int64 {
	if r.changes == nil {
		return 0
	}
	fresh := func(op destination.Operation) int64 {
		return r.changes.Count(func(g plan.Group) bool {
			return g.Operation == op && g.State == plan.Send && g.Reason != plan.Consent && !g.Uncertain
		})
	}
	withdrawn := r.changes.Count(func(g plan.Group) bool { return g.Reason == plan.Consent && r.sends(g) })
	gone := max(0, r.report.Delivered.Remove+r.report.Accepted.Remove+r.report.Uncertain.Remove-withdrawn)
	return min(fresh(destination.OpRemove), gone) + min(fresh(plan.Forget), r.report.Forgotten)
}
