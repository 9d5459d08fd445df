package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) adoptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt SYNC",
		Short: "Take today's model as what the destination has; send nothing",
		Long: `Writes the snapshot as if every row of today's model had been delivered. Nothing is sent. For a destination that was filled
by another tool with the same data. What Dray adopted is not its own: on_remove: delete leaves it there.`,
		GroupID: groupDeliver,
		Args:    syncArgument("adopt SYNC"),
	}
	return a.changeCommand(cmd, "", (*run.Session).Adopt)
}

func (a *app) resetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset SYNC",
		Short: "Forget what was delivered, so that the next run sends everything",
		Long: `Drops the snapshot of a sync. The next run sends every row as new; rows that left the model meanwhile are not removed
from the destination, for Dray no longer knows them.`,
		GroupID: groupDeliver,
		Args:    syncArgument("reset SYNC"),
	}
	return a.changeCommand(cmd, "reset forgets what %s delivered: the next run sends every row again, and what has left the model stays at the destination",
		(*run.Session).Reset)
}

func (a *app) moveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "move SYNC",
		Short: "Bind a sync's snapshot to another account, list or URL",
		Long: `A snapshot is about one account, object and list; a run that finds another one stops. This says that the destination is the
same, only known by another name: the snapshot is bound to what is configured now, and nothing is sent.`,
		GroupID: groupDeliver,
		Args:    syncArgument("move SYNC"),
	}
	return a.changeCommand(cmd, "move takes what %s delivered as what the newly configured destination has", (*run.Session).Move)
}

func (a *app) retireCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "retire SYNC",
		Short: "End a sync: drop its tables, with --remove also what it delivered",
		Long: `Ends a sync, also one that is gone from the files. Its tables are dropped and what it delivered stays; --remove first takes
away what the sync's origin allows: what Dray created there, and memberships.`,
		GroupID: groupDeliver,
		Args:    syncArgument("retire SYNC [--remove]"),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "first remove from the destination what this sync created there")
	var yes bool
	cmd.Flags().BoolVar(&yes, "yes", false, "on a terminal, do not ask")
	a.projectFlags(cmd)
	cmd.ValidArgsFunction = a.completeNames(graph.Sync)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if remove {
			if err := a.confirm(yes, fmt.Sprintf("retire --remove deletes from the destination what %s created there", args[0])); err != nil {
				return err
			}
		}
		return a.change(cmd.Context(), args[0], func(s *run.Session, ctx context.Context, sync string) (run.Change, error) {
			return s.Retire(ctx, sync, remove)
		})
	}
	return cmd
}

// changeCommand completes a command that changes what is known of one sync. warning (with %s for the sync) is asked before
// it is done; "" asks nothing.
func (a *app) changeCommand(cmd *cobra.Command, warning string, do func(*run.Session, context.Context, string) (run.Change, error)) *cobra.Command {
	a.projectFlags(cmd)
	var yes bool
	cmd.Flags().BoolVar(&yes, "yes", false, "on a terminal, do not ask")
	cmd.ValidArgsFunction = a.completeNames(graph.Sync)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if warning != "" {
			if err := a.confirm(yes, fmt.Sprintf(warning, args[0])); err != nil {
				return err
			}
		}
		return a.change(cmd.Context(), args[0], do)
	}
	return cmd
}

// change does it and says what was done; what `retire --remove` sent is reported as a run.
func (a *app) change(ctx context.Context, sync string, do func(*run.Session, context.Context, string) (run.Change, error)) error {
	return a.with(ctx, func(s *run.Session) error {
		c, err := do(s, ctx, sync)
		a.progress.stop()
		if err != nil && c.Run == nil {
			return err
		}
		a.show(c, func(out screen) { drawChange(out, c, err == nil, about(s.Graph)) })
		if c.Run != nil {
			a.explain(ctx, err, []syncProblem{{sync, c.Run.Error}})
			a.code = gravest([]int{a.code, c.Run.ExitCode})
		}
		return nil
	})
}

func drawChange(s screen, c run.Change, done bool, about caption) {
	if c.Run != nil {
		drawRuns(s, []report.Run{*c.Run}, about, nextSteps)
	}
	if !done {
		return
	}
	rows := plural(c.Rows, "row")
	switch c.Action {
	case "adopted":
		s.line("%s adopted: %s stand as delivered; nothing was sent", s.bold(c.Sync), rows)
	case "reset":
		s.line("%s reset: %s forgotten; the next run sends everything", s.bold(c.Sync), rows)
	case "moved":
		s.line("%s moved: %s are now about the destination as it is configured", s.bold(c.Sync), rows)
	default:
		s.line("%s %s: %s forgotten", s.bold(c.Sync), c.Action, rows)
		if about(c.Sync) != "" { // it is still in the files
			s.line("  take it out of the project's files too, or its next run sends everything again")
		}
	}
}

func (a *app) retryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "retry SYNC",
		Short:             "Make rejected rows, waiting or parked, due in the next run",
		GroupID:           groupDeliver,
		Args:              syncArgument("retry SYNC"),
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				n, err := s.Retry(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				a.show(map[string]any{"sync": args[0], "rows": n}, func(out screen) {
					if n == 0 {
						out.line("no rejected rows of %s are waiting", args[0])
						return
					}
					out.line("due in the next run: %s", plural(n, "row"))
					out.line("  dray run %s", args[0])
				})
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}
