package schedule

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/dray-dev/dray/sync/state"
)

// job is one run that is to be: of each sync at most one waits or runs.
type job struct {
	Project string `json:"project" river:"unique"`
	Schema  string `json:"schema" river:"unique"`
	Sync    string `json:"sync" river:"unique"`
	Due     int64  `json:"due"` // microseconds
}

// Kind is River's name for it.
func (job) Kind() string { return "dray_sync" }

// queue is where jobs wait: River, in the control state's database.
type queue interface {
	start(ctx context.Context) error
	stop(ctx context.Context) error // cuts off what runs; it stays in the queue
	// add takes on ticks that no other process took, and queues them. later are those whose sync is being run: they are to be
	// added again once that run has ended.
	add(ctx context.Context, ticks []Tick) (taken int, later []Tick, err error)
	// again queues ticks that were taken before.
	again(ctx context.Context, ticks []Tick) (later []Tick, err error)
	// counts are the jobs that wait and that run, of all processes.
	counts(ctx context.Context) (waiting, running int, err error)
	// tends says that this process lives, and puts back what processes that do not have left.
	tends(ctx context.Context) error
	// pending tells whether a job of the sync waits or runs.
	pending(ctx context.Context, sync string) (bool, error)
}

// place says whose jobs a queue holds.
type place struct{ project, schema string }

// name is River's name of the queue: workers of other projects on the same database look elsewhere.
func (p place) name() string {
	sum := sha256.Sum256([]byte(p.project + "\x00" + p.schema))
	return "dray_" + hex.EncodeToString(sum[:8])
}

const (
	fetchPoll     = time.Second           // what is queued wakes the workers; this finds what was put off
	fetchCooldown = 10 * time.Millisecond // River's own 100 ms drains ten thousand jobs in 50 s, this in 9
	batchOfJobs   = 1000
)

// rivers is a queue on River, whatever the database.
type rivers[TX any] struct {
	place  place
	state  *state.State
	client *river.Client[TX]
	begin  func(ctx context.Context) (tx TX, commit, rollback func(context.Context) error, err error)
	claim  func(ctx context.Context, tx TX, sql string, args []any) ([]string, error)
	ready  func(ctx context.Context) error // before the start
	close  func()
	query  func(ctx context.Context, sql string, args []any, into ...any) error
	alone  bool                            // no other process takes ticks
	tend   func(ctx context.Context) error // now and then; nil = nothing
}

func configOf(p place, workers int, work func(context.Context, Tick) error, log *slog.Logger) (*river.Config, error) {
	pool := river.NewWorkers()
	err := river.AddWorkerSafely(pool, river.WorkFunc(func(ctx context.Context, j *river.Job[job]) error {
		return work(ctx, Tick{Sync: j.Args.Sync, Due: time.UnixMicro(j.Args.Due).UTC()})
	}))
	return &river.Config{
		Workers:                     pool,
		Queues:                      map[string]river.QueueConfig{p.name(): {MaxWorkers: workers}},
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           fetchPoll,
		JobTimeout:                  -1,                        // a run has deadlines of its own
		MaxAttempts:                 1,                         // what a run did not reach, the next due time does
		RescueStuckJobsAfter:        10 * 365 * 24 * time.Hour, // a long run is not stuck: the jobs of a process that is gone are found by it
		CompletedJobRetentionPeriod: time.Minute,               // the history is dray's own
		DiscardedJobRetentionPeriod: time.Minute,
		CancelledJobRetentionPeriod: time.Minute,
		Logger:                      log,
	}, err
}

func (q *rivers[TX]) start(ctx context.Context) error {
	if err := q.ready(ctx); err != nil {
		return err
	}
	return q.client.Start(ctx)
}

func (q *rivers[TX]) tends(ctx context.Context) error {
	if q.tend == nil {
		return nil
	}
	return q.tend(ctx)
}

func (q *rivers[TX]) stop(ctx context.Context) error {
	err := q.client.StopAndCancel(ctx)
	q.close()
	return err
}

func (q *rivers[TX]) params(ticks []Tick) []river.InsertManyParams {
	out := make([]river.InsertManyParams, len(ticks))
	for i, t := range ticks {
		out[i] = river.InsertManyParams{
			Args: job{Project: q.place.project, Schema: q.place.schema, Sync: t.Sync, Due: t.Due.UnixMicro()},
			InsertOpts: &river.InsertOpts{Queue: q.place.name(), UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
				rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateScheduled, rivertype.JobStateRetryable,
			}}},
		}
	}
	return out
}

// underWay are the ticks that met a run under way.
func underWay(ticks []Tick, results []*rivertype.JobInsertResult) []Tick {
	var out []Tick
	for i, r := range results {
		if r.UniqueSkippedAsDuplicate && r.Job.State == rivertype.JobStateRunning {
			out = append(out, ticks[i])
		}
	}
	return out
}

func (q *rivers[TX]) add(ctx context.Context, ticks []Tick) (taken int, later []Tick, err error) {
	for len(ticks) > 0 {
		part := ticks[:min(len(ticks), batchOfJobs)]
		ticks = ticks[len(part):]
		n, wait, err := q.addPart(ctx, part)
		taken += n
		later = append(later, wait...)
		if err != nil {
			return taken, later, err
		}
	}
	return taken, later, nil
}

func (q *rivers[TX]) addPart(ctx context.Context, ticks []Tick) (int, []Tick, error) {
	if q.alone {
		return q.addAlone(ctx, ticks)
	}
	of, dues := map[string]Tick{}, map[string]time.Time{}
	for _, t := range ticks {
		of[t.Sync], dues[t.Sync] = t, t.Due
	}
	args, err := q.state.ClaimArgs(q.place.schema, dues)
	if err != nil {
		return 0, nil, err
	}
	tx, commit, rollback, err := q.begin(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("queueing: %w", err)
	}
	mine, err := q.claim(ctx, tx, q.state.ClaimSQL(), args)
	var results []*rivertype.JobInsertResult
	var ours []Tick
	if err == nil && len(mine) > 0 {
		for _, sync := range mine {
			ours = append(ours, of[sync])
		}
		results, err = q.client.InsertManyTx(ctx, tx, q.params(ours))
	}
	if err != nil {
		return 0, nil, errors.Join(fmt.Errorf("queueing: %w", err), rollback(context.WithoutCancel(ctx)))
	}
	if err := commit(ctx); err != nil {
		return 0, nil, fmt.Errorf("queueing: %w", err)
	}
	return len(ours), underWay(ours, results), nil
}

// addAlone is addPart where no other process takes ticks: they are queued before they are written down, so that a kill in between
// costs nothing (a sync is queued once at most), and outside a transaction, so that River's own insert wakes its workers.
func (q *rivers[TX]) addAlone(ctx context.Context, ticks []Tick) (int, []Tick, error) {
	results, err := q.client.InsertMany(ctx, q.params(ticks))
	if err != nil {
		return 0, nil, fmt.Errorf("queueing: %w", err)
	}
	dues := map[string]time.Time{}
	for _, t := range ticks {
		dues[t.Sync] = t.Due
	}
	return len(ticks), underWay(ticks, results), q.state.Take(ctx, q.place.schema, dues)
}

func (q *rivers[TX]) again(ctx context.Context, ticks []Tick) ([]Tick, error) {
	if len(ticks) == 0 {
		return nil, nil
	}
	results, err := q.client.InsertMany(ctx, q.params(ticks))
	if err != nil {
		return ticks, fmt.Errorf("queueing: %w", err)
	}
	return underWay(ticks, results), nil
}

func (q *rivers[TX]) counts(ctx context.Context) (waiting, running int, err error) {
	err = q.query(ctx, "SELECT coalesce(sum(CASE WHEN state = 'running' THEN 0 ELSE 1 END), 0), coalesce(sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END), 0) FROM river_job WHERE queue = $1 AND state IN ('available', 'pending', 'running', 'scheduled', 'retryable')",
		[]any{q.place.name()}, &waiting, &running)
	return waiting, running, err
}

func (q *rivers[TX]) pending(ctx context.Context, sync string) (bool, error) {
	var n int
	err := q.query(ctx, "SELECT count(*) FROM river_job WHERE queue = $1 AND state IN ('available', 'pending', 'running', 'scheduled', 'retryable') AND args ->> 'sync' = $2",
		[]any{q.place.name(), sync}, &n)
	return n > 0, err
}

// onSQLite keeps jobs in the control state's file. One process at a time serves it (the caller holds a lock), so that what is
// found running there was cut off.
func onSQLite(ctx context.Context, s *state.State, p place, workers int, work func(context.Context, Tick) error, log *slog.Logger) (queue, error) {
	db, err := sql.Open("sqlite", "file:"+s.Path()+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // of two writers one would wait for the other, asleep
	driver := riversqlite.New(db)
	if err := migrate(ctx, driver, log); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	cfg, err := configOf(p, workers, work, log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	cfg.PollOnly = true
	client, err := river.NewClient(driver, cfg)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &rivers[*sql.Tx]{
		place: p, state: s, client: client,
		alone: true,
		ready: func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "UPDATE river_job SET state = 'available', attempt = max(attempt - 1, 0) WHERE state = 'running'")
			return err
		},
		close: func() { _ = db.Close() },
		query: func(ctx context.Context, query string, args []any, into ...any) error {
			return db.QueryRowContext(ctx, query, args...).Scan(into...)
		},
	}, nil
}

func migrate[TX any](ctx context.Context, driver riverdriver.Driver[TX], log *slog.Logger) error {
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: log})
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("making the tables of the queue: %w", err)
	}
	return nil
}
