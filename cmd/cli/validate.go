package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) validateCommand() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check the project: files, references, SQL, mappings",
		Long: `Reads every file and reports every mistake at once, each with its place. The warehouse is asked to explain the SQL,
without running it; --offline leaves that out and needs no connection.`,
		Example: "  dray validate\n  dray validate --offline",
		GroupID: groupProject,
		Args:    usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline {
				p, err := a.prepare()
				if err != nil {
					return err
				}
				a.showValid(p.Project.Name, p.Graph, "", 0)
				return nil
			}
			return a.with(cmd.Context(), func(s *run.Session) error {
				scanned, err := s.Validate(cmd.Context())
				if err != nil {
					return err
				}
				a.showValid(s.Project.Name, s.Graph, s.Warehouse.Dialect().Name(), scanned)
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the warehouse")
	return cmd
}

// showValid sums a project up; engine is "" where no warehouse was asked, scanned 0 where it estimates nothing.
func (a *app) showValid(project string, g *graph.Graph, engine string, scanned int64) {
	counts := map[string]int{}
	var parts []string
	for _, k := range kinds() {
		n := 0
		for _, node := range g.Order() {
			if node.Kind == k.kind {
				n++
			}
		}
		counts[k.plural] = n
		switch {
		case n == 1:
			parts = append(parts, "1 "+string(k.kind))
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, k.plural))
		}
	}
	how := "explained by " + engine
	if engine == "" {
		how = "the warehouse was not asked"
	}
	document := map[string]any{"valid": true, "project": project, "counts": counts, "explained_by": engine}
	if scanned > 0 {
		document["bytes_scanned"] = scanned
	}
	a.show(document, func(s screen) {
		s.line("%s %s is valid: %s %s", s.green("✓"), project, strings.Join(parts, ", "), s.dim("("+how+")"))
		if scanned > 0 {
			s.line("  %s", s.dim("≈ "+bytesOf(scanned)+" of the sources are read by models as tables and by syncs, each once; nothing was"))
		}
	})
}
