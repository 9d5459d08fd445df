package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Decisions are pairs of values that a person has decided. Two that are always one stand together in a row of the most trusted level
// of all, so that what contracts values contracts them too, and no limit refuses them; two that are never one are held apart where
// values are decided (limits.go). A pair of which one value is in no input does nothing.

// sides are the decisions of one verdict as rows (pair, side), two a pair; each side is identifier:value as it was written.
func (b *builder) sides(verdict string) string {
	return fmt.Sprintf("(SELECT a || ' = ' || b AS pair, a AS side FROM (%[1]s) AS d UNION ALL SELECT a || ' = ' || b, b FROM (%[1]s) AS d)", b.decided(verdict))
}

// decided is a query of the pairs of one verdict: (a, b).
func (b *builder) decided(verdict string) string {
	d := b.spec.Entity.Decisions
	pairs := map[string][][]string{"always": d.Always, "never": d.Never}[verdict]
	parts := make([]string, 0, len(pairs)+1)
	for _, p := range pairs {
		parts = append(parts, fmt.Sprintf("SELECT %s AS a, %s AS b", b.d.Text(p[0]), b.d.Text(p[1])))
	}
	if b.spec.Decisions != "" {
		text := func(column string) string { return b.d.Cast("x."+b.d.Quote(column), warehouse.Text) }
		parts = append(parts, fmt.Sprintf("SELECT %s AS a, %s AS b FROM %s AS x WHERE lower(%s) = %s", text("a"), text("b"), b.spec.Decisions,
			text("verdict"), b.d.Text(verdict)))
	}
	if len(parts) == 0 {
		nothing := b.d.Cast("NULL", warehouse.Text)
		parts = append(parts, fmt.Sprintf("SELECT %s AS a, %[1]s AS b LIMIT 0", nothing))
	}
	return strings.Join(parts, " UNION ALL ")
}

// side is the value of a level in the text identifier:value; NULL if it is another identifier's.
func (b *builder) side(l Level, side string) string {
	prefix := l.Name + ":"
	return fmt.Sprintf("CASE WHEN substr(%s, 1, %d) = %s THEN %s END", side, len([]rune(prefix)), b.d.Text(prefix),
		Normalize(b.d, l.Identifier, fmt.Sprintf("substr(%s, %d)", side, len([]rune(prefix))+1)))
}

// decides tells whether there can be decisions of a verdict.
func (b *builder) decides(verdict string) bool {
	d := b.spec.Entity.Decisions
	return d != nil && (b.spec.Decisions != "" || verdict == "always" && len(d.Always) > 0 || verdict == "never" && len(d.Never) > 0)
}

// Always are the pairs identifier:value, normalised, by which decisions have made a profile one. from is the FROM item of decisions.from,
// or ""; table is the built identity table.
func Always(ctx context.Context, w warehouse.Warehouse, e *config.Entity, from string, table warehouse.Table, profile string) ([][2]string, error) {
	b := newBuilder(w, Spec{Entity: e, Decisions: from})
	if !b.decides("always") {
		return nil, nil
	}
	normal := func(side string) string {
		var out []string
		for _, l := range b.levels {
			if l.Identifier != nil {
				out = append(out, b.d.Text(l.Name+":")+" || "+b.side(l, side))
			}
		}
		return coalesce(out)
	}
	mine := fmt.Sprintf("(SELECT identifier || ':' || value FROM %s WHERE profile_id = %s)", b.d.Table(table), b.d.Text(profile))
	var out [][2]string
	err := b.each(ctx, fmt.Sprintf("SELECT DISTINCT x, y FROM (SELECT %s AS x, %s AS y FROM (%s) AS d) AS n WHERE x IN %s AND y IN %[4]s ORDER BY x, y",
		normal("a"), normal("b"), b.decided("always"), mine), func(row []any) {
		x, _ := row[0].(string)
		y, _ := row[1].(string)
		out = append(out, [2]string{x, y})
	})
	return out, err
}

// checkDecisions holds that the relation with decisions has their columns.
func (b *builder) checkDecisions(ctx context.Context) error {
	if b.spec.Decisions == "" {
		return nil
	}
	pos := b.spec.Entity.Decisions.At("from")
	columns, err := b.w.Columns(ctx, "SELECT * FROM "+b.spec.Decisions+" AS x")
	if err != nil {
		return &diag.Error{Kind: kindOf(err), Pos: pos, Code: "entity.decisions", Msg: "reading the decisions", Err: err}
	}
	r := Relation{Columns: columns}
	for _, name := range []string{"verdict", "a", "b"} {
		if _, ok := r.Column(name); !ok {
			return diag.At(pos, "entity.decisions", "the relation of decisions has no column %q", name).
				WithHint("it needs verdict (always or never), and a and b, two values as identifier:value; it has %s", strings.Join(columnNames(columns), ", "))
		}
	}
	return nil
}

// stageDecisions stages the pairs that are always one, of values that some input has, beside the inputs.
func (b *builder) stageDecisions(ctx context.Context) error {
	if err := b.checkDecisions(ctx); err != nil || !b.decides("always") {
		return err
	}
	s := stage{levels: []int{1}}
	inner, outer := []string{"pair AS v1"}, []string{"v1", b.surrogate("v1", 1) + " AS h1", "FALSE AS ignored1"}
	var of, there []string
	for i, l := range b.levels {
		level := i + 1
		if l.Identifier == nil {
			continue
		}
		v, h := fmt.Sprintf("v%d", level), fmt.Sprintf("h%d", level)
		s.levels = append(s.levels, level)
		inner = append(inner, b.side(l, "side")+" AS "+v)
		outer = append(outer, fmt.Sprintf("%s, CASE WHEN %[1]s IS NOT NULL THEN %[2]s END AS %[3]s, FALSE AS ignored%[4]d", v, b.surrogate(v, level), h, level))
		of = append(of, h)
		for _, in := range b.stages {
			if in.has(level) {
				there = append(there, fmt.Sprintf("SELECT %s FROM %s WHERE %[1]s IS NOT NULL", h, in.table))
			}
		}
	}
	if len(there) == 0 {
		return nil
	}
	var err error
	s.table, err = b.create(ctx, "always", fmt.Sprintf(`SELECT s.* FROM (SELECT %s, %s AS seen FROM (SELECT %s FROM %s AS d) AS v) AS s
WHERE %s IN (%s)`, strings.Join(outer, ", "), b.d.Cast("NULL", warehouse.Timestamp), strings.Join(inner, ", "), b.sides("always"),
		coalesce(of), strings.Join(there, " UNION ALL ")))
	if err == nil {
		b.stages = append(b.stages, s)
	}
	return err
}

// sidesQuery is the pairs that are always one as surrogates: (pair, h), two a pair, whether or not an input has the values.
func (b *builder) sidesQuery() string {
	var of []string
	for i, l := range b.levels {
		if l.Identifier != nil {
			v := b.side(l, "side")
			of = append(of, fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN %s END", v, b.surrogate(v, i+1)))
		}
	}
	return fmt.Sprintf("SELECT %s AS pair, %s AS h FROM %s AS d", b.surrogate("pair", 1), coalesce(of), b.sides("always"))
}

func coalesce(exprs []string) string {
	if len(exprs) == 1 {
		return exprs[0]
	}
	return "coalesce(" + strings.Join(exprs, ", ") + ")"
}

// stageNever makes the table of pairs that are never one: (x, y), surrogates.
func (b *builder) stageNever(ctx context.Context) (string, error) {
	of := func(side string) string {
		var out []string
		for i, l := range b.levels {
			if l.Identifier != nil {
				v := b.side(l, side)
				out = append(out, fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN %s END", v, b.surrogate(v, i+1)))
			}
		}
		return coalesce(out)
	}
	return b.create(ctx, "never", fmt.Sprintf("SELECT DISTINCT x, y FROM (SELECT %s AS x, %s AS y FROM (%s) AS d) AS n WHERE x IS NOT NULL AND y IS NOT NULL",
		of("a"), of("b"), b.decided("never")))
}
