package warehouse

import (
	"context"
	"fmt"
)

// Number runs a query of one row and one column, a whole number that fits 64 bits; 0 where there is no row or NULL stands in it.
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
	switch n := v[0].(type) {
	case int64:
		return n, nil
	case float64:
		return int64(n), nil
	case string: // sums may be of wider types
		var out int64
		_, err := fmt.Sscan(n, &out)
		return out, err
	}
	return 0, nil
}
