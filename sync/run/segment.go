package run

import (
	"context"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/segment"
)

// Segment looks at a segment as it was built last, with so many of its members; one that never was is built.
func (s *Session) Segment(ctx context.Context, name string, sample int, values bool) (segment.Seen, error) {
	n := s.Graph.Node(graph.Segment, name)
	if n == nil {
		return segment.Seen{}, s.unknownSegment(name)
	}
	prog, err := s.Program(ctx, false, false)
	if err != nil {
		return segment.Seen{}, err
	}
	v := segment.View{
		Segment: name, Entity: n.Segment.Entity, Members: prog.Names.Segment(name), Profiles: prog.Names.Profiles(n.Segment.Entity),
		Ledger: prog.Names.SegmentHistory(), Others: map[string]warehouse.Table{}, Values: values, Sample: sample,
	}
	there, err := s.Warehouse.Exists(ctx, v.Members)
	if err != nil {
		return segment.Seen{}, err
	}
	if !there {
		if _, err := build.Run(ctx, s.buildDeps(), prog, []graph.ID{n.ID}); err != nil {
			return segment.Seen{}, err
		}
	}
	for _, other := range s.Project.Segments {
		if other.Name == name || other.Entity != n.Segment.Entity {
			continue
		}
		table := prog.Names.Segment(other.Name)
		if there, err = s.Warehouse.Exists(ctx, table); err != nil {
			return segment.Seen{}, err
		}
		if there {
			v.Others[other.Name] = table
		}
	}
	return segment.Look(ctx, s.Warehouse, v)
}

func (s *Session) unknownSegment(name string) error {
	e := diag.Errorf(diag.Invalid, "segment.unknown", "there is no segment %q", name)
	var known []string
	for _, other := range s.Project.Segments {
		known = append(known, other.Name)
	}
	if near := config.Suggest(name, known); near != "" {
		return e.WithHint("did you mean %s?", near)
	}
	return e.WithHint("dray graph shows what there is")
}
