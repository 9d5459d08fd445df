package run

import (
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
)

// counted are outcomes as they came back, by class and operation.
type counted map[string]map[destination.Operation]int64

func (c *counted) add(class string, op destination.Operation, n int64) {
	if *c == nil {
		*c = counted{}
	}
	if (*c)[class] == nil {
		(*c)[class] = map[destination.Operation]int64{}
	}
	(*c)[class][op] += n
}

func (c *counted) take(p deliver.Result) {
	for op, n := range p.Delivered {
		c.add(deliver.Delivered, op, n)
	}
	for _, r := range p.Rows {
		c.add(r.Class, r.Operation, 1)
	}
}

func (c counted) delivered() int64 {
	var n int64
	for _, ops := range []map[destination.Operation]int64{c[deliver.Delivered], c[deliver.Accepted]} {
		for _, k := range ops {
			n += k
		}
	}
	return n
}

// put adds n rows of an operation; a rekey counts as update.
func put(c *report.Counts, op destination.Operation, n int64) {
	switch op {
	case destination.OpAdd:
		c.Add += n
	case destination.OpUpdate, destination.OpRekey:
		c.Update += n
	case destination.OpRemove:
		c.Remove += n
	}
}

// count takes the outcomes of a delivery into the report.
func (r *one) count(c counted) { r.outcomes = c }

// tally fills the report from the plan's groups and the outcomes: what was planned to be sent and has no outcome is deferred.
func (r *one) tally() {
	if r.changes == nil {
		return
	}
	rep, ch := &r.report, r.changes
	for _, c := range []*report.Counts{
		&rep.Planned, &rep.Delivered, &rep.Accepted, &rep.Rejected, &rep.Uncertain, &rep.Parked, &rep.Held, &rep.Skipped.Counts, &rep.Deferred,
	} {
		*c = report.Counts{}
	}
	rep.Skipped.Reasons, rep.Forgotten = map[string]int64{}, 0
	rep.Rows, rep.Unchanged = ch.Rows, ch.Unchanged()
	left := map[destination.Operation]int64{}
	for _, g := range ch.Groups {
		if g.Operation == plan.Forget {
			if g.State == plan.Send && !r.holds(plan.Forget) && r.closed {
				rep.Forgotten += g.Rows
			}
			continue
		}
		put(&rep.Planned, g.Operation, g.Rows)
		switch {
		case g.State == plan.Send && r.holds(g.Operation):
			put(&rep.Held, g.Operation, g.Rows)
		case g.State == plan.Send:
			left[g.Operation] += g.Rows
		case g.State == plan.Skipped:
			put(&rep.Skipped.Counts, g.Operation, g.Rows)
			rep.Skipped.Reasons[g.Reason] += g.Rows
		case g.State == plan.Rejected:
			put(&rep.Rejected, g.Operation, g.Rows)
		case g.State == plan.Held:
			put(&rep.Held, g.Operation, g.Rows)
		case g.State == plan.Parked:
			put(&rep.Parked, g.Operation, g.Rows)
		default:
			put(&rep.Deferred, g.Operation, g.Rows)
		}
	}
	for class, ops := range r.outcomes {
		for op, n := range ops {
			left[op] -= n
			r.outcome(class, op, n)
		}
	}
	for op, n := range left {
		put(&rep.Deferred, op, n)
	}
}

// outcome puts rows of one class where the report has them.
func (r *one) outcome(class string, op destination.Operation, n int64) {
	rep := &r.report
	switch class {
	case deliver.Delivered:
		put(&rep.Delivered, op, n)
	case deliver.Accepted:
		put(&rep.Accepted, op, n)
	case deliver.Rejected:
		put(&rep.Rejected, op, n)
	case deliver.Uncertain:
		put(&rep.Uncertain, op, n)
	case deliver.NoRecord:
		put(&rep.Skipped.Counts, op, n)
		rep.Skipped.Reasons["no_record"] += n
	case deliver.NotFound:
		if r.sync.Mode == destination.Update {
			put(&rep.Skipped.Counts, op, n)
			rep.Skipped.Reasons["not_found"] += n
			return
		}
		put(&rep.Deferred, op, n) // the next plan adds it
	default:
		put(&rep.Deferred, op, n)
	}
}
