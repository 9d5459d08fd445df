package run_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// An administrator who cancels a statement of the plan or the commit, or ends its connection, stops that run with an error that
// says so and what to do, and the next one goes on: nothing is lost, and nothing is sent that is acknowledged already.
func TestCancelledByAnAdministrator(t *testing.T) {
	t.Parallel()
	if server == "" {
		t.Skip("DuckDB has no administrator: make test-postgres runs this")
	}
	for _, how := range []struct{ name, function, hint string }{
		{"cancelled", "pg_cancel_backend", "somebody cancelled"},
		{"terminated", "pg_terminate_backend", "ended the connection"},
	} {
		for _, at := range []string{"plan", "commit"} {
			t.Run(how.name+" in "+at, func(t *testing.T) {
				t.Parallel()
				r := newReceiver(t)
				p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
				p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(3) t(i)")
				p.must(0)
				r.state()
				p.exec("UPDATE raw.people SET n = n + 10",
					"CREATE FUNCTION raw.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); RETURN NEW; END $$",
					"CREATE FUNCTION raw.slowly(n integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); RETURN n; END $$")
				mend := func() { p.exec("DROP TRIGGER slow ON dray.snapshot_people") }
				if at == "plan" {
					p.replace("select * from", "select id, email, name, raw.slowly(n) as n from")
					mend = func() { p.replace("raw.slowly(n)", "n") }
				} else {
					p.exec("CREATE TRIGGER slow BEFORE INSERT ON dray.snapshot_people FOR EACH ROW EXECUTE FUNCTION raw.slow()")
				}

				ctx, stop := context.WithCancel(t.Context())
				hit := make(chan struct{})
				go func() { // strikes once, when a statement sleeps
					defer close(hit)
					w, err := openWarehouse(ctx, "", nil, p.dir)
					if err != nil {
						return
					}
					defer w.Close()
					for ctx.Err() == nil {
						n, err := warehouse.Number(ctx, w, "SELECT count("+how.function+"(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
						if err != nil || n > 0 {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				}()
				reports, err := p.run()
				stop()
				<-hit
				if len(reports) != 1 || reports[0].ExitCode != 1 || err == nil || !strings.Contains(reports[0].Error.Hint, how.hint) {
					t.Fatalf("error %v, report %s", err, canonical(reports))
				}
				store, _, changes := r.state()
				if sent := map[string]int{"plan": 0, "commit": 3}[at]; changes != sent || len(store) != 3 {
					t.Errorf("%d changes were sent, want %d", changes, sent)
				}
				mend()
				p.leaseEnds()
				p.must(0)
				if store, _, changes = r.state(); changes != map[string]int{"plan": 3, "commit": 0}[at] {
					t.Errorf("%d changes were sent by the next run: %s", changes, canonical(store))
				}
				if store[`{"id":2}`]["n"] != 12.0 {
					t.Errorf("the destination has %s", canonical(store))
				}
				if rep := p.must(0); rep.Planned.Total() != 0 || rep.Unchanged != 3 {
					t.Errorf("afterwards: %s", canonical(rep))
				}
			})
		}
	}
}
