package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Print a shell's completion script",
		Long:      "Prints a script that lets a shell complete commands, flags and the project's names.",
		Example:   "  source <(dray completion bash)\n  dray completion zsh > \"${fpath[1]}/_dray\"\n  dray completion fish > ~/.config/fish/completions/dray.fish",
		GroupID:   groupTools,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(a.stdout, true)
			default:
				return cmd.Root().GenPowerShellCompletionWithDesc(a.stdout)
			}
		},
	}
}
