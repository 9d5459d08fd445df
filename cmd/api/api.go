// Package api is what `dray serve` answers over HTTP: whether it lives, whether it is ready, its metrics, and the syncs and runs
// as JSON. Everything is read-only, and holds names, counts and codes, never a customer's value (I6).
package api

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dray-dev/dray/internal/timetable"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

// Options are what the answers are made of.
type Options struct {
	Metrics *Metrics
	State   *state.State
	Project func() *run.Prepared
	Alive   func() time.Time // when the scheduler last went round; zero = it has not begun
	Counts  func(context.Context) (waiting, running int, err error)
	Now     func() time.Time
	// Stopping: no run is started any more; those under way end.
	Stopping func() bool
}

// deadAfter is how long the scheduler may be silent: it goes round at least every half minute.
const deadAfter = 2 * time.Minute

// Server answers until Close.
type Server struct {
	http *http.Server
	addr string
	done chan struct{}
}

// Listen begins to answer on an address.
func Listen(ctx context.Context, address string, o Options) (*Server, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{
		http: &http.Server{Handler: Handler(o), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute},
		addr: l.Addr().String(), done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // it ends with Close
	}()
	return s, nil
}

// URL is where it answers.
func (s *Server) URL() string { return "http://" + s.addr }

// Close ends it.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Handler answers.
func Handler(o Options) http.Handler {
	v := &views{o}
	reg := o.Metrics.registry
	reg.MustRegister(v)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", v.health)
	mux.HandleFunc("GET /readyz", v.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/v1/syncs", v.syncs)
	mux.HandleFunc("GET /api/v1/runs", v.runs)
	return mux
}

type views struct{ o Options }

type health struct {
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`
}

// health says whether the process lives: one that does not is to be restarted.
func (v *views) health(w http.ResponseWriter, _ *http.Request) {
	if beat := v.o.Alive(); !beat.IsZero() && v.o.Now().Sub(beat) > deadAfter {
		answer(w, http.StatusServiceUnavailable, health{"stuck", "the scheduler has not moved since " + beat.UTC().Format(time.RFC3339)})
		return
	}
	answer(w, http.StatusOK, health{Status: "ok"})
}

// ready says whether syncs are being started.
func (v *views) ready(w http.ResponseWriter, r *http.Request) {
	if v.o.Stopping() {
		answer(w, http.StatusServiceUnavailable, health{"stopping", ""})
		return
	}
	if v.o.Alive().IsZero() {
		answer(w, http.StatusServiceUnavailable, health{"starting", ""})
		return
	}
	if _, _, err := v.o.Counts(r.Context()); err != nil {
		answer(w, http.StatusServiceUnavailable, health{"failing", "the control state does not answer"})
		return
	}
	v.health(w, r)
}

// syncView is a sync as the scheduler sees it.
type syncView struct {
	Sync     string     `json:"sync"`
	Enabled  bool       `json:"enabled"`
	Schedule string     `json:"schedule,omitempty"`
	NextRun  *time.Time `json:"next_run,omitempty"`
	PausedAt *time.Time `json:"paused_at,omitempty"`
	Note     string     `json:"note,omitempty"`
}

func (v *views) syncs(w http.ResponseWriter, r *http.Request) {
	p := v.o.Project()
	kept, err := v.o.State.Schedules(r.Context(), p.Project.Schema)
	if err != nil {
		answer(w, http.StatusInternalServerError, health{"failing", "the control state does not answer"})
		return
	}
	out := []syncView{}
	for _, c := range p.Project.Syncs {
		s := syncView{Sync: c.Name, Enabled: c.Enabled == nil || *c.Enabled, Schedule: c.Schedule, Note: kept[c.Name].Note}
		if at := kept[c.Name].PausedAt; !at.IsZero() {
			s.PausedAt = &at
		}
		if table, err := timetable.Parse(c.Schedule, c.Timezone); err == nil && s.Enabled && s.PausedAt == nil && p.Project.Schedules != "off" {
			next := table.Next(v.o.Now())
			s.NextRun = &next
		}
		out = append(out, s)
	}
	answer(w, http.StatusOK, out)
}

// runs answers ?sync=NAME&limit=N: runs that have ended, newest first.
func (v *views) runs(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit < 1 || limit > 1000 {
		limit = 20
	}
	list, err := v.o.State.Runs(r.Context(), state.RunFilter{Schema: v.o.Project().Project.Schema, Sync: r.FormValue("sync"), Ended: true, Limit: limit})
	if err != nil {
		answer(w, http.StatusInternalServerError, health{"failing", "the control state does not answer"})
		return
	}
	out := []json.RawMessage{}
	for _, run := range list {
		if len(run.Report) > 0 {
			out = append(out, run.Report)
		}
	}
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, code int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(doc)
}

// Describe sends nothing: what is collected depends on the project.
func (v *views) Describe(chan<- *prometheus.Desc) {}

// Collect reads the queue, and how long ago each sync last succeeded.
func (v *views) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the library hands no context on
	defer cancel()
	if waiting, running, err := v.o.Counts(ctx); err == nil {
		jobs := prometheus.NewDesc("dray_queue_jobs", "Syncs that are due, by whether they wait or run.", []string{"state"}, nil)
		out <- prometheus.MustNewConstMetric(jobs, prometheus.GaugeValue, float64(waiting), "waiting")
		out <- prometheus.MustNewConstMetric(jobs, prometheus.GaugeValue, float64(running), "running")
	}
	p := v.o.Project()
	names := make([]string, len(p.Project.Syncs))
	for i, c := range p.Project.Syncs {
		names[i] = c.Name
	}
	ends, err := v.o.State.Ends(ctx, p.Project.Schema, names)
	if err != nil {
		return
	}
	since := prometheus.NewDesc("dray_seconds_since_success", "Seconds since the sync last succeeded, with at most rejected rows; absent where it never did.", []string{"sync"}, nil)
	for _, name := range names {
		var last time.Time
		for _, e := range ends[name] {
			if (e.Status == string(report.Succeeded) || e.Status == string(report.Partial)) && e.EndedAt.After(last) {
				last = e.EndedAt
			}
		}
		if !last.IsZero() {
			out <- prometheus.MustNewConstMetric(since, prometheus.GaugeValue, v.o.Now().Sub(last).Seconds(), name)
		}
	}
}
