package state

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// migration is one version of the tables.
type migration struct {
	all    string // in both engines
	shared string // in PostgreSQL, what a state of several machines has besides
}

// migrations are the versions, oldest first; the number of those applied is the state's version. Each adds, and none takes away,
// so that an older Dray beside a newer one goes on. {name} is a table of ours, {{INT}} a type. Version 1 is written so that it
// finds the tables of states made before versions were counted.
func migrations() []migration {
	return []migration{{
		all: `CREATE TABLE IF NOT EXISTS {syncs} (schema TEXT NOT NULL, sync TEXT NOT NULL, generation {{INT}} NOT NULL, revision {{INT}} NOT NULL, PRIMARY KEY (schema, sync));
CREATE TABLE IF NOT EXISTS {runs} (run_id TEXT PRIMARY KEY, schema TEXT NOT NULL, sync TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, status TEXT, report TEXT);
CREATE INDEX IF NOT EXISTS {runs_by_sync} ON {runs} (sync, started_at);
CREATE TABLE IF NOT EXISTS {state} (one {{INT}} PRIMARY KEY, id TEXT NOT NULL)`,
		shared: `CREATE TABLE {batches} (run_id TEXT NOT NULL, seq BIGINT NOT NULL, page BIGINT NOT NULL, sent_at BIGINT NOT NULL, keys BYTEA NOT NULL, answer BYTEA, PRIMARY KEY (run_id, page, seq));
CREATE TABLE {locks} (schema TEXT NOT NULL, sync TEXT NOT NULL, run_id TEXT, host TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, PRIMARY KEY (schema, sync));
CREATE TABLE {budgets} (credential TEXT PRIMARY KEY, next_at TIMESTAMPTZ NOT NULL, paused_until TIMESTAMPTZ)`,
	}, {
		all: `CREATE TABLE {schedule} (schema TEXT NOT NULL, sync TEXT NOT NULL, due_at {{INT}}, paused_at {{INT}}, note TEXT, PRIMARY KEY (schema, sync));
CREATE TABLE {alerts} (schema TEXT NOT NULL, destination TEXT NOT NULL, sync TEXT NOT NULL, states TEXT NOT NULL, since {{INT}} NOT NULL, PRIMARY KEY (schema, destination, sync))`,
		shared: `CREATE TABLE {workers} (id TEXT PRIMARY KEY, host TEXT NOT NULL, seen_at TIMESTAMPTZ NOT NULL)`,
	}}
}

// migrationLock is the advisory lock under which PostgreSQL's tables are made; its value is arbitrary.
const migrationLock = 0x64726179

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
}

// version reads the state's version, and the oldest of ours that may use it; 0 where there are no tables yet.
func (s *State) version(ctx context.Context, db querier) (version, reader int, err error) {
	there := "SELECT count(*) FROM sqlite_master WHERE name = '{version}'"
	if s.pool != nil {
		there = "SELECT count(*) FROM pg_tables WHERE tablename = '{version}' AND schemaname = current_schema()"
	}
	if err := db.QueryRowContext(ctx, s.sql(there)).Scan(&version); err != nil || version == 0 {
		return 0, 0, err
	}
	err = db.QueryRowContext(ctx, s.sql("SELECT coalesce(max(version), 0), coalesce(max(min_reader), 0) FROM {version}")).Scan(&version, &reader)
	return version, reader, err
}

// migrate brings the tables to this version, in one transaction under a lock.
func (s *State) migrate(ctx context.Context) error {
	all := migrations()
	version, reader, err := s.version(ctx, s.db)
	if err != nil {
		return err
	}
	if reader > len(all) {
		return diag.Errorf(diag.Invalid, "upgrade.needed", "the control state was written by a newer Dray").WithHint("use that version, or a newer one")
	}
	if version >= len(all) {
		return nil
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if s.pool != nil {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
	}
	if version, _, err = s.version(ctx, tx); err != nil { // another may have been first
		return err
	}
	if version == 0 {
		if _, err := tx.ExecContext(ctx, s.sql("CREATE TABLE {version} (version {{INT}} PRIMARY KEY, min_reader {{INT}} NOT NULL)")); err != nil {
			return err
		}
	}
	for i := version; i < len(all); i++ {
		text := all[i].all
		if s.pool != nil && all[i].shared != "" {
			text += ";\n" + all[i].shared
		}
		for q := range strings.SplitSeq(text, ";\n") {
			if _, err := tx.ExecContext(ctx, s.sql(q)); err != nil {
				return fmt.Errorf("version %d of the tables: %w", i+1, err)
			}
		}
		if _, err := tx.ExecContext(ctx, s.sql("INSERT INTO {version} (version, min_reader) VALUES (?, 1)"), i+1); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// sql writes a statement for the engine: names of tables, types, and in PostgreSQL numbered parameters.
func (s *State) sql(q string) string {
	if s.pool == nil {
		return strings.NewReplacer("{{INT}}", "INTEGER", "{", "", "}", "").Replace(q)
	}
	q = strings.NewReplacer("{{INT}}", "BIGINT", "{", "dray_", "}", "").Replace(q)
	var b strings.Builder
	n := 0
	for _, r := range q {
		if r == '?' {
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (s *State) exec(ctx context.Context, q string, args ...any) (int64, error) {
	res, err := s.db.ExecContext(ctx, s.sql(q), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *State) row(ctx context.Context, q string, args ...any) *sql.Row {
	return s.db.QueryRowContext(ctx, s.sql(q), args...)
}
