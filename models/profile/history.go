package profile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// history keeps which value the traits with `history: true` had from when to when: one row a value that was held, from the build that
// found it (valid_from, its as_of) to the one that did not any more (valid_to, exclusive; NULL = it is held). A trait that is NULL has no
// row. It compares what is held with the new profiles, so a build that was killed, or that an engine could not make one transaction
// of, is made up for by the next. The statements it gives belong in the transaction that puts the profiles in place.
func (b *builder) history(ctx context.Context, record string, columns []warehouse.Column) ([]string, error) {
	kept := b.spec.Entity.Historical()
	if len(kept) == 0 || b.spec.History == (warehouse.Table{}) {
		return nil, nil
	}
	d, now := b.d, b.d.Time(b.spec.AsOf)
	table, text, time := d.Table(b.spec.History), d.Type(warehouse.Text), d.Type(warehouse.Timestamp)
	value, trait := d.Quote("value"), d.Quote("trait")
	_, err := b.w.Exec(ctx, d.CreateTable(b.spec.History, []string{
		"profile_id " + text, trait + " " + text, value + " " + text, "valid_from " + time, "valid_to " + time,
	}, "", "profile_id"))
	if err != nil {
		return nil, err
	}
	later, err := b.ints(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE coalesce(valid_to, valid_from) > %s", table, now))
	if err != nil || later[0] > 0 { // a build as of the past does not rewrite what is known of later
		return nil, err
	}
	var names, union []string
	for _, name := range kept {
		i := slices.IndexFunc(columns, func(c warehouse.Column) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 {
			return nil, fmt.Errorf("the record lacks %s", name)
		}
		names = append(names, d.Text(name))
		held := d.Quote(columns[i].Name)
		if columns[i].Kind == warehouse.JSON {
			held = d.Wire(d.SortArray(held, columns[i]), columns[i])
		}
		union = append(union, fmt.Sprintf("SELECT profile_id, %s AS %s, %s AS %s FROM %s WHERE %s IS NOT NULL",
			d.Text(name), trait, d.Cast(held, warehouse.Text), value, record, d.Quote(columns[i].Name)))
	}
	changes, err := b.table(ctx, "history", fmt.Sprintf(`SELECT coalesce(n.profile_id, h.profile_id) AS profile_id, coalesce(n.%[1]s, h.%[1]s) AS %[1]s, n.%[2]s AS %[2]s, h.profile_id IS NOT NULL AS was
FROM (%[3]s) AS n
FULL OUTER JOIN (SELECT profile_id, %[1]s, %[2]s FROM %[4]s WHERE valid_to IS NULL AND %[1]s IN (%[5]s)) AS h ON h.profile_id = n.profile_id AND h.%[1]s = n.%[1]s
WHERE n.%[2]s IS DISTINCT FROM h.%[2]s`, trait, value, strings.Join(union, "\n\tUNION ALL "), table, strings.Join(names, ", ")))
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("UPDATE %s SET valid_to = %s WHERE valid_to IS NULL AND profile_id || ' ' || %s IN (SELECT c.profile_id || ' ' || c.%[3]s FROM %s AS c WHERE c.was)", table, now, trait, changes),
		fmt.Sprintf("DELETE FROM %s WHERE valid_from = %s AND valid_to = %[2]s", table, now), // of an earlier build as of the same time
		fmt.Sprintf("INSERT INTO %s (profile_id, %s, %s, valid_from, valid_to) SELECT c.profile_id, c.%[2]s, c.%[3]s, %s, %s FROM %s AS c WHERE c.%[3]s IS NOT NULL",
			table, trait, value, now, d.Cast("NULL", warehouse.Timestamp), changes),
	}, nil
}

// put puts the profiles in place, and with them what is kept of their traits. Where an engine's transactions make no tables, a table
// whose columns changed is replaced before.
func (b *builder) put(ctx context.Context, query string, kept []string) error {
	d, target := b.d, b.spec.Target
	if len(kept) == 0 {
		_, err := b.w.Exec(ctx, d.CreateTableAs(target, query))
		return err
	}
	there, err := b.w.Exists(ctx, target)
	if err != nil {
		return err
	}
	before, within := d.Swap(target, there, query)
	if there && !d.DDL() {
		is, err := b.w.Columns(ctx, "SELECT * FROM "+d.Table(target))
		if err != nil {
			return err
		}
		will, err := b.w.Columns(ctx, query)
		if err != nil {
			return err
		}
		if !slices.Equal(is, will) {
			before, within = []string{d.CreateTableAs(target, query)}, nil
		}
	}
	for _, s := range before {
		if _, err := b.w.Exec(ctx, s); err != nil {
			return err
		}
	}
	return b.w.Atomic(ctx, append(within, kept...)...)
}
