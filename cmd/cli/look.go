package cli

import (
	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every sync: last and next run, what stands, what waits",
		Long: `One line a sync: how its last run ended, when the next is due, how many rows its destination acknowledged, and how many
wait, are parked or uncertain. Syncs that are gone from the files but have tables left are listed as orphaned.`,
		GroupID: groupLook,
		Args:    usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				list, err := s.Status(cmd.Context())
				if err != nil {
					return err
				}
				a.show(notNil(list), func(out screen) { drawStatus(out, list) })
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}

func (a *app) errorsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "errors SYNC",
		Short: "Show rejected rows by the vendor's reason, and what to do",
		Long: `Groups the rows that the destination refused by its code, most first, each with an example and advice. Keys are hashed;
--show-values shows them. Rows that were skipped or held were not refused: dray runs RUN counts those by reason.`,
		GroupID:           groupLook,
		Args:              syncArgument("errors SYNC"),
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				groups, err := s.Errors(cmd.Context(), args[0], a.flags.showValues)
				if err != nil {
					return err
				}
				a.show(notNil(groups), func(out screen) { drawErrors(out, args[0], groups) })
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [DESTINATION…]",
		Short: "Connect to destinations and warehouse: do the credentials work, are the fields there?",
		Long: `Asks each destination which account it is, and where the vendor lists its fields compares them with those that syncs map.
Changes nothing. Without names: all of them, and first, where the warehouse has permissions, whether it lets Dray do what the project
needs; each permission that is missing is named.`,
		GroupID:           groupLook,
		ValidArgsFunction: a.completeNames(graph.Destination),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				list, err := s.Check(cmd.Context(), args)
				if err != nil && len(list) == 0 {
					return err
				}
				var document any = notNil(list)
				if len(args) == 1 && len(list) == 1 {
					document = list[0]
				}
				a.show(document, func(out screen) { drawChecks(out, list) })
				a.explain(cmd.Context(), err, nil)
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the project's files, for editors",
		Long: `Prints a JSON Schema of dray.yaml and the other YAML files. Editors with a YAML language server use it from a first line
such as:  # yaml-language-server: $schema=dray.schema.json`,
		Example: "  dray schema > dray.schema.json",
		GroupID: groupTools,
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			text, err := config.JSONSchema()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
}

// notNil makes an empty list of a missing one: JSON readers expect [].
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
