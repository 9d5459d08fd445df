// Package state is the control state: which runs there were, the journal of the run under way, and what is known of each sync's
// snapshot. It never holds customer fields (I6): rows are named by the hash of their key.
//
// It stands in one embedded SQLite file with a journal file a run beside it, or in PostgreSQL, where several machines share it;
// there it holds the syncs' locks and the budgets of requests too. Losing it costs history and some resending, never
// correctness (DESIGN §4).
package state

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/dray-dev/dray/internal/diag"
)

// State is one open control state. Safe for concurrent use.
type State struct {
	db      *sql.DB
	pool    *pgxpool.Pool // nil: SQLite
	journal journal
	id      string
	project string
	path    string // of the SQLite file
	lock    *flock.Flock
	mine    bool
}

// Options are what Open must know of the project.
type Options struct {
	Project string // its name: several projects may share a database
	Log     *slog.Logger
}

// Open opens or makes the control state: where is a path, or a PostgreSQL URL. A file that is damaged is put aside, with a
// warning, where no other process uses it.
func Open(ctx context.Context, where string, o Options) (*State, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &State{project: o.Project}
	var err error
	if strings.Contains(where, "://") {
		err = s.openPostgres(ctx, where)
	} else {
		err = s.openFile(ctx, where, o.Log)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *State) openPostgres(ctx context.Context, url string) error {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		scheme, _, _ := strings.Cut(url, "://")
		return diag.Errorf(diag.Invalid, "state.unsupported", "the control state cannot be kept in %q", scheme).
			WithHint("state: .dray/state.db or state: postgres://…")
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's words could quote the URL, with the password in it (I6).
		return diag.Errorf(diag.Invalid, "state.url", "state: is no PostgreSQL URL").WithHint("postgres://user:password@host:5432/database?sslmode=require")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "dray"
	}
	cfg.AfterConnect = inOneSchema
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return unreachable(err)
	}
	s.db = stdlib.OpenDBFromPool(s.pool)
	s.journal = newTable(s.pool)
	if err := s.prepare(ctx); err != nil {
		_ = s.Close()
		return unreachable(err)
	}
	return nil
}

// inOneSchema makes a connection look in one schema only: the one that the tables stand in. The usual search path begins with the
// schema that is named as the user, and a project's own schema may come to be that one after the tables were made.
func inOneSchema(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('search_path', quote_ident(coalesce(
	(SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('dray_version')), current_schema())), false)`)
	return err
}

func unreachable(err error) error {
	var known *diag.Error
	if errors.As(err, &known) {
		return err
	}
	return &diag.Error{
		Kind: diag.Failed, Code: "state.open", Msg: "opening the control state in PostgreSQL", Err: err,
		Hint: "check state: in dray.yaml, that the server answers, and that the user may create tables there",
	}
}

func (s *State) openFile(ctx context.Context, path string, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "making the folder of the control state", Err: err}
	}
	s.path, s.lock = path, flock.New(path+".lock")
	// The OS frees the lock with the process: whoever has it knows that no other process of this state lives.
	var err error
	if s.mine, err = s.lock.TryLock(); err != nil {
		return &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "locking the control state", Err: err}
	}
	marked := s.mine && exists(path+damagedMark)
	err = errMarked
	if !marked {
		err = s.openSQLite(ctx)
	}
	if s.mine && (marked || isDamage(err)) {
		aside, aerr := putAside(path)
		if aerr == nil {
			log.Warn("the control state was damaged: it was put aside, and a new one begun; that costs run history and some resending", "file", filepath.Base(path), "aside", filepath.Base(aside))
			err = s.openSQLite(ctx)
		}
	}
	if err != nil {
		if s.mine {
			_ = s.lock.Unlock()
		}
		return s.damaged(err)
	}
	s.journal = newFiles(strings.TrimSuffix(path, filepath.Ext(path)) + ".journal")
	return nil
}

func (s *State) openSQLite(ctx context.Context) error {
	db, err := sql.Open("sqlite", "file:"+s.path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(4)
	s.db = db
	if err := s.prepare(ctx); err != nil {
		_ = db.Close()
		return err
	}
	return nil
}

// damagedMark ends the name of the file that says that a run met damage: the next one begins a new state.
const damagedMark = ".damaged"

var errMarked = errors.New("the control state was found damaged")

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDamage(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database"))
}

// putAside renames a damaged file and what SQLite keeps beside it; nothing is thrown away.
func putAside(path string) (string, error) {
	aside := path + damagedMark + "-" + time.Now().UTC().Format("20060102T150405.000")
	for _, ending := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+ending, aside+ending); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	if err := os.Remove(path + damagedMark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return aside, nil
}

func (s *State) damaged(err error) error {
	var known *diag.Error
	if errors.As(err, &known) {
		return err
	}
	e := &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "opening the control state " + filepath.Base(s.path), Err: err}
	if isDamage(err) {
		e.Hint = "the file is damaged: end the processes that use it and run again; or move it away: that costs run history and some resending, nothing else"
	}
	return e
}

// prepare brings the tables to this version and reads the state's identity.
func (s *State) prepare(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	err := s.row(ctx, "SELECT id FROM {state}").Scan(&s.id)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err = s.exec(ctx, "INSERT INTO {state} (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING", uuid.NewString()); err == nil {
			err = s.row(ctx, "SELECT id FROM {state}").Scan(&s.id)
		}
	}
	return err
}

// ID is the state's own identity, in locks.
func (s *State) ID() string { return s.id }

// Shared tells whether several machines may use this state: the locks are kept in it then.
func (s *State) Shared() bool { return s.pool != nil }

// Path is the file; "" where the state is none.
func (s *State) Path() string { return s.path }

// Alone tells whether this process holds the OS lock on the file: no other process of this state is alive.
func (s *State) Alone() bool { return s.mine }

// DB is the database, for the queue of jobs whose tables lie in it too.
func (s *State) DB() *sql.DB { return s.db }

// Pool is the PostgreSQL database's pool of connections; nil where the state is a file.
func (s *State) Pool() *pgxpool.Pool { return s.pool }

// Close waits for what is being written.
func (s *State) Close() error {
	var err error
	if s.journal != nil {
		err = s.journal.close()
	}
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	if s.pool != nil {
		s.pool.Close()
	}
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
	err := s.row(ctx, "SELECT generation, revision FROM {syncs} WHERE schema = ? AND sync = ?", s.scope(schema), sync).Scan(&k.Generation, &k.Revision)
	if errors.Is(err, sql.ErrNoRows) {
		return Known{}, nil
	}
	return k, s.wrap("reading", err)
}

// Learn writes it.
func (s *State) Learn(ctx context.Context, schema, sync string, generation, revision int64) error {
	_, err := s.exec(ctx, "INSERT INTO {syncs} (schema, sync, generation, revision) VALUES (?, ?, ?, ?) ON CONFLICT (schema, sync) DO UPDATE SET generation = excluded.generation, revision = excluded.revision",
		s.scope(schema), sync, generation, revision)
	return s.wrap("writing", err)
}

// Unlearn forgets a sync: its snapshot was reset or retired on purpose.
func (s *State) Unlearn(ctx context.Context, schema, sync string) error {
	_, err := s.exec(ctx, "DELETE FROM {syncs} WHERE schema = ? AND sync = ?", s.scope(schema), sync)
	return s.wrap("writing", err)
}

// Rename carries what is known of a sync, and its history, over to another name. Safe to repeat.
func (s *State) Rename(ctx context.Context, schema, from, to string) error {
	if _, err := s.exec(ctx, "UPDATE {syncs} SET sync = ? WHERE schema = ? AND sync = ? AND NOT EXISTS (SELECT 1 FROM {syncs} o WHERE o.schema = ? AND o.sync = ?)",
		to, s.scope(schema), from, s.scope(schema), to); err != nil {
		return s.wrap("writing", err)
	}
	_, err := s.exec(ctx, "UPDATE {runs} SET sync = ? WHERE schema = ? AND sync = ?", to, s.scope(schema), from)
	return s.wrap("writing", err)
}

// Run is one line of the history. Report is the JSON of report.Run.
type Run struct {
	RunID, Schema, Sync   string
	StartedAt, FinishedAt time.Time
	Status                string
	Report                []byte
}

// instant is how times stand in the tables: as texts in UTC whose order is that of the times.
const instant = "2006-01-02T15:04:05.000000Z"

// Begin writes a run's first line before anything else of it.
func (s *State) Begin(ctx context.Context, r Run) error {
	_, err := s.exec(ctx, "INSERT INTO {runs} (run_id, schema, sync, started_at) VALUES (?, ?, ?, ?)",
		r.RunID, s.scope(r.Schema), r.Sync, r.StartedAt.UTC().Format(instant))
	return s.wrap("writing", err)
}

// End completes it.
func (s *State) End(ctx context.Context, r Run) error {
	_, err := s.exec(ctx, "INSERT INTO {runs} (run_id, schema, sync, started_at, finished_at, status, report) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status, report = excluded.report",
		r.RunID, s.scope(r.Schema), r.Sync, r.StartedAt.UTC().Format(instant), r.FinishedAt.UTC().Format(instant), r.Status, string(r.Report))
	return s.wrap("writing", err)
}

// Prune forgets runs that ended and began before a time. A run that did not end stays: its journal may still be needed.
func (s *State) Prune(ctx context.Context, before time.Time) error {
	_, err := s.exec(ctx, "DELETE FROM {runs} WHERE finished_at IS NOT NULL AND started_at < ?", before.UTC().Format(instant))
	if err == nil {
		err = s.journal.prune(ctx, before)
	}
	return s.wrap("writing", err)
}

// scope is what a schema of the project's is called here: a database may serve several projects.
func (s *State) scope(schema string) string {
	if s.pool == nil {
		return schema
	}
	return s.project + "/" + schema
}

// wrap makes an error one that a person can act on, and leaves a mark where the file is damaged, so that the next run begins a
// new one.
func (s *State) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	var known *diag.Error
	if errors.As(err, &known) {
		return err
	}
	e := &diag.Error{Kind: diag.Failed, Code: "state", Msg: what + " the control state", Err: err}
	if s.pool == nil && isDamage(err) {
		_ = os.WriteFile(s.path+damagedMark, nil, 0o600)
		e.Hint = "the file is damaged: the next run puts it aside and begins a new one; that costs run history and some resending, nothing else"
	}
	return e
}
