package run_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/run"
)

// A source that was not loaded for too long stops the syncs that read it, through models too, with the numbers.
func TestFresh(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.replace("tables: [{name: people}]", "tables: [{name: people, loaded_at: loaded, fresh: 2h}, {name: other, loaded_at: loaded}]")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return now }
	p.exec("ALTER TABLE raw.people ADD COLUMN loaded TIMESTAMP", "INSERT INTO raw.people VALUES (1, 'e', 'n', 1, '2026-03-01 10:30:00')",
		"CREATE TABLE raw.other AS SELECT TIMESTAMP '2026-02-27 12:00:00' AS loaded")
	p.must(0)
	now = now.Add(time.Hour)
	p.exec("UPDATE raw.people SET n = 2")
	rep := p.must(4)
	if rep.Status != "stopped" || rep.Error == nil || !strings.Contains(rep.Error.Message, "raw.people is 2h 30m old, more than fresh: 2h") || rep.Delivered.Total() != 0 {
		t.Fatalf("%s", canonical(rep))
	}
	s := p.open()
	plans, err := s.Plan(t.Context(), nil, run.RunOptions{})
	_ = s.Close()
	if err != nil || plans[0].Guard.Status != "stopped" || !strings.Contains(strings.Join(plans[0].Guard.Reasons, ""), "2h 30m") {
		t.Fatalf("%v %s", err, canonical(plans))
	}
	// The sync may say otherwise, and ask for more.
	p.replace("mode: upsert", "requires: {fresh: {raw.people: 4h}}\n    mode: upsert")
	if rep := p.must(0); rep.Delivered.Update != 1 {
		t.Fatalf("%s", canonical(rep))
	}
	p.replace("{raw.people: 4h}", "{raw.people: 4h, raw.other: 1d}")
	if rep := p.must(4); !strings.Contains(rep.Error.Message, "raw.other is 2d 1h old") {
		t.Fatalf("%s", canonical(rep))
	}
	p.exec("DELETE FROM raw.other")
	if rep := p.must(4); !strings.Contains(rep.Error.Message, "raw.other has no row") {
		t.Fatalf("%s", canonical(rep))
	}
}

// Tests that must pass are of models that the sync need not read.
func TestRequiredTests(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}\nrequires: {tests: [other]}")
	p.replace("models:", "models:\n  - {name: other, sql: \"select n from {{ source('raw', 'people') }}\", tests: {not_null: [n]}}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', NULL)")
	rep := p.must(4)
	if rep.Error == nil || !strings.Contains(rep.Error.Message, "not_null") || rep.Requests != 0 {
		t.Fatalf("%s", canonical(rep))
	}
	p.exec("UPDATE raw.people SET n = 1")
	p.must(0)
}
