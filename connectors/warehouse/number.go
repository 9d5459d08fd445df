package warehouse

import "context"

// Number runs a query of one row and one integer column; 0 where there is no row or NULL stands in it.
func Number(ctx context.Context, w interface {
	Query(ctx context.Context, sql string) (Rows, error)
}, query string,
) (int64, error) {
	rows, err := w.Query(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	if !rows.Next() {
		return 0, rows.Err()
	}
	v, err := rows.Values()
	if err != nil {
		return 0, err
	}
	n, _ := v[0].(int64)
	return n, nil
}
