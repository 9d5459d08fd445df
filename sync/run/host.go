package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/state"
)

// Host lets sessions work side by side in one process that lives on: `dray serve`. They share the control state, the pace of each
// credential and the open warehouse, which is open only while one of them needs it; one sync runs once at a time (I5), and one
// build is made at a time. Safe for concurrent use.
type Host struct {
	state     *state.State
	statePath string
	pacers    deliver.Pacers
	running   Running
	ended     func(context.Context, *Session, report.Run)
	log       *slog.Logger

	builds  chan struct{} // held by the one that builds
	scratch chan struct{} // held by the one that uses the scratch schema

	mu         sync.Mutex
	warehouses map[string]*shared
	generation *generation
}

// NewHost opens the control state of a project. ended is called after every run of whichever session; it may
// be nil. Close the host after its sessions.
func NewHost(ctx context.Context, p *Prepared, log *slog.Logger, ended func(context.Context, *Session, report.Run)) (*Host, error) {
	h := &Host{
		statePath: statePath(p.Project), ended: ended, log: log, builds: make(chan struct{}, 1), scratch: make(chan struct{}, 1),
		warehouses: map[string]*shared{},
	}
	var err error
	h.state, err = state.Open(ctx, h.statePath, state.Options{Project: p.Project.Name, Log: log})
	return h, err
}

// State is the shared control state.
func (h *Host) State() *state.State { return h.state }

// Close closes the control state.
func (h *Host) Close() error { return h.state.Close() }

// Busy lists the syncs of a schema that run in this process now; not those of which a backfill runs, for it gives way.
func (h *Host) Busy(schema string) []string { return h.running.busy(schema) }

// hold waits for a channel of one place; release it by calling what it gives.
func hold(ctx context.Context, place chan struct{}) (release func(), err error) {
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// building waits until this session may build, and drops what other sessions would have reused: this one may build from other
// variables, or as of another time. A session of its own process waits for nobody.
func (s *Session) building(ctx context.Context) (done func(), err error) {
	h := s.deps.Host
	if h == nil {
		return func() {}, nil
	}
	if done, err = hold(ctx, h.builds); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.generation = nil
	h.mu.Unlock()
	return done, nil
}

// scratching waits until this session may use the scratch schema.
func (s *Session) scratching(ctx context.Context) (done func(), err error) {
	if s.deps.Host == nil {
		return func() {}, nil
	}
	return hold(ctx, s.deps.Host.scratch)
}

// shared is a warehouse that is open for some sessions.
type shared struct {
	mu    sync.Mutex // held while it is opened or closed
	w     warehouse.Warehouse
	users int
}

// share is one session's part in it.
type share struct {
	warehouse.Warehouse
	of   *shared
	once sync.Once
	err  error
}

// openWarehouse opens a warehouse, or joins those for whom it is open.
func (h *Host) openWarehouse(ctx context.Context, deps Deps, typ string, options map[string]any, dir string) (warehouse.Warehouse, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", typ, dir)
	for _, k := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(&b, " %s=%v", k, options[k])
	}
	h.mu.Lock()
	sh := h.warehouses[b.String()]
	if sh == nil {
		sh = &shared{}
		h.warehouses[b.String()] = sh
	}
	h.mu.Unlock()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.w == nil {
		// It outlives the caller: a connection that is opened later must not fail because the first user's work was cut off.
		w, err := deps.OpenWarehouse(context.WithoutCancel(ctx), typ, options, dir)
		if err != nil {
			return nil, err
		}
		sh.w = w
	}
	sh.users++
	return &share{Warehouse: sh.w, of: sh}, nil
}

// Unwrap is the one that is shared.
func (l *share) Unwrap() warehouse.Warehouse { return l.Warehouse }

// Close lets go; the last one closes the warehouse.
func (l *share) Close() error {
	l.once.Do(func() {
		l.of.mu.Lock()
		defer l.of.mu.Unlock()
		if l.of.users--; l.of.users == 0 {
			l.err = l.of.w.Close()
			l.of.w = nil
		}
	})
	return l.err
}

// generation is what was built as of one time: syncs that became due before it share it (DESIGN §4, Builds). Its session is open
// while one of them runs.
type generation struct {
	host     *Host
	deps     Deps
	options  Options
	prepared *Prepared
	key      *Prepared // the project that was served when it began
	began    time.Time

	mu      sync.Mutex // held while the session is opened or closed
	session *Session
	users   int
	program *compile.Program

	wmu    sync.Mutex
	wanted map[string]bool
	built  map[string]bool
	nodes  map[graph.ID]build.NodeResult
}

// join finds the generation for a sync that became due at a time, or begins one.
func (h *Host) join(p *Prepared, deps Deps, o Options, due time.Time) *generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.generation; g != nil && g.key == p && !g.began.Before(due) {
		return g
	}
	now := deps.now()
	deps.Host = h
	h.generation = &generation{
		host: h, deps: deps, options: o, key: p, began: now,
		prepared: &Prepared{Project: p.Project, Graph: p.Graph, AsOf: p.Project.Clock(now)},
		wanted:   map[string]bool{}, built: map[string]bool{}, nodes: map[graph.ID]build.NodeResult{},
	}
	return h.generation
}

// enter opens the generation's session, or joins those who use it; leave it after.
func (g *generation) enter(ctx context.Context) (*Session, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == nil {
		s, err := OpenPrepared(ctx, g.prepared, g.deps, g.options)
		if err != nil {
			return nil, err
		}
		err = s.ledger.Ensure(ctx) // here once: of two who make the same table one would fail
		if err == nil && g.program == nil {
			g.program, err = s.Program(ctx, false, false)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		g.session = s
	}
	g.users++
	return g.session, nil
}

func (g *generation) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users > 0 {
		return
	}
	if err := g.session.Close(); err != nil {
		g.host.log.Warn("closing the warehouse", "error", err.Error())
	}
	g.session = nil
}

// build builds what a sync reads, and with it what the syncs that wait meanwhile read, unless the generation has it.
func (g *generation) build(ctx context.Context, s *Session, name string) (build.Result, error) {
	g.wmu.Lock()
	g.wanted[name] = true
	g.wmu.Unlock()
	release, err := hold(ctx, g.host.builds)
	if err != nil {
		return build.Result{}, err
	}
	defer release()
	g.wmu.Lock()
	var names []string
	for n := range g.wanted {
		if !g.built[n] {
			names = append(names, n)
		}
	}
	g.wmu.Unlock()
	if g.built[name] {
		return g.result(), nil
	}
	sort.Strings(names)
	deps := s.buildDeps()
	deps.Built = map[graph.ID]bool{}
	for id, n := range g.nodes {
		deps.Built[id] = n.Status == build.OK
	}
	result, err := build.Run(ctx, deps, g.program, s.reads(names))
	if ctx.Err() != nil || result.Nodes == nil && err != nil {
		return result, err
	}
	for _, n := range result.Nodes {
		g.nodes[n.ID] = n
	}
	for _, n := range names {
		g.built[n] = true
	}
	return g.result(), nil // what failed is told by each sync that reads it
}

// result is all that the generation built. With the place to build held.
func (g *generation) result() build.Result {
	var r build.Result
	for _, id := range slices.Sorted(maps.Keys(g.nodes)) {
		r.Nodes = append(r.Nodes, g.nodes[id])
	}
	return r
}

// RunDue runs one sync that became due: it shares the build of those that became due before it began. The report is complete on
// every path but one: where the warehouse cannot be opened there is none, and its sync is empty.
func (h *Host) RunDue(ctx context.Context, p *Prepared, deps Deps, o Options, name string, due time.Time) (report.Run, error) {
	g := h.join(p, deps, o, due)
	s, err := g.enter(ctx)
	if err != nil {
		return report.Run{}, err
	}
	defer g.leave()
	result, err := g.build(ctx, s, name)
	if err == nil {
		err = blocked(result, s.Graph, name)
	}
	if err != nil {
		r := s.begin(&compile.Sync{Name: name}, RunOptions{})
		return r.finish(ctx, err)
	}
	return s.sync(ctx, g.program.Syncs[name], RunOptions{}, nil)
}
