package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) runCommand() *cobra.Command {
	var o run.RunOptions
	cmd := &cobra.Command{
		Use:   "run [SYNC…]",
		Short: "Build what is needed, plan, and deliver the difference",
		Long: `Builds what the syncs read, compares it with what each destination acknowledged, checks the guards, and sends the
difference. Without names: every sync that is enabled and not paused, in dependency order; one that comes after: another in the same
call is not run where that one did not end as it asks. A run that was interrupted or killed is taken up by the next one.`,
		Example:           "  dray run\n  dray run vips_to_crm\n  dray run +vips_to_crm\n  dray run vips_to_crm --allow removes=5f1c",
		GroupID:           groupDeliver,
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			started := false
			err := a.with(cmd.Context(), func(s *run.Session) error {
				started = true
				c, err := a.syncsToRun(cmd, s, args)
				if err != nil {
					return err
				}
				if len(c.names) == 0 {
					return a.nothingToRun(s, c)
				}
				runs, err := s.Run(cmd.Context(), c.names, o)
				a.progress.stop()
				a.alert(cmd.Context(), s, runs...)
				return a.showRuns(cmd.Context(), s.Graph, c, runs, err)
			})
			if kind, known := diag.KindOf(err); known && kind == diag.Locked && !started {
				return a.notStarted(cmd.Context(), args, err)
			}
			return err
		},
	}
	a.workFlags(cmd)
	a.failedFlag(cmd)
	fullRefreshFlag(cmd, &o.Full)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "build into scratch and plan, send nothing")
	cmd.Flags().StringArrayVar(&o.Allow, "allow", nil, "let through what a guard holds: `WHAT=FINGERPRINT` as dray plan prints it; may be repeated")
	return cmd
}

func (a *app) failedFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.flags.failed, "failed", false, "only what did not succeed last time")
}

func fullRefreshFlag(cmd *cobra.Command, full *bool) {
	cmd.Flags().BoolVar(full, "full-refresh", false, "build incremental models and identities anew")
}

// syncsToRun is chooseSyncs without the syncs that are paused, unless they are named, and with --failed applied.
func (a *app) syncsToRun(cmd *cobra.Command, s *run.Session, args []string) (chosen, error) {
	c, err := a.chooseSyncs(s, args)
	if err != nil {
		return c, err
	}
	kept, err := s.State.Schedules(cmd.Context(), s.Project.Schema)
	if err != nil {
		return c, err
	}
	named := append(slices.Clone(args), a.flags.selects...)
	c.names = slices.DeleteFunc(c.names, func(name string) bool {
		left := !kept[name].PausedAt.IsZero() && !slices.Contains(named, name)
		if left {
			if a.json() { // its document is a list of runs
				a.log.Warn("a paused sync was left out", "sync", name)
			}
			c.paused = append(c.paused, name)
		}
		return left
	})
	if !a.flags.failed {
		return c, err
	}
	c.names, err = failedSyncs(func(sync string) ([]report.Run, error) {
		return s.Runs(cmd.Context(), run.RunFilter{Sync: sync, Limit: 1})
	}, c.names)
	return c, err
}

// nothingToRun ends a run that has no syncs, and says why there are none.
func (a *app) nothingToRun(s *run.Session, c chosen) error {
	a.show([]any{}, func(out screen) {
		switch {
		case a.flags.failed:
			out.line("nothing to do: no sync failed last time")
		case len(s.Project.Syncs) > 0:
			out.line("nothing to do: no enabled sync is selected")
		default:
			out.line("nothing to do: the project has no syncs")
			out.line("  add one under syncs: in a YAML file of the project; `dray init DIR` writes an example")
		}
		drawPaused(out, c.paused)
	})
	return nil
}

// notStarted reports each sync as locked: the warehouse is another process's (DESIGN §4). err is why.
func (a *app) notStarted(ctx context.Context, args []string, err error) error {
	p, perr := a.prepare()
	if perr != nil {
		return err
	}
	c, cerr := a.chooseSyncs(&run.Session{Prepared: p}, args) // choosing needs no connection
	if cerr != nil {
		return err
	}
	why := problem(problems(ctx, err)[0])
	now := a.now().UTC()
	runs := make([]report.Run, len(c.names))
	for i, name := range c.names {
		runs[i] = report.Run{
			Sync: name, Status: report.Locked, ExitCode: diag.Locked.ExitCode(), StartedAt: now, FinishedAt: now, Error: &why,
			Skipped: report.Skipped{Reasons: map[string]int64{}},
		}
	}
	return a.showRuns(ctx, p.Graph, c, runs, err)
}

// showRuns shows every report, also when some of the runs failed.
func (a *app) showRuns(ctx context.Context, g *graph.Graph, c chosen, runs []report.Run, err error) error {
	if len(runs) == 0 {
		return err
	}
	var document any = runs
	if c.one && len(runs) == 1 {
		document = runs[0]
	}
	next := nextSteps
	if c.backfill {
		next = backfillSteps
	}
	a.show(document, func(out screen) {
		drawRuns(out, runs, about(g), next)
		drawPaused(out, c.paused)
	})
	reported := make([]syncProblem, len(runs))
	codes := make([]int, len(runs))
	for i, r := range runs {
		reported[i] = syncProblem{r.Sync, r.Error}
		codes[i] = r.ExitCode
	}
	a.explain(ctx, err, reported)
	a.code = gravest(append(codes, a.code))
	return nil
}

// drawPaused names the syncs that were left out for being paused.
func drawPaused(s screen, syncs []string) {
	for _, name := range syncs {
		s.line("%s %s is paused and was left out: dray resume %[2]s, or dray run %[2]s", s.yellow("!"), name)
	}
}

// syncProblem is a report's error with its sync.
type syncProblem struct {
	sync    string
	problem *report.Problem
}

// explain says on stderr what kept reports from being successes. Reports carry their errors in JSON; for people they come
// after the tables. It sets the command's exit code, by the error, and returns it.
func (a *app) explain(ctx context.Context, err error, reported []syncProblem) int {
	var found []*diag.Error
	if err != nil {
		found = problems(ctx, err)
		a.code = exitCode(found)
	}
	if a.json() {
		return a.code
	}
	for _, r := range reported {
		said := func(e *diag.Error) bool {
			return e.Message() == r.problem.Message || r.problem.Code == "interrupted" && e.Kind == diag.Interrupted
		}
		if r.problem != nil && !slices.ContainsFunc(found, said) {
			found = append(found, problemOf(r))
		}
	}
	a.tell(found)
	return a.code
}

// problemOf makes a report's error one that can be told.
func problemOf(r syncProblem) *diag.Error {
	message := r.sync + ": " + r.problem.Message
	if r.problem.At != "" {
		message = r.problem.At + ": " + message
	}
	return &diag.Error{Code: r.problem.Code, Msg: message, Hint: r.problem.Hint}
}
