package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// keeps tells whether rows are kept. Rules about pairs of rows may bring any two components together, so that there is no part of the
// graph that could be built alone.
func (b *builder) keeps() bool { return b.spec.Kept.Rows.Name != "" && !b.comparesPairs() }

func (b *builder) comparesPairs() bool {
	return slices.ContainsFunc(b.levels, func(l Level) bool { return l.pair })
}

// writesKept tells whether this build's rows are kept. A scratch build's are not: the tables are those of the real one.
func (b *builder) writesKept() bool { return b.keeps() && b.spec.Target == b.spec.Prior }

// state is the first row of Kept.State: what the build before was made under, and what came of it.
type state struct {
	made                      string
	seed                      int
	values, profiles, refused int64
	unlinked                  int64
	ignored                   map[int]int64 // by level
}

// readState gives nil where a table is missing.
func (b *builder) readState(ctx context.Context) (*state, error) {
	for _, t := range []warehouse.Table{b.spec.Prior, b.spec.Kept.Rows, b.spec.Kept.Components, b.spec.Kept.State} {
		if there, err := b.w.Exists(ctx, t); err != nil || !there {
			return nil, err
		}
	}
	s := &state{ignored: map[int]int64{}}
	found := false
	err := b.each(ctx, "SELECT input, made, n, lo, hi FROM "+b.d.Table(b.spec.Kept.State)+" WHERE input <= 0", func(row []any) {
		switch input := int(whole(row[0])); {
		case input == -len(b.levels)-1:
			s.unlinked = whole(row[2])
		case input < 0:
			s.ignored[-input] = whole(row[2])
		default:
			made, _ := row[1].(string)
			seed, print, _ := strings.Cut(made, " ")
			n, err := strconv.Atoi(seed)
			s.seed, s.made, found = n, print, err == nil
			s.values, s.profiles, s.refused = whole(row[2]), whole(row[3]), whole(row[4])
		}
	})
	if !found {
		s = nil
	}
	return s, err
}

// stateQuery is all of Kept.State: numbers are SQL, days a query of (input, day, n, lo, hi). What identifies nobody is counted under
// the numbers below zero: the levels, and behind them the rows that have nothing else.
func (b *builder) stateQuery(values, profiles, refused, days string) string {
	number := func(expr string) string { return b.d.Cast(expr, warehouse.Int) }
	text := func(expr string) string { return b.d.Cast(expr, warehouse.Text) }
	query := fmt.Sprintf("SELECT %s AS input, %s AS day, %s AS n, %s AS lo, %s AS hi, %s AS made", number("0"), text(b.d.Text("")),
		number(values), number(profiles), number(refused), text(b.d.Text(fmt.Sprintf("%d %s", b.seed, b.basis))))
	count := func(input int, n int64) {
		if n > 0 {
			query += fmt.Sprintf("\nUNION ALL SELECT %s, %s, %s, %s, %[4]s, %s", number(strconv.Itoa(input)), text(b.d.Text("")), number(strconv.FormatInt(n, 10)), number("0"), text("NULL"))
		}
	}
	for i, l := range b.levels {
		count(-i-1, b.result.Ignored[l.Name])
	}
	count(-len(b.levels)-1, b.result.Unlinked)
	return query + fmt.Sprintf("\nUNION ALL SELECT input, day, n, lo, hi, %s FROM (%s) AS d", text("NULL"), days)
}

// carryIgnored counts what of the rows that were kept and still stand in their inputs identifies nobody.
func (b *builder) carryIgnored(ctx context.Context, was *state, gone string) error {
	b.result.Unlinked += was.unlinked
	for level, n := range was.ignored {
		b.result.Ignored[b.levels[level-1].Name] += n
	}
	if gone == "" {
		return nil
	}
	var sums, all []string
	for i := range b.levels {
		sums = append(sums, b.d.Cast("coalesce(sum("+b.d.Bucket(b.d.IntDiv("ignored", int64(1)<<i), 2)+"), 0)", warehouse.Int))
		all = append(all, fmt.Sprintf("h%d IS NULL", i+1))
	}
	sums = append(sums, "count(CASE WHEN "+strings.Join(all, " AND ")+" THEN 1 END)")
	n, err := b.ints(ctx, "SELECT "+strings.Join(sums, ", ")+" FROM "+gone)
	if err != nil {
		return err
	}
	for i, l := range b.levels {
		if b.result.Ignored[l.Name] -= n[i]; b.result.Ignored[l.Name] == 0 {
			delete(b.result.Ignored, l.Name)
		}
	}
	b.result.Unlinked -= n[len(b.levels)]
	return nil
}

// rowKey is the hash by which an input's row is known from build to build: of everything that a build reads in it, as it stands there.
func (b *builder) rowKey(r reading) (string, error) {
	var problems diag.List
	text := warehouse.Column{Type: b.d.Type(warehouse.Text), Kind: warehouse.Text}
	exprs := []string{strconv.Itoa(r.number)}
	for _, l := range b.levels {
		raw, err := l.raw(r.Relation)
		problems.Add(err)
		for _, expr := range raw {
			if expr = b.d.Comparable(b.d.Cast(expr, warehouse.Text), text); !slices.Contains(exprs, expr) {
				exprs = append(exprs, expr)
			}
		}
	}
	exprs = append(exprs, b.d.Comparable(r.seen, warehouse.Column{Type: b.d.Type(warehouse.Timestamp), Kind: warehouse.Timestamp}))
	return b.d.Hash(exprs...), problems.Err()
}

// raw is what an input has of a level, before anything is made of it; nil if it knows nothing of it.
func (l Level) raw(r Relation) ([]string, error) {
	if l.match == nil {
		column, ok := r.Identifiers[l.Name]
		if !ok || l.decided {
			return nil, nil
		}
		expr, err := r.Expr(column, r.Node.At("identifiers"))
		return []string{expr}, err
	}
	var out []string
	for _, on := range l.match.On {
		on = strings.TrimSpace(on)
		if in := normalized.FindStringSubmatch(on); in != nil {
			on = strings.TrimSpace(in[1])
		}
		if _, ok := r.Column(on); !ok && plainName.MatchString(on) {
			return nil, nil
		}
		expr, err := r.Expr(on, l.match.At("on"))
		if err != nil {
			return nil, err
		}
		out = append(out, expr)
	}
	return out, nil
}

// fingerprint is a hash of all that makes the result of the same rows what it is. What reads an input is in it as the SQL that does,
// so that another normaliser or another list of what identifies nobody is another fingerprint.
func (b *builder) fingerprint(ctx context.Context, readings []reading) (string, error) {
	plain := *b
	plain.spec.Exclude = map[string]string{}
	for id := range b.spec.Exclude {
		plain.spec.Exclude[id] = "excluded_" + id // real or scratch, it is the same
	}
	parts := []any{"identity 1", b.d.HashVersion(), b.ruleOfLevels()}
	for _, r := range readings {
		r.Source = "input"
		query, _, err := plain.stageQuery(r, "")
		if err != nil {
			return "", err
		}
		parts = append(parts, query)
		if r.Lookback.Duration > 0 { // rows that are not looked at again must at least be of the same relation
			parts = append(parts, r.From, r.Lookback.String())
		}
	}
	e := b.spec.Entity
	if e.Guard != nil {
		parts = append(parts, e.Guard.MaxProfileSize)
	}
	if e.Decisions != nil {
		parts = append(parts, e.Decisions.Always, e.Decisions.Never)
	}
	lists, err := b.listed(ctx)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(append(parts, lists))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// ruleOfLevels is what each level refuses, and lends.
func (b *builder) ruleOfLevels() []any {
	var out []any
	for _, l := range b.levels {
		lent := ""
		if l.lends() {
			lent = l.Identifier.OnRefused
		}
		out = append(out, []any{l.Name, l.limit(), l.sharedAbove(), lent})
	}
	return out
}

// listed sums the relations that list what identifies nobody and what is decided.
func (b *builder) listed(ctx context.Context) ([]int64, error) {
	var queries []string
	add := func(from string, columns ...string) {
		for i, c := range columns {
			columns[i] = b.d.Cast("x."+b.d.Quote(c), warehouse.Text)
		}
		queries = append(queries, b.sumQuery("SELECT "+b.d.Hash(columns...)+" AS k FROM "+from+" AS x"))
	}
	for _, id := range b.spec.Entity.Identifiers {
		if from, ok := b.spec.Exclude[id.Name]; ok && id.Exclude != nil {
			column := id.Exclude.Column
			if column == "" {
				column = id.Name
			}
			add(from, column)
		}
	}
	if b.spec.Decisions != "" {
		add(b.spec.Decisions, "verdict", "a", "b")
	}
	var out []int64
	for _, q := range queries {
		n, err := b.ints(ctx, q)
		if err != nil {
			return nil, err
		}
		out = append(out, n...)
	}
	return out, nil
}

// half splits a hash of 63 bits into two numbers whose sums fit 64 bits.
const half = int64(1) << 31

// sums are the three columns by which the rows of a query with a key k are compared.
func (b *builder) sums() string {
	sum := func(expr string) string { return b.d.Cast("coalesce(sum("+expr+"), 0)", warehouse.Int) }
	return "count(*) AS n, " + sum(b.d.Bucket("k", half)) + " AS lo, " + sum(b.d.IntDiv("k", half)) + " AS hi"
}

func (b *builder) sumQuery(rows string) string {
	return "SELECT " + b.sums() + " FROM (" + rows + ") AS r"
}

// daysQuery sums the rows of a query of (k, seen) by day; ” is the day of rows without a time.
func (b *builder) daysQuery(input int, rows string) string {
	return fmt.Sprintf("SELECT %s AS input, coalesce(%s, %s) AS day, n, lo, hi FROM (SELECT day, %s FROM (SELECT k, %s AS day FROM (%s) AS s) AS r GROUP BY day) AS d",
		b.d.Cast(strconv.Itoa(input), warehouse.Int), b.d.Cast("day", warehouse.Text), b.d.Text(""), b.sums(), b.d.Cast("seen", warehouse.Date), rows)
}

// countQuery is daysQuery without the sums: only the time of rows is read.
func (b *builder) countQuery(input int, rows string) string {
	null := b.d.Cast("NULL", warehouse.Int)
	return fmt.Sprintf("SELECT %s AS input, %s AS day, n, %s AS lo, %s AS hi FROM (SELECT day, count(*) AS n FROM (SELECT %s AS day FROM (%s) AS s) AS r GROUP BY day) AS d",
		b.d.Cast(strconv.Itoa(input), warehouse.Int), b.d.Cast("day", warehouse.Text), null, null, b.d.Cast("seen", warehouse.Date), rows)
}

// forget empties Kept.State, if there is one: it would be taken for what this build has read, which keeps nothing.
func (b *builder) forget(ctx context.Context) ([]string, error) {
	if b.spec.Kept.State.Name == "" || b.spec.Target != b.spec.Prior {
		return nil, nil
	}
	there, err := b.w.Exists(ctx, b.spec.Kept.State)
	if err != nil || !there {
		return nil, err
	}
	return []string{b.d.Empty(b.spec.Kept.State)}, nil
}

// keepAll keeps what a full build has read.
func (b *builder) keepAll(ctx context.Context, nodes, refused, ids string) (before, within []string, err error) {
	turned := "0"
	if refused != "" {
		turned = "(SELECT count(*) FROM " + refused + ")"
	}
	var days []string
	for _, s := range b.stages {
		if s.input > 0 {
			days = append(days, b.daysQuery(s.input, "SELECT k, seen FROM "+s.table))
		}
	}
	for _, t := range []struct {
		table warehouse.Table
		query string
	}{
		{b.spec.Kept.Rows, b.keptRows()},
		{b.spec.Kept.Components, "SELECT h, comp FROM " + b.raw},
		{b.spec.Kept.State, b.stateQuery(fmt.Sprintf("(SELECT count(*) FROM %s) + %s", nodes, turned),
			fmt.Sprintf("(SELECT count(*) FROM %s)", ids), turned, strings.Join(days, "\nUNION ALL "))},
	} {
		more, statements, err := b.swapTable(ctx, t.table, t.query)
		if err != nil {
			return nil, nil, err
		}
		before, within = append(before, more...), append(within, statements...)
	}
	return before, within, nil
}

// keptRows is a query of the staged rows of inputs as they are kept; "" if none is staged.
func (b *builder) keptRows() string {
	var parts []string
	for _, s := range b.stages {
		if s.input == 0 {
			continue
		}
		columns := []string{b.d.Cast(strconv.Itoa(s.input), warehouse.Int) + " AS input", "k"}
		ignored := b.d.Cast("0", warehouse.Int)
		for i := range b.levels {
			h := fmt.Sprintf("h%d", i+1)
			if s.has(i + 1) {
				ignored += fmt.Sprintf(" + CASE WHEN ignored%d THEN %d ELSE 0 END", i+1, int64(1)<<i)
			} else {
				h = "CAST(NULL AS " + b.bigint() + ") AS " + h
			}
			columns = append(columns, h)
		}
		columns = append(columns, b.d.Cast(ignored, warehouse.Int)+" AS ignored")
		parts = append(parts, "SELECT "+strings.Join(columns, ", ")+", seen FROM "+s.table)
	}
	return strings.Join(parts, "\nUNION ALL ")
}

// changedDays sums the inputs by day: days is the table of it, and changed tells the days of each input that are not as they were.
func (b *builder) changedDays(ctx context.Context, readings []reading) (days string, changed map[int][]string, err error) {
	kept := b.d.Table(b.spec.Kept.State)
	var parts []string
	for _, r := range readings {
		rows := "SELECT " + r.key + " AS k, " + r.seen + " AS seen FROM " + r.FromItem()
		since, err := b.lookbackFrom(ctx, r, kept)
		if err != nil {
			return "", nil, err
		}
		if since == "" {
			parts = append(parts, b.daysQuery(r.number, rows))
			continue
		}
		parts = append(parts, b.daysQuery(r.number, rows+" WHERE "+r.seen+" >= "+since+" OR "+r.seen+" IS NULL"),
			b.countQuery(r.number, "SELECT "+r.seen+" AS seen FROM "+r.FromItem()+" WHERE "+r.seen+" < "+since))
	}
	if days, err = b.create(ctx, "days", strings.Join(parts, "\nUNION ALL ")); err != nil {
		return "", nil, err
	}
	changed = map[int][]string{}
	err = b.each(ctx, fmt.Sprintf(`SELECT coalesce(d.input, s.input) AS input, coalesce(d.day, s.day) AS day
FROM %s AS d FULL JOIN (SELECT input, day, n, lo, hi FROM %s WHERE input > 0) AS s ON s.input = d.input AND s.day = d.day
WHERE d.n IS NULL OR s.n IS NULL OR d.n <> s.n OR d.lo IS NOT NULL AND (s.lo IS NULL OR d.lo <> s.lo OR d.hi <> s.hi)`, days, kept), func(row []any) {
		day, _ := row[1].(string)
		changed[int(whole(row[0]))] = append(changed[int(whole(row[0]))], day)
	})
	return days, changed, err
}

// lookbackFrom is where the days begin that are looked at again: so many before the newest day that is kept, days to come left out.
// "" = all are.
func (b *builder) lookbackFrom(ctx context.Context, r reading, kept string) (string, error) {
	if r.Lookback.Duration == 0 || r.Input.Input.At == "" {
		return "", nil
	}
	newest := ""
	err := b.each(ctx, fmt.Sprintf("SELECT max(day) AS day FROM %s WHERE input = %d AND day <> '' AND day <= %s", kept, r.number, b.d.Text(b.spec.AsOf.UTC().Format(time.DateOnly))),
		func(row []any) { newest, _ = row[0].(string) })
	if err != nil {
		return "", err
	}
	day, err := time.Parse(time.DateOnly, newest)
	if err != nil {
		return "", nil // no day that could be told is kept
	}
	return b.d.Time(day.Add(-r.Lookback.Duration).Truncate(24 * time.Hour)), nil
}

// nextDays is the days as they are kept from now on: what was not summed again is as it was.
func (b *builder) nextDays(days string) string {
	return fmt.Sprintf(`SELECT d.input, d.day, d.n, CASE WHEN d.lo IS NULL AND s.n = d.n THEN s.lo ELSE d.lo END AS lo, CASE WHEN d.lo IS NULL AND s.n = d.n THEN s.hi ELSE d.hi END AS hi
FROM %s AS d LEFT JOIN %s AS s ON s.input = d.input AND s.day = d.day AND s.input > 0`, days, b.d.Table(b.spec.Kept.State))
}

// changes are the rows that came and went since the build before.
type changes struct {
	stages []stage
	gone   string // table of kept rows; "" = none went
	read   int64
}

// touched is a query of the values that stand in a row which came or went.
func (c *changes) touched(levels []Level) string {
	var parts []string
	for _, s := range c.stages {
		for _, level := range s.levels {
			parts = append(parts, fmt.Sprintf("SELECT h%d AS h FROM %s WHERE h%[1]d IS NOT NULL", level, s.table))
		}
	}
	if c.gone != "" {
		for i := range levels {
			parts = append(parts, fmt.Sprintf("SELECT h%d AS h FROM %s WHERE h%[1]d IS NOT NULL", i+1, c.gone))
		}
	}
	return "SELECT DISTINCT h FROM (" + strings.Join(parts, " UNION ALL ") + ") AS t"
}

// readChanges stages the rows of the changed days that are not kept yet, and finds the kept ones that are in no input any more.
func (b *builder) readChanges(ctx context.Context, readings []reading, changed map[int][]string) (*changes, error) {
	c := &changes{}
	var gone []string
	for _, r := range readings {
		days := changed[r.number]
		if len(days) == 0 {
			continue
		}
		kept := fmt.Sprintf("SELECT * FROM %s WHERE input = %d AND %s", b.d.Table(b.spec.Kept.Rows), r.number, b.within("seen", days))
		within := b.within(r.seen, days)
		fresh, err := b.create(ctx, fmt.Sprintf("fresh%d", r.number), fmt.Sprintf("SELECT k, count(*) AS n FROM (SELECT %s AS k FROM %s WHERE %s) AS f GROUP BY k", r.key, r.FromItem(), within))
		if err != nil {
			return nil, err
		}
		// A row that stands there another number of times than it did goes and comes as often as it does now.
		come, err := b.create(ctx, fmt.Sprintf("come%d", r.number), fmt.Sprintf(`SELECT f.k FROM %s AS f LEFT JOIN (SELECT k, count(*) AS n FROM (%s) AS o GROUP BY k) AS o ON o.k = f.k
WHERE o.k IS NULL OR o.n <> f.n`, fresh, kept))
		if err != nil {
			return nil, err
		}
		gone = append(gone, fmt.Sprintf("SELECT o.* FROM (%s) AS o LEFT JOIN %s AS f ON f.k = o.k WHERE f.k IS NULL OR f.k IN (SELECT k FROM %s)", kept, fresh, come))
		n, err := b.ints(ctx, "SELECT count(*) FROM "+come)
		if err != nil {
			return nil, err
		}
		if n[0] == 0 {
			continue
		}
		query, s, err := b.stageQuery(r, within+" AND "+r.key+" IN (SELECT k FROM "+come+")")
		if err != nil {
			return nil, err
		}
		if err := b.stageRows(ctx, r, query, &s); err != nil {
			return nil, err
		}
		c.stages = append(c.stages, s)
		if n, err = b.ints(ctx, "SELECT count(*) FROM "+s.table); err != nil {
			return nil, err
		}
		c.read += n[0]
	}
	if len(gone) == 0 {
		return c, nil
	}
	table, err := b.create(ctx, "gone", strings.Join(gone, "\nUNION ALL "))
	if err != nil {
		return nil, err
	}
	n, err := b.ints(ctx, "SELECT count(*) FROM "+table)
	if err == nil && n[0] > 0 {
		c.gone = table
		c.read += n[0]
	}
	return c, err
}

// maxRanges bounds how many ranges of days stand in one condition.
const maxRanges = 30

// within is the condition under which a time lies on one of these days, or a little more; ” is the day of what has none.
func (b *builder) within(seen string, days []string) string {
	var starts []time.Time
	none := false
	for _, day := range days {
		t, err := time.Parse(time.DateOnly, day)
		switch {
		case day == "":
			none = true
		case err != nil:
			return "TRUE" // a day that has no such name: infinity, or before Christ
		default:
			starts = append(starts, t)
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	type span struct{ from, to time.Time }
	var spans []span
	for _, t := range starts {
		end := t.AddDate(0, 0, 1)
		if len(spans) > 0 && !t.After(spans[len(spans)-1].to) {
			spans[len(spans)-1].to = end
		} else {
			spans = append(spans, span{t, end})
		}
	}
	if len(spans) > maxRanges {
		spans = []span{{spans[0].from, spans[len(spans)-1].to}}
	}
	var parts []string
	for _, s := range spans {
		parts = append(parts, fmt.Sprintf("%s >= %s AND %s < %s", seen, b.d.Time(s.from), seen, b.d.Time(s.to)))
	}
	if none {
		parts = append(parts, seen+" IS NULL")
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}
