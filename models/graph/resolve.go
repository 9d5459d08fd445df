package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/dbt"
	"github.com/dray-dev/dray/models/jinja"
)

// Resolve finds what refers to what, checks every reference and mapping, and orders the nodes. All problems come together.
// With specs nil the mappings are not checked.
func Resolve(p *config.Project, specs Specs) (*Graph, error) {
	r := &resolver{g: &Graph{Project: p, Nodes: map[ID]*Node{}, children: map[ID][]ID{}}, through: map[ID]map[ID]bool{}}
	var err error
	if r.g.Jinja, err = jinja.New(p.Macros); err != nil {
		return nil, err
	}
	r.readDBT()
	r.addNodes()
	for _, id := range slices.Sorted(maps.Keys(r.g.Nodes)) {
		r.link(r.g.Nodes[id])
	}
	r.untangle()
	r.checkNames()
	r.checkMoved()
	r.checkEntities()
	r.checkSegments()
	if specs != nil {
		r.checkMappings(specs)
	}
	r.problems.Add(r.g.sort())
	r.checkNeverSend()
	if specs != nil {
		r.checkAlerts(specs)
	}
	if p.DBT != nil && r.g.DBT == nil { // what is missing may well be in the manifest
		r.problems = slices.DeleteFunc(r.problems, func(e *diag.Error) bool { return e.Dangling })
	}
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return r.g, nil
}

type resolver struct {
	g        *Graph
	problems diag.List
	through  map[ID]map[ID]bool // entity → those that it reads through relations alone
}

func (r *resolver) fail(e *diag.Error) { r.problems = append(r.problems, e) }

func (r *resolver) addNodes() {
	p := r.g.Project
	for _, s := range p.Sources {
		r.mustBeZone(s.Timezone, s.At("timezone"), "source.timezone")
		for _, t := range s.Tables {
			r.datedFreshness(t.Node, s.Name+"."+t.Name, t.LoadedAt)
			r.add(&Node{Kind: Source, Name: s.Name + "." + t.Name, Pos: t.Pos, Tags: s.Tags, Source: s, SourceTable: t})
		}
		for _, f := range s.Files {
			r.datedFreshness(f.Node, s.Name+"."+f.Name, f.LoadedAt)
			r.add(&Node{Kind: Source, Name: s.Name + "." + f.Name, Pos: f.Pos, Tags: s.Tags, Source: s, SourceFile: f})
		}
	}
	for _, m := range p.Models {
		r.add(&Node{Kind: Model, Name: m.Name, Pos: m.Pos, Tags: m.Tags, Model: m})
	}
	for _, e := range p.Entities {
		r.add(&Node{Kind: Entity, Name: e.Name, Pos: e.Pos, Tags: e.Tags, Entity: e})
	}
	for _, s := range p.Segments {
		r.add(&Node{Kind: Segment, Name: s.Name, Pos: s.Pos, Tags: s.Tags, Segment: s})
	}
	for _, s := range p.Syncs {
		r.add(&Node{Kind: Sync, Name: s.Name, Pos: s.Pos, Tags: s.Tags, Sync: s})
	}
	for _, d := range p.Destinations {
		r.add(&Node{Kind: Destination, Name: d.Name, Pos: d.Pos, Destination: d})
	}
}

// datedFreshness holds that what must be fresh says by which column.
func (r *resolver) datedFreshness(n config.Node, name, loadedAt string) {
	if n.Has("fresh") && loadedAt == "" {
		r.fail(diag.At(n.At("fresh"), "source.fresh", "source %s must be fresh, and does not say when its rows were loaded", name).
			WithHint("loaded_at: the column that says so"))
	}
}

func (r *resolver) add(n *Node) {
	n.ID = MakeID(n.Kind, n.Name)
	if r.g.Nodes[n.ID] == nil { // config has reported the second
		r.g.Nodes[n.ID] = n
	}
}

// link finds a node's parents.
func (r *resolver) link(n *Node) {
	parents := map[ID]bool{}
	reads := func(text jinja.Text) { r.readsJinja(n, text, parents) }
	switch n.Kind {
	case Model:
		r.linkModel(n, parents)
	case Entity:
		r.linkEntity(n, parents, reads)
	case Segment:
		r.linkSegment(n, parents, reads)
	case Sync:
		r.linkSync(n, parents, reads)
	case Destination:
		for _, s := range r.g.Project.Syncs {
			if s.Destination == n.Name {
				parents[MakeID(Sync, s.Name)] = true
			}
		}
	}
	n.Parents = slices.Sorted(maps.Keys(parents))
}

func (r *resolver) linkModel(n *Node, parents map[ID]bool) {
	m := n.Model
	switch {
	case n.DBT != nil:
	case m.Table != "":
		r.reads(m.Table, m.At("table"), parents)
	default:
		r.readsJinja(n, ModelText(m), parents)
	}
	if m.Tests == nil {
		return
	}
	tests := map[ID]bool{}
	for _, column := range slices.Sorted(maps.Keys(m.Tests.Relationships)) {
		pos := at(m.Tests.Node, "relationships."+column, "relationships")
		target := m.Tests.Relationships[column]
		model, key, ok := strings.Cut(target, ".")
		if !ok || model == "" || key == "" {
			r.fail(diag.At(pos, "test.relationship", "a relationship is written %s: model.column, not %q", column, target))
			continue
		}
		if id, err := r.find(jinja.Relation{Kind: "ref", Name: model}); err != nil {
			err.Pos = pos
			r.fail(err)
		} else {
			tests[id] = true
		}
	}
	for i, sql := range m.Tests.SQL {
		r.readsJinja(n, jinja.Text{SQL: sql, Pos: at(m.Tests.Node, fmt.Sprintf("sql.%d", i), "sql")}, tests)
	}
	delete(tests, n.ID)
	n.TestParents = slices.Sorted(maps.Keys(tests))
}

func (r *resolver) linkEntity(n *Node, parents map[ID]bool, reads func(jinja.Text)) {
	for _, in := range n.Entity.Inputs {
		r.reads(in.From, in.Node.At("from"), parents)
	}
	for _, i := range n.Entity.Identifiers {
		if i.Exclude != nil && i.Exclude.From != "" {
			r.reads(i.Exclude.From, i.Exclude.At("from"), parents)
		}
	}
	if d := n.Entity.Decisions; d != nil && d.From != "" {
		r.reads(d.From, d.At("from"), parents)
	}
	for _, t := range n.Entity.Traits {
		for key, sql := range map[string]string{"order_by": t.OrderBy, "value": t.Value, "sql": t.SQL, "where": t.Where} {
			reads(jinja.Text{SQL: sql, Pos: t.TextAt(key)})
		}
		if s, ok := t.Default.(string); ok {
			reads(jinja.Text{SQL: s, Pos: t.TextAt("default")})
		}
	}
	for _, t := range n.Entity.Traits {
		for _, other := range r.relatives(n.Entity, t) {
			if !parents[other] {
				if r.through[n.ID] == nil {
					r.through[n.ID] = map[ID]bool{}
				}
				r.through[n.ID][other] = true
			}
			parents[other] = true
		}
	}
}

func (r *resolver) linkSegment(n *Node, parents map[ID]bool, reads func(jinja.Text)) {
	s := n.Segment
	if r.mustExist(Entity, s.Entity, s.At("entity"), "segment.entity") {
		parents[MakeID(Entity, s.Entity)] = true
	}
	reads(jinja.Text{SQL: s.SQL, Pos: s.TextAt("sql")})
	r.linkCondition(s.Where, s.Entity, parents, reads)
	for _, name := range s.Exclusive {
		r.mustExist(Segment, name, s.At("exclusive"), "segment.exclusive")
	}
	for _, name := range r.g.Before(s.Name) {
		if r.g.Node(Segment, name) != nil { // reported where it is named
			parents[MakeID(Segment, name)] = true
		}
	}
}

// linkCondition finds what a condition reads; entity is the one whose profiles it is about, if it is about any.
func (r *resolver) linkCondition(c *config.Condition, entity string, parents map[ID]bool, reads func(jinja.Text)) {
	walk(c, func(c *config.Condition) {
		if of, _, dotted := strings.Cut(c.Trait, "."); dotted && r.g.Node(Entity, entity) != nil {
			if rel := RelationOf(r.g.Node(Entity, entity).Entity, of); rel != nil && r.g.Node(Entity, rel.Entity) != nil {
				parents[MakeID(Entity, rel.Entity)] = true
			}
		}
		if c.In != "" && r.mustExist(Segment, c.In, c.At("in"), "condition.in") {
			parents[MakeID(Segment, c.In)] = true
		}
		if c.Sent != "" {
			r.mustExist(Sync, c.Sent, c.At("sent"), "condition.sent")
		}
		reads(jinja.Text{SQL: c.SQL, Pos: c.TextAt("sql")})
		reads(jinja.Text{SQL: c.Where, Pos: c.TextAt("where")})
		for _, v := range values(c.Value) {
			reads(jinja.Text{SQL: v, Pos: c.TextAt(c.Op)})
		}
	})
}

func (r *resolver) linkSync(n *Node, parents map[ID]bool, reads func(jinja.Text)) {
	s := n.Sync
	if s.Segment != "" && r.mustExist(Segment, s.Segment, s.At("segment"), "sync.segment") {
		parents[MakeID(Segment, s.Segment)] = true
		// The rows of a segment sync are profiles.
		parents[MakeID(Entity, r.g.Node(Segment, s.Segment).Segment.Entity)] = true
	}
	if s.Entity != "" && r.mustExist(Entity, s.Entity, s.At("entity"), "sync.entity") {
		parents[MakeID(Entity, s.Entity)] = true
	}
	if s.Model != "" {
		r.reads(s.Model, s.At("model"), parents)
	}
	entity := s.Entity
	if of := r.g.Node(Segment, s.Segment); of != nil {
		entity = of.Segment.Entity
	}
	r.linkCondition(s.Where, entity, parents, reads)
	for _, f := range s.Fields {
		reads(jinja.Text{SQL: f.SQL, Pos: f.TextAt("sql")})
		for _, name := range f.Segments {
			if r.mustExist(Segment, name, f.At("segments"), "field.segments") {
				parents[MakeID(Segment, name)] = true
			}
		}
	}
	if s.OnDuplicateKey != nil {
		reads(jinja.Text{SQL: s.OnDuplicateKey.OrderBy, Pos: s.OnDuplicateKey.TextAt("order_by")})
	}
	for _, a := range s.After {
		switch pos := place(a.Node, s.At("after")); {
		case a.Sync == s.Name:
			r.fail(diag.At(pos, "sync.after", "sync %q cannot come after itself", s.Name))
		case r.mustExist(Sync, a.Sync, pos, "sync.after"):
			parents[MakeID(Sync, a.Sync)] = true
		}
	}
	if s.Requires != nil {
		for i, name := range s.Requires.Tests {
			r.mustBeTested(name, at(s.Requires.Node, fmt.Sprintf("tests.%d", i), "tests"), parents)
		}
		for _, name := range slices.Sorted(maps.Keys(s.Requires.Fresh)) {
			r.mustBeDated(name, at(s.Requires.Node, "fresh."+name, "fresh"), parents)
		}
	}
	for id := range parents { // an entity that does not exist was reported with its segment
		if r.g.Nodes[id] == nil {
			delete(parents, id)
		}
	}
}

// mustBeTested reports what requires.tests names and has no tests.
func (r *resolver) mustBeTested(name string, pos diag.Pos, parents map[ID]bool) {
	n, of, err := r.required(name, Model)
	switch {
	case err != nil:
		err.Code, err.Pos = "sync.requires", pos
		r.fail(err)
	case of != nil && len(of.Tests) == 0:
		r.fail(diag.At(pos, "sync.requires", "dbt's %s %q has no tests to pass", of.Kind, of.Full()).WithHint("give it data_tests: in dbt"))
	case n != nil:
		parents[n.ID] = true
		if n.Model.Tests == nil {
			r.fail(diag.At(pos, "sync.requires", "model %q has no tests to pass", name).WithHint("tests: {not_null: […]} on the model"))
		}
	}
}

// mustBeDated reports what requires.fresh names and has no time to be judged by.
func (r *resolver) mustBeDated(name string, pos diag.Pos, parents map[ID]bool) {
	n, of, err := r.required(name, Source, Model)
	switch {
	case err != nil:
		err.Code, err.Pos = "sync.requires", pos
		r.fail(err)
	case of != nil && len(r.g.DBT.SourcesOf(of)) == 0:
		r.fail(diag.At(pos, "sync.requires", "dbt's %s %q is made of no source", of.Kind, of.Full()).WithHint("dbt tells the age of sources alone"))
	case n != nil:
		if n.Kind == Model { // it is judged as this run built it
			parents[n.ID] = true
		}
		if n.LoadedAt() == "" {
			r.fail(diag.At(pos, "sync.requires", "%s %q does not say when its rows were loaded", n.Kind, name).WithHint("loaded_at: the column that says so"))
		}
	}
}

// required finds what a sync's `requires` names: a node of one of the kinds, or what dbt knows of the name. The sync need not read
// it, so dbt's does not become a node.
func (r *resolver) required(name string, kinds ...Kind) (*Node, *dbt.Relation, *diag.Error) {
	for _, k := range kinds {
		if n := r.g.Node(k, name); n != nil && n.DBT == nil {
			return n, nil, nil
		}
	}
	rel, ok := jinja.ParseRelation(name)
	if source, table, dotted := strings.Cut(name, "."); !ok && dotted {
		rel = jinja.Relation{Kind: "source", Name: source, Table: table}
	} else if !ok {
		rel = jinja.Relation{Kind: "ref", Name: name}
	}
	found, err := r.lookDBT(rel)
	if found == nil && err == nil {
		err = r.missing(kinds[0], name, "sync.requires")
	}
	return nil, found, err
}

// Required finds what a sync's `requires.fresh`, or requires.tests, names: a node, or what dbt knows of the name. Resolve has
// checked that there is one.
func (g *Graph) Required(name string) (*Node, *dbt.Relation) {
	n, found, _ := (&resolver{g: g}).required(name, Source, Model)
	return n, found
}

// reads adds what a relation written in YAML means: ref('x'), source('s', 't'), profiles('e'), or the bare name of a model.
func (r *resolver) reads(written string, pos diag.Pos, parents map[ID]bool) {
	if written == "" {
		return
	}
	id, err := r.referred(written)
	if err != nil {
		err.Pos = pos
		r.fail(err)
		return
	}
	parents[id] = true
}

// Reference finds the node that a relation written in YAML means.
func (g *Graph) Reference(written string) (ID, *diag.Error) {
	return (&resolver{g: g}).referred(written)
}

func (r *resolver) referred(written string) (ID, *diag.Error) {
	rel, ok := jinja.ParseRelation(written)
	if ok {
		return r.find(rel)
	}
	if identifier.MatchString(strings.TrimSpace(written)) {
		return r.find(jinja.Relation{Kind: "ref", Name: strings.TrimSpace(written)})
	}
	return "", &diag.Error{
		Code: "reference.syntax", Msg: fmt.Sprintf("%q is not a relation", written),
		Hint: "write ref('model'), source('source', 'table') or profiles('entity')",
	}
}

// readsJinja renders a text twice, as the first and as a later build see it, and adds all that it reads.
func (r *resolver) readsJinja(n *Node, text jinja.Text, parents map[ID]bool) {
	if text.Plain() {
		return
	}
	env := r.env(n, parents)
	for _, env.Incremental = range []bool{false, true} {
		if _, err := r.g.Jinja.Render(text, env); err != nil {
			r.problems.Add(err)
			return
		}
		if !strings.Contains(text.SQL, "is_incremental") && len(r.g.Project.Macros) == 0 {
			return
		}
	}
}

// env records what a text reads; the names it renders are of no use but to be valid.
func (r *resolver) env(n *Node, parents map[ID]bool) jinja.Env {
	p := r.g.Project
	env := jinja.Env{Vars: p.Vars, Target: TargetOf(p), Now: "CURRENT_TIMESTAMP"}
	if n.Kind == Model {
		env.This = &jinja.Name{SQL: n.Name, Schema: p.Schema, Identifier: n.Name}
		if n.Model.Lookback.Duration > 0 {
			env.This.Lookback = "interval"
		}
	}
	env.Resolve = func(rel jinja.Relation) (jinja.Name, error) {
		id, err := r.find(rel)
		if err != nil {
			return jinja.Name{}, err
		}
		parents[id] = true
		return jinja.Name{SQL: rel.Name, Schema: p.Schema, Identifier: rel.Name}, nil
	}
	return env
}

// TargetOf is what {{ target }} says.
func TargetOf(p *config.Project) jinja.Target {
	t := jinja.Target{Name: p.TargetName, Schema: p.Schema, Type: "duckdb"}
	if t.Name == "" {
		t.Name = "default"
	}
	if p.Warehouse != nil {
		t.Type = p.Warehouse.Type
		for _, key := range []string{"database", "project", "catalog"} {
			if s, ok := p.Warehouse.Options[key].(string); ok {
				t.Database = s
			}
		}
	}
	return t
}

// ModelText is a model's query with its place.
func ModelText(m *config.Model) jinja.Text { return jinja.Text{SQL: m.SQL, Pos: m.SQLPos} }

// find is the node of a relation; the error says what it may have meant.
func (r *resolver) find(rel jinja.Relation) (ID, *diag.Error) {
	kind, name := Model, rel.Name
	switch rel.Kind {
	case "source":
		kind, name = Source, rel.Name+"."+rel.Table
	case "identity", "profiles":
		kind = Entity
	case "segment":
		kind = Segment
	}
	own := rel.Version == "" && (rel.Package == "" || rel.Package == r.g.Project.Name)
	id := MakeID(kind, name)
	if n := r.g.Nodes[id]; own && n != nil && n.DBT == nil {
		return id, nil
	}
	if id, err := r.findDBT(rel); id != "" || err != nil {
		return id, err
	}
	if !own {
		return "", r.missingPackage(rel)
	}
	return "", r.missing(kind, name, string(kind)+".unknown")
}

// mustExist reports a name that does not exist.
func (r *resolver) mustExist(k Kind, name string, pos diag.Pos, code string) bool {
	if name == "" || r.g.Node(k, name) != nil { // config has reported what is not written
		return name != ""
	}
	err := r.missing(k, name, code)
	err.Pos = pos
	r.fail(err)
	return false
}

func (r *resolver) missing(k Kind, name, code string) *diag.Error {
	what := string(k)
	if k == Source {
		what = "source table"
	}
	err := &diag.Error{Code: code, Dangling: true, Msg: fmt.Sprintf("there is no %s %q", what, name)}
	known := append(r.names(k), r.dbtNames(k)...)
	if near := config.Suggest(name, known); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	for _, other := range Kinds() {
		if other != k && r.g.Node(other, name) != nil {
			return err.WithHint("%q is %s", name, article(other))
		}
	}
	if k == Model {
		for _, table := range r.names(Source) {
			if source, last, _ := strings.Cut(table, "."); last == name || table == name {
				return err.WithHint("did you mean source('%s', '%s')?", source, last)
			}
		}
	}
	switch {
	case len(known) == 0:
		return err.WithHint("the project has no %s", plural(what))
	case len(known) <= 8:
		return err.WithHint("there are %s", strings.Join(known, ", "))
	}
	return err
}

func plural(what string) string {
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return stem + "ies"
	}
	return what + "s"
}

func article(k Kind) string {
	if k == Entity {
		return "an entity"
	}
	return "a " + string(k)
}

// names are those of a kind, sorted.
func (r *resolver) names(k Kind) []string {
	var out []string
	for _, n := range r.g.Nodes {
		if n.Kind == k && n.Name != "" { // config has reported a thing without a name
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return out
}

// at is the place of the first of the keys that is written.
func at(n config.Node, keys ...string) diag.Pos {
	for _, k := range keys {
		if n.Has(k) {
			return n.At(k)
		}
	}
	return n.At(keys[len(keys)-1])
}
