// Package schedule starts syncs when they are due: `dray serve`.
//
// Dues come from each sync's schedule (internal/timetable) or from the end of the syncs it comes after; what is due becomes a job
// of River's queue in the control state, of each sync at most one, and a worker hands it to sync/run. The control state remembers
// up to when each sync's dues are done, so that what a process that was down has missed is caught up, once. One run of a sync at a
// time (I5); a job whose process was killed runs again (I3).
package schedule

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/timetable"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"

	"github.com/riverqueue/river"
)

// Options are what a Scheduler is made of.
type Options struct {
	State   *state.State
	Project *run.Prepared
	// Run runs one sync that became due; Busy lists those of a schema under way in this process, by whatever command.
	Run     func(ctx context.Context, p *run.Prepared, sync string, due time.Time) (report.Run, error)
	Busy    func(schema string) []string
	Workers int // runs at the same time
	Now     func() time.Time
	Log     *slog.Logger
	Observe Observer // nil = nobody

	tendEvery, goneAfter time.Duration // tests have less patience
}

// Observer hears what the scheduler does; safe for concurrent use.
type Observer interface {
	Started(sync string, lag time.Duration) // lag is how long after it was due
	Skipped(sync string)
}

// Scheduler serves one project until its Run ends. Safe for concurrent use.
type Scheduler struct {
	o     Options
	log   *slog.Logger
	queue queue
	place place

	reloads chan *run.Prepared
	ends    chan string // syncs whose run ended
	resumed chan struct{}
	work    context.Context //nolint:containedctx // of the runs: it ends before the queue is stopped, so that they end in order

	mu      sync.Mutex
	project *run.Prepared
	agenda  *agenda
	known   map[string]ends // what is remembered of the runs of each sync
	beat    time.Time       // of the loop
}

// ends is when the runs of a sync last began and ended.
type ends struct {
	began               time.Time
	finished, succeeded time.Time // ended at all; with at most rejected rows
	clean               time.Time // without any
	status              report.Status
}

const (
	lookAround  = 30 * time.Second      // at the latest: the clock may have been set, others may have run something
	together    = 50 * time.Millisecond // what is due within it is queued by one statement
	retryAfter  = time.Second
	busyAfter   = 5 * time.Second
	lockedAfter = 20 * time.Second
)

// New prepares a scheduler. Nothing runs before Run.
func New(ctx context.Context, o Options) (*Scheduler, error) {
	s := &Scheduler{
		o: o, log: o.Log, project: o.Project, reloads: make(chan *run.Prepared), ends: make(chan string, 1024), resumed: make(chan struct{}, 1),
		place: place{o.Project.Project.Name, o.Project.Project.Schema}, known: map[string]ends{},
	}
	if s.o.Now == nil {
		s.o.Now = time.Now
	}
	if s.o.Busy == nil {
		s.o.Busy = func(string) []string { return nil }
	}
	var err error
	if s.o.tendEvery == 0 {
		s.o.tendEvery, s.o.goneAfter = tendEvery, goneAfter
	}
	if o.State.Shared() {
		s.queue, err = onPostgres(ctx, o.State, s.place, max(o.Workers, 1), s.job, s.o.goneAfter, quiet(o.Log))
	} else {
		s.queue, err = onSQLite(ctx, o.State, s.place, max(o.Workers, 1), s.job, quiet(o.Log))
	}
	return s, err
}

// quiet keeps the queue's own news out of the log: only what is wrong is told.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(&atLeast{log.Handler(), slog.LevelWarn}) }

type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h *atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

func (h *atLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return &atLeast{h.Handler.WithAttrs(a), h.level}
}

func (h *atLeast) WithGroup(n string) slog.Handler { return &atLeast{h.Handler.WithGroup(n), h.level} }

// Run serves until ctx ends; then the runs under way end in order, and their jobs stay in the queue.
func (s *Scheduler) Run(ctx context.Context) error {
	if err := s.remember(ctx); err != nil {
		return err
	}
	ticks, err := s.load(ctx, s.project)
	if err != nil {
		return err
	}
	s.work = ctx
	if err := s.queue.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	var tending sync.WaitGroup
	tending.Go(func() { s.tend(ctx) })
	err = s.loop(ctx, ticks)
	tending.Wait()
	return errors.Join(err, s.queue.stop(context.WithoutCancel(ctx)))
}

// tend keeps this process's place among the workers.
func (s *Scheduler) tend(ctx context.Context) {
	every := time.NewTicker(s.o.tendEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			if err := s.queue.tends(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the control state does not answer", "error", err.Error())
			}
		}
	}
}

// load makes the agenda of a project. It gives what is to be caught up.
func (s *Scheduler) load(ctx context.Context, p *run.Prepared) ([]Tick, error) {
	kept, err := s.o.State.Schedules(ctx, s.place.schema)
	if err != nil {
		return nil, err
	}
	now := s.o.Now()
	tables := map[string]*timetable.Table{}
	var fresh, off []string
	for _, c := range p.Project.Syncs {
		switch table := tableOf(p, c); {
		case table == nil || !kept[c.Name].PausedAt.IsZero():
			if !kept[c.Name].DueAt.IsZero() {
				off = append(off, c.Name)
			}
		default:
			tables[c.Name] = table
			if kept[c.Name].DueAt.IsZero() {
				fresh = append(fresh, c.Name)
			}
		}
	}
	if err := s.o.State.Unfollow(ctx, s.place.schema, off); err != nil {
		return nil, err
	}
	if err := s.o.State.Begun(ctx, s.place.schema, fresh, now); err != nil {
		return nil, err
	}
	a, missed := plan(tables, func(sync string) time.Time { return kept[sync].DueAt }, now)
	s.mu.Lock()
	s.project, s.agenda = p, a
	s.mu.Unlock()
	for _, t := range missed {
		s.log.Info("catching up", "sync", t.Sync, "due", t.Due)
	}
	return append(missed, s.followers(p, nil)...), nil
}

// tableOf is the schedule of a sync that is to run by itself; nil where it is not.
func tableOf(p *run.Prepared, c *config.Sync) *timetable.Table {
	if c.Schedule == "" || !runs(p, c) {
		return nil
	}
	table, err := timetable.Parse(c.Schedule, c.Timezone)
	if err != nil { // resolving the project has checked it
		return nil
	}
	return table
}

// runs tells whether a sync may start by itself.
func runs(p *run.Prepared, c *config.Sync) bool {
	return p.Project.Schedules != "off" && (c.Enabled == nil || *c.Enabled)
}

// Reload goes on with another version of the project. Runs under way end as they began.
func (s *Scheduler) Reload(ctx context.Context, p *run.Prepared) error {
	now := s.Project().Project
	if p.StatePath() != s.Project().StatePath() || p.Project.Schema != now.Schema || p.Project.Name != now.Name {
		return diag.Errorf(diag.Invalid, "serve.reload", "name, schema and state cannot change while dray serve runs").WithHint("restart it")
	}
	select {
	case s.reloads <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Project is the version that is served.
func (s *Scheduler) Project() *run.Prepared {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.project
}

// Look makes the scheduler read what was changed in the control state: a sync was paused or resumed.
func (s *Scheduler) Look() {
	select {
	case s.resumed <- struct{}{}:
	default:
	}
}

// Alive tells when the loop last went round.
func (s *Scheduler) Alive() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beat
}

// Counts are the jobs that wait and that run.
func (s *Scheduler) Counts(ctx context.Context) (waiting, running int, err error) {
	return s.queue.counts(ctx)
}

// loop queues what is due. ticks are due at once.
func (s *Scheduler) loop(ctx context.Context, ticks []Tick) error {
	later := map[string]Tick{} // whose sync is being run
	for {
		s.dispatch(ctx, ticks, later)
		now := s.o.Now()
		s.mu.Lock()
		s.beat = now
		wait := lookAround
		if next := s.agenda.next(); !next.IsZero() {
			wait = min(wait, max(next.Sub(now), together))
		}
		s.mu.Unlock()
		if len(later) > 0 {
			wait = min(wait, retryAfter)
		}
		timer := time.NewTimer(wait)
		ticks = nil
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			ticks = s.tick(ctx, wait >= lookAround)
		case p := <-s.reloads:
			ticks = s.reload(ctx, p)
		case <-s.resumed:
			ticks = s.reload(ctx, s.project)
		case sync := <-s.ends:
			ended := map[string]bool{sync: true}
			for len(s.ends) > 0 {
				ended[<-s.ends] = true
			}
			ticks = s.followers(s.Project(), ended)
		}
		timer.Stop()
	}
}

func (s *Scheduler) tick(ctx context.Context, around bool) []Tick {
	now := s.o.Now()
	s.mu.Lock()
	ticks := s.agenda.due(now)
	p := s.project
	s.mu.Unlock()
	if !around {
		return ticks
	}
	if err := s.remember(ctx); err != nil {
		s.log.Error("reading the control state", "error", err.Error())
	}
	return append(ticks, s.followers(p, nil)...)
}

func (s *Scheduler) reload(ctx context.Context, p *run.Prepared) []Tick {
	ticks, err := s.load(ctx, p)
	if err != nil {
		s.log.Error("the project was not taken over", "error", err.Error())
	}
	return ticks
}

// dispatch queues ticks, and those that waited for a run to end.
func (s *Scheduler) dispatch(ctx context.Context, ticks []Tick, later map[string]Tick) {
	if len(later) > 0 {
		waiting, err := s.queue.again(ctx, slices.Collect(maps.Values(later)))
		if err != nil {
			s.log.Error("the queue does not take jobs", "error", err.Error())
		} else {
			clear(later)
		}
		for _, t := range waiting {
			later[t.Sync] = t
		}
	}
	if len(ticks) == 0 {
		return
	}
	_, waiting, err := s.queue.add(ctx, ticks)
	if err != nil && ctx.Err() == nil {
		// They are due still: what the control state remembers says so, and a later look finds them.
		s.log.Error("the queue does not take jobs", "error", err.Error())
		s.Look()
	}
	for _, t := range waiting {
		later[t.Sync] = t
	}
}

// job is one job of the queue: the run of one sync. An error puts it back.
func (s *Scheduler) job(ctx context.Context, t Tick) error {
	p := s.Project()
	n := p.Graph.Node(graph.Sync, t.Sync)
	if n == nil || !runs(p, n.Sync) {
		return nil // it was taken out of the project, or put off, since
	}
	kept, err := s.o.State.Scheduled(ctx, s.place.schema, t.Sync)
	if err != nil {
		s.log.Error("reading the control state", "sync", t.Sync, "error", err.Error())
		return river.JobSnooze(busyAfter)
	}
	if !kept.PausedAt.IsZero() {
		return nil
	}
	due := later(t.Due, kept.DueAt) // it may have become due again while it waited
	wait, why, err := s.ready(ctx, p, n.Sync, t.Due)
	switch {
	case err != nil:
		s.log.Error("reading the control state", "sync", t.Sync, "error", err.Error())
		return river.JobSnooze(busyAfter)
	case wait, slices.Contains(s.o.Busy(s.place.schema), t.Sync):
		return river.JobSnooze(retryAfter)
	case why != "":
		s.log.Warn("not started", "sync", t.Sync, "why", why)
		if s.o.Observe != nil {
			s.o.Observe.Skipped(t.Sync)
		}
		return s.note(ctx, t.Sync, kept, why)
	}
	if err := s.note(ctx, t.Sync, kept, ""); err != nil {
		return err
	}
	if s.o.Observe != nil {
		s.o.Observe.Started(t.Sync, s.o.Now().Sub(t.Due))
	}
	return s.run(ctx, p, t.Sync, due)
}

func (s *Scheduler) note(ctx context.Context, sync string, kept state.Scheduled, note string) error {
	if kept.Note == note {
		return nil
	}
	if err := s.o.State.Note(ctx, s.place.schema, sync, note); err != nil {
		s.log.Error("writing the control state", "sync", sync, "error", err.Error())
	}
	return nil
}

func (s *Scheduler) run(ctx context.Context, p *run.Prepared, sync string, due time.Time) error {
	// The runs end by Run's ctx, in order, before the queue is stopped.
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(s.work, cancel)()
	defer cancel()
	rep, err := s.o.Run(ctx, p, sync, due)
	if s.work.Err() != nil && (rep.Sync == "" || rep.Status == report.Interrupted) {
		return river.JobSnooze(0) // again, when it is served again
	}
	if kind, _ := diag.KindOf(err); err != nil && rep.Sync == "" {
		s.log.Warn("not started", "sync", sync, "error", err.Error())
		if kind == diag.Locked {
			return river.JobSnooze(busyAfter)
		}
		return nil
	}
	if rep.Status == report.Locked && s.o.State.Shared() {
		return river.JobSnooze(lockedAfter) // by a worker that was killed, until its lease ends; or by a person
	}
	level, why := slog.LevelInfo, ""
	if rep.Error != nil {
		why = rep.Error.Message
	}
	switch rep.Status {
	case report.Succeeded, report.Interrupted:
	case report.Failed:
		level = slog.LevelError
	default:
		level = slog.LevelWarn
	}
	s.log.Log(ctx, level, "run ended", "sync", sync, "run_id", rep.RunID, "status", string(rep.Status), "rows", rep.Rows,
		"delivered", rep.Delivered.Total(), "rejected", rep.Rejected.Total(), "error", why)
	return nil
}

// Served counts the syncs that start by themselves.
func Served(p *run.Prepared) int {
	n := 0
	for _, c := range p.Project.Syncs {
		if runs(p, c) && (c.Schedule != "" || len(c.After) > 0) {
			n++
		}
	}
	return n
}
