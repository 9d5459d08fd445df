package cli

import (
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/sandbox"
	"github.com/dray-dev/dray/internal/diag"
)

func (a *app) sandboxCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Serve local stand-ins of the vendors' APIs",
		Long: `Serves stand-ins of the destinations' APIs, as strict as their contracts, until it is interrupted: a project can be
rehearsed against them without an account. It prints the destination to write into the project. Nothing is kept.`,
		GroupID: groupTools,
		Args:    usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var entries []sandbox.Entry
			for _, e := range registry.Destinations() {
				if e.StandIn == nil {
					continue
				}
				spec := e.Connector.Spec()
				entries = append(entries, sandbox.Entry{Type: spec.Type, Title: spec.Title, New: e.StandIn})
			}
			var config net.ListenConfig
			l, err := config.Listen(cmd.Context(), "tcp", address)
			if err != nil {
				return &diag.Error{Kind: diag.Invalid, Code: "sandbox.address", Msg: "cannot listen on " + address, Err: err, Hint: "another address: --listen 127.0.0.1:0 takes any free port"}
			}
			out := a.stdout
			if a.json() {
				a.printJSON(map[string]string{"url": "http://" + l.Addr().String()})
			}
			if a.json() || a.flags.quiet {
				out = io.Discard
			}
			return sandbox.New(entries).Serve(cmd.Context(), l, out)
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8700", "the `ADDRESS` to serve on")
	return cmd
}
