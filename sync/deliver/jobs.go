package deliver

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/sync/plan"
)

// Jobs asks an asynchronous destination what became of rows that it accepted (DESIGN §6.6). Not safe for concurrent use.
type Jobs struct {
	d      *delivery
	poller destination.Poller
}

// NewJobs prepares to ask. Of the configuration it needs what sending needs but pages, journal and lease. It is nil where the
// destination is not asynchronous.
func NewJobs(c Config) *Jobs {
	poller, ok := c.Destination.(destination.Poller)
	if !ok {
		return nil
	}
	c.Attempts = 0 // a row that the job did not apply is a change of the next plan
	return &Jobs{d: &delivery{Config: c, circuit: newCircuit(), halted: make(chan struct{})}, poller: poller}
}

// Stats are the requests that asking took.
func (j *Jobs) Stats() Stats { return Stats{Requests: j.d.requests.Load()} }

// Ended asks once whether a job ended. unknown says that the vendor does not know it. An error is the destination's: the job stays
// pending.
func (j *Jobs) Ended(ctx context.Context, job string) (ended, unknown bool, err error) {
	err = j.ask(ctx, func(ctx context.Context) (err error) {
		ended, err = j.poller.Poll(ctx, job)
		return err
	})
	if err == nil {
		return ended, false, nil
	}
	e := asError(err)
	switch e.Class {
	case destination.NotFound:
		return false, true, nil
	case destination.Stop:
		return false, false, refused(j.d.Name, spoken(e, nil))
	case destination.Retry:
		j.d.Pacer.Pause(e.RetryAfter)
	}
	return false, false, vendorDown(j.d.Name, spoken(e, nil))
}

// Results reads the outcomes of a job that ended: one row for each of the page's changes. since is when it was handed over.
func (j *Jobs) Results(ctx context.Context, job string, page *plan.Page, schema *destination.Schema, since time.Time) ([]Row, error) {
	d := &delivery{Config: j.d.Config, circuit: j.d.circuit, halted: j.d.halted}
	d.Schema = schema
	b, p := jobBatch(page)
	request := d.request(b, p.rows, 1)
	var got []destination.Outcome
	err := j.ask(ctx, func(ctx context.Context) (err error) {
		got, err = j.poller.Results(ctx, job, request)
		return err
	})
	if err == nil && len(got) != len(p.rows) {
		err = &destination.Error{Class: destination.Unknown, Code: "bad_outcomes", Message: "the connector did not answer for every row"}
	}
	if err != nil {
		return nil, vendorDown(d.Name, spoken(asError(err), b))
	}
	outcomes := blank(b, since, nil)
	d.rows(ctx, b, p, got, outcomes, since)
	return outcomes, nil
}

// Lost are the outcomes of a job that the vendor does not know, or should have ended long ago: nobody can say what became of it.
func (j *Jobs) Lost(page *plan.Page, code string, since time.Time) []Row {
	b, p := jobBatch(page)
	outcomes := blank(b, since, nil)
	for _, i := range p.rows {
		out := &outcomes[i]
		j.d.close(out, Uncertain, code, "")
		out.Until = later(j.d.Now().Add(j.d.Settle), page.Uncertain[i])
	}
	return outcomes
}

// jobBatch takes a whole page as one batch.
func jobBatch(page *plan.Page) (*batch, part) {
	b := &batch{page: newPage(page)}
	for i := range page.Changes {
		b.rows = append(b.rows, i)
	}
	return b, part{rows: b.rows, attempt: 1}
}

func (j *Jobs) ask(ctx context.Context, do func(context.Context) error) error {
	if err := j.d.Pacer.Wait(ctx, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.d.Timeout)
	defer cancel()
	var requests atomic.Int64
	err := do(httpx.Paid(httpx.Counted(ctx, &requests)))
	j.d.requests.Add(max(requests.Load(), 1))
	if errors.Is(err, context.DeadlineExceeded) {
		err = &destination.Error{Class: destination.Unknown, Code: "timeout", Message: "no answer in time", Err: err}
	}
	return err
}
