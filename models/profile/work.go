package profile

import (
	"context"
	"errors"
	"fmt"
)

// table makes a work table and gives its quoted name. A killed build may leave some; the next replaces them.
func (b *builder) table(ctx context.Context, name, query string) (string, error) {
	t := b.spec.Target
	t.Name += "__" + name
	t = b.d.Work(t)
	if _, err := b.w.Exec(ctx, b.d.CreateTableAs(t, query)); err != nil {
		return "", fmt.Errorf("making %s: %w", t.Name, err)
	}
	b.work = append(b.work, t)
	return b.d.Table(t), nil
}

// drop removes the work tables, also when the build was interrupted.
func (b *builder) drop(ctx context.Context) {
	for _, t := range b.work {
		_, _ = b.w.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+b.d.Table(t))
	}
}

// ints reads one row of counts.
func (b *builder) ints(ctx context.Context, query string) ([]int64, error) {
	rows, err := b.w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, errors.Join(errors.New("a count gave no row"), rows.Err())
	}
	values, err := rows.Values()
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(values))
	for i, v := range values {
		out[i], _ = v.(int64)
	}
	return out, rows.Err()
}
