package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/lineage"
)

// owner is the column of every pass that says whose row it is.
const owner = identity.ProfileColumn

// input is an input that traits read.
type input struct {
	identity.Relation
	rows  string // FROM item of its rows with owner
	seen  string // its time as SQL; "" = it has none
	index int    // in file order
}

// trait is one entry of `traits:` made ready. Exactly one of columns' exprs, scalar and Quintile is set.
type trait struct {
	*config.Trait
	columns []traitColumn
	scalar  string           // SQL over other traits, and over what relations lead to
	through []lineage.Member // what it reads of relations
	needs   []string         // names of the derived traits it reads
	probe   string           // a query that the engine refuses exactly when this trait is wrong
	run     func() string    // of an aggregate: a query that fails where a value of it does, as in a division by zero
}

// derived tells whether it is computed from other columns of the profiles.
func (t *trait) derived() bool { return t.SQL != "" || t.Quintile != "" }

type traitColumn struct{ name, expr string }

// pass is one grouped query: one row a profile with the values of several traits. It reads the rows of one input that fulfil
// where, unless build says otherwise.
type pass struct {
	name    string // alias in the final join: p0, p1 …
	of      *input
	where   string   // of all its columns; "" = none
	columns []string // aggregates
	reads   []*input // of build
	build   func() string
	table   string // once it has run
}

// plan reads all traits and says by which passes they are found. All problems come together.
func (b *builder) plan(ctx context.Context) ([]*trait, error) {
	var problems diag.List
	var traits []*trait
	scalars := map[*config.Trait]string{} // without Jinja
	seen := map[string]bool{"profile_id": true, "first_seen_at": true, "updated_at": true, sharedColumn: identity.Limited(b.spec.Entity)}
	for _, written := range b.spec.Entity.Traits {
		c := written
		for _, name := range namesOf(c) {
			if seen[strings.ToLower(name)] {
				problems.Add(diag.At(c.Pos, "trait.duplicate", "a profile has a column %s already", name))
			}
			seen[strings.ToLower(name)] = true
		}
		c, err := b.rendered(c)
		problems.Add(err)
		t := &trait{Trait: c}
		switch {
		case c.SQL != "":
			scalars[written], err = b.planScalar(t)
		case c.Quintile != "":
		case c.Pick != "":
			err = b.planPick(ctx, t)
		case c.Value != "":
			err = b.planAggregate(ctx, t)
		default:
			err = diag.At(c.Pos, "trait.form", "trait %s needs pick:, value:, sql: or quintile:", strings.Join(namesOf(c), ", "))
		}
		problems.Add(err)
		traits = append(traits, t)
	}
	if needs, err := graph.Derived(b.spec.Entity, func(c *config.Trait) string { return scalars[c] }, b.backslash()); err != nil {
		problems.Add(err)
	} else {
		for _, t := range traits {
			t.needs = needs[strings.ToLower(t.Name)]
		}
	}
	return traits, problems.Err()
}

func (b *builder) backslash() bool { return graph.Backslash(b.d.Name()) }

// planScalar is `sql:`; what it reads of a relation becomes the name of a column. It gives the text without Jinja.
func (b *builder) planScalar(t *trait) (string, error) {
	sql, err := b.render(t.SQL, t.Node.At("sql"))
	if err != nil {
		return "", err
	}
	relation := func(name string) bool { _, ok := b.spec.related(name); return ok }
	t.through = lineage.Members(sql, b.backslash(), relation)
	t.scalar = lineage.Replace(sql, b.backslash(), relation, func(m lineage.Member) string { return b.d.Quote(throughRelation(m)) })
	return sql, nil
}

// rendered is a trait without Jinja in its default.
func (b *builder) rendered(c *config.Trait) (*config.Trait, error) {
	text, ok := c.Default.(string)
	if !ok || !strings.Contains(text, "{") || b.spec.Render == nil {
		return c, nil
	}
	value, err := b.spec.Render(text, c.Node.TextAt("default"))
	out := *c
	out.Default = value
	return &out, err
}

// input finds an input of the entity by name and describes it.
func (b *builder) input(ctx context.Context, name string, pos diag.Pos) (*input, error) {
	if in, ok := b.inputs[name]; ok {
		return in, nil
	}
	var known []string
	for i, in := range b.spec.Inputs {
		known = append(known, in.Name)
		if in.Name != name {
			continue
		}
		relation, err := identity.Describe(ctx, b.w, in)
		if err != nil {
			return nil, err
		}
		rows, err := relation.Rows(b.spec.Entity, b.spec.Identity)
		if err != nil {
			return nil, err
		}
		seen, err := relation.Time(ctx, b.w)
		if err != nil {
			return nil, err
		}
		b.inputs[name] = &input{Relation: relation, rows: rows, seen: seen, index: i}
		return b.inputs[name], nil
	}
	e := diag.At(pos, "trait.input", "entity %s has no input %q", b.spec.Entity.Name, name)
	if s := config.Suggest(name, known); s != "" {
		return nil, e.WithHint("did you mean %s?", s)
	}
	return nil, e.WithHint("add to its inputs: - {name: %s, from: ref('%[1]s'), identifiers: {…}}", name)
}

// planAggregate is `from: input, value: sum(amount)`. A profile without rows has the aggregate's value over no rows: 0 for a count.
func (b *builder) planAggregate(ctx context.Context, t *trait) error {
	pos := t.Node.At("from")
	if len(t.From) != 1 {
		return diag.At(pos, "trait.from", "trait %s: an aggregate reads exactly one input", t.Name)
	}
	in, err := b.input(ctx, t.From[0], pos)
	if err != nil {
		return err
	}
	value, err := b.render(t.Value, t.Node.At("value"))
	if err != nil {
		return err
	}
	where, err := b.condition(t, in)
	if err != nil {
		return err
	}
	p := b.pass(in, where)
	column := p.add(value)
	t.probe = "SELECT " + value + " AS x FROM " + in.FromItem() + whereClause(where)
	t.run = func() string {
		return fmt.Sprintf("SELECT count(x) FROM (SELECT %s, %s AS x FROM %s AS r%s GROUP BY %[1]s) AS q", owner, value, in.rows, whereClause(where))
	}
	t.columns = []traitColumn{{t.Name, b.withDefault(fmt.Sprintf("CASE WHEN %s.%s IS NULL THEN (SELECT %s FROM %s AS e WHERE FALSE) ELSE %s.%s END",
		p.name, owner, value, in.Source, p.name, column), t.Default)}}
	return nil
}

// condition is where:, within: and max_age: of a trait over the rows of one input; "" = all rows.
func (b *builder) condition(t *trait, in *input) (string, error) {
	var all []string
	if t.Where != "" {
		where, err := b.render(t.Where, t.Node.At("where"))
		if err != nil {
			return "", err
		}
		all = append(all, "("+where+")")
	}
	for _, age := range []struct {
		key string
		config.Duration
	}{{"within", t.Within}, {"max_age", t.MaxAge}} {
		if age.Duration.Duration == 0 {
			continue
		}
		if in.seen == "" {
			return "", diag.At(t.Node.At(age.key), "trait.at", "%s: needs to know when: input %s has no at:", age.key, in.Name).
				WithHint("add at: with the column that says when to input %s", in.Name)
		}
		all = append(all, in.seen+" >= "+b.d.Time(b.spec.AsOf.Add(-age.Duration.Duration)))
	}
	return strings.Join(all, " AND "), nil
}

func whereClause(condition string) string {
	if condition == "" {
		return ""
	}
	return " WHERE " + condition
}

// pass finds or makes the pass over the rows of an input that fulfil a condition.
func (b *builder) pass(in *input, where string) *pass {
	for _, p := range b.passes {
		if p.of == in && p.where == where {
			return p
		}
	}
	p := b.newPass()
	p.of, p.where, p.reads = in, where, []*input{in}
	return p
}

func (b *builder) newPass() *pass {
	p := &pass{name: fmt.Sprintf("p%d", len(b.passes))}
	b.passes = append(b.passes, p)
	return p
}

// query is the pass's statement; the inputs' rows and the passes before it are in place.
func (p *pass) query() string {
	if p.build != nil {
		return p.build()
	}
	return p.grouped(p.of.rows + " AS r" + whereClause(p.where))
}

func (p *pass) grouped(from string) string {
	return fmt.Sprintf("SELECT %s, %s\nFROM %s\nGROUP BY %[1]s", owner, strings.Join(p.columns, ", "), from)
}

// add gives the name of a new column with an aggregate.
func (p *pass) add(aggregate string) string {
	name := fmt.Sprintf("c%d", len(p.columns))
	p.columns = append(p.columns, aggregate+" AS "+name)
	return name
}

// runPasses makes the tables of all passes. An input that several passes read is joined with its profiles once.
func (b *builder) runPasses(ctx context.Context) error {
	readers := map[*input]int{}
	for _, p := range b.passes {
		for _, in := range p.reads {
			readers[in]++
		}
	}
	for _, in := range b.shared {
		readers[in]++
	}
	for _, in := range b.inputs {
		if readers[in] < 2 {
			continue
		}
		rows, err := b.table(ctx, fmt.Sprintf("rows%d", in.index+1), "SELECT * FROM "+in.rows+" AS r")
		if err != nil {
			return err
		}
		in.rows = rows
	}
	for _, p := range b.passes {
		var err error
		if p.table, err = b.table(ctx, p.name, p.query()); err != nil {
			return err
		}
	}
	return nil
}

// blame finds the trait whose SQL the engine refuses, so that the error names its place.
func (b *builder) blame(ctx context.Context, traits []*trait, err error) error {
	var refused *warehouse.QueryError
	if !errors.As(err, &refused) || ctx.Err() != nil {
		return err
	}
	var problems diag.List
	for _, t := range traits {
		if t.probe == "" {
			continue
		}
		if _, perr := b.w.Columns(ctx, t.probe); perr != nil {
			if errors.As(perr, &refused) {
				refused.Line = 0 // of a statement that the user has not written
			}
			problems.Add(&diag.Error{Pos: t.Pos, Code: "trait.sql", Msg: "trait " + strings.Join(namesOf(t.Trait), ", "), Err: perr})
		}
	}
	if len(problems) == 0 {
		problems.Add(b.blameDerived(ctx, traits))
	}
	if len(problems) == 0 { // what compiles fails on a value
		for _, t := range traits {
			if t.run != nil {
				problems.Add(b.fails(ctx, t, "value", t.run()))
			}
		}
	}
	if len(problems) > 0 {
		return problems.Err()
	}
	return err
}

// fails runs a query in which a trait is computed; nil where the engine runs it.
func (b *builder) fails(ctx context.Context, t *trait, key, query string) error {
	_, err := b.ints(ctx, query)
	var refused *warehouse.QueryError
	if !errors.As(err, &refused) {
		return nil
	}
	refused.Line = 0
	e := &diag.Error{Pos: t.Node.At(key), Code: "trait.sql", Msg: "trait " + t.Name, Err: refused}
	return e.WithHint("where it divides: a / nullif(b, 0) is NULL for what cannot be divided")
}

// blameDerived finds the traits over other traits whose SQL the engine refuses, or cannot compute: each is tried with those of the
// layers before it, once the passes' tables are in place.
func (b *builder) blameDerived(ctx context.Context, traits []*trait) error {
	var before []*trait
	for _, t := range traits {
		if !t.derived() {
			before = append(before, t)
		}
	}
	if len(b.passes) > 0 && b.passes[len(b.passes)-1].table == "" {
		return nil
	}
	for _, layer := range layers(traits) {
		var problems diag.List
		for _, t := range layer {
			query, key := b.recordQuery(append(slices.Clone(before), t)), "sql"
			if t.Quintile != "" {
				key = "quintile"
			}
			_, err := b.w.Columns(ctx, query)
			var refused *warehouse.QueryError
			if errors.As(err, &refused) {
				refused.Line = 0
				problems.Add(&diag.Error{Pos: t.Node.At(key), Code: "trait.sql", Msg: "trait " + t.Name, Err: refused})
				continue
			}
			problems.Add(b.fails(ctx, t, key, fmt.Sprintf("SELECT count(%s) FROM (%s) AS q", b.d.Quote(t.Name), query)))
		}
		if len(problems) > 0 { // what needs these would fail with them
			return problems.Err()
		}
		before = append(before, layer...)
	}
	return nil
}

func (b *builder) render(sql string, pos diag.Pos) (string, error) {
	sql = strings.TrimRight(strings.TrimSpace(sql), ";")
	if strings.Contains(sql, "--") {
		sql += "\n" // ends a comment at its end
	}
	if b.spec.Render == nil {
		return sql, nil
	}
	return b.spec.Render(sql, pos)
}

// withDefault replaces NULL by the trait's default, if it has one.
func (b *builder) withDefault(expr string, value any) string {
	if value == nil {
		return expr
	}
	return "coalesce(" + expr + ", " + b.literal(value) + ")"
}

func (b *builder) literal(value any) string {
	if t, ok := value.(time.Time); ok {
		return b.d.Time(t)
	}
	return b.d.Value(value)
}
