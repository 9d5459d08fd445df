package run_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/run"
)

// A changed mode stops once; approved once, the next changes are ordinary again, and changing back stops again.
func TestChangedModeIsApprovedOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
	p.must(0)
	p.replace("mode: mirror", "mode: upsert")
	p.replace("    on_remove: delete\n", "")
	rep := p.must(4)
	if !strings.HasPrefix(rep.Allow, "mapping=") || rep.Requests != 0 {
		t.Fatalf("changed: %s", canonical(rep))
	}
	if rep := p.must(0, rep.Allow); rep.Requests != 0 || rep.Unchanged != 20 {
		t.Fatalf("approved: %s", canonical(rep))
	}
	p.must(0)
	p.replace("mode: upsert", "mode: mirror\n    on_remove: delete")
	back := p.must(4)
	p.must(0, back.Allow)
	p.replace("mode: mirror", "mode: upsert")
	p.replace("    on_remove: delete\n", "")
	p.must(4) // the first approval was for once
}

// A changed key: what stands there under the old key is removed under it in mirror, never under the new one.
func TestChangedKey(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {mail: email}\non_remove: delete\nguard: {max_removes: 100%}")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(6) t(i)")
	p.must(0)
	p.replace("key: {mail: email}", "key: {id: id}")
	rep := p.must(4)
	rep = p.must(0, rep.Allow)
	store, _, _ := r.state()
	for i := range 6 {
		if store[fmt.Sprintf(`{"id":%d}`, i)] == nil || len(store) != 6 {
			t.Fatalf("the destination holds %v after %s", store, canonical(rep))
		}
	}
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 6 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
}

// Another list is another object: with leave, what was in the old one is removed in mirror mode.
func TestChangedList(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	lists := p.query("SELECT container FROM dray.meta WHERE sync = 'members'")
	p.replace("list: Friends", "list: Buddies")
	reports, err := p.run()
	if err == nil || reports[1].ExitCode != 4 || !strings.HasPrefix(reports[1].Allow, "mapping=") {
		t.Fatalf("%v %s", err, canonical(reports))
	}
	reports, err = p.run(reports[1].Allow)
	if err != nil || reports[1].Delivered.Add != 4 || reports[1].Delivered.Remove != 4 {
		t.Fatalf("%v %s", err, canonical(reports))
	}
	if left := hub.Records("list_members", lists[0]); len(left) != 0 {
		t.Fatalf("the old list holds %v", left)
	}
	if now := p.members(hub); len(now) != 4 {
		t.Fatalf("the new list holds %v", now)
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("quiet: %v %s", err, canonical(reports))
	}
}

// A changed object, planned and approved.
func TestChangedObject(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(30) t(i)")
	p.must(0)
	p.replace("object: people", "object: persons")
	s := p.open()
	plans, err := s.Plan(t.Context(), nil, run.RunOptions{})
	_ = s.Close()
	if err != nil || plans[0].Add != 30 || plans[0].Remove != 30 || plans[0].Guard.Status != "stopped" {
		t.Fatalf("%v %s", err, canonical(plans))
	}
	removed := 0
	r.answer = func(_ int, b *hookBody) verdict {
		for _, c := range b.Changes {
			if c.Operation == "remove" && b.Object == "people" {
				removed++
			}
		}
		return verdict{status: 200}
	}
	p.must(4)
	if rep := p.must(0, plans[0].Guard.Allow); rep.Delivered.Add != 30 || rep.Delivered.Remove != 30 || removed != 30 {
		t.Fatalf("%d removed from the old object: %s", removed, canonical(rep))
	}
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
}

func TestFieldsComeAndGo(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{email: email, n: n}", "mode: mirror\nkey: {id: id}\non_remove: delete\nguard: {max_changes: 50%, floor: 0}")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(8) t(i)")
	p.must(0)
	p.remap("{n: n}") // dropped: nothing is sent, the column is kept
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 8 {
		t.Fatalf("dropped: %s", canonical(rep))
	}
	if got := p.query("SELECT email FROM dray.snapshot_people WHERE dest_key = 3"); got[0] != "e3" {
		t.Fatalf("the column of a dropped field: %v", got)
	}
	p.remap("{email: email, n: n}") // mapped again within 30 days: what is acknowledged is still known
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("mapped again: %s", canonical(rep))
	}
	p.remap("{email: email, n: n, name: name}") // added: ordinary differences under max_changes
	rep := p.must(4)
	if !strings.HasPrefix(rep.Allow, "changes=") {
		t.Fatalf("added: %s", canonical(rep))
	}
	if rep := p.must(0, rep.Allow); rep.Delivered.Update != 8 {
		t.Fatalf("added and approved: %s", canonical(rep))
	}
	p.exec("ALTER TABLE raw.people ALTER n TYPE BIGINT") // a type: hashed again, nothing is sent
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 8 {
		t.Fatalf("another type: %s", canonical(rep))
	}
	p.exec("ALTER TABLE raw.people ALTER id TYPE INTEGER") // of the key too
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 8 {
		t.Fatalf("another type of the key: %s", canonical(rep))
	}
	p.exec("ALTER TABLE raw.people ALTER id TYPE VARCHAR")
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 8 {
		t.Fatalf("the key became text: %s", canonical(rep))
	}
	clock := time.Now()
	p.remap("{n: n, name: name}")
	p.must(0)
	p.now = func() time.Time { return clock.Add(31 * 24 * time.Hour) }
	p.remap("{n: n}")
	p.must(0)
	if got := p.query("SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'snapshot_people'"); strings.Contains(got[0], "email") || !strings.Contains(got[0], "name") {
		t.Fatalf("columns after 31 days: %v", got)
	}
}

// What Dray did not create stays when a sync is retired with --remove, and the sync ends all the same.
func TestRetireLeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	p.replace("    on_remove: delete\n    guard: {max_removes: 100%}", "    on_remove: delete\n    guard: {max_removes: 100%, floor: 0}")
	p.exec("DELETE FROM raw.people WHERE id > 2")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE dray.snapshot_contacts SET origin = 'matched' WHERE dest_key = 'u1@example.com'")
	s := p.open()
	change, err := s.Retire(t.Context(), "contacts", true)
	if err != nil || change.Run == nil || change.Run.Delivered.Remove != 2 || change.Run.Held.Remove != 1 {
		t.Fatalf("%v %s", err, canonical(change))
	}
	_ = s.Close()
	if got := hub.Records("contacts", ""); len(got) != 1 {
		t.Fatalf("the destination holds %v", got)
	}
	if got := p.query("SELECT count(*) FROM dray.meta WHERE sync = 'contacts'"); got[0] != "0" {
		t.Fatalf("meta has %v rows of a retired sync", got)
	}
}

// Rows that are refused before they are sent show up under errors with their reason.
func TestErrorsOfUnsendableRows(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {email: email}\non_remove: delete\non_duplicate_key: reject")
	p.exec("INSERT INTO raw.people VALUES (1, NULL, 'n', 1), (2, NULL, 'n', 1), (3, 'a', 'n', 1), (4, 'a', 'n', 1), (5, 'b', 'n', 1)")
	rep := p.must(3)
	if rep.Rejected.Add != 4 || rep.Delivered.Add != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	s := p.open()
	defer s.Close()
	groups, err := s.Errors(t.Context(), "people", false)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, g := range groups {
		got[g.Code] = g.Rows
	}
	if got["null_key"] != 2 || got["duplicate_key"] != 2 {
		t.Fatalf("errors: %s", canonical(groups))
	}
}

func TestOnUncertainSkip(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {id: id}\non_uncertain: skip")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	r.answer = func(int, *hookBody) verdict { return verdict{drop: true} }
	_, _ = p.run()
	_, requests, _ := r.state()
	r.answer = nil
	if rep := p.must(0); requests != 1 || rep.Requests != 0 || rep.Unchanged != 1 {
		t.Fatalf("%d requests, then %s", requests, canonical(rep))
	}
}

func TestParkedAndRetry(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.replace("retry: {attempts: 2}", "retry: {attempts: 2, give_up_after: 2d}")
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return clock }
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1), (2, 'e', 'n', 1)")
	r.answer = func(_ int, b *hookBody) verdict {
		var results []string
		for _, c := range b.Changes {
			s := `{"status":"delivered"}`
			if canonical(c.Key) == `{"id":1}` {
				s = `{"status":"rejected","code":"bad","message":"no"}`
			}
			results = append(results, s)
		}
		return verdict{status: 200, body: `{"results":[` + strings.Join(results, ",") + `]}`, apply: func(int) bool { return false }}
	}
	if rep := p.must(3); rep.Rejected.Add != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	if rep := p.must(3); rep.Deferred.Add != 1 || rep.Requests != 0 {
		t.Fatalf("waits: %s", canonical(rep))
	}
	p.exec("UPDATE raw.people SET n = 2 WHERE id = 1") // a changed row goes at once
	if rep := p.must(3); rep.Rejected.Add != 1 || rep.Requests == 0 {
		t.Fatalf("changed: %s", canonical(rep))
	}
	clock = clock.Add(49 * time.Hour)
	if rep := p.must(3); rep.Rejected.Add != 1 {
		t.Fatalf("the last try: %s", canonical(rep))
	}
	clock = clock.Add(49 * time.Hour)
	if rep := p.must(0); rep.Parked.Add != 1 || rep.Requests != 0 {
		t.Fatalf("parked: %s", canonical(rep))
	}
	s := p.open()
	if n, err := s.Retry(t.Context(), "people"); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	_ = s.Close()
	r.answer = nil
	if rep := p.must(0); rep.Delivered.Add != 1 {
		t.Fatalf("freed: %s", canonical(rep))
	}
}

func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: n}", "mode: mirror\nkey: [{mail: email}, {nick: name}]\non_remove: delete\nnull_key: skip")
	p.exec("INSERT INTO raw.people VALUES (1, 'a', 'x', 1), (2, NULL, 'a', 2), (3, NULL, NULL, 3)")
	rep := p.must(0)
	if rep.Delivered.Add != 2 || rep.Skipped.Reasons["null_key"] != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	store, _, _ := r.state()
	if len(store) != 2 || store[`{"mail":"a"}`] == nil || store[`{"nick":"a"}`] == nil {
		t.Fatalf("the destination holds %v", store)
	}
	p.exec("UPDATE raw.people SET email = NULL WHERE id = 1", "DELETE FROM raw.people WHERE id = 2") // another identity is used now
	rep = p.must(0)
	store, _, _ = r.state()
	if len(store) != 1 || store[`{"nick":"x"}`] == nil || rep.Delivered.Remove != 2 {
		t.Fatalf("the destination holds %v after %s", store, canonical(rep))
	}
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
}

func TestCompositeKeysThatLookAlike(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: n}", "mode: mirror\nkey: {a: email, b: name}\non_remove: delete")
	p.exec("INSERT INTO raw.people VALUES (1, 'a', 'bc', 1), (2, 'ab', 'c', 2), (3, 'a,b', 'c', 3), (4, 'a', 'b,c', 4), (5, 'a\"', ',\"c', 5), (6, '', 'x', 6), (7, 'x', '', 7), (8, NULL, 'x', 8)")
	rep := p.must(3)
	if rep.Delivered.Add != 7 || rep.Rejected.Add != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id <> 1")
	rep = p.must(0)
	if store, _, _ := r.state(); len(store) != 1 || rep.Delivered.Remove != 6 {
		t.Fatalf("the destination holds %v after %s", store, canonical(rep))
	}
}

// Removes that are sets, clears or actions are removes of their own kind; what is ignored stays, and is counted.
func TestOnRemoveActs(t *testing.T) {
	t.Parallel()
	for act, want := range map[string]string{
		"ignore": "", "clear": "remove", "{set: {n: 0}}": `remove{"n":0}`, "{action: archive}": "remove",
	} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: "+act)
			p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i + 5 FROM range(20) t(i)")
			p.must(0)
			seen := ""
			r.answer = func(_ int, b *hookBody) verdict {
				for _, c := range b.Changes {
					seen += c.Operation
					if strings.HasPrefix(act, "{set") {
						seen += canonical(c.Fields)
					}
				}
				return verdict{status: 200}
			}
			p.exec("DELETE FROM raw.people WHERE id = 4")
			rep := p.must(0)
			if seen != want {
				t.Fatalf("sent %q, want %q", seen, want)
			}
			if act == "ignore" && (rep.Skipped.Remove != 1 || rep.Skipped.Reasons["ignored_on_remove"] != 1) {
				t.Fatalf("%s", canonical(rep))
			}
			p.exec("INSERT INTO raw.people VALUES (4, 'e', 'n', 9)")
			p.must(0)
		})
	}
}

// --resume goes on where a backfill stopped, with the rows that the backfill meant.
func TestResume(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(12) t(i)")
	p.must(0)
	n := 0
	r.answer = func(int, *hookBody) verdict {
		if n++; n > 1 {
			return verdict{status: 429, apply: func(int) bool { return false }}
		}
		return verdict{status: 200}
	}
	s := p.open()
	first, err := s.Backfill(t.Context(), "people", run.Backfill{Where: "id < 9"}, run.RunOptions{})
	_ = s.Close()
	if err != nil || first.ExitCode != 3 || first.Delivered.Update != 3 || first.Deferred.Update != 6 {
		t.Fatalf("%v %s", err, canonical(first))
	}
	if err := first.Check(); err != nil {
		t.Fatal(err)
	}
	r.answer = nil
	if rep := p.backfill(run.Backfill{Resume: first.RunID}); rep.Delivered.Update != 6 || rep.Rows != 6 {
		t.Fatalf("resumed: %s", canonical(rep))
	}
}
