package cli

import (
	"context"
	"errors"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/alert"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

// deps is what this process lends the path.
func (a *app) deps() run.Deps {
	return run.Deps{
		Connector:     registry.Destination,
		OpenWarehouse: registry.OpenWarehouse,
		UserAgent:     "dray/" + thisBinary().Version,
		Log:           a.log,
		Now:           time.Now,
		Progress:      a.progress,
		Tracer:        a.tracer,
		Built:         a.progress.built,
		Host:          a.host,
	}
}

// destinationSpecs is every connector's declaration, sorted by type.
func destinationSpecs() []destination.Spec {
	entries := registry.Destinations()
	specs := make([]destination.Spec, len(entries))
	for i, e := range entries {
		specs[i] = e.Connector.Spec()
	}
	return specs
}

// options are the flags as the path knows them.
func (a *app) options() (run.Options, error) {
	dir, err := a.projectDir()
	if err != nil {
		return run.Options{}, err
	}
	vars, err := variables(a.flags.vars)
	if err != nil {
		return run.Options{}, err
	}
	return run.Options{
		Dir:        dir,
		Target:     a.flags.target,
		Vars:       vars,
		AsOf:       a.flags.asOf,
		Env:        a.env,
		ShowValues: a.flags.showValues,
		Threads:    a.flags.threads,
		FailFast:   a.flags.failFast,
	}, nil
}

// prepare loads the project without a connection.
func (a *app) prepare() (*run.Prepared, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	return run.Prepare(a.deps(), o)
}

// with opens the project and its warehouse, does the work and closes both; where a live serve has them, it does the command. A
// failure to close is the command's failure only where the work itself went well.
func (a *app) with(ctx context.Context, work func(*run.Session) error) (err error) {
	o, err := a.options()
	if err != nil {
		return err
	}
	p, err := run.Prepare(a.deps(), o)
	if err != nil {
		return err
	}
	if done, err := a.forward(ctx, p); done {
		return err
	}
	s, err := run.OpenPrepared(ctx, p, a.deps(), o)
	if busy(err) { // perhaps with a serve that has begun meanwhile, and was not listening yet
		if done, err := a.forward(ctx, p); done {
			return err
		}
	}
	if err != nil {
		return err
	}
	defer func() {
		a.progress.stop()
		if closing := s.Close(); err == nil {
			err = closing
		}
	}()
	return work(s)
}

func busy(err error) bool {
	var e *diag.Error
	return errors.As(err, &e) && e.Code == "warehouse.busy"
}

// withState opens the control state alone; where a live serve has it, that does the command.
func (a *app) withState(ctx context.Context, work func(*run.Prepared, *state.State) error) error {
	p, err := a.prepare()
	if err != nil {
		return err
	}
	if done, err := a.forward(ctx, p); done {
		return err
	}
	if a.host != nil {
		defer a.changed()
		return work(p, a.host.State())
	}
	s, err := state.Open(ctx, p.StatePath(), state.Options{Project: p.Project.Name, Log: a.log})
	if err != nil {
		return err
	}
	return errors.Join(work(p, s), s.Close())
}

// teller tells of runs that ended: `alerts:`.
func (a *app) teller(s *state.State) *alert.Teller {
	deps := a.deps()
	return &alert.Teller{
		State: s, Now: deps.Now, Log: a.log,
		Send: func(ctx context.Context, p *run.Prepared, to string, n destination.Notice) error {
			return p.Notify(ctx, deps, to, n)
		},
	}
}

// alert tells of what a command of this process ran; serve hears of what it runs by itself.
func (a *app) alert(ctx context.Context, s *run.Session, runs ...report.Run) {
	if a.host != nil {
		return
	}
	t := a.teller(s.State)
	for _, r := range runs {
		t.Ended(context.WithoutCancel(ctx), s.Prepared, r)
	}
}

// about describes a sync for its header: "segment lapsed_vips → crm contacts, mirror".
func about(g *graph.Graph) caption {
	return func(sync string) string {
		n := g.Node(graph.Sync, sync)
		if n == nil || n.Sync == nil {
			return ""
		}
		c := n.Sync
		from := "model " + c.Model
		switch {
		case c.Segment != "":
			from = "segment " + c.Segment
		case c.Entity != "":
			from = "entity " + c.Entity
		}
		return from + " → " + c.Destination + " " + c.Object + ", " + c.Mode
	}
}
