package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
)

func (a *app) graphCommand() *cobra.Command {
	var format, file string
	cmd := &cobra.Command{
		Use:   "graph [NAME…]",
		Short: "Show the project as text, Mermaid or SVG",
		Long: `Shows what reads what: sources → models → entities → segments → syncs → destinations.
With names, only those and what the selectors add: "dray graph +vips" is a segment and all it is made of.`,
		Example:           "  dray graph\n  dray graph --format svg -o project.svg\n  dray graph +vips_to_crm --format mermaid",
		GroupID:           groupLook,
		ValidArgsFunction: a.completeNames(graph.Source, graph.Model, graph.Entity, graph.Segment, graph.Sync, graph.Destination),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "mermaid", "svg"); err != nil {
				return err
			}
			p, err := a.prepare()
			if err != nil {
				return err
			}
			nodes, err := p.Graph.Select(append(args, a.flags.selects...), a.flags.excludes)
			if err != nil {
				return err
			}
			return a.showGraph(p.Graph, nodes, format, file)
		},
	}
	a.selectFlags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text, mermaid or svg (`FORMAT`)")
	cmd.Flags().StringVarP(&file, "out", "o", "", "write to a `FILE` instead of stdout")
	return cmd
}

// showGraph writes the picture to stdout or to a file. JSON lists the nodes whatever the format.
func (a *app) showGraph(g *graph.Graph, nodes []*graph.Node, format, file string) error {
	s := a.out
	if file != "" {
		out, err := os.Create(file)
		if err != nil {
			return diag.Errorf(diag.Invalid, "cli.out", "cannot write %s", file).WithHint("%s", err)
		}
		defer func() { _ = out.Close() }() // errors of a write are seen by the next line's user, not lost data of ours
		s = screen{w: out}
	}
	switch {
	case a.json() && file == "":
		a.printJSON(graphDocument(nodes))
	case format == "mermaid":
		drawMermaid(s, nodes)
	case format == "svg":
		drawSVG(s, nodes)
	default:
		drawGraph(s, nodes)
	}
	if file != "" {
		a.show(map[string]string{"written": file}, func(s screen) { s.line("wrote %s", file) })
	}
	return nil
}
