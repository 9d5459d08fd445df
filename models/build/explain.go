package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

// Explain asks the warehouse whether every query of the program would run: missing tables and columns are reported with their
// places, all at once.
//
// It builds the whole graph of no rows beside, in the scratch schema, and drops it: source files become empty tables with their
// columns, models are views with LIMIT 0, identity, profiles and segments are made of those by the very statements a build
// runs. So nothing is read, and nothing that a build would refuse is passed.
//
// scanned is, where the engine estimates it, how many bytes the models that are built into tables, and the syncs, would read of the
// sources; what Dray builds of them itself (identity, profiles, segments) is empty here, and not in it.
func Explain(ctx context.Context, w warehouse.Warehouse, prog *compile.Program) (scanned int64, err error) {
	o := prog.Options
	o.Scratch = true
	schema := prog.Names.Schema + "_scratch"
	if _, err := w.Exec(ctx, w.Dialect().CreateSchema(schema)); err != nil {
		return 0, failed("making schema "+schema, err)
	}
	defer func() {
		if _, dropped := w.Exec(context.WithoutCancel(ctx), w.Dialect().DropSchema(schema)); dropped != nil && err == nil {
			err = failed("dropping schema "+schema, dropped)
		}
	}()
	o.Sources, err = emptyFiles(ctx, w, prog, schema)
	if err != nil {
		return 0, err
	}
	scratch, err := compile.Compile(prog.Graph, prog.Dialect, o)
	if err != nil {
		return 0, err
	}
	r := newRunner(Deps{Warehouse: w}, scratch)
	r.explain = true
	if err := r.prepare(ctx); err != nil {
		return 0, err
	}
	problems := r.schedule(ctx, r.explainTasks())
	_, err = r.finish(ctx, problems)
	return r.scanned.Load(), err
}

// emptyFiles makes an empty table of each source file: DuckDB looks into a CSV file anew whenever a query names it. A file that
// cannot be read has none, and is reported when it is looked at as it is.
func emptyFiles(ctx context.Context, w warehouse.Warehouse, prog *compile.Program, schema string) (map[graph.ID]warehouse.Table, error) {
	out := map[graph.ID]warehouse.Table{}
	for _, n := range prog.Nodes {
		if n.SourceFile == nil {
			continue
		}
		t := warehouse.Table{Schema: schema, Name: "source__" + n.Source.Name + "__" + n.SourceFile.Name}
		_, err := w.Exec(ctx, w.Dialect().CreateTableAs(t, "SELECT * FROM "+prog.From(n.ID)+" LIMIT 0"))
		if _, refused := theirs(err); err != nil && !refused {
			return nil, failed("looking at source "+n.Name, err)
		}
		if err == nil {
			out[n.ID] = t
		}
	}
	return out, nil
}

// explainTasks are those of a build, with the sources before and the syncs behind them.
func (r *runner) explainTasks() []*task {
	byID := map[graph.ID]*task{}
	var tasks []*task
	for _, n := range r.prog.Nodes {
		t := &task{node: n, first: true}
		switch n.Kind {
		case graph.Source:
			t.work = func(ctx context.Context, _ *NodeResult) error { return r.explainSource(ctx, n) }
		case graph.Model:
			t.work = func(ctx context.Context, result *NodeResult) error { return r.explainModel(ctx, n, result) }
		case graph.Sync:
			t.work = func(ctx context.Context, _ *NodeResult) error { return r.explainSync(ctx, n) }
		case graph.Destination:
			continue
		default:
			t.work = func(ctx context.Context, result *NodeResult) error { return r.build(ctx, n, result) }
		}
		for _, parent := range n.Parents {
			t.after = append(t.after, byID[parent])
		}
		byID[n.ID] = t
		tasks = append(tasks, t)
	}
	for _, n := range r.prog.Nodes {
		for _, test := range n.Tests {
			t := &task{node: n, after: []*task{byID[n.ID]}, work: func(ctx context.Context, _ *NodeResult) error {
				_, err := r.deps.Warehouse.Columns(ctx, test.Query)
				return r.untestable(n, test, err)
			}}
			for _, id := range test.Reads {
				t.after = append(t.after, byID[id])
			}
			tasks = append(tasks, t)
		}
	}
	return tasks
}

func (r *runner) explainSource(ctx context.Context, n *compile.Node) error {
	columns, err := r.sourceColumns(ctx, n)
	if err != nil {
		return err
	}
	var problems diag.List
	if t := n.SourceTable; t != nil {
		problems.Add(missing(t.At("loaded_at"), "source "+n.Name, columns, t.LoadedAt))
		for name := range t.Columns {
			problems.Add(missing(t.At("columns"), "source "+n.Name, columns, name))
		}
	}
	return problems.Err()
}

func (r *runner) explainModel(ctx context.Context, n *compile.Node, result *NodeResult) error {
	if err := r.build(ctx, n, result); err != nil {
		return err
	}
	columns, err := r.deps.Warehouse.Columns(ctx, "SELECT * FROM "+r.prog.From(n.ID))
	if err != nil {
		return r.refused(n, err)
	}
	if n.Query != "" && n.Materialized != "view" {
		if err := r.estimate(ctx, n.Query); err != nil {
			return r.refused(n, err)
		}
	}
	var problems diag.List
	for _, key := range n.Model.PrimaryKey {
		problems.Add(missing(n.Model.At("primary_key"), "model "+n.Name, columns, key))
	}
	problems.Add(missing(n.Model.At("loaded_at"), "model "+n.Name, columns, n.Model.LoadedAt))
	_, err = r.window(n, n.Relation, columns)
	problems.Add(err)
	return problems.Err()
}

// estimate adds what a query would read, where the engine tells.
func (r *runner) estimate(ctx context.Context, query string) error {
	w, ok := warehouse.As[warehouse.Estimator](r.deps.Warehouse)
	if !ok {
		return nil
	}
	bytes, err := w.Estimate(ctx, query)
	r.scanned.Add(bytes)
	return err
}

// missing is an error where a column is not among those of a relation; nil for a column that is not named.
func missing(pos diag.Pos, of string, columns []warehouse.Column, name string) error {
	if name == "" || has(columns, name) {
		return nil
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	err := diag.At(pos, "column.missing", "%s has no column %q", of, name)
	if near := config.Suggest(name, names); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return err.WithHint("it has %s", strings.Join(names, ", "))
}

// ExplainSync says what is wrong with a sync whose rows the warehouse cannot make: each missing column where the project names it. It is
// nil where nothing can be named.
func ExplainSync(ctx context.Context, w warehouse.Warehouse, s *compile.Sync) error {
	n := &compile.Node{Node: &graph.Node{Kind: graph.Sync, Name: s.Name, Sync: s.Config}}
	return newRunner(Deps{Warehouse: w}, &compile.Program{Syncs: map[string]*compile.Sync{s.Name: s}}).explainSync(ctx, n)
}

// explainSync checks a sync's rows, keys and fields.
func (r *runner) explainSync(ctx context.Context, n *compile.Node) error {
	s := r.prog.Syncs[n.Name]
	if s == nil {
		return nil // compiled without specs
	}
	c, w := n.Sync, r.deps.Warehouse
	if err := s.Bind(ctx, w); err != nil {
		return err
	}
	columns, err := w.Columns(ctx, s.Input)
	if err != nil {
		pos := c.Pos
		switch {
		case c.Where != nil:
			pos = c.At("where")
		case c.Consent != "":
			pos = c.At("consent")
		}
		return r.refusedAt(pos, "sync "+c.Name, err)
	}
	if err := r.estimate(ctx, s.Input); err != nil {
		return r.refusedAt(c.Pos, "sync "+c.Name, err)
	}
	var problems diag.List
	of := "what sync " + c.Name + " reads"
	for _, key := range c.Key {
		for _, k := range key.Columns {
			problems.Add(missing(k.Pos, of, columns, k.Column))
		}
	}
	for _, key := range s.PrimaryKey {
		problems.Add(missing(c.Pos, of, columns, key))
	}
	if c.Event != nil {
		problems.Add(missing(c.Event.Node.At("at"), of, columns, c.Event.At))
		for _, id := range c.Event.ID {
			problems.Add(missing(c.Event.Node.At("id"), of, columns, id))
		}
	}
	for _, f := range s.Fresh {
		_, err := w.Columns(ctx, f.Query)
		problems.Add(r.refusedAt(f.Pos, "the freshness of "+f.Name, err))
	}
	if h := c.Holdout; h != nil {
		problems.Add(missing(h.At("column"), of, columns, h.Column))
		problems.Add(missing(h.At("by"), of, columns, h.By))
	}
	for _, f := range c.Fields {
		// A field that yields to another sync's is not compiled.
		if i := slices.IndexFunc(s.Fields, func(made compile.Field) bool { return made.Name == f.Name }); i >= 0 {
			problems.Add(r.explainField(ctx, s, i, f, columns))
		}
	}
	if d := c.OnDuplicateKey; d != nil && d.OrderBy != "" && len(problems) == 0 {
		_, err := w.Columns(ctx, "SELECT r.* FROM ("+s.Input+") r ORDER BY "+s.Config.OnDuplicateKey.OrderBy)
		problems.Add(r.refusedAt(d.At("order_by"), "on_duplicate_key of sync "+c.Name, err))
	}
	return problems.Err()
}

// explainField checks that a field can be computed, and that the destination takes its type.
func (r *runner) explainField(ctx context.Context, s *compile.Sync, i int, f *config.Field, columns []warehouse.Column) error {
	if err := missing(f.At("column"), "what sync "+s.Name+" reads", columns, f.Column); err != nil {
		return err
	}
	if f.HasValue {
		return nil
	}
	if f.Lookup != nil { // what is sent is an id
		return missing(f.Lookup.At("value"), "what sync "+s.Name+" reads", columns, f.Lookup.Value)
	}
	got, err := r.deps.Warehouse.Columns(ctx, "SELECT "+s.Fields[i].Expr+" AS x FROM ("+s.Input+") r")
	if err != nil {
		return r.refusedAt(f.TextAt("sql"), fmt.Sprintf("field %q of sync %s", f.Name, s.Name), err)
	}
	for _, declared := range s.Object.Fields {
		if declared.Name != f.Name || len(declared.Kinds) == 0 || fits(got[0].Kind, declared.Kinds) {
			continue
		}
		words := make([]string, len(declared.Kinds))
		for j, k := range declared.Kinds {
			words[j] = k.String()
		}
		return diag.At(f.Pos, "sync.field_type", "field %q of %s %s takes %s, not %s", f.Name, s.Spec.Type, s.Object.Name,
			strings.Join(words, " or "), got[0].Kind).WithHint("cast it: %s: {sql: \"cast(… as …)\"}", f.Name)
	}
	return nil
}

// fits: a whole number goes where any number does.
func fits(k warehouse.Kind, takes []warehouse.Kind) bool {
	if slices.Contains(takes, k) {
		return true
	}
	numbers := []warehouse.Kind{warehouse.Int, warehouse.Float, warehouse.Decimal}
	return slices.Contains(numbers, k) && slices.ContainsFunc(takes, func(t warehouse.Kind) bool { return slices.Contains(numbers, t) })
}

// refusedAt places what the warehouse says of SQL that stands in YAML; nil for no error.
func (r *runner) refusedAt(pos diag.Pos, what string, err error) error {
	var known *diag.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	q, ok := theirs(err)
	if !ok {
		return failed("looking at "+what, err)
	}
	return &diag.Error{Pos: pos, Code: "sync.sql", Msg: fmt.Sprintf("the warehouse refuses %s", what), Err: words{q}}
}
