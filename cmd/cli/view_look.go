package cli

import (
	"fmt"
	"strings"

	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// drawStatus is one line a sync, then what asks for attention.
func drawStatus(s screen, list []run.SyncStatus) {
	if len(list) == 0 {
		s.line("the project has no syncs, and none was ever run")
		return
	}
	rows := make([][]string, len(list))
	for i, st := range list {
		rows[i] = []string{
			s.bold(st.Sync), route(st), lastStatus(s, st), lastTime(st.LastRun), nextTime(st),
			count(st.Snapshot), some(st.Waiting), some(st.Parked), some(st.Uncertain),
		}
	}
	s.table([]column{
		left("sync"), left("from → to"), left("last run"), left("ended"), left("next"),
		right("acknowledged"), right("waiting"), right("parked"), right("uncertain"),
	}, rows)
	for _, st := range list {
		for _, note := range attention(st) {
			s.line("  %s %s", s.yellow("!"), note)
		}
	}
}

// some leaves zeros out, so that what is there stands out.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return count(n)
}

func route(st run.SyncStatus) string {
	if st.Orphaned {
		return "→ " + st.Destination + " " + st.Object
	}
	return fmt.Sprintf("%s → %s %s, %s", st.Source, st.Destination, st.Object, st.Mode)
}

func lastStatus(s screen, st run.SyncStatus) string {
	if st.LastRun == nil {
		return s.dim("never")
	}
	return colored(s, st.LastRun.Status)
}

func lastTime(r *report.Run) string {
	if r == nil {
		return ""
	}
	return moment(r.FinishedAt)
}

func nextTime(st run.SyncStatus) string {
	switch {
	case st.Orphaned:
		return "orphaned"
	case !st.Enabled:
		return "disabled"
	case st.PausedAt != nil:
		return "paused"
	case st.NextRun == nil && len(st.After) > 0:
		return "after " + strings.Join(st.After, ", ")
	case st.NextRun == nil:
		return ""
	default:
		return moment(*st.NextRun)
	}
}

// attention is what a person should do about a sync.
func attention(st run.SyncStatus) []string {
	var notes []string
	if st.Orphaned {
		notes = append(notes, fmt.Sprintf("%s is not in the project any more; its tables are kept: dray retire %[1]s ends it", st.Sync))
	}
	if st.PausedAt != nil {
		notes = append(notes, fmt.Sprintf("%s is paused since %s: dray resume %[1]s", st.Sync, moment(*st.PausedAt)))
	}
	if st.Note != "" {
		notes = append(notes, fmt.Sprintf("%s was not started when it was last due: %s", st.Sync, st.Note))
	}
	if st.OpenRun != "" {
		notes = append(notes, fmt.Sprintf("%s has a run that has not ended (%s): it is under way, or was killed and the next run finishes it", st.Sync, st.OpenRun))
	}
	if st.Held > 0 {
		notes = append(notes, fmt.Sprintf("%s: %s held in the last run: dray plan %[1]s says why", st.Sync, plural(st.Held, "row")))
	}
	if st.Parked > 0 {
		notes = append(notes, fmt.Sprintf("%s: %s parked: dray errors %[1]s says why", st.Sync, plural(st.Parked, "row")))
	}
	return notes
}

// drawHistory is one line a run.
func drawHistory(s screen, runs []report.Run, picked bool) {
	if len(runs) == 0 && picked {
		s.line("no such runs")
		return
	}
	if len(runs) == 0 {
		s.line("no runs yet: dray run starts one")
		return
	}
	rows := make([][]string, len(runs))
	for i, r := range runs {
		took := ""
		if !r.FinishedAt.IsZero() {
			took = seconds(r.FinishedAt.Sub(r.StartedAt))
		}
		rows[i] = []string{
			moment(r.StartedAt), r.Sync, colored(s, r.Status), count(r.Rows), delivered(r.Delivered), undelivered(r), count(r.Requests), took, r.RunID,
		}
	}
	s.table([]column{
		left("started"), left("sync"), left("status"), right("rows"), left("delivered"), left("not delivered"), right("requests"), right("time"), left("run"),
	}, rows)
}

// delivered is "+12 ~3 -1", "–" for nothing.
func delivered(c report.Counts) string {
	var parts []string
	for _, p := range []struct {
		sign string
		n    int64
	}{{"+", c.Add}, {"~", c.Update}, {"-", c.Remove}} {
		if p.n > 0 {
			parts = append(parts, p.sign+count(p.n))
		}
	}
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, " ")
}

// undelivered names the outcomes of rows that were to be sent and did not arrive, and a run's error code.
func undelivered(r report.Run) string {
	var parts []string
	for _, p := range []struct {
		what string
		n    int64
	}{
		{"rejected", r.Rejected.Total()},
		{"uncertain", r.Uncertain.Total()},
		{"parked", r.Parked.Total()},
		{"held", r.Held.Total()},
		{"deferred", r.Deferred.Total()},
		{"skipped", r.Skipped.Total()},
	} {
		if p.n > 0 {
			parts = append(parts, count(p.n)+" "+p.what)
		}
	}
	if r.Error != nil {
		parts = append(parts, r.Error.Code)
	}
	return strings.Join(parts, ", ")
}

// drawErrors is one block a reason: how many rows, which answer, since when, and what to do.
func drawErrors(s screen, sync string, groups []run.ErrorGroup) {
	if len(groups) == 0 {
		s.line("no rejected rows: %s", sync)
		return
	}
	for i, g := range groups {
		if i > 0 {
			s.line("")
		}
		s.line("%s  %s  %s", s.bold(plural(g.Rows, "row")), s.red(g.Code), g.Operation)
		if g.Message != "" {
			more := ""
			if g.Messages > 1 {
				more = s.dim(fmt.Sprintf("  (one of %s)", plural(g.Messages, "message")))
			}
			s.line("  %s%s", g.Message, more)
		}
		times := fmt.Sprintf("first %s, last %s", moment(g.FirstAt), moment(g.LastAt))
		if g.NextAttempt != nil {
			times += ", next try " + moment(*g.NextAttempt)
		}
		if g.Parked > 0 {
			times += fmt.Sprintf(", %s parked", count(g.Parked))
		}
		s.line("  %s", s.dim(times))
		if g.ExampleKey != "" {
			s.line("  %s", s.dim("for example "+g.ExampleKey))
		}
		s.line("  %s %s", s.dim("→"), g.Advice)
	}
}

// drawChecks is one line for the warehouse, where it was asked, and one a destination.
func drawChecks(s screen, list []run.CheckResult) {
	if len(list) == 0 {
		s.line("the project has no destinations")
		return
	}
	rows := make([][]string, len(list))
	for i, c := range list {
		status := s.green("ok")
		if !c.OK {
			status = s.red("failed")
		}
		rows[i] = []string{s.bold(c.Name), c.Type, c.Account, status}
	}
	s.table([]column{left("connection"), left("type"), left("account"), left("status")}, rows)
}
