// Package build materialises a Program in the warehouse: models, identity, profiles and segments, in dependency order.
//
// It follows models/compile; sync/plan reads what it built. Each model's tests run right after it, and a failure stops only
// what depends on it. Every relation is built beside and swapped in one statement or transaction, so a killed build leaves
// the old one (I3). A scratch program writes nothing outside its scratch schema.
package build

import (
	"context"
	"log/slog"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
)

// Deps is what a build is lent.
type Deps struct {
	Warehouse warehouse.Warehouse
	Log       *slog.Logger     // nil = none
	Threads   int              // nodes at once; 0 = 1
	FailFast  bool             // start nothing more after the first failure
	Progress  func(NodeResult) // called when a node starts (Status running) and ends; may be nil; never concurrently
	Now       func() time.Time // nil = time.Now
	// Built is what an earlier build made, as of the same time: it is neither made nor tested again, nor is it in the result.
	Built map[graph.ID]bool
}

// Status is how a node ended.
type Status string

// The statuses.
const (
	Running Status = "running"
	OK      Status = "ok"
	Tested  Status = "tested" // only its tests ran
	Failed  Status = "failed"
	Skipped Status = "skipped" // because of SkippedBy
)

// NodeResult is what became of one node.
type NodeResult struct {
	ID        graph.ID     `json:"id"`
	Kind      graph.Kind   `json:"kind"`
	Name      string       `json:"name"`
	Status    Status       `json:"status"`
	Rows      int64        `json:"rows"` // of the relation; -1 = not counted (views)
	Seconds   float64      `json:"seconds"`
	Tests     []TestResult `json:"tests,omitempty"`
	SkippedBy graph.ID     `json:"skipped_by,omitempty"`
	Err       error        `json:"-"`
	// Identity is what the build of an entity found; nil for other kinds.
	Identity *identity.Result `json:"identity,omitempty"`
}

// TestResult is one test of a model: Failures rows fail it.
type TestResult struct {
	Name     string `json:"name"`
	Failures int64  `json:"failures"`
	Err      error  `json:"-"` // the test failed, or could not be run
}

// Result is what became of every node, in the order they were started.
type Result struct {
	Nodes []NodeResult `json:"nodes"`
}

// Node finds a node's result.
func (r Result) Node(id graph.ID) (NodeResult, bool) {
	for _, n := range r.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return NodeResult{}, false
}

// Run builds the ancestors of targets (themselves included) in dependency order and runs each model's tests right after it.
// The error is a diag.List of all failures; the result is complete on every path.
func Run(ctx context.Context, deps Deps, prog *compile.Program, targets []graph.ID) (Result, error) {
	r := newRunner(deps, prog)
	if err := r.prepare(ctx); err != nil {
		return Result{}, err
	}
	needed := r.needed(targets)
	return r.finish(ctx, r.schedule(ctx, r.buildTasks(needed)))
}

// Test runs the tests of the models among targets against what is built already.
func Test(ctx context.Context, deps Deps, prog *compile.Program, targets []graph.ID) (Result, error) {
	r := newRunner(deps, prog)
	return r.finish(ctx, r.schedule(ctx, r.testTasks(targets)))
}

// DropScratch removes what a scratch program built; it does nothing to any other.
func DropScratch(ctx context.Context, w warehouse.Warehouse, prog *compile.Program) error {
	if !prog.Options.Scratch {
		return nil
	}
	_, err := w.Exec(ctx, w.Dialect().DropSchema(prog.Target.Schema))
	return err
}
