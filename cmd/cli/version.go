package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// binary says what this binary is.
type binary struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	BuiltAt  string `json:"committed_at,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which Dray this is",
		GroupID: groupTools,
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b := thisBinary()
			if a.json() {
				a.printJSON(b)
				return nil
			}
			a.out.line("dray %s (%s, %s)", b.Version, b.Go, b.Platform)
			return nil
		},
	}
}

// thisBinary reads what the Go linker wrote into the binary.
func thisBinary() binary {
	b := binary{Version: "dev", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.BuiltAt = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
