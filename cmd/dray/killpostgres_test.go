//go:build unix

package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// server runs statements on a PostgreSQL server.
func (h *hunted) server(url string, statements ...string) {
	h.t.Helper()
	c, err := pgx.Connect(h.t.Context(), url)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(h.t.Context()))
	for _, q := range statements {
		if _, err := c.Exec(h.t.Context(), q); err != nil {
			h.t.Fatalf("%s: %v", q, err)
		}
	}
}

// outlive is the two minutes after which a dead run's lock counts no more, where nothing tells sooner that it is dead: a server
// cannot know whether a machine is gone or cut off. On DuckDB whoever has the file knows it of the run that the fence names, but
// not of one that died between its lock in the state and its fence.
func (h *hunted) outlive() {
	h.t.Helper()
	c, err := pgx.Connect(h.t.Context(), h.home.state)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(h.t.Context()))
	// By then the server has also ended what the dead process had asked of it.
	for begun, left := time.Now(), 1; left > 0; time.Sleep(20 * time.Millisecond) {
		if err := c.QueryRow(h.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'").Scan(&left); err != nil {
			h.t.Fatal(err)
		}
		if time.Since(begun) > time.Minute {
			h.t.Fatal("connections of a dead process stay open")
		}
	}
	h.server(h.home.state, `DO $$ DECLARE t record; BEGIN
	FOR t IN SELECT schemaname, tablename FROM pg_tables WHERE tablename IN ('lock_rows', 'dray_locks') LOOP
		EXECUTE format('UPDATE %I.%I SET until = clock_timestamp() - interval ''1 second'' WHERE run_id IS NOT NULL', t.schemaname, t.tablename);
	END LOOP;
END $$`)
}

// The control state in PostgreSQL keeps the promise of the file: the journal that the next run recovers from is there.
func TestKilledWithPostgresState(t *testing.T) {
	t.Parallel()
	h := newHuntedAt(t, home{state: server.Database(t)}, "mode: mirror\n    on_remove: delete")
	h.mirrors()
}

// With the warehouse there as well nothing of a run is on the machine that dies.
func TestKilledOnPostgres(t *testing.T) {
	t.Parallel()
	url := server.Database(t)
	h := newHuntedAt(t, home{state: url, warehouse: url}, "mode: mirror\n    on_remove: delete")
	h.mirrors()
}
