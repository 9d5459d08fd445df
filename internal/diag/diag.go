// Package diag is how Dray says what is wrong: where, what, and the way out.
//
// Every problem a user can cause or solve is an *Error. Problems of a project are collected in a List and returned
// together, so that one run of `dray validate` shows all of them. The Kind decides the exit code (DESIGN §9).
// No customer value and no secret may be put into any field (I6).
package diag

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Pos is a place in a project's file. Line and Col count from 1; 0 means unknown.
type Pos struct {
	File      string // relative to the project's directory, with forward slashes
	Line, Col int
}

// IsZero reports whether the position is unknown.
func (p Pos) IsZero() bool { return p.File == "" && p.Line == 0 }

// String is file:line:col, leaving out what is not known.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
	}
}

// Kind says who must act, and so which exit code a command ends with.
type Kind int

// The kinds, with the exit code of each.
const (
	Invalid     Kind = iota // exit 2: the project, the call or the data's declared key is wrong; nothing was sent
	Failed                  // exit 1: a vendor or the warehouse failed
	Stopped                 // exit 4: a guard, a binding, a failing test or `requires` stopped it
	Locked                  // exit 5: another run holds the lock
	Interrupted             // exit 130
)

// ExitCode is the process's exit code for errors of this kind.
func (k Kind) ExitCode() int {
	switch k {
	case Failed:
		return 1
	case Stopped:
		return 4
	case Locked:
		return 5
	case Interrupted:
		return 130
	default:
		return 2
	}
}

// Error is one problem.
type Error struct {
	Kind Kind
	Pos  Pos    // zero where no file is to blame
	Code string // stable, dotted, for machines: "sync.unknown_field"
	Msg  string // what is wrong, one line, no trailing full stop
	Hint string // the way out: "did you mean lifecyclestage?", "run dray build first"
	// Dangling: it names something that does not exist. Such a fault stands on its own, whatever else is wrong around it.
	Dangling bool
	Err      error // the cause, for errors.Is; its text is shown after Msg
}

// Error is `file:line:col: message: cause (hint)`.
func (e *Error) Error() string {
	var b strings.Builder
	if !e.Pos.IsZero() {
		b.WriteString(e.Pos.String())
		b.WriteString(": ")
	}
	b.WriteString(e.Message())
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}
	return b.String()
}

// Message is Msg with the cause, without position and hint.
func (e *Error) Message() string {
	if e.Err == nil {
		return e.Msg
	}
	if e.Msg == "" {
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind without a position.
func Errorf(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// At makes an Invalid error at a position.
func At(pos Pos, code, format string, args ...any) *Error {
	return &Error{Pos: pos, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// WithHint returns e with the way out set.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// List is all problems found at once. The zero value is empty and ready to use.
type List []*Error

// Add appends err: an *Error as it is, a List (also a wrapped one) item by item, anything else as Invalid without a code.
// A nil err adds nothing.
func (l *List) Add(err error) {
	if err == nil {
		return
	}
	var list List
	if errors.As(err, &list) {
		*l = append(*l, list...)
		return
	}
	var e *Error
	if errors.As(err, &e) {
		*l = append(*l, e)
		return
	}
	*l = append(*l, &Error{Code: "error", Err: err})
}

// Err is nil for an empty list; otherwise the list sorted by file and place.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	sort.SliceStable(l, func(i, j int) bool {
		a, b := l[i].Pos, l[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	return l
}

// Error is one problem a line.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look into every problem.
func (l List) Unwrap() []error {
	out := make([]error, len(l))
	for i, e := range l {
		out[i] = e
	}
	return out
}

// KindOf is the kind of the first *Error in err's tree; ok is false where there is none.
func KindOf(err error) (kind Kind, ok bool) {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind, true
	}
	return Failed, false
}
