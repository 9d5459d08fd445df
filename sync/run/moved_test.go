package run_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

func (p *project) plan() []report.Plan {
	p.t.Helper()
	s := p.open()
	defer s.Close()
	plans, err := s.Plan(p.t.(*testing.T).Context(), nil, run.RunOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	return plans
}

// A sync that was renamed goes on where it was: what it sent, what was refused and what waits, its history.
func TestMovedSync(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"mirror\non_remove: delete", "insert"} {
		t.Run(strings.Fields(mode)[0], func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: "+mode+"\nkey: {id: id}\nholdout: {column: control}")
			p.exec("ALTER TABLE raw.people ADD COLUMN control BOOLEAN", "INSERT INTO raw.people SELECT i, 'e', 'n', i, i = 9 FROM range(10) t(i)")
			r.answer = func(n int, _ *hookBody) verdict {
				if n == 1 {
					return verdict{drop: true, apply: func(int) bool { return true }} // the first batch is not answered, though it was applied
				}
				return verdict{status: 200}
			}
			p.replace("attempts: 2", "attempts: 1")
			reports, _ := p.run()
			first := reports[0]
			if first.Uncertain.Add == 0 {
				t.Fatalf("nothing is uncertain: %s", canonical(first))
			}
			ids := len(r.ids)
			p.replace("- name: people\n    model", "- name: folk\n    moved_from: people\n    model")
			// A plan looks under the former name and changes nothing.
			if plan := p.plan()[0]; plan.Sync != "folk" || plan.Unchanged != first.Delivered.Add || plan.Add+plan.Update != first.Uncertain.Add {
				t.Fatalf("plan: %s", canonical(plan))
			}
			if got := p.query("SELECT count(*) FROM information_schema.tables WHERE table_name = 'snapshot_folk'"); got[0] != "0" {
				t.Fatal("a plan moved the snapshot")
			}
			rep := p.must(0)
			if rep.Sync != "folk" || rep.Unchanged != first.Delivered.Add || rep.Delivered.Add+rep.Delivered.Update != first.Uncertain.Add {
				t.Fatalf("run: %s", canonical(rep))
			}
			if mode == "insert" && len(r.ids) != ids {
				t.Errorf("inserts that were not answered came again under other ids: %d, then %d", ids, len(r.ids))
			}
			if rep := p.must(0); rep.Planned.Total() != 0 || rep.Unchanged != 9 {
				t.Fatalf("a run after it: %s", canonical(rep))
			}
			if got := p.query("SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_name LIKE '%\\_people' ESCAPE '\\'"); len(got) != 0 {
				t.Errorf("these stayed behind: %v", got)
			}
			for _, table := range []string{"deliveries", "runs", "meta"} {
				if got := p.query("SELECT DISTINCT sync FROM dray." + table); !slices.Equal(got, []string{"folk"}) {
					t.Errorf("%s names %v", table, got)
				}
			}
			if got := p.query("SELECT count(*) FROM dray.holdout_folk WHERE left_at IS NULL"); got[0] != "1" {
				t.Errorf("the record of the control group: %v", got)
			}
			s := p.open()
			defer s.Close()
			if runs, err := s.State.Runs(t.Context(), state.RunFilter{Schema: "dray", Sync: "folk", Limit: 10}); err != nil || len(runs) != 3 {
				t.Errorf("%d runs, %v", len(runs), err)
			}
			status, err := s.Status(t.Context())
			if err != nil || len(status) != 1 || status[0].Orphaned {
				t.Errorf("status: %s %v", canonical(status), err)
			}
		})
	}
}

// Where the warehouse has both names nothing is guessed.
func TestMovedSyncBothThere(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	p.must(0)
	p.replace("- name: people\n    model", "- name: folk\n    model")
	p.must(0)
	p.replace("- name: folk\n", "- name: folk\n    moved_from: people\n")
	if _, err := p.run(); err == nil || !strings.Contains(err.Error(), "the warehouse has both") {
		t.Fatalf("error %v", err)
	}
	s := p.open()
	if _, err := s.Retire(t.Context(), "people", false); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	p.must(0)
}

// Entities keep their profiles' ids, segments since when their members are in them, incremental models their rows.
func TestMovedRelations(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := profiles(t, r, "segment: all_ads\nmode: mirror\non_remove: delete\nkey: {id: profile_id}\nfields: {email: email, since: entered_at}")
	p.replace("- {name: people, primary_key: id, sql: \"select * from {{ source('raw', 'people') }}\"}",
		"- {name: people, primary_key: id, materialized: incremental, sql: \"select *, current_timestamp as made from {{ source('raw', 'people') }} {% if is_incremental() %} where id > 100 {% endif %}\"}")
	if rep := p.must(0); rep.Delivered.Add != 3 {
		t.Fatalf("%s", canonical(rep))
	}
	p.replace("- {name: people, primary_key", "- {name: folk, moved_from: people, primary_key")
	p.replace("from: ref('people')", "from: ref('folk')")
	p.replace("- name: customer\n", "- name: person\n    moved_from: customer\n")
	p.replace("- {name: all_ads, entity: customer", "- {name: ads, moved_from: all_ads, entity: person")
	p.replace("segment: all_ads", "segment: ads")
	if plan := p.plan()[0]; plan.HasChanges() {
		t.Fatalf("plan: %s", canonical(plan))
	}
	if rep := p.must(0); rep.Planned.Total() != 0 || rep.Unchanged != 3 {
		t.Fatalf("%s", canonical(rep))
	}
	if got := p.query("SELECT table_name FROM information_schema.tables WHERE table_name IN ('people', 'identity_customer', 'identity_customer_merges', 'profiles_customer', 'segment_all_ads') AND table_schema = 'dray' AND table_type = 'BASE TABLE'"); len(got) != 0 {
		t.Errorf("these stayed behind: %v", got)
	}
	if got := p.query("SELECT DISTINCT segment FROM dray.segment_history"); !slices.Equal(got, []string{"ads"}) {
		t.Errorf("the history names %v", got)
	}
}
