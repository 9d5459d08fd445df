package profile

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// A path is one of the graph's, joins the two, and none is shorter.
func TestPathIsShortest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "node")) })
		edges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Edge { return Edge{From: node.Draw(t, "from"), To: node.Draw(t, "to"), Source: "s"} }), 0, 12).Draw(t, "edges")
		from, to := node.Draw(t, "a"), node.Draw(t, "b")
		const far = 100
		var steps [8][8]int
		for i := range steps {
			for j := range steps {
				if i != j {
					steps[i][j] = far
				}
			}
		}
		at := func(s string) int { return int(s[0] - '0') }
		joined := map[[2]string]bool{}
		for _, e := range edges {
			joined[[2]string{e.From, e.To}], joined[[2]string{e.To, e.From}] = true, true
			if e.From != e.To {
				steps[at(e.From)][at(e.To)], steps[at(e.To)][at(e.From)] = 1, 1
			}
		}
		for k := range steps {
			for i := range steps {
				for j := range steps {
					steps[i][j] = min(steps[i][j], steps[i][k]+steps[k][j])
				}
			}
		}
		got := path(edges, from, to)
		want := steps[at(from)][at(to)]
		if want >= far {
			want = 0
		}
		if len(got) != want {
			t.Fatalf("%d steps from %s to %s, want %d: %v", len(got), from, to, want, got)
		}
		here := from
		for _, e := range got {
			if e.From != here || !joined[[2]string{e.From, e.To}] {
				t.Fatalf("%v is no way from %s", got, from)
			}
			here = e.To
		}
		if len(got) > 0 && here != to {
			t.Fatalf("%v does not end in %s", got, to)
		}
	})
}
