package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/state"
)

// Prepared is a project that was loaded and resolved, without a connection.
type Prepared struct {
	Project *config.Project
	Graph   *graph.Graph
	AsOf    time.Time
}

// Prepare loads and resolves a project: config.Load → graph.Resolve. All problems are returned at once.
func Prepare(deps Deps, o Options) (*Prepared, error) {
	env := o.Env
	if env == nil {
		env = os.LookupEnv
	}
	project, err := config.Load(o.Dir, config.Options{Target: o.Target, Vars: o.Vars, Env: env, AsOf: o.AsOf})
	if err != nil {
		return nil, allProblems(project, deps, err)
	}
	g, err := graph.Resolve(project, deps.Spec)
	if err != nil {
		return nil, err
	}
	return &Prepared{Project: project, Graph: g, AsOf: project.Clock(deps.now())}, nil
}

// allProblems adds to what loading found what resolving finds, so that a user sees everything at once; but of lines that are known
// to be wrong only the names that nothing has: the rest would follow from the first fault.
func allProblems(project *config.Project, deps Deps, err error) error {
	var found diag.List
	found.Add(err)
	if project == nil {
		return err
	}
	_, gerr := graph.Resolve(project, deps.Spec)
	var more diag.List
	more.Add(gerr)
	for _, e := range more {
		same := func(f *diag.Error) bool {
			return f.Pos == e.Pos || !e.Dangling && f.Pos.File == e.Pos.File && f.Pos.Line == e.Pos.Line
		}
		if !slices.ContainsFunc(found, same) {
			found = append(found, e)
		}
	}
	return found.Err()
}

// Compile makes the program of a prepared project for a dialect, without a connection: what `dray compile --offline` needs.
func (p *Prepared) Compile(deps Deps, d warehouse.Dialect, o compile.Options) (*compile.Program, error) {
	o.Specs, o.AsOf = deps.Spec, p.AsOf
	return compile.Compile(p.Graph, d, o)
}

func (d Deps) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Spec is the declaration of a destination type.
func (d Deps) Spec(typ string) (destination.Spec, bool) {
	c, ok := d.Connector(typ)
	if !ok {
		return destination.Spec{}, false
	}
	return c.Spec(), true
}

// Session is a loaded project with its warehouse and its state open. Close it. A session serves one command, and its methods are
// not safe for concurrent use, but that several of its syncs may run at the same time (Host).
type Session struct {
	*Prepared
	Warehouse warehouse.Warehouse
	State     *state.State

	deps    Deps
	options Options
	ledger  *ledger.Ledger
	log     *slog.Logger

	movedFound bool          // what was renamed in the project is known
	moves      []graph.Moved // and not moved yet

	mu     sync.Mutex
	dests  map[string]*connection
	pacers *deliver.Pacers
}

// Open prepares a project and opens its warehouse and control state. The state comes first: whoever waits for a warehouse file
// can then say so.
func Open(ctx context.Context, deps Deps, o Options) (*Session, error) {
	p, err := Prepare(deps, o)
	if err != nil {
		return nil, err
	}
	return OpenPrepared(ctx, p, deps, o)
}

// OpenPrepared is Open for a project that was prepared.
func OpenPrepared(ctx context.Context, p *Prepared, deps Deps, o Options) (*Session, error) {
	s := &Session{Prepared: p, deps: deps, options: o, log: deps.Log, dests: map[string]*connection{}, pacers: &deliver.Pacers{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.deps.Running == nil {
		s.deps.Running = &Running{}
	}
	typ, opts := "duckdb", map[string]any{"path": p.Project.Name + ".duckdb"}
	if w := p.Project.Warehouse; w != nil {
		typ, opts = w.Type, w.Options
		if _, ok := opts["path"]; !ok && typ == "duckdb" {
			opts = withPath(opts, p.Project.Name+".duckdb")
		}
	}
	h := deps.Host
	var err error
	if h != nil {
		s.pacers, s.deps.Running = &h.pacers, &h.running
		s.Warehouse, err = h.openWarehouse(ctx, deps, typ, opts, p.Project.Dir)
	} else {
		s.Warehouse, err = deps.OpenWarehouse(ctx, typ, opts, p.Project.Dir)
	}
	if err != nil {
		return nil, placed(err, p.Project.Warehouse)
	}
	s.ledger = &ledger.Ledger{W: s.Warehouse, Names: compile.Names{Schema: p.Project.Schema}}
	path := statePath(p.Project)
	if h != nil && h.statePath == path {
		s.State = h.state
	} else if s.State, err = state.Open(ctx, path, state.Options{Project: p.Project.Name, Log: s.log}); err != nil {
		_ = s.Warehouse.Close()
		return nil, err
	}
	return s, nil
}

// placed gives a warehouse's refusal of an option its place in the file.
func placed(err error, w *config.Warehouse) error {
	var o *warehouse.OptionError
	if w == nil || !errors.As(err, &o) || !o.Err.Pos.IsZero() {
		return err
	}
	at := *o.Err
	at.Pos = w.At(o.Key)
	return &at
}

// statePath is where the control state is: an absolute path, or a URL.
func statePath(p *config.Project) string {
	path := p.State
	if !strings.Contains(path, "://") && !filepath.IsAbs(path) {
		path = filepath.Join(p.Dir, filepath.FromSlash(path))
	}
	return path
}

// StatePath is where the control state is: an absolute path, or a URL.
func (p *Prepared) StatePath() string { return statePath(p.Project) }

func withPath(opts map[string]any, path string) map[string]any {
	out := map[string]any{"path": path}
	for k, v := range opts {
		out[k] = v
	}
	return out
}

// Close closes what Open opened.
func (s *Session) Close() error {
	for _, c := range s.dests {
		_ = c.dest.Close()
		c.http.Close()
	}
	var err error
	if s.deps.Host == nil || s.State != s.deps.Host.state {
		err = s.State.Close()
	}
	if werr := s.Warehouse.Close(); err == nil {
		err = werr
	}
	return err
}

// Program compiles the project for the session's warehouse. Scratch programs build nothing that lasts.
func (s *Session) Program(ctx context.Context, scratch, full bool) (*compile.Program, error) {
	if err := s.findMoved(ctx); err != nil {
		return nil, err
	}
	return s.Compile(s.deps, s.Warehouse.Dialect(), build.Hooks(ctx, s.Warehouse, compile.Options{Scratch: scratch, FullRefresh: full, Moved: s.ledger.Names.Moved}))
}

// Syncs picks the syncs that a command means: the named ones, or all that are enabled, in the order they depend on each other.
func (s *Session) Syncs(names []string) ([]string, error) {
	var out []string
	var problems diag.List
	for _, name := range names {
		if s.Graph.Nodes[graph.ID("sync."+name)] == nil {
			e := diag.Errorf(diag.Invalid, "sync.unknown", "there is no sync %q", name)
			if hint := config.Suggest(name, s.syncNames()); hint != "" {
				e.Hint = "did you mean " + hint + "?"
			}
			problems.Add(e)
			continue
		}
		out = append(out, name)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if len(names) > 0 {
		return s.ordered(out), nil
	}
	for _, name := range s.syncNames() {
		if n := s.Graph.Nodes[graph.ID("sync."+name)]; n.Sync.Enabled == nil || *n.Sync.Enabled {
			out = append(out, name)
		}
	}
	return s.ordered(out), nil
}

func (s *Session) syncNames() []string {
	var out []string
	for _, n := range s.Graph.Order() {
		if n.Kind == graph.Sync {
			out = append(out, n.Name)
		}
	}
	return out
}

// ordered puts a sync whose record ids others need (`via`), or that comes first (`after`), before them; otherwise the file's order
// stands.
func (s *Session) ordered(names []string) []string {
	var out []string
	var put func(name string, depth int)
	put = func(name string, depth int) {
		if slices.Contains(out, name) || depth > len(names) {
			return
		}
		c := s.Graph.Nodes[graph.ID("sync."+name)].Sync
		before := []string{c.Via}
		for _, a := range c.After {
			before = append(before, a.Sync)
		}
		for _, other := range before {
			if slices.Contains(names, other) {
				put(other, depth+1)
			}
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, name := range names {
		put(name, 0)
	}
	return out
}

// connection is one open destination with what all its syncs share.
type connection struct {
	dest    destination.Destination
	spec    destination.Spec
	config  destination.Config
	http    *httpx.Client
	pacer   *deliver.Pacer
	mu      sync.Mutex // held while the account is asked for
	account *destination.Account
	baseURL string
}

// connect opens a destination once a session.
func (s *Session) connect(ctx context.Context, d *config.Destination) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.dests[d.Name]; c != nil {
		return c, nil
	}
	connector, ok := s.deps.Connector(d.Type)
	if !ok {
		return nil, diag.At(d.At("type"), "destination.type", "there is no destination type %q", d.Type)
	}
	c := &connection{spec: connector.Spec(), baseURL: d.BaseURL}
	cfg, problems := graph.DestinationConfig(d, c.spec)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	c.config = cfg
	c.pacer = s.pacers.For(s.budget(), c.spec.Rate, credential(d, c.spec, cfg)...)
	c.http = httpx.New(httpx.Options{
		Transport: s.deps.Transport, Log: s.log, UserAgent: s.deps.UserAgent, Timeout: timeout(d, c.spec),
		Gate: c.pacer.Gate, Observe: c.pacer.Observe,
	})
	var err error
	c.dest, err = connector.Open(ctx, cfg, destination.Env{HTTP: c.http, Log: s.log, Now: s.deps.now, Dir: s.Project.Dir, Project: s.Project.Name})
	if err != nil {
		return nil, fmt.Errorf("opening destination %s: %w", d.Name, err)
	}
	s.dests[d.Name] = c
	return c, nil
}

// budget is what several processes share; an interface that holds nothing where this one is alone.
func (s *Session) budget() deliver.Budget {
	if b := s.State.Budget(); b != nil {
		return b
	}
	return nil
}

// credential is what two destinations have in common that a vendor counts as one: where they go, and as whom. A destination
// without a secret is one by itself.
func credential(d *config.Destination, spec destination.Spec, cfg destination.Config) []string {
	parts := []string{spec.Type, d.BaseURL}
	secrets := len(parts)
	for _, o := range spec.Config {
		if o.Secret && cfg.String(o.Name) != "" {
			parts = append(parts, o.Name, cfg.String(o.Name))
		}
	}
	if len(parts) == secrets || spec.AnyObject {
		parts = append(parts, d.Name)
	}
	return parts
}

func timeout(d *config.Destination, spec destination.Spec) time.Duration {
	switch {
	case d.Timeout.Duration > 0:
		return d.Timeout.Duration
	case spec.Timeout > 0:
		return spec.Timeout
	default:
		return 30 * time.Second
	}
}

// settle is how long an unanswered request may still be applied: the user's word, the connector's, or the larger of ten minutes
// and lease plus time-out (DESIGN §6.5).
func (s *Session) settle(d *config.Destination, c *connection) time.Duration {
	switch {
	case d.Settle != nil:
		return d.Settle.Duration
	case c.spec.Settle != nil:
		return *c.spec.Settle
	default:
		return max(10*time.Minute, s.Warehouse.Dialect().Lease()+timeout(d, c.spec))
	}
}

// check asks the vendor once a session whose account this is.
func (c *connection) check(ctx context.Context) (destination.Account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.account != nil {
		return *c.account, nil
	}
	a, err := c.dest.Check(ctx)
	if err != nil {
		return a, err
	}
	c.account = &a
	return a, nil
}
