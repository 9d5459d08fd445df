package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// exitChanges is what `plan --detailed-exitcode` ends with when there is something to send.
const exitChanges = 6

func (a *app) planCommand() *cobra.Command {
	var detailed bool
	var o run.RunOptions
	cmd := &cobra.Command{
		Use:   "plan [SYNC…]",
		Short: "Show what would be added, changed and removed; send nothing",
		Long: `Compares each sync's model with what its destination acknowledged, and shows the difference: counts, changed fields,
samples, and what the guards say. Nothing is sent, and nothing but scratch tables is written.

Keys in samples are hashed; --show-values shows them and the fields' values.`,
		Example:           "  dray plan\n  dray plan vips_to_crm --show-values\n  dray plan tag:crm --output json",
		GroupID:           groupDeliver,
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				c, err := a.syncsToRun(cmd, s, args)
				if err != nil {
					return err
				}
				if len(c.names) == 0 {
					return a.nothingToRun(s, c)
				}
				plans, err := s.Plan(cmd.Context(), c.names, o)
				a.progress.stop()
				return a.showPlans(cmd.Context(), s, c, plans, err, detailed)
			})
		},
	}
	a.workFlags(cmd)
	a.failedFlag(cmd)
	fullRefreshFlag(cmd, &o.Full)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 6 when there are changes")
	return cmd
}

// showPlans shows what there is, also when planning some of the syncs failed.
func (a *app) showPlans(ctx context.Context, s *run.Session, c chosen, plans []report.Plan, err error, detailed bool) error {
	if len(plans) == 0 {
		return err
	}
	var document any = plans
	if c.one && len(plans) == 1 {
		document = plans[0]
	}
	a.show(document, func(out screen) { drawPlans(out, plans, about(s.Graph)) })
	reported := make([]syncProblem, len(plans))
	changes := false
	for i, p := range plans {
		reported[i] = syncProblem{p.Sync, p.Error}
		changes = changes || p.HasChanges()
	}
	if a.explain(ctx, err, reported) == 0 && detailed && changes {
		a.code = exitChanges
	}
	return nil
}
