package identity

import (
	"context"
	"fmt"
	"strings"
)

// pool collects the edges that are left when every value has been contracted into the least more trusted value beside it, level
// by level from the bottom up. In usual data nearly nothing is left: most anonymous ids stand beside one user.
func (b *builder) pool(ctx context.Context) (string, error) {
	edges := ""
	for level := len(b.levels); level >= 2; level-- {
		parts := []string{fmt.Sprintf("SELECT lo AS a, hi AS b FROM %s WHERE lo <> hi", b.values[level])}
		for _, s := range b.stages {
			if up := s.above(level, b.bigint()); s.has(level) && strings.Contains(up, "h") {
				parts = append(parts, fmt.Sprintf(`SELECT m.lo, s.up
	FROM (SELECT h%d AS h, %s AS up FROM %s) AS s JOIN (SELECT h, lo, hi FROM %s WHERE lo <> hi) AS m ON s.h = m.h
	WHERE s.up <> m.lo AND s.up <> m.hi`, level, up, s.table, b.values[level]))
			}
		}
		if edges != "" {
			parts = append(parts, fmt.Sprintf(`SELECT coalesce(x.lo, e.a), coalesce(y.lo, e.b)
	FROM %s AS e LEFT JOIN %[2]s AS x ON x.h = e.a LEFT JOIN %[2]s AS y ON y.h = e.b
	WHERE coalesce(x.lo, e.a) <> coalesce(y.lo, e.b)`, edges, b.values[level]))
		}
		var err error
		edges, err = b.create(ctx, fmt.Sprintf("edges%d", level), `SELECT DISTINCT CASE WHEN a < b THEN a ELSE b END AS a, CASE WHEN a < b THEN b ELSE a END AS b
FROM (`+strings.Join(parts, "\n\tUNION ALL ")+`) AS e`)
		if err != nil {
			return "", err
		}
	}
	return edges, nil
}

// components labels every node of the edges with one node of its component: a table of (v, label). edges "" = there are none.
//
// This is randomised contraction (arXiv 1802.09478): in each round every node is contracted into the least of itself and its
// neighbours, in an order that is new in every round, so that at least a quarter of the nodes is expected to go whatever the
// graph's shape. Surrogates are hashes, hence the orders: rotations of their bits, every other one reversed (see order).
func (b *builder) components(ctx context.Context, edges string) (string, error) {
	if edges == "" {
		return b.create(ctx, "labels", fmt.Sprintf("SELECT CAST(NULL AS %[1]s) AS v, CAST(NULL AS %[1]s) AS label LIMIT 0", b.bigint()))
	}
	var rounds []string
	for {
		n, err := b.ints(ctx, "SELECT count(*) FROM "+edges)
		if err != nil {
			return "", err
		}
		if n[0] <= b.finish {
			break
		}
		round := len(rounds)
		nearest, err := b.create(ctx, fmt.Sprintf("round%d", round+1), nearestQuery(b.order(round), edges))
		if err != nil {
			return "", err
		}
		rounds = append(rounds, nearest)
		edges, err = b.create(ctx, fmt.Sprintf("left%d", round+1), contractQuery(edges, nearest))
		if err != nil {
			return "", err
		}
	}
	b.result.Rounds = len(rounds)
	labels, err := b.finishHere(ctx, edges)
	for i := len(rounds) - 1; i >= 0 && err == nil; i-- {
		labels, err = b.create(ctx, fmt.Sprintf("labels%d", i), fmt.Sprintf(`SELECT r.v, coalesce(l.label, r.r) AS label
FROM %s AS r LEFT JOIN %s AS l ON l.v = r.r`, rounds[i], labels))
	}
	return labels, err
}

// nearestQuery gives every node the first of itself and its neighbours.
func nearestQuery(o order, edges string) string {
	return fmt.Sprintf(`SELECT v, %s AS r
FROM (SELECT v, CASE WHEN n < %s THEN n ELSE %[2]s END AS n
	FROM (SELECT v, min(n) AS n FROM (SELECT a AS v, %[3]s AS n FROM %[5]s UNION ALL SELECT b, %[4]s FROM %[5]s) AS e GROUP BY v) AS m) AS r`,
		o.id("n"), o.rank("v"), o.rank("b"), o.rank("a"), edges)
}

// contractQuery replaces the ends of every edge by what they were contracted into.
func contractQuery(edges, nearest string) string {
	return fmt.Sprintf(`SELECT DISTINCT CASE WHEN x.r < y.r THEN x.r ELSE y.r END AS a, CASE WHEN x.r < y.r THEN y.r ELSE x.r END AS b
FROM %s AS e JOIN %[2]s AS x ON x.v = e.a JOIN %[2]s AS y ON y.v = e.b
WHERE x.r <> y.r`, edges, nearest)
}

// order is one round's order of the surrogates: their 63 bits rotated by so many, and reversed in every other round.
type order struct {
	bits     int
	reversed bool
	div, mod func(expr string, by int64) string
}

// order takes 13 other bits to the top each time; a round looks at few more than the logarithm of a node's neighbours.
func (b *builder) order(round int) order {
	return order{bits: 13 * round % 63, reversed: round%2 == 1, div: b.d.IntDiv, mod: b.d.Bucket}
}

const maxSurrogate = 1<<63 - 1

// rank is a node's place in the order.
func (o order) rank(id string) string {
	return o.reverse(o.rotate(id, o.bits))
}

// id is the node at a place.
func (o order) id(rank string) string {
	return o.rotate(o.reverse(rank), (63-o.bits)%63)
}

func (o order) reverse(expr string) string {
	if !o.reversed {
		return expr
	}
	return fmt.Sprintf("(%d - %s)", int64(maxSurrogate), expr)
}

// rotate moves the lowest bits of a 63-bit number to its top.
func (o order) rotate(expr string, bits int) string {
	if bits == 0 {
		return expr
	}
	return fmt.Sprintf("(%s * %d + %s)", o.mod(expr, int64(1)<<bits), int64(1)<<(63-bits), o.div(expr, int64(1)<<bits))
}
