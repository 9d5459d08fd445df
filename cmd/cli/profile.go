package cli

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/profile"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) profileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile IDENTIFIER [IDENTIFIER]",
		Short: "Show a golden record, its identifiers and what links them",
		Long: `Finds the profile that holds an identifier, written VALUE or IDENTIFIER:VALUE, in what was built last, and shows its
identifiers with where they were seen, its traits, and the rows that link them. With two identifiers it shows the shortest way
over such rows from the one to the other: why they are one profile. What is asked for is shown: this command prints
customers' values.`,
		Example: "  dray profile email:anna.holm@example.com\n  dray profile anna.holm@example.com --output json\n  dray profile email:anna.holm@example.com phone:+4512345678",
		GroupID: groupLook,
		Args:    usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				found, err := s.Profile(cmd.Context(), args[0], strings.Join(args[1:], ""))
				if err != nil {
					return err
				}
				var document any = found
				if len(found) == 1 {
					document = found[0]
				}
				a.show(document, func(out screen) { drawProfiles(out, found) })
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}

func drawProfiles(s screen, found []profile.Found) {
	for i, p := range found {
		if i > 0 {
			s.line("")
		}
		drawProfile(s, p)
	}
}

func drawProfile(s screen, p profile.Found) {
	s.line("%s  %s", s.bold(p.Entity), p.ProfileID)
	if len(p.Path) > 0 {
		s.line("")
		drawEdges(s, "from", "to", p.Path)
		return
	}
	identifiers := make([][]string, len(p.Identifiers))
	for i, id := range p.Identifiers {
		identifiers[i] = []string{id.Identifier, id.Value, day(id.FirstSeenAt), strings.Join(id.Sources, ", ")}
	}
	s.line("")
	s.table([]column{left("identifier"), left("value"), left("first seen"), left("in")}, identifiers)
	traits := make([][]string, 0, len(p.Traits))
	for _, name := range slices.Sorted(maps.Keys(p.Traits)) {
		traits = append(traits, []string{name, shown(p.Traits[name])})
	}
	if len(traits) > 0 {
		s.line("")
		s.table([]column{left("trait"), left("value")}, traits)
	}
	relations := make([][]string, len(p.Relations))
	for i, r := range p.Relations {
		relations[i] = []string{r.Name, r.Entity, "none"}
		if r.ProfileID != nil {
			relations[i][2] = *r.ProfileID
		}
	}
	if len(relations) > 0 {
		s.line("")
		s.table([]column{left("belongs to"), left("entity"), left("profile")}, relations)
	}
	if len(p.Edges) > 0 {
		s.line("")
		drawEdges(s, "linked", "with", p.Edges)
	}
}

func drawEdges(s screen, from, to string, edges []profile.Edge) {
	rows := make([][]string, len(edges))
	for i, e := range edges {
		rows[i] = []string{e.From, "–", e.To, e.Source, day(e.At)}
	}
	s.table([]column{left(from), left(""), left(to), left("by"), left("at")}, rows)
}

// day writes an instant that may be missing.
func day(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
