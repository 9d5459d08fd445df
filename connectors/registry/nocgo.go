//go:build !cgo

package registry

// embedded is empty: DuckDB needs cgo.
func embedded() []Warehouse { return nil }
