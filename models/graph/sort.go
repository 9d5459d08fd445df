package graph

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// sort orders the nodes by their distance from the sources, then by kind and name; cycles are errors, each named in full.
func (g *Graph) sort() error {
	for _, list := range g.children {
		slices.Sort(list)
	}
	s := &sorter{g: g, depth: map[ID]int{}, state: map[ID]state{}}
	ids := make([]ID, 0, len(g.Nodes))
	for id := range g.Nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		s.visit(id)
	}
	rank := func(id ID) int { return slices.Index(Kinds(), g.Nodes[id].Kind) }
	slices.SortFunc(ids, func(a, b ID) int {
		return cmp.Or(cmp.Compare(s.depth[a], s.depth[b]), cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	g.order = ids
	return s.problems.Err()
}

type state int

const (
	unseen state = iota
	open         // on the path from the root of this search
	done
)

type sorter struct {
	g        *Graph
	depth    map[ID]int // the longest way from a node without parents
	state    map[ID]state
	path     []ID
	problems diag.List
}

func (s *sorter) visit(id ID) {
	switch s.state[id] {
	case done:
		return
	case open:
		s.cycle(id)
		return
	}
	s.state[id] = open
	s.path = append(s.path, id)
	for _, parent := range s.g.Nodes[id].Parents {
		if s.g.Nodes[parent] == nil {
			continue
		}
		s.visit(parent)
		s.depth[id] = max(s.depth[id], s.depth[parent]+1)
	}
	s.path = s.path[:len(s.path)-1]
	s.state[id] = done
}

// cycle reports the path from id back to itself, in the direction data would flow.
func (s *sorter) cycle(id ID) {
	members := slices.Clone(s.path[slices.Index(s.path, id):])
	slices.Reverse(members)
	first := slices.Index(members, slices.Min(members))
	members = append(members[first:], members[:first]...)
	members = append(members, members[0])
	names := make([]string, len(members))
	kinds := map[Kind]bool{}
	for _, m := range members {
		kinds[s.g.Nodes[m].Kind] = true
	}
	for i, m := range members {
		names[i] = s.g.Nodes[m].Name
		if len(kinds) > 1 {
			names[i] = string(s.g.Nodes[m].Kind) + " " + names[i]
		}
	}
	node := s.g.Nodes[members[0]]
	pos := node.Pos
	if node.Model != nil && !node.Model.SQLPos.IsZero() {
		pos = node.Model.SQLPos
	}
	if len(members) == 2 && node.Entity != nil {
		s.problems.Add(diag.At(pos, "graph.cycle", "entity %q reads its own profiles while they are made", node.Name).
			WithHint("a relation to itself may be used in conditions, not in traits; an input cannot be its own profiles"))
		return
	}
	if len(members) == 2 {
		s.problems.Add(diag.At(pos, "graph.cycle", "%s %q reads itself", node.Kind, node.Name).
			WithHint("the relation a model builds is {{ this }}, inside {%% if is_incremental() %%}"))
		return
	}
	s.problems.Add(diag.At(pos, "graph.cycle", "these read each other in a circle: %s", strings.Join(names, " → ")).
		WithHint("one of them must do without the other"))
}
