package run_test

import (
	"strings"
	"testing"

	"github.com/dray-dev/dray/sync/run"
)

// Tables of an older Dray are refused with the way out, before anything is sent; an upgrade adds what they lack, and is repeatable.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(5) t(i)")
	p.must(0)
	r.state()
	p.exec("ALTER TABLE dray.snapshot_people DROP COLUMN theirs", "UPDATE dray.meta SET schema_version = 1", "UPDATE raw.people SET n = 9 WHERE id = 1")
	rep := p.must(2)
	if rep.Error == nil || !strings.Contains(rep.Error.Hint, "dray upgrade") {
		t.Fatalf("%s", canonical(rep))
	}
	s := p.open()
	plans, err := s.Plan(t.Context(), nil, run.RunOptions{})
	if err == nil || !strings.Contains(err.Error(), "dray upgrade") {
		t.Errorf("plan: %v %s", err, canonical(plans))
	}
	_ = s.Close()
	for i, want := range []int{1, 0} {
		s := p.open()
		done, err := s.Upgrade(t.Context())
		if err != nil || len(done) != want {
			t.Fatalf("upgrade %d: %s %v", i, canonical(done), err)
		}
		_ = s.Close()
	}
	if rep := p.must(0); rep.Delivered.Update != 1 || rep.Unchanged != 4 {
		t.Fatalf("%s", canonical(rep))
	}
}

// An upgrade that was killed between its two parts goes on: the column is there and the mark is not.
func TestUpgradeInterrupted(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	p.must(0)
	p.exec("UPDATE dray.meta SET schema_version = 1")
	s := p.open()
	if done, err := s.Upgrade(t.Context()); err != nil || len(done) != 1 {
		t.Fatalf("%v %v", done, err)
	}
	_ = s.Close()
	if rep := p.must(0); rep.Unchanged != 1 {
		t.Fatalf("%s", canonical(rep))
	}
}
