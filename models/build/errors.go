package build

import (
	"context"
	"errors"
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

// refused makes an error of a model's query, if it is one, one with its place: what the warehouse says of the SQL is the user's to mend.
func (r *runner) refused(n *compile.Node, err error) error {
	var known *diag.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var query *warehouse.QueryError
	if !errors.As(err, &query) || notTheirs(err) {
		return failed(fmt.Sprintf("building %s %s", n.Kind, n.Name), err)
	}
	pos := r.prog.Locate(n, max(query.Line, 1))
	return &diag.Error{Pos: pos, Code: "model.sql", Msg: fmt.Sprintf("the warehouse refuses %s %s", n.Kind, n.Name), Err: words{query}}
}

// unreadable blames, for a model that the warehouse refuses, a source it reads that cannot be read: a user looks for a missing file
// where the file is named.
func (r *runner) unreadable(ctx context.Context, n *compile.Node, err error) error {
	var refusal *warehouse.QueryError
	if !errors.As(err, &refusal) {
		return err
	}
	var problems diag.List
	for _, id := range n.Parents {
		if parent := r.prog.Node(id); parent != nil && parent.Kind == graph.Source {
			if _, missing := r.sourceColumns(ctx, parent); missing != nil {
				problems.Add(missing)
			}
		}
	}
	if len(problems) == 0 {
		return err
	}
	return problems.Err()
}

// sourceColumns describes a source.
func (r *runner) sourceColumns(ctx context.Context, n *compile.Node) ([]warehouse.Column, error) {
	columns, err := r.deps.Warehouse.Columns(ctx, "SELECT * FROM "+r.prog.From(n.ID))
	if err == nil {
		return columns, nil
	}
	q, ok := theirs(err)
	if !ok {
		return nil, failed("looking at source "+n.Name, err)
	}
	e := &diag.Error{Pos: n.Pos, Code: "source.missing", Msg: fmt.Sprintf("source %s cannot be read", n.Name), Err: words{q}}
	if n.SourceFile != nil {
		return nil, e.WithHint("its path starts at the project's folder")
	}
	return nil, e.WithHint("load it, or say where it is: database: and schema: of source %s, name: of the table", n.Source.Name)
}

// words are what the warehouse says of a statement, without the line in it: that is in the position already.
type words struct{ query *warehouse.QueryError }

func (w words) Error() string { return w.query.Msg }

func (w words) Unwrap() error { return w.query }

// notTheirs: the statement is not to blame.
func notTheirs(err error) bool {
	return errors.Is(err, warehouse.ErrLocked) || errors.Is(err, warehouse.ErrReadOnly) || errors.Is(err, warehouse.ErrEngine) || errors.Is(err, warehouse.ErrDenied) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// failed is a failure of the warehouse itself.
func failed(what string, err error) error {
	kind := diag.Failed
	switch {
	case errors.Is(err, warehouse.ErrLocked):
		kind = diag.Locked
	case errors.Is(err, context.Canceled):
		kind = diag.Interrupted
	}
	e := &diag.Error{Kind: kind, Code: "warehouse.failed", Msg: what, Err: err}
	if errors.Is(err, warehouse.ErrReadOnly) {
		e.Hint = "the warehouse must be writable: models are built in it"
	}
	if q := (*warehouse.QueryError)(nil); errors.As(err, &q) && q.Hint != "" {
		e.Hint = q.Hint
	}
	return e
}

// theirs is the engine's refusal of a statement that the user's SQL is part of.
func theirs(err error) (*warehouse.QueryError, bool) {
	var query *warehouse.QueryError
	if notTheirs(err) || !errors.As(err, &query) {
		return nil, false
	}
	return query, true
}
