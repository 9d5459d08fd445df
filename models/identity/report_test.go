package identity

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
)

func TestReportCountsWhatWasBuilt(t *testing.T) {
	t.Parallel()
	w := open(t)
	// Ten users in pairs with an address each, one device that all of them have used, and a user with 120 devices.
	exec(t, w, `CREATE TABLE t1 AS SELECT CAST(i AS VARCHAR) AS uid, 'a' || i || '@x.dk' AS mail, 'shared' AS anon, TIMESTAMP '2025-01-01' AS ts FROM generate_series(1, 10) AS g(i)
		UNION ALL SELECT '11', NULL, 'd' || i, TIMESTAMP '2025-01-01' FROM generate_series(1, 120) AS g(i)`)
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid", "email": "mail", "anonymous_id": "anon"}, At: "ts"})
	spec.Entity.Identifiers[2].SharedAbove = 3
	build(t, w, spec)
	r, err := Health(t.Context(), w, spec.Entity, spec.Target, spec.Merges)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Size{{2, 2, 10}, {101, 1000, 1}}; r.Profiles != 11 || r.Values != 141 || !reflect.DeepEqual(r.Sizes, want) {
		t.Errorf("got %d profiles of %d values, %v, want %v", r.Profiles, r.Values, r.Sizes, want)
	}
	if l := r.Largest; len(l) != largestShown || l[0].Values != 121 || !reflect.DeepEqual(l[0].Of, map[string]int64{"user_id": 1, "anonymous_id": 120}) {
		t.Errorf("largest: %+v", l)
	}
	if want := []Refused{{"shared_above: 3 anonymous_id", "anonymous_id", 1}}; !reflect.DeepEqual(r.Refused, want) {
		t.Errorf("refused: %+v", r.Refused)
	}
	if len(r.Moved) != 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "1 profile of more than 100 values") {
		t.Errorf("moved %v, warnings %v", r.Moved, r.Warnings)
	}
	// Without the rule the device makes one profile of ten: nine merges, at the time of the build.
	spec.Entity.Identifiers[2].SharedAbove = 0
	spec.AsOf = asOf.AddDate(0, 0, 1)
	build(t, w, spec)
	if r, err = Health(t.Context(), w, spec.Entity, spec.Target, spec.Merges); err != nil {
		t.Fatal(err)
	}
	if want := []Moved{{spec.AsOf, "merge", 9}}; len(r.Refused) != 0 || !reflect.DeepEqual(r.Moved, want) {
		t.Errorf("refused %v, moved %v, want %v", r.Refused, r.Moved, want)
	}
}
