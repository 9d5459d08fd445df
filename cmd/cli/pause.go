package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

func (a *app) pauseCommand() *cobra.Command {
	return a.pausing("pause", "Keep dray serve from starting syncs", `The named syncs do not start by themselves until dray resume. A run under way ends as usual, and dray run SYNC still runs one; dray run
without names leaves them out.`,
		"paused", (*state.State).Pause)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.pausing("resume", "Let dray serve start syncs again", `Ends dray pause. The next run is the next one due: what came due meanwhile is not caught up.`,
		"resumed", (*state.State).Resume)
}

type stateChange func(s *state.State, ctx context.Context, schema string, syncs []string, at time.Time) error

// pausing completes a command that changes the control state alone.
func (a *app) pausing(use, short, long, done string, do stateChange) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " SYNC…", Short: short, Long: long, GroupID: groupDeliver,
		Args: usage(cobra.ArbitraryArgs), ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args)+len(a.flags.selects) == 0 {
				return usage(cobra.MinimumNArgs(1))(cmd, args)
			}
			ctx := cmd.Context()
			return a.withState(ctx, func(p *run.Prepared, s *state.State) error {
				c, err := a.chooseSyncs(&run.Session{Prepared: p}, args)
				if err != nil {
					return err
				}
				if err := do(s, ctx, p.Project.Schema, c.names, a.now()); err != nil {
					return err
				}
				type line struct {
					Sync   string `json:"sync"`
					Action string `json:"action"`
				}
				doc := []line{}
				for _, name := range c.names {
					doc = append(doc, line{name, done})
				}
				a.show(doc, func(out screen) {
					for _, l := range doc {
						out.line("%s %s", out.bold(l.Sync), l.Action)
					}
				})
				return nil
			})
		},
	}
	a.selectFlags(cmd)
	return cmd
}
