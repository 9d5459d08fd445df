package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
)

// part is some rows of a batch on their way: a whole batch at first, halves of it where it must be split.
type part struct {
	rows    []int // of the batch
	attempt int
	// maybe: an earlier try may have been applied; silent is when the last one began that may still be.
	maybe  bool
	silent time.Time
}

// send tries a batch until every row of it has an outcome. outcomes are aligned with b.rows.
func (d *delivery) send(ctx context.Context, b *batch, started time.Time, room []Row) []Row {
	defer d.circuit.leave(&b.pass)
	outcomes := blank(b, started, room)
	all := make([]int, len(b.rows))
	for i := range all {
		all[i] = i
	}
	todo := []part{{rows: all}}
	if d.Object.MembersByID {
		todo = d.resolve(ctx, b, all, outcomes)
	}
	if len(d.IfEmpty) > 0 {
		todo = d.peek(ctx, b, all, outcomes)
	}
	if len(d.Lookups) > 0 && len(todo) > 0 {
		todo = d.find(ctx, b, todo[0].rows, outcomes)
	}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], d.try(ctx, b, p, outcomes)...)
	}
	return outcomes
}

// blank are the rows of a batch without outcomes, in room if that is enough.
func blank(b *batch, started time.Time, room []Row) []Row {
	outcomes := slices.Grow(room[:0], len(b.rows))
	for _, r := range b.rows {
		outcomes = append(outcomes, Row{KeyHash: b.page.KeyHash[r], Operation: b.page.Changes[r].Operation, SentAt: started})
	}
	return outcomes
}

// resolve looks up the record ids of rows that have none; rows without a record are not sent.
func (d *delivery) resolve(ctx context.Context, b *batch, all []int, outcomes []Row) []part {
	var without, with []int
	for _, i := range all {
		if b.page.Changes[b.rows[i]].RemoteID == "" {
			without = append(without, i)
		} else {
			with = append(with, i)
		}
	}
	if r, ok := d.Destination.(destination.Resolver); ok && len(without) > 0 {
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
		defer cancel()
		var ids []string
		err := d.lookUp(lctx, b, func(ctx context.Context) (err error) {
			ids, err = r.Resolve(ctx, d.request(b, without, 1))
			return err
		})
		if err != nil || len(ids) != len(without) {
			d.lookupFailed(spokenOf(err, b))
			for _, i := range without {
				d.close(&outcomes[i], Deferred, "lookup_failed", "")
			}
			return parts(with)
		}
		leaving, err := d.leaving(ctx, ids)
		if err != nil {
			d.halt(err)
		}
		found := without
		without = nil
		for k, i := range found {
			if ids[k] == "" {
				without = append(without, i)
				continue
			}
			if outcomes[i].Operation != destination.OpRemove && (err != nil || leaving[ids[k]]) {
				d.close(&outcomes[i], Deferred, "moved", "") // this run removes the record under another key
				continue
			}
			b.page.Changes[b.rows[i]].RemoteID = ids[k]
			with = append(with, i)
		}
	}
	for _, i := range without {
		if outcomes[i].Operation == destination.OpRemove {
			d.close(&outcomes[i], Delivered, "", "") // what is not there is no member
			continue
		}
		d.close(&outcomes[i], NoRecord, "no_record", "")
	}
	return parts(with)
}

// lookUp makes a connector's look-up, which the circuit lets through like any request.
func (d *delivery) lookUp(ctx context.Context, b *batch, f func(context.Context) error) error {
	if err := d.circuit.enter(ctx, d.halted, &b.pass); err != nil {
		return err
	}
	var requests atomic.Int64
	err := f(httpx.Counted(ctx, &requests))
	d.requests.Add(max(requests.Load(), 1))
	d.circuit.tell(&b.pass, answers(err))
	return err
}

func (d *delivery) leaving(ctx context.Context, ids []string) (map[string]bool, error) {
	known := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "" })
	if d.Leaving == nil || len(known) == 0 {
		return nil, nil
	}
	return d.Leaving(context.WithoutCancel(ctx), known)
}

func (d *delivery) lookupFailed(err error) {
	var de *destination.Error
	if errors.As(err, &de) {
		if de.Class == destination.Stop {
			d.halt(refused(d.Name, spoken(de, nil)))
		} else if d.failures.Add(1) >= maxFailures {
			d.halt(vendorDown(d.Name, spoken(de, nil)))
		}
	}
}

func parts(rows []int) []part {
	if len(rows) == 0 {
		return nil
	}
	return []part{{rows: rows}}
}

func (d *delivery) request(b *batch, rows []int, attempt int) *destination.Batch {
	out := &destination.Batch{Run: d.Run, Object: d.Object.Name, Options: d.Options, Container: d.Container, Schema: d.Schema, Attempt: attempt}
	// Rows that follow each other in their page, as they mostly do, need not be copied.
	first, adjoin := b.rows[rows[0]], true
	for k, i := range rows {
		adjoin = adjoin && b.rows[i] == first+k
	}
	if adjoin {
		out.Changes = b.page.Changes[first : first+len(rows) : first+len(rows)]
		return out
	}
	out.Changes = make([]destination.Change, len(rows))
	for k, i := range rows {
		out.Changes[k] = b.page.Changes[b.rows[i]]
	}
	return out
}

// maxFailures is how many batches in a row may end without an answer before the vendor is taken to be down.
const maxFailures = 3

// try sends one part once and returns what is left to try.
func (d *delivery) try(ctx context.Context, b *batch, p part, outcomes []Row) []part {
	p.attempt++
	got, began, err := d.ask(ctx, b, p)
	if errors.Is(err, errNotAsked) {
		p.attempt--
		d.giveUp(b, p, outcomes, "interrupted", "")
		return nil
	}
	if err == nil {
		d.failures.Store(0)
		d.answered.Store(true)
		return d.pause(ctx, b, d.rows(ctx, b, p, got, outcomes, began), outcomes)
	}
	return d.whole(ctx, b, p, asError(err), outcomes, began)
}

// errNotAsked: the run ended before a request was made.
var errNotAsked = errors.New("the run ended first")

// ask makes the request of a part when it may be made.
func (d *delivery) ask(ctx context.Context, b *batch, p part) (got []destination.Outcome, began time.Time, err error) {
	if d.circuit.enter(ctx, d.halted, &b.pass) != nil {
		return nil, began, errNotAsked
	}
	if d.share != nil && !d.sleep(ctx, d.share.take()) {
		return nil, began, errNotAsked
	}
	if d.Pacer.Wait(ctx, d.halted) != nil {
		return nil, began, errNotAsked
	}
	if err := d.Lease(); err != nil { // it may have ended while this part waited
		d.halt(err)
		return nil, began, errNotAsked
	}
	if p.attempt > 1 {
		d.retries.Add(1)
	}
	began = d.Now()
	// An interrupted run drains what is in flight: a request ends by its own time-out only.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	var requests atomic.Int64
	rctx, end := d.span(rctx, b, p)
	defer func() { end(err) }()
	got, err = d.Destination.Write(httpx.Paid(httpx.Counted(rctx, &requests)), d.request(b, p.rows, p.attempt))
	d.requests.Add(max(requests.Load(), 1)) // a destination without HTTP counts its writes
	if err == nil && len(got) != len(p.rows) {
		err = &destination.Error{Class: destination.Unknown, Code: "bad_outcomes", Message: "the connector did not answer for every row"}
	}
	d.circuit.tell(&b.pass, answers(err))
	return got, began, err
}

func asError(err error) *destination.Error {
	var de *destination.Error
	if errors.As(err, &de) {
		return de
	}
	return &destination.Error{Class: destination.Unknown, Code: "error", Message: "the request failed", Settles: true, Err: err}
}

// rows takes one outcome per row.
func (d *delivery) rows(ctx context.Context, b *batch, p part, got []destination.Outcome, outcomes []Row, began time.Time) []part {
	var again, exist []int
	for k, i := range p.rows {
		o, out, r := got[k], &outcomes[i], b.rows[i]
		out.Attempt = p.attempt
		out.RemoteID, out.Origin = o.RemoteID, string(o.Origin)
		message := scrub(o.Message, &b.page.Changes[r], b)
		o.Code = scrubCode(o.Code, &b.page.Changes[r], b)
		switch o.Class {
		case destination.Delivered, destination.Accepted:
			d.delivered(b, p, i, o.Class, outcomes, began)
			if o.Class == destination.Accepted && o.Job != "" {
				out.Class, out.Job, out.Seq = Submitted, o.Job, k
			}
		case destination.NotFound:
			if out.Operation == destination.OpRemove {
				d.delivered(b, p, i, destination.Delivered, outcomes, began) // removing what is gone
				continue
			}
			d.refuse(b, p, i, NotFound, o.Code, message, outcomes)
		case destination.Retry:
			if p.attempt < d.Attempts {
				again = append(again, i)
				continue
			}
			d.giveUp(b, part{rows: []int{i}, attempt: p.attempt, maybe: p.maybe, silent: p.silent}, outcomes, o.Code, message)
		case destination.Unknown:
			out.Class, out.Code, out.Message = Uncertain, o.Code, message
			out.Until = later(d.until(p.silent), began, b.page.Uncertain[r])
		default:
			d.refuse(b, p, i, Rejected, o.Code, message, outcomes)
			if o.Exists && out.Class == Uncertain && d.Run.Mode == destination.Insert {
				exist = append(exist, i)
			}
		}
	}
	d.made(ctx, b, p, exist, outcomes, began)
	if len(again) == 0 {
		return nil
	}
	return []part{{rows: again, attempt: p.attempt, maybe: p.maybe, silent: p.silent}}
}

// made settles inserts that were sent before without an answer and are refused now because the record exists: where the vendor finds
// it by the row's own key, there is nothing left to do. Ours may have made it, or somebody else's between; either way a record of
// that key is there, which is what an insert is for, and no further try could make another. Its origin stays unknown, so that it
// is never deleted as ours.
func (d *delivery) made(ctx context.Context, b *batch, p part, rows []int, outcomes []Row, began time.Time) {
	r, ok := d.Destination.(destination.Resolver)
	if !ok || len(rows) == 0 {
		return
	}
	lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	var ids []string
	err := d.lookUp(lctx, b, func(ctx context.Context) (err error) {
		ids, err = r.Resolve(ctx, d.request(b, rows, p.attempt))
		return err
	})
	if err != nil || len(ids) != len(rows) {
		return // they stay uncertain, and come again
	}
	for k, i := range rows {
		if ids[k] != "" {
			outcomes[i].RemoteID, outcomes[i].Origin, outcomes[i].Until = ids[k], "unknown", time.Time{}
			d.delivered(b, p, i, destination.Delivered, outcomes, began)
		}
	}
}

// delivered settles an acknowledged row unless an earlier, unanswered try may still be applied after it (DESIGN §6.5).
func (d *delivery) delivered(b *batch, p part, i int, class destination.Class, outcomes []Row, began time.Time) {
	out := &outcomes[i]
	out.Class = Delivered
	if class == destination.Accepted {
		out.Class = Accepted
	}
	if until := later(d.until(p.silent), b.page.Uncertain[b.rows[i]]); began.Before(until) {
		out.Until = until
	}
}

// refuse takes a refusal: of a row that may have been applied by an earlier try it says nothing (DESIGN §6.5).
func (d *delivery) refuse(b *batch, p part, i int, class, code, message string, outcomes []Row) {
	out, before := &outcomes[i], b.page.Uncertain[b.rows[i]]
	out.Attempt, out.Code, out.Message = p.attempt, code, message
	if p.maybe || !before.IsZero() {
		out.Class, out.Until = Uncertain, later(d.until(p.silent), before, out.SentAt)
		return
	}
	out.Class = class
}

// giveUp closes rows that get no more tries: uncertain where a try may have been applied, deferred where none was.
func (d *delivery) giveUp(b *batch, p part, outcomes []Row, code, message string) {
	for _, i := range p.rows {
		out, before := &outcomes[i], b.page.Uncertain[b.rows[i]]
		out.Attempt, out.Code, out.Message = p.attempt, code, message
		if p.maybe || !before.IsZero() {
			out.Class, out.Until = Uncertain, later(d.until(p.silent), before, out.SentAt)
			continue
		}
		out.Class = Deferred
	}
}

func (d *delivery) close(out *Row, class, code, message string) {
	out.Class, out.Code, out.Message = class, code, message
}

func (d *delivery) until(silent time.Time) time.Time {
	if silent.IsZero() {
		return silent
	}
	return silent.Add(d.Settle)
}

func later(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if t.After(out) {
			out = t
		}
	}
	return out
}

// whole takes what befell a part as a whole.
func (d *delivery) whole(ctx context.Context, b *batch, p part, e *destination.Error, outcomes []Row, began time.Time) []part {
	switch e.Class {
	case destination.Split, destination.Rejected:
		d.failures.Store(0)
		d.answered.Store(true)
		return d.split(b, p, e, outcomes)
	case destination.Stop:
		d.halt(refused(d.Name, spoken(e, b)))
		d.giveUp(b, p, outcomes, code(e), "")
		return nil
	case destination.Retry:
		d.Pacer.Pause(e.RetryAfter)
	default:
		p.maybe = true
		if e.Settles {
			p.silent = began
		}
	}
	skip := d.OnUncertain == "skip" && d.Run.Mode == destination.Insert && p.maybe
	if e.RetryAfter > maxWait {
		d.giveUp(b, p, outcomes, code(e), "")
		d.halt(comeLater(d.Name, e))
		return nil
	}
	// Once a batch had all its tries and no answer, one try of each of the next shows whether it was that batch or is the vendor.
	if p.attempt >= d.Attempts || skip || d.failures.Load() > 0 && !answers(e) {
		d.giveUp(b, p, outcomes, code(e), "")
		d.down.Store(ptr(vendorDown(d.Name, spoken(e, b))))
		if n := d.failures.Add(1); n >= maxFailures || !d.answered.Load() && unreachable(e) {
			d.halt(*d.down.Load())
		}
		return nil
	}
	d.Log.LogAttrs(ctx, levelRetry, "trying again", retryAttrs(d.Run, p, e)...)
	if !d.sleep(ctx, backoff(p.attempt, e.RetryAfter)) {
		d.giveUp(b, p, outcomes, code(e), "")
		return nil
	}
	return []part{p}
}

// pause waits before rows are tried again that the vendor asked to send later.
func (d *delivery) pause(ctx context.Context, b *batch, again []part, outcomes []Row) []part {
	for _, p := range again {
		if !d.sleep(ctx, backoff(p.attempt, 0)) {
			d.giveUp(b, p, outcomes, "interrupted", "")
			return nil
		}
	}
	return again
}

// sleep is false where the run ends first.
func (d *delivery) sleep(ctx context.Context, wait time.Duration) bool {
	select {
	case <-d.After(wait):
		return true
	case <-ctx.Done():
	case <-d.halted:
	}
	return false
}

// split halves a refused part until the bad row stands alone.
func (d *delivery) split(b *batch, p part, e *destination.Error, outcomes []Row) []part {
	if len(p.rows) > 1 && e.Class == destination.Split {
		half := len(p.rows) / 2
		return []part{
			{rows: p.rows[half:], attempt: 0, maybe: p.maybe, silent: p.silent},
			{rows: p.rows[:half], attempt: 0, maybe: p.maybe, silent: p.silent},
		}
	}
	for _, i := range p.rows {
		c := &b.page.Changes[b.rows[i]]
		d.refuse(b, p, i, Rejected, scrubCode(e.Code, c, b), scrub(e.Message, c, b), outcomes)
	}
	return nil
}

// maxWait is the longest that a run waits because a vendor asks it to; after that the next run is soon enough.
const maxWait = 10 * time.Minute

// backoff doubles from half a second to half a minute, with jitter; a vendor that says when is believed.
func backoff(attempt int, after time.Duration) time.Duration {
	if after > 0 {
		return after
	}
	wait := min(500*time.Millisecond<<min(attempt-1, 10), 30*time.Second)
	return wait/2 + rand.N(wait/2) //nolint:gosec // jitter
}
