package identity

import (
	"maps"
	"testing"
)

// A device that two people use goes to one of them, by rule, and then to the other; it is older than both, and nobody's id changes.
func TestLentValuesMoveNoID(t *testing.T) {
	t.Parallel()
	w := open(t)
	ids := map[string]string{}
	for i, step := range []struct {
		rule string
		rows []row
		lent string // whose the device is
	}{
		{"latest", nil, "user_id:a"},
		{"latest", []row{{values: [3]string{"b", "", "x"}, day: 2}}, "user_id:b"},
		{"latest", []row{{values: [3]string{"b", "", "x"}, day: 2}, {values: [3]string{"a", "", "x"}, day: 3}}, "user_id:a"},
		{"first", []row{{values: [3]string{"b", "", "x"}, day: 1}, {values: [3]string{"a", "", "x"}, day: 3}}, "user_id:a"},
		{"none", []row{{values: [3]string{"b", "", "x"}, day: 2}}, ""},
	} {
		rows := append([]row{{values: [3]string{"", "", "x"}, day: 1}, {values: [3]string{"a", "", "x"}, day: 1}, {values: [3]string{"b", "", ""}, day: 1}}, step.rows...)
		load(t, w, "t1", rows)
		spec := customer(allColumns("t1"))
		spec.Entity.Identifiers[0].Limit = 1
		spec.Entity.Identifiers[2].OnRefused = step.rule
		r := build(t, w, spec)
		of, lent := owners(t, w), lentOwners(t, w)
		if i == 0 {
			of["anonymous_id:x"] = "" // nobody else was met with it yet, so it is a's own
			ids = maps.Clone(of)
			continue
		}
		if of["anonymous_id:x"] != "NULL" || r.Refused != 1 {
			t.Fatalf("step %d: the device is %s's own", i, of["anonymous_id:x"])
		}
		if step.lent == "" && len(lent) > 0 || step.lent != "" && lent["anonymous_id:x"] != of[step.lent] {
			t.Fatalf("step %d: lent %v, want it to be %s's: %v", i, lent, step.lent, of)
		}
		of["anonymous_id:x"] = ""
		if !maps.Equal(of, ids) || r.Born+r.Merged != 0 {
			t.Fatalf("step %d: ids are %v and were %v", i, of, ids)
		}
	}
}
