package run_test

import (
	"strings"
	"testing"

	"github.com/dray-dev/dray/sync/run"
)

func consenting(t *testing.T, r *receiver, sync string) *project {
	p := hookProject(t, r, sync+"\nconsent: ok")
	p.replace("settle: 0s", "settle: 0s, purpose: email")
	p.exec("ALTER TABLE raw.people ADD COLUMN ok BOOLEAN")
	return p
}

// What does not consent is not sent; what does not any more is taken back in every mode, whatever the guards say.
func TestConsent(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"upsert", "update", "insert", "mirror\non_remove: ignore", "mirror\non_remove: {set: {n: 0}}"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := consenting(t, r, "mode: "+mode+"\nkey: {email: email}\nguard: {floor: 0, max_removes: 1%}")
			p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i, i <> 3 FROM range(10) t(i)", "UPDATE raw.people SET ok = NULL WHERE id = 4")
			if rep := p.must(0); rep.Rows != 8 || rep.Delivered.Add != 8 {
				t.Fatalf("first run: %s", canonical(rep))
			}
			p.exec("UPDATE raw.people SET ok = false WHERE id IN (5, 6)")
			plans, err := func() (string, error) {
				s := p.open()
				defer s.Close()
				plans, err := s.Plan(t.Context(), nil, run.RunOptions{})
				return canonical(plans), err
			}()
			if err != nil || !strings.Contains(plans, `"consent":{"purpose":"email","condition":"ok is true","act":"delete","withdrawn":2}`) {
				t.Fatalf("the plan does not tell: %s %v", plans, err)
			}
			rep := p.must(0)
			if rep.Delivered.Remove != 2 || rep.Held.Remove != 0 || rep.Unchanged != 6 || rep.Rows != 6 {
				t.Fatalf("withdrawn: %s", canonical(rep))
			}
			store, _, _ := r.state()
			if _, there := store[`{"email":"e5"}`]; there || len(store) != 6 {
				t.Fatalf("the destination has %v", store)
			}
			if rep := p.must(0); rep.Planned.Total() != 0 {
				t.Fatalf("nothing is left to do: %s", canonical(rep))
			}
			if got := p.query("SELECT count(*) FROM dray.deliveries WHERE operation = 'remove' AND code = 'consent'"); got[0] != "2" {
				t.Errorf("deliveries tell of %v withdrawals", got)
			}
		})
	}
}

// A guard that stops the rest does not keep withdrawn consent waiting.
func TestConsentBesideAStop(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := consenting(t, r, "mode: upsert\nkey: {id: id}\nguard: {floor: 0, max_changes: 10%}")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i, true FROM range(10) t(i)")
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1", "UPDATE raw.people SET ok = false WHERE id = 1", "DELETE FROM raw.people WHERE id = 2")
	rep := p.must(4)
	if rep.Delivered.Remove != 1 || rep.Held.Update != 8 || rep.Delivered.Update != 0 || len(rep.Reasons) == 0 || rep.Forgotten != 0 {
		t.Fatalf("%s", canonical(rep))
	}
	if store, _, _ := r.state(); len(store) != 9 {
		t.Fatalf("the destination has %v", store)
	}
}

// An owed insert whose person withdraws is dropped.
func TestConsentOfOwedInsert(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := consenting(t, r, "mode: insert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1, true)")
	r.answer = func(int, *hookBody) verdict { return verdict{apply: func(int) bool { return false }, status: 503} }
	_, _ = p.run()
	r.answer = nil
	r.state()
	p.exec("UPDATE raw.people SET ok = false")
	if rep := p.must(0); rep.Skipped.Reasons["consent"] != 1 || rep.Requests != 0 {
		t.Fatalf("%s", canonical(rep))
	}
	if got := p.query("SELECT count(*) FROM dray.pending_people"); got[0] != "0" {
		t.Fatalf("the owed row stayed: %v", got)
	}
}

// profiles has customers with a consent trait, a segment that asks for the same, and devices.
func profiles(t *testing.T, r *receiver, sync string) *project {
	p := newProject(t, `
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources:
  - {name: raw, schema: raw, tables: [{name: people}]}
models:
  - {name: people, primary_key: id, sql: "select * from {{ source('raw', 'people') }}"}
entities:
  - name: customer
    identifiers: [{name: email, normalize: email}, {name: device}]
    inputs: [{name: people, from: ref('people'), identifiers: {email: email, device: device}, at: seen}]
    traits:
      - {name: ads, pick: most_recent, from: [people.ads]}
    consent: {advertising: ads}
segments:
  - {name: all_ads, entity: customer, where: {trait: ads, eq: true}}
destinations:
  - {name: hook, type: webhook, url: "`+r.URL+`", settle: 0s, purpose: advertising}
syncs:
  - name: people
    destination: hook
    object: people
    `+strings.ReplaceAll(sync, "\n", "\n    ")+"\n", nil)
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.people (id BIGINT, email VARCHAR, device VARCHAR, ads BOOLEAN, seen TIMESTAMP)",
		"INSERT INTO raw.people VALUES (1, 'a@x.dk', 'd1', true, '2026-01-01'), (2, 'a@x.dk', 'd2', true, '2026-01-02'), (3, 'b@x.dk', 'd3', true, '2026-01-01'), (4, 'c@x.dk', 'd4', false, '2026-01-01'), (5, 'e@x.dk', NULL, true, '2026-01-01')")
	return p
}

// Whoever leaves a segment because consent was withdrawn is taken back, although a guard would hold a remove and upsert has none.
func TestConsentOfProfiles(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"segment: all_ads", "entity: customer"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := profiles(t, r, of+"\nmode: upsert\nkey: {email: email}\nguard: {floor: 0, max_removes: 0%}")
			if rep := p.must(0); rep.Rows != 3 || rep.Delivered.Add != 3 {
				t.Fatalf("%s", canonical(rep))
			}
			p.exec("INSERT INTO raw.people VALUES (6, 'b@x.dk', NULL, false, '2026-02-01')")
			if rep := p.must(0); rep.Delivered.Remove != 1 || rep.Rows != 2 {
				t.Fatalf("withdrawn: %s", canonical(rep))
			}
			if store, _, _ := r.state(); len(store) != 2 || store[`{"email":"b@x.dk"}`] != nil {
				t.Fatalf("the destination has %v", store)
			}
		})
	}
}

// One row a value of an identifier; a profile is held out with all of its values.
func TestExpand(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := profiles(t, r, "segment: all_ads\nmode: mirror\non_remove: delete\nexpand: device\nkey: {device: device}\nfields: {email: email}")
	if rep := p.must(0); rep.Rows != 3 {
		t.Fatalf("%s", canonical(rep))
	}
	store, _, _ := r.state()
	if len(store) != 3 || store[`{"device":"d1"}`]["email"] != "a@x.dk" || store[`{"device":"d2"}`]["email"] != "a@x.dk" {
		t.Fatalf("the destination has %v", store)
	}
	p.exec("DELETE FROM raw.people WHERE id = 3", "INSERT INTO raw.people VALUES (7, 'a@x.dk', 'd7', true, '2026-01-03')")
	if rep := p.must(0); rep.Delivered.Add != 1 || rep.Delivered.Remove != 1 {
		t.Fatalf("a device more and one fewer: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES (8, 'a@x.dk', NULL, false, '2026-02-03')")
	if rep := p.must(0); rep.Delivered.Remove != 3 || rep.Rows != 0 {
		t.Fatalf("consent withdrawn: %s", canonical(rep))
	}
}
