package run

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
)

// stale says, one sentence each, what a sync reads or requires and is older than it may be, or did not pass dbt's tests. Nothing is sent from old data: a sync
// would undo at the destination what newer data had done there.
func (s *Session) stale(ctx context.Context, c *compile.Sync) ([]string, error) {
	var out []string
	for _, f := range c.Fresh {
		newest, err := s.newest(ctx, f)
		if err != nil {
			return nil, err
		}
		switch age := s.AsOf.Sub(newest); {
		case newest.IsZero():
			out = append(out, fmt.Sprintf("%s has no row that says when it was loaded, and must be at most %s old", f.Name, span(f.Within)))
		case age > f.Within:
			out = append(out, fmt.Sprintf("the newest row of %s is %s old, more than fresh: %s", f.Name, span(age), span(f.Within)))
		}
	}
	if len(c.DBT) > 0 {
		out = append(out, s.Graph.DBT.Unmet(c.DBT, s.AsOf)...)
	}
	return out, nil
}

// newest is when the newest row was loaded; zero = there is none.
func (s *Session) newest(ctx context.Context, f compile.Freshness) (time.Time, error) {
	rows, err := s.Warehouse.Query(ctx, f.Query)
	if err != nil {
		return time.Time{}, &diag.Error{
			Kind: kindOfSQL(err), Pos: f.Pos, Code: "sync.requires", Msg: "looking how fresh " + f.Name + " is", Err: err,
			Hint: "loaded_at must name a column of times",
		}
	}
	defer rows.Close()
	if !rows.Next() {
		return time.Time{}, rows.Err()
	}
	v, err := rows.Values()
	if err != nil {
		return time.Time{}, err
	}
	t, _ := v[0].(time.Time)
	return t, rows.Err()
}

// required stops a sync whose sources are too old, with their age.
func (s *Session) required(ctx context.Context, c *compile.Sync) error {
	reasons, err := s.stale(ctx, c)
	if err != nil || len(reasons) == 0 {
		return err
	}
	stopped := diag.Errorf(diag.Stopped, "sync.requires", "%s: %s; nothing was sent", c.Name, strings.Join(reasons, "; "))
	if len(c.Fresh) == 0 {
		return stopped.WithHint("run dbt build, or dbt source freshness, and then the sync; or change requires: in %s", c.Config.At("requires").File)
	}
	return stopped.WithHint("see why the source was not loaded; or give it more time: fresh: in %s", c.Fresh[0].Pos.File)
}

// span is a duration as people say it: two of its parts at most.
func span(d time.Duration) string {
	parts := []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	var out []string
	for _, p := range parts {
		if n := d / p.unit; n > 0 && len(out) < 2 {
			out = append(out, fmt.Sprintf("%d%s", n, p.name))
			d -= n * p.unit
		} else if len(out) > 0 {
			break
		}
	}
	if len(out) == 0 {
		return "0s"
	}
	return strings.Join(out, " ")
}
