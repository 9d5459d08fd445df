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

// Backslash tells whether a backslash escapes in the literals of a warehouse's SQL.
func Backslash(warehouse string) bool { return warehouse == "bigquery" || warehouse == "snowflake" }

// Derived are the traits of an entity that are computed from other columns of its profiles, `sql:` and `quintile:`, and what each of
// them needs of the others, by lower-cased name. sql is a trait's text without Jinja. The error, with a position, names a cycle.
func Derived(e *config.Entity, sql func(*config.Trait) string, backslash bool) (map[string][]string, *diag.Error) {
	needs := map[string][]string{}
	for _, t := range e.Traits {
		if t.SQL != "" || t.Quintile != "" {
			needs[strings.ToLower(t.Name)] = nil
		}
	}
	for _, t := range e.Traits {
		name := strings.ToLower(t.Name)
		for _, read := range readBy(e, t, sql, backslash) {
			if _, derived := needs[read]; derived && !slices.Contains(needs[name], read) {
				needs[name] = append(needs[name], read)
			}
		}
	}
	done := map[string]bool{}
	for _, t := range e.Traits {
		if cycle := findCycle(needs, strings.ToLower(t.Name), nil, done); cycle != nil {
			return nil, diag.At(at(t.Node, "sql", "quintile", "name"), "trait.cycle", "traits need each other: %s", strings.Join(cycle, " → ")).
				WithHint("one of them must do without the other")
		}
	}
	return needs, nil
}

// readBy are the columns of its own profiles that a derived trait may read, in lower case; those by which a relation is found are among them.
func readBy(e *config.Entity, t *config.Trait, sql func(*config.Trait) string, backslash bool) []string {
	if t.Quintile != "" {
		return []string{strings.ToLower(t.Quintile)}
	}
	if t.SQL == "" {
		return nil
	}
	text := sql(t)
	out := lineage.Names(text, backslash)
	for _, m := range lineage.Members(text, backslash, IsRelation(e)) {
		for own := range RelationOf(e, m.Of).On {
			out = append(out, strings.ToLower(own))
		}
	}
	slices.Sort(out)
	return out
}

// findCycle walks what a trait needs; it gives the names from the first that returns to itself.
func findCycle(needs map[string][]string, name string, path []string, done map[string]bool) []string {
	if done[name] {
		return nil
	}
	if i := slices.Index(path, name); i >= 0 {
		return append(slices.Clone(path[i:]), name)
	}
	for _, need := range needs[name] {
		if cycle := findCycle(needs, need, append(path, name), done); cycle != nil {
			return cycle
		}
	}
	done[name] = true
	return nil
}

// RelationOf finds an entity's relation by name, whatever its case; nil where there is none.
func RelationOf(e *config.Entity, name string) *config.Relation {
	for _, r := range e.Relations {
		if strings.EqualFold(r.Name, name) {
			return r
		}
	}
	return nil
}

// IsRelation tells whether a name is that of a relation.
func IsRelation(e *config.Entity) func(string) bool {
	return func(name string) bool { return RelationOf(e, name) != nil }
}

func (r *resolver) backslash() bool {
	return r.g.Project.Warehouse != nil && Backslash(r.g.Project.Warehouse.Type)
}

// relatives are the entities whose traits a trait reads.
func (r *resolver) relatives(e *config.Entity, t *config.Trait) []ID {
	var out []ID
	for _, m := range lineage.Members(r.plain(t.SQL), r.backslash(), IsRelation(e)) {
		if other := r.g.Node(Entity, RelationOf(e, m.Of).Entity); other != nil { // else it is reported with the relation
			out = append(out, other.ID)
		}
	}
	return out
}

// checkTraits checks what an entity's traits read.
func (r *resolver) checkTraits(e *config.Entity) {
	for _, t := range e.Traits {
		for _, from := range t.From {
			input, _, _ := strings.Cut(from, ".")
			r.mustBeInput(e, strings.TrimSpace(input), t.At("from"), "trait.from")
		}
		r.mustBeDatedTrait(e, t)
		if t.Quintile != "" {
			r.mustBeColumn(e, t.Quintile, t.At("quintile"), "trait.quintile")
		}
		for _, m := range lineage.Members(r.plain(t.SQL), r.backslash(), IsRelation(e)) {
			if other := r.g.Node(Entity, RelationOf(e, m.Of).Entity); other != nil {
				r.mustBeColumn(other.Entity, m.Name, t.At("sql"), "trait.relation")
			}
		}
	}
	if _, err := Derived(e, func(t *config.Trait) string { return r.plain(t.SQL) }, r.backslash()); err != nil {
		r.fail(err)
	}
}

// mustBeDatedTrait reports a window, or a pick by time, over inputs that do not say when.
func (r *resolver) mustBeDatedTrait(e *config.Entity, t *config.Trait) {
	var undated []string
	for _, from := range t.From {
		name, _, _ := strings.Cut(from, ".")
		for _, in := range e.Inputs {
			if inputName(in) == strings.TrimSpace(name) && in.At == "" {
				undated = append(undated, inputName(in))
			}
		}
	}
	switch key := at(t.Node, "within", "max_age", "pick"); {
	case len(undated) == 0:
	case t.Within.Duration > 0 || t.MaxAge.Duration > 0:
		r.fail(diag.At(key, "trait.at", "input %s has no at:, and this needs to know when", undated[0]).
			WithHint("add at: with the column that says when to input %s", undated[0]))
	case (t.Pick == "most_recent" || t.Pick == "oldest") && t.OrderBy == "" && len(undated) == len(t.From):
		r.fail(diag.At(key, "trait.at", "pick: %s needs to know when, and input %s has no at:", t.Pick, undated[0]).
			WithHint("add at: with the column that says when to input %s, or pick: first with order_by:", undated[0]))
	}
}

// checkRelations checks that what an entity belongs to is there, and how it is found.
func (r *resolver) checkRelations(e *config.Entity) {
	for _, rel := range e.Relations {
		if !r.mustExist(Entity, rel.Entity, rel.At("entity"), "relation.entity") {
			continue
		}
		other := r.g.Node(Entity, rel.Entity).Entity
		var known []string
		for _, i := range other.Identifiers {
			known = append(known, i.Name)
		}
		for _, own := range slices.Sorted(maps.Keys(rel.On)) {
			pos := at(rel.Node, "on."+own, "on")
			r.mustBeColumn(e, own, pos, "relation.on")
			if theirs := rel.On[own]; !slices.Contains(known, theirs) {
				r.fail(unknown(pos, "relation.on", fmt.Sprintf("entity %q has no identifier %q", other.Name, theirs), theirs, known))
			}
		}
	}
}

// related finds the entity of a relation that a condition or a trait names as account.mrr, and the column; nil where the name has no dot.
func (r *resolver) related(e *config.Entity, name string, pos diag.Pos, code string) (other *config.Entity, column string) {
	of, column, dotted := strings.Cut(name, ".")
	if !dotted {
		return nil, ""
	}
	rel := RelationOf(e, of)
	if rel == nil {
		var known []string
		for _, rel := range e.Relations {
			known = append(known, rel.Name)
		}
		err := diag.At(pos, code, "entity %q has no relation %q", e.Name, of)
		switch near := config.Suggest(of, known); {
		case near != "":
			err.Hint = "did you mean " + near + "?"
		case len(known) > 0:
			err.Hint = "there are " + strings.Join(known, ", ")
		default:
			err.Hint = fmt.Sprintf("add to it: relations: [{name: %s, entity: ENTITY, on: {OWN_COLUMN: ITS_IDENTIFIER}}]", of)
		}
		r.fail(err)
		return nil, ""
	}
	if n := r.g.Node(Entity, rel.Entity); n != nil {
		return n.Entity, column
	}
	return nil, ""
}

// untangle lets two entities read each other where one does so by its profiles' own columns and the other by a relation, as accounts
// that count their customers and customers that know their account's price. The one that has the profiles as an input no longer comes
// after them, but after what they are made of: their own columns, without the traits through relations, are made before it (OwnOf),
// and the profiles as a whole after it.
func (r *resolver) untangle() {
	type edge struct {
		reader, read *Node
		after        map[ID]bool // what the read one as a whole comes after
	}
	var cut []edge
	for _, id := range slices.Sorted(maps.Keys(r.g.Nodes)) {
		read := r.g.Nodes[id]
		through := r.through[id]
		if len(through) == 0 {
			continue
		}
		after := r.g.reach(slices.Sorted(maps.Keys(through)), -1, func(id ID) []ID { return r.g.Nodes[id].Parents })
		for _, reader := range slices.Sorted(maps.Keys(after)) {
			n := r.g.Nodes[reader]
			if n.Entity != nil && reader != id && slices.Contains(n.Parents, id) && r.readsDirectly(n.Entity, id) {
				cut = append(cut, edge{n, read, after})
			}
		}
	}
	for _, e := range cut {
		parents := map[ID]bool{}
		for _, p := range e.reader.Parents {
			parents[p] = p != e.read.ID
		}
		for _, p := range e.read.Parents {
			if !r.through[e.read.ID][p] {
				parents[p] = true
			}
		}
		maps.DeleteFunc(parents, func(_ ID, keep bool) bool { return !keep })
		e.reader.Parents = slices.Sorted(maps.Keys(parents))
		e.reader.OwnOf = append(e.reader.OwnOf, e.read.ID)
		for id, n := range r.g.Nodes { // who counts rows of its inputs finds them there as a whole
			if slices.Contains(n.Parents, e.reader.ID) && !e.after[id] && !slices.Contains(n.Parents, e.read.ID) && n != e.read {
				n.Parents = append(n.Parents, e.read.ID)
				slices.Sort(n.Parents)
			}
		}
	}
	r.g.children = map[ID][]ID{}
	for _, id := range slices.Sorted(maps.Keys(r.g.Nodes)) {
		for _, parent := range r.g.Nodes[id].Parents {
			r.g.children[parent] = append(r.g.children[parent], id)
		}
	}
}

// readsDirectly tells whether an entity reads another's profiles as inputs, and in no other way: what stands in SQL is read whole.
func (r *resolver) readsDirectly(e *config.Entity, other ID) bool {
	direct := false
	for _, in := range e.Inputs {
		id, err := r.referred(in.From)
		direct = direct || err == nil && id == other
	}
	without := *e
	without.Inputs = nil
	parents := map[ID]bool{}
	quiet := &resolver{g: r.g, through: map[ID]map[ID]bool{}}
	node := &Node{ID: "entity.", Kind: Entity, Entity: &without}
	quiet.linkEntity(node, parents, func(text jinja.Text) { quiet.readsJinja(node, text, parents) })
	return direct && !parents[other]
}

// Own is an entity with the traits alone that read no relation, by themselves or through others.
func (g *Graph) Own(e *config.Entity) *config.Entity {
	r := &resolver{g: g}
	out := *e
	gone := map[string]bool{}
	for size := -1; size != len(gone); {
		size = len(gone)
		out.Traits = nil
		for _, t := range e.Traits {
			sql := r.plain(t.SQL)
			read := slices.ContainsFunc(readBy(e, t, func(*config.Trait) string { return sql }, r.backslash()), func(name string) bool { return gone[name] })
			if read || len(lineage.Members(sql, r.backslash(), IsRelation(e))) > 0 {
				gone[strings.ToLower(t.Name)] = true
				continue
			}
			out.Traits = append(out.Traits, t)
		}
	}
	return &out
}
