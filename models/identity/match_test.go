package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// people has persons whose rows share no identifier, but perhaps name, day of birth and postcode.
const people = `CREATE TABLE t1 AS SELECT * FROM (VALUES
	(1, 'ann@x.dk', 'Sørensen ', '1980-01-01', '8000'), (2, 'a.s@work.dk', 'Soerensen', '1980-01-01', '8000'),
	(3, 'bo@x.dk', 'Sørensen', '1981-01-01', '8000'), (4, 'c@x.dk', 'Holm', NULL, '8000'), (5, 'd@x.dk', 'Holm', NULL, '8000'),
	(6, 'e@x.dk', '', '1990-05-05', '9000'), (7, 'f@x.dk', '', '1990-05-05', '9000'),
	(8, 'g@x.dk', 'Unknown', '1991-05-05', '9000'), (9, 'h@x.dk', ' unknown', '1991-05-05', '9000'),
	(NULL, NULL, 'Sorensen', '1981-01-01', '8000'), (NULL, NULL, 'Soerensen', '1981-01-01', '8000')) v(uid, mail, last_name, birth_date, postcode)`

func matching(rules ...*config.Match) Spec {
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid", "email": "mail"}})
	spec.Entity.Match = rules
	return spec
}

func TestMatchJoinsWhatSharesNoIdentifier(t *testing.T) {
	t.Parallel()
	w := open(t)
	exec(t, w, people)
	same := &config.Match{Name: "same_person", On: []string{"normalize(last_name)", "birth_date", "postcode"}}
	users := func() string {
		return strings.Join(query(t, w, `SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'user_id' GROUP BY profile_id`), ", ")
	}
	spec := matching(same)
	build(t, w, spec)
	if got, want := users(), "1 2, 3, 4, 5, 6, 7, 8, 9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A row that nothing else is known of belongs to whom the rule says.
	from, err := Rows(t.Context(), w, spec.Entity, spec.Inputs[0], spec.Target)
	if err != nil {
		t.Fatal(err)
	}
	got := query(t, w, "SELECT count(*), count(DISTINCT "+ProfileColumn+") FROM "+from+" AS r WHERE birth_date = '1981-01-01' AND last_name <> 'Sorensen'")
	if want := []string{"2|1"}; !slices.Equal(got, want) {
		t.Errorf("rows and their profiles: %v, want %v", got, want)
	}
	// A limit of a more trusted identifier refuses what a rule would join.
	spec.Entity.Identifiers[0].Limit = 1
	if r := build(t, w, spec); r.Refused != 1 {
		t.Errorf("%d values are refused, want 1", r.Refused)
	}
	if got, want := users(), "1, 2, 3, 4, 5, 6, 7, 8, 9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := query(t, w, "SELECT identifier, refused FROM identity_customer WHERE refused IS NOT NULL"); !slices.Equal(got, []string{"same_person|limit: 1 user_id"}) {
		t.Errorf("refused: %v", got)
	}
}

// A rule is tried where after: says: before the e-mail it decides who the row belongs to.
func TestMatchStandsInTheOrderOfTrust(t *testing.T) {
	t.Parallel()
	names := func(e *config.Entity) string {
		var out []string
		for _, l := range Levels(e) {
			out = append(out, l.Name)
		}
		return strings.Join(out, " ")
	}
	spec := matching(&config.Match{Name: "last"}, &config.Match{Name: "early", After: "user_id"}, &config.Match{Name: "later"}, &config.Match{Name: "next", After: "user_id"})
	if got, want := names(spec.Entity), "user_id early next email anonymous_id last later"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMatchOfUnknownColumns(t *testing.T) {
	t.Parallel()
	w := open(t)
	exec(t, w, people)
	_, err := Build(t.Context(), w, matching(&config.Match{Name: "x", On: []string{"last_name", "brith_date"}}))
	var d *diag.Error
	if !errors.As(err, &d) || d.Code != "entity.match" || !strings.Contains(d.Hint, "birth_date") {
		t.Errorf("got %v", err)
	}
}

func TestGuardStopsBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	w := open(t)
	exec(t, w, people)
	spec := matching()
	build(t, w, spec)
	before := groups(t, w)
	stops := func(code string, want string) {
		t.Helper()
		_, err := Build(t.Context(), w, spec)
		var d *diag.Error
		if !errors.As(err, &d) || d.Kind != diag.Stopped || d.Code != code || !strings.Contains(d.Msg, want) {
			t.Errorf("got %v, want %s with %q", err, code, want)
		}
		if after := groups(t, w); !slices.Equal(after, before) {
			t.Errorf("a stopped build changed\n%s\ninto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
	spec.Entity.Match = []*config.Match{{Name: "same_person", On: []string{"normalize(last_name)", "birth_date"}}}
	most := config.Percent(0.1)
	spec.Entity.Guard = &config.EntityGuard{MaxMerges: &most}
	stops("identity.max_merges", "1 profile of customer of 9")
	most = 0.15
	spec.Entity.Guard.MaxProfileSize = 4
	stops("identity.max_profile_size", "5 values (2 user_id, 2 email, 1 same_person)")
	spec.Entity.Guard.MaxProfileSize = 5
	if r := build(t, w, spec); r.Merged != 1 {
		t.Errorf("merged %d, want 1", r.Merged)
	}
	// At the first build there is nothing that could be merged.
	exec(t, w, "DROP TABLE identity_customer", "DROP TABLE identity_customer_merges")
	most = 0
	build(t, w, spec)
}
