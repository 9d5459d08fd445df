package snowflake

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	sf "github.com/snowflakedb/gosnowflake"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// rows reads a result file by file, and each file record by record, as they come over the network.
type rows struct {
	ctx     context.Context //nolint:containedctx // of one result, whose files are fetched while it is read
	of      *result
	columns []warehouse.Column
	values  []any
	err     error

	started bool
	json    [][]*string // what some statements give instead of Arrow: EXPLAIN, SHOW
	files   []sf.ArrowStreamBatch
	file    *file
	record  arrow.RecordBatch
	cells   []func(row int) (any, error)
	row     int // of the record, or of json
}

// file is one of a result's, opened.
type file struct {
	fresh  sf.ArrowStreamBatch // as it was before it was opened, to open it again
	body   io.ReadCloser
	reader *ipc.Reader
	read   int // records
	tries  int
}

// fileTries is how often a file is opened whose connection breaks while it is read.
const fileTries = 4

// Query runs one statement.
func (w *Warehouse) Query(ctx context.Context, statement string) (warehouse.Rows, error) {
	r, err := w.run(ctx, statement)
	if err != nil {
		return nil, err
	}
	return r.rows(ctx), nil
}

func (r *result) rows(ctx context.Context) *rows {
	columns := r.columns()
	return &rows{ctx: ctx, of: r, columns: columns, values: make([]any, len(columns)), row: -1}
}

func (r *rows) Columns() []warehouse.Column { return r.columns }

func (r *rows) Err() error { return r.err }

func (r *rows) Close() error {
	r.closeFile()
	r.files, r.json, r.record = nil, nil, nil
	return nil
}

func (r *rows) closeFile() {
	if r.file == nil {
		return
	}
	if r.file.reader != nil {
		r.file.reader.Release()
	}
	if r.file.body != nil {
		_ = r.file.body.Close()
	}
	r.file, r.record = nil, nil
}

func (r *rows) Next() bool {
	if r.err != nil {
		return false
	}
	if !r.started {
		r.started = true
		if r.err = r.start(); r.err != nil {
			return false
		}
	}
	r.row++
	if r.json != nil {
		return r.row < len(r.json)
	}
	for r.record == nil || r.row >= int(r.record.NumRows()) {
		more, err := r.advance()
		if err != nil {
			r.err = r.explain(err)
		}
		if !more || err != nil {
			return false
		}
	}
	return true
}

func (r *rows) start() error {
	if r.json = r.of.stream.JSONData(); len(r.json) > 0 {
		if int64(len(r.json)) < r.of.stream.TotalRows() {
			return &warehouse.QueryError{Msg: "Snowflake gives the result as JSON, of which only the beginning can be read", Err: warehouse.ErrEngine}
		}
		return nil
	}
	r.json = nil
	files, err := r.of.stream.GetBatches()
	r.files = files
	return r.explain(err)
}

// advance goes to the next record; false at the end.
func (r *rows) advance() (bool, error) {
	for {
		if r.file == nil {
			if len(r.files) == 0 {
				return false, nil
			}
			r.file, r.files = &file{fresh: r.files[0]}, r.files[1:]
		}
		record, err := r.file.next(r.ctx)
		switch {
		case errors.Is(err, io.EOF):
			r.closeFile()
			continue
		case err != nil:
			return false, err
		}
		r.record, r.row = record, 0
		if r.cells, err = r.readers(record); err != nil {
			return false, err
		}
		if record.NumRows() > 0 {
			return true, nil
		}
	}
}

// next is the file's next record. A file whose connection broke is opened again, and what was read of it already passed over.
func (f *file) next(ctx context.Context) (arrow.RecordBatch, error) {
	for {
		record, err := f.try(ctx)
		if err == nil || errors.Is(err, io.EOF) {
			return record, err
		}
		if f.tries++; f.tries >= fileTries || ctx.Err() != nil || isRefused(err) {
			return nil, err
		}
		if f.reader != nil {
			f.reader.Release()
		}
		if f.body != nil {
			_ = f.body.Close()
		}
		f.reader, f.body = nil, nil
	}
}

func (f *file) try(ctx context.Context) (arrow.RecordBatch, error) {
	if f.reader == nil {
		stream := f.fresh // a copy: GetStream remembers what it opened
		body, err := stream.GetStream(ctx)
		if err != nil {
			return nil, err
		}
		f.body = body
		if f.reader, err = ipc.NewReader(body); err != nil {
			return nil, broken(err)
		}
		for range f.read {
			if !f.reader.Next() {
				return nil, f.end()
			}
		}
	}
	if !f.reader.Next() {
		return nil, f.end()
	}
	f.read++
	return f.reader.RecordBatch(), nil
}

// end is why there is no further record.
func (f *file) end() error {
	if err := f.reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return broken(err)
	}
	return io.EOF
}

// broken keeps an end that came too early from being one: io.EOF is not to be found in it.
func broken(err error) error {
	return fmt.Errorf("a file of the result broke off: %s", err.Error())
}

// isRefused is a file that Snowflake, or the storage it lies in, does not give.
func isRefused(err error) bool {
	var e *sf.SnowflakeError
	return errors.As(err, &e)
}

func (r *rows) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	}
	var e *sf.SnowflakeError
	if errors.As(err, &e) && e.Number == sf.ErrFailedToGetChunk {
		return &warehouse.QueryError{Msg: "a file of the result could not be fetched", Err: warehouse.ErrEngine, Hint: "run again: links to a result are good for a few hours. A network that lets only Snowflake's hosts through must let those of SYSTEM$ALLOWLIST() through too"}
	}
	return r.of.w.wrap(err, r.of.id)
}

func (r *rows) Values() ([]any, error) {
	for i := range r.values {
		var err error
		switch {
		case r.json != nil:
			r.values[i], err = r.of.types[i].fromText(r.json[r.row][i], r.columns[i].Kind)
		default:
			r.values[i], err = r.cells[i](r.row)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", r.columns[i].Name, err)
		}
	}
	return r.values, nil
}

// readers are one a column of a record.
func (r *rows) readers(record arrow.RecordBatch) ([]func(int) (any, error), error) {
	out := make([]func(int) (any, error), record.NumCols())
	if len(out) != len(r.columns) {
		return nil, fmt.Errorf("the result has %d columns, and its file %d", len(r.columns), len(out))
	}
	for i := range out {
		column := record.Column(i)
		read, err := r.of.types[i].reader(column, r.columns[i].Kind)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", r.columns[i].Name, err)
		}
		out[i] = func(row int) (any, error) {
			if column.IsNull(row) {
				return nil, nil
			}
			return read(row)
		}
	}
	return out, nil
}

// reader gives what is in an Arrow column the Go types that warehouse.Rows promises. Snowflake keeps numbers in the smallest type in
// which all of a file's fit, without their point, which is in the description of the result, and times as numbers of seconds or parts
// of one.
func (t rowType) reader(column arrow.Array, kind warehouse.Kind) (func(int) (any, error), error) {
	switch t.typ {
	case "fixed":
		whole, err := integers(column)
		if err != nil {
			return nil, err
		}
		return func(row int) (any, error) { return t.number(whole(row), kind) }, nil
	case "date":
		if c, ok := column.(*array.Date32); ok {
			return func(row int) (any, error) { return day(int64(c.Value(row))), nil }, nil
		}
	case "time":
		if whole, err := integers(column); err == nil {
			return func(row int) (any, error) { return t.clock(whole(row).Int64()), nil }, nil
		}
	case "timestamp_ntz", "timestamp_ltz", "timestamp_tz":
		return t.instants(column)
	}
	switch c := column.(type) {
	case *array.String:
		return func(row int) (any, error) { return strings.Clone(c.Value(row)), nil }, nil
	case *array.Boolean:
		return func(row int) (any, error) { return c.Value(row), nil }, nil
	case *array.Float64:
		return func(row int) (any, error) { return c.Value(row), nil }, nil
	case *array.Binary:
		return func(row int) (any, error) { return base64.StdEncoding.EncodeToString(c.Value(row)), nil }, nil
	}
	return nil, fmt.Errorf("a %s comes as %s, which is not read here: cast it to VARCHAR", strings.ToUpper(t.typ), column.DataType())
}

func integers(column arrow.Array) (func(row int) *big.Int, error) {
	switch c := column.(type) {
	case *array.Int8:
		return func(row int) *big.Int { return big.NewInt(int64(c.Value(row))) }, nil
	case *array.Int16:
		return func(row int) *big.Int { return big.NewInt(int64(c.Value(row))) }, nil
	case *array.Int32:
		return func(row int) *big.Int { return big.NewInt(int64(c.Value(row))) }, nil
	case *array.Int64:
		return func(row int) *big.Int { return big.NewInt(c.Value(row)) }, nil
	case *array.Decimal128:
		return func(row int) *big.Int { return c.Value(row).BigInt() }, nil
	}
	return nil, fmt.Errorf("numbers come as %s", column.DataType())
}

// number is a whole number with the point put in.
func (t rowType) number(n *big.Int, kind warehouse.Kind) (any, error) {
	if kind == warehouse.Int {
		if !n.IsInt64() {
			return nil, errors.New("a number does not fit 64 bits: cast the column to NUMBER(38, 0)")
		}
		return n.Int64(), nil
	}
	return pointed(n, t.scale), nil
}

func pointed(n *big.Int, scale int) string {
	s := n.String()
	if scale == 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if len(s) <= scale {
		s = strings.Repeat("0", scale-len(s)+1) + s
	}
	return sign + s[:len(s)-scale] + "." + s[len(s)-scale:]
}

func day(n int64) time.Time { return time.Unix(n*24*60*60, 0).UTC() }

// split takes parts of a second apart into seconds and nanoseconds.
func (t rowType) split(n int64) (seconds, nanos int64) {
	whole, part := int64(1), int64(1_000_000_000)
	for range t.scale {
		whole, part = whole*10, part/10
	}
	seconds, rest := n/whole, n%whole
	if rest < 0 {
		seconds, rest = seconds-1, rest+whole
	}
	return seconds, rest * part
}

// clock is a time of day.
func (t rowType) clock(n int64) string {
	seconds, nanos := t.split(n)
	return time.Unix(seconds, nanos).UTC().Format("15:04:05.999999999")
}

// instants reads timestamps: a number of parts of a second, or, where that would not fit, seconds and nanoseconds apart; those with a
// zone have its offset behind, which does not change the instant.
func (t rowType) instants(column arrow.Array) (func(int) (any, error), error) {
	switch c := column.(type) {
	case *array.Int64:
		return func(row int) (any, error) {
			return time.Unix(t.split(c.Value(row))).UTC(), nil
		}, nil
	case *array.Struct:
		first, ok := c.Field(0).(*array.Int64)
		if !ok {
			break
		}
		if c.NumField() == 2 && t.typ == "timestamp_tz" {
			return func(row int) (any, error) { return time.Unix(t.split(first.Value(row))).UTC(), nil }, nil
		}
		if nanos, ok := c.Field(1).(*array.Int32); ok {
			return func(row int) (any, error) { return time.Unix(first.Value(row), int64(nanos.Value(row))).UTC(), nil }, nil
		}
	}
	return nil, fmt.Errorf("times come as %s", column.DataType())
}

// fromText reads a value of a result in JSON, where all are texts.
func (t rowType) fromText(s *string, kind warehouse.Kind) (any, error) {
	if s == nil {
		return nil, nil
	}
	switch t.typ {
	case "fixed":
		if kind == warehouse.Int {
			return strconv.ParseInt(*s, 10, 64)
		}
	case "real":
		return strconv.ParseFloat(*s, 64)
	case "boolean":
		return strconv.ParseBool(*s)
	case "date":
		n, err := strconv.ParseInt(*s, 10, 64)
		return day(n), err
	case "time":
		at, err := instant(*s)
		return at.Format("15:04:05.999999999"), err
	case "timestamp_ntz", "timestamp_ltz", "timestamp_tz":
		first, _, _ := strings.Cut(*s, " ") // the zone's offset
		return instant(first)
	case "binary":
		b, err := hex.DecodeString(*s)
		return base64.StdEncoding.EncodeToString(b), err
	}
	return *s, nil
}

// instant reads seconds with a fraction.
func instant(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(fraction) > 9 {
		return time.Time{}, errors.New("a time that does not read")
	}
	nanos, err := strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	if err != nil {
		return time.Time{}, errors.New("a time that does not read")
	}
	if strings.HasPrefix(whole, "-") {
		nanos = -nanos
	}
	return time.Unix(seconds, nanos).UTC(), nil
}
