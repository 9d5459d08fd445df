package bigquery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// whole is how many bytes of rows are kept, so that an upload that broke can be repeated. Beyond it rows are sent as they come, and
// an upload that breaks fails the load.
const whole = 16 << 20

// longest is how long an upload may take.
const longest = 24 * time.Hour

// Load appends rows by one load job, which takes all of them or none. Rows that are streamed in would be there sooner, but no
// statement could change them for half an hour ("Limitations" of "Transform data with data manipulation language" in BigQuery's
// documentation).
func (w *Warehouse) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	row, err := next()
	if err != nil || row == nil {
		return 0, err
	}
	of, err := w.table(t)
	if err != nil {
		return 0, err
	}
	look, cancel := context.WithTimeout(ctx, w.patience)
	m, err := of.Metadata(look, bq.WithMetadataView(bq.BasicMetadataView))
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, wrap(err, job{})
	}
	lines := &lines{next: next, row: row}
	if lines.types, err = typesOf(m.Schema, columns); err != nil {
		return 0, err
	}
	var first bytes.Buffer
	if _, err := io.CopyN(&first, lines, whole); err != nil && lines.err != nil {
		return 0, lines.err
	}
	repeats := lines.row == nil && lines.rest.Len() == 0
	broken := false
	limit := w.patience
	if !repeats { // all of it takes as long as it takes; each chunk no longer than a request
		limit = longest
	}
	done, err := w.jobs(ctx, limit, func(ctx context.Context, id string) (*bq.Job, error) {
		if broken {
			return nil, &warehouse.QueryError{Msg: "an upload to BigQuery broke", Err: warehouse.ErrEngine, Hint: "run again"}
		}
		broken = !repeats
		var from io.Reader = bytes.NewReader(first.Bytes())
		if !repeats {
			from = io.MultiReader(from, lines)
		}
		source := bq.NewReaderSource(from)
		source.SourceFormat = bq.JSON
		load := of.LoaderFrom(source)
		load.JobID, load.Labels, load.JobTimeout = id, w.labels(ctx), w.o.timeout
		load.MediaOptions = []googleapi.MediaOption{googleapi.ChunkTransferTimeout(w.patience)}
		load.CreateDisposition, load.WriteDisposition = bq.CreateNever, bq.WriteAppend
		return load.Run(ctx)
	})
	if lines.err != nil { // what the caller's rows failed with, rather than what became of the upload
		return 0, lines.err
	}
	if err != nil {
		return 0, err
	}
	if stats, ok := done.LastStatus().Statistics.Details.(*bq.LoadStatistics); ok && stats.OutputRows > 0 {
		return stats.OutputRows, nil
	}
	return lines.n, nil
}

// typed is a column that is loaded.
type typed struct {
	name []byte // as JSON, with its colon
	of   bq.FieldType
	json bool // arrays, structs and JSON: the value's text is the value
}

func typesOf(s bq.Schema, columns []string) ([]typed, error) {
	out := make([]typed, len(columns))
	for i, c := range columns {
		found := false
		for _, f := range s {
			if f.Name == c {
				name, err := json.Marshal(c)
				if err != nil {
					return nil, err
				}
				out[i] = typed{append(name, ':'), f.Type, f.Repeated || f.Type == bq.RecordFieldType || f.Type == bq.JSONFieldType}
				found = true
			}
		}
		if !found {
			return nil, &warehouse.QueryError{Msg: fmt.Sprintf("the table has no column %s", c)}
		}
	}
	return out, nil
}

// lines writes rows as JSON, one a line, while it is read.
type lines struct {
	types []typed
	next  func() ([]any, error)
	row   []any // the one to come; nil at the end
	rest  bytes.Buffer
	n     int64
	err   error // of the rows
}

func (l *lines) Read(p []byte) (int, error) {
	for l.rest.Len() == 0 {
		if l.err != nil {
			return 0, l.err
		}
		if l.row == nil {
			return 0, io.EOF
		}
		if l.err = l.write(); l.err != nil {
			return 0, l.err
		}
		l.n++
		l.row, l.err = l.next()
	}
	return l.rest.Read(p)
}

func (l *lines) write() error {
	sep := byte('{')
	for i, v := range l.row {
		if v == nil {
			continue
		}
		t := l.types[i]
		text, err := t.text(v)
		if err != nil {
			return fmt.Errorf("column %s: %w", bytes.TrimSuffix(t.name, []byte(":")), err)
		}
		l.rest.WriteByte(sep)
		l.rest.Write(t.name)
		l.rest.Write(text)
		sep = ','
	}
	if sep == '{' {
		l.rest.WriteByte('{')
	}
	l.rest.WriteString("}\n")
	return nil
}

// text is a value as load jobs read it. Whole numbers stand in quotes: readers of JSON are free to take them for binary fractions.
func (t typed) text(v any) ([]byte, error) {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int64:
		return strconv.AppendQuote(nil, strconv.FormatInt(v, 10)), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.AppendQuote(nil, strconv.FormatFloat(v, 'g', -1, 64)), nil
		}
		return json.Marshal(v)
	case time.Time:
		layout := "2006-01-02T15:04:05.999999Z"
		switch t.of { //nolint:exhaustive // all others are instants
		case bq.DateFieldType:
			layout = "2006-01-02"
		case bq.DateTimeFieldType:
			layout = "2006-01-02T15:04:05.999999"
		}
		return json.Marshal(v.UTC().Format(layout))
	case string:
		if t.json {
			var out bytes.Buffer // on one line
			err := json.Compact(&out, []byte(v))
			return out.Bytes(), err
		}
		return json.Marshal(v)
	default:
		return nil, fmt.Errorf("a %T cannot be loaded", v)
	}
}
