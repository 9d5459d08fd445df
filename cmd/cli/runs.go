package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// runsFlags are what picks runs.
type runsFlags struct {
	status       []string
	since, until string
	before       string
	limit        int
}

func (a *app) runsCommand() *cobra.Command {
	var f runsFlags
	cmd := &cobra.Command{
		Use:   "runs [SYNC|RUN]",
		Short: "Show the history of runs, newest first; or one run whole",
		Long: `Lists runs, those that began last first, from the control state and, where that was lost, from the warehouse. With the id of a
run: that run with what became of its rows, by outcome and code. The next page begins --before the last run of this one.`,
		Example:           "  dray runs vips_to_crm --status failed,partial --since 7d\n  dray runs --limit 50 --before 0193f1c2-…\n  dray runs 0193f1c2-…",
		GroupID:           groupLook,
		Args:              usage(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := ""
			if len(args) == 1 {
				what = args[0]
			}
			if _, err := uuid.Parse(what); err == nil {
				return a.showRun(cmd, what)
			}
			return a.listRuns(cmd, what, f)
		},
	}
	a.projectFlags(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 20, "at most `N` runs")
	cmd.Flags().StringSliceVar(&f.status, "status", nil, "only runs that ended so: "+strings.Join(statuses(), ", "))
	cmd.Flags().StringVar(&f.since, "since", "", "only runs that began at this `TIME` or later: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 24h or 7d")
	cmd.Flags().StringVar(&f.until, "until", "", "only runs that began before this `TIME`")
	cmd.Flags().StringVar(&f.before, "before", "", "only runs that began before this `RUN`: the last of the page before")
	return cmd
}

func statuses() []string {
	var out []string
	for _, s := range []report.Status{report.Succeeded, report.Partial, report.Failed, report.Stopped, report.Locked, report.Interrupted} {
		out = append(out, string(s))
	}
	return out
}

// filter checks the flags.
func (f runsFlags) filter(sync string, now time.Time) (run.RunFilter, error) {
	out := run.RunFilter{Sync: sync, Before: f.before, Limit: f.limit}
	if f.limit < 1 {
		return out, diag.Errorf(diag.Invalid, "cli.limit", "--limit must be at least 1")
	}
	for _, s := range f.status {
		if !slices.Contains(statuses(), s) {
			return out, diag.Errorf(diag.Invalid, "cli.status", "--status: no run ends %q", s).WithHint("one of %s", strings.Join(statuses(), ", "))
		}
		out.Status = append(out.Status, report.Status(s))
	}
	var err error
	if out.Since, err = pointInTime("--since", f.since, now); err != nil {
		return out, err
	}
	out.Until, err = pointInTime("--until", f.until, now)
	return out, err
}

// pointInTime reads a point in time: RFC 3339, a date, or how long ago.
func pointInTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := config.ParseDuration(text); err == nil {
		return now.Add(-d.Duration), nil
	}
	return time.Time{}, diag.Errorf(diag.Invalid, "cli.time", "%s %s is no time", flag, text).WithHint("2026-01-31, 2026-01-31T08:00:00Z, or an age such as 24h or 7d")
}

func (a *app) listRuns(cmd *cobra.Command, sync string, flags runsFlags) error {
	f, err := flags.filter(sync, a.now())
	if err != nil {
		return err
	}
	return a.with(cmd.Context(), func(s *run.Session) error {
		list, err := s.Runs(cmd.Context(), f)
		if err != nil {
			return err
		}
		if len(list) == 0 && sync != "" { // runs of a sync that is gone are still shown
			if _, err := s.Syncs([]string{sync}); err != nil {
				return err
			}
		}
		picked := len(f.Status) > 0 || !f.Since.IsZero() || !f.Until.IsZero() || f.Before != ""
		a.show(notNil(list), func(out screen) {
			drawHistory(out, list, picked)
			if len(list) == f.Limit {
				out.line("  %s", out.dim("older ones: --before "+list[len(list)-1].RunID))
			}
		})
		return nil
	})
}

func (a *app) showRun(cmd *cobra.Command, id string) error {
	return a.with(cmd.Context(), func(s *run.Session) error {
		r, err := s.PastRun(cmd.Context(), id)
		if err != nil {
			return err
		}
		a.show(r, func(out screen) { drawPast(out, r, about(s.Graph)(r.Sync)) })
		return nil
	})
}
