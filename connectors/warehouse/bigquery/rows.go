package bigquery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	bq "cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"
	"google.golang.org/api/iterator"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// large is how many rows a result has at least that the Storage Read API is asked for: it takes two more requests before the first
// row, and is several times as fast from then on. The REST API gives at most 10 MB a page.
const large = 10_000

// rows reads a result page by page over the REST API.
type rows struct {
	it      *bq.RowIterator
	job     job
	columns []warehouse.Column
	schema  bq.Schema
	row     []bq.Value
	values  []any
	watch   *watch
	err     error
}

// Query runs one statement. Its pages are fetched while they are read.
func (w *Warehouse) Query(ctx context.Context, statement string) (warehouse.Rows, error) {
	j, err := w.run(ctx, statement)
	if err != nil {
		return nil, err
	}
	of := job{j.ID(), j.Location()}
	g := newWatch(ctx, w.patience)
	g.arm()
	it, err := j.Read(g.ctx)
	g.disarm()
	if err != nil {
		defer g.close()
		return nil, g.explain(err, of)
	}
	columns := w.columns(it.Schema)
	if w.pages != nil && it.TotalRows >= large {
		if r, err := w.pages.open(ctx, w, j, it.TotalRows, columns); err == nil {
			g.close()
			return r, nil
		} // what may not be read that way is read page by page
		if ctx.Err() != nil {
			g.close()
			return nil, ctx.Err()
		}
	}
	return &rows{it: it, job: of, columns: columns, schema: it.Schema, values: make([]any, len(columns)), watch: g}, nil
}

func (r *rows) Columns() []warehouse.Column { return r.columns }

func (r *rows) Next() bool {
	if r.err != nil {
		return false
	}
	if r.it.PageInfo().Remaining() == 0 {
		r.watch.arm()
		defer r.watch.disarm()
	}
	err := r.it.Next(&r.row)
	if errors.Is(err, iterator.Done) {
		return false
	}
	r.err = r.watch.explain(err, r.job)
	return r.err == nil
}

func (r *rows) Values() ([]any, error) {
	for i, v := range r.row {
		plain, err := convert(v, r.schema[i])
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", r.columns[i].Name, err)
		}
		r.values[i] = plain
	}
	return r.values, nil
}

func (r *rows) Err() error { return r.err }

func (r *rows) Close() error {
	r.watch.close()
	return nil
}

// watch ends requests that stay without an answer: the client library repeats them for as long as its context lives, and that of a
// result lives until its last page.
type watch struct {
	outer    context.Context //nolint:containedctx // of one result, as the iterator's is
	ctx      context.Context //nolint:containedctx // of one result, as the iterator's is
	stop     context.CancelCauseFunc
	patience time.Duration
	timer    *time.Timer
}

var errPatience = errors.New("no answer in time")

func newWatch(ctx context.Context, patience time.Duration) *watch {
	w := &watch{outer: ctx, patience: patience}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	return w
}

func (w *watch) arm() {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.patience, func() { w.stop(errPatience) })
		return
	}
	w.timer.Reset(w.patience)
}

func (w *watch) disarm() { w.timer.Stop() }

func (w *watch) close() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.stop(nil)
}

func (w *watch) explain(err error, j job) error {
	switch {
	case err == nil:
		return nil
	case w.outer.Err() != nil:
		return w.outer.Err()
	case errors.Is(context.Cause(w.ctx), errPatience):
		if _, ok := failureOf(err); !ok {
			err = context.DeadlineExceeded
		}
	}
	return wrap(err, j)
}

// convert turns what the client gives into the Go types that warehouse.Rows promises.
func convert(v bq.Value, f *bq.FieldSchema) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, string:
		return v, nil
	case time.Time:
		return v.UTC(), nil
	case civil.Date:
		return v.In(time.UTC), nil
	case civil.DateTime:
		return v.In(time.UTC), nil
	case civil.Time:
		return bq.CivilTimeString(v), nil
	case *big.Rat:
		return digits(v), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case fmt.Stringer:
		return v.String(), nil
	}
	nested, err := plain(v, f)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(nested)
	return string(b), err
}

// bigScale is how many digits behind the point a BIGNUMERIC has.
const bigScale = 38

// digits writes a decimal as BigQuery does, without zeros at its end.
func digits(r *big.Rat) string {
	s := r.FloatString(bigScale)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// plain makes of arrays and structs what JSON has for them.
func plain(v bq.Value, f *bq.FieldSchema) (any, error) {
	list, ok := v.([]bq.Value)
	switch {
	case ok && f.Repeated:
		element := *f
		element.Repeated = false
		out := make([]any, len(list))
		for i, e := range list {
			p, err := plain(e, &element)
			if err != nil {
				return nil, err
			}
			out[i] = p
		}
		return out, nil
	case ok && len(list) == len(f.Schema):
		out := make(map[string]any, len(list))
		for i, e := range list {
			p, err := plain(e, f.Schema[i])
			if err != nil {
				return nil, err
			}
			out[f.Schema[i].Name] = p
		}
		return out, nil
	case ok:
		return nil, errors.New("a value is not of its column's type")
	}
	switch v := v.(type) {
	case *bq.RangeValue:
		return map[string]any{"start": fmt.Sprint(v.Start), "end": fmt.Sprint(v.End)}, nil
	case string:
		if f.Type == bq.JSONFieldType {
			return json.RawMessage(v), nil
		}
	case *big.Rat:
		return json.Number(digits(v)), nil
	case civil.Date:
		return v.String(), nil
	case civil.DateTime:
		return v.String(), nil
	case time.Time:
		return v.UTC(), nil
	}
	return convert(v, f)
}
