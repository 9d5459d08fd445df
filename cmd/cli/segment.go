package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/segment"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) segmentCommand() *cobra.Command {
	sample := 5
	cmd := &cobra.Command{
		Use:   "segment NAME",
		Short: "Show a segment: size, overlap with others, who entered and left over time, some members",
		Long: `Shows a segment as it was built last: its size, how much of it is in the entity's other segments, its size and who
entered and left build by build, and the members who entered last. Their values are shown with --show-values only. A segment that
was never built is built first.`,
		Example:           "  dray segment lapsed_vips\n  dray segment lapsed_vips --show-values --sample 20\n  dray segment lapsed_vips --output json",
		GroupID:           groupLook,
		Args:              usage(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeNames(graph.Segment),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				seen, err := s.Segment(cmd.Context(), args[0], sample, a.flags.showValues)
				if err != nil {
					return err
				}
				a.show(seen, func(out screen) { drawSegment(out, seen) })
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&sample, "sample", sample, "how many members to show")
	a.projectFlags(cmd)
	return cmd
}

func drawSegment(s screen, seen segment.Seen) {
	s.line("%s  segment of %s", s.bold(seen.Segment), seen.Entity)
	built := ""
	if seen.BuiltAt != nil {
		built = ", built as of " + moment(*seen.BuiltAt)
	}
	s.line("  %s, %s of %s%s", s.bold(plural(seen.Size, "member")), percent(seen.Share), plural(seen.Profiles, "profile"), built)
	drawSplit(s, seen)
	drawOverlap(s, seen)
	drawBuilds(s, seen.History)
	drawMembers(s, seen.Sample)
}

// percent writes a share: 12.3 %, <0.1 % for what is less and not nothing, 100 % for all alone.
func percent(share float64) string {
	switch {
	case share <= 0:
		return "0 %"
	case share < 0.001:
		return "<0.1 %"
	case share >= 1:
		return "100 %"
	case share > 0.999:
		return ">99.9 %"
	}
	return fmt.Sprintf("%.1f %%", share*100)
}

func drawSplit(s screen, seen segment.Seen) {
	if len(seen.Split) == 0 {
		return
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(seen.Split)) {
		share := float64(seen.Split[name]) / float64(max(seen.Size, 1))
		rows = append(rows, []string{name, count(seen.Split[name]), percent(share), s.cyan(bar(seen.Split[name], seen.Size))})
	}
	s.line("")
	s.table([]column{left("split"), right("members"), right("share"), left("")}, rows)
}

// maxOverlaps is how many other segments are shown; JSON has all.
const maxOverlaps = 15

func drawOverlap(s screen, seen segment.Seen) {
	if len(seen.Overlap) == 0 {
		return
	}
	var rows [][]string
	for _, o := range seen.Overlap[:min(len(seen.Overlap), maxOverlaps)] {
		rows = append(rows, []string{o.Segment, count(o.Size), count(o.Both), percent(o.ShareOfOther), percent(o.Share), s.cyan(bar(o.Both, seen.Size))})
	}
	s.line("")
	s.table([]column{left("also in"), right("members"), right("in both"), right("of those"), right("of " + seen.Segment), left("")}, rows)
	if more := len(seen.Overlap) - maxOverlaps; more > 0 {
		s.line("  %s", s.dim(fmt.Sprintf("and %d more", more)))
	}
}

func drawMembers(s screen, sample []segment.Member) {
	if len(sample) == 0 {
		return
	}
	columns := []column{left("entered last"), left("profile")}
	split := sample[0].Split != ""
	if split {
		columns = append(columns, left("split"))
	}
	for _, name := range sample[0].Columns {
		columns = append(columns, left(name))
	}
	var rows [][]string
	for _, m := range sample {
		row := []string{day(m.EnteredAt), m.ProfileID}
		if split {
			row = append(row, m.Split)
		}
		for _, name := range m.Columns {
			row = append(row, cell(m.Values[name]))
		}
		rows = append(rows, row)
	}
	s.line("")
	s.table(columns, rows)
	if len(sample[0].Columns) == 0 {
		s.line("  %s", s.dim("--show-values shows what they hold"))
	}
}

// cell is a value in a table: short, on one line, and nothing for NULL.
func cell(v any) string {
	if v == nil {
		return ""
	}
	return text.Snip(strings.Join(strings.Fields(shown(v)), " "), 30, "…")
}
