package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/jinja"
	"github.com/dray-dev/dray/models/lineage"
)

// kept is what of a node's relations may not be sent: columns with `never_send`, and what is made of them.
type kept struct {
	columns lineage.Columns // of the relation; of an entity: of its profiles
	values  lineage.Columns // of an entity: of its identifiers, by name
	// opaque says why a model's columns could not be followed; then any may be made of one that may not be sent. model is that model,
	// maybe one that was read on the way; origin one of the columns.
	opaque, model, origin string
}

// checkNeverSend follows `never_send` from where it is written to the syncs, and reports each place where one would send it.
func (r *resolver) checkNeverSend() {
	if len(r.g.order) == 0 || !r.anyNeverSend() {
		return
	}
	k := &keeper{resolver: r, of: map[ID]kept{}}
	for _, n := range r.g.Order() {
		switch n.Kind {
		case Source:
			k.of[n.ID] = kept{columns: k.source(n)}
		case Model:
			k.of[n.ID] = k.model(n)
		case Entity:
			k.of[n.ID] = k.entity(n)
		case Sync:
			k.sync(n)
		}
	}
}

func (r *resolver) anyNeverSend() bool {
	for _, n := range r.g.Nodes {
		if slices.ContainsFunc(slices.Collect(maps.Values(columnsOf(n))), func(c config.ColumnIs) bool { return c.NeverSend }) {
			return true
		}
	}
	return false
}

// columnsOf is what the project says of a node's columns.
func columnsOf(n *Node) map[string]config.ColumnIs {
	switch {
	case n.SourceTable != nil:
		return n.SourceTable.Columns
	case n.SourceFile != nil:
		return n.SourceFile.Columns
	case n.Model != nil:
		return n.Model.Columns
	}
	return nil
}

type keeper struct {
	*resolver
	of map[ID]kept
}

func (k *keeper) source(n *Node) lineage.Columns {
	out := lineage.Columns{}
	for name, c := range columnsOf(n) {
		if c.NeverSend {
			out[strings.ToLower(name)] = n.Name + "." + name
		}
	}
	return out
}

// model is what a model passes on. What it declares itself comes before what its SQL shows.
func (k *keeper) model(n *Node) kept {
	out := k.read(n)
	if out.columns == nil {
		out.columns = lineage.Columns{}
	}
	for name, c := range n.Model.Columns {
		if !c.Has("never_send") && !c.NeverSend { // of dbt's columns nothing is written here
			continue
		}
		out.opaque = "" // who cannot be followed says so of each column
		if c.NeverSend {
			out.columns[strings.ToLower(name)] = n.Name + "." + name
		} else {
			delete(out.columns, strings.ToLower(name))
		}
	}
	return out
}

// read follows what a model reads.
func (k *keeper) read(n *Node) kept {
	switch {
	case n.DBT != nil:
		return kept{}
	case n.Model.Table != "":
		id, err := k.g.Reference(n.Model.Table)
		if err != nil {
			return kept{}
		}
		parent := k.of[id]
		return kept{columns: maps.Clone(parent.columns), opaque: parent.opaque, model: parent.model, origin: parent.origin}
	}
	out := kept{columns: lineage.Columns{}}
	text := ModelText(n.Model)
	for _, incremental := range []bool{false, true} {
		from, unknown := lineage.Columns{}, kept{}
		env := k.env(n, map[ID]bool{})
		env.Incremental = incremental
		env.Resolve = func(rel jinja.Relation) (jinja.Name, error) {
			id, err := k.find(rel)
			if err != nil {
				return jinja.Name{}, err
			}
			name := rel.Name
			if rel.Table != "" {
				name = rel.Table
			}
			parent := k.of[id]
			if parent.opaque != "" {
				unknown = parent
			}
			maps.Copy(from, parent.relation(rel.Kind))
			return jinja.Name{SQL: name, Schema: k.g.Project.Schema, Identifier: name}, nil
		}
		sql, err := k.g.Jinja.Render(text, env)
		if err != nil {
			return kept{} // reported before
		}
		if unknown.opaque != "" {
			return unknown
		}
		if incremental {
			maps.Copy(from, out.columns) // {{ this }} holds what it made before
		}
		made, opaque := lineage.Query(sql, k.backslash(), from)
		if opaque != "" {
			return kept{opaque: opaque, model: n.Name, origin: from[slices.Sorted(maps.Keys(from))[0]]}
		}
		maps.Copy(out.columns, made)
	}
	return out
}

// relation is what of a relation that a text names may not be sent.
func (p kept) relation(kind string) lineage.Columns {
	switch kind {
	case "identity":
		for _, origin := range p.values {
			return lineage.Columns{"value": origin}
		}
		return nil
	case "segment":
		return nil // profile_id and times
	}
	return p.columns
}

// entity is what of an entity's profiles may not be sent: identifiers and traits that are made of such columns.
func (k *keeper) entity(n *Node) kept {
	out := kept{columns: lineage.Columns{}, values: lineage.Columns{}}
	inputs := map[string]lineage.Columns{}
	for _, id := range n.OwnOf { // comes after it, and is looked at again then
		k.of[id] = k.entity(k.g.Nodes[id])
	}
	for _, in := range n.Entity.Inputs {
		id, err := k.g.Reference(in.From)
		if err != nil {
			continue
		}
		parent := k.of[id]
		if parent.opaque != "" {
			return kept{opaque: parent.opaque, model: parent.model, origin: parent.origin}
		}
		inputs[in.Name] = parent.columns
		for identifier, column := range in.Identifiers {
			if origin := parent.columns[strings.ToLower(column)]; origin != "" {
				out.values[strings.ToLower(identifier)] = origin
			}
		}
	}
	for _, i := range n.Entity.Identifiers {
		if origin := out.values[strings.ToLower(i.Name)]; origin != "" && i.Column != "none" {
			out.columns[strings.ToLower(i.Name)] = origin
		}
	}
	for _, t := range n.Entity.Traits { // a trait of an identifier's name replaces it
		delete(out.columns, strings.ToLower(t.Name))
	}
	for size := -1; size != len(out.columns); {
		size = len(out.columns)
		for _, t := range n.Entity.Traits {
			for name, origin := range k.trait(n.Entity, t, inputs, out.columns) {
				out.columns[strings.ToLower(name)] = origin
			}
		}
	}
	return out
}

// trait is which of a trait's columns may not be sent.
func (k *keeper) trait(e *config.Entity, t *config.Trait, inputs map[string]lineage.Columns, profile lineage.Columns) map[string]string {
	out := map[string]string{}
	for _, from := range t.From {
		input, column, _ := strings.Cut(from, ".")
		switch {
		case t.Value != "":
			if origin := lineage.Expression(k.plain(t.Value), k.backslash(), inputs[input]); origin != "" {
				out[t.Name] = origin
			}
		case len(t.Names) > 0:
			for _, name := range t.Names {
				if origin := inputs[input][strings.ToLower(name)]; origin != "" {
					out[name] = origin
				}
			}
		default:
			if origin := inputs[input][strings.ToLower(column)]; origin != "" {
				out[t.Name] = origin
			}
		}
	}
	if t.SQL != "" {
		if origin := k.derived(e, k.plain(t.SQL), profile); origin != "" {
			out[t.Name] = origin
		}
	}
	if origin := profile[strings.ToLower(t.Quintile)]; origin != "" {
		out[t.Name] = origin
	}
	return out
}

// derived is which column that may not be sent an expression over profiles, and over those of relations, is made of.
func (k *keeper) derived(e *config.Entity, sql string, profile lineage.Columns) string {
	for _, m := range lineage.Members(sql, k.backslash(), IsRelation(e)) {
		if origin := k.of[MakeID(Entity, RelationOf(e, m.Of).Entity)].columns[m.Name]; origin != "" {
			return origin
		}
	}
	own := lineage.Replace(sql, k.backslash(), IsRelation(e), func(lineage.Member) string { return "NULL" })
	return lineage.Expression(own, k.backslash(), profile)
}

// plain is a text of YAML without Jinja; as it stands where that cannot be rendered, which is reported where it is read.
func (r *resolver) plain(sql string) string {
	out, err := r.g.Jinja.Render(jinja.Text{SQL: sql}, r.env(&Node{Kind: Sync}, map[ID]bool{}))
	if err != nil {
		return sql
	}
	return out
}

// sync reports what of a sync is made of a column that may not be sent.
func (k *keeper) sync(n *Node) {
	s := n.Sync
	from := k.readBy(s)
	if from.opaque != "" {
		k.fail(diag.At(s.Pos, "sync.never_send", "sync %q may not send %s, and of model %q it cannot be told which columns are made of it: %s",
			s.Name, from.origin, from.model, from.opaque).
			WithHint("say so on the model: columns: {a_column: {never_send: true}, another: {never_send: false}}"))
		return
	}
	refuse := func(pos diag.Pos, what, origin string) {
		if origin != "" {
			k.fail(diag.At(pos, "sync.never_send", "%s of sync %q would send %s, which may never be sent", what, s.Name, origin).
				WithHint("take it away; or say on a model that it is fit: columns: {…: {never_send: false}}"))
		}
	}
	column := func(name string) string { return from.columns[strings.ToLower(name)] }
	for _, key := range s.Key {
		for _, c := range key.Columns {
			refuse(place(c.Node, s.At("key")), fmt.Sprintf("key %q", c.Name), column(c.Column))
		}
	}
	for _, f := range s.Fields {
		pos, what := place(f.Node, s.At("fields")), fmt.Sprintf("field %q", f.Name)
		refuse(pos, what, column(f.Column))
		refuse(pos, what, lineage.Expression(k.plain(f.SQL), k.backslash(), from.columns))
		if f.Lookup != nil {
			refuse(pos, what, column(f.Lookup.Value))
		}
	}
	if s.Mode == "insert" && (s.Event == nil || len(s.Event.ID) == 0) { // the id that keeps a row from being taken twice is made of it
		if id, err := k.g.Reference(s.Model); s.Model != "" && err == nil && k.g.Nodes[id].Model != nil {
			for _, c := range k.g.Nodes[id].Model.PrimaryKey {
				refuse(s.At("mode"), "the id of each row", column(c))
			}
		}
	}
	if s.Event != nil {
		for _, c := range s.Event.ID {
			refuse(s.Event.Node.At("id"), "the event's id", column(c))
		}
		refuse(s.Event.Node.At("at"), "the event's time", column(s.Event.At))
	}
}

// readBy is what may not be sent of the rows that a sync reads.
func (k *keeper) readBy(s *config.Sync) kept {
	entity := s.Entity
	if seg := k.g.Node(Segment, s.Segment); seg != nil {
		entity = seg.Segment.Entity
	}
	if entity == "" {
		id, err := k.g.Reference(s.Model)
		if err != nil {
			return kept{}
		}
		return k.of[id]
	}
	out := k.of[MakeID(Entity, entity)]
	if origin := out.values[strings.ToLower(s.Expand)]; origin != "" {
		out.columns = maps.Clone(out.columns)
		out.columns[strings.ToLower(s.Expand)] = origin
	}
	return out
}
