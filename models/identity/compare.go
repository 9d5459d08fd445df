package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// agreement is one way in which a column of two records is alike: its name, and the condition on the records a and b.
type agreement struct{ name, sql string }

// agreements are the ways of a comparison, the strictest first. In a model the first of them is equality.
func (b *builder) agreements(p *pairing, i int) []agreement {
	c, n := p.match.Comparisons()[i], p.record.compared[i]
	side := func(alias, column string) string { return alias + "." + column }
	text := partColumn(p.level, n)
	var out []agreement
	if c.Equal || p.match.Probability != nil {
		out = append(out, agreement{"equal", side("a", text) + " = " + side("b", text)})
	}
	for _, most := range distances(c, p.match.Probability != nil) {
		expr, _ := b.d.EditDistance(side("a", text), side("b", text))
		out = append(out, agreement{fmt.Sprintf("edit_distance %d", most), fmt.Sprintf("%s <= %d", expr, most)})
	}
	for _, least := range descending(c.JaroWinkler) {
		expr, _ := b.d.JaroWinkler(side("a", text), side("b", text))
		out = append(out, agreement{fmt.Sprintf("jaro_winkler %g", least), fmt.Sprintf("%s >= %s", expr, b.d.Value(least))})
	}
	if c.Soundex {
		out = append(out, agreement{"soundex", side("a", soundColumn(p.level, n)) + " = " + side("b", soundColumn(p.level, n))})
	}
	for _, w := range nearest(c.Within) {
		from, to := side("a", typedColumn(p.level, n)), side("b", typedColumn(p.level, n))
		if w.Days > 0 {
			out = append(out, agreement{fmt.Sprintf("within %d days", w.Days), fmt.Sprintf("abs(%s) <= %d", b.d.Days(from, to), w.Days)})
		} else {
			out = append(out, agreement{fmt.Sprintf("within %g", w.Number), fmt.Sprintf("abs(%s - %s) <= %s", from, to, b.d.Value(w.Number))})
		}
	}
	return out
}

func soundColumn(level, i int) string { return fmt.Sprintf("s%d_%d", level, i) }
func typedColumn(level, i int) string { return fmt.Sprintf("t%d_%d", level, i) }

// checkFunctions holds, before anything is read, that the engine has what the rules compare with.
func (b *builder) checkFunctions(ctx context.Context) error {
	var problems diag.List
	refused := map[string]error{}
	for _, m := range b.spec.Entity.Match {
		for _, c := range m.Comparisons() {
			if len(distances(c, m.Probability != nil)) > 0 {
				key := "edit_distance"
				if !c.Has(key) {
					key = "column"
				}
				problems.Add(b.checkFunction(ctx, c, key, "edit_distance", b.d.EditDistance, refused))
			}
			if len(c.JaroWinkler) > 0 {
				problems.Add(b.checkFunction(ctx, c, "jaro_winkler", "jaro_winkler", b.d.JaroWinkler, refused))
			}
		}
	}
	return problems.Err()
}

func (b *builder) checkFunction(ctx context.Context, c *config.Comparison, key, name string, function func(a, b string) (expr, wayOut string), refused map[string]error) error {
	expr, wayOut := function(b.d.Text("a"), b.d.Text("b"))
	err, asked := refused[name]
	if !asked && expr != "" {
		_, err = b.w.Columns(ctx, "SELECT "+expr+" AS x")
		refused[name] = err
	}
	switch {
	case expr == "":
		return diag.At(c.At(key), "entity.match", "%s has no function for %s", b.d.Name(), name).WithHint("%s", wayOut)
	case err == nil:
		return nil
	case kindOf(err) != diag.Invalid:
		return err
	}
	e := &diag.Error{Pos: c.At(key), Code: "entity.match", Msg: b.d.Name() + " does not know the function for " + name, Err: err}
	if wayOut != "" {
		return e.WithHint("%s", wayOut)
	}
	return e
}

// compare finds the pairs of records for which all comparisons of a rule hold: (a, b, va, vb, seen, score, pattern), a and b surrogates.
func (b *builder) compare(ctx context.Context, p *pairing) (err error) {
	var all []string
	for i := range p.match.Compare {
		for _, way := range b.agreements(p, i) {
			all = append(all, way.sql)
		}
	}
	nothing := b.d.Cast("NULL", warehouse.Float) + " AS score, " + b.d.Cast("NULL", warehouse.Text) + " AS pattern"
	parts := make([]string, len(p.record.blocks))
	for j := range parts {
		parts[j] = fmt.Sprintf("SELECT a.h AS a, b.h AS b, a.v AS va, b.v AS vb, %s AS seen, %s FROM %s\nWHERE %s",
			laterSeen, nothing, p.candidates(j), strings.Join(append(p.notBefore(j), all...), " AND "))
	}
	p.found, err = b.create(ctx, fmt.Sprintf("found%d", p.level), strings.Join(parts, "\nUNION ALL "))
	return err
}

// laterSeen is when a pair was first there: when the later of its two was.
const laterSeen = "CASE WHEN a.seen < b.seen THEN b.seen WHEN b.seen <= a.seen THEN a.seen END"
