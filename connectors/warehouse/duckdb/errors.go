package duckdb

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	duck "github.com/duckdb/duckdb-go/v2"

	"github.com/dray-dev/dray/connectors/warehouse"
)

var (
	linePart   = regexp.MustCompile(`(?s)\s*\n+LINE (\d+):.*$`)
	quoted     = regexp.MustCompile(`(?s)'(?:[^']|'')*'|"(?:[^"]|"")*"`)
	csvLine    = regexp.MustCompile(`CSV Error on Line: (\d+)`)
	csvSayings = regexp.MustCompile(`(?m)^(Original Line|\s*Possible fixes|\s*\*|  \w).*$`)
)

// wrap makes the engine's error one of the contract's. What it quotes of the data is taken out (I6): DuckDB puts values into
// conversion and constraint errors and whole lines into CSV errors; in catalog, binder and parser errors it quotes names.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	var known *warehouse.QueryError
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	msg := strings.TrimPrefix(err.Error(), "could not open database: ")
	out := &warehouse.QueryError{Msg: msg}
	var de *duck.Error
	kind := duck.ErrorTypeUnknownType
	if errors.As(err, &de) {
		kind, out.Msg = de.Type, de.Msg
		msg = de.Msg
	}
	if m := linePart.FindStringSubmatch(msg); m != nil {
		out.Line, _ = strconv.Atoi(m[1])
		out.Msg = linePart.ReplaceAllString(msg, "")
	}
	switch {
	case strings.Contains(msg, "Could not set lock on file"), strings.Contains(msg, "Conflicting lock"):
		out.Err = warehouse.ErrLocked
	case strings.Contains(msg, "read-only"), strings.Contains(msg, "ermission denied"):
		out.Err = warehouse.ErrReadOnly
	case kind == duck.ErrorTypeOutOfMemory, kind == duck.ErrorTypeFatal, kind == duck.ErrorTypeInternal, kind == duck.ErrorTypeInterrupt,
		strings.Contains(msg, "No space left"), strings.Contains(msg, "Could not write"):
		out.Err = warehouse.ErrEngine
	case kind == duck.ErrorTypeCatalog, kind == duck.ErrorTypeBinder, kind == duck.ErrorTypeParser, kind == duck.ErrorTypeIO:
		if kind == duck.ErrorTypeCatalog && strings.Contains(msg, "does not exist") {
			out.Err = warehouse.ErrNotFound
		}
	default:
		if m := csvLine.FindStringSubmatch(msg); m != nil {
			out.Msg = "a CSV file does not read: line " + m[1] + csvReason(msg)
			break
		}
		out.Msg = quoted.ReplaceAllString(out.Msg, "'***'")
	}
	if i := strings.IndexByte(out.Msg, '\n'); i > 0 && kind != duck.ErrorTypeCatalog && kind != duck.ErrorTypeBinder {
		out.Msg = out.Msg[:i]
	}
	out.Msg = strings.Join(strings.Fields(out.Msg), " ")
	return out
}

// csvReason is the sentence of a CSV error that says what is wrong, without the line itself.
func csvReason(msg string) string {
	for line := range strings.Lines(csvSayings.ReplaceAllString(msg, "")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.Contains(line, "CSV Error on Line") {
			continue
		}
		return ": " + quoted.ReplaceAllString(line, "'***'")
	}
	return ""
}
