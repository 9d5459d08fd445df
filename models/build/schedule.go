package build

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

// task is a piece of a build: a node, or a test that must wait for more than its model.
type task struct {
	node  *compile.Node
	first bool // the node's result begins with this task
	after []*task
	work  func(ctx context.Context, result *NodeResult) error
}

// waitsFor tells whether t comes, by whatever way, after other.
func (t *task) waitsFor(other *task) bool {
	seen := map[*task]bool{}
	for open := []*task{t}; len(open) > 0; {
		next := open[len(open)-1]
		open = open[:len(open)-1]
		if next == other {
			return true
		}
		if !seen[next] {
			seen[next] = true
			open = append(open, next.after...)
		}
	}
	return false
}

// runner is one build.
type runner struct {
	deps      Deps
	prog      *compile.Program
	relations map[string]string // lower-cased name in the target schema → its type, as the warehouse calls it
	explain   bool              // build everything of no rows
	scanned   atomic.Int64      // bytes that what was explained would read; an estimate

	mu       sync.Mutex
	results  map[graph.ID]*NodeResult
	order    []graph.ID
	segments sync.Mutex // segments share segment_history, whose creation two transactions may not race for
	own      map[graph.ID]*own
}

func newRunner(deps Deps, prog *compile.Program) *runner {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &runner{deps: deps, prog: prog, relations: map[string]string{}, results: map[graph.ID]*NodeResult{}, own: map[graph.ID]*own{}}
}

// needed is what must be built for the targets: their ancestors, what the tests of those read, and those of whom a part is made
// ahead.
func (r *runner) needed(targets []graph.ID) map[graph.ID]bool {
	needed := map[graph.ID]bool{}
	for len(targets) > 0 {
		id := targets[0]
		targets = targets[1:]
		n := r.prog.Node(id)
		if n == nil || needed[id] {
			continue
		}
		needed[id] = true
		targets = append(append(append(targets, n.Parents...), n.TestParents...), n.OwnOf...)
	}
	return needed
}

// buildTasks makes a task of every needed node, and of every test that reads what is not built before its model anyway.
func (r *runner) buildTasks(needed map[graph.ID]bool) []*task {
	var tasks []*task
	byID := map[graph.ID]*task{}
	type waiting struct {
		*task
		reads []graph.ID
	}
	var tests []waiting
	for _, n := range r.prog.Nodes {
		if !needed[n.ID] || !builds(n) || r.deps.Built[n.ID] {
			continue
		}
		t := &task{node: n, first: true}
		ancestors := r.prog.Graph.Ancestors(n.ID)
		var now []compile.Test
		for _, test := range n.Tests {
			if !slices.ContainsFunc(test.Reads, func(id graph.ID) bool { return !slices.Contains(ancestors, id) }) {
				now = append(now, test)
				continue
			}
			later := &task{node: n, after: []*task{t}, work: func(ctx context.Context, result *NodeResult) error {
				result.Status = OK
				return r.test(ctx, n, []compile.Test{test}, result)
			}}
			tests = append(tests, waiting{later, test.Reads})
		}
		t.work = func(ctx context.Context, result *NodeResult) error {
			if err := r.build(ctx, n, result); err != nil {
				return err
			}
			return r.test(ctx, n, now, result)
		}
		for _, parent := range n.Parents {
			if p := byID[parent]; p != nil {
				t.after = append(t.after, p)
			}
		}
		byID[n.ID] = t
		tasks = append(tasks, t)
	}
	for _, test := range tests {
		for _, id := range test.reads {
			if p := byID[id]; p != nil {
				test.after = append(test.after, p)
			}
		}
		tasks = append(tasks, test.task)
	}
	// What reads a model waits for its tests too, unless the test waits for it.
	for _, test := range tests {
		for _, id := range r.prog.Graph.Children(test.node.ID) {
			if child := byID[id]; child != nil && !test.waitsFor(child) {
				child.after = append(child.after, test.task)
			}
		}
	}
	return tasks
}

func (r *runner) testTasks(targets []graph.ID) []*task {
	var tasks []*task
	for _, n := range r.prog.Nodes {
		if len(n.Tests) > 0 && slices.Contains(targets, n.ID) {
			tasks = append(tasks, &task{node: n, first: true, work: func(ctx context.Context, result *NodeResult) error {
				result.Status, result.Rows = Tested, -1
				return r.test(ctx, n, n.Tests, result)
			}})
		}
	}
	return tasks
}

func builds(n *compile.Node) bool {
	return n.Kind == graph.Model || n.Kind == graph.Entity || n.Kind == graph.Segment
}

type ended struct {
	task *task
	err  error
}

// schedule runs the tasks, each after those it waits for, at most Threads at once. What waits for a failed one is skipped.
func (r *runner) schedule(ctx context.Context, tasks []*task) diag.List {
	var problems diag.List
	done := map[*task]bool{}
	blocked := map[*task]graph.ID{} // failed or skipped → the node to blame
	results := make(chan ended)
	var stop graph.ID
	running, threads := 0, max(1, r.deps.Threads)
	for len(tasks) > 0 || running > 0 {
		tasks = slices.DeleteFunc(tasks, func(t *task) bool {
			if stop == "" && ctx.Err() == nil {
				by, skip := blame(t, blocked)
				if skip {
					blocked[t] = by
					r.skip(t, by)
				}
				if skip || running >= threads || !ready(t, done) {
					return skip
				}
				running++
				go func() { results <- ended{t, r.run(ctx, t)} }()
				return true
			}
			r.skip(t, stop)
			return true
		})
		if running == 0 {
			continue
		}
		e := <-results
		running--
		if e.err == nil {
			done[e.task] = true
			continue
		}
		problems.Add(e.err)
		blocked[e.task] = e.task.node.ID
		if r.deps.FailFast {
			stop = e.task.node.ID
		}
	}
	return problems
}

func ready(t *task, done map[*task]bool) bool {
	return !slices.ContainsFunc(t.after, func(a *task) bool { return !done[a] })
}

func blame(t *task, blocked map[*task]graph.ID) (graph.ID, bool) {
	for _, a := range t.after {
		if by, ok := blocked[a]; ok {
			return by, true
		}
	}
	return "", false
}

// run does one task and adds what came of it to its node's result.
func (r *runner) run(ctx context.Context, t *task) error {
	part := NodeResult{ID: t.node.ID, Kind: t.node.Kind, Name: t.node.Name, Status: Running, Rows: -1}
	if t.first {
		r.keep(part)
		part.Status = OK
	}
	started := r.deps.Now()
	err := t.work(ctx, &part)
	part.Seconds = r.deps.Now().Sub(started).Seconds()
	if err != nil {
		part.Status, part.Err = Failed, err
	}
	r.keep(part)
	return err
}

// skip notes that a task was not done; a node whose later test alone was skipped keeps its own status.
func (r *runner) skip(t *task, by graph.ID) {
	if t.first {
		r.keep(NodeResult{ID: t.node.ID, Kind: t.node.Kind, Name: t.node.Name, Status: Skipped, SkippedBy: by, Rows: -1})
	}
}

// keep merges a part into its node's result and tells of it. Parts of one node may end at the same time.
func (r *runner) keep(part NodeResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.results[part.ID]
	switch {
	case known == nil:
		known = &part
		r.results[part.ID] = known
		r.order = append(r.order, part.ID)
	case known.Status == Running:
		*known = part
	default: // a later test
		known.Seconds += part.Seconds
		known.Tests = append(known.Tests, part.Tests...)
		if part.Err != nil {
			known.Status, known.Err = Failed, errors.Join(known.Err, part.Err)
		}
	}
	if r.deps.Progress != nil {
		r.deps.Progress(*known)
	}
	if known.Status != Running {
		r.deps.Log.Debug("built", "node", string(known.ID), "status", string(known.Status), "rows", known.Rows, "seconds", known.Seconds)
	}
}

func (r *runner) finish(ctx context.Context, problems diag.List) (Result, error) {
	var out Result
	for _, id := range r.order {
		out.Nodes = append(out.Nodes, *r.results[id])
	}
	if ctx.Err() != nil {
		return out, &diag.Error{Kind: diag.Interrupted, Code: "interrupted", Msg: "the build was interrupted", Err: ctx.Err()}
	}
	return out, problems.Err()
}
