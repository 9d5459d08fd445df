package run_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/sync/run"
)

func TestEventsTooOldAndExpired(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{n: n}", "mode: insert\nkey: {mail: email}\nevent: {id: id, at: happened, max_age: 7d}\non_expired: drop")
	clock := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return clock }
	p.exec("ALTER TABLE raw.people ADD COLUMN happened TIMESTAMP",
		"INSERT INTO raw.people VALUES (1, 'a', 'n', 1, '2026-02-28'), (2, 'a', 'n', 2, '2026-02-28'), (3, 'a', 'n', 3, '2026-02-01'), (4, NULL, 'n', 4, '2026-02-28')")
	r.answer = func(_ int, b *hookBody) verdict { // event 2 is refused
		var results []string
		for _, c := range b.Changes {
			s := `{"status":"delivered"}`
			if canonical(c.Fields) == `{"n":2}` {
				s = `{"status":"rejected","code":"no"}`
			}
			results = append(results, s)
		}
		return verdict{status: 200, body: `{"results":[` + strings.Join(results, ",") + `]}`}
	}
	rep := p.must(3)
	if rep.Delivered.Add != 1 || rep.Rejected.Add != 2 || rep.Skipped.Reasons["too_old"] != 1 || rep.Rows != 4 {
		t.Fatalf("first: %s", canonical(rep))
	}
	r.answer = nil
	p.exec("DELETE FROM raw.people WHERE id = 2") // owed, and dropped because it left
	rep = p.must(3)
	if rep.Delivered.Add != 0 || rep.Skipped.Reasons["expired"] != 1 {
		t.Fatalf("expired: %s", canonical(rep))
	}
	rep = p.must(3)
	if rep.Skipped.Reasons["expired"] != 0 || rep.Rows != 3 {
		t.Fatalf("after: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (9, 'a', 'n', 1, '2026-02-28'), (9, 'b', 'n', 1, '2026-02-28')") // an event id in two rows
	if rep = p.must(2); rep.Requests != 0 {
		t.Fatalf("doubled event id: %s", canonical(rep))
	}
}

// A delete looks into the snapshots of other syncs on the same object: what they deliver stays.
func TestOthersDeliverItToo(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.write("more.yaml", `
syncs:
  - {name: second, model: people, where: n < 3, destination: hook, object: people, mode: mirror, key: {id: id}, fields: {extra: name}, on_remove: delete}
`)
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(6) t(i)")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE raw.people SET n = 9 WHERE id = 1", "DELETE FROM raw.people WHERE id = 5")
	reports, err := p.run()
	if err != nil {
		t.Fatal(err)
	}
	for _, rep := range reports {
		if rep.Sync == "second" && (rep.Held.Remove != 1 || rep.Delivered.Remove != 0 || rep.ExitCode != 4) {
			t.Fatalf("second: %s", canonical(rep))
		}
		if rep.Sync == "people" && rep.Delivered.Remove != 1 {
			t.Fatalf("people: %s", canonical(rep))
		}
	}
	if store, _, _ := r.state(); store[`{"id":1}`] == nil || store[`{"id":5}`] != nil {
		t.Fatalf("the destination holds %v", store)
	}
}

// An interrupted run counts what it did and defers the rest; the next one goes on.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(30) t(i)")
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	r.answer = func(int, *hookBody) verdict {
		if n++; n == 4 {
			cancel()
		}
		return verdict{status: 200}
	}
	s := p.open()
	reports, _ := s.Run(ctx, nil, run.RunOptions{})
	_ = s.Close()
	rep := reports[0]
	if rep.ExitCode != 130 || rep.Status != "interrupted" || rep.Delivered.Add < 12 || rep.Delivered.Add+rep.Deferred.Add != 30 || rep.Check() != nil {
		t.Fatalf("interrupted: %s", canonical(rep))
	}
	r.answer = nil
	if next := p.must(0); next.Delivered.Add != 30-rep.Delivered.Add || next.Unchanged != rep.Delivered.Add {
		t.Fatalf("next: %s", canonical(next))
	}
}

// --full in mirror mode also removes what left, and a backfill obeys the guard of removes.
func TestFullBackfill(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(40) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 5", "UPDATE raw.people SET n = 0 WHERE id = 6", "INSERT INTO raw.people VALUES (50, 'e', 'n', 1)")
	rep := p.backfill(run.Backfill{Full: true})
	if rep.Delivered.Add != 1 || rep.Delivered.Update != 35 || rep.Delivered.Remove != 5 || rep.Rows != 36 {
		t.Fatalf("%s", canonical(rep))
	}
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 36 {
		t.Fatalf("quiet: %s", canonical(rep))
	}
	p.exec("DELETE FROM raw.people WHERE id < 20")
	if rep := p.backfill(run.Backfill{Full: true}); rep.Held.Remove != 15 || rep.Delivered.Update != 21 || rep.ExitCode != 4 {
		t.Fatalf("held: %s", canonical(rep))
	}
	if rep := p.backfill(run.Backfill{Where: "id = 30", Limit: 5}); rep.Rows != 1 || rep.Delivered.Update != 1 {
		t.Fatalf("where: %s", canonical(rep))
	}
	if rep := p.backfill(run.Backfill{Limit: 5}); rep.Rows != 5 || rep.Delivered.Update != 5 {
		t.Fatalf("limit: %s", canonical(rep))
	}
}

// Arrays are compared sorted, JSON by value.
func TestValuesThatAreTheSame(t *testing.T) {
	t.Parallel()
	if conformance.Carried() != "" {
		t.Skip("DuckDB keeps the keys of JSON objects in their order, BigQuery does not")
	}
	r := newReceiver(t)
	p := fielded(t, r, "{tags: tags, doc: doc, steps: {column: tags, ordered: true, trigger: false}}", "mode: upsert\nkey: {id: id}")
	p.exec("ALTER TABLE raw.people ADD COLUMN tags VARCHAR[]", "ALTER TABLE raw.people ADD COLUMN doc JSON",
		`INSERT INTO raw.people VALUES (1, 'e', 'n', 1, ARRAY['b', 'a'], '{"x": 1, "y": [1, 2]}')`)
	p.must(0)
	if store, _, _ := r.state(); canonical(store[`{"id":1}`]["tags"]) != `["a","b"]` || canonical(store[`{"id":1}`]["steps"]) != `["b","a"]` {
		t.Fatalf("the destination holds %v", store)
	}
	p.exec(`UPDATE raw.people SET tags = ARRAY['a', 'b'], doc = '{"y":[1,2],"x":1}'`)
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("the same values: %s", canonical(rep))
	}
	p.exec(`UPDATE raw.people SET doc = '{"y":[2,1],"x":1}'`)
	if rep := p.must(0); rep.Delivered.Update != 1 {
		t.Fatalf("another value: %s", canonical(rep))
	}
}
