package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) identityCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "identity", Short: "Look at the identity graph", GroupID: groupLook, Args: usage(cobra.NoArgs)}
	report := &cobra.Command{
		Use:   "report [ENTITY]",
		Short: "Show the health of the identity graph",
		Long: `Shows, of what was built last: how many profiles there are of which size, the largest, what limits and other rules have
refused, what rules about pairs have found and how large their blocks are, and what merged and split in the last builds. No value of a customer is printed.`,
		Example: "  dray identity report\n  dray identity report customer --output json",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			entity := ""
			if len(args) > 0 {
				entity = args[0]
			}
			return a.with(cmd.Context(), func(s *run.Session) error {
				reports, err := s.IdentityReport(cmd.Context(), entity)
				if err != nil {
					return err
				}
				var document any = reports
				if entity != "" {
					document = reports[0]
				}
				a.show(document, func(out screen) { drawIdentity(out, reports) })
				return nil
			})
		},
	}
	a.projectFlags(report)
	cmd.AddCommand(report)
	return cmd
}

func drawIdentity(s screen, reports []*identity.Report) {
	for i, r := range reports {
		if i > 0 {
			s.line("")
		}
		s.line("%s  %s of %s", s.bold(r.Entity), plural(r.Profiles, "profile"), plural(r.Values, "value"))
		drawSizes(s, r.Sizes)
		drawLargest(s, r.Largest)
		if len(r.Refused) > 0 {
			rows := make([][]string, len(r.Refused))
			for i, x := range r.Refused {
				rows[i] = []string{x.Rule, x.Identifier, count(x.Values)}
			}
			s.line("")
			s.table([]column{left("refused by"), left("of"), right("values")}, rows)
		}
		drawPairs(s, r)
		drawModels(s, r.Models)
		if len(r.Moved) > 0 {
			rows := make([][]string, len(r.Moved))
			for i, m := range r.Moved {
				rows[i] = []string{day(&m.At), m.Rule, count(m.Profiles)}
			}
			s.line("")
			s.table([]column{left("built at"), left("what"), right("profiles")}, rows)
		}
		for _, w := range r.Warnings {
			s.line("%s %s", s.yellow("!"), w)
		}
	}
}

func drawSizes(s screen, sizes []identity.Size) {
	var most int64
	for _, x := range sizes {
		most = max(most, x.Profiles)
	}
	rows := make([][]string, len(sizes))
	for i, x := range sizes {
		of := count(x.From)
		if x.To > x.From {
			of += " to " + count(x.To)
		}
		rows[i] = []string{of, count(x.Profiles), bar(x.Profiles, most)}
	}
	if len(rows) > 0 {
		s.line("")
		s.table([]column{right("values"), right("profiles"), left("")}, rows)
	}
}

func drawLargest(s screen, largest []identity.Large) {
	rows := make([][]string, len(largest))
	for i, l := range largest {
		var of []string
		for _, name := range slices.Sorted(maps.Keys(l.Of)) {
			of = append(of, fmt.Sprintf("%s %s", count(l.Of[name]), name))
		}
		rows[i] = []string{l.ProfileID, count(l.Values), strings.Join(of, ", ")}
	}
	if len(rows) > 0 {
		s.line("")
		s.table([]column{left("largest"), right("values"), left("of")}, rows)
	}
}

// drawPairs shows what rules about pairs have found, and how large their blocks are.
func drawPairs(s screen, r *identity.Report) {
	if len(r.Matched) > 0 {
		rows := make([][]string, len(r.Matched))
		for i, m := range r.Matched {
			rows[i] = []string{m.Rule, count(m.Pairs), count(m.Review)}
		}
		s.line("")
		s.table([]column{left("rule"), right("pairs joined"), right("to review")}, rows)
	}
	if len(r.Blocks) > 0 {
		rows := make([][]string, len(r.Blocks))
		for i, b := range r.Blocks {
			rows[i] = []string{b.Rule, b.Block, count(b.Keys), count(b.Records), count(b.Pairs), count(b.Largest)}
		}
		s.line("")
		s.table([]column{left("rule"), left("block"), right("keys"), right("records"), right("pairs"), right("largest")}, rows)
	}
}

// drawModels shows what the models have learned: by how many bits each level raises the odds that two records are one.
func drawModels(s screen, models []identity.Model) {
	for _, m := range models {
		rows := make([][]string, len(m.Levels))
		for i, l := range m.Levels {
			rows[i] = []string{l.Comparison, l.Agreement, share(l.M), share(l.U), fmt.Sprintf("%+.1f", l.Bits)}
		}
		s.line("")
		s.line("%s: two records at random are one with probability %.2g", m.Rule, m.Prior)
		s.table([]column{left("column"), left("agreement"), right("of the same"), right("of others"), right("bits")}, rows)
	}
}

func share(p float64) string { return fmt.Sprintf("%.3g %%", 100*p) }
