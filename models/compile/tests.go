package compile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/jinja"
)

// Test is one check of a model: Query gives one number, the count of failing rows.
type Test struct {
	Name  string // unique(order_id)
	Pos   diag.Pos
	Query string
	Reads []graph.ID // what it reads besides the model, which must be built first
}

// tests compiles a model's tests.
func (p *Program) tests(n *Node) error {
	t := n.Model.Tests
	if t == nil {
		return nil
	}
	var problems diag.List
	add := func(pos diag.Pos, query string, reads []graph.ID, name string, args ...any) {
		n.Tests = append(n.Tests, Test{Name: fmt.Sprintf(name, args...), Pos: pos, Query: query, Reads: reads})
	}
	d := p.Dialect
	for _, columns := range t.Unique {
		add(t.At("unique"), p.uniqueTest(n.from, columns), nil, "unique(%s)", strings.Join(columns, ", "))
	}
	for _, column := range t.NotNull {
		add(t.At("not_null"), fmt.Sprintf("SELECT count(*) FROM %s m WHERE m.%s IS NULL", n.from, d.Quote(column)), nil, "not_null(%s)", column)
	}
	for _, column := range slices.Sorted(maps.Keys(t.AcceptedValues)) {
		query := fmt.Sprintf("SELECT count(*) FROM %s m WHERE m.%s IS NOT NULL AND NOT %s", n.from, d.Quote(column),
			p.accepted("m."+d.Quote(column), t.AcceptedValues[column]))
		add(place(t.Node, "accepted_values", column), query, nil, "accepted_values(%s)", column)
	}
	for _, column := range slices.Sorted(maps.Keys(t.Relationships)) {
		model, key, _ := strings.Cut(t.Relationships[column], ".")
		id := graph.MakeID(graph.Model, model)
		query := fmt.Sprintf("SELECT count(*) FROM %s m WHERE m.%s IS NOT NULL AND NOT EXISTS (SELECT 1 FROM %s o WHERE o.%s = m.%[2]s)",
			n.from, d.Quote(column), p.From(id), d.Quote(key))
		add(place(t.Node, "relationships", column), query, others(n.ID, id), "relationships(%s, %s)", column, t.Relationships[column])
	}
	for i, sql := range t.SQL {
		test, err := p.sqlTest(n, i, sql)
		problems.Add(err)
		n.Tests = append(n.Tests, test)
	}
	return problems.Err()
}

// accepted tells whether a value that is not NULL is among those written in YAML. Broken numbers are compared as numbers: the engine
// may write 1 as 1.0 or 1.00.
func (p *Program) accepted(expr string, written []string) string {
	d := p.Dialect
	text := d.Cast(expr, warehouse.Text)
	var values, numbers []string
	for _, v := range written {
		values = append(values, d.Text(v))
		if f, err := strconv.ParseFloat(v, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			numbers = append(numbers, d.Value(f))
		}
	}
	if len(numbers) == 0 {
		return text + " IN (" + strings.Join(values, ", ") + ")"
	}
	number := fmt.Sprintf("CASE WHEN %s LIKE '%%.%%' THEN %s END", text, d.TryCast(text, d.Type(warehouse.Float)))
	return fmt.Sprintf("(%s IN (%s) OR coalesce(%s IN (%s), FALSE))", text, strings.Join(values, ", "), number, strings.Join(numbers, ", "))
}

// uniqueTest counts the rows that share their values with another; NULL shares with nobody.
func (p *Program) uniqueTest(from string, columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = "m." + p.Dialect.Quote(c)
	}
	return fmt.Sprintf("SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM %s m WHERE %s IS NOT NULL GROUP BY %s HAVING count(*) > 1) d",
		from, strings.Join(quoted, " IS NOT NULL AND "), strings.Join(quoted, ", "))
}

// sqlTest counts the rows of a query.
func (p *Program) sqlTest(n *Node, i int, sql string) (Test, error) {
	t := n.Model.Tests
	pos := t.At("sql")
	if key := fmt.Sprintf("sql.%d", i); t.Has(key) {
		pos = t.At(key)
	}
	env := n.env
	this := p.name(n.Relation) // as it was just built, in a scratch build too; the query of a model sees what was there before
	this.SQL = n.from
	env.This = &this
	var reads []graph.ID
	env.Resolve = func(rel jinja.Relation) (jinja.Name, error) {
		if id, err := p.Graph.Reference(rel.String()); err == nil {
			reads = append(reads, others(n.ID, id)...)
		}
		return p.resolve(rel)
	}
	query, err := p.Graph.Jinja.Render(jinja.Text{SQL: sql, Pos: pos}, env)
	if err != nil {
		return Test{}, err
	}
	query, second := oneQuery(query)
	if second > 0 {
		return Test{}, diag.At(pos, "test.statements", "test sql %d of model %s must be one query", i+1, n.Name)
	}
	slices.Sort(reads)
	return Test{
		Name: fmt.Sprintf("sql %d", i+1), Pos: pos, Reads: slices.Compact(reads),
		Query: "SELECT count(*) FROM (" + query + "\n) d", // the line break ends a last comment
	}, nil
}

func others(self graph.ID, ids ...graph.ID) []graph.ID {
	return slices.DeleteFunc(ids, func(id graph.ID) bool { return id == self })
}

func place(n config.Node, key, column string) diag.Pos {
	if n.Has(key + "." + column) {
		return n.At(key + "." + column)
	}
	return n.At(key)
}
