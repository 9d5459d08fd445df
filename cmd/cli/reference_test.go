package cli

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dray-dev/dray/internal/golden"
)

// TestCommandsPage keeps docs/reference/commands.md equal to what the commands say of themselves.
func TestCommandsPage(t *testing.T) {
	t.Parallel()
	golden.Check(t, "../../docs/reference/commands.md", commandsPage())
}

func commandsPage() []byte {
	a := &app{env: environment(nil), out: screen{w: io.Discard}, err: screen{w: io.Discard}}
	a.flags.output = "text"
	root := a.root()
	var b strings.Builder
	b.WriteString("<!-- Made from the commands by `go test ./cmd/cli -run TestCommandsPage -update`. -->\n\n# Commands\n\n")
	b.WriteString("`dray COMMAND --help` says the same. Exit codes and JSON shapes are in [operations](../guides/operations.md).\n\n")
	b.WriteString("## Every command\n\n")
	b.WriteString(flagTable(root.PersistentFlags()))
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", group.Title)
		for _, c := range root.Commands() {
			if c.GroupID == group.ID && !c.Hidden {
				describe(&b, c)
			}
		}
	}
	return []byte(b.String())
}

func describe(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n### dray %s\n\n%s.\n", c.Use, strings.TrimSuffix(c.Short, "."))
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	if c.Example != "" {
		b.WriteString("\n```sh\n")
		for line := range strings.Lines(c.Example + "\n") {
			b.WriteString(strings.TrimPrefix(line, "  "))
		}
		b.WriteString("```\n")
	}
	if table := flagTable(c.LocalNonPersistentFlags()); table != "" {
		b.WriteString("\n" + table)
	}
}

// flagTable is "" where there are no flags.
func flagTable(flags *pflag.FlagSet) string {
	var rows strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, meaning := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + value)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fallback := ""
		switch f.DefValue {
		case "", "false", "0", "[]":
		default:
			fallback = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", name, fallback, strings.ReplaceAll(meaning, "|", "\\|"))
	})
	if rows.Len() == 0 {
		return ""
	}
	return "| flag | default | |\n| --- | --- | --- |\n" + rows.String()
}
