// Package graph resolves a project: what refers to what, in which order it must be built, and which names a selector means.
//
// It also checks, without a connection, everything that can be known from the files and the connectors' specs: dangling
// references, cycles, and every sync's mapping against its destination. compile takes the graph on.
package graph

import (
	"slices"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/dbt"
	"github.com/dray-dev/dray/models/jinja"
)

// Kind is what a node is.
type Kind string

// The kinds, in the order data flows.
const (
	Source      Kind = "source" // one table of a source; name shop.orders
	Model       Kind = "model"
	Entity      Kind = "entity"
	Segment     Kind = "segment"
	Sync        Kind = "sync"
	Destination Kind = "destination"
)

// Kinds are all kinds in the order data flows.
func Kinds() []Kind { return []Kind{Source, Model, Entity, Segment, Sync, Destination} }

// ID is kind.name: model.orders_clean, source.shop.orders.
type ID string

// MakeID is the id of a node.
func MakeID(k Kind, name string) ID { return ID(string(k) + "." + name) }

// Node is one thing of the project with what it is made of.
type Node struct {
	ID      ID
	Kind    Kind
	Name    string
	Pos     diag.Pos
	Tags    []string
	Parents []ID // what it reads, sorted; of a destination: the syncs
	// TestParents are what a model's tests read besides the model itself, sorted. They may well be built from the model.
	TestParents []ID
	// OwnOf are the entities whose profiles an entity reads, without the traits through relations, before they are made as a whole: those
	// depend on it by a relation.
	OwnOf []ID
	// Exactly one of these is set, by Kind; for a source also its Table or File.
	Source      *config.Source
	SourceTable *config.SourceTable
	SourceFile  *config.SourceFile
	Model       *config.Model
	Entity      *config.Entity
	Segment     *config.Segment
	Sync        *config.Sync
	Destination *config.Destination
	// DBT is set beside Model, or Source and SourceTable, where they are dbt's.
	DBT *dbt.Relation
}

// LoadedAt is the column that says when a row of a source or a model was loaded; "" = none does.
func (n *Node) LoadedAt() string {
	switch {
	case n.SourceTable != nil:
		return n.SourceTable.LoadedAt
	case n.SourceFile != nil:
		return n.SourceFile.LoadedAt
	case n.Model != nil:
		return n.Model.LoadedAt
	}
	return ""
}

// Fresh is how old the newest row of a source may be; 0 = any age.
func (n *Node) Fresh() time.Duration {
	switch {
	case n.SourceTable != nil:
		return n.SourceTable.Fresh.Duration
	case n.SourceFile != nil:
		return n.SourceFile.Fresh.Duration
	}
	return 0
}

// Graph is a resolved project.
type Graph struct {
	Project *config.Project
	Nodes   map[ID]*Node
	Jinja   *jinja.Renderer // with the project's macros
	DBT     *dbt.Manifest   // of the dbt project beside this one; nil = there is none

	order    []ID
	children map[ID][]ID
}

// Specs finds a connector's declaration by destination type.
type Specs func(destinationType string) (destination.Spec, bool)

// Order is every node, parents first; the same for the same project.
func (g *Graph) Order() []*Node {
	out := make([]*Node, len(g.order))
	for i, id := range g.order {
		out[i] = g.Nodes[id]
	}
	return out
}

// Node finds a node by kind and name; nil where there is none.
func (g *Graph) Node(k Kind, name string) *Node { return g.Nodes[MakeID(k, name)] }

// Children is what reads a node, sorted.
func (g *Graph) Children(id ID) []ID { return slices.Clone(g.children[id]) }

// Ancestors is everything the nodes need, themselves included, in Order.
func (g *Graph) Ancestors(ids ...ID) []ID {
	return g.inOrder(g.reach(ids, -1, func(id ID) []ID { return g.Nodes[id].Parents }))
}

// Descendants is everything that is made of the nodes, themselves included, in Order.
func (g *Graph) Descendants(ids ...ID) []ID {
	return g.inOrder(g.reach(ids, -1, func(id ID) []ID { return g.children[id] }))
}

// reach is what can be reached from ids in at most depth steps; depth -1 = any number.
func (g *Graph) reach(ids []ID, depth int, next func(ID) []ID) map[ID]bool {
	seen := map[ID]bool{}
	for frontier := ids; len(frontier) > 0; depth-- {
		var following []ID
		for _, id := range frontier {
			if seen[id] || g.Nodes[id] == nil {
				continue
			}
			seen[id] = true
			if depth != 0 {
				following = append(following, next(id)...)
			}
		}
		frontier = following
	}
	return seen
}

func (g *Graph) inOrder(set map[ID]bool) []ID {
	out := make([]ID, 0, len(set))
	for _, id := range g.order {
		if set[id] {
			out = append(out, id)
		}
	}
	return out
}
