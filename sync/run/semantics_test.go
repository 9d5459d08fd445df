package run_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// fielded is hookProject with a mapping of its own.
func fielded(t testing.TB, r *receiver, fields, sync string) *project {
	p := hookProject(t, r, sync)
	p.remap(fields)
	return p
}

// remap changes the sync's fields.
func (p *project) remap(fields string) {
	p.t.Helper()
	var lines []string
	for line := range strings.Lines(p.read("dray.yaml")) {
		if strings.HasPrefix(line, "    fields: ") {
			line = "    fields: " + fields + "\n"
		}
		lines = append(lines, line)
	}
	p.write("dray.yaml", strings.Join(lines, ""))
}

// replace changes the project file.
func (p *project) replace(old, now string) {
	p.t.Helper()
	text := p.read("dray.yaml")
	if !strings.Contains(text, old) {
		p.t.Fatalf("the project does not contain %q", old)
	}
	p.write("dray.yaml", strings.Replace(text, old, now, 1))
}

func (p *project) backfill(b run.Backfill) report.Run {
	p.t.Helper()
	s := p.open()
	defer s.Close()
	rep, err := s.Backfill(p.t.(*testing.T).Context(), "people", b, run.RunOptions{})
	if err != nil {
		p.t.Fatalf("backfill: %v", err)
	}
	if err := rep.Check(); err != nil {
		p.t.Fatalf("backfill: %v", err)
	}
	return rep
}

// A field that triggers nothing must not become the cause of an update through another field's tolerance.
func TestTriggerBesideTolerance(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: {column: n, tolerance: 5}, name: {column: name, trigger: false}}", "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1, name = 'other' WHERE id = 3")
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 20 {
		t.Fatalf("within the tolerance: %s", canonical(rep))
	}
}

// An add that was not answered may never have been applied: what is written on add goes with it again.
func TestOnAddOfAnUncertainAdd(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: n, first: {column: name, write: on_add}}", "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'original', 1)")
	r.answer = func(int, *hookBody) verdict { return verdict{apply: func(int) bool { return false }, drop: true} }
	_, _ = p.run()
	r.answer = nil
	p.must(0)
	store, _, _ := r.state()
	if got := store[`{"id":1}`]; got["first"] != "original" {
		t.Fatalf("the destination holds %v", store)
	}
	p.exec("UPDATE raw.people SET name = 'later', n = 2")
	p.must(0)
	store, _, _ = r.state()
	if got := store[`{"id":1}`]; got["first"] != "original" || fmt.Sprint(got["n"]) != "2" {
		t.Fatalf("after an update the destination holds %v", store)
	}
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
}

func TestKeepFirstIsQuiet(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {email: email}\non_remove: delete\non_duplicate_key: {keep: first, order_by: n desc}")
	p.exec("INSERT INTO raw.people VALUES (1, 'a', 'one', 1), (2, 'a', 'two', 2), (3, 'b', 'three', 3)")
	rep := p.must(0)
	if rep.Delivered.Add != 2 || rep.Skipped.Add != 1 || rep.Skipped.Reasons["duplicate_key"] != 1 {
		t.Fatalf("first: %s", canonical(rep))
	}
	if store, _, _ := r.state(); store[`{"email":"a"}`]["name"] != "two" {
		t.Fatalf("the destination holds %v", store)
	}
	rep = p.must(0)
	if rep.Requests != 0 || rep.Unchanged != 2 || rep.Skipped.Total() != 1 || rep.Planned.Update != 0 {
		t.Fatalf("second: %s", canonical(rep))
	}
}

// The plan is emptied of values however the run ends.
func TestPlanIsEmptiedWhenStopped(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'planted@example.com', 'n', i FROM range(100) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1")
	p.must(4)
	if n := p.query("SELECT count(*) FROM dray.plan_people"); n[0] != "0" {
		t.Fatalf("%v rows stand in the plan of a stopped run", n)
	}
	p.exec("DELETE FROM raw.people WHERE id > 1", "INSERT INTO raw.people VALUES (1, 'x', 'y', 1)") // a duplicate key
	p.must(2)
	if n := p.query("SELECT count(*) FROM dray.plan_people"); n[0] != "0" {
		t.Fatalf("%v rows stand in the plan of a failed run", n)
	}
}

// What a vendor refused or never took was not removed: it must not use up the guard's window.
func TestFailedRemovesAreNotCounted(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(100) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 10")
	r.answer = func(int, *hookBody) verdict { return verdict{apply: func(int) bool { return false }, status: 429} }
	_, _ = p.run()
	_, _ = p.run()
	r.answer = nil
	if rep := p.must(0); rep.Delivered.Remove != 10 {
		t.Fatalf("after an outage: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id = 10")
	if rep := p.must(4); rep.Held.Remove != 1 {
		t.Fatalf("the window is used up: %s", canonical(rep))
	}
}

// Rows that wait for a retry are not a change of today's model.
func TestWaitingRowsAreNotChanges(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_changes: 50%, floor: 0}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(10) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET name = 'm' WHERE id < 5")
	r.answer = func(_ int, b *hookBody) verdict {
		results := make([]string, len(b.Changes))
		for i := range results {
			results[i] = `{"status":"rejected","code":"no"}`
		}
		return verdict{status: 200, apply: func(int) bool { return false }, body: `{"results":[` + strings.Join(results, ",") + `]}`}
	}
	if rep := p.must(3); rep.Rejected.Update != 5 {
		t.Fatalf("refused: %s", canonical(rep))
	}
	r.answer = nil
	p.exec("UPDATE raw.people SET name = 'm' WHERE id > 5")
	if rep := p.must(3); rep.Deferred.Update != 5 || rep.Delivered.Update != 4 {
		t.Fatalf("4 changes beside 5 that wait: %s", canonical(rep))
	}
	s := p.open()
	if n, err := s.Retry(t.Context(), "people"); err != nil || n != 5 {
		t.Fatalf("freed %d, %v", n, err)
	}
	_ = s.Close()
	p.exec("UPDATE raw.people SET name = 'k' WHERE id > 5")
	if rep := p.must(0); rep.Delivered.Update != 9 {
		t.Fatalf("retried: %s", canonical(rep))
	}
}

// A backfill of some fields acknowledges those alone.
func TestBackfillOfFields(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(8) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET name = 'new', n = 100 WHERE id = 3")
	if rep := p.backfill(run.Backfill{Fields: []string{"name"}}); rep.Delivered.Update != 8 {
		t.Fatalf("backfill: %s", canonical(rep))
	}
	if got := p.query("SELECT name || n FROM dray.snapshot_people WHERE dest_key = 3"); got[0] != "new3" {
		t.Fatalf("the snapshot holds %v", got)
	}
	if store, _, _ := r.state(); store[`{"id":3}`]["name"] != "new" || fmt.Sprint(store[`{"id":3}`]["n"]) != "3" {
		t.Fatalf("the destination holds %v", store[`{"id":3}`])
	}
	if rep := p.must(0); rep.Delivered.Update != 1 {
		t.Fatalf("the other field: %s", canonical(rep))
	}
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
}

func TestBackfillOfKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, key, file string
		want            int64
	}{
		{"one a line", "{id: id}", "1\n2\n\n77\n", 2},
		{"primary key named", "{email: email}", "name,id\nx,1\ny,3\n", 2},
		{"destination key named", "{mail: email}", "mail\ne1@x.dk\ne4@x.dk\n", 2},
		{"quoted", "{mail: email}", "mail,other\n\"e1@x.dk\",\"a, b\"\n", 1},
		{"mark of bytes", "{id: id}", "\ufeffid\n1\n5\n", 2},
		{"Windows lines", "{id: id}", "id\r\n1\r\n5\r\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\nkey: "+c.key+"\non_remove: delete")
			p.exec("INSERT INTO raw.people SELECT i, 'e' || i || '@x.dk', 'n', i FROM range(8) t(i)")
			p.must(0)
			r.state()
			p.write("keys", c.file)
			rep := p.backfill(run.Backfill{Keys: filepath.Join(p.dir, "keys")})
			if _, _, changes := r.state(); rep.Delivered.Update != c.want || int64(changes) != c.want {
				t.Fatalf("%s", canonical(rep))
			}
		})
	}
}

// A dry run of a backfill builds into scratch and leaves nothing behind.
func TestDryBackfill(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.replace("primary_key: id, sql:", "primary_key: id, materialized: table, sql:")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	r.state()
	before := p.query("SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1")
	p.exec("INSERT INTO raw.people VALUES (9, 'e', 'n', 9)")
	rep := p.backfill(run.Backfill{Full: true, DryRun: true})
	if _, requests, _ := r.state(); requests != 0 || rep.Planned.Update != 8 || rep.Planned.Add != 1 || rep.ExitCode != 0 {
		t.Fatalf("%d requests: %s", requests, canonical(rep))
	}
	after := p.query("SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1")
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Fatalf("tables before %v, after %v", before, after)
	}
	if n := p.query("SELECT count(*) FROM dray.people"); n[0] != "8" {
		t.Fatalf("a dry run rebuilt the model: %v rows", n)
	}
}

// An emptied model stops a full backfill too: it would remove everything.
func TestFullBackfillOfAnEmptyModel(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people")
	s := p.open()
	defer s.Close()
	rep, err := s.Backfill(t.Context(), "people", run.Backfill{Full: true}, run.RunOptions{})
	if err == nil || rep.ExitCode != 4 || rep.Delivered.Total() != 0 {
		t.Fatalf("%v %s", err, canonical(rep))
	}
}

// A key is remembered for `remember` from when its row left, not from when it was sent.
func TestRemember(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {id: id}\nremember: 30d")
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return clock }
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	for range 4 {
		clock = clock.Add(15 * 24 * time.Hour)
		p.must(0)
	}
	p.exec("DELETE FROM raw.people WHERE id = 1")
	if rep := p.must(0); rep.Forgotten != 0 {
		t.Fatalf("forgotten when it left: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 8 {
		t.Fatalf("it came back at once: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id = 1")
	p.must(0)
	clock = clock.Add(31 * 24 * time.Hour)
	if rep := p.must(0); rep.Forgotten != 1 {
		t.Fatalf("after 31 days: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	if rep := p.must(0); rep.Delivered.Add != 1 {
		t.Fatalf("it came back late: %s", canonical(rep))
	}
}

// An adoption that cannot be made leaves the snapshot as it was.
func TestAdoptThatFails(t *testing.T) {
	t.Parallel()
	r, other := newReceiver(t), newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	p.replace(r.URL, other.URL)
	p.exec("INSERT INTO raw.people VALUES (1, 'double', 'n', 1)")
	s := p.open()
	if _, err := s.Adopt(t.Context(), "people"); err == nil {
		t.Fatal("adopted a model with a doubled key")
	}
	_ = s.Close()
	p.exec("DELETE FROM raw.people WHERE email = 'double'")
	p.must(4) // still bound to the old place
	if n := p.query("SELECT count(*) FROM dray.snapshot_people"); n[0] != "8" {
		t.Fatalf("the snapshot has %v rows", n)
	}
}

// Deliveries and runs are kept for `retention`.
func TestRetention(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return clock }
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	clock = clock.Add(80 * 24 * time.Hour)
	p.exec("UPDATE raw.people SET n = 99 WHERE id = 1")
	p.must(0)
	if n := p.query("SELECT count(*) FROM dray.deliveries"); n[0] != "9" {
		t.Fatalf("%v deliveries after 80 days", n)
	}
	clock = clock.Add(20 * 24 * time.Hour)
	p.exec("UPDATE raw.people SET n = 98 WHERE id = 1")
	p.must(0)
	if n := p.query("SELECT count(*) FROM dray.deliveries"); n[0] != "2" {
		t.Fatalf("%v deliveries after 100 days", n)
	}
	if n := p.query("SELECT count(*) FROM dray.runs WHERE started_at < TIMESTAMP '2026-01-02'"); n[0] != "0" {
		t.Fatalf("%v runs older than the retention", n)
	}
}

// The runs of the warehouse say how each ended: the promised view has status and numbers.
func TestRunsInTheWarehouse(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
	first := p.must(0)
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1")
	p.must(4)
	got := p.query("SELECT string_agg(status, ' ' ORDER BY started_at, finished_at NULLS FIRST) FROM dray.runs_v1")
	if got[0] != "running succeeded succeeded stopped" {
		t.Fatalf("runs: %v", got)
	}
	got = p.query("SELECT CASE WHEN report LIKE '%\"delivered\":{\"add\":20,%' THEN 'as run' ELSE report END FROM dray.runs_v1 WHERE status = 'succeeded' AND run_id = '" + first.RunID + "'")
	if len(got) != 1 || got[0] != "as run" {
		t.Fatalf("report of the first run: %v", got)
	}
}

// The snapshot's table is gone and .dray with it: meta still says that there was one.
func TestSnapshotAndStateLost(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(8) t(i)")
	p.must(0)
	p.exec("DROP TABLE dray.snapshot_people")
	if err := os.RemoveAll(filepath.Join(p.dir, ".dray")); err != nil {
		t.Fatal(err)
	}
	p.must(4)
	s := p.open()
	if _, err := s.Reset(t.Context(), "people"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if rep := p.must(0); rep.Delivered.Add != 8 {
		t.Fatalf("reset on purpose: %s", canonical(rep))
	}
}

// An approval lets one run through; the same keys leaving again need another.
func TestApprovalServesOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_removes: 5%, floor: 0, window: 24h}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 5")
	rep := p.must(4)
	if rep := p.must(0, rep.Allow); rep.Delivered.Remove != 5 {
		t.Fatalf("approved: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(5) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 5")
	if rep := p.must(4); rep.Held.Remove != 5 || rep.Delivered.Remove != 0 {
		t.Fatalf("the same keys again: %s", canonical(rep))
	}
}
