package duckdb

// DefaultSchema is where a table lies that is named without one. compile writes it out: in a view, DuckDB looks for bare names
// in the view's own schema first, and a model named like the source it reads would find itself.
func (Dialect) DefaultSchema() string { return "main" }
