// Package deliver sends the changes of a plan: pages → batches → requests, paced, retried, split and journalled, once for all
// connectors. It is the step between guard and commit, and keeps I1's first half: an outcome is delivered only where the vendor
// said so for that row; what was sent and not answered is uncertain; before a batch is sent its intent is durable (DESIGN §6).
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/state"
)

// pager is all that delivery asks of a plan. Two pages are read at once.
type pager interface {
	Pages() int64
	Read(ctx context.Context, k int64) (*plan.Page, error)
}

// journal is all that delivery asks of the control state.
type journal interface {
	Write(ctx context.Context, e state.Entry) error
	OpenPage(ctx context.Context, runID string, page int64) error
}

// Config is one delivery.
type Config struct {
	Name        string // of the destination, in errors
	Destination destination.Destination
	Spec        destination.Spec
	Object      destination.Object
	Run         destination.Run
	Options     destination.Config
	Container   string
	Schema      *destination.Schema
	Pages       pager
	Journal     journal
	Pacer       *Pacer
	Share       float64       // of the pacer's rate that this delivery may use; 0 = all
	BatchSize   int           // rows a request
	MaxBytes    int           // of a request's body; 0 = no limit. The Destination must be a Sizer
	Concurrency int           // batches under way at once
	Attempts    int           // tries of one request
	Timeout     time.Duration // of one request
	Settle      time.Duration // how long an unanswered request may still be applied
	OnUncertain string        // skip: an unanswered insert is not tried again
	Now         func() time.Time
	Tracer      trace.Tracer                         // a span a request, of the first maxSpans; nil = none
	After       func(time.Duration) <-chan time.Time // waits between tries; nil = time.After
	Log         *slog.Logger
	Progress    func(rows int64) // nil = none
	// Provisional: nothing is delivered before the destination's Finish, so answers are not journalled.
	Provisional bool
	// Lease says whether a request may still be started: the lock outlives its time-out (DESIGN §6.1).
	Lease func() error
	// IfEmpty are the fields to be written only where the destination has nothing; Theirs names one in Row.Theirs.
	IfEmpty []int
	Theirs  func(field int) string
	// Lookups are the fields whose value is that of another record, whose id is sent. The Destination is a Finder.
	Lookups []Lookup
	// Leaving tells which of these records this run removes; nil = it removes none. Members by record id only.
	Leaving func(ctx context.Context, ids []string) (map[string]bool, error)
	// Done takes each page whose rows all have an outcome, from one goroutine at a time.
	Done func(ctx context.Context, p Result) error
}

// Row is one row's outcome where it is not a plain delivery, or where more is known.
type Row struct {
	KeyHash   int64
	Operation destination.Operation
	Class     string // one of the classes below
	Code      string
	Message   string // without the row's values (I6)
	RemoteID  string
	Origin    string
	Attempt   int
	SentAt    time.Time
	Theirs    string    // the fields in which the destination has values of its own (write: if_empty), as Config.Theirs names them
	Until     time.Time // the row stays uncertain unless an acknowledged send begins at or after it; zero = it is settled
	Job       string    // of Submitted: the vendor's name of the job
	Seq       int       // of Submitted: its place in the job
}

// The classes of Row.
const (
	Delivered = "delivered"
	Accepted  = "accepted"  // for good: the vendor never tells more
	Submitted = "submitted" // accepted, and a job will tell
	Rejected  = "rejected"
	NotFound  = "not_found"
	NoRecord  = "no_record"
	Uncertain = "uncertain"
	Deferred  = "deferred"
)

// Result is what became of a page. Rows that are not listed were delivered.
type Result struct {
	Page      int64
	Complete  bool // every row has an outcome; otherwise only the rows listed do
	Rows      []Row
	Delivered map[destination.Operation]int64
	SentAt    time.Time // when its first batch began
}

// Stats are the numbers of a delivery.
type Stats struct {
	Requests, Retries int64
}

// delivery is one Run under way.
type delivery struct {
	Config
	seq      atomic.Int64
	requests atomic.Int64
	retries  atomic.Int64
	failures atomic.Int64 // batches in a row that ended without an answer
	spans    atomic.Int64
	answered atomic.Bool // some request was answered in this run
	circuit  *circuit
	share    *share // nil = all of the pacer's rate
	found    found
	down     atomic.Pointer[error] // why the last batch without an answer had none

	mu     sync.Mutex
	fatal  error
	halted chan struct{} // closed when nothing more may be sent
}

// Run sends everything the pages hold. The error says why it stopped early: the vendor refuses everything (*diag.Error of kind
// Failed), the lease was lost, or ctx was cancelled. Rows that were not tried are in no Result.
func Run(ctx context.Context, c Config) (Stats, error) {
	if c.After == nil {
		c.After = time.After
	}
	d := &delivery{Config: c, circuit: newCircuit(), halted: make(chan struct{})}
	if c.Share > 0 {
		d.share = &share{part: c.Share, rate: c.Pacer.Rate, now: time.Now}
	}
	// One page may wait while another is being sent, so that reading and sending overlap; a batch is journalled when a worker
	// takes it, not before.
	work := make(chan *batch, max(1, pageBatches/max(1, c.BatchSize)))
	results := make(chan *page, 4)
	var readErr error
	var wg sync.WaitGroup
	for range max(1, c.Concurrency) {
		wg.Add(1)
		go func() { defer wg.Done(); d.worker(ctx, work) }()
	}
	go func() {
		readErr = d.read(ctx, work, results)
		close(work)
		wg.Wait()
		close(results)
	}()
	var doneErr error
	for p := range results {
		p.wait.Wait()
		if doneErr != nil {
			continue
		}
		// What was answered must be handed on although the run was interrupted.
		if err := c.Done(context.WithoutCancel(ctx), p.result()); err != nil {
			doneErr = err
			d.halt(err)
		}
		p.Release()
	}
	return Stats{Requests: d.requests.Load(), Retries: d.retries.Load()}, d.outcome(ctx, doneErr, readErr)
}

// outcome picks the error that explains the end.
func (d *delivery) outcome(ctx context.Context, errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, errHalted) {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				break
			}
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fatal != nil {
		return d.fatal
	}
	if down := d.down.Load(); down != nil && !d.answered.Load() { // a run of few batches, of which none was answered
		return *down
	}
	return ctx.Err()
}

func ptr(err error) *error { return &err }

var errHalted = errors.New("halted")

// pageBatches bounds the rows that wait for a worker: about a page.
const pageBatches = 16384

// halt stops what was not started yet; the first reason stands.
func (d *delivery) halt(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fatal == nil {
		d.fatal = err
		close(d.halted)
	}
}

func (d *delivery) stopped(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-d.halted:
		return true
	default:
		return false
	}
}

// page is a page under way.
type page struct {
	*plan.Page
	wait  sync.WaitGroup
	mu    sync.Mutex
	rows  []Row
	ok    map[destination.Operation]int64
	plain []int // rows that were plainly delivered
	all   bool
	first time.Time
}

func newPage(p *plan.Page) *page { return &page{Page: p, ok: map[destination.Operation]int64{}} }

// result lists, of a page that is not complete, also what was plainly delivered: the rest of it has no outcome.
func (p *page) result() Result {
	if !p.all {
		for _, r := range p.plain {
			p.rows = append(p.rows, Row{KeyHash: p.KeyHash[r], Operation: p.Changes[r].Operation, Class: Delivered, Attempt: 1, SentAt: p.first})
		}
		clear(p.ok)
	}
	return Result{Page: p.Number, Complete: p.all, Rows: p.rows, Delivered: p.ok, SentAt: p.first}
}

// batch is some rows of a page that go into one request.
type batch struct {
	page   *page
	rows   []int // of the page
	bytes  int   // of its body, where a limit is known
	pass   pass
	values map[string]bool // of the rows, once a message must be held against them
}

// bound shortens terms of uncertainty that are longer than any can be: the clock was set back since.
func (d *delivery) bound(p *plan.Page) {
	most := d.Now().Add(d.Settle)
	for i, until := range p.Uncertain {
		if until.After(most) {
			p.Uncertain[i] = most
		}
	}
}

// read takes page after page, read ahead of the workers, and cuts each into batches.
func (d *delivery) read(ctx context.Context, work chan<- *batch, results chan<- *page) error {
	pages := readAhead(ctx, d.Pages)
	defer pages.close()
	for {
		if d.stopped(ctx) {
			return errHalted
		}
		read, ok, err := pages.page()
		if err != nil {
			return err
		}
		if !ok {
			return ctx.Err()
		}
		d.bound(read)
		if len(read.Changes) == 0 {
			continue
		}
		if err := d.Journal.OpenPage(ctx, d.Run.ID, read.Number); err != nil {
			return err
		}
		p := newPage(read)
		p.first, p.all = d.Now(), true
		if err := d.dispatch(ctx, p, work, results); err != nil {
			return err
		}
	}
}

func (d *delivery) dispatch(ctx context.Context, p *page, work chan<- *batch, results chan<- *page) error {
	batches := d.cut(p)
	p.wait.Add(len(batches))
	for i, b := range batches {
		select {
		case work <- b:
			continue
		case <-ctx.Done():
		case <-d.halted:
		}
		p.mu.Lock() // workers may be at its first batches
		p.all = false
		p.mu.Unlock()
		p.wait.Add(-(len(batches) - i))
		results <- p
		return errHalted
	}
	results <- p
	return nil
}

// cut makes batches of one operation (or mixed ones, where the object takes them), of so many rows and bytes as a request may have.
// A row that no request can hold has its outcome at once.
func (d *delivery) cut(p *page) []*batch {
	base, sizes := d.sizes(p)
	var out []*batch
	open := map[string]*batch{}
	for i := range p.Changes {
		size := 0
		if sizes != nil {
			if size = sizes[i]; base+size > d.MaxBytes {
				d.tooLarge(p, i, size)
				continue
			}
		}
		kind := ""
		if !d.Object.Mixed {
			kind = string(p.Changes[i].Operation)
		}
		b := open[kind]
		if b == nil || sizes != nil && b.bytes+size > d.MaxBytes {
			b = &batch{page: p, rows: make([]int, 0, min(d.BatchSize, len(p.Changes)-i)), bytes: base}
			open[kind] = b
			out = append(out, b)
		}
		b.bytes += size
		if b.rows = append(b.rows, i); len(b.rows) >= d.BatchSize {
			delete(open, kind)
		}
	}
	return out
}

// sizes are the bytes that each change of a page adds to a body, which has base of its own; nil where no limit is known.
func (d *delivery) sizes(p *page) (base int, each []int) {
	s, ok := d.Destination.(destination.Sizer)
	if !ok || d.MaxBytes <= 0 {
		return 0, nil
	}
	base, each = s.Sizes(&destination.Batch{
		Run: d.Run, Object: d.Object.Name, Options: d.Options, Container: d.Container, Schema: d.Schema, Changes: p.Changes, Attempt: 1,
	})
	if len(each) != len(p.Changes) {
		return 0, nil
	}
	for i := range each { // ids take the place of values later
		each[i] += roomForID * len(d.Lookups)
	}
	return base, each
}

// tooLarge rejects a row that is larger than a body may be; one that an earlier run sent without an answer stays uncertain.
func (d *delivery) tooLarge(p *page, i, size int) {
	b := &batch{page: p, rows: []int{i}}
	outcomes := blank(b, d.Now(), nil)
	d.refuse(b, part{rows: []int{0}, attempt: 1}, 0, Rejected, "row_too_large",
		fmt.Sprintf("the row alone makes %d bytes, and a request may have %d", size, d.MaxBytes), outcomes)
	p.settle(b, outcomes)
	if d.Progress != nil {
		d.Progress(1)
	}
}

// worker sends batches until there are none. The answer to one and the intent of the next share a write to the journal.
func (d *delivery) worker(ctx context.Context, work <-chan *batch) {
	var answer *state.Batch
	var outcomes []Row // of one batch, then of the next
	flush := func() {
		if answer != nil {
			if err := d.Journal.Write(context.WithoutCancel(ctx), state.Entry{RunID: d.Run.ID, Answer: answer}); err != nil {
				d.halt(err)
			}
			answer = nil
		}
	}
	for {
		var b *batch
		var ok bool
		select {
		case b, ok = <-work:
		default:
			flush()
			b, ok = <-work
		}
		if !ok {
			flush()
			return
		}
		answer, outcomes = d.one(ctx, b, answer, outcomes)
		b.page.wait.Done()
	}
}

// one journals a batch's intent, sends it, and returns its answer to be journalled. Rows that could not be started have no outcome.
// room is memory for outcomes, and comes back.
func (d *delivery) one(ctx context.Context, b *batch, previous *state.Batch, room []Row) (answer *state.Batch, used []Row) {
	intent := &state.Batch{Seq: d.seq.Add(1), Page: b.page.Number, SentAt: d.Now(), Keys: make([]int64, len(b.rows))}
	for i, r := range b.rows {
		intent.Keys[i] = b.page.KeyHash[r]
	}
	entry := state.Entry{RunID: d.Run.ID, Answer: previous, Intent: intent}
	if d.stopped(ctx) || d.Lease() != nil {
		entry.Intent = nil
		if err := d.Lease(); err != nil {
			d.halt(err)
		}
	}
	if entry.Intent != nil || entry.Answer != nil {
		if err := d.Journal.Write(context.WithoutCancel(ctx), entry); err != nil {
			d.halt(err)
			entry.Intent = nil
		}
	}
	if entry.Intent == nil {
		b.page.mu.Lock()
		b.page.all = false
		b.page.mu.Unlock()
		return nil, room
	}
	outcomes := d.safely(ctx, b, intent.SentAt, room)
	b.page.settle(b, outcomes)
	if d.Progress != nil {
		d.Progress(int64(len(b.rows)))
	}
	if d.Provisional {
		return nil, outcomes
	}
	intent.Exceptions = exceptions(outcomes)
	return intent, outcomes
}

// safely sends a batch; a fault of a connector that would end the process ends the run instead, and leaves the batch uncertain.
func (d *delivery) safely(ctx context.Context, b *batch, started time.Time, room []Row) (outcomes []Row) {
	defer func() {
		if p := recover(); p != nil {
			d.halt(diag.Errorf(diag.Failed, "internal", "a fault of the %s connector ended the run", d.Spec.Type).WithHint("please report it"))
			d.Log.Error("a connector panicked", "type", d.Spec.Type, "stack", string(debug.Stack()))
			outcomes = make([]Row, len(b.rows))
			for i, r := range b.rows {
				outcomes[i] = Row{
					KeyHash: b.page.KeyHash[r], Operation: b.page.Changes[r].Operation, Class: Uncertain, Code: "internal", SentAt: started,
					Until: d.Now().Add(d.Settle),
				}
			}
		}
	}()
	return d.send(ctx, b, started, room)
}

func exceptions(outcomes []Row) []state.Exception {
	out := []state.Exception{}
	for i, r := range outcomes {
		if plain(r) {
			continue
		}
		out = append(out, state.Exception{
			Row: i, Class: r.Class, Code: r.Code, Message: r.Message, RemoteID: r.RemoteID, Origin: r.Origin,
			Attempt: r.Attempt, Until: r.Until, Theirs: r.Theirs, Job: r.Job, Seq: r.Seq,
		})
	}
	return out
}

// plain tells whether an outcome says no more than that the row was delivered at the first try.
func plain(r Row) bool {
	return r.Class == Delivered && r.RemoteID == "" && r.Origin == "" && r.Theirs == "" && r.Until.IsZero() && r.Attempt <= 1
}

// settle takes a batch's outcomes into its page.
func (p *page) settle(b *batch, outcomes []Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range outcomes {
		if plain(r) {
			p.ok[p.Changes[b.rows[i]].Operation]++
			p.plain = append(p.plain, b.rows[i])
			continue
		}
		p.rows = append(p.rows, r)
	}
}

// vendorDown is the error of a destination that does not answer.
func vendorDown(name string, last *destination.Error) error {
	e := diag.Errorf(diag.Failed, "destination.down", "%s does not take deliveries: %s", name, last.Error())
	return e.WithHint("the rest is deferred: run again when it answers; dray check tells")
}

// comeLater is the error of a destination that wants to be left alone for longer than a run waits.
func comeLater(name string, last *destination.Error) error {
	e := diag.Errorf(diag.Failed, "destination.limited", "%s takes nothing more for %s: %s", name, last.RetryAfter.Round(time.Second), code(last))
	return e.WithHint("the rest is deferred: run again then")
}

// refused is the error of a destination that refuses everything.
func refused(name string, last *destination.Error) error {
	if last.Mapping {
		return diag.Errorf(diag.Invalid, "sync.unknown_field", "%s: %s", name, last.Message).WithHint("%s", last.Hint)
	}
	e := diag.Errorf(diag.Failed, "destination.refused", "%s refuses everything: %s", name, last.Error())
	if last.Hint != "" {
		return e.WithHint("%s", last.Hint)
	}
	return e.WithHint("check the credentials and what they may do: dray check")
}
