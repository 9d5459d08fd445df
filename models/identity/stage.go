package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// stage is one linking input, read once: a table with v<level> and h<level> for each identifier it has, ignored<level>, and seen.
type stage struct {
	table  string
	input  int   // its number among the entity's, from 1; 0 = decisions, and rows that an earlier build has kept
	levels []int // ascending: most trusted first
	// records are the levels of rules about pairs of which the stage has the parts, of pairs the level below that.
	records []int
	pairs   int
}

// seen is when a row says that a value of a level was seen. A pair was when its two values were, and says nothing of them.
func (s stage) seen(level int, never string) string {
	if s.pairs > 0 && level != s.pairs {
		return never
	}
	return "seen"
}

// has tells whether the input carries an identifier.
func (s stage) has(level int) bool {
	for _, l := range s.levels {
		if l == level {
			return true
		}
	}
	return false
}

// above is the surrogate of a row's most trusted value above a level; NULL where there is none.
func (s stage) above(level int, bigint string) string {
	var more []string
	for _, l := range s.levels {
		if l < level {
			more = append(more, fmt.Sprintf("h%d", l))
		}
	}
	switch len(more) {
	case 0:
		return "CAST(NULL AS " + bigint + ")"
	case 1:
		return more[0]
	default:
		return "coalesce(" + strings.Join(more, ", ") + ")"
	}
}

// surrogate is the 63-bit number that stands for a value: a hash whose last digit, in base of the number of levels, is the
// level, so that equal texts of two levels never meet. Two values that share one are found in loadValues.
func (b *builder) surrogate(value string, level int) string {
	h, n := b.hash(value), len(b.levels)
	if n == 1 {
		return h
	}
	return fmt.Sprintf("(%s * %d + %d)", b.d.IntDiv(h, int64(n)), n, level-1)
}

func (b *builder) hash(value string) string {
	if b.seed > 0 {
		value += " || " + b.d.Text(fmt.Sprintf("#%d", b.seed))
	}
	return b.d.Hash(value)
}

// reading is how an input is read: when a row was seen, as SQL, and its key (see rowKey), "" where no rows are kept.
type reading struct {
	Relation
	number    int // of the input among the entity's, from 1
	seen, key string
}

func relationsOf(readings []reading) []Relation {
	out := make([]Relation, len(readings))
	for i, r := range readings {
		out[i] = r.Relation
	}
	return out
}

// reading describes the i-th input. It is given also with an error that leaves the input's columns known.
func (b *builder) reading(ctx context.Context, i int, in Input) (reading, error) {
	r := reading{number: i + 1}
	var err error
	if r.Relation, err = Describe(ctx, b.w, in); err != nil {
		return r, err
	}
	if r.seen, err = r.Time(ctx, b.w); err != nil {
		return r, err
	}
	if r.seen == "" {
		r.seen = b.d.Cast("NULL", warehouse.Timestamp)
	}
	if b.keeps() {
		r.key, err = b.rowKey(r)
	}
	return r, err
}

// stageInput reads an input into a table of its own.
func (b *builder) stageInput(ctx context.Context, i int, in Input) (reading, stage, error) {
	r, err := b.reading(ctx, i, in)
	if err != nil && r.Columns == nil {
		return r, stage{}, err
	}
	var problems diag.List
	query, s, wrong := b.stageQuery(r, "")
	problems.Add(wrong)
	problems.Add(err)
	if err := problems.Err(); err != nil {
		return r, stage{}, err
	}
	err = b.stageRows(ctx, r, query, &s)
	return r, s, err
}

func (b *builder) stageRows(ctx context.Context, r reading, query string, s *stage) (err error) {
	s.table, err = b.create(ctx, fmt.Sprintf("in%d", r.number), query)
	if err != nil {
		err = &diag.Error{Kind: kindOf(err), Pos: r.Node.At("from"), Code: "entity.input", Msg: "reading input " + r.Name, Err: err}
	}
	return err
}

// stageQuery reads the rows of an input for which the condition where holds, "" = all.
func (b *builder) stageQuery(r reading, where string) (query string, s stage, err error) {
	s.input = r.number
	var problems diag.List
	var outer, inner, parts []string
	var levels []int
	for i, l := range b.levels {
		value, raw, ok, err := l.Value(r.Relation)
		if err != nil {
			problems.Add(err)
			continue
		}
		if !ok {
			continue
		}
		level := i + 1
		levels = append(levels, level)
		if l.match != nil && l.match.Pairs() {
			rec := recordOf(l.match)
			exprs, there, _ := rec.exprs(r.Relation) // the error was Value's too
			names := make([]string, len(exprs))
			for n, expr := range exprs {
				names[n] = partColumn(level, n)
				inner = append(inner, expr+" AS "+names[n])
			}
			value, enough, _ := rec.value(b.d, names, there)
			outer = append(outer, fmt.Sprintf("%s AS v%d, %s AS r%[2]d", value, level, enough))
			parts = append(parts, names...)
			s.records = append(s.records, level)
			continue
		}
		v := fmt.Sprintf("n%d", level)
		usable := v + " IS NOT NULL"
		if l.Identifier != nil {
			if usable, err = b.identifies(l.Identifier, v); err != nil {
				problems.Add(err)
				continue
			}
		}
		inner = append(inner, fmt.Sprintf("%s AS n%d, %s AS r%d", value, level, raw, level))
		outer = append(outer, fmt.Sprintf("CASE WHEN %s THEN %s END AS v%d, r%d", usable, v, level, level))
	}
	if err := problems.Err(); err != nil {
		return "", s, err
	}
	outer = append(outer, parts...)
	var columns []string
	for _, level := range levels {
		v := fmt.Sprintf("v%d", level)
		columns = append(columns, fmt.Sprintf("%s, CASE WHEN %s IS NOT NULL THEN %s END AS h%d, r%d AND %s IS NULL AS ignored%d",
			v, v, b.surrogate(v, level), level, level, v, level))
	}
	s.levels = levels
	rest, inside := "seen", r.seen+" AS seen"
	if r.key != "" {
		rest, inside = "seen, k", inside+", "+r.key+" AS k"
	}
	if where != "" {
		where = " WHERE " + where
	}
	return fmt.Sprintf("SELECT %s, %s\nFROM (SELECT %s, %s\n\tFROM (SELECT %s, %s FROM %s%s) AS n) AS v",
		strings.Join(append(columns, parts...), ", "), rest, strings.Join(outer, ", "), rest, strings.Join(inner, ", "), inside, r.FromItem(), where), s, nil
}

// countIgnored counts values that identify nobody, and rows that have no other.
func (b *builder) countIgnored(ctx context.Context) error {
	for _, s := range b.stages {
		sums := make([]string, 0, len(s.levels)+1)
		var nothing []string
		for _, level := range s.levels {
			sums = append(sums, fmt.Sprintf("count(CASE WHEN ignored%d THEN 1 END)", level))
			nothing = append(nothing, fmt.Sprintf("h%d IS NULL", level))
		}
		sums = append(sums, "count(CASE WHEN "+strings.Join(nothing, " AND ")+" THEN 1 END)")
		counts, err := b.ints(ctx, "SELECT "+strings.Join(sums, ", ")+" FROM "+s.table)
		if err != nil {
			return err
		}
		for i, level := range s.levels {
			if counts[i] > 0 {
				b.result.Ignored[b.levels[level-1].Name] += counts[i]
			}
		}
		b.result.Unlinked += counts[len(s.levels)]
	}
	return nil
}

// loadValues makes val<level>: one row a value with when it was seen, and the smallest (lo) and greatest (hi) surrogate of a more
// trusted value it stands beside. lo is also the first contraction: most values stand beside one more trusted value only, and
// are done with. clash marks two values that share a surrogate.
func (b *builder) loadValues(ctx context.Context, level int) (err error) {
	var parts []string
	for _, s := range b.stages {
		if s.has(level) {
			parts = append(parts, fmt.Sprintf("SELECT h%d AS h, v%d AS v, %s AS seen, %s AS up FROM %s WHERE h%d IS NOT NULL", level, level,
				s.seen(level, b.d.Cast("NULL", warehouse.Timestamp)), s.above(level, b.bigint()), s.table, level))
		}
	}
	if len(parts) == 0 {
		parts = []string{fmt.Sprintf("SELECT CAST(NULL AS %s) AS h, %s AS v, %s AS seen, CAST(NULL AS %s) AS up LIMIT 0",
			b.bigint(), b.d.Cast("NULL", warehouse.Text), b.d.Cast("NULL", warehouse.Timestamp), b.bigint())}
	}
	b.values[level], err = b.create(ctx, fmt.Sprintf("val%d", level), `SELECT h, min(v) AS value, min(v) <> max(v) AS clash, min(seen) AS first_seen_at, max(seen) AS last_seen_at, min(up) AS lo, max(up) AS hi
FROM (`+strings.Join(parts, "\n\tUNION ALL ")+`) AS s
GROUP BY h`)
	return err
}
