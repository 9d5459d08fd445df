package identity

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Input is one relation that tells about an entity.
type Input struct {
	*config.Input
	Source     string   // FROM item: a quoted relation, a file reader, or a query in parentheses
	PrimaryKey []string // of the model it reads; nil where none is declared
}

// Links tells whether the input's rows may bring values together. The rows of the others are only joined: they belong to the
// profile that owns their most trusted value, and values that no linking input has are nobody's.
func (in Input) Links() bool { return in.Link == nil || *in.Link }

// FromItem is the input in a FROM clause: a query has a name there, which some engines insist on; a table keeps its own, which
// the project's SQL may use.
func (in Input) FromItem() string {
	if strings.HasPrefix(in.Source, "(") {
		return in.Source + " AS input_rows"
	}
	return in.Source
}

// Relation is an input whose columns are known.
type Relation struct {
	Input
	Columns []warehouse.Column
	dialect warehouse.Dialect
}

// Describe asks the warehouse for an input's columns.
func Describe(ctx context.Context, w warehouse.Warehouse, in Input) (Relation, error) {
	columns, err := w.Columns(ctx, "SELECT * FROM "+in.Source+" AS x")
	if err != nil {
		return Relation{}, &diag.Error{Kind: kindOf(err), Pos: in.Node.At("from"), Code: "entity.input", Msg: "reading input " + in.Name, Err: err}
	}
	return Relation{Input: in, Columns: columns, dialect: w.Dialect()}, nil
}

// kindOf blames the project for a statement that the engine refuses, and the warehouse for the rest.
func kindOf(err error) diag.Kind {
	if kind, ok := diag.KindOf(err); ok {
		return kind
	}
	var refused *warehouse.QueryError
	if errors.As(err, &refused) && refused.Err == nil || errors.Is(err, warehouse.ErrNotFound) {
		return diag.Invalid
	}
	return diag.Failed
}

var plainName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_$]*$`)

// Column finds a column by name, whatever its case.
func (r Relation) Column(name string) (warehouse.Column, bool) {
	for _, c := range r.Columns {
		if strings.EqualFold(c.Name, name) {
			return c, true
		}
	}
	return warehouse.Column{}, false
}

// Expr is SQL for a column named in YAML. What is no column, and no plain name either, is taken for an expression.
func (r Relation) Expr(text string, pos diag.Pos) (string, error) {
	text = strings.TrimSpace(text)
	if c, ok := r.Column(text); ok {
		return r.dialect.Quote(c.Name), nil
	}
	if text != "" && !plainName.MatchString(text) {
		return "(" + text + ")", nil
	}
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = c.Name
	}
	e := diag.At(pos, "entity.column", "input %s has no column %q", r.Name, text)
	if s := config.Suggest(text, names); s != "" {
		return "", e.WithHint("did you mean %s?", s)
	}
	return "", e.WithHint("it has %s", strings.Join(names, ", "))
}

// Time is the input's `at:` as a timestamp; "" where it has none. What is no time is NULL.
func (r Relation) Time(ctx context.Context, w warehouse.Warehouse) (string, error) {
	if r.Input.Input.At == "" {
		return "", nil
	}
	pos := r.Node.At("at")
	expr, err := r.Expr(r.Input.Input.At, pos)
	if err != nil {
		return "", err
	}
	columns, err := w.Columns(ctx, "SELECT "+expr+" AS x FROM "+r.FromItem())
	if err != nil {
		return "", &diag.Error{Kind: kindOf(err), Pos: pos, Code: "entity.at", Msg: "reading at: of input " + r.Name, Err: err}
	}
	d := w.Dialect()
	switch columns[0].Kind {
	case warehouse.Timestamp, warehouse.Date:
		return d.Cast(expr, warehouse.Timestamp), nil
	case warehouse.Text:
		return d.TryCast(expr, d.Type(warehouse.Timestamp)), nil
	default:
		return "", diag.At(pos, "entity.at", "at: of input %s is %s, not a time", r.Name, columns[0].Kind).
			WithHint("cast it to a timestamp in the model that the input reads")
	}
}
