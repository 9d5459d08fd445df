package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// rows reads as the server sends: what was not asked for yet waits there, so that memory does not grow with the result.
type rows struct {
	rows    pgx.Rows
	columns []warehouse.Column
	values  []any
	query   string
}

// Query runs one statement and holds one connection until the rows are closed.
func (w *Warehouse) Query(ctx context.Context, statement string) (warehouse.Rows, error) {
	got, err := w.pool.Query(ctx, statement)
	if err != nil {
		return nil, wrap(err, statement)
	}
	r := &rows{rows: got, query: statement}
	types := pgtype.NewMap()
	for _, f := range got.FieldDescriptions() {
		c := warehouse.Column{Name: f.Name}
		if t, ok := types.TypeForOID(f.DataTypeOID); ok {
			c.Type = t.Name
			c.Kind = w.dialect.KindOf(t.Name)
		}
		r.columns = append(r.columns, c)
	}
	r.values = make([]any, len(r.columns))
	if err := got.Err(); err != nil {
		got.Close()
		return nil, wrap(err, statement)
	}
	return r, nil
}

func (r *rows) Columns() []warehouse.Column { return r.columns }

func (r *rows) Next() bool { return r.rows.Next() }

func (r *rows) Values() ([]any, error) {
	raw, err := r.rows.Values()
	if err != nil {
		return nil, wrap(err, r.query)
	}
	for i, v := range raw {
		if r.values[i], err = convert(v); err != nil {
			return nil, fmt.Errorf("column %s: %w", r.columns[i].Name, err)
		}
	}
	return r.values, nil
}

func (r *rows) Err() error { return wrap(r.rows.Err(), r.query) }

func (r *rows) Close() error {
	r.rows.Close()
	return nil
}

// convert turns what the driver gives into the Go types that warehouse.Rows promises.
func convert(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, string:
		return v, nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case time.Time:
		return v.UTC(), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case [16]byte:
		return uuid.UUID(v).String(), nil
	case pgtype.Numeric, pgtype.Interval, pgtype.Time:
		if valuer, ok := v.(driver.Valuer); ok {
			text, err := valuer.Value()
			return text, err
		}
		return fmt.Sprint(v), nil
	case fmt.Stringer:
		return v.String(), nil
	default:
		b, err := json.Marshal(v)
		return string(b), err
	}
}

// digest names a text.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// Load appends rows by COPY.
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return 0, wrap(err, "")
	}
	defer conn.Release()
	name := pgx.Identifier{short(t.Name)}
	if t.Schema != "" {
		name = pgx.Identifier{short(t.Schema), short(t.Name)}
	}
	n, err := conn.CopyFrom(ctx, name, columns, pgx.CopyFromFunc(func() ([]any, error) { return next() }))
	return n, wrap(err, "")
}
