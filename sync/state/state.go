// Package state is the control state: which runs there were, the journal of the run under way, and what is known of each sync's
// snapshot. It never holds customer fields (I6): rows are named by the hash of their key.
//
// It stands in one embedded SQLite file. Losing it costs history and some resending, never correctness (DESIGN §4).
package state

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/dray-dev/dray/internal/diag"
)

// State is one open control state. Safe for concurrent use.
type State struct {
	db   *sql.DB
	id   string
	lock *flock.Flock
	mine bool

	insert, answer *sql.Stmt
	writes         chan write
	done           chan struct{}
}

const schema = `
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS syncs (schema TEXT NOT NULL, sync TEXT NOT NULL, generation INTEGER NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (schema, sync));
CREATE TABLE IF NOT EXISTS runs (run_id TEXT PRIMARY KEY, schema TEXT NOT NULL, sync TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, status TEXT, report TEXT);
CREATE INDEX IF NOT EXISTS runs_by_sync ON runs (sync, started_at);
CREATE TABLE IF NOT EXISTS batches (run_id TEXT NOT NULL, seq INTEGER NOT NULL, page INTEGER NOT NULL, sent_at INTEGER NOT NULL, keys BLOB NOT NULL, answer BLOB, PRIMARY KEY (run_id, page, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pages (run_id TEXT NOT NULL, page INTEGER NOT NULL, boot TEXT NOT NULL, PRIMARY KEY (run_id, page)) WITHOUT ROWID;
`

// Open opens or makes the file. A file that is damaged is an error that names the way out; nothing of it is changed.
func Open(ctx context.Context, path string) (*State, error) {
	if strings.Contains(path, "://") {
		return nil, diag.Errorf(diag.Invalid, "state.unsupported", "a control state in PostgreSQL is not supported yet").
			WithHint("state: .dray/state.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "making the folder of the control state", Err: err}
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
	if err != nil {
		return nil, damaged(path, err)
	}
	db.SetMaxOpenConns(4)
	s := &State{db: db, lock: flock.New(path + ".lock")}
	if err := s.prepare(ctx); err != nil {
		_ = db.Close()
		return nil, damaged(path, err)
	}
	// The OS frees the lock with the process: whoever has it knows that no other process of this state lives.
	s.mine, err = s.lock.TryLock()
	if err != nil {
		_ = db.Close()
		return nil, &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "locking the control state", Err: err}
	}
	s.writes, s.done = make(chan write, 64), make(chan struct{})
	go s.writer()
	return s, nil
}

func damaged(path string, err error) error {
	e := &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "opening the control state " + filepath.Base(path), Err: err}
	if strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database") {
		e.Hint = "the file is damaged: move it away and run again; that costs run history and some resending, nothing else"
	}
	return e
}

func (s *State) prepare(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return err
	}
	err := s.db.QueryRowContext(ctx, "SELECT id FROM identity").Scan(&s.id)
	if errors.Is(err, sql.ErrNoRows) {
		s.id = uuid.NewString()
		_, err = s.db.ExecContext(ctx, "INSERT INTO identity SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)", s.id)
		if err == nil {
			err = s.db.QueryRowContext(ctx, "SELECT id FROM identity").Scan(&s.id)
		}
	}
	if err != nil {
		return err
	}
	if s.insert, err = s.db.PrepareContext(ctx, "INSERT INTO batches (run_id, seq, page, sent_at, keys) VALUES (?, ?, ?, ?, ?)"); err != nil {
		return err
	}
	s.answer, err = s.db.PrepareContext(ctx, "UPDATE batches SET answer = ? WHERE run_id = ? AND page = ? AND seq = ?")
	return err
}

// ID is the file's own identity, in locks.
func (s *State) ID() string { return s.id }

// Alone tells whether this process holds the OS lock on the file: no other process of this state is alive.
func (s *State) Alone() bool { return s.mine }

// Close waits for what is being written.
func (s *State) Close() error {
	close(s.writes)
	<-s.done
	_ = s.insert.Close()
	_ = s.answer.Close()
	err := s.db.Close()
	if s.mine {
		_ = s.lock.Unlock()
	}
	return err
}

// Known is what the control state knows of a sync's snapshot.
type Known struct {
	Exists               bool
	Generation, Revision int64
}

// Known reads it.
func (s *State) Known(ctx context.Context, schema, sync string) (Known, error) {
	k := Known{Exists: true}
	err := s.db.QueryRowContext(ctx, "SELECT generation, revision FROM syncs WHERE schema = ? AND sync = ?", schema, sync).Scan(&k.Generation, &k.Revision)
	if errors.Is(err, sql.ErrNoRows) {
		return Known{}, nil
	}
	return k, wrap("reading", err)
}

// Learn writes it.
func (s *State) Learn(ctx context.Context, schema, sync string, generation, revision int64) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO syncs VALUES (?, ?, ?, ?) ON CONFLICT (schema, sync) DO UPDATE SET generation = excluded.generation, revision = excluded.revision",
		schema, sync, generation, revision)
	return wrap("writing", err)
}

// Unlearn forgets a sync: its snapshot was reset or retired on purpose.
func (s *State) Unlearn(ctx context.Context, schema, sync string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM syncs WHERE schema = ? AND sync = ?", schema, sync)
	return wrap("writing", err)
}

// Run is one line of the history. Report is the JSON of report.Run.
type Run struct {
	RunID, Schema, Sync   string
	StartedAt, FinishedAt time.Time
	Status                string
	Report                []byte
}

// Begin writes a run's first line before anything else of it.
func (s *State) Begin(ctx context.Context, r Run) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO runs (run_id, schema, sync, started_at) VALUES (?, ?, ?, ?)",
		r.RunID, r.Schema, r.Sync, r.StartedAt.UTC().Format(time.RFC3339Nano))
	return wrap("writing", err)
}

// End completes it.
func (s *State) End(ctx context.Context, r Run) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO runs (run_id, schema, sync, started_at, finished_at, status, report) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status, report = excluded.report",
		r.RunID, r.Schema, r.Sync, r.StartedAt.UTC().Format(time.RFC3339Nano), r.FinishedAt.UTC().Format(time.RFC3339Nano), r.Status, r.Report)
	return wrap("writing", err)
}

// Prune forgets runs that ended and began before a time. A run that did not end stays: its journal may still be needed.
func (s *State) Prune(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM runs WHERE finished_at IS NOT NULL AND started_at < ?", before.UTC().Format(time.RFC3339Nano))
	return wrap("writing", err)
}

// Runs lists the newest first; sync "" = of all.
func (s *State) Runs(ctx context.Context, schema, sync string, limit int) ([]Run, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT run_id, schema, sync, started_at, coalesce(finished_at, ''), coalesce(status, ''), coalesce(report, '') FROM runs WHERE schema = ? AND (? = '' OR sync = ?) ORDER BY started_at DESC, run_id LIMIT ?",
		schema, sync, sync, limit)
	if err != nil {
		return nil, wrap("reading", err)
	}
	defer rows.Close()
	var out []Run
	for rows.Next() {
		var r Run
		var started, finished string
		if err := rows.Scan(&r.RunID, &r.Schema, &r.Sync, &started, &finished, &r.Status, &r.Report); err != nil {
			return nil, wrap("reading", err)
		}
		r.StartedAt, _ = time.Parse(time.RFC3339Nano, started)
		r.FinishedAt, _ = time.Parse(time.RFC3339Nano, finished)
		out = append(out, r)
	}
	return out, wrap("reading", rows.Err())
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	e := &diag.Error{Kind: diag.Failed, Code: "state", Msg: what + " the control state", Err: err}
	if strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database") {
		e.Hint = "the file is damaged: move it away and run again; that costs run history and some resending, nothing else"
	}
	return e
}
