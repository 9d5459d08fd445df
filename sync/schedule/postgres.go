package schedule

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/dray-dev/dray/sync/state"
)

const (
	tendEvery = 10 * time.Second
	// goneAfter is how long a worker may be silent until its jobs are another's. The lock of a sync, and the fence in the
	// warehouse, hold whatever this is: too short, and a job is only tried in vain.
	goneAfter = 45 * time.Second
)

// queueLock is the advisory lock under which the queue's tables are made; its value is arbitrary.
const queueLock = 0x6472617a

// alone does what no two workers may do at the same time.
func alone(ctx context.Context, pool *pgxpool.Pool, do func() error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(queueLock)); err != nil {
		return err
	}
	err = do()
	if _, uerr := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(queueLock)); err == nil {
		err = uerr
	}
	return err
}

// onPostgres keeps jobs in a control state that several workers share. Each says that it lives; the jobs of one that has not for
// a while are put back, for another to finish.
func onPostgres(ctx context.Context, s *state.State, p place, workers int, work func(context.Context, Tick) error, gone time.Duration, log *slog.Logger) (queue, error) {
	pool := s.Pool()
	driver := riverpgxv5.New(pool)
	if err := alone(ctx, pool, func() error { return migrate(ctx, driver, log) }); err != nil {
		return nil, err
	}
	cfg, err := configOf(p, workers, work, log)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	cfg.ID = host + "-" + uuid.NewString()
	client, err := river.NewClient(driver, cfg)
	if err != nil {
		return nil, err
	}
	q := &rivers[pgx.Tx]{
		place: p, state: s, client: client, close: func() {},
		begin: func(ctx context.Context) (pgx.Tx, func(context.Context) error, func(context.Context) error, error) {
			tx, err := pool.Begin(ctx)
			if err != nil {
				return nil, nil, nil, err
			}
			return tx, tx.Commit, tx.Rollback, nil
		},
		claim: func(ctx context.Context, tx pgx.Tx, query string, args []any) ([]string, error) {
			rows, err := tx.Query(ctx, query, args...)
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowTo[string])
		},
		query: func(ctx context.Context, query string, args []any, into ...any) error {
			return pool.QueryRow(ctx, query, args...).Scan(into...)
		},
		tend: func(ctx context.Context) error {
			if err := s.Lives(ctx, cfg.ID, host); err != nil {
				return err
			}
			_, err := pool.Exec(ctx, `UPDATE river_job j SET state = 'available', attempt = greatest(attempt - 1, 0)
WHERE queue = $1 AND state = 'running' AND NOT EXISTS (
	SELECT 1 FROM dray_workers w WHERE w.id = j.attempted_by[array_length(j.attempted_by, 1)] AND w.seen_at > clock_timestamp() - CAST($2 AS DOUBLE PRECISION) * interval '1 second')`,
				p.name(), gone.Seconds())
			return err
		},
	}
	q.ready = q.tend
	return q, nil
}
