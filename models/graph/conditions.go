package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// walk visits a condition and all below it.
func walk(c *config.Condition, visit func(*config.Condition)) {
	if c == nil {
		return
	}
	visit(c)
	for _, list := range [][]*config.Condition{c.All, c.Any, {c.Not, c.AndNotSince, c.Then}} {
		for _, child := range list {
			walk(child, visit)
		}
	}
}

// values are the texts in a condition's value.
func values(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			out = append(out, values(item)...)
		}
		return out
	}
	return nil
}

// checkEntities checks what traits read.
func (r *resolver) checkEntities() {
	for _, e := range r.g.Project.Entities {
		if len(e.Identifiers) == 0 {
			r.fail(diag.At(e.At("name"), "entity.identifiers", "entity %q has no identifiers: nobody can be told apart", e.Name).
				WithHint("identifiers: [{name: user_id}, {name: email, normalize: email}]"))
			continue
		}
		for _, in := range e.Inputs {
			r.checkInput(e, in)
		}
		r.checkLent(e)
		for _, purpose := range slices.Sorted(maps.Keys(e.Consent)) {
			r.mustBeColumn(e, e.Consent[purpose], e.At("consent"), "entity.consent")
		}
		r.checkRelations(e)
		r.checkTraits(e)
	}
}

// Before are the segments of which nobody is taken into a segment, sorted: those that stand before it in an `exclusive:`. A segment
// that does not name itself in its own comes last.
func (g *Graph) Before(segment string) []string {
	var out []string
	for _, s := range g.Project.Segments {
		group := s.Exclusive
		if len(group) > 0 && !slices.Contains(group, s.Name) {
			group = append(slices.Clone(group), s.Name)
		}
		if i := slices.Index(group, segment); i > 0 {
			out = append(out, group[:i]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkSegments checks the conditions that speak of an entity's traits and inputs.
func (r *resolver) checkSegments() {
	for _, s := range r.g.Project.Segments {
		e := r.g.Node(Entity, s.Entity)
		if e == nil {
			continue
		}
		r.checkCondition(s.Where, e.Entity)
		if s.Top != nil {
			r.mustBeColumn(e.Entity, s.Top.By, s.At("top"), "segment.top")
		}
		for _, name := range s.Exclusive {
			r.sameEntity(name, e.Entity, s.At("exclusive"), "segment.exclusive")
		}
	}
	for _, s := range r.g.Project.Syncs {
		entity, of := s.Entity, r.g.Node(Segment, s.Segment)
		if of != nil {
			entity = of.Segment.Entity
		}
		if e := r.g.Node(Entity, entity); e != nil {
			r.checkCondition(s.Where, e.Entity, memberColumns(of)...)
		}
	}
}

// memberColumns are what a segment's members have beside the columns of profiles; of may be nil.
func memberColumns(of *Node) []string {
	switch {
	case of == nil:
		return nil
	case of.Segment.Split != nil:
		return []string{"entered_at", "split"}
	default:
		return []string{"entered_at"}
	}
}

// sameEntity reports a segment of another entity.
func (r *resolver) sameEntity(segment string, e *config.Entity, pos diag.Pos, code string) {
	n := r.g.Node(Segment, segment)
	if n != nil && n.Segment.Entity != e.Name && r.g.Node(Entity, n.Segment.Entity) != nil {
		r.fail(diag.At(pos, code, "segment %q is of entity %q, not of %q", segment, n.Segment.Entity, e.Name))
	}
}

// checkCondition checks a tree of conditions on profiles that have these columns beside their own.
func (r *resolver) checkCondition(c *config.Condition, e *config.Entity, beside ...string) {
	walk(c, func(c *config.Condition) {
		switch other, column := r.related(e, c.Trait, c.At("trait"), "condition.trait"); {
		case other != nil:
			r.mustBeColumn(other, column, c.At("trait"), "condition.trait")
		case c.Trait != "" && !strings.Contains(c.Trait, "."):
			r.mustBeColumn(e, c.Trait, c.At("trait"), "condition.trait", beside...)
		}
		if c.Did != "" {
			r.mustBeInput(e, c.Did, c.At("did"), "condition.did")
			r.mustBeDatedInput(e, c)
		}
		if c.Sent != "" {
			r.checkSent(e, c)
		}
		r.sameEntity(c.In, e, c.At("in"), "condition.in")
	})
}

// mustBeDatedInput reports a `did:` that needs to know when, of an input without a time.
func (r *resolver) mustBeDatedInput(e *config.Entity, c *config.Condition) {
	report := func(did string, pos diag.Pos) bool {
		for _, in := range e.Inputs {
			if inputName(in) == did && in.At == "" {
				r.fail(diag.At(pos, "condition.at", "input %s has no at:, and this needs to know when", did).
					WithHint("add at: with the column that says when to input %s", did))
				return true
			}
		}
		return false
	}
	if c.Within.Duration > 0 && report(c.Did, c.At("within")) {
		return
	}
	for key, next := range map[string]*config.Condition{"then": c.Then, "and_not_since": c.AndNotSince} {
		if next != nil && !report(c.Did, c.At(key)) && next.Within.Duration == 0 {
			report(next.Did, next.At("did"))
		}
	}
}

// checkSent holds that what was sent can be told by profile, and for as long as is asked.
func (r *resolver) checkSent(e *config.Entity, c *config.Condition) {
	n := r.g.Node(Sync, c.Sent)
	if n == nil { // reported
		return
	}
	entity := n.Sync.Entity
	if of := r.g.Node(Segment, n.Sync.Segment); of != nil {
		entity = of.Segment.Entity
	}
	switch keep := r.g.Project.Retention.Duration; {
	case n.Sync.Model != "":
		r.fail(diag.At(c.At("sent"), "condition.sent", "sync %q delivers rows of a model, and nobody knows whose they are", c.Sent).
			WithHint("name a sync of a segment or an entity"))
	case entity != e.Name && r.g.Node(Entity, entity) != nil:
		r.fail(diag.At(c.At("sent"), "condition.sent", "sync %q delivers profiles of entity %q, not of %q", c.Sent, entity, e.Name))
	case keep > 0 && c.Within.Duration > keep:
		r.fail(diag.At(c.At("within"), "condition.sent", "what was sent is forgotten before that").
			WithHint("retention: in dray.yaml says how long it is kept"))
	}
}

// checkInput holds that an input gives values of the entity's own identifiers, and at least one.
func (r *resolver) checkInput(e *config.Entity, in *config.Input) {
	var known []string
	for _, i := range e.Identifiers {
		known = append(known, i.Name)
	}
	if in.Has("identifiers") && len(in.Identifiers) == 0 {
		r.fail(diag.At(in.Node.At("identifiers"), "entity.identifiers", "input %q names no identifier, so nobody knows whose its rows are", inputName(in)).
			WithHint("identifiers: {%s: COLUMN}", strings.Join(known, ": COLUMN, ")))
	}
	for _, name := range slices.Sorted(maps.Keys(in.Identifiers)) {
		if !slices.Contains(known, name) {
			r.fail(unknown(at(in.Node, "identifiers."+name, "identifiers"), "entity.identifiers",
				fmt.Sprintf("entity %q has no identifier %q", e.Name, name), name, known))
		}
	}
}

// checkLent holds that what an identifier's refused values are lent by can be known.
func (r *resolver) checkLent(e *config.Entity) {
	for i, id := range e.Identifiers {
		if id.OnRefused != "latest" && id.OnRefused != "first" {
			continue
		}
		pos := id.At("on_refused")
		if i == 0 {
			r.fail(diag.At(pos, "entity.on_refused", "identifier %q is the most trusted one: its values are met with no profile of a more trusted", id.Name))
			continue
		}
		met, timed := false, false
		for _, in := range e.Inputs {
			if (in.Link != nil && !*in.Link) || in.Identifiers[id.Name] == "" {
				continue
			}
			for _, more := range e.Identifiers[:i] {
				if in.Identifiers[more.Name] != "" {
					met, timed = true, timed || in.At != ""
				}
			}
		}
		switch {
		case !met:
			r.fail(diag.At(pos, "entity.on_refused", "no input has %q beside a more trusted identifier, so it is met with nobody", id.Name))
		case !timed:
			r.fail(diag.At(pos, "entity.on_refused", "%s needs a time, and no input that has %q beside a more trusted identifier has one", id.OnRefused, id.Name).
				WithHint("say at: COLUMN in the input"))
		}
	}
}

func (r *resolver) mustBeInput(e *config.Entity, name string, pos diag.Pos, code string) {
	var known []string
	for _, in := range e.Inputs {
		if inputName(in) == name {
			return
		}
		known = append(known, inputName(in))
	}
	err := diag.At(pos, code, "entity %q has no input %q", e.Name, name)
	if near := config.Suggest(name, known); near != "" {
		r.fail(err.WithHint("did you mean %s?", near))
		return
	}
	from := fmt.Sprintf("ref('%s')", name)
	for _, table := range r.names(Source) {
		if source, last, _ := strings.Cut(table, "."); last == name && r.g.Node(Model, name) == nil {
			from = fmt.Sprintf(`"source('%s', '%s')"`, source, last)
		}
	}
	key := "id"
	if len(e.Identifiers) > 0 {
		key = e.Identifiers[0].Name
	}
	r.fail(err.WithHint("add to its inputs: - {name: %s, from: %s, identifiers: {%s: COLUMN}, at: COLUMN}", name, from, key))
}

// inputName is an input's name: its own, or that of what it reads.
func inputName(in *config.Input) string {
	if in.Name != "" {
		return in.Name
	}
	parts := strings.FieldsFunc(in.From, func(r rune) bool { return strings.ContainsRune(`'"(), `, r) })
	if len(parts) == 0 {
		return ""
	}
	return parts[len(parts)-1]
}

// mustBeColumn checks a column of profiles, which may have some beside.
func (r *resolver) mustBeColumn(e *config.Entity, name string, pos diag.Pos, code string, beside ...string) {
	known := append(ProfileColumns(e), beside...)
	if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
		return
	}
	err := diag.At(pos, code, "entity %q has no trait or identifier %q", e.Name, name)
	if near := config.Suggest(name, known); near != "" {
		err.Hint = "did you mean " + near + "?"
	} else {
		err.Hint = "there are " + strings.Join(known, ", ")
	}
	r.fail(err)
}

// ProfileColumns are the columns of an entity's profiles.
func ProfileColumns(e *config.Entity) []string {
	out := []string{"profile_id"}
	for _, i := range e.Identifiers {
		if i.Column != "none" {
			out = append(out, i.Name)
		}
	}
	for _, t := range e.Traits {
		if t.Name != "" {
			out = append(out, t.Name)
		}
		out = append(out, t.Names...)
	}
	return append(out, "first_seen_at", "updated_at")
}
