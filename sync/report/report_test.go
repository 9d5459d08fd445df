package report_test

import (
	"testing"

	"github.com/dray-dev/dray/sync/report"
)

// I7: each outcome is part of both sums, and a run in which one row more or less is counted is told from one that adds up.
func TestCheck(t *testing.T) {
	t.Parallel()
	outcomes := map[string]func(r *report.Run) *report.Counts{
		"delivered": func(r *report.Run) *report.Counts { return &r.Delivered },
		"accepted":  func(r *report.Run) *report.Counts { return &r.Accepted },
		"rejected":  func(r *report.Run) *report.Counts { return &r.Rejected },
		"uncertain": func(r *report.Run) *report.Counts { return &r.Uncertain },
		"parked":    func(r *report.Run) *report.Counts { return &r.Parked },
		"held":      func(r *report.Run) *report.Counts { return &r.Held },
		"skipped":   func(r *report.Run) *report.Counts { return &r.Skipped.Counts },
		"deferred":  func(r *report.Run) *report.Counts { return &r.Deferred },
	}
	all := func() report.Run {
		r := report.Run{Rows: 5, Unchanged: 3, HeldOut: 2}
		for _, of := range outcomes {
			*of(&r) = report.Counts{Add: 1, Update: 2, Remove: 4}
			r.Rows += 3
			r.Planned.Remove += 4
		}
		return r
	}
	check := func(name string, good bool, change func(r *report.Run)) {
		t.Helper()
		r := all()
		change(&r)
		if err := r.Check(); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("as it is", true, func(*report.Run) {})
	check("rows", false, func(r *report.Run) { r.Rows++ })
	check("unchanged", false, func(r *report.Run) { r.Unchanged-- })
	check("held out", false, func(r *report.Run) { r.HeldOut++ })
	check("planned removes", false, func(r *report.Run) { r.Planned.Remove-- })
	check("planned adds are no part of a sum", true, func(r *report.Run) { r.Planned.Add++ })
	for name, of := range outcomes {
		check(name+" adds", false, func(r *report.Run) { of(r).Add++ })
		check(name+" updates", false, func(r *report.Run) { of(r).Update-- })
		check(name+" removes", false, func(r *report.Run) { of(r).Remove++ })
		check(name+" as another operation", false, func(r *report.Run) { of(r).Add, of(r).Remove = of(r).Add+1, of(r).Remove-1 })
	}
}
