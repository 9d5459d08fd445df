package build

import (
	"context"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/profile"
	"github.com/dray-dev/dray/models/segment"
)

// nowhere is a table that does not exist: the prior state of a build that must not look at any.
func (r *runner) nowhere() warehouse.Table {
	return warehouse.Table{Database: r.prog.Target.Database, Schema: r.prog.Target.Schema, Name: "dray_nothing"}
}

// inputs are an entity's inputs; to explain, they have no rows.
func (r *runner) inputs(e *config.Entity) ([]identity.Input, error) {
	inputs, err := r.prog.Inputs(e)
	if r.explain {
		for i := range inputs {
			inputs[i].Source = "(SELECT * FROM " + inputs[i].Source + " LIMIT 0)"
		}
	}
	return inputs, err
}

func (r *runner) entity(ctx context.Context, n *compile.Node, result *NodeResult) error {
	spec, err := Identity(r.prog, n.Entity)
	if err != nil {
		return err
	}
	if spec.Inputs, err = r.inputs(n.Entity); err != nil {
		return err
	}
	golden := Profile(r.prog, n.Entity, spec.Inputs)
	if r.explain {
		spec.Prior, spec.PriorMerges, golden.Prior = r.nowhere(), r.nowhere(), r.nowhere()
	}
	found, err := identity.Build(ctx, r.deps.Warehouse, spec)
	if err != nil {
		return r.trouble("resolving the identities of "+n.Name, n, err)
	}
	result.Identity = &found
	built, err := profile.Build(ctx, r.deps.Warehouse, golden)
	if err != nil {
		return r.trouble("making the profiles of "+n.Name, n, err)
	}
	result.Rows = built.Profiles
	return nil
}

func (r *runner) segment(ctx context.Context, n *compile.Node, result *NodeResult) error {
	e := r.prog.Graph.Node(graph.Entity, n.Segment.Entity).Entity
	inputs, err := r.inputs(e)
	if err != nil {
		return err
	}
	spec := segment.Spec{
		Segment: n.Segment, Entity: e, Inputs: inputs,
		Identity: r.prog.Target.Identity(e.Name), Profiles: r.prog.Target.Profiles(e.Name), Members: r.prog.Target.Segment,
		Before: r.prog.Graph.Before(n.Name), Relations: r.prog.Relations(e),
		Sent:   func(sync string) (string, error) { return r.prog.Sent(ctx, r.deps.Warehouse, sync) },
		Target: n.Relation, Prior: r.prog.Names.Segment(n.Name), History: r.prog.Names.SegmentHistory(),
		AsOf: r.prog.Options.AsOf, Render: r.prog.Render,
	}
	if r.prog.Options.Scratch {
		spec.History = warehouse.Table{}
	}
	if r.explain {
		spec.Prior = r.nowhere()
	}
	r.segments.Lock()
	defer r.segments.Unlock()
	built, err := segment.Build(ctx, r.deps.Warehouse, spec)
	if err != nil {
		return r.trouble("computing segment "+n.Name, n, err)
	}
	result.Rows = built.Size
	return nil
}

// trouble is an error of a builder: with its place where it has one, else the node's.
func (r *runner) trouble(what string, n *compile.Node, err error) error {
	var list diag.List
	list.Add(err)
	for i, e := range list {
		if e.Pos.IsZero() && e.Kind == diag.Invalid {
			placed := *e
			placed.Pos = n.Pos
			list[i] = &placed
		}
	}
	if len(list) == 1 && list[0].Code == "error" { // no word of a builder's own
		return r.refusedBuilder(what, n, err)
	}
	return list
}

func (r *runner) refusedBuilder(what string, n *compile.Node, err error) error {
	q, ok := theirs(err)
	if !ok {
		return failed(what, err)
	}
	return &diag.Error{Pos: n.Pos, Code: string(n.Kind) + ".sql", Msg: what, Err: words{q}}
}

// Identity is what identity.Build needs for an entity of a program.
func Identity(prog *compile.Program, e *config.Entity) (identity.Spec, error) {
	inputs, err := prog.Inputs(e)
	if err != nil {
		return identity.Spec{}, err
	}
	exclude := map[string]string{}
	for _, i := range e.Identifiers {
		if i.Exclude == nil || i.Exclude.From == "" {
			continue
		}
		id, err := prog.Graph.Reference(i.Exclude.From)
		if err != nil {
			return identity.Spec{}, err
		}
		exclude[i.Name] = prog.From(id)
	}
	decisions, err := Decisions(prog, e)
	if err != nil {
		return identity.Spec{}, err
	}
	return identity.Spec{
		Entity: e, Inputs: inputs, Exclude: exclude, Decisions: decisions,
		Target: prog.Target.Identity(e.Name), Merges: prog.Target.Merges(e.Name),
		Prior: prog.Names.Identity(e.Name), PriorMerges: prog.Names.Merges(e.Name),
		AsOf: prog.Options.AsOf, Salt: prog.Project.Name, Render: prog.Render,
	}, nil
}

// Decisions is the FROM item of an entity's decisions.from; "" = there is none.
func Decisions(prog *compile.Program, e *config.Entity) (string, error) {
	if e.Decisions == nil || e.Decisions.From == "" {
		return "", nil
	}
	id, err := prog.Graph.Reference(e.Decisions.From)
	if err != nil {
		return "", err
	}
	return prog.From(id), nil
}

// Profile is what profile.Build needs. A scratch build keeps no history.
func Profile(prog *compile.Program, e *config.Entity, inputs []identity.Input) profile.Spec {
	spec := profile.Spec{
		Entity: e, Inputs: inputs, Identity: prog.Target.Identity(e.Name), Relations: prog.Relations(e),
		Target: prog.Target.Profiles(e.Name), Prior: prog.Names.Profiles(e.Name), AsOf: prog.Options.AsOf, Render: prog.Render,
	}
	if !prog.Options.Scratch {
		spec.History = prog.Names.ProfileHistory(e.Name)
	}
	return spec
}
