package run_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/run"
)

func TestMirrorEndToEnd(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_removes: 100%, max_changes: 100%}")
	p.exec("INSERT INTO raw.people SELECT i, 'u' || i || '@example.com', 'name ' || i, i FROM range(10) t(i)")
	rep := p.must(0)
	if rep.Delivered.Add != 10 || rep.Rows != 10 || rep.Requests != 4 {
		t.Fatalf("first run: %s", canonical(rep))
	}
	rep = p.must(0)
	if rep.Requests != 0 || rep.Unchanged != 10 || rep.Planned.Total() != 0 {
		t.Fatalf("second run: %s", canonical(rep))
	}
	p.exec("UPDATE raw.people SET name = NULL WHERE id = 3", "DELETE FROM raw.people WHERE id = 4", "INSERT INTO raw.people VALUES (11, NULL, 'ælle', 1)")
	rep = p.must(0)
	if rep.Delivered.Add != 1 || rep.Delivered.Update != 1 || rep.Delivered.Remove != 1 || rep.Unchanged != 8 {
		t.Fatalf("third run: %s", canonical(rep))
	}
	store, _, _ := r.state()
	if len(store) != 10 || store[`{"id":11}`]["name"] != "ælle" || store[`{"id":3}`]["name"] != nil || store[`{"id":4}`] != nil {
		t.Fatalf("the destination holds %v", store)
	}
}

func TestInsertSendsOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people SELECT i, 'u' || i || '@example.com', 'n', i FROM range(7) t(i)")
	// The vendor refuses id 2 and loses the answer to the batch of 3, 4, 5 (batches are cut in any order, so by key).
	r.answer = func(_ int, b *hookBody) verdict {
		var results []string
		for _, c := range b.Changes {
			switch canonical(c.Key) {
			case `{"id":2}`:
				results = append(results, `{"status":"rejected","code":"no"}`)
			case `{"id":4}`:
				return verdict{drop: true}
			default:
				results = append(results, `{"status":"delivered"}`)
			}
		}
		return verdict{status: 200, body: `{"results":[` + strings.Join(results, ",") + `]}`, apply: func(i int) bool { return canonical(b.Changes[i].Key) != `{"id":2}` }}
	}
	reports, _ := p.run()
	rep := reports[0]
	if rep.Rejected.Add != 1 || rep.Uncertain.Add == 0 || rep.Delivered.Add+rep.Uncertain.Add != 6 {
		t.Fatalf("first run: %s", canonical(rep))
	}
	lost := rep.Uncertain.Add
	// Everything leaves the model; what is still owed is sent all the same, and nothing else (DESIGN §5).
	p.exec("DELETE FROM raw.people")
	r.answer = nil
	r.state()
	rep = p.must(3)
	if rep.Delivered.Add != lost || rep.Deferred.Add != 1 || rep.Rows != lost+1 {
		t.Fatalf("second run: %s", canonical(rep))
	}
	s := p.open()
	if n, err := s.Retry(t.Context(), "people"); err != nil || n != 1 {
		t.Fatalf("freed %d, %v", n, err)
	}
	_ = s.Close()
	rep = p.must(0)
	if rep.Delivered.Add != 1 || rep.Rows != 1 {
		t.Fatalf("third run: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people SELECT i, 'other', 'n', i + 1 FROM range(7) t(i)")
	rep = p.must(0)
	if rep.Requests != 0 || rep.Unchanged != 7 {
		t.Fatalf("the rows came back: %s", canonical(rep))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) != 7 { // an uncertain insert keeps its dedupe id
		t.Fatalf("%d dedupe ids for 7 inserts", len(r.ids))
	}
}

func TestUpsertForgetsWhatLeft(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(100) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 5")
	rep := p.must(0)
	if rep.Forgotten != 5 || rep.Requests != 0 || rep.Unchanged != 95 {
		t.Fatalf("rows left: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	rep = p.must(0)
	if rep.Delivered.Add != 1 {
		t.Fatalf("a row came back: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id < 60") // over 5 %, over the floor: forgetting obeys the guard too
	rep = p.must(4)
	if rep.Forgotten != 0 || rep.Requests != 0 || len(rep.Reasons) != 1 || rep.Allow == "" {
		t.Fatalf("many rows left: %s", canonical(rep))
	}
	rep = p.must(0, rep.Allow)
	if rep.Forgotten != 56 {
		t.Fatalf("approved: %s", canonical(rep))
	}
}

func TestGuards(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(1000) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 40")
	if rep := p.must(0); rep.Delivered.Remove != 40 {
		t.Fatalf("4 %%: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id < 60", "INSERT INTO raw.people VALUES (2000, 'e', 'n', 1)")
	rep := p.must(4) // 6 % in the window of a day
	if rep.Held.Remove != 20 || rep.Delivered.Add != 1 || rep.Status != "stopped" {
		t.Fatalf("6 %% in a day: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id = 60") // other keys than those approved
	if again := p.must(4, rep.Allow); again.Held.Remove != 21 {
		t.Fatalf("an approval for other keys: %s", canonical(again))
	}
	p.exec("INSERT INTO raw.people VALUES (60, 'e', 'n', 60)")
	if done := p.must(0); done.Delivered.Remove != 20 { // stored: whichever process runs next
		t.Fatalf("approved: %s", canonical(done))
	}
	p.exec("UPDATE raw.people SET n = n + 1 WHERE id > 300")
	rep = p.must(4)
	if rep.Requests != 0 || !strings.Contains(rep.Reasons[0], "max_changes") {
		t.Fatalf("changes: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people")
	rep = p.must(4)
	if rep.Requests != 0 || !strings.Contains(rep.Reasons[0], "empty") {
		t.Fatalf("empty: %s", canonical(rep))
	}
}

func TestDuplicateAndNullKeys(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {email: email}\non_remove: delete")
	p.exec("INSERT INTO raw.people VALUES (1, 'a', 'x', 1), (2, 'b', 'x', 1), (3, 'b', 'y', 2), (4, NULL, 'z', 1)")
	rep := p.must(2)
	if rep.Requests != 0 || !strings.Contains(rep.Error.Message, "1 key stands in 2 rows") {
		t.Fatalf("duplicates: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id = 3")
	if rep = p.must(3); rep.Delivered.Add != 2 || rep.Rejected.Add != 1 {
		t.Fatalf("a NULL key: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (5, 'b', 'x', 1)") // the same values: only the counts betray it
	if rep = p.must(2); rep.Requests != 0 {
		t.Fatalf("a duplicate that equals: %s", canonical(rep))
	}
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "on_remove: delete", "on_remove: delete\n    on_duplicate_key: reject\n    null_key: skip", 1))
	rep = p.must(3)
	if rep.Rejected.Total() != 2 || rep.Requests != 0 || rep.Skipped.Reasons["null_key"] != 1 {
		t.Fatalf("reject: %s", canonical(rep))
	}
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "on_duplicate_key: reject", `on_duplicate_key: {keep: first, order_by: "id desc"}`, 1))
	p.exec("UPDATE raw.people SET name = 'kept' WHERE id = 5")
	rep = p.must(0)
	if rep.Skipped.Reasons["duplicate_key"] != 1 || rep.Delivered.Update != 1 {
		t.Fatalf("keep first: %s", canonical(rep))
	}
	store, _, _ := r.state()
	if store[`{"email":"b"}`]["name"] != "kept" {
		t.Fatalf("the destination holds %v", store)
	}
}

func TestMappingChanges(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, CASE WHEN i < 30 THEN 'n' END, i FROM range(100) t(i)")
	p.must(0)
	yaml := p.read("dray.yaml")
	p.write("dray.yaml", strings.Replace(yaml, "name: name,", "", 1)) // dropped: nothing is sent
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 100 {
		t.Fatalf("a dropped field: %s", canonical(rep))
	}
	p.write("dray.yaml", yaml) // back within 30 days: its acknowledged values are still known
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("a field that came back: %s", canonical(rep))
	}
	p.write("dray.yaml", strings.Replace(yaml, "name: name,", "name: name, other: name,", 1)) // added: only rows that have a value
	if rep := p.must(0); rep.Delivered.Update != 30 {
		t.Fatalf("an added field: %s", canonical(rep))
	}
	p.exec("ALTER TABLE raw.people ALTER n TYPE BIGINT") // the same values in another type
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 100 {
		t.Fatalf("another type: %s", canonical(rep))
	}
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "key: {id: id}", "key: {email: email}", 1))
	rep := p.must(4)
	if rep.Requests != 0 || !strings.HasPrefix(rep.Allow, "mapping=") {
		t.Fatalf("another key: %s", canonical(rep))
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	r, other := newReceiver(t), newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(5) t(i)")
	p.must(0)
	p.write("dray.yaml", strings.ReplaceAll(p.read("dray.yaml"), r.URL, other.URL))
	rep := p.must(4)
	if rep.Requests != 0 || rep.Error.Code != "binding.changed" {
		t.Fatalf("another account: %s", canonical(rep))
	}
	do := func(f func(*run.Session) (run.Change, error)) {
		t.Helper()
		s := p.open()
		defer s.Close()
		if _, err := f(s); err != nil {
			t.Fatal(err)
		}
	}
	do(func(s *run.Session) (run.Change, error) { return s.Move(t.Context(), "people") })
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 5 {
		t.Fatalf("moved: %s", canonical(rep))
	}
	do(func(s *run.Session) (run.Change, error) { return s.Reset(t.Context(), "people") })
	if rep := p.must(0); rep.Delivered.Add != 5 {
		t.Fatalf("reset: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (9, 'e', 'n', 9)", "DELETE FROM raw.people WHERE id = 1")
	do(func(s *run.Session) (run.Change, error) { return s.Adopt(t.Context(), "people") })
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 5 {
		t.Fatalf("adopted: %s", canonical(rep))
	}
	p.exec("DROP TABLE dray.snapshot_people") // lost: never taken for a first run
	rep = p.must(0)
	if rep.Delivered.Add != 5 {
		t.Fatalf("a lost snapshot: %s", canonical(rep))
	}
	do(func(s *run.Session) (run.Change, error) { return s.Retire(t.Context(), "people", true) })
	if store, _, _ := other.state(); len(store) != 1 { // row 1 was adopted away, so nobody knows it
		t.Fatalf("retired: %v", store)
	}
}

func TestSpecialFields(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "fields: {email: email, name: name, n: n}",
		"fields: {email: {column: email, nulls: omit}, name: {column: name, trigger: false}, n: {column: n, tolerance: 5}, first: {column: name, write: on_add}}", 1))
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(20) t(i)")
	p.must(0)
	for _, quiet := range []string{
		"UPDATE raw.people SET email = NULL WHERE id = 1", // omitted: no effective change
		"UPDATE raw.people SET name = 'other' WHERE id = 2",
		"UPDATE raw.people SET n = n + 5 WHERE id = 3",
	} {
		p.exec(quiet)
		if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 20 {
			t.Fatalf("%s: %s", quiet, canonical(rep))
		}
	}
	p.exec("UPDATE raw.people SET n = n + 1 WHERE id = 3") // 6 beyond the acknowledged value
	if rep := p.must(0); rep.Delivered.Update != 1 {
		t.Fatalf("beyond the tolerance: %s", canonical(rep))
	}
	p.must(0)
}

// A remove's dedupe id names the row that was there: a receiver that drops what it has seen must not drop a later remove.
func TestDedupeIDsOfRemoves(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {allow_empty: true, max_removes: 100%}")
	for n := range 2 {
		p.exec(fmt.Sprintf("INSERT INTO raw.people VALUES (1, 'a@example.com', 'a', %d)", n))
		p.must(0)
		p.exec("DELETE FROM raw.people")
		p.must(0)
	}
	if len(r.ids) != 4 {
		t.Errorf("two adds and two removes have the dedupe ids %v", r.ids)
	}
}

// A run that has sent for as long as it may ends partial: what was answered counts, the rest is deferred and sent by the next.
func TestDeadline(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete\ndeadline: 1s")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(60) t(i)")
	r.answer = func(int, *hookBody) verdict {
		time.Sleep(600 * time.Millisecond)
		return verdict{status: 200}
	}
	rep := p.must(3) // 20 requests of 600 ms take longer than a second
	if rep.Status != "partial" || rep.Error != nil || rep.Deferred.Add == 0 || rep.Delivered.Add+rep.Deferred.Add != 60 {
		t.Fatalf("at the deadline: %s", canonical(rep))
	}
	r.answer = nil
	p.write("dray.yaml", strings.ReplaceAll(p.read("dray.yaml"), "deadline: 1s", "deadline: 1h"))
	if next := p.must(0); next.Delivered.Add != rep.Deferred.Add || next.Unchanged != rep.Delivered.Add {
		t.Fatalf("next: %s", canonical(next))
	}
}
