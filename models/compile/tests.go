package compile

import (
	"fmt"
	"maps"
	"slices"
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
		var values []string
		for _, v := range t.AcceptedValues[column] {
			values = append(values, d.Text(v))
		}
		query := fmt.Sprintf("SELECT count(*) FROM %s m WHERE m.%s IS NOT NULL AND %s NOT IN (%s)", n.from, d.Quote(column),
			d.Cast("m."+d.Quote(column), warehouse.Text), strings.Join(values, ", "))
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
