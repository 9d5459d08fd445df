package cli

import (
	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/sync/run"
)

func (a *app) upgradeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring Dray's own tables in the warehouse up to this version",
		Long: `Adds what tables that an older Dray made lack, each sync's under its lock and in one transaction. Nothing is sent and nothing is
taken away; an upgrade that was interrupted goes on when it is repeated. dray serve does the same when it starts. Until then, commands
that would read such tables stop with exit code 2.`,
		GroupID: groupDeliver,
		Args:    cobra.NoArgs,
	}
	a.projectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd.Context(), func(s *run.Session) error {
			done, err := s.Upgrade(cmd.Context())
			if err != nil {
				return err
			}
			a.show(done, func(out screen) {
				for _, u := range done {
					out.line("%s  upgraded from version %d to %d", out.bold(u.Sync), u.From, u.To)
				}
				if len(done) == 0 {
					out.line("Dray's tables are those of this version.")
				}
			})
			return nil
		})
	}
	return cmd
}
