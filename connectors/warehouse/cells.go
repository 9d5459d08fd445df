package warehouse

import (
	"strings"
	"time"
)

// Cells are the rows of a result that are read in place: no Go value is made of what is only passed on. They are Rows in another
// form, and use them up: whoever asked for Cells calls neither Next nor Values any more. Err and Close stay those of the Rows.
//
// A column is asked for as what its kind is on the wire (see Rows.Values): Int, Float, Bool, Time for dates and timestamps, and
// Text for all others. Asking for another gives a zero value. A NULL's value is not defined.
type Cells interface {
	Next() bool
	Null(column int) bool
	Int(column int) int64
	Float(column int) float64
	Bool(column int) bool
	Time(column int) time.Time
	// Text is borrowed: it is valid until Next or Close is called. Clone it to keep it.
	Text(column int) string
}

// InPlace is what Rows may offer beside: its engine lets results be read where they lie. ok is false for a result that has columns
// for which that is not so; its Rows are then as they were.
type InPlace interface {
	Cells() (c Cells, ok bool)
}

// Value makes the value that Rows.Values would have given.
func Value(c Cells, column int, k Kind) any {
	if c.Null(column) {
		return nil
	}
	switch k {
	case Bool:
		return c.Bool(column)
	case Int:
		return c.Int(column)
	case Float:
		return c.Float(column)
	case Date, Timestamp:
		return c.Time(column)
	default:
		return strings.Clone(c.Text(column))
	}
}
