package profile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// candidate is one entry of a pick's from:, made ready.
type candidate struct {
	in     *input
	values []string // SQL of the picked columns, '' made NULL
	ties   []string // the values as they end an order
	where  string   // the rows that may be picked
	// types are the values', keyTypes those of the order's keys; "" where the dialect need not be told.
	types, keyTypes []string
}

// key is one part of a pick's order.
type key struct {
	expr  string // over an input's rows, and over a pass's columns in the second step
	desc  bool
	nulls nulls
}

// nulls is where NULL goes in an order.
type nulls int

const (
	never nulls = iota // there is none
	last
	first
)

// text is the key in an ORDER BY, with another expression.
func (k key) text(d warehouse.Dialect, expr string) string {
	switch {
	case k.nulls != never:
		return d.Order(expr, k.desc, k.nulls == first)
	case k.desc:
		return expr + " DESC"
	}
	return expr
}

// planPick chooses one row a profile. Each input gives its first row in its own pass; where there are several inputs a second,
// small step chooses among those.
func (b *builder) planPick(ctx context.Context, t *trait) error {
	candidates, err := b.candidates(ctx, t)
	if err != nil {
		return err
	}
	t.probe = b.probePick(t, candidates)
	for i := range candidates {
		b.describe(ctx, t, &candidates[i])
	}
	if t.Pick == "most_frequent" {
		b.planMostFrequent(t, candidates)
		return nil
	}
	if len(candidates) == 1 {
		p, columns, _, err := b.pickFrom(t, candidates[0])
		if err != nil {
			return err
		}
		for i, name := range namesOf(t.Trait) {
			t.columns = append(t.columns, traitColumn{name, b.withDefault(p.name+"."+columns[i], t.Default)})
		}
		return nil
	}
	return b.planAmong(t, candidates)
}

func (b *builder) candidates(ctx context.Context, t *trait) ([]candidate, error) {
	names, pos := namesOf(t.Trait), t.Node.At("from")
	if len(t.Names) > 0 && (t.Pick == "most_frequent" || t.Pick == "longest" || t.Pick == "min" || t.Pick == "max") {
		return nil, diag.At(t.Node.At("pick"), "trait.names", "pick: %s looks at one column, names: has several from one row", t.Pick).
			WithHint("with names: pick can be most_recent, oldest, source_order or first")
	}
	if len(t.From) == 0 {
		return nil, diag.At(t.Pos, "trait.from", "trait %s picks from nothing: from: is missing", strings.Join(names, ", "))
	}
	if t.Pick == "first" && t.OrderBy == "" {
		return nil, diag.At(t.Pos, "trait.order_by", "pick: first needs order_by:")
	}
	var problems diag.List
	var out []candidate
	timed := false
	for _, from := range t.From {
		c, err := b.candidate(ctx, t, from, pos)
		if err != nil {
			problems.Add(err)
			continue
		}
		timed = timed || c.in.seen != ""
		out = append(out, c)
	}
	if len(problems) == 0 && !timed && t.OrderBy == "" && (t.Pick == "most_recent" || t.Pick == "oldest") {
		problems.Add(diag.At(t.Node.At("pick"), "trait.at", "pick: %s needs to know when: no input of %s has at:", t.Pick, strings.Join(names, ", ")).
			WithHint("add at: to the input, or pick: first with order_by:"))
	}
	return out, problems.Err()
}

// candidate reads one entry of from:, `input.column`, or `input` for columns of the trait's own names.
func (b *builder) candidate(ctx context.Context, t *trait, from string, pos diag.Pos) (candidate, error) {
	name, column, dotted := strings.Cut(strings.TrimSpace(from), ".")
	if dotted && len(t.Names) > 0 {
		return candidate{}, diag.At(pos, "trait.names", "with names: from: lists inputs, without columns").WithHint("write %s", name)
	}
	in, err := b.input(ctx, name, pos)
	if err != nil {
		return candidate{}, err
	}
	columns := namesOf(t.Trait)
	if dotted {
		columns = []string{column}
	}
	c := candidate{in: in}
	var present []string
	for _, column := range columns {
		expr, err := in.Expr(column, pos)
		if err != nil {
			return c, err
		}
		if known, ok := in.Column(column); ok && known.Kind != warehouse.Text {
			c.values = append(c.values, expr)
		} else if ok {
			c.values = append(c.values, "nullif("+expr+", '')")
		} else {
			c.values = append(c.values, fmt.Sprintf("CASE WHEN %s <> '' THEN %s END", b.d.Cast(expr, warehouse.Text), expr))
		}
		value := c.values[len(c.values)-1]
		present = append(present, value+" IS NOT NULL")
		if known, ok := in.Column(column); ok && known.Kind == warehouse.JSON {
			value = b.d.Wire(value, known) // its text: BigQuery has no order of documents and lists
		}
		c.ties = append(c.ties, value)
	}
	c.where = "(" + strings.Join(present, " OR ") + ")"
	condition, err := b.condition(t, in)
	if condition != "" {
		c.where += " AND " + condition
	}
	return c, err
}

// describe finds out the types of what is picked, and of what it is ordered by, where the dialect has to be told. What does not
// compile stays without: it fails where it is run, and is blamed there.
func (b *builder) describe(ctx context.Context, t *trait, c *candidate) {
	var keys []key
	var err error
	if t.Pick != "most_frequent" { // which counts
		keys, err = b.keys(t, *c)
	}
	c.types, c.keyTypes = make([]string, len(c.values)), make([]string, len(keys))
	if _, needed := b.d.(warehouse.FirstNeedsType); !needed || err != nil {
		return
	}
	exprs := make([]string, 0, len(c.values)+len(keys))
	for i, v := range c.values {
		exprs = append(exprs, fmt.Sprintf("%s AS v%d", v, i))
	}
	for i, k := range keys {
		exprs = append(exprs, fmt.Sprintf("%s AS k%d", k.expr, i))
	}
	columns, err := b.w.Columns(ctx, "SELECT "+strings.Join(exprs, ", ")+" FROM "+c.in.FromItem())
	if err != nil || len(columns) != len(exprs) {
		return
	}
	for i, column := range columns {
		if i < len(c.types) {
			c.types[i] = column.Type
		} else {
			c.keyTypes[i-len(c.types)] = column.Type
		}
	}
}

// common is the type of a value that comes from one of several inputs: that of all, or else the kind's.
func (b *builder) common(candidates []candidate, value int) string {
	typ := candidates[0].types[value]
	for _, c := range candidates[1:] {
		if other := c.types[value]; other != typ {
			if typ == "" || other == "" {
				return ""
			}
			kind, k := b.d.KindOf(typ), b.d.KindOf(other)
			switch {
			case k == kind:
			case k == warehouse.Float || kind == warehouse.Float:
				kind = warehouse.Float
			default:
				kind = max(kind, k) // whole numbers with decimals, days with instants
			}
			typ = b.d.Type(kind)
		}
	}
	return typ
}

// keys is the order of a pick among the rows of one input, without the last ties: the pick's own, then what order_by says.
func (b *builder) keys(t *trait, c candidate) ([]key, error) {
	keys, err := b.own(t, c)
	if err != nil || t.OrderBy == "" {
		return keys, err
	}
	then, err := b.orderBy(t)
	return append(keys, then...), err
}

// own is the order of a pick without order_by.
func (b *builder) own(t *trait, c candidate) ([]key, error) {
	when := key{b.d.Cast("NULL", warehouse.Timestamp), true, last}
	if c.in.seen != "" {
		when.expr = c.in.seen
	}
	switch t.Pick {
	case "most_recent", "source_order":
		return []key{when}, nil
	case "oldest":
		when.desc = false
		return []key{when}, nil
	case "longest":
		return []key{{"length(" + b.d.Cast(c.values[0], warehouse.Text) + ")", true, never}, when}, nil
	case "min":
		return []key{{c.values[0], false, never}}, nil
	case "max":
		return []key{{c.values[0], true, never}}, nil
	case "first":
		return nil, nil
	default:
		return nil, diag.At(t.Node.At("pick"), "trait.pick", "there is no pick %q", t.Pick)
	}
}

// orderBy splits `status = 'active' desc, updated_at desc` into its keys.
func (b *builder) orderBy(t *trait) ([]key, error) {
	text, err := b.render(t.OrderBy, t.Node.At("order_by"))
	if err != nil {
		return nil, err
	}
	var out []key
	for _, part := range splitTop(text) {
		out = append(out, direction(part))
	}
	return out, nil
}

// ties ends every order: the primary key, then the picked values, after which rows do not differ in what is picked.
func (b *builder) ties(c candidate) []key {
	var out []key
	for _, column := range c.in.PrimaryKey {
		if _, ok := c.in.Column(column); ok {
			out = append(out, key{b.d.Quote(column), false, never})
		}
	}
	for _, v := range c.ties {
		out = append(out, key{v, false, last})
	}
	return out
}

func (b *builder) orderText(keys []key) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k.text(b.d, k.expr)
	}
	return strings.Join(parts, ", ")
}

// pickFrom adds the first row of one input to the pass over its rows.
func (b *builder) pickFrom(t *trait, c candidate) (p *pass, columns []string, keys []key, err error) {
	keys, err = b.keys(t, c)
	if err != nil {
		return nil, nil, nil, err
	}
	p = b.pass(c.in, "")
	order := b.orderText(append(keys[:len(keys):len(keys)], b.ties(c)...))
	for i, v := range c.values {
		columns = append(columns, p.add(b.d.First(v, c.types[i], order, c.where)))
	}
	if len(t.From) == 1 {
		return p, columns, keys, nil
	}
	for i, k := range keys {
		keys[i].expr = p.add(b.d.First(k.expr, c.keyTypes[i], order, c.where))
	}
	return p, columns, keys, nil
}

// planAmong chooses among the rows that several inputs put forward; equal ones in the order of from:.
func (b *builder) planAmong(t *trait, candidates []candidate) error {
	var order []string
	type part struct {
		pass          *pass
		columns, keys []string
	}
	var parts []part
	for i, c := range candidates {
		p, columns, keys, err := b.pickFrom(t, c)
		if err != nil {
			return err
		}
		one := part{pass: p, columns: columns}
		for n, k := range keys {
			one.keys = append(one.keys, k.expr)
			if i == 0 {
				order = append(order, k.text(b.d, fmt.Sprintf("k%d", n)))
			}
		}
		parts = append(parts, one)
	}
	if t.Pick == "source_order" {
		order = append([]string{"source"}, order...)
	} else {
		order = append(order, "source")
	}
	among := b.newPass()
	for i, name := range namesOf(t.Trait) {
		column := among.add(b.d.First(fmt.Sprintf("v%d", i), b.common(candidates, i), strings.Join(order, ", "), ""))
		t.columns = append(t.columns, traitColumn{name, b.withDefault(among.name+"."+column, t.Default)})
	}
	among.build = func() string {
		var union []string
		for i, one := range parts {
			columns := []string{owner, fmt.Sprintf("%d AS source", i)}
			var present []string
			for n, c := range one.columns {
				columns = append(columns, fmt.Sprintf("%s AS v%d", c, n))
				present = append(present, c+" IS NOT NULL")
			}
			for n, k := range one.keys {
				columns = append(columns, fmt.Sprintf("%s AS k%d", k, n))
			}
			union = append(union, fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(columns, ", "), one.pass.table, strings.Join(present, " OR ")))
		}
		return among.grouped("(" + strings.Join(union, "\n\tUNION ALL ") + ") AS u")
	}
	return nil
}

// planMostFrequent counts the rows of each value; of equally frequent ones the most recent, then the least.
func (b *builder) planMostFrequent(t *trait, candidates []candidate) {
	p := b.newPass()
	documents := slices.ContainsFunc(candidates, func(c candidate) bool { return c.ties[0] != c.values[0] })
	last := "v"
	if documents {
		last = "t"
	}
	column := p.add(b.d.First("v", b.common(candidates, 0), "n DESC, "+b.d.Order("seen", true, false)+", "+last, ""))
	t.columns = []traitColumn{{t.Name, b.withDefault(p.name+"."+column, t.Default)}}
	for _, c := range candidates {
		p.reads = append(p.reads, c.in)
	}
	p.build = func() string {
		var union []string
		for _, c := range candidates {
			seen := c.in.seen
			if seen == "" {
				seen = b.d.Cast("NULL", warehouse.Timestamp)
			}
			values := c.values[0] + " AS v"
			if documents {
				values += ", " + c.ties[0] + " AS t"
			}
			union = append(union, fmt.Sprintf("SELECT %s, %s, %s AS seen FROM %s AS r WHERE %s", owner, values, seen, c.in.rows, c.where))
		}
		if documents { // BigQuery groups and orders no documents and lists: their texts stand for them
			return p.grouped(fmt.Sprintf("(SELECT %s, %s AS v, t, count(*) AS n, max(seen) AS seen FROM (%s) AS u GROUP BY %[1]s, t) AS f",
				owner, b.d.First("v", b.common(candidates, 0), b.d.Order("seen", true, false), ""), strings.Join(union, "\n\tUNION ALL ")))
		}
		return p.grouped(fmt.Sprintf("(SELECT %s, v, count(*) AS n, max(seen) AS seen FROM (%s) AS u GROUP BY %[1]s, v) AS f",
			owner, strings.Join(union, "\n\tUNION ALL ")))
	}
}

// probePick is a query that fails when the trait's SQL does.
func (b *builder) probePick(t *trait, candidates []candidate) string {
	var union []string
	for _, c := range candidates {
		q := fmt.Sprintf("(SELECT %s FROM %s WHERE %s", strings.Join(c.values, ", "), c.in.FromItem(), c.where)
		if t.OrderBy != "" {
			if keys, err := b.orderBy(t); err == nil {
				q += " ORDER BY " + b.orderText(keys)
			}
		}
		union = append(union, q+")")
	}
	return "SELECT * FROM (" + strings.Join(union, " UNION ALL ") + ") AS u"
}
