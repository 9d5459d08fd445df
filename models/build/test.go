package build

import (
	"context"
	"errors"
	"fmt"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
)

// test runs tests of a model that is built. Failures are counted and never shown: they are rows of the user's data (I6).
func (r *runner) test(ctx context.Context, n *compile.Node, tests []compile.Test, result *NodeResult) error {
	if r.explain {
		return nil
	}
	var problems diag.List
	for _, t := range tests {
		out := TestResult{Name: t.Name}
		failures, err := warehouse.Number(ctx, r.deps.Warehouse, t.Query)
		switch {
		case err != nil:
			out.Err = r.untestable(n, t, err)
		case failures > 0:
			out.Failures = failures
			out.Err = &diag.Error{
				Kind: diag.Stopped, Pos: t.Pos, Code: "test.failed",
				Msg:  fmt.Sprintf("model %s fails its test %s: %s", n.Name, t.Name, rowsOf(failures)),
				Hint: "mend the data or the model; what depends on it was not built",
			}
		}
		result.Tests = append(result.Tests, out)
		problems.Add(out.Err)
	}
	return problems.Err()
}

func rowsOf(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// untestable is a test that the warehouse could not run; nil for no error.
func (r *runner) untestable(n *compile.Node, t compile.Test, err error) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("running test %s of model %s", t.Name, n.Name)
	var query *warehouse.QueryError
	if !errors.As(err, &query) || notTheirs(err) {
		return failed(what, err)
	}
	e := &diag.Error{Pos: t.Pos, Code: "test.sql", Msg: fmt.Sprintf("the warehouse refuses test %s of model %s", t.Name, n.Name), Err: words{query}}
	if errors.Is(err, warehouse.ErrNotFound) {
		e.Hint = "is it built? `dray build " + n.Name + "` builds it"
	}
	return e
}
