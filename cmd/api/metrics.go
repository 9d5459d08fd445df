package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dray-dev/dray/sync/report"
)

// Metrics counts what runs did, for /metrics. Labels hold names of the project, never a value. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	rows     *prometheus.CounterVec
	runs     *prometheus.CounterVec
	requests *prometheus.CounterVec
	retries  *prometheus.CounterVec
	plan     *prometheus.HistogramVec
	deliver  *prometheus.HistogramVec
	lag      prometheus.Histogram
	skipped  *prometheus.CounterVec
	valid    prometheus.Gauge
}

// NewMetrics makes them, all zero.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	seconds := prometheus.ExponentialBuckets(0.01, 4, 9) // to eleven minutes
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds}, []string{"sync"})
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		rows:     counter("dray_rows_total", "Rows of runs, by what became of them.", "sync", "operation", "outcome"),
		runs:     counter("dray_runs_total", "Runs that ended, by status.", "sync", "status"),
		requests: counter("dray_requests_total", "Requests made to destinations.", "sync"),
		retries:  counter("dray_retries_total", "Requests that were made again.", "sync"),
		plan:     histogram("dray_plan_seconds", "How long it took to compute what changed."),
		deliver:  histogram("dray_delivery_seconds", "How long it took to send and commit it."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dray_schedule_lag_seconds", Help: "How long after it was due a run started, jitter included.", Buckets: prometheus.ExponentialBuckets(0.05, 3, 9),
		}),
		skipped: counter("dray_skipped_total", "Due times that came to no run, because a sync that comes before had not ended well.", "sync"),
		valid:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "dray_project_valid", Help: "1: the project's files are those that are served. 0: they have errors, and the version before goes on."}),
	}
	m.valid.Set(1)
	m.registry.MustRegister(m.rows, m.runs, m.requests, m.retries, m.plan, m.deliver, m.lag, m.skipped, m.valid,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Ended counts a run.
func (m *Metrics) Ended(r report.Run) {
	m.runs.WithLabelValues(r.Sync, string(r.Status)).Inc()
	for outcome, c := range map[string]report.Counts{
		"delivered": r.Delivered, "accepted": r.Accepted, "rejected": r.Rejected, "uncertain": r.Uncertain, "parked": r.Parked,
		"held": r.Held, "skipped": r.Skipped.Counts, "deferred": r.Deferred,
	} {
		for operation, n := range map[string]int64{"add": c.Add, "update": c.Update, "remove": c.Remove} {
			if n > 0 {
				m.rows.WithLabelValues(r.Sync, operation, outcome).Add(float64(n))
			}
		}
	}
	m.requests.WithLabelValues(r.Sync).Add(float64(r.Requests))
	m.retries.WithLabelValues(r.Sync).Add(float64(r.Retries))
	if r.PlanSeconds > 0 {
		m.plan.WithLabelValues(r.Sync).Observe(r.PlanSeconds)
	}
	if r.DeliverySeconds > 0 {
		m.deliver.WithLabelValues(r.Sync).Observe(r.DeliverySeconds)
	}
}

// Started counts a run that begins; lag is how long after it was due.
func (m *Metrics) Started(_ string, lag time.Duration) { m.lag.Observe(lag.Seconds()) }

// Skipped counts a due time that came to no run.
func (m *Metrics) Skipped(sync string) { m.skipped.WithLabelValues(sync).Inc() }

// Reloaded tells whether the project's files are those that are served.
func (m *Metrics) Reloaded(valid bool) {
	m.valid.Set(0)
	if valid {
		m.valid.Set(1)
	}
}
