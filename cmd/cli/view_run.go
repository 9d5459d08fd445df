package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// drawRuns shows what became of each sync and, for several, the sum.
func drawRuns(s screen, runs []report.Run, about caption, next steps) {
	for i, r := range runs {
		if i > 0 {
			s.line("")
		}
		drawRun(s, r, about(r.Sync), next)
	}
	if len(runs) > 1 {
		s.line("")
		s.line("%s", runsTotal(runs))
	}
}

func drawRun(s screen, r report.Run, about string, next steps) {
	status := colored(s, r.Status)
	if r.DryRun {
		status += s.dim(" (dry run: nothing was sent)")
	}
	drawHeader(s, r.Sync, about, status)
	if rows := outcomeRows(r); len(rows) > 0 {
		s.table([]column{left(""), right("add"), right("change"), right("remove"), left("")}, rows)
	}
	if r.Error == nil || r.Rows > 0 || r.Requests > 0 { // a run that ended before it had counted has no numbers
		s.line("  %s", s.dim(runFooter(r)))
	}
	drawChangedTypes(s, r.ChangedTypes)
	drawRunReasons(s, r, next)
}

// drawChangedTypes names columns that have another type than when their values were sent.
func drawChangedTypes(s screen, changed []report.ChangedType) {
	for _, c := range changed {
		became := "what was acknowledged is carried over"
		if c.Unfit > 0 {
			became = plural(c.Unfit, "acknowledged value") + " do not fit"
		}
		s.line("  %s %s was %s and is %s now: %s", s.yellow("!"), c.Field, c.From, c.To, became)
	}
}

// drawPast is a run that ended, as it was shown then, and what became of its rows.
func drawPast(s screen, p run.Past, about string) {
	drawRun(s, p.Run, about, nextSteps)
	if p.Error != nil {
		s.line("  %s %s", s.red(p.Error.Code), p.Error.Message)
		if p.Error.Hint != "" {
			s.line("  %s %s", s.dim("→"), p.Error.Hint)
		}
	}
	ended := "has not ended"
	if !p.FinishedAt.IsZero() {
		ended = "ended " + moment(p.FinishedAt)
	}
	s.line("  %s", s.dim(fmt.Sprintf("run %s, began %s, %s", p.RunID, moment(p.StartedAt), ended)))
	if len(p.Outcomes) == 0 {
		return
	}
	rows := make([][]string, len(p.Outcomes))
	for i, o := range p.Outcomes {
		rows[i] = []string{o.Operation, o.Outcome, o.Code, count(o.Rows)}
	}
	s.line("")
	s.table([]column{left("operation"), left("outcome"), left("code"), right("rows")}, rows)
}

// outcomeRows has one line for each outcome that any row had.
func outcomeRows(r report.Run) [][]string {
	var rows [][]string
	line := func(what string, c report.Counts, note string) {
		if c.Total() > 0 {
			rows = append(rows, []string{what, count(c.Add), count(c.Update), count(c.Remove), note})
		}
	}
	if r.DryRun {
		line("would send", r.Planned, "")
	}
	line("delivered", r.Delivered, "")
	line("accepted", r.Accepted, "result pending")
	line("rejected", r.Rejected, "")
	line("uncertain", r.Uncertain, "sent, not answered")
	line("parked", r.Parked, "rejected too often")
	line("held", r.Held, "by a guard")
	line("skipped", r.Skipped.Counts, reasons(r.Skipped.Reasons))
	if !r.DryRun { // of a dry run it says nothing: nothing was to be tried
		line("deferred", r.Deferred, "not tried")
	}
	return rows
}

// reasons lists skipped rows by reason, the most frequent first.
func reasons(counts map[string]int64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name + " " + count(counts[name])
	}
	return strings.Join(parts, ", ")
}

// runFooter is the one line of numbers under a run.
func runFooter(r report.Run) string {
	took := r.FinishedAt.Sub(r.StartedAt)
	sent := r.Delivered.Total() + r.Accepted.Total()
	parts := []string{fmt.Sprintf("%s, %s unchanged", plural(r.Rows, "row"), count(r.Unchanged))}
	if k := r.Keys; k != nil {
		parts = append(parts, fmt.Sprintf("%s of %s are in the model", count(k.Found), plural(k.Given, "key")))
	}
	if r.HeldOut > 0 {
		parts = append(parts, count(r.HeldOut)+" held out")
	}
	if r.Forgotten > 0 {
		parts = append(parts, count(r.Forgotten)+" forgotten")
	}
	if r.Refreshed > 0 {
		parts = append(parts, count(r.Refreshed)+" refreshed")
	}
	if j := r.Jobs; j != nil {
		if j.Ended > 0 {
			parts = append(parts, plural(j.Ended, "job")+" ended")
		}
		if j.Pending > 0 {
			parts = append(parts, fmt.Sprintf("%s pending with %s", plural(j.Pending, "job"), plural(j.PendingRows, "row")))
		}
	}
	requests := plural(r.Requests, "request")
	if r.Retries > 0 {
		requests += fmt.Sprintf(" (%s)", retries(r.Retries))
	}
	parts = append(parts, requests)
	if perSecond := rate(sent, took); perSecond != "" {
		parts = append(parts, perSecond)
	}
	return strings.Join(append(parts, seconds(took)), " · ")
}

func retries(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return count(n) + " retries"
}

// drawRunReasons says why a run is not a success and what to do next.
func drawRunReasons(s screen, r report.Run, next steps) {
	if r.Error == nil { // an error says them itself, on stderr
		for _, reason := range r.Reasons {
			s.line("  %s %s", s.yellow("!"), reason)
		}
		drawAllow(s, "  ", r.Sync, r.Allow)
	}
	for _, step := range next(r) {
		s.line("  %s %s", s.dim("→"), step)
	}
}

// steps are commands, each with what it does.
type steps func(report.Run) []string

// backfillSteps: the next run does not know of rows that a backfill left undone.
func backfillSteps(r report.Run) []string {
	if r.Status == report.Interrupted || r.Status == report.Failed && r.Deferred.Total() > 0 {
		return []string{fmt.Sprintf("dray backfill %s --resume %s  goes on with what is left", r.Sync, r.RunID)}
	}
	return nextSteps(r)
}

// nextSteps are the commands that help with what a run left behind.
func nextSteps(r report.Run) []string {
	var steps []string
	if r.Rejected.Total() > 0 {
		steps = append(steps, fmt.Sprintf("dray errors %s  shows what the destination refused, and why", r.Sync))
	}
	if r.Parked.Total() > 0 {
		steps = append(steps, fmt.Sprintf("dray retry %s  makes parked rows due again", r.Sync))
	}
	switch {
	case r.DryRun, r.Status == report.Locked, r.Status == report.Stopped: // another run would end as this one did
	case r.Status == report.Partial && r.Deferred.Total() > 0 && r.Uncertain.Total() == 0:
		steps = append(steps, fmt.Sprintf("dray retry %s  makes rows that wait for their next try due now", r.Sync))
	case r.Uncertain.Total() > 0 || r.Deferred.Total() > 0:
		steps = append(steps, fmt.Sprintf("dray run %s  takes up what was not answered or not tried", r.Sync))
	}
	return steps
}

func colored(s screen, status report.Status) string {
	switch status {
	case report.Succeeded:
		return s.green(string(status))
	case report.Failed:
		return s.red(string(status))
	default:
		return s.yellow(string(status))
	}
}

// runsTotal sums several runs in one line; syncs that did not succeed are counted by status.
func runsTotal(runs []report.Run) string {
	var sent, requests int64
	byStatus := map[report.Status]int{}
	var first, last time.Time
	for _, r := range runs {
		sent += r.Delivered.Total() + r.Accepted.Total()
		requests += r.Requests
		byStatus[r.Status]++
		if first.IsZero() || r.StartedAt.Before(first) {
			first = r.StartedAt
		}
		if r.FinishedAt.After(last) {
			last = r.FinishedAt
		}
	}
	var statuses []string
	for _, status := range []report.Status{report.Succeeded, report.Partial, report.Failed, report.Stopped, report.Locked, report.Interrupted} {
		if n := byStatus[status]; n > 0 {
			statuses = append(statuses, fmt.Sprintf("%d %s", n, status))
		}
	}
	parts := []string{strings.Join(statuses, ", "), plural(sent, "row") + " delivered", plural(requests, "request")}
	if perSecond := rate(sent, last.Sub(first)); perSecond != "" {
		parts = append(parts, perSecond)
	}
	return fmt.Sprintf("%d syncs: %s", len(runs), strings.Join(append(parts, seconds(last.Sub(first))), " · "))
}
