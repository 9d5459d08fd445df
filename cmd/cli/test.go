package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) testCommand() *cobra.Command {
	var update bool
	cmd := &cobra.Command{
		Use:   "test [NAME…]",
		Short: "Run the tests of models, and the payload tests of syncs",
		Long: `Models: counts the rows that fail each test (unique, not_null, accepted_values, relationships, custom SQL) in what is built.

Syncs: takes the rows in tests/SYNC/CASE.rows.csv (or .jsonl, .sql) through the sync and compares the requests that deliver
them with those in tests/SYNC/CASE.requests.json, without a network and without your warehouse. CASE.before.csv holds rows
that were delivered before, to test updates and removes. --update writes the requests that are sent now.

Nothing is built. Exits with 4 when a test fails.`,
		Example:           "  dray test\n  dray test orders_clean --output json\n  dray test vips_to_crm\n  dray test vips_to_crm --update",
		GroupID:           groupDeliver,
		ValidArgsFunction: a.completeNames(graph.Model, graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.test(cmd, args, update)
		},
	}
	a.workFlags(cmd)
	a.failedFlag(cmd)
	cmd.Flags().BoolVar(&update, "update", false, "payload tests: write the requests that are sent now as those expected")
	return cmd
}

// test runs what is selected: payload tests need no warehouse, so it is opened only where a model's tests are to run.
func (a *app) test(cmd *cobra.Command, args []string, update bool) error {
	p, err := a.prepare()
	if err != nil {
		return err
	}
	words := append(slices.Clone(args), a.flags.selects...)
	nodes, err := p.Graph.Select(words, a.flags.excludes, graph.Model, graph.Sync)
	if err != nil {
		return err
	}
	cases, err := payloadCases(p.Project.Dir)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		if err := strayCases(p.Graph, cases); err != nil {
			return err
		}
	}
	last, err := lastFailures(p.Project.Dir)
	if err != nil {
		return err
	}
	if a.flags.failed {
		nodes = last.keep(cmd.Name(), nodes)
	}
	models := slices.DeleteFunc(slices.Clone(nodes), func(n *graph.Node) bool { return n.Kind != graph.Model || n.Model.Tests == nil })
	var result build.Result
	var failed error
	if len(models) > 0 && !update {
		failed = a.with(cmd.Context(), func(s *run.Session) error {
			result, err = s.Test(cmd.Context(), ids(models))
			return err
		})
		var elsewhere *exited
		if errors.As(failed, &elsewhere) {
			return failed
		}
	}
	if failed == nil || len(result.Nodes) > 0 && !a.flags.failFast && cmd.Context().Err() == nil {
		payloads, err := a.testPayloads(cmd.Context(), p, nodes, cases, update)
		result.Nodes = append(result.Nodes, payloads.Nodes...)
		failed = errors.Join(failed, err)
	}
	if err := last.record(cmd.Name(), result); err != nil {
		a.log.Warn("--failed will not know of this", "error", err)
	}
	if len(result.Nodes) == 0 && failed != nil {
		return failed
	}
	a.show(buildDocument(result), func(out screen) { drawTests(out, result, update) })
	a.explain(context.WithoutCancel(cmd.Context()), failed, nil)
	return nil
}
