// Package compile turns a resolved graph into a Program: the SQL of every node for one dialect, in the order it must run.
//
// It is pure but for the two questions it asks through Options. models/build runs what it makes; sync/plan reads its Syncs.
package compile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/jinja"
	"github.com/dray-dev/dray/models/profile"
)

// Options say for which run a program is made.
type Options struct {
	AsOf        time.Time   // the run's one clock, UTC
	Scratch     bool        // everything built goes to <schema>_scratch; prior state is read from the real schema
	FullRefresh bool        // incremental models are built anew
	Specs       graph.Specs // nil: syncs are not compiled
	// TextColumns names the columns of a CSV source that must be read as text ('007'); nil = none are looked for.
	TextColumns func(f warehouse.File) ([]string, error)
	// Columns describes a source whose times without a zone are not UTC; none = it cannot be read, which a build will report.
	// nil = such times are left as they are.
	Columns func(from string) ([]warehouse.Column, error)
	// Built tells whether a relation stands in the real schema already: an incremental model's first build is a whole one.
	// nil = nothing is built yet.
	Built func(t warehouse.Table) (bool, error)
	// Moved maps tables to the names they still have: see Names.
	Moved map[string]string
	// Sources stand in for source tables: relations with their columns, for looking at queries without reading what they read.
	Sources map[graph.ID]warehouse.Table
}

// Program is all SQL of one project for one run.
type Program struct {
	Project *config.Project
	Graph   *graph.Graph
	Dialect warehouse.Dialect
	Options Options
	Names   Names // where prior state lives
	Target  Names // where this program builds: Names, or the scratch schema
	Nodes   []*Node
	Syncs   map[string]*Sync

	byID map[graph.ID]*Node
}

// Node is one node of the graph with what it builds.
type Node struct {
	*graph.Node
	Relation     warehouse.Table // what it builds; zero where nothing is built
	Materialized string          // view, table, incremental; "" = nothing is built by SQL of its own
	// Incremental: the relation is there and Query gives only what is new; false: Query gives all of it.
	Incremental bool
	Query       string // of models
	Tests       []Test

	from string // the FROM item
	text jinja.Text
	env  jinja.Env
}

// Compile makes the program. All problems are returned together.
func Compile(g *graph.Graph, d warehouse.Dialect, o Options) (*Program, error) {
	p := &Program{
		Project: g.Project, Graph: g, Dialect: d, Options: o,
		Names: Names{Schema: g.Project.Schema, Moved: o.Moved}, Target: Names{Schema: g.Project.Schema},
		Syncs: map[string]*Sync{}, byID: map[graph.ID]*Node{},
	}
	if o.Scratch {
		p.Target.Schema += "_scratch"
	}
	var problems diag.List
	for _, n := range g.Order() {
		node := &Node{Node: n}
		p.Nodes = append(p.Nodes, node)
		p.byID[n.ID] = node
		problems.Add(p.relation(node))
	}
	for _, node := range p.Nodes {
		problems.Add(p.compile(node))
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Node finds a node's compiled form; nil where there is none.
func (p *Program) Node(id graph.ID) *Node { return p.byID[id] }

// From is the FROM item for any node: a source's table or file, a model's relation, an entity's profiles, a segment's members.
func (p *Program) From(id graph.ID) string {
	if n := p.byID[id]; n != nil {
		return n.from
	}
	return ""
}

// relation finds what a node is in the warehouse.
func (p *Program) relation(n *Node) error {
	switch n.Kind {
	case graph.Source:
		return p.source(n)
	case graph.Model:
		if n.DBT != nil {
			n.from = p.dbt(n)
			return nil
		}
		if n.Model.Table != "" {
			id, err := p.Graph.Reference(n.Model.Table)
			if err != nil {
				return err
			}
			n.from = p.From(id) // a parent: it comes first in the order
			return nil
		}
		n.Relation, n.Materialized = p.Target.Model(n.Name), n.Model.Materialized
		if n.Materialized == "" {
			n.Materialized = "view"
		}
	case graph.Entity:
		n.Relation = p.Target.Profiles(n.Name)
	case graph.Segment:
		n.Relation = p.Target.Segment(n.Name)
	default:
		return nil
	}
	n.from = p.Dialect.Table(n.Relation)
	return nil
}

// defaultSchema is a dialect in which a bare name may mean another table inside a view.
type defaultSchema interface{ DefaultSchema() string }

func (p *Program) source(n *Node) error {
	if t, ok := p.Options.Sources[n.ID]; ok {
		n.from = p.Dialect.Table(t)
		return nil
	}
	if n.DBT != nil {
		n.from = p.dbt(n)
		return nil
	}
	if n.SourceTable != nil {
		t := warehouse.Table{Database: n.Source.Database, Schema: n.Source.Schema, Name: n.SourceTable.Name}
		if d, ok := p.Dialect.(defaultSchema); ok && t.Schema == "" {
			t.Schema = d.DefaultSchema()
		}
		return p.zoned(n, p.Dialect.Table(t))
	}
	f := p.File(n.SourceFile)
	if p.Options.TextColumns != nil {
		columns, err := p.Options.TextColumns(f)
		if err != nil {
			return &diag.Error{Pos: n.SourceFile.At("path"), Code: "source.file", Msg: fmt.Sprintf("file %s of source %s cannot be read", n.SourceFile.Name, n.Source.Name), Err: err}
		}
		f.TextCols = columns
	}
	from, err := p.Dialect.ReadFile(f)
	if err != nil {
		return &diag.Error{Pos: n.SourceFile.At("path"), Code: "source.file", Msg: fmt.Sprintf("file %s of source %s cannot be read", n.SourceFile.Name, n.Source.Name), Err: err}
	}
	return p.zoned(n, from)
}

// dbt is the FROM item of a relation of dbt's: as dbt itself writes it, because how it quotes decides what a name means.
func (p *Program) dbt(n *Node) string {
	if n.DBT.SQL != "" {
		return n.DBT.SQL
	}
	return p.Dialect.Table(warehouse.Table{Database: n.DBT.Database, Schema: n.DBT.Schema, Name: n.DBT.Identifier})
}

// zoned makes from what the node's source is read from. Where the source names a time zone, its naive timestamps become UTC here,
// once, so that nothing that reads them needs to know.
func (p *Program) zoned(n *Node, from string) error {
	n.from = from
	if n.Source.Timezone == "" || p.Options.Columns == nil {
		return nil
	}
	columns, err := p.Options.Columns(from)
	if err != nil {
		return fmt.Errorf("looking at source %s: %w", n.Name, err)
	}
	list, differs := make([]string, len(columns)), false
	for i, c := range columns {
		name := p.Dialect.Quote(c.Name)
		list[i] = name
		if expr := p.Dialect.UTC(name, c, n.Source.Timezone); expr != name {
			list[i], differs = expr+" AS "+name, true
		}
	}
	if differs {
		n.from = "(SELECT " + strings.Join(list, ", ") + " FROM " + from + ")"
	}
	return nil
}

// File is a source file with its path made absolute.
func (p *Program) File(f *config.SourceFile) warehouse.File {
	path := f.Path
	if !filepath.IsAbs(path) && !strings.Contains(path, "://") {
		path = filepath.Join(p.Project.Dir, filepath.FromSlash(path))
	}
	return warehouse.File{
		Path: path, Format: f.Format, Types: f.Types, Delimiter: f.Delimiter, NoHeader: f.Header != nil && !*f.Header, Quote: f.Quote,
		Escape: f.Escape, Nulls: f.Nulls, Encoding: f.Encoding, Union: f.Union, Hive: f.Hive,
	}
}

func (p *Program) compile(n *Node) error {
	switch n.Kind {
	case graph.Model:
		return p.model(n)
	case graph.Sync:
		return p.sync(n)
	}
	return nil
}

func (p *Program) model(n *Node) error {
	n.env = p.env(n)
	if n.Materialized != "" {
		if n.Materialized == "incremental" && !p.Options.FullRefresh && p.Options.Built != nil {
			built, err := p.Options.Built(p.Names.Model(n.Name))
			if err != nil {
				return fmt.Errorf("looking for model %s: %w", n.Name, err)
			}
			n.Incremental = built
			n.env.Incremental = built
		}
		n.text = graph.ModelText(n.Model)
		query, err := p.Graph.Jinja.Render(n.text, n.env)
		if err != nil {
			return err
		}
		second := 0
		if n.Query, second = oneQuery(query); second > 0 {
			return diag.At(p.Locate(n, second), "model.statements", "model %s must be one query: another statement begins here", n.Name)
		}
	}
	return p.tests(n)
}

func (p *Program) env(n *Node) jinja.Env {
	env := jinja.Env{Vars: p.Project.Vars, Target: graph.TargetOf(p.Project), Now: p.Dialect.Time(p.Options.AsOf), Resolve: p.resolve}
	if n != nil && n.Kind == graph.Model {
		this := p.name(p.Names.Model(n.Name))
		if lookback := n.Model.Lookback.Duration; lookback > 0 {
			this.Lookback = p.Dialect.Interval(lookback)
		}
		env.This = &this
	}
	return env
}

func (p *Program) name(t warehouse.Table) jinja.Name {
	return jinja.Name{SQL: p.Dialect.Table(t), Database: t.Database, Schema: t.Schema, Identifier: t.Name}
}

// resolve names a relation for SQL; graph has checked that it exists.
func (p *Program) resolve(rel jinja.Relation) (jinja.Name, error) {
	switch rel.Kind {
	case "identity":
		return p.name(p.Target.Identity(rel.Name)), nil
	case "profiles":
		return p.name(p.Target.Profiles(rel.Name)), nil
	case "segment":
		return p.name(p.Target.Segment(rel.Name)), nil
	}
	id, err := p.Graph.Reference(rel.String())
	if err != nil {
		return jinja.Name{}, err
	}
	n := p.byID[id]
	name := p.name(n.Relation)
	name.SQL = n.from
	if n.DBT != nil {
		name.Database, name.Schema, name.Identifier = n.DBT.Database, n.DBT.Schema, n.DBT.Identifier
		return name, nil
	}
	if n.SourceTable != nil {
		name.Database, name.Schema, name.Identifier = n.Source.Database, n.Source.Schema, n.SourceTable.Name
	}
	return name, nil
}

// Render renders the Jinja of an expression that stands in YAML.
func (p *Program) Render(sql string, pos diag.Pos) (string, error) {
	return p.Graph.Jinja.Render(jinja.Text{SQL: sql, Pos: pos}, p.env(nil))
}

// Locate is the place, in the user's file, of a line of a model's Query.
func (p *Program) Locate(n *Node, line int) diag.Pos {
	if n.Materialized == "" {
		return n.Pos
	}
	return p.Graph.Jinja.Locate(n.text, n.env, line)
}

// Inputs are an entity's inputs with what they read.
func (p *Program) Inputs(e *config.Entity) ([]identity.Input, error) {
	var out []identity.Input
	for _, in := range e.Inputs {
		id, err := p.Graph.Reference(in.From)
		if err != nil {
			err.Pos = in.Node.At("from")
			return nil, err
		}
		input := identity.Input{Input: in, Source: p.From(id)}
		switch n := p.Graph.Nodes[id]; {
		case n.Model != nil:
			input.PrimaryKey = n.Model.PrimaryKey
		case n.Entity != nil:
			input.PrimaryKey = []string{"profile_id"}
		}
		out = append(out, input)
	}
	return out, nil
}

// Relations are an entity's relations with what they lead to. Graph has checked that it is there.
func (p *Program) Relations(e *config.Entity) []profile.Related {
	var out []profile.Related
	for _, r := range e.Relations {
		if n := p.Graph.Node(graph.Entity, r.Entity); n != nil {
			out = append(out, profile.Related{Relation: r, Other: n.Entity, Identity: p.Target.Identity(n.Name), Profiles: p.Target.Profiles(n.Name)})
		}
	}
	return out
}

// sync compiles a sync whose expressions are rendered first.
func (p *Program) sync(n *Node) error {
	if p.Options.Specs == nil {
		return nil
	}
	rendered := *n.Node
	var err error
	if rendered.Sync, err = p.rendered(n.Sync); err != nil {
		return err
	}
	s, err := newSync(p, &rendered)
	if err != nil {
		return err
	}
	p.Syncs[n.Name] = s
	return nil
}

// rendered is a copy of a sync without Jinja in it.
func (p *Program) rendered(s *config.Sync) (*config.Sync, error) {
	var problems diag.List
	render := func(text *string, pos diag.Pos) {
		out, err := p.Render(*text, pos)
		problems.Add(err)
		if strings.Contains(out, "--") {
			out += "\n" // ends a comment at its end
		}
		*text = out
	}
	out := *s
	out.Fields = slices.Clone(s.Fields)
	for i, f := range out.Fields {
		if f.SQL == "" {
			continue
		}
		field := *f
		render(&field.SQL, f.TextAt("sql"))
		out.Fields[i] = &field
	}
	if s.OnDuplicateKey != nil {
		act := *s.OnDuplicateKey
		render(&act.OrderBy, act.TextAt("order_by"))
		out.OnDuplicateKey = &act
	}
	out.Where = p.renderedCondition(s.Where, &problems)
	return &out, problems.Err()
}

func (p *Program) renderedCondition(c *config.Condition, problems *diag.List) *config.Condition {
	if c == nil {
		return nil
	}
	out := *c
	all := func(list []*config.Condition) []*config.Condition {
		var copies []*config.Condition
		for _, child := range list {
			copies = append(copies, p.renderedCondition(child, problems))
		}
		return copies
	}
	out.All, out.Any = all(c.All), all(c.Any)
	out.Not, out.AndNotSince, out.Then = p.renderedCondition(c.Not, problems), p.renderedCondition(c.AndNotSince, problems), p.renderedCondition(c.Then, problems)
	for key, text := range map[string]*string{"sql": &out.SQL, "where": &out.Where} {
		rendered, err := p.Render(*text, c.TextAt(key))
		problems.Add(err)
		*text = rendered
	}
	if text, ok := c.Value.(string); ok {
		v, err := p.Graph.Jinja.Value(jinja.Text{SQL: text, Pos: c.TextAt(c.Op)}, p.env(nil))
		problems.Add(err)
		out.Value = v
	}
	return &out
}
