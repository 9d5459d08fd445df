package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	duck "github.com/duckdb/duckdb-go/v2"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// rows reads the driver's rows directly: database/sql's conversions cost more than the rest of a delivery (docs/decisions).
type rows struct {
	conn    *sql.Conn
	rows    driver.Rows
	columns []warehouse.Column
	values  []any
	raw     []driver.Value
	cells   *cells // if the result is read in place
	err     error
}

// Query runs one statement and holds one connection until the rows are closed.
func (w *Warehouse) Query(ctx context.Context, statement string) (warehouse.Rows, error) {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return nil, wrap(err)
	}
	var dr driver.Rows
	err = conn.Raw(func(c any) error {
		q, ok := c.(driver.QueryerContext)
		if !ok {
			return errors.New("the DuckDB driver cannot query directly")
		}
		dr, err = q.QueryContext(ctx, statement, nil)
		return err
	})
	if err != nil {
		_ = conn.Close()
		return nil, wrap(err)
	}
	r := &rows{conn: conn, rows: dr}
	typed, _ := dr.(driver.RowsColumnTypeDatabaseTypeName)
	for i, name := range dr.Columns() {
		c := warehouse.Column{Name: name}
		if typed != nil {
			c.Type = typed.ColumnTypeDatabaseTypeName(i)
			c.Kind = w.dialect.KindOf(c.Type)
		}
		r.columns = append(r.columns, c)
	}
	r.raw = make([]driver.Value, len(r.columns))
	r.values = make([]any, len(r.columns))
	return r, nil
}

func (r *rows) Columns() []warehouse.Column { return r.columns }

func (r *rows) Next() bool {
	if r.err != nil {
		return false
	}
	err := r.rows.Next(r.raw)
	if errors.Is(err, io.EOF) {
		return false
	}
	r.err = wrap(err)
	return r.err == nil
}

func (r *rows) Values() ([]any, error) {
	for i, v := range r.raw {
		switch v := v.(type) {
		case nil, bool, int64, float64, string:
			r.values[i] = v
		default:
			plain, err := convert(v)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", r.columns[i].Name, err)
			}
			r.values[i] = plain
		}
	}
	return r.values, nil
}

func (r *rows) Err() error { return r.err }

func (r *rows) Close() error {
	if r.conn == nil {
		return nil
	}
	if r.cells != nil {
		r.cells.release()
	}
	err := r.rows.Close()
	if cerr := r.conn.Close(); err == nil {
		err = cerr
	}
	r.conn = nil
	return wrap(err)
}

// convert turns what the driver gives into the Go types that warehouse.Rows promises.
func convert(v any) (any, error) {
	switch v := v.(type) {
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint64:
		return new(big.Int).SetUint64(v).String(), nil
	case float32:
		return float64(v), nil
	case time.Time:
		return v.UTC(), nil
	case *big.Int:
		return v.String(), nil
	case duck.Decimal:
		return v.String(), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case duck.UUID:
		return v.String(), nil
	case duck.Interval:
		return fmt.Sprintf("%d months %d days %d us", v.Months, v.Days, v.Micros), nil
	default:
		b, err := json.Marshal(v)
		return string(b), err
	}
}
