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

// of is how many rows have a class.
func (c counted) of(class string) int64 {
	var n int64
	for _, k := range c[class] {
		n += k
	}
	return n
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
	r.tallyOwn()
	if b := r.earlier; b != nil {
		rep := &r.report
		for _, c := range [][2]*report.Counts{
			{&rep.Planned, &b.Planned},
			{&rep.Delivered, &b.Delivered},
			{&rep.Accepted, &b.Accepted},
			{&rep.Rejected, &b.Rejected},
			{&rep.Uncertain, &b.Uncertain},
			{&rep.Held, &b.Held},
			{&rep.Skipped.Counts, &b.Skipped.Counts},
			{&rep.Deferred, &b.Deferred},
			{&rep.Parked, &b.Parked},
		} {
			c[0].Remove += c[1].Remove
		}
		for reason, n := range b.Skipped.Reasons {
			rep.Skipped.Reasons[reason] += n
		}
		rep.Requests, rep.Retries = r.stats.Requests+b.Requests, r.stats.Retries+b.Retries
	}
}

func (r *one) tallyOwn() {
	for _, c := range []*report.Counts{
		&r.report.Planned, &r.report.Delivered, &r.report.Accepted, &r.report.Rejected, &r.report.Uncertain, &r.report.Parked, &r.report.Held,
		&r.report.Skipped.Counts, &r.report.Deferred,
	} {
		*c = report.Counts{}
	}
	r.report.Skipped.Reasons, r.report.Refused, r.report.Forgotten = map[string]int64{}, nil, 0
	r.report.Requests, r.report.Retries = r.stats.Requests, r.stats.Retries
	if r.changes == nil {
		return
	}
	rep, ch := &r.report, r.changes
	rep.Rows, rep.Unchanged, rep.HeldOut, rep.Refreshed = ch.Rows, ch.Unchanged(), ch.HeldOut, r.refreshed
	left := map[destination.Operation]int64{}
	for _, g := range ch.Groups {
		if g.Operation == plan.Forget {
			if g.State == plan.Send && !r.holds(g) && r.closed {
				rep.Forgotten += g.Rows
			}
			continue
		}
		put(&rep.Planned, g.Operation, g.Rows)
		switch {
		case r.holds(g):
			put(&rep.Held, g.Operation, g.Rows)
		case g.State == plan.Send:
			left[g.Operation] += g.Rows
		case g.State == plan.Skipped:
			put(&rep.Skipped.Counts, g.Operation, g.Rows)
			rep.Skipped.Reasons[g.Reason] += g.Rows
		case g.State == plan.Rejected:
			put(&rep.Rejected, g.Operation, g.Rows)
			if rep.Refused == nil {
				rep.Refused = map[string]int64{}
			}
			rep.Refused[g.Reason] += g.Rows
		case g.State == plan.Held:
			put(&rep.Held, g.Operation, g.Rows)
		case g.State == plan.Pending: // by an earlier run
			put(&rep.Accepted, g.Operation, g.Rows)
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
	case deliver.Accepted, deliver.Submitted:
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
