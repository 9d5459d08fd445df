package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/cmd/api"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/alert"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/schedule"
	"github.com/dray-dev/dray/sync/state"
)

// ErrTerminated is the cause of a context that SIGTERM ended: for serve, whose work has no end of its own, that is success.
var ErrTerminated = errors.New("terminated")

const (
	defaultListen  = "127.0.0.1:8645"
	defaultWorkers = 16
)

func (a *app) serveCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run syncs on their schedules, until stopped",
		Long: `Starts each sync when its schedule says so, or when the syncs it comes after have ended, and answers /healthz, /readyz and
/metrics. What was due while it was down is caught up once. Changes of the project's files are taken over as they are saved
(and on SIGHUP); a project with errors is refused, and the one before goes on. SIGTERM ends it in order: batches under way are
finished and committed. A DuckDB file is held only while something runs, and commands beside it work through it.`,
		Example: "  dray serve\n  dray serve --listen 127.0.0.1:9000 --log-format json",
		GroupID: groupDeliver,
		Args:    usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") && !a.flags.quiet {
				a.flags.logLevel = "info"
				if err := a.start(); err != nil {
					return err
				}
			}
			return a.serve(cmd.Context(), address)
		},
	}
	a.projectFlags(cmd)
	cmd.Flags().StringVar(&address, "listen", defaultListen, "where to answer HTTP (`HOST:PORT`; port 0: a free one; off: nowhere)")
	cmd.Flags().IntVar(&a.flags.threads, "threads", 0, fmt.Sprintf("how many syncs run at the same time (`N`; 0: %d)", defaultWorkers))
	return cmd
}

// serve runs until ctx ends.
func (a *app) serve(ctx context.Context, address string) error {
	if a.host != nil {
		return diag.Errorf(diag.Invalid, "serve.nested", "dray serve runs already")
	}
	p, err := a.prepare()
	if err != nil {
		return err
	}
	unlock, err := lockServe(p)
	if err != nil {
		return err
	}
	defer unlock()
	v := &server{app: a, metrics: api.NewMetrics(), hup: make(chan os.Signal, 1)}
	signal.Notify(v.hup, syscall.SIGHUP) // from now on it does not end the process
	defer signal.Stop(v.hup)
	if err := v.open(ctx, p); err != nil {
		return err
	}
	err = errors.Join(v.run(ctx, address), v.host.Close())
	if err == nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrTerminated) {
		a.code = diag.Interrupted.ExitCode()
	}
	return err
}

// lockServe keeps a second serve off the same control state, where that is a file. The system frees it with the process.
func lockServe(p *run.Prepared) (func(), error) {
	path := p.StatePath()
	if strings.Contains(path, "://") {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, &diag.Error{Kind: diag.Failed, Code: "state.open", Msg: "making the folder of the control state", Err: err}
	}
	lock := flock.New(path + ".serve")
	mine, err := lock.TryLock()
	if err != nil {
		return nil, &diag.Error{Kind: diag.Failed, Code: "serve.lock", Msg: "locking the control state for dray serve", Err: err}
	}
	if !mine {
		return nil, diag.Errorf(diag.Locked, "serve.running", "another dray serve runs on the control state %s", filepath.Base(path)).
			WithHint("end it first; several workers share a control state in PostgreSQL")
	}
	return func() { _ = lock.Unlock() }, nil
}

// server is one `dray serve`.
type server struct {
	app       *app
	metrics   *api.Metrics
	host      *run.Host
	scheduler *schedule.Scheduler
	teller    *alert.Teller
	under     sync.WaitGroup
	options   run.Options
	hup       chan os.Signal

	upgrading sync.Mutex
	upgraded  bool
}

func (v *server) open(ctx context.Context, p *run.Prepared) error {
	var err error
	if v.options, err = v.app.options(); err != nil {
		return err
	}
	workers := v.app.flags.threads
	if workers == 0 {
		workers = defaultWorkers
	}
	v.options.Threads = 0
	if v.host, err = run.NewHost(ctx, p, v.app.log, v.ended); err != nil {
		return err
	}
	deps := v.app.deps()
	deps.Progress, deps.Built = nil, nil
	v.teller = v.app.teller(v.host.State())
	v.scheduler, err = schedule.New(ctx, schedule.Options{
		State: v.host.State(), Project: p, Workers: workers, Now: deps.Now, Log: v.app.log, Observe: v.metrics, Busy: v.host.Busy,
		Run: func(ctx context.Context, p *run.Prepared, sync string, due time.Time) (report.Run, error) {
			v.upgrade(ctx, p, deps)
			return v.host.RunDue(ctx, p, deps, v.options, sync, due)
		},
	})
	if err != nil {
		return errors.Join(err, v.host.Close())
	}
	v.upgrade(ctx, p, deps)
	return nil
}

// upgrade brings tables of an older Dray up to date, until that has worked once. Where it does not, because another process has the
// warehouse perhaps, it is tried again before the next run, which tells its own error if its tables are still too old.
func (v *server) upgrade(ctx context.Context, p *run.Prepared, deps run.Deps) {
	v.upgrading.Lock()
	defer v.upgrading.Unlock()
	if v.upgraded {
		return
	}
	done, err := v.host.Upgrade(ctx, p, deps, v.options)
	for _, u := range done {
		v.app.log.Info("the tables of a sync were upgraded", "sync", u.Sync, "from", u.From, "to", u.To)
	}
	if err != nil && ctx.Err() == nil {
		v.app.log.Warn("the tables of an older Dray are not upgraded yet: it is tried again before the next run", "error", err.Error())
	}
	v.upgraded = err == nil
}

// ended hears of every run in this process.
func (v *server) ended(ctx context.Context, s *run.Session, r report.Run) {
	v.metrics.Ended(r)
	v.scheduler.Ended(r)
	v.under.Go(func() { v.teller.Ended(ctx, s.Prepared, r) }) // a slow mail server must not hold up syncs
}

// lookForAlerts tells, twice a minute, what no end of a run would.
func (v *server) lookForAlerts(ctx context.Context) {
	every := time.NewTicker(30 * time.Second)
	defer every.Stop()
	for {
		v.teller.Look(ctx, v.scheduler.Project(), v.reports)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// reports are the last runs of a sync, newest first.
func (v *server) reports(ctx context.Context, sync string) ([]report.Run, error) {
	list, err := v.host.State().Runs(ctx, state.RunFilter{Schema: v.scheduler.Project().Project.Schema, Sync: sync, Ended: true, Limit: 5})
	if err != nil {
		return nil, err
	}
	var out []report.Run
	for _, r := range list {
		var rep report.Run
		if len(r.Report) > 0 && json.Unmarshal(r.Report, &rep) == nil {
			out = append(out, rep)
		}
	}
	return out, nil
}

// run listens, and schedules until ctx ends. What it started has ended when it returns.
func (v *server) run(ctx context.Context, address string) error {
	path := socketPath(v.scheduler.Project())
	socket, err := listen(ctx, path)
	if err != nil {
		return &diag.Error{Kind: diag.Failed, Code: "serve.socket", Msg: "opening the local socket", Err: err}
	}
	web, err := v.listenHTTP(ctx, address)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	v.under.Go(func() {
		(&served{host: v.host, changed: v.scheduler.Look, log: v.app.log}).accept(ctx, socket)
	})
	background, stop := context.WithCancel(ctx)
	v.under.Go(func() { v.watch(background) })
	v.under.Go(func() { v.lookForAlerts(background) })
	v.say(web)
	err = v.scheduler.Run(ctx)
	stop()
	_ = socket.Close()
	v.under.Wait()
	if web != nil {
		_ = web.Close()
	}
	return err
}

func (v *server) listenHTTP(ctx context.Context, address string) (*api.Server, error) {
	if address == "off" || address == "" {
		return nil, nil
	}
	web, err := api.Listen(ctx, address, api.Options{
		Metrics: v.metrics, State: v.host.State(), Project: v.scheduler.Project, Alive: v.scheduler.Alive, Counts: v.scheduler.Counts, Now: time.Now,
		Stopping: func() bool { return ctx.Err() != nil },
	})
	if err != nil {
		e := &diag.Error{Kind: diag.Invalid, Code: "serve.listen", Msg: "listening on " + address, Err: err}
		return nil, e.WithHint("--listen 127.0.0.1:0 takes a free port, --listen off none")
	}
	return web, nil
}

// say tells that it serves, and what.
func (v *server) say(web *api.Server) {
	p := v.scheduler.Project()
	doc := struct {
		Project string `json:"project"`
		Syncs   int    `json:"syncs"`
		Listen  string `json:"listen,omitempty"`
		PID     int    `json:"pid"`
	}{Project: p.Project.Name, Syncs: schedule.Served(p), PID: os.Getpid()}
	if web != nil {
		doc.Listen = web.URL()
	}
	v.app.show(doc, func(out screen) {
		switch {
		case p.Project.Schedules == "off":
			out.line("serving %s: schedules are off, nothing starts by itself", doc.Project)
		default:
			out.line("serving %s: %s on schedules", doc.Project, plural(int64(doc.Syncs), "sync"))
		}
		if doc.Listen != "" {
			out.line("  %s/healthz, /readyz, /metrics", doc.Listen)
		}
	})
	if web != nil {
		if host, _, err := net.SplitHostPort(strings.TrimPrefix(doc.Listen, "http://")); err == nil && !net.ParseIP(host).IsLoopback() {
			v.app.log.Warn("everyone who reaches this address can read the state of the syncs", "listen", doc.Listen)
		}
	}
}

// watch takes the project over when its files change, or on SIGHUP.
func (v *server) watch(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	taken := fingerprint(v.options.Dir)
	seen := taken
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.hup:
			taken = fingerprint(v.options.Dir)
			seen = taken
			v.reload(ctx)
		case <-every.C:
			now := fingerprint(v.options.Dir)
			if now != taken && now == seen { // still since the last look: nobody is in the middle of writing
				taken = now
				v.reload(ctx)
			}
			seen = now
		}
	}
}

func (v *server) reload(ctx context.Context) {
	p, err := run.Prepare(v.app.deps(), v.options)
	if err == nil {
		err = v.scheduler.Reload(ctx, p)
	}
	v.metrics.Reloaded(err == nil)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		v.app.log.Error("the changed project is refused: the one before goes on", "problems", len(problems(ctx, err)))
		v.app.tell(problems(ctx, err))
		return
	}
	v.app.log.Info("the project was taken over", "syncs", schedule.Served(p))
}
