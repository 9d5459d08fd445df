package file

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// rowWriter writes changes in one format. An error means that the file cannot be used any more; a row whose own values the
// format cannot carry is rejected in outcomes and left out.
type rowWriter interface {
	write(changes []destination.Change, outcomes []destination.Outcome) error
	close() error
}

func newRowWriter(format string, w io.Writer, s *destination.Schema) (rowWriter, error) {
	switch format {
	case csv:
		return newCSV(w, s)
	case parquet:
		return newParquet(w, s), nil
	default:
		encoder, err := encode.New(s)
		if err != nil {
			return nil, &destination.Error{Class: destination.Stop, Code: "field_conflict", Message: err.Error(), Hint: "give one of the fields another name", Err: err}
		}
		return &lines{w: w, append: encoder.Change, end: "\n"}, nil
	}
}

func delivered() destination.Outcome { return destination.Outcome{Class: destination.Delivered} }

func rejected(err error) destination.Outcome {
	return destination.Outcome{Class: destination.Rejected, Code: "invalid_value", Message: err.Error()}
}

// lines writes text formats: a row a line, a batch a write.
type lines struct {
	w      io.Writer
	append func(dst []byte, c *destination.Change) ([]byte, error)
	end    string
	buffer []byte
}

func (l *lines) write(changes []destination.Change, outcomes []destination.Outcome) error {
	l.buffer = l.buffer[:0]
	for i := range changes {
		row, err := l.append(l.buffer, &changes[i])
		if err != nil {
			outcomes[i] = rejected(err)
			continue
		}
		l.buffer = append(row, l.end...)
		outcomes[i] = delivered()
	}
	_, err := l.w.Write(l.buffer)
	return err
}

func (l *lines) close() error { return nil }

// columns are the names and kinds of a flat file: operation, keys, fields, dedupe_id.
func columns(s *destination.Schema) []destination.Column {
	taken := map[string]bool{"operation": true, "dedupe_id": true}
	out := []destination.Column{{Name: "operation"}}
	for _, k := range s.Key {
		name := unique(taken, "key.", flat(k))
		out = append(out, destination.Column{Name: name, Kind: k.Kind, Type: k.Type})
	}
	for _, f := range s.Fields {
		name := unique(taken, "fields.", flat(f))
		out = append(out, destination.Column{Name: name, Kind: f.Kind, Type: f.Type})
	}
	return append(out, destination.Column{Name: "dedupe_id"})
}

func flat(c destination.Column) string {
	if len(c.Path) > 0 {
		return strings.Join(c.Path, ".")
	}
	return c.Name
}

func unique(taken map[string]bool, prefix, name string) string {
	for taken[name] {
		name = prefix + name
	}
	taken[name] = true
	return name
}

// cells calls each with the values of a change, in the order of columns; of a remove the fields that are not sent are nil.
func cells(s *destination.Schema, c *destination.Change, each func(i int, v any) error) error {
	if len(c.Key) != len(s.Key) || len(c.Fields) != len(s.Fields) && len(c.Fields) != 0 {
		return errors.New("the row does not fit its schema")
	}
	if err := each(0, string(c.Operation)); err != nil {
		return err
	}
	n := 1
	for _, v := range c.Key {
		if err := each(n, v); err != nil {
			return err
		}
		n++
	}
	for i := range s.Fields {
		var v any
		if i < len(c.Fields) && (c.Operation != destination.OpRemove || c.Sends(i)) {
			v = c.Fields[i]
		}
		if err := each(n, v); err != nil {
			return err
		}
		n++
	}
	return each(n, c.DedupeID)
}

// newCSV writes the header. RFC 4180, except that lines end with a line feed.
func newCSV(w io.Writer, s *destination.Schema) (rowWriter, error) {
	cols := columns(s)
	var header []byte
	for i, c := range cols {
		if i > 0 {
			header = append(header, ',')
		}
		header = quoted(header, c.Name)
	}
	if _, err := w.Write(append(header, '\n')); err != nil {
		return nil, err
	}
	appendRow := func(dst []byte, c *destination.Change) ([]byte, error) {
		start := len(dst)
		err := cells(s, c, func(i int, v any) error {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			dst, err = appendCell(dst, v, cols[i].Kind)
			return err
		})
		if err != nil {
			return dst[:start], err
		}
		return dst, nil
	}
	return &lines{w: w, append: appendRow, end: "\n"}, nil
}

func appendCell(dst []byte, v any, kind warehouse.Kind) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return dst, nil
	case string:
		return quoted(dst, v), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		return encode.Float(dst, v)
	case time.Time:
		return encode.Time(dst, v, kind)
	default:
		return dst, encode.ErrValue
	}
}

// quoted writes a text; the empty one in quotes, which tells it from NULL.
func quoted(dst []byte, s string) []byte {
	if s != "" && !strings.ContainsAny(s, ",\"\r\n") && s[0] != ' ' && s[len(s)-1] != ' ' {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}
