package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/sync/report"
)

// caption describes a sync in its header: "segment lapsed_vips → hubspot contacts, mirror". It may give "".
type caption func(sync string) string

// drawPlans shows what would be sent, like `terraform plan`.
func drawPlans(s screen, plans []report.Plan, about caption) {
	var add, update, remove, forgotten int64
	failed, stopped := 0, 0
	for _, p := range plans {
		drawPlan(s, p, about(p.Sync))
		s.line("")
		add, update, remove, forgotten = add+p.Add, update+p.Update, remove+p.Remove, forgotten+p.Forgotten
		if p.Error != nil {
			failed++
		}
		if p.Guard.Status == "stopped" {
			stopped++
		}
	}
	switch {
	case failed == len(plans):
	case add+update+remove+forgotten == 0 && stopped > 0: // the guard has said why; "no changes" would be read as "all is well"
		s.line("%s 0 to add, 0 to change, 0 to remove; a run would be stopped. %s", s.bold("Plan:"), s.dim("Nothing was sent."))
	case add+update+remove+forgotten == 0:
		s.line("%s Every destination has what its model says.", s.bold("No changes."))
	default:
		total := fmt.Sprintf("%s to add, %s to change, %s to remove", count(add), count(update), count(remove))
		if forgotten > 0 {
			total += ", " + count(forgotten) + " to forget"
		}
		s.line("%s %s. %s", s.bold("Plan:"), total, s.dim("Nothing was sent."))
	}
}

func drawPlan(s screen, p report.Plan, about string) {
	drawHeader(s, p.Sync, about, "")
	if p.Error != nil {
		s.line("  %s", s.red("could not be planned"))
		return
	}
	if c := p.Consent; c != nil {
		s.line("  %s", s.dim("only where "+c.Condition+because(c.Purpose)+"; withdrawn consent: "+c.Act))
	}
	drawMoves(s, p.Identity)
	drawChangedTypes(s, p.ChangedTypes)
	if !p.HasChanges() && p.Guard.Status == "ok" {
		s.line("  no changes: %s are there as they should be", plural(p.Unchanged, "row"))
		drawLeftOut(s, p)
		return
	}
	s.line("  %s   %s   %s   %s", s.green("+ "+count(p.Add)+" add"), s.yellow("~ "+count(p.Update)+" change"),
		s.red("- "+count(p.Remove)+" remove"), s.dim(fmt.Sprintf("%s unchanged of %s", count(p.Unchanged), plural(p.Rows, "row"))))
	drawLeftOut(s, p)
	drawChangedFields(s, p.ChangedFields)
	drawSamples(s, p.Samples)
	drawEstimate(s, p.Estimate)
	drawGuard(s, p.Sync, p.Guard)
}

// drawMoves tells what the profiles' ids would do: nothing where none is new, ends or is split.
func drawMoves(s screen, m *report.Identity) {
	if m == nil || m.Born+m.Merged+m.Split == 0 {
		return
	}
	line := fmt.Sprintf("%s: %s, %s new, %s merged into others, %s split off", m.Entity, plural(m.Profiles, "profile"), count(m.Born), count(m.Merged), count(m.Split))
	if m.Merged+m.Split > 0 {
		var largest []string
		for _, p := range m.Largest {
			largest = append(largest, fmt.Sprintf("%s (%s)", p.ProfileID, plural(p.Values, "value")))
		}
		s.line("  %s", s.yellow(line))
		s.line("  %s", s.dim("of what the destination has: "+plural(m.Members.Merged, "row")+" of merged and "+count(m.Members.Split)+" of split profiles; the largest: "+strings.Join(largest, ", ")))
		return
	}
	s.line("  %s", s.dim(line))
}

// drawHeader names a sync, what it connects, and how it stands.
func drawHeader(s screen, sync, about, status string) {
	line := s.bold(sync)
	if about != "" {
		line += "  " + s.dim(about)
	}
	if status != "" {
		line += "  " + status
	}
	s.line("%s", line)
}

// drawLeftOut tells of rows that are not among the changes; nothing where there are none.
func drawLeftOut(s screen, p report.Plan) {
	var parts []string
	for _, part := range []struct {
		n    int64
		what string
	}{
		{p.Held, "held by a guard"},
		{p.Uncertain, "sent before and not answered, so sent again"},
		{p.Deferred, "waiting for their retry"},
		{p.Pending, "with the vendor, its answer pending"},
		{p.Rejected, "that cannot be sent as they are"},
		{p.Skipped, "skipped"},
		{p.Parked, "parked"},
		{p.HeldOut, "held out"},
		{p.Refreshed, "sent again for their age"},
		{withdrawn(p), "taken back, for their consent was withdrawn"},
		{p.Forgotten, "to forget (they left the model)"},
	} {
		if part.n > 0 {
			parts = append(parts, count(part.n)+" "+part.what)
		}
	}
	if len(parts) > 0 {
		s.line("  %s", strings.Join(parts, " · "))
	}
}

func withdrawn(p report.Plan) int64 {
	if p.Consent == nil {
		return 0
	}
	return p.Consent.Withdrawn
}

// because is the purpose for which consent is asked; a model's sync may ask for none.
func because(purpose string) string {
	if purpose == "" {
		return ""
	}
	return " (purpose: " + purpose + ")"
}

// drawChangedFields is a small bar chart, the most changed field first.
func drawChangedFields(s screen, fields map[string]int64) {
	if len(fields) == 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(fields), func(a, b string) int {
		return cmp.Or(cmp.Compare(fields[b], fields[a]), cmp.Compare(a, b))
	})
	most := fields[names[0]]
	rows := make([][]string, len(names))
	for i, name := range names {
		rows[i] = []string{name, count(fields[name]), s.yellow(bar(fields[name], most))}
	}
	s.line("")
	s.table([]column{left("changed field"), right("rows"), left("")}, rows)
}

// bar is n's share of most in blocks, never empty for n > 0.
func bar(n, most int64) string {
	const width = 24
	if n <= 0 || most <= 0 {
		return ""
	}
	return strings.Repeat("█", max(1, int(float64(n)/float64(most)*width)))
}

func drawSamples(s screen, samples []report.Sample) {
	if len(samples) == 0 {
		return
	}
	rows := make([][]string, len(samples))
	for i, sample := range samples {
		rows[i] = []string{signed(s, sample.Operation), sample.Key, sampleFields(sample)}
	}
	s.line("")
	s.table([]column{left(""), left("sample"), left("fields")}, rows)
}

func signed(s screen, operation string) string {
	switch operation {
	case "add":
		return s.green("+")
	case "remove":
		return s.red("-")
	case "rekey":
		return s.cyan("→")
	default:
		return s.yellow("~")
	}
}

// sampleFields names the fields; values are there only when they were asked for.
func sampleFields(sample report.Sample) string {
	parts := make([]string, len(sample.Fields))
	for i, f := range sample.Fields {
		switch {
		case f.Old == nil && f.New == nil:
			parts[i] = f.Name
		case sample.Operation == "add":
			parts[i] = fmt.Sprintf("%s: %s", f.Name, shown(f.New))
		default:
			parts[i] = fmt.Sprintf("%s: %s → %s", f.Name, shown(f.Old), shown(f.New))
		}
	}
	return strings.Join(parts, ", ")
}

// shown is a value as text; an instant is written like every other one.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case time.Time:
		return moment(v)
	case json.RawMessage:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// drawEstimate shows what a run would cost. Every number is an estimate and marked so (I7).
func drawEstimate(s screen, e report.Estimate) {
	var parts []string
	if e.Requests > 0 {
		parts = append(parts, "≈ "+plural(e.Requests, "request"))
	}
	if e.Minutes >= 0.05 { // less is no time that anybody plans with
		parts = append(parts, fmt.Sprintf("≈ %.1f min", e.Minutes))
	}
	if e.QuotaShare > 0 {
		parts = append(parts, fmt.Sprintf("≈ %.2g %% of what the vendor allows in a day", e.QuotaShare*100))
	}
	if e.BytesScanned > 0 {
		parts = append(parts, "≈ "+bytesOf(e.BytesScanned)+" read in the warehouse")
	}
	if len(parts) == 0 {
		return
	}
	s.line("")
	s.line("  %s", s.dim(strings.Join(parts, ", ")))
}

// drawGuard says why a run would be held or stopped, and the exact command that lets it through.
func drawGuard(s screen, sync string, g report.Guard) {
	if g.Status == "" || g.Status == "ok" {
		return
	}
	word := s.yellow(g.Status)
	if g.Status == "stopped" {
		word = s.red(g.Status)
	}
	s.line("")
	s.line("  guard: %s", word)
	for _, reason := range g.Reasons {
		s.line("    %s", reason)
	}
	drawAllow(s, "  ", sync, g.Allow)
}

func drawAllow(s screen, indent, sync, allow string) {
	if allow != "" {
		s.line("%sto let exactly these through:  %s", indent, s.bold("dray run "+sync+" --allow "+allow))
	}
}
