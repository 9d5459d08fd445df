package identity

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// The model of a rule with probability is Fellegi and Sunter's: each comparison has levels of agreement, each level a probability among
// pairs that are one (m) and among others (u), and what they make together, with the probability that two records at random are
// one, is a pair's. Pairs are compared in the warehouse; how many pairs have which pattern of agreement comes out, some thousands of
// numbers, and is all that the model is fitted to (model.go).
//
// The defaults are Splink's where it has some (github.com/moj-analytical-services/splink, 4.0): u from a million random pairs and
// held while m is estimated by expectation–maximisation, in each block by the columns that do not make its key; levels equal, one and
// two letters apart; pairs joined from 0.95 on, as its guides do. Sampling is by hashes of records, so that the same rows give the same model.

// samplePairs is about how many random pairs u is estimated from.
const samplePairs = 1_000_000

// maxPatterns bounds how many patterns are read; of more, those that most pairs have.
const maxPatterns = 100_000

// gammas are a pair's levels of agreement, as columns g0 …: -1 where one of the two has nothing, 0 for none, and up to equality.
func (b *builder) gammas(p *pairing) []string {
	out := make([]string, len(p.record.compared))
	for i, n := range p.record.compared {
		ways := b.agreements(p, i)
		c := partColumn(p.level, n)
		s := fmt.Sprintf("CASE WHEN a.%[1]s IS NULL OR b.%[1]s IS NULL THEN -1", c)
		for k, way := range ways {
			s += fmt.Sprintf(" WHEN %s THEN %d", way.sql, len(ways)-k)
		}
		out[i] = fmt.Sprintf("%s ELSE 0 END AS g%d", s, i)
	}
	return out
}

// likely finds the pairs that are one with enough probability.
func (b *builder) likely(ctx context.Context, p *pairing) error {
	candidates, err := b.compareAll(ctx, p)
	if err != nil {
		return err
	}
	if p.model, err = b.fit(ctx, p, candidates); err != nil {
		return err
	}
	rule := p.match.Probability
	join, look := logit(float64(rule.Threshold)), logit(float64(rule.ReviewFrom()))
	scored := fmt.Sprintf("SELECT a.h AS a, b.h AS b, a.v AS va, b.v AS vb, %s AS seen, 1 / (1 + exp(-c.weight)) AS score, %s AS pattern, c.weight\nFROM %s AS c JOIN %s AS a ON a.h = c.a JOIN %[4]s AS b ON b.h = c.b",
		laterSeen, b.patternText(p), b.weighed(p, candidates, look), p.records)
	all, err := b.create(ctx, fmt.Sprintf("scored%d", p.level), scored)
	if err != nil {
		return err
	}
	const columns = "SELECT a, b, va, vb, seen, score, pattern FROM "
	if p.found, err = b.create(ctx, fmt.Sprintf("found%d", p.level), fmt.Sprintf("%s%s AS s WHERE weight >= %s", columns, all, b.d.Value(join))); err != nil {
		return err
	}
	if p.review, err = b.create(ctx, fmt.Sprintf("review%d", p.level), fmt.Sprintf("%s%s AS s WHERE weight < %s", columns, all, b.d.Value(join))); err != nil {
		return err
	}
	return b.forgetPoor(ctx, p, join)
}

// compareAll makes the table of all pairs that share a key: (a, b, blocks, g0 …, f0 …). blocks has a bit for each block whose key they
// share; f is how many records have the value that both have.
func (b *builder) compareAll(ctx context.Context, p *pairing) (string, error) {
	parts := make([]string, len(p.record.blocks))
	for j := range parts {
		bits := make([]string, 0, len(parts))
		for k := j; k < len(parts); k++ {
			bits = append(bits, fmt.Sprintf("CASE WHEN a.key%[1]d = b.key%[1]d THEN %[2]d ELSE 0 END", k, int64(1)<<k))
		}
		columns := append([]string{"a.h AS a", "b.h AS b", strings.Join(bits, " + ") + " AS blocks"}, b.gammas(p)...)
		if p.match.Probability.Terms() {
			for i, n := range p.record.compared {
				columns = append(columns, fmt.Sprintf("CASE WHEN a.%[1]s = b.%[1]s THEN a.%[2]s END AS f%[3]d", partColumn(p.level, n), countColumn(p.level, n), i))
			}
		}
		parts[j] = "SELECT " + strings.Join(columns, ", ") + " FROM " + p.candidates(j)
		if before := p.notBefore(j); len(before) > 0 {
			parts[j] += " WHERE " + strings.Join(before, " AND ")
		}
	}
	return b.create(ctx, fmt.Sprintf("candidates%d", p.level), strings.Join(parts, "\nUNION ALL "))
}

// countColumn is how many records have the same part.
func countColumn(level, i int) string { return fmt.Sprintf("f%d_%d", level, i) }

// fit reads how many pairs have which pattern, among pairs at random and among those of blocks, and fits the model to it.
func (b *builder) fit(ctx context.Context, p *pairing, candidates string) (*model, error) {
	n, err := b.ints(ctx, "SELECT count(*) FROM "+p.records)
	if err != nil {
		return nil, err
	}
	m := newModel(n[0])
	for i, c := range p.match.Comparisons() {
		names := []string{"none"}
		ways := b.agreements(p, i)
		for k := range ways {
			names = append(names, ways[len(ways)-1-k].name)
		}
		m.compare(c.Column, names)
	}
	for j, block := range p.record.blocks {
		var free []int // the comparisons whose columns make no part of the key
		for i, at := range p.record.compared {
			used := false
			for _, k := range block {
				used = used || strings.EqualFold(p.record.parts[k.part].column, p.record.parts[at].column)
			}
			if !used {
				free = append(free, i)
			}
		}
		m.session(int64(1)<<j, free)
	}
	groups := max(1, int64(math.Round(float64(n[0])*float64(n[0])/(2*samplePairs))))
	group := func(alias string) string {
		return b.d.Bucket(b.d.IntDiv(alias+".h", int64(len(b.levels))), groups) // the last digit in base of the levels is the level
	}
	sample := fmt.Sprintf("SELECT 0 AS blocks, %s FROM %s AS a JOIN %[2]s AS b ON %s = %s AND a.h < b.h", strings.Join(b.gammas(p), ", "), p.records, group("a"), group("b"))
	for _, read := range []struct {
		from string
		into *[]pattern
	}{{"(" + sample + ")", &m.random}, {candidates, &m.blocked}} {
		if *read.into, err = b.patterns(ctx, p, read.from); err != nil {
			return nil, err
		}
	}
	m.fit()
	return m, nil
}

// patterns counts the pairs of each pattern, in an order that is always the same.
func (b *builder) patterns(ctx context.Context, p *pairing, from string) ([]pattern, error) {
	columns := "blocks"
	for i := range p.record.compared {
		columns += fmt.Sprintf(", g%d", i)
	}
	var out []pattern
	err := b.each(ctx, fmt.Sprintf("SELECT count(*) AS n, %s FROM %s AS p GROUP BY %[1]s ORDER BY n DESC, %[1]s LIMIT %[3]d", columns, from, maxPatterns), func(row []any) {
		x := pattern{pairs: float64(whole(row[0])), blocks: whole(row[1])}
		for _, g := range row[2:] {
			x.levels = append(x.levels, int(whole(g)))
		}
		out = append(out, x)
	})
	return out, err
}

// weighed is the candidates whose weight, the natural logarithm of the odds that the two are one, reaches a bound.
func (b *builder) weighed(p *pairing, candidates string, least float64) string {
	weight := b.d.Value(logit(p.model.prior))
	for i := range p.record.compared {
		c := p.model.comparisons[i]
		s := fmt.Sprintf("CASE g%d", i)
		for level := range c.names {
			w := b.d.Value(c.weight(level))
			if level == len(c.names)-1 && p.match.Probability.Terms() {
				w = b.termWeight(p, c, fmt.Sprintf("f%d", i))
			}
			s += fmt.Sprintf(" WHEN %d THEN %s", level, w)
		}
		weight += " + " + s + " ELSE " + b.d.Value(0.0) + " END"
	}
	return fmt.Sprintf("(SELECT * FROM (SELECT x.*, %s AS weight FROM %s AS x) AS w WHERE weight >= %s)", weight, candidates, b.d.Value(least))
}

// termWeight is the weight of equality in a value that a number of records have: less than the average where it is frequent.
func (b *builder) termWeight(p *pairing, c *comparison, count string) string {
	top := len(c.names) - 1
	return fmt.Sprintf("%s - ln(%s)", b.d.Value(c.weight(top)+math.Log(c.random[top]*float64(p.model.records))), b.d.Cast(count, warehouse.Float))
}

// patternText says in words how a pair agrees: "last_name: equal, birth_date: none". It has no values.
func (b *builder) patternText(p *pairing) string {
	parts := make([]string, len(p.model.comparisons))
	for i, c := range p.model.comparisons {
		s := fmt.Sprintf("CASE c.g%d", i)
		for level, name := range c.names {
			s += fmt.Sprintf(" WHEN %d THEN %s", level, b.d.Text(c.column+": "+name))
		}
		parts[i] = s + " ELSE " + b.d.Text(c.column+": empty") + " END"
	}
	return strings.Join(parts, " || ', ' || ")
}

// forgetPoor takes the value of the rule from rows whose record says so little that even one just like it would be somebody else
// with too much probability, and which matched no other either: two such rows are not one.
func (b *builder) forgetPoor(ctx context.Context, p *pairing, join float64) error {
	weight := b.d.Value(logit(p.model.prior))
	for i, n := range p.record.compared {
		c := p.model.comparisons[i]
		w := b.d.Value(c.weight(len(c.names) - 1))
		if p.match.Probability.Terms() {
			w = b.termWeight(p, c, countColumn(p.level, n))
		}
		weight += fmt.Sprintf(" + CASE WHEN %s IS NULL THEN %s ELSE %s END", partColumn(p.level, n), b.d.Value(0.0), w)
	}
	poor, err := b.create(ctx, fmt.Sprintf("poor%d", p.level), fmt.Sprintf("SELECT h FROM %s AS r WHERE %s < %s AND NOT EXISTS (SELECT 1 FROM %s AS f WHERE f.a = r.h) AND NOT EXISTS (SELECT 1 FROM %[4]s AS f WHERE f.b = r.h)",
		p.records, weight, b.d.Value(join), p.found))
	if err != nil {
		return err
	}
	for _, s := range b.stages {
		for _, level := range s.records {
			if level != p.level {
				continue
			}
			if _, err := b.w.Exec(ctx, fmt.Sprintf("UPDATE %[1]s SET v%[2]d = NULL, h%[2]d = NULL, ignored%[2]d = TRUE WHERE h%[2]d IN (SELECT h FROM %[3]s AS p)", s.table, level, poor)); err != nil {
				return err
			}
		}
	}
	return nil
}
