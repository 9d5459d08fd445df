// Package guard upholds I4: nothing destructive by surprise. It is pure: counts in, a verdict out; nothing has been sent yet.
package guard

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/plan"
)

// Input is what the guards look at.
type Input struct {
	Guard         config.Guard
	Rows          int64 // of the model
	Snapshot      int64 // rows of the snapshot now
	Acknowledged  int64 // of them, rows whose value is known
	Removes       int64 // planned removes that were not meant to go in an earlier run already
	Forgets       int64
	Withdrawn     int64 // planned removes of rows that do not consent any more: no guard counts or holds them
	Changes       int64 // updates of known, acknowledged values
	WindowRows    int64 // rows of the snapshot when the rolling window began; 0 = no run in it
	WindowRemoved int64 // what was removed or forgotten in it
	Approved      map[string]bool
	// Fingerprints of the keys concerned, by kind: removes, changes, empty, rows.
	Fingerprints map[string]string
}

// Status is a verdict's short form.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Held    Status = "held"
	Stopped Status = "stopped"
)

// Verdict says what may go.
type Verdict struct {
	Status  Status
	Reasons []string
	Hold    []destination.Operation // not sent, and not forgotten
	Allow   string                  // what --allow would let it through: removes=ab12cd…
	Used    []string                // approvals that let it through
}

// Check looks at one plan.
func Check(in Input) Verdict {
	v := Verdict{Status: OK}
	g := in.Guard
	emptied := !g.AllowEmpty && in.Rows == 0 && in.Snapshot > in.Withdrawn
	v.stop(in, "empty", emptied,
		fmt.Sprintf("the model is empty and %s stand at the destination (allow_empty: false)", rows(in.Snapshot)))
	v.stop(in, "rows", in.Rows < int64(g.MinModelRows) && !emptied,
		fmt.Sprintf("the model has %s, fewer than min_model_rows: %d", rows(in.Rows), g.MinModelRows))
	limit := max(int64(g.Floor), share(g.MaxChanges, in.Acknowledged))
	v.stop(in, "changes", in.Changes > limit,
		fmt.Sprintf("%s of %s would change, more than max_changes: %s", count(in.Changes), rows(in.Acknowledged), percent(g.MaxChanges)))
	v.removes(in)
	return v
}

// removes holds removes and forgets over the limit of the rolling window, or stops everything where on_trip says so.
func (v *Verdict) removes(in Input) {
	gone := in.Removes + in.Forgets
	if gone == 0 {
		return
	}
	g := in.Guard
	base := in.WindowRows
	if base == 0 {
		base = in.Snapshot
	}
	limit := max(int64(g.Floor), share(g.MaxRemoves, base))
	if gone+in.WindowRemoved <= limit {
		return
	}
	what := "removed"
	if in.Removes == 0 {
		what = "forgotten"
	}
	reason := fmt.Sprintf("%s of %s would be %s", count(gone), rows(base), what)
	if in.WindowRemoved > 0 {
		reason += fmt.Sprintf(" after %s in the last %s", count(in.WindowRemoved), window(g.Window.Duration))
	}
	reason += fmt.Sprintf(", more than max_removes: %s (%s)", percent(g.MaxRemoves), count(limit))
	if g.OnTrip == "stop" {
		v.stop(in, "removes", true, reason)
		return
	}
	if v.approved(in, "removes") {
		return
	}
	v.Reasons = append(v.Reasons, reason)
	v.Hold = append(v.Hold, destination.OpRemove, plan.Forget)
	if v.Status == OK {
		v.Status = Held
	}
	v.allow(in, "removes")
}

func (v *Verdict) stop(in Input, kind string, tripped bool, reason string) {
	if !tripped || v.approved(in, kind) {
		return
	}
	v.Status = Stopped
	v.Reasons = append(v.Reasons, reason)
	v.allow(in, kind)
}

func (v *Verdict) approved(in Input, kind string) bool {
	f := in.Fingerprints[kind]
	if f == "" || !in.Approved[kind+"="+f] {
		return false
	}
	v.Used = append(v.Used, kind+"="+f)
	return true
}

func (v *Verdict) allow(in Input, kind string) {
	f := in.Fingerprints[kind]
	if f == "" {
		return
	}
	if v.Allow != "" {
		v.Allow += ","
	}
	v.Allow += kind + "=" + f
}

// Fingerprint is the part of Allow that a plan's JSON names.
func (v Verdict) Fingerprint() string {
	first, _, _ := strings.Cut(v.Allow, ",")
	_, f, _ := strings.Cut(first, "=")
	return f
}

func share(p config.Percent, n int64) int64 { return int64(math.Floor(float64(p) * float64(n))) }

func percent(p config.Percent) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", float64(p)*100), "0"), ".") + "%"
}

func rows(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return count(n) + " rows"
}

// count writes 12345 as 12,345.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func window(d time.Duration) string {
	if d%(24*time.Hour) == 0 && d > 24*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	if d%time.Hour == 0 {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}
