// Package run is the one main path of DESIGN §3: prepare, build, plan, guard, deliver, commit, report.
package run

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/build"
)

// Options are the flags every command has.
type Options struct {
	Dir        string // the project's directory
	Target     string
	Vars       map[string]string
	AsOf       string // RFC 3339, a date, or ""
	Env        func(string) (string, bool)
	ShowValues bool
	Threads    int
	FailFast   bool
}

// Deps is what the process lends the path: no package below opens anything by itself.
type Deps struct {
	Connector     func(typ string) (destination.Connector, bool)
	OpenWarehouse func(ctx context.Context, typ string, options map[string]any, dir string) (warehouse.Warehouse, error)
	Transport     http.RoundTripper // nil = the default
	UserAgent     string            // dray/1.2.3
	Log           *slog.Logger
	Now           func() time.Time
	After         func(time.Duration) <-chan time.Time // waits between tries; nil = time.After
	Tracer        trace.Tracer                         // spans of the path; nil = none
	PageRows      int64                                // planned rows a page; 0 = plan.PageRows
	Progress      Progress                             // nil = none
	Built         func(build.NodeResult)               // hears of each node of a build; nil = nobody
	Running       *Running                             // shared by the sessions of a process; nil = this session is alone
	Host          *Host                                // what the sessions of a process that lives on share; nil = this one is alone
}

// Progress hears of long work; implementations are safe for concurrent use. total 0 = unknown; rate, where it is not nil, tells how
// many requests a second may be made now, 0 = any number.
type Progress interface {
	Start(what string, total int64, rate func() float64)
	Add(n int64)
	Done()
}

// Backfill says which rows are sent again whatever the difference says.
type Backfill struct {
	Full   bool
	Where  string
	Keys   string // a file
	Fields []string
	Since  string
	Limit  int64
	DryRun bool
	Resend bool
	Resume string
	Runs   []string // those that Resume goes on from, found by Session.Backfill
	Parts  []string // those of this same backfill, which gave way to other runs
}

// RunOptions are those of `dray run`.
type RunOptions struct {
	DryRun bool
	Allow  []string // removes=<fingerprint>, changes=<fingerprint>, mapping=<fingerprint>, empty=<fingerprint>
	Full   bool     // full refresh of incremental models
}
