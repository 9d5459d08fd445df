//go:build cgo

package registry

import (
	"context"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
)

// embedded is what needs cgo.
func embedded() []Warehouse {
	return []Warehouse{{
		Type: "duckdb",
		Open: func(ctx context.Context, options map[string]any, dir string) (warehouse.Warehouse, error) {
			w, err := duckdb.Open(ctx, options, dir)
			if err != nil {
				return nil, err // not w: a nil *duckdb.Warehouse would be a Warehouse that is not nil
			}
			return w, nil
		},
	}}
}
