package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// guard stops a build, before anything of it is seen, that would merge more profiles or make a larger one than the entity's guard
// allows. moves is "" at the first build, to which max_merges does not apply.
func (b *builder) guard(ctx context.Context, nodes, moves string) error {
	g := b.spec.Entity.Guard
	if g == nil {
		return nil
	}
	if g.MaxProfileSize > 0 {
		query := fmt.Sprintf("SELECT comp, count(*) AS n FROM %s GROUP BY comp HAVING count(*) > %d", nodes, g.MaxProfileSize)
		n, err := b.ints(ctx, fmt.Sprintf("SELECT count(*), coalesce(max(n), 0) FROM (%s) AS s", query))
		if err != nil {
			return err
		}
		if n[0] > 0 {
			return b.stop("max_profile_size", "%s would have %s over max_profile_size, %d, the largest with %d values (%s)", b.spec.Entity.Name,
				count(n[0], "profile"), g.MaxProfileSize, n[1], b.made(ctx, nodes, query))
		}
	}
	if g.MaxMerges == nil || moves == "" {
		return nil
	}
	prior, err := b.prior(ctx)
	if err != nil {
		return err
	}
	n, err := b.ints(ctx, fmt.Sprintf("SELECT (SELECT count(DISTINCT profile_id) FROM %s), (SELECT count(*) FROM %s WHERE rule = 'merge')", prior, moves))
	if err != nil {
		return err
	}
	if b.region != nil {
		n[0] += b.region.otherProfiles
	}
	if share := float64(*g.MaxMerges); float64(n[1]) > share*float64(n[0]) {
		return b.stop("max_merges", "%s of %s of %d would be merged into others, over max_merges, %s", count(n[1], "profile"), b.spec.Entity.Name, n[0], percent(share))
	}
	return nil
}

func (b *builder) stop(key, format string, args ...any) error {
	e := &diag.Error{Kind: diag.Stopped, Pos: b.spec.Entity.Guard.At(key), Code: "identity." + key, Msg: fmt.Sprintf(format, args...)}
	return e.WithHint("nothing was changed. Exclude the values that join strangers, give their identifier a limit or shared_above, or raise %s", key)
}

// made says of which identifiers the largest profile over the limit is made: "3 user_id, 900 anonymous_id". No values.
func (b *builder) made(ctx context.Context, nodes, over string) string {
	var parts []string
	err := b.each(ctx, fmt.Sprintf(`SELECT level, count(*) AS n FROM %s WHERE comp IN (SELECT min(comp) FROM (%[2]s) AS a WHERE n = (SELECT max(n) FROM (%[2]s) AS m))
GROUP BY level ORDER BY level`, nodes, over), func(row []any) {
		level, _ := row[0].(int64)
		n, _ := row[1].(int64)
		if level > 0 && int(level) <= len(b.levels) {
			parts = append(parts, fmt.Sprintf("%d %s", n, b.levels[level-1].Name))
		}
	})
	if err != nil {
		return "of what could not be read"
	}
	return strings.Join(parts, ", ")
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", share*100) }
