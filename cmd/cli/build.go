package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) buildCommand() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "build [NAME…]",
		Short: "Build models, identity, profiles and segments in the warehouse",
		Long: `Builds what is named and everything it is made of, parents first, and runs each model's tests right after it. A failure
stops only what depends on it. Without names: everything.`,
		Example:           "  dray build\n  dray build customer\n  dray build tag:daily --threads 4\n  dray build events_daily --full-refresh",
		GroupID:           groupDeliver,
		ValidArgsFunction: a.completeNames(graph.Model, graph.Entity, graph.Segment),
		RunE: func(cmd *cobra.Command, args []string) error {
			work := func(ctx context.Context, s *run.Session, nodes []*graph.Node) (build.Result, error) {
				return s.Build(ctx, ids(nodes), full)
			}
			return a.onNodes(cmd, args, []graph.Kind{graph.Model, graph.Entity, graph.Segment}, work, drawBuild)
		},
	}
	a.workFlags(cmd)
	a.failedFlag(cmd)
	fullRefreshFlag(cmd, &full)
	return cmd
}

// onNodes selects nodes, works on them and shows every node's result, also when some failed.
func (a *app) onNodes(cmd *cobra.Command, args []string, kinds []graph.Kind,
	work func(context.Context, *run.Session, []*graph.Node) (build.Result, error), draw func(screen, build.Result),
) error {
	return a.with(cmd.Context(), func(s *run.Session) error {
		nodes, err := s.Graph.Select(append(args, a.flags.selects...), a.flags.excludes, kinds...)
		if err != nil {
			return err
		}
		last, err := lastFailures(s.Project.Dir)
		if err != nil {
			return err
		}
		if a.flags.failed {
			nodes = last.keep(cmd.Name(), nodes)
		}
		var result build.Result
		if len(nodes) > 0 {
			result, err = work(cmd.Context(), s, nodes)
			a.progress.stop()
		}
		if err := last.record(cmd.Name(), result); err != nil {
			a.log.Warn("--failed will not know of this", "error", err)
		}
		if len(result.Nodes) == 0 && err != nil {
			return err
		}
		a.show(buildDocument(result), func(out screen) { draw(out, result) })
		a.explain(cmd.Context(), err, nil)
		return nil
	})
}
