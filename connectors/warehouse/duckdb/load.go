package duckdb

import (
	"context"
	"database/sql/driver"

	duck "github.com/duckdb/duckdb-go/v2"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Load appends rows with DuckDB's appender.
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return 0, wrap(err)
	}
	defer conn.Close()
	var n int64
	err = conn.Raw(func(c any) error {
		dc, _ := c.(driver.Conn)
		app, err := duck.NewAppenderWithColumns(dc, t.Database, t.Schema, t.Name, columns)
		if err != nil {
			return err
		}
		for {
			row, err := next()
			if err != nil {
				_ = app.Clear()
				_ = app.Close()
				return err
			}
			if row == nil {
				return app.Close()
			}
			values := make([]driver.Value, len(row))
			for i, v := range row {
				values[i] = v
			}
			if err := app.AppendRow(values...); err != nil {
				_ = app.Clear()
				_ = app.Close()
				return err
			}
			n++
		}
	})
	return n, wrap(err)
}
