package build

import (
	"context"
	"strings"
	"sync"

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
	ids, golden, err := r.specs(ctx, n)
	if err != nil {
		return err
	}
	part := r.ownOf(n.ID)
	part.once.Do(func() { part.identity, part.err = r.identity(ctx, n, ids) })
	if part.err != nil {
		return part.err
	}
	result.Identity = &part.identity
	if part.table != (warehouse.Table{}) {
		defer r.drop(ctx, part.table)
	}
	built, err := profile.Build(ctx, r.deps.Warehouse, golden)
	if err != nil {
		return r.trouble("making the profiles of "+n.Name, n, err)
	}
	result.Rows = built.Profiles
	return nil
}

// specs are what an entity is built by. Where it reads others' profiles ahead of those as a whole, their own columns are made first.
func (r *runner) specs(ctx context.Context, n *compile.Node) (identity.Spec, profile.Spec, error) {
	ids, err := Identity(r.prog, n.Entity)
	if err != nil {
		return ids, profile.Spec{}, err
	}
	if ids.Inputs, err = r.inputs(n.Entity); err != nil {
		return ids, profile.Spec{}, err
	}
	for _, id := range n.OwnOf {
		if r.deps.Built[id] { // as a whole, as of the same time
			continue
		}
		table, err := r.makeOwn(ctx, r.prog.Node(id))
		if err != nil {
			return ids, profile.Spec{}, err
		}
		d := r.deps.Warehouse.Dialect()
		for i, in := range ids.Inputs {
			ids.Inputs[i].Source = strings.ReplaceAll(in.Source, r.prog.From(id), d.Table(table))
		}
	}
	golden := Profile(r.prog, n.Entity, ids.Inputs)
	if r.explain {
		ids.Prior, ids.PriorMerges, golden.Prior = r.nowhere(), r.nowhere(), r.nowhere()
		ids.Kept = identity.Kept{}
	}
	return ids, golden, nil
}

func (r *runner) identity(ctx context.Context, n *compile.Node, spec identity.Spec) (identity.Result, error) {
	found, err := identity.Build(ctx, r.deps.Warehouse, spec)
	if err != nil {
		return found, r.trouble("resolving the identities of "+n.Name, n, err)
	}
	return found, nil
}

// own is what was made of an entity ahead of its profiles as a whole: its identities, and, where another entity reads them, the profiles
// without the traits that read relations.
type own struct {
	once     sync.Once
	identity identity.Result
	table    warehouse.Table // the zero Table = nobody reads them ahead
	err      error
}

func (r *runner) ownOf(id graph.ID) *own {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own[id] == nil {
		r.own[id] = &own{}
	}
	return r.own[id]
}

// makeOwn makes an entity's identities and its profiles as far as they read no relation, once a build.
func (r *runner) makeOwn(ctx context.Context, n *compile.Node) (warehouse.Table, error) {
	part := r.ownOf(n.ID)
	part.once.Do(func() {
		var ids identity.Spec
		var golden profile.Spec
		if ids, golden, part.err = r.specs(ctx, n); part.err != nil {
			return
		}
		if part.identity, part.err = r.identity(ctx, n, ids); part.err != nil {
			return
		}
		golden.Entity, golden.Relations = r.prog.Graph.Own(n.Entity), nil
		golden.Target.Name += "__own"
		golden.Target = r.deps.Warehouse.Dialect().Work(golden.Target)
		golden.Prior, golden.History = r.nowhere(), warehouse.Table{}
		if _, err := profile.Build(ctx, r.deps.Warehouse, golden); err != nil {
			part.err = r.trouble("making the profiles of "+n.Name, n, err)
			return
		}
		part.table = golden.Target
	})
	return part.table, part.err
}

// drop removes a work table, also when the build was interrupted.
func (r *runner) drop(ctx context.Context, t warehouse.Table) {
	_, _ = r.deps.Warehouse.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+r.deps.Warehouse.Dialect().Table(t))
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
		Kept:        identity.Kept{Rows: prog.Names.IdentityRows(e.Name), Components: prog.Names.IdentityComponents(e.Name), State: prog.Names.IdentityState(e.Name)},
		FullRefresh: prog.Options.FullRefresh,
		AsOf:        prog.Options.AsOf, Salt: prog.Project.Name, Render: prog.Render,
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
