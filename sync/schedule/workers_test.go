package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

// What makes this test binary a worker.
const (
	workerURL  = "DRAY_TEST_WORKER_URL"
	workerDir  = "DRAY_TEST_WORKER_DIR"
	workerName = "DRAY_TEST_WORKER_NAME"
)

// worker serves until it is killed; its runs write down when they begin and end.
func worker(url string) int {
	ctx := context.Background()
	err := func() error {
		s, err := state.Open(ctx, url, state.Options{Project: "shop"})
		if err != nil {
			return err
		}
		p, err := run.Prepare(run.Deps{Connector: registry.Destination}, run.Options{Dir: os.Getenv(workerDir)})
		if err != nil {
			return err
		}
		var scheduler *Scheduler
		scheduler, err = New(ctx, Options{
			State: s, Project: p, Workers: 4, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), tendEvery: 500 * time.Millisecond, goneAfter: 3 * time.Second,
			Run: func(ctx context.Context, _ *run.Prepared, sync string, _ time.Time) (report.Run, error) {
				r := report.Run{RunID: sync, Sync: sync, Status: report.Succeeded, StartedAt: time.Now()}
				var id int64
				err := s.Pool().QueryRow(ctx, "INSERT INTO ran (sync, worker, began) VALUES ($1, $2, clock_timestamp()) RETURNING id", sync, os.Getenv(workerName)).Scan(&id)
				if err == nil {
					time.Sleep(300 * time.Millisecond)
					err = held(ctx, s.Pool(), id)
				}
				if err == nil {
					_, err = s.Pool().Exec(ctx, "UPDATE ran SET ended = clock_timestamp() WHERE id = $1", id)
				}
				return r, err
			},
		})
		if err != nil {
			return err
		}
		return scheduler.Run(ctx)
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// held keeps a run from ending where its worker is held up, for as long as that lives.
func held(ctx context.Context, pool *pgxpool.Pool, id int64) error {
	tag, err := pool.Exec(ctx, "UPDATE ran SET held = true WHERE id = $1 AND worker IN (SELECT worker FROM held)", id)
	if err == nil && tag.RowsAffected() > 0 {
		<-ctx.Done()
	}
	return err
}

// Two workers share a control state in PostgreSQL. One is killed: its jobs are finished by the other, and none is run twice at once.
func TestTwoWorkersOneKilled(t *testing.T) {
	t.Parallel()
	url, dir := server.Database(t), t.TempDir()
	var list []string
	for i := range 12 {
		list = append(list, fmt.Sprintf(`s%d schedule: "@every 2s"`, i))
	}
	prepare(t, dir, syncs(list...)+"state: \""+url+"\"\n")
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE ran (id BIGSERIAL, sync TEXT, worker TEXT, began TIMESTAMPTZ, ended TIMESTAMPTZ, held BOOLEAN); CREATE TABLE held (worker TEXT)"); err != nil {
		t.Fatal(err)
	}
	number := func(query string, args ...any) int {
		var n int
		if err := pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	start := func(name string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		c.Env = append(os.Environ(), workerURL+"="+url, workerDir+"="+dir, workerName+"="+name)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := start("first"), start("second")
	defer func() { _ = second.Process.Kill(); _ = second.Wait() }()
	until(t, "work of both", func() bool { return number("SELECT count(DISTINCT worker) FROM ran WHERE ended IS NOT NULL") == 2 })
	if _, err := pool.Exec(t.Context(), "INSERT INTO held VALUES ('first')"); err != nil {
		t.Fatal(err)
	}
	until(t, "a run under way in the first, which cannot end", func() bool {
		return number("SELECT count(*) FROM ran WHERE held") > 0
	})
	_ = first.Process.Kill()
	_ = first.Wait()
	killed := time.Now()
	defer func() {
		if t.Failed() {
			var jobs, runs string
			_ = pool.QueryRow(context.Background(), "SELECT coalesce(string_agg(args ->> 'sync' || ' ' || state || ' ' || attempt || '/' || max_attempts || ' ' || array_to_string(attempted_by, ','), E'\n'), '') FROM river_job WHERE state <> 'completed'").Scan(&jobs)
			_ = pool.QueryRow(context.Background(), "SELECT coalesce(string_agg(sync || ' ' || worker || ' ' || began, E'\n'), '') FROM ran WHERE ended IS NULL").Scan(&runs)
			t.Logf("jobs:\n%s\nruns that did not end:\n%s", jobs, runs)
		}
	}()
	// Counted anew each time: what the first had sent when it was killed, the server may do a moment later.
	until(t, "the runs that were cut off, by the second", func() bool {
		return number(`SELECT count(*) FROM ran a WHERE a.worker = 'first' AND a.ended IS NULL AND NOT EXISTS (
			SELECT 1 FROM ran b WHERE b.sync = a.sync AND b.worker = 'second' AND b.ended IS NOT NULL AND b.id > a.id)`) == 0
	})
	if n := number(`SELECT count(*) FROM ran a JOIN ran b ON a.sync = b.sync AND a.id < b.id AND b.began < coalesce(a.ended, CASE WHEN a.worker = 'first' THEN CAST($1 AS TIMESTAMPTZ) ELSE CAST('infinity' AS TIMESTAMPTZ) END)`, killed); n > 0 {
		t.Errorf("%d runs began while the same sync ran", n)
	}
}
