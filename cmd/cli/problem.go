package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/report"
)

// fail shows an error in the form asked for and returns its exit code.
func (a *app) fail(ctx context.Context, err error) int {
	a.progress.stop()
	found := problems(ctx, err)
	if a.json() {
		a.printJSON(errorDocument(found))
	} else {
		a.tell(found)
	}
	return exitCode(found)
}

// tell writes problems to stderr: as lines for people, or as log lines where those were asked for.
func (a *app) tell(found []*diag.Error) {
	if a.flags.logFormat == "json" {
		a.logProblems(found)
	} else {
		a.printProblems(found)
	}
}

// problems flattens an error's tree to the things a user can read one by one; it is never empty.
func problems(ctx context.Context, err error) []*diag.Error {
	var found []*diag.Error
	var walk func(error)
	walk = func(err error) {
		if e, ok := err.(*diag.Error); ok { //nolint:errorlint // the tree is walked here, level by level
			found = append(found, e)
			return
		}
		switch inner := err.(type) { //nolint:errorlint // as above
		case interface{ Unwrap() []error }:
			for _, e := range inner.Unwrap() {
				walk(e)
			}
		case interface{ Unwrap() error }:
			if e := inner.Unwrap(); e != nil {
				walk(e)
			}
		}
	}
	walk(err)
	hinted(found)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) { // said once, however many steps were cut off by it
		cut := func(e *diag.Error) bool { return e.Kind == diag.Interrupted || errors.Is(e, context.Canceled) }
		interrupted := diag.Errorf(diag.Interrupted, "interrupted", "interrupted")
		interrupted.Hint = "what was acknowledged is kept; run it again to go on"
		return append(distinct(slices.DeleteFunc(found, cut)), interrupted)
	}
	if len(found) > 0 {
		return distinct(found)
	}
	rest := []*diag.Error{{Kind: diag.Failed, Code: "failed", Err: err}}
	hinted(rest)
	return rest
}

// hinted adds the way out that the warehouse knows, where nobody on the way knew a better one.
func hinted(found []*diag.Error) {
	for i, e := range found {
		var q *warehouse.QueryError
		if e.Hint == "" && errors.As(e, &q) && q.Hint != "" {
			with := *e
			with.Hint = q.Hint
			found[i] = &with
		}
	}
}

// distinct drops what is said already: one broken model stops many syncs.
func distinct(found []*diag.Error) []*diag.Error {
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(e *diag.Error) bool {
		said := seen[e.Error()]
		seen[e.Error()] = true
		return said
	})
}

// exitCode is the gravest of several (DESIGN §9).
func exitCode(found []*diag.Error) int {
	codes := make([]int, len(found))
	for i, e := range found {
		codes[i] = e.Kind.ExitCode()
	}
	return gravest(codes)
}

// gravest is the first of 130, 2, 1, 5, 4, 3, 0 that is present; a code outside that list counts as 1 does.
func gravest(codes []int) int {
	order := []int{0, 3, 4, 5, 1, 2, 130}
	rank := 0
	for _, code := range codes {
		at := 4
		for i, c := range order {
			if c == code {
				at = i
			}
		}
		rank = max(rank, at)
	}
	return order[rank]
}

// problem is an error as JSON shows it.
func problem(e *diag.Error) report.Problem {
	return report.Problem{Code: e.Code, Message: e.Message(), Hint: e.Hint, At: e.Pos.String()}
}

// errorDocument is DESIGN §9's shape; several problems stand in "errors" too.
func errorDocument(found []*diag.Error) any {
	type document struct {
		Error  report.Problem   `json:"error"`
		Errors []report.Problem `json:"errors,omitempty"`
	}
	doc := document{Error: problem(found[0])}
	if len(found) > 1 {
		for _, e := range found {
			doc.Errors = append(doc.Errors, problem(e))
		}
	}
	return doc
}

func (a *app) logProblems(found []*diag.Error) {
	log := slog.New(logHandler(a.stderr, "json", slog.LevelError))
	for _, e := range found {
		log.Error(e.Message(), "code", e.Code, "hint", e.Hint, "at", e.Pos.String())
	}
}

// printProblems writes one line a problem where a file is to blame, so that editors can jump to it; other problems have
// their way out on a line of its own.
func (a *app) printProblems(found []*diag.Error) {
	s := a.err
	for _, e := range found {
		switch {
		case !e.Pos.IsZero():
			line := s.bold(e.Pos.String()+":") + " " + e.Message()
			if e.Hint != "" {
				line += s.dim(" (" + e.Hint + ")")
			}
			s.line("%s", line)
		case e.Hint != "":
			s.line("%s %s", s.red("error:"), e.Message())
			s.line("%s", s.dim("  "+strings.ReplaceAll(e.Hint, "\n", "\n  ")))
		default:
			s.line("%s %s", s.red("error:"), e.Message())
		}
	}
	if len(found) > 1 {
		s.line("%s", s.red(fmt.Sprintf("%d problems", len(found))))
	}
}
