package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// chosen is what a command's words and selectors mean.
type chosen struct {
	names []string
	// one: exactly one thing was named, so that JSON is an object; otherwise a list.
	one bool
	// paused are left out of names, because nobody named them.
	paused []string
	// backfill: what a run leaves undone is taken up by --resume, not by the next run.
	backfill bool
}

// chooseSyncs gives the syncs to work on, in the order they depend on each other. Without words and selectors these are all that
// are enabled; a selector leaves out what is not enabled, a plain name does not.
func (a *app) chooseSyncs(s *run.Session, args []string) (chosen, error) {
	words := append(slices.Clone(args), a.flags.selects...)
	if len(a.flags.excludes) == 0 && !slices.ContainsFunc(words, isSelector) {
		names, err := s.Syncs(words)
		return chosen{names: names, one: len(words) == 1}, err
	}
	nodes, err := s.Graph.Select(words, a.flags.excludes, graph.Sync)
	if err != nil {
		return chosen{}, err
	}
	var names []string
	for _, n := range nodes {
		if n.Sync.Enabled == nil || *n.Sync.Enabled || slices.Contains(words, n.Name) {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return chosen{}, nil // Syncs would take none for all
	}
	names, err = s.Syncs(names)
	return chosen{names: names}, err
}

// failedSyncs keeps those whose last run did not succeed.
func failedSyncs(runs func(sync string) ([]report.Run, error), names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		last, err := runs(name)
		if err != nil {
			return nil, err
		}
		if len(last) > 0 && last[0].Status != report.Succeeded {
			out = append(out, name)
		}
	}
	return out, nil
}

// syncArgument is for commands that take exactly one sync; the sync may be gone from the files.
func syncArgument(use string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && !isSelector(args[0]) {
			return nil
		}
		return diag.Errorf(diag.Invalid, "cli.arguments", "%s takes exactly one sync", cmd.CommandPath()).WithHint("usage: dray %s", use)
	}
}

// isSelector tells a selector from a plain name.
func isSelector(word string) bool { return strings.ContainsAny(word, "+:*?[,. ") }

// ids are the nodes' ids.
func ids(nodes []*graph.Node) []graph.ID {
	out := make([]graph.ID, len(nodes))
	for i, n := range nodes {
		out[i] = n.ID
	}
	return out
}

// completeNames lets a shell complete the project's names of some kinds. A project that cannot be read completes nothing.
func (a *app) completeNames(kinds ...graph.Kind) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		p, err := a.prepare()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, n := range p.Graph.Order() {
			if slices.Contains(kinds, n.Kind) {
				names = append(names, cobra.CompletionWithDesc(n.Name, string(n.Kind)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
