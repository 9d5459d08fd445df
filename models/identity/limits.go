package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// Limits are decided level by level, from the most trusted identifier down (DESIGN §12). A component that stays within every
// limit as a whole does so at every level, so only the others are looked at: their rows' surrogates come into the process, where
// the values of a level are decided one after the other: the oldest first, then by the value itself. What is decided in one component
// has no bearing on another, so they come in portions, and memory does not grow with their number.

// Limited tells whether values may be refused: an identifier has a limit or is shared above a number, or a pair is decided never to
// be one. Then rows may be left with refused values only, and are profiles of their own (SharedColumn).
func Limited(e *config.Entity) bool { return e.Limited() }

const (
	// decideAtOnce is about how many values of components over a limit are in the process at a time, some 100 bytes each.
	decideAtOnce = 1_000_000
	// maxDisputed bounds the values of one of them.
	maxDisputed = 20_000_000
)

// limit takes the values that a limit refuses out of their components. It gives the table of nodes that remains, and that of
// refused values, or "" where there are none: (level, h, value, first_seen_at, last_seen_at, refused, why, comp), comp being that of the
// profile that a value is lent to.
func (b *builder) limit(ctx context.Context, nodes string) (kept, refused string, err error) {
	if !Limited(b.spec.Entity) {
		return nodes, "", nil
	}
	never := ""
	if b.decides("never") {
		if never, err = b.stageNever(ctx); err != nil {
			return "", "", err
		}
	}
	disputed, err := b.create(ctx, "disputed", b.disputedQuery(nodes, never))
	if err != nil {
		return "", "", err
	}
	n, err := b.ints(ctx, "SELECT count(*) FROM "+disputed)
	if err != nil || n[0] == 0 {
		return nodes, "", err
	}
	portions := (n[0] + b.atOnce - 1) / b.atOnce
	if portions > 1 {
		if err := b.tooDisputed(ctx, disputed); err != nil {
			return "", "", err
		}
	}
	if err := b.emptyVerdict(ctx); err != nil {
		return "", "", err
	}
	for k := range portions {
		verdict, err := b.decide(ctx, b.portion(disputed, k, portions), never)
		if err != nil {
			return "", "", err
		}
		if err := b.writeVerdict(ctx, verdict); err != nil {
			return "", "", err
		}
	}
	return b.apply(ctx, nodes)
}

// portion is a FROM item of whole components among the disputed: the kth of so many. The last digit of a surrogate is its level, which
// would not spread them.
func (b *builder) portion(disputed string, k, portions int64) string {
	if portions == 1 {
		return disputed
	}
	return fmt.Sprintf("(SELECT * FROM %s WHERE %s = %d)", disputed, b.d.Bucket(b.d.IntDiv("comp", int64(len(b.levels))), portions), k)
}

// tooDisputed refuses a component that is too large to be decided in the process.
func (b *builder) tooDisputed(ctx context.Context, disputed string) error {
	n, err := b.ints(ctx, "SELECT max(n) FROM (SELECT count(*) AS n FROM "+disputed+" GROUP BY comp) AS c")
	if err != nil || n[0] <= maxDisputed {
		return err
	}
	return diag.At(b.spec.Entity.Node.At("identifiers"), "identity.limits",
		"one group over a limit has %d values of %s; more than %d are not supported yet", n[0], b.spec.Entity.Name, maxDisputed).
		WithHint("exclude the values that join strangers: dray profile shows which stand together")
}

// disputedQuery is the values of the components of which a value may be refused: (h, level, comp, nth), nth being the order of decision.
// Those are the components that are over a limit as a whole, that have a value with more neighbours above than it may be shared by,
// or both values of a pair that is never one.
func (b *builder) disputedQuery(nodes, never string) string {
	var over, parts []string
	for i, l := range b.levels {
		if l.limit() > 0 {
			over = append(over, fmt.Sprintf("count(CASE WHEN level = %d THEN 1 END) > %d", i+1, l.limit()))
		}
		if l.sharedAbove() > 0 {
			parts = append(parts, fmt.Sprintf("SELECT n.comp FROM %s AS n JOIN (%s) AS s ON s.h = n.h", nodes, b.sharedQuery(i+1)))
		}
	}
	if len(over) > 0 {
		parts = append(parts, fmt.Sprintf("SELECT comp FROM %s GROUP BY comp HAVING %s", nodes, strings.Join(over, " OR ")))
	}
	if never != "" {
		parts = append(parts, fmt.Sprintf("SELECT n.comp FROM %s AS v JOIN %s AS n ON n.h = v.x JOIN %[2]s AS m ON m.h = v.y WHERE n.comp = m.comp", never, nodes))
	}
	return fmt.Sprintf(`SELECT h, level, comp, row_number() OVER (ORDER BY level, born, value) AS nth
FROM %s WHERE comp IN (%s)`, nodes, strings.Join(parts, "\nUNION ALL "))
}

// sharedQuery is the values of a level that stand beside more different values above than it may be shared by.
func (b *builder) sharedQuery(level int) string {
	var parts []string
	for _, s := range b.stages {
		if up := s.above(level, b.bigint()); s.has(level) && strings.Contains(up, "h") {
			parts = append(parts, fmt.Sprintf("SELECT h%d AS h, %s AS up FROM %s WHERE h%[1]d IS NOT NULL", level, up, s.table))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("SELECT CAST(NULL AS %s) AS h LIMIT 0", b.bigint())
	}
	return fmt.Sprintf("SELECT h FROM (%s) AS u GROUP BY h HAVING count(DISTINCT up) > %d", strings.Join(parts, " UNION ALL "), b.levels[level-1].sharedAbove())
}

// decide reads the disputed values in their order and the rows they stand in, and decides.
func (b *builder) decide(ctx context.Context, disputed, never string) (*verdict, error) {
	v := newVerdict(b.levels)
	err := b.each(ctx, "SELECT h, level FROM "+disputed+" AS d ORDER BY nth", func(x []any) {
		h, _ := x[0].(int64)
		level, _ := x[1].(int64)
		v.value(h, int(level))
	})
	if err != nil {
		return nil, fmt.Errorf("reading values over a limit: %w", err)
	}
	for _, s := range b.stages {
		hs := make([]string, len(s.levels))
		for i, level := range s.levels {
			hs[i] = fmt.Sprintf("h%d", level)
		}
		first := hs[0]
		if len(hs) > 1 {
			first = "coalesce(" + strings.Join(hs, ", ") + ")"
		}
		err := b.each(ctx, fmt.Sprintf("SELECT DISTINCT %s FROM %s WHERE %s IN (SELECT h FROM %s AS d)", strings.Join(hs, ", "), s.table, first, disputed), v.row)
		if err != nil {
			return nil, fmt.Errorf("reading rows over a limit: %w", err)
		}
	}
	if never != "" {
		if err := b.each(ctx, "SELECT x, y FROM "+never, v.apart); err != nil {
			return nil, fmt.Errorf("reading pairs that are never one: %w", err)
		}
	}
	v.decide()
	return v, nil
}

// emptyVerdict makes the table of what is decided: (h, comp, refused), one of the two NULL.
func (b *builder) emptyVerdict(ctx context.Context) error {
	_, err := b.create(ctx, "verdict", fmt.Sprintf("SELECT CAST(NULL AS %[1]s) AS h, CAST(NULL AS %[1]s) AS comp, CAST(NULL AS %[1]s) AS refused LIMIT 0", b.bigint()))
	return err
}

// writeVerdict adds what was decided of a portion.
func (b *builder) writeVerdict(ctx context.Context, v *verdict) error {
	next, row := 0, make([]any, 3)
	_, err := b.w.Load(ctx, b.workTable("verdict"), []string{"h", "comp", "refused"}, func() ([]any, error) {
		if next == len(v.ids) {
			return nil, nil
		}
		row[0], row[1], row[2] = v.ids[next], nil, nil
		if reason := v.refused[next]; reason > 0 {
			row[2] = int64(reason)
		} else {
			row[1] = v.ids[v.find(int32(next))]
		}
		next++
		return row, nil
	})
	return err
}

// apply puts the verdict into the nodes.
func (b *builder) apply(ctx context.Context, nodes string) (kept, refused string, err error) {
	verdict := b.table("verdict")
	refused, err = b.create(ctx, "refused", fmt.Sprintf(`SELECT n.level, n.h, n.value, n.first_seen_at, n.last_seen_at, %s AS refused, v.refused AS why, CAST(NULL AS %s) AS comp
FROM %s AS n JOIN %s AS v ON v.h = n.h WHERE v.refused IS NOT NULL`, b.limitName("v.refused"), b.bigint(), nodes, verdict))
	if err != nil {
		return "", "", err
	}
	kept, err = b.create(ctx, "kept_nodes", fmt.Sprintf(`SELECT n.level, n.h, n.value, n.first_seen_at, n.last_seen_at, n.born, coalesce(v.comp, n.comp) AS comp
FROM %s AS n LEFT JOIN %s AS v ON v.h = n.h WHERE v.refused IS NULL`, nodes, verdict))
	if err != nil {
		return "", "", err
	}
	refused, err = b.lend(ctx, kept, refused)
	return kept, refused, err
}

// limitName says in words which limit a value met: "limit: 5 email", "shared_above: 3 anonymous_id", "never".
func (b *builder) limitName(reason string) string {
	s := ""
	for i, l := range b.levels {
		if l.limit() > 0 {
			s += fmt.Sprintf(" WHEN %d THEN %s", i+1, b.d.Text(fmt.Sprintf("limit: %d %s", l.limit(), l.Name)))
		}
		if l.sharedAbove() > 0 {
			s += fmt.Sprintf(" WHEN %d THEN %s", len(b.levels)+i+1, b.d.Text(fmt.Sprintf("shared_above: %d %s", l.sharedAbove(), l.Name)))
		}
	}
	if s == "" {
		return b.d.Text("never")
	}
	return "CASE " + reason + s + " ELSE 'never' END"
}
