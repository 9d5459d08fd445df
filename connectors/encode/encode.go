// Package encode writes changes as JSON straight into a buffer, for the connectors that send every field of a row.
//
// A delivery spends its time here and in the warehouse's driver. An Encoder therefore works out once a schema what comes
// before each value (quoted names, nested objects) and then only appends: no map a row, no reflection.
package encode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Encoder writes the changes of one schema. It is safe for concurrent use.
type Encoder struct{ key, fields object }

// New makes an encoder. It fails where names contradict each other: twice the same, or one that is another's parent.
func New(s *destination.Schema) (*Encoder, error) {
	key, err := newObject("key", s.Key)
	if err != nil {
		return nil, err
	}
	fields, err := newObject("field", s.Fields)
	if err != nil {
		return nil, err
	}
	return &Encoder{key: key, fields: fields}, nil
}

// Change appends {"operation","key","fields","dedupe_id"}. All fields are written; of a remove those that Send names, as given.
// A change that has its JSON is written without a look at its values.
// On an error, which is about the row's own values, dst comes back as it was.
func (e *Encoder) Change(dst []byte, c *destination.Change) ([]byte, error) {
	start := len(dst)
	dst = append(dst, `{"operation":"`...)
	dst = append(dst, c.Operation...)
	dst = append(dst, `",`...)
	if c.JSON != nil {
		dst = append(dst, c.JSON...)
	} else {
		var err error
		if dst, err = e.values(dst, c); err != nil {
			return dst[:start], err
		}
	}
	dst = append(dst, `,"dedupe_id":`...)
	dst = String(dst, c.DedupeID)
	return append(dst, '}'), nil
}

// values appends what Change.JSON holds of a change that has none.
func (e *Encoder) values(dst []byte, c *destination.Change) ([]byte, error) {
	dst = append(dst, `"key":`...)
	dst, err := e.appendKey(dst, c.Key)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `,"fields":`...)
	switch {
	case c.Operation != destination.OpRemove || c.Send == nil && len(c.Fields) > 0:
		return e.fields.append(dst, c.Fields)
	case len(c.Fields) == 0:
		return append(dst, `{}`...), nil
	default:
		return e.fields.appendSome(dst, c.Fields, c.Send)
	}
}

// Row appends a row's Change.JSON from where the warehouse has it: the key's columns, then the fields', from the first cell on. ok
// is false, and dst as it was, for a row that JSON cannot carry or that lacks a part of its key.
func (e *Encoder) Row(dst []byte, cells warehouse.Cells) (out []byte, ok bool) {
	start, keys := len(dst), len(e.key.steps)
	dst = append(dst, `"key":`...)
	if keys > 1 {
		for i := range keys {
			if cells.Null(i) {
				return dst[:start], false
			}
		}
	}
	if dst, ok = e.key.row(dst, cells, 0); !ok {
		return dst[:start], false
	}
	dst = append(dst, `,"fields":`...)
	if dst, ok = e.fields.row(dst, cells, keys); !ok {
		return dst[:start], false
	}
	return dst, true
}

// appendKey leaves out the identities that a row does not have, of a sync that names several: a key never has a part that is NULL.
func (e *Encoder) appendKey(dst []byte, key []any) ([]byte, error) {
	if !slices.Contains(key, nil) || len(key) == 1 {
		return e.key.append(dst, key)
	}
	send := make([]bool, len(key))
	for i, v := range key {
		send[i] = v != nil
	}
	return e.key.appendSome(dst, key, send)
}

// object is a JSON object made of columns: values in the order they are written, each after its prefix.
type object struct {
	steps []step
	end   string // closes what is open after the last value
	root  *branch
}

type step struct {
	prefix string // `{"address":{"city":`
	index  int    // of the column
	kind   warehouse.Kind
}

// branch is a name of a nested object; a leaf has a column.
type branch struct {
	name     string
	index    int // -1 for an object
	kind     warehouse.Kind
	children []*branch
}

func newObject(what string, columns []destination.Column) (object, error) {
	root := &branch{index: -1}
	for i, c := range columns {
		path := c.Path
		if len(path) == 0 {
			path = []string{c.Name}
		}
		if !root.add(path, i, c.Kind) {
			return object{}, diag.Errorf(diag.Invalid, "sync.field_conflict",
				"the %s %q is mapped twice, or is inside another one that is a value", what, c.Name)
		}
	}
	o := object{root: root}
	var pending strings.Builder
	root.steps(&pending, &o.steps)
	o.end = pending.String()
	return o, nil
}

// add puts a column into the tree; false if its place is taken.
func (b *branch) add(path []string, index int, kind warehouse.Kind) bool {
	last := len(path) == 1
	for _, child := range b.children {
		if child.name != path[0] {
			continue
		}
		return !last && child.index < 0 && child.add(path[1:], index, kind)
	}
	child := &branch{name: path[0], index: -1}
	b.children = append(b.children, child)
	if last {
		child.index, child.kind = index, kind
		return true
	}
	return child.add(path[1:], index, kind)
}

// steps writes the constant text between values into pending, and a step at each value.
func (b *branch) steps(pending *strings.Builder, out *[]step) {
	pending.WriteByte('{')
	for i, child := range b.children {
		if i > 0 {
			pending.WriteByte(',')
		}
		pending.Write(String(nil, child.name))
		pending.WriteByte(':')
		if child.index < 0 {
			child.steps(pending, out)
			continue
		}
		*out = append(*out, step{prefix: pending.String(), index: child.index, kind: child.kind})
		pending.Reset()
	}
	pending.WriteByte('}')
}

func (o *object) append(dst []byte, values []any) ([]byte, error) {
	var err error
	for i := range o.steps {
		s := &o.steps[i]
		if s.index >= len(values) {
			return dst, fmt.Errorf("the row has %d values, its schema %d", len(values), len(o.steps))
		}
		dst = append(dst, s.prefix...)
		if dst, err = Value(dst, values[s.index], s.kind); err != nil {
			return dst, err
		}
	}
	return append(dst, o.end...), nil
}

// row is append for cells of which the first of this object is at offset.
func (o *object) row(dst []byte, cells warehouse.Cells, offset int) ([]byte, bool) {
	for i := range o.steps {
		s := &o.steps[i]
		dst = append(dst, s.prefix...)
		var err error
		if dst, err = Cell(dst, cells, offset+s.index, s.kind); err != nil {
			return dst, false
		}
	}
	return append(dst, o.end...), true
}

// appendSome writes the columns that send names; nested objects without any are left out.
func (o *object) appendSome(dst []byte, values []any, send []bool) ([]byte, error) {
	if len(values) != len(o.steps) || send != nil && len(send) != len(values) {
		return dst, fmt.Errorf("the row has %d values and %d marks, its schema %d", len(values), len(send), len(o.steps))
	}
	return o.root.appendSome(dst, values, send)
}

func (b *branch) appendSome(dst []byte, values []any, send []bool) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for _, child := range b.children {
		if !child.sent(send) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = String(dst, child.name)
		dst = append(dst, ':')
		var err error
		if child.index < 0 {
			dst, err = child.appendSome(dst, values, send)
		} else {
			dst, err = Value(dst, values[child.index], child.kind)
		}
		if err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func (b *branch) sent(send []bool) bool {
	if b.index >= 0 {
		return send == nil || send[b.index]
	}
	for _, child := range b.children {
		if child.sent(send) {
			return true
		}
	}
	return false
}
