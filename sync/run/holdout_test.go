package run_test

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/report"
)

// control tells, by the documented rule alone, whether a share of a seed holds a value out: the first half of an MD5's first half.
func control(seed, value string, share float64) bool {
	sum := md5.Sum([]byte(seed + "/" + value))
	return float64(binary.BigEndian.Uint32(sum[:4])) < share*(1<<32)
}

// The control group is the same whatever the sync is called, is never sent, and is recorded with the time it entered.
func TestHoldout(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"upsert", "update", "mirror\non_remove: delete", "insert"} {
		t.Run(strings.Fields(mode)[0], func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: "+mode+"\nkey: {id: id}\nholdout: {share: 30%, seed: spring}")
			p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(40) t(i)")
			var out int64
			for i := range 40 {
				if control("spring", fmt.Sprint(i), 0.3) {
					out++
				}
			}
			if out == 0 || out == 40 {
				t.Fatalf("%d of 40 held out: the case shows nothing", out)
			}
			rep := p.must(0)
			if rep.HeldOut != out || rep.Rows != 40 || rep.Delivered.Add != 40-out {
				t.Fatalf("want %d held out: %s", out, canonical(rep))
			}
			store, _, _ := r.state()
			for i := range 40 {
				if _, there := store[canonical(map[string]any{"id": i})]; there == control("spring", fmt.Sprint(i), 0.3) {
					t.Errorf("row %d is there: %t", i, there)
				}
			}
			if rep = p.must(0); rep.Unchanged != 40-out || rep.HeldOut != out || rep.Requests != 0 {
				t.Fatalf("a second run: %s", canonical(rep))
			}
			recorded := p.query("SELECT count(*) || ' ' || count(entered_at) || ' ' || count(left_at) || ' ' || count(contaminated_at) || ' ' || min(seed) FROM dray.holdout_people")
			if want := fmt.Sprintf("%d %d 0 0 spring", out, out); recorded[0] != want {
				t.Errorf("recorded %s, want %s", recorded[0], want)
			}
		})
	}
}

// A row that was sent and enters the control group is removed in mirror mode, under the guard; elsewhere it stays and is marked.
func TestHoldoutOfRowsThatWereSent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, mode string }{{"mirror", "mirror\non_remove: delete"}, {"upsert", "upsert"}, {"insert", "insert\nremember: 1h"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: "+c.mode+"\nkey: {id: id}\nguard: {floor: 0, max_removes: 5%}")
			p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
			p.must(0)
			p.replace("guard:", "holdout: {column: control}\n    guard:")
			p.exec("ALTER TABLE raw.people ADD COLUMN control BOOLEAN", "UPDATE raw.people SET control = id < 4")
			if c.name == "mirror" {
				if rep := p.must(4); rep.Held.Remove != 4 || rep.HeldOut != 4 || rep.Unchanged != 16 {
					t.Fatalf("removes beyond the guard: %s", canonical(rep))
				}
				if got := p.query("SELECT count(*) FROM dray.holdout_people WHERE contaminated_at IS NOT NULL"); got[0] != "4" {
					t.Errorf("held removes leave the records there: %v are marked", got)
				}
				p.replace("max_removes: 5%", "max_removes: 50%")
				if rep := p.must(0); rep.Delivered.Remove != 4 || rep.HeldOut != 4 {
					t.Fatalf("removes: %s", canonical(rep))
				}
			} else if rep := p.must(0); rep.HeldOut != 4 || rep.Unchanged != 16 || rep.Forgotten != 0 || rep.Requests != 0 {
				t.Fatalf("held out: %s", canonical(rep))
			} else if got := p.query("SELECT count(*) FROM dray.holdout_people WHERE contaminated_at IS NOT NULL"); got[0] != "4" {
				t.Errorf("%v are marked contaminated, want 4", got)
			}
			// What leaves the group again is an ordinary row.
			then := time.Now().Add(3 * time.Hour)
			p.now = func() time.Time { return then }
			p.exec("UPDATE raw.people SET control = false, n = n + 1 WHERE id = 1")
			rep := p.must(0)
			want := map[string]report.Counts{"mirror": {Add: 1}, "upsert": {Update: 1}, "insert": {}}[c.name]
			if rep.Delivered != want || rep.HeldOut != 3 {
				t.Fatalf("out of the group, want %v: %s", want, canonical(rep))
			}
			if got := p.query("SELECT primary_key FROM dray.holdout_people WHERE left_at IS NOT NULL"); len(got) != 1 || got[0] != "1" {
				t.Errorf("who left the group: %v", got)
			}
		})
	}
}

// An insert that is owed is not sent any more once its row is held out, and is not lost either.
func TestHoldoutOfOwedInsert(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {id: id}\nholdout: {column: control}")
	p.exec("ALTER TABLE raw.people ADD COLUMN control BOOLEAN", "INSERT INTO raw.people VALUES (1, 'e', 'n', 1, false)")
	r.answer = func(int, *hookBody) verdict { return verdict{apply: func(int) bool { return false }, status: 503} }
	_, _ = p.run()
	r.answer = nil
	r.state()
	p.exec("UPDATE raw.people SET control = true")
	if rep := p.must(0); rep.HeldOut != 1 || rep.Requests != 0 {
		t.Fatalf("held out while owed: %s", canonical(rep))
	}
	p.exec("UPDATE raw.people SET control = false")
	if rep := p.must(0); rep.Delivered.Add != 1 {
		t.Fatalf("out of the group: %s", canonical(rep))
	}
}

// Two rows of one destination key, one of them held out: the other keeps the record.
func TestHoldoutBesideAnotherRowOfTheKey(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\non_remove: delete\nkey: {email: email}\nholdout: {column: control}")
	p.exec("ALTER TABLE raw.people ADD COLUMN control BOOLEAN", "INSERT INTO raw.people VALUES (1, 'a', 'n', 1, false), (2, 'a', 'n', 1, true), (3, 'b', 'n', 1, false)")
	p.must(0)
	if rep := p.must(0); rep.Planned.Total() != 0 || rep.HeldOut != 1 {
		t.Fatalf("a second run: %s", canonical(rep))
	}
}

// Rows are sent again for their age: spread over the last third of the time, all fields, counted apart, and no guard minds.
func TestRefresh(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"id: id", "email: email"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\non_remove: delete\nkey: {"+key+"}\nrefresh: 30 days\nguard: {max_changes: 1%, floor: 0}")
			start := time.Now()
			p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(300) t(i)")
			p.must(0)
			r.state()
			at := func(days int) report.Run {
				now := start.Add(time.Duration(days) * 24 * time.Hour)
				p.now = func() time.Time { return now }
				return p.must(0)
			}
			if rep := at(19); rep.Refreshed != 0 || rep.Unchanged != 300 {
				t.Fatalf("after 19 days: %s", canonical(rep))
			}
			some := at(25)
			if some.Refreshed < 75 || some.Refreshed > 225 || some.Delivered.Update != some.Refreshed || some.Unchanged != 300-some.Refreshed {
				t.Fatalf("after 25 days, half way through the spread: %s", canonical(some))
			}
			if store, _, changes := r.state(); int64(changes) != some.Refreshed || len(store) != 300 {
				t.Fatalf("%d changes arrived", changes)
			}
			if rep := at(25); rep.Refreshed != 0 {
				t.Fatalf("the same day again: %s", canonical(rep))
			}
			if rep := at(31); rep.Refreshed != 300-some.Refreshed {
				t.Fatalf("after 31 days the rest: %s", canonical(rep))
			}
		})
	}
}

// A refresh that is refused is not counted as one, and waits like any other row.
func TestRefreshRefused(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: {column: n, tolerance: 5}}", "mode: upsert\nkey: {id: id}\nrefresh: 1d")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(4) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1") // within the tolerance: no difference
	later := time.Now().Add(25 * time.Hour)
	p.now = func() time.Time { return later }
	r.answer = func(_ int, b *hookBody) verdict {
		var parts []string
		for _, c := range b.Changes {
			status := "delivered"
			if fmt.Sprint(c.Key["id"]) == "2" {
				status = "rejected"
			}
			parts = append(parts, fmt.Sprintf(`{"status": %q, "code": "no"}`, status))
		}
		return verdict{status: 200, body: `{"results":[` + strings.Join(parts, ",") + `]}`}
	}
	if rep := p.must(3); rep.Refreshed != 3 || rep.Delivered.Update != 3 || rep.Rejected.Update != 1 {
		t.Fatalf("one refused: %s", canonical(rep))
	}
	if rep := p.must(3); rep.Deferred.Update != 1 || rep.Refreshed != 0 {
		t.Fatalf("it waits: %s", canonical(rep))
	}
}
