package profile

import (
	"context"
	"fmt"

	"github.com/dray-dev/dray/models/identity"
)

// matched adds the edges that rules about pairs have made: two records of one rule, whose name is the source.
func (f *finder) matched(ctx context.Context) error {
	var has bool
	for _, m := range f.spec.Entity.Match {
		has = has || m.Pairs()
	}
	table := identity.MatchesTable(f.spec.Identity)
	if !has {
		return nil
	}
	there, err := f.w.Exists(ctx, table)
	if err != nil || !there {
		return err
	}
	const mine = "(SELECT identifier, value FROM %s WHERE profile_id = %s) AS %s"
	side := func(alias string) string {
		return fmt.Sprintf(mine, f.d.Table(f.spec.Identity), f.d.Text(f.found.ProfileID), alias)
	}
	rows, err := f.all(ctx, fmt.Sprintf("SELECT m.rule, m.a, m.b FROM %s AS m JOIN %s ON x.identifier = m.rule AND x.value = m.a JOIN %s ON y.identifier = m.rule AND y.value = m.b ORDER BY m.rule, m.a, m.b LIMIT %d",
		f.d.Table(table), side("x"), side("y"), shown+1))
	if err != nil {
		return err
	}
	f.truncate(&rows)
	for _, row := range rows {
		rule := fmt.Sprint(row[0])
		f.found.Edges = append(f.found.Edges, Edge{From: rule + ":" + fmt.Sprint(row[1]), To: rule + ":" + fmt.Sprint(row[2]), Source: rule})
	}
	return nil
}
