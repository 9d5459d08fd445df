package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dray-dev/dray/connectors/warehouse"
)

var quoted = regexp.MustCompile(`(?s)'(?:[^']|'')*'|"(?:[^"]|"")*"|\([^()]*\)=\([^()]*\)`)

// wrap makes the server's error one of the contract's. In errors about data the server quotes values, which are taken out (I6); in
// errors about names and syntax it quotes names.
func wrap(err error, statement string) error {
	if err == nil {
		return nil
	}
	var known *warehouse.QueryError
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		var ne net.Error
		if errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") {
			return &warehouse.QueryError{Msg: "the connection to PostgreSQL broke", Err: warehouse.ErrEngine}
		}
		return &warehouse.QueryError{Msg: quoted.ReplaceAllString(err.Error(), "'***'"), Err: err}
	}
	out := &warehouse.QueryError{Msg: pe.Message, Line: lineOf(statement, int(pe.Position))}
	if pe.InternalQuery != "" { // a statement within a block; its first line is the query's first line
		out.Line = lineOf(pe.InternalQuery, int(pe.InternalPosition))
	}
	switch class := pe.Code[:2]; {
	case pe.Code == "42P01", pe.Code == "3F000":
		out.Err = warehouse.ErrNotFound
	case pe.Code == "25006":
		out.Err = warehouse.ErrReadOnly
	case pe.Code == "42501":
		out.Err, out.Hint = warehouse.ErrDenied, grant(pe.Message)
	case pe.Code == "57014" && strings.Contains(pe.Message, "statement timeout"):
		out.Err, out.Hint = warehouse.ErrEngine, "raise statement_timeout of warehouse:, or that of the role in PostgreSQL"
	case pe.Code == "57014":
		out.Err, out.Hint = warehouse.ErrEngine, "somebody cancelled the statement in PostgreSQL: run again"
	case pe.Code == "57P01", pe.Code == "57P02", pe.Code == "57P03":
		out.Err, out.Hint = warehouse.ErrEngine, "an administrator ended the connection, or the server is going down: run again once it takes connections"
	case class == "08", class == "53", class == "57", class == "58", class == "XX", class == "40":
		out.Err = warehouse.ErrEngine
	case class == "42":
	default:
		out.Msg = quoted.ReplaceAllString(out.Msg, "'***'")
	}
	return out
}

var refused = regexp.MustCompile(`permission denied (?:for|to create) (table|view|materialized view|schema|database)? ?(\S*)`)

// grant is what an owner may do about a permission that is missing.
func grant(message string) string {
	m := refused.FindStringSubmatch(message)
	if m == nil {
		return "let the owner grant it to the user of dray: docs/guides/warehouses.md lists what it needs"
	}
	switch m[1] {
	case "schema":
		return "let its owner run: GRANT USAGE ON SCHEMA " + m[2] + " TO <the user of dray>; of a schema of Dray's own: ALTER SCHEMA … OWNER TO"
	case "database":
		return "let its owner run: CREATE SCHEMA … AUTHORIZATION <the user of dray>; or GRANT CREATE ON DATABASE " + m[2]
	}
	return "let its owner run: GRANT SELECT ON " + m[2] + " TO <the user of dray>; of a table of Dray's own: ALTER TABLE … OWNER TO"
}

// lineOf is the line of a position in a statement, both from 1; 0 where there is none.
func lineOf(statement string, position int) int {
	if position <= 0 {
		return 0
	}
	line := 1
	for i, r := range []rune(statement) {
		if i+1 >= position {
			break
		}
		if r == '\n' {
			line++
		}
	}
	return line
}
