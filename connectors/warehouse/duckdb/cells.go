package duckdb

import (
	"database/sql/driver"
	"reflect"
	"time"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// cells reads the vectors of a result where DuckDB has them (docs/decisions/0008). The driver makes a Go value of each, which
// costs more than the query and most of what the garbage collector does during a delivery.
type cells struct {
	result  mapping.Result
	chunk   mapping.DataChunk
	columns []vector
	size    int
	at      int
}

// vector is one column of a chunk: valid as long as the chunk.
type vector struct {
	kind  mapping.Type
	data  unsafe.Pointer
	valid *uint64 // one bit a row; nil = no row is NULL
}

// Cells gives the result in place if all its columns are of the types that Dialect.Wire makes. Nothing may have been read before.
func (r *rows) Cells() (warehouse.Cells, bool) {
	result, ok := resultOf(r.rows)
	if !ok {
		return nil, false
	}
	for i := range r.columns {
		switch mapping.ColumnType(&result, mapping.IdxT(i)) {
		case mapping.TypeBoolean, mapping.TypeBigInt, mapping.TypeDouble, mapping.TypeDate, mapping.TypeTimestamp, mapping.TypeVarchar,
			mapping.TypeTinyInt, mapping.TypeInteger:
		default:
			return nil, false
		}
	}
	r.cells = &cells{result: result, columns: make([]vector, len(r.columns))}
	r.cells.at = -1
	return r.cells, true
}

// resultOf takes the result out of the driver's rows, which do not offer it. A driver whose rows are made otherwise is read by
// values, as it offers them; TestCells fails then.
func resultOf(r driver.Rows) (mapping.Result, bool) {
	v := reflect.ValueOf(r)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return mapping.Result{}, false
	}
	field := v.Elem().FieldByName("res")
	if !field.IsValid() || field.Type() != reflect.TypeFor[mapping.Result]() {
		return mapping.Result{}, false
	}
	return *(*mapping.Result)(unsafe.Pointer(field.UnsafeAddr())), true
}

func (c *cells) Next() bool {
	c.at++
	for c.at >= c.size {
		c.release()
		c.chunk = mapping.FetchChunk(c.result)
		if c.chunk.Ptr == nil {
			return false
		}
		c.size, c.at = int(mapping.DataChunkGetSize(c.chunk)), 0
		for i := range c.columns {
			v := mapping.DataChunkGetVector(c.chunk, mapping.IdxT(i))
			c.columns[i] = vector{
				kind: mapping.ColumnType(&c.result, mapping.IdxT(i)), data: mapping.VectorGetData(v),
				valid: (*uint64)(mapping.VectorGetValidity(v)),
			}
		}
	}
	return true
}

// release lets go of the chunk; rows.Close calls it too.
func (c *cells) release() {
	if c.chunk.Ptr != nil {
		mapping.DestroyDataChunk(&c.chunk)
		c.chunk.Ptr = nil
	}
	c.size, c.at = 0, 0
}

func (c *cells) Null(column int) bool {
	v := &c.columns[column]
	if v.valid == nil {
		return false
	}
	word := *(*uint64)(unsafe.Add(unsafe.Pointer(v.valid), c.at/64*8))
	return word>>(c.at%64)&1 == 0
}

// cell is the value of a row in a vector of fixed width.
func cell[T any](v *vector, row int) T {
	var zero T
	return *(*T)(unsafe.Add(v.data, uintptr(row)*unsafe.Sizeof(zero)))
}

func (c *cells) Int(column int) int64 {
	switch v := &c.columns[column]; v.kind {
	case mapping.TypeBigInt:
		return cell[int64](v, c.at)
	case mapping.TypeInteger:
		return int64(cell[int32](v, c.at))
	case mapping.TypeTinyInt:
		return int64(cell[int8](v, c.at))
	}
	return 0
}

func (c *cells) Float(column int) float64 {
	if v := &c.columns[column]; v.kind == mapping.TypeDouble {
		return cell[float64](v, c.at)
	}
	return 0
}

func (c *cells) Bool(column int) bool {
	v := &c.columns[column]
	return v.kind == mapping.TypeBoolean && cell[uint8](v, c.at) != 0
}

func (c *cells) Time(column int) time.Time {
	switch v := &c.columns[column]; v.kind {
	case mapping.TypeTimestamp:
		return time.UnixMicro(cell[int64](v, c.at)).UTC()
	case mapping.TypeDate:
		return time.Unix(int64(cell[int32](v, c.at))*(24*60*60), 0).UTC()
	}
	return time.Time{}
}

// inlined is how long a text is at most that stands in the vector itself.
const inlined = 12

// Text reads a duckdb_string_t: a length of 32 bits, then the text itself or, behind its first four bytes, a pointer to it.
func (c *cells) Text(column int) string {
	v := &c.columns[column]
	if v.kind != mapping.TypeVarchar {
		return ""
	}
	at := unsafe.Add(v.data, uintptr(c.at)*16)
	n := *(*uint32)(at)
	if n == 0 {
		return ""
	}
	text := unsafe.Add(at, 4)
	if n > inlined {
		text = *(*unsafe.Pointer)(unsafe.Add(at, 8))
	}
	return unsafe.String((*byte)(text), int(n))
}
