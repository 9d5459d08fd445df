package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// bigint is the type of surrogates.
func (b *builder) bigint() string { return b.d.Type(warehouse.Int) }

// table names a work table, quoted. A killed build may leave some; the next one replaces them.
func (b *builder) table(name string) string { return b.d.Table(b.workTable(name)) }

func (b *builder) workTable(name string) warehouse.Table {
	t := b.spec.Target
	t.Name += "__" + name
	return b.d.Work(t)
}

// create makes a work table of a query and gives its quoted name.
func (b *builder) create(ctx context.Context, name, query string) (string, error) {
	t := b.workTable(name)
	if _, err := b.w.Exec(ctx, b.d.CreateTableAs(t, query)); err != nil {
		return "", fmt.Errorf("making %s: %w", t.Name, err)
	}
	b.work = append(b.work, t)
	return b.d.Table(t), nil
}

// drop removes the work tables. It runs also when the build was interrupted; what it cannot drop the next build replaces.
func (b *builder) drop(ctx context.Context) {
	if len(b.work) == 0 {
		return
	}
	var drops []string
	for _, t := range b.work {
		drops = append(drops, "DROP TABLE IF EXISTS "+b.d.Table(t))
	}
	_ = b.w.Atomic(context.WithoutCancel(ctx), drops...)
}

// each calls f with every row of a query; the slice is reused.
func (b *builder) each(ctx context.Context, query string, f func([]any)) error {
	rows, err := b.w.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		f(values)
	}
	return rows.Err()
}

// ints reads one row of counts.
func (b *builder) ints(ctx context.Context, query string) ([]int64, error) {
	var out []int64
	err := b.each(ctx, query, func(row []any) {
		for _, v := range row {
			n, _ := v.(int64)
			out = append(out, n)
		}
	})
	if err == nil && out == nil {
		err = errors.New("a count gave no row")
	}
	return out, err
}
