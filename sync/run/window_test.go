package run_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/run"
)

// A run that is killed after its removes has used up the guard's window all the same.
func TestKilledRemovesCountInTheWindow(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(100) t(i)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id < 8")
	killedAfterRequest(t, p, r)
	p.leaseEnds()
	p.exec("DELETE FROM raw.people WHERE id < 16") // 8 more: over the floor of 10 in one window
	if rep := p.must(4); rep.Held.Remove != 8 || rep.Delivered.Remove != 0 {
		t.Fatalf("after the kill: %s", canonical(rep))
	}
	if got := p.query("SELECT status || removed FROM dray.runs WHERE status = 'interrupted'"); len(got) != 1 || got[0] != "interrupted8" {
		t.Fatalf("the killed run's end: %v", got)
	}
}

// killedAfterRequest is the life of one process: its first request is taken and answered, then it dies.
func killedAfterRequest(t *testing.T, p *project, r *receiver) {
	t.Helper()
	w, err := openWarehouse(t.Context(), "duckdb", map[string]any{"path": "w.duckdb"}, p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := &mortal{Warehouse: w, left: -1, died: func() {}}
	r.answer = func(int, *hookBody) verdict { // everything is taken, then the process dies
		m.mu.Lock()
		defer m.mu.Unlock()
		m.left = 1
		return verdict{status: 200}
	}
	defer func() { r.answer = nil }()
	deps := p.deps()
	deps.OpenWarehouse = func(context.Context, string, map[string]any, string) (warehouse.Warehouse, error) { return m, nil }
	s, err := run.Open(t.Context(), deps, p.options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(t.Context(), nil, run.RunOptions{}); err == nil {
		t.Fatal("not killed")
	}
}

// What a guard held in a run that was killed is held in the run that recovers it: nothing is forgotten when the plan is closed, and
// rows that were not to be sent are not taken for rows that may have been, also where the journal is lost.
func TestKilledRunsHeldRowsStayHeld(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sync string
		lost bool // the control state, with the journal
	}{
		"forgotten":                    {"mode: upsert\nkey: {id: id}", false},
		"forgotten, without a journal": {"mode: upsert\nkey: {id: id}", true},
		"removed":                      {"mode: mirror\nkey: {id: id}\non_remove: delete", false},
		"removed, without a journal":   {"mode: mirror\nkey: {id: id}\non_remove: delete", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, c.sync)
			p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(100) t(i)")
			p.must(0)
			p.exec("DELETE FROM raw.people WHERE id < 40", "UPDATE raw.people SET name = 'm' WHERE id >= 90") // the guard lets 10 go
			killedAfterRequest(t, p, r)
			if c.lost {
				if err := os.RemoveAll(filepath.Join(p.dir, ".dray")); err != nil {
					t.Fatal(err)
				}
			}
			p.leaseEnds()
			rep := p.must(4)
			if rep.Delivered.Remove+rep.Forgotten != 0 {
				t.Fatalf("after the kill: %s", canonical(rep))
			}
			if got := p.query("SELECT count(*) FROM dray.snapshot_people WHERE uncertain_until IS NULL AND dest_key < 40"); got[0] != "40" {
				t.Fatalf("%s of the 40 rows that were held stand in the snapshot as they were", got[0])
			}
			if store, _, _ := r.state(); len(store) != 100 {
				t.Fatalf("the destination has %d rows", len(store))
			}
		})
	}
}

// A full backfill of an object that takes changes alone sends every field; fields written on add stay the destination's.
func TestBackfillOfHubSpot(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	p.replace("fields: {firstname: name}", "fields: {firstname: name, lastname: {column: name, write: on_add}}")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	url, _, _ := strings.Cut(strings.SplitN(p.read("dray.yaml"), `base_url: "`, 2)[1], `"`)
	ids := p.query("SELECT remote_id FROM dray.snapshot_contacts")
	inputs := make([]string, len(ids))
	for i, id := range ids { // somebody changes every contact at the vendor
		inputs[i] = `{"id":"` + id + `","properties":{"firstname":"spoilt","lastname":"theirs"}}`
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/crm/v3/objects/contacts/batch/update",
		strings.NewReader(`{"inputs":[`+strings.Join(inputs, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer pat-secret")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("spoiling the contacts: %s", res.Status)
	}
	s := p.open()
	defer s.Close()
	rep, err := s.Backfill(t.Context(), "contacts", run.Backfill{Full: true}, run.RunOptions{})
	if err != nil || rep.Delivered.Update != 10 {
		t.Fatalf("%v %s", err, canonical(rep))
	}
	for key, rec := range hub.Records("contacts", "") {
		if rec["firstname"] == "spoilt" || rec["lastname"] != "theirs" {
			t.Fatalf("%s is %v", key, rec)
		}
	}
}
