package cli

import "github.com/spf13/cobra"

// addCommands lists every command.
func (a *app) addCommands(root *cobra.Command) {
	root.AddCommand(
		a.initCommand(),
		a.validateCommand(),
		a.compileCommand(),
		a.dbtCommand(),

		a.buildCommand(),
		a.testCommand(),
		a.planCommand(),
		a.runCommand(),
		a.backfillCommand(),
		a.adoptCommand(),
		a.resetCommand(),
		a.moveCommand(),
		a.retireCommand(),
		a.upgradeCommand(),
		a.retryCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.serveCommand(),

		a.statusCommand(),
		a.runsCommand(),
		a.errorsCommand(),
		a.explainCommand(),
		a.profileCommand(),
		a.identityCommand(),
		a.segmentCommand(),
		a.graphCommand(),
		a.destinationsCommand(),
		a.checkCommand(),

		a.sandboxCommand(),
		a.schemaCommand(),
		a.completionCommand(),
		a.versionCommand(),
	)
}
