package guard_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/guard"
	"github.com/dray-dev/dray/sync/plan"
)

// The guards as a user writes none: YAML.md §5.
func usual() config.Guard {
	return config.Guard{
		MaxRemoves: 0.05, MaxChanges: 0.5, Window: config.Duration{Duration: 24 * time.Hour}, Floor: 10, OnTrip: "hold",
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	prints := map[string]string{"removes": "aaa", "changes": "bbb", "empty": "ccc", "rows": "ddd"}
	for _, c := range []struct {
		name   string
		in     guard.Input
		change func(*config.Guard)
		want   guard.Status
		allow  string
		holds  bool
	}{
		{name: "nothing", in: guard.Input{Rows: 10, Snapshot: 10, Acknowledged: 10}, want: guard.OK},
		{name: "removes at the limit", in: guard.Input{Rows: 950, Snapshot: 1000, Removes: 50}, want: guard.OK},
		{name: "one over", in: guard.Input{Rows: 949, Snapshot: 1000, Removes: 51}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "forgets obey too", in: guard.Input{Rows: 949, Snapshot: 1000, Forgets: 51}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "up to the floor", in: guard.Input{Rows: 1, Snapshot: 11, Removes: 10}, want: guard.OK},
		{name: "over the floor", in: guard.Input{Rows: 1, Snapshot: 12, Removes: 11}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "the window adds up", in: guard.Input{Rows: 970, Snapshot: 980, WindowRows: 1000, WindowRemoved: 45, Removes: 6}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "of the window's first rows", in: guard.Input{Rows: 9000, Snapshot: 9100, WindowRows: 1000, Removes: 100}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "nothing left to remove", in: guard.Input{Rows: 900, Snapshot: 900, WindowRows: 1000, WindowRemoved: 100}, want: guard.OK},
		{name: "stop", in: guard.Input{Rows: 900, Snapshot: 1000, Removes: 100}, change: func(g *config.Guard) { g.OnTrip = "stop" }, want: guard.Stopped, allow: "removes=aaa"},
		{name: "approved", in: guard.Input{Rows: 900, Snapshot: 1000, Removes: 100, Approved: map[string]bool{"removes=aaa": true}}, want: guard.OK},
		{name: "approved for others", in: guard.Input{Rows: 900, Snapshot: 1000, Removes: 100, Approved: map[string]bool{"removes=aab": true, "changes=aaa": true}}, want: guard.Held, allow: "removes=aaa", holds: true},
		{name: "half may change", in: guard.Input{Rows: 100, Snapshot: 100, Acknowledged: 100, Changes: 50}, want: guard.OK},
		{name: "more than half", in: guard.Input{Rows: 100, Snapshot: 100, Acknowledged: 100, Changes: 51}, want: guard.Stopped, allow: "changes=bbb"},
		{name: "first load", in: guard.Input{Rows: 100}, want: guard.OK},
		{name: "emptied", in: guard.Input{Snapshot: 5, Removes: 5}, want: guard.Stopped, allow: "empty=ccc"},
		{name: "emptied, few rows wanted", in: guard.Input{Snapshot: 5, Removes: 5}, change: func(g *config.Guard) { g.MinModelRows = 3 }, want: guard.Stopped, allow: "empty=ccc"},
		{name: "empty and allowed", in: guard.Input{Snapshot: 5, Removes: 5}, change: func(g *config.Guard) { g.AllowEmpty = true }, want: guard.OK},
		{name: "empty and allowed, rows wanted", in: guard.Input{Snapshot: 5, Removes: 5}, change: func(g *config.Guard) { g.AllowEmpty = true; g.MinModelRows = 3 }, want: guard.Stopped, allow: "rows=ddd"},
		{name: "empty from the start", in: guard.Input{}, want: guard.OK},
		{name: "empty from the start, rows wanted", in: guard.Input{}, change: func(g *config.Guard) { g.MinModelRows = 1 }, want: guard.Stopped, allow: "rows=ddd"},
		{name: "few rows", in: guard.Input{Rows: 2, Snapshot: 2, Acknowledged: 2}, change: func(g *config.Guard) { g.MinModelRows = 3 }, want: guard.Stopped, allow: "rows=ddd"},
		{name: "emptied and over the removes", in: guard.Input{Snapshot: 50, Removes: 50}, want: guard.Stopped, allow: "empty=ccc,removes=aaa", holds: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := c.in
			in.Guard, in.Fingerprints = usual(), prints
			if c.change != nil {
				c.change(&in.Guard)
			}
			got := guard.Check(in)
			if got.Status != c.want || got.Allow != c.allow || (got.Status == guard.OK) != (len(got.Reasons) == 0) {
				t.Errorf("got %+v, want %s %q", got, c.want, c.allow)
			}
			if holds := slices.Contains(got.Hold, destination.OpRemove) && slices.Contains(got.Hold, plan.Forget); holds != c.holds {
				t.Errorf("holds %v, want %v", got.Hold, c.holds)
			}
		})
	}
}
