package run_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// A column that a sync maps and that is gone stops it where the project names it, before anything is sent; nothing is lost by it.
func TestColumnGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, change, want string }{
		{"field", "ALTER TABLE raw.people DROP COLUMN name", `dray.yaml:17:34: what sync people reads has no column "name"`},
		{"key", "ALTER TABLE raw.people RENAME COLUMN email TO mail", `dray.yaml:19:11: what sync people reads has no column "email" (did you mean mail?)`},
		{"primary key", "ALTER TABLE raw.people RENAME COLUMN id TO number", `has no column "id"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p := hookProject(t, r, "mode: mirror\nkey: {email: email}\non_remove: delete")
			p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(3) t(i)")
			p.must(0)
			r.state()
			p.exec(c.change)
			reports, err := p.run()
			if len(reports) != 1 || reports[0].ExitCode != 2 || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("exit code %d, error %v; want %s", reports[0].ExitCode, err, c.want)
			}
			if store, requests, _ := r.state(); requests != 0 || len(store) != 3 {
				t.Fatalf("%d requests, %d rows", requests, len(store))
			}
		})
	}
}

// A key of the model that names a missing column is the project's fault, although the mapping changed with it.
func TestKeyGoneBesideAChangedMapping(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: insert\nkey: {email: email}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', 'n', 1)")
	p.must(0)
	p.replace("primary_key: id", "primary_key: idd")
	_, err := p.run()
	var e *diag.Error
	if !errors.As(err, &e) || e.Kind != diag.Invalid || !strings.Contains(err.Error(), `has no column "idd" (did you mean id?)`) {
		t.Fatalf("error %v", err)
	}
}

// A column's new type sends nothing by itself; what cannot be carried over is an ordinary difference.
func TestTypeChanged(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}")
	p.exec("INSERT INTO raw.people VALUES (1, 'e', '10', 1), (2, 'e', '20', 2), (3, 'e', 'ten', 3), (4, 'e', '40', 4)")
	p.must(0)
	p.exec("ALTER TABLE raw.people ALTER n TYPE DOUBLE PRECISION")
	if rep := p.must(0); rep.Planned.Total() != 0 || rep.Unchanged != 4 {
		t.Fatalf("a wider type: %s", canonical(rep))
	}
	p.exec("UPDATE raw.people SET name = '30' WHERE id = 3", "ALTER TABLE raw.people ALTER name TYPE INTEGER USING CAST(name AS INTEGER)")
	if rep := p.must(0); rep.Delivered.Update != 1 || rep.Unchanged != 3 {
		t.Fatalf("'ten' was acknowledged and is no number: %s", canonical(rep))
	}
	if rep := p.must(0); rep.Planned.Total() != 0 {
		t.Fatalf("afterwards: %s", canonical(rep))
	}
}

// Values that do not fit a column's new type are differences like others: the guard counts them, plan and run name the change.
func TestTypeChangedOfMany(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e', 'a' || i, i FROM range(40) t(i)", "UPDATE raw.people SET name = CAST(id AS VARCHAR) WHERE id < 15")
	p.must(0)
	r.state()
	p.exec("UPDATE raw.people SET name = CAST(id AS VARCHAR)", "ALTER TABLE raw.people ALTER name TYPE BIGINT USING CAST(name AS BIGINT)")
	s := p.open()
	plans, err := s.Plan(t.Context(), nil, run.RunOptions{})
	_ = s.Close()
	if err != nil {
		t.Fatal(err)
	}
	named := func(what string, got []report.ChangedType) {
		t.Helper()
		if len(got) != 1 || got[0].Field != "name" || got[0].From == got[0].To || got[0].From == "" || got[0].Unfit != 25 {
			t.Errorf("%s names %+v", what, got)
		}
	}
	named("the plan", plans[0].ChangedTypes)
	if plans[0].Update != 25 || plans[0].Guard.Status != "stopped" {
		t.Errorf("the plan: %s", canonical(plans[0]))
	}
	rep := p.must(4)
	named("the run", rep.ChangedTypes)
	if rep.Requests != 0 || !strings.Contains(strings.Join(rep.Reasons, ";"), "25 of 40 rows would change") {
		t.Fatalf("25 of 40: %s", canonical(rep))
	}
	rep = p.must(4) // the snapshot is carried over already: the guard still counts what did not fit
	if !strings.HasPrefix(rep.Allow, "changes=") || len(rep.ChangedTypes) != 0 {
		t.Fatalf("again: %s", canonical(rep))
	}
	if rep := p.must(0, rep.Allow); rep.Delivered.Update != 25 || rep.Unchanged != 15 {
		t.Fatalf("approved: %s", canonical(rep))
	}
	if rep := p.must(0); rep.Planned.Total() != 0 {
		t.Fatalf("afterwards: %s", canonical(rep))
	}
}
