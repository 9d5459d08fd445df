package identity

import (
	"context"
	"fmt"
	"strings"
)

// A value that two people share, as a device, is refused by the limit of what tells them apart, and joins nobody. Where its identifier
// says `on_refused: latest` or `first`, the rows that have nothing else belong to one of the people it was met with all the same. The
// value is lent: it stands in identity_<entity> with the profile and with the limit it met, counts for no limit, and says nothing of
// the profile's age or id, for it may be another's tomorrow.

// lends tells whether an identifier lends refused values.
func (l Level) lends() bool {
	return l.Identifier != nil && (l.Identifier.OnRefused == "latest" || l.Identifier.OnRefused == "first")
}

// lend gives the refused values the component of the profile they are lent to, NULL for the others.
func (b *builder) lend(ctx context.Context, nodes, refused string) (string, error) {
	var lent []string
	for i, l := range b.levels {
		if !l.lends() {
			continue
		}
		var met []string
		for _, s := range b.stages {
			if m := b.metQuery(s, i+1, nodes, refused); m != "" {
				met = append(met, m)
			}
		}
		if len(met) > 0 { // of those met at one time the more trusted value decides, then the value itself, so that no order of rows matters
			lent = append(lent, fmt.Sprintf("SELECT h, comp FROM (SELECT h, comp, row_number() OVER (PARTITION BY h ORDER BY %s, owner) AS nth FROM (%s) AS u) AS f WHERE nth = 1",
				b.d.Order("seen", l.Identifier.OnRefused == "latest", false), strings.Join(met, "\nUNION ALL ")))
		}
	}
	if len(lent) == 0 {
		return refused, nil
	}
	return b.create(ctx, "lent", fmt.Sprintf(`SELECT n.level, n.h, n.value, n.first_seen_at, n.last_seen_at, n.refused, n.why, m.comp
FROM %s AS n LEFT JOIN (%s) AS m ON m.h = n.h`, refused, strings.Join(lent, "\nUNION ALL ")))
}

// metQuery is the profiles that refused values of a level stand beside in the rows of an input: (h, comp, owner, seen). "" = the input
// has nothing more trusted beside it.
func (b *builder) metQuery(s stage, level int, nodes, refused string) string {
	if !s.has(level) {
		return ""
	}
	var comps, owners []string
	joins := ""
	for _, l := range s.levels {
		if l >= level {
			continue
		}
		n := fmt.Sprintf("n%d", l)
		joins += fmt.Sprintf("\n\tLEFT JOIN %s AS %s ON %[2]s.h = s.h%d", nodes, n, l)
		comps = append(comps, n+".comp")
		owners = append(owners, fmt.Sprintf("CASE WHEN %s.comp IS NOT NULL THEN %s END", n, b.oldest(n)))
	}
	if len(comps) == 0 {
		return ""
	}
	return fmt.Sprintf(`SELECT s.h%d AS h, %s AS comp, %s AS owner, s.seen
	FROM %s AS s JOIN %s AS r ON r.h = s.h%d%s
	WHERE %s IS NOT NULL AND %s`, level, coalesce(comps), coalesce(owners), s.table, refused, level, joins, coalesce(comps), b.lendable(level))
}

// lendable is the condition on a refused value r that another's limit refused it, or a pair that is never one. A value beyond its own
// identifier's limit, or shared by too many, says nothing of anybody.
func (b *builder) lendable(level int) string {
	n := len(b.levels)
	return fmt.Sprintf("r.why <> %d AND (r.why <= %d OR r.why > %d)", level, n, 2*n)
}
