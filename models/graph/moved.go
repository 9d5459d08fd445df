package graph

import (
	"maps"
	"slices"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// Moved is a thing that had another name before.
type Moved struct {
	ID   ID
	From string
	Node config.Node
}

// Moved lists what was renamed: models, entities, segments and syncs with moved_from.
func (g *Graph) Moved() []Moved {
	var out []Moved
	for _, id := range slices.Sorted(maps.Keys(g.Nodes)) {
		n := g.Nodes[id]
		m := Moved{ID: id}
		switch n.Kind {
		case Model:
			m.From, m.Node = n.Model.MovedFrom, n.Model.Node
		case Entity:
			m.From, m.Node = n.Entity.MovedFrom, n.Entity.Node
		case Segment:
			m.From, m.Node = n.Segment.MovedFrom, n.Segment.Node
		case Sync:
			m.From, m.Node = n.Sync.MovedFrom, n.Sync.Node
		}
		if m.From != "" {
			out = append(out, m)
		}
	}
	return out
}

// checkMoved: a name that something else has now is not free to be left, and only one thing can have had it.
func (r *resolver) checkMoved() {
	taken := map[ID]string{}
	for _, m := range r.g.Moved() {
		n, pos := r.g.Nodes[m.ID], m.Node.At("moved_from")
		old := MakeID(n.Kind, m.From)
		switch {
		case !identifier.MatchString(m.From):
			r.fail(diag.At(pos, "moved_from.name", "%q is no name that %s can have had", m.From, article(n.Kind)))
		case r.g.Nodes[old] != nil:
			r.fail(diag.At(pos, "moved_from.both", "%s %q moved from %q, but there is %s of that name", n.Kind, n.Name, m.From, article(n.Kind)).
				WithHint("take one of the two away, or moved_from"))
		case taken[old] != "":
			r.fail(diag.At(pos, "moved_from.both", "%s %q moved from %q, and so did %q", n.Kind, n.Name, m.From, taken[old]))
		}
		taken[old] = n.Name
	}
}
