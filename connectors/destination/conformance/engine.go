package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/state"
)

// onePage is a plan of one page.
type onePage struct{ page *plan.Page }

func (p onePage) Pages() int64 { return 1 }

func (p onePage) Read(context.Context, int64) (*plan.Page, error) { return p.page, nil }

// memory is a journal that remembers whose intent was durable.
type memory struct {
	mu       sync.Mutex
	intended map[int64]bool
}

func (m *memory) Write(_ context.Context, e state.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Intent != nil {
		for _, k := range e.Intent.Keys {
			m.intended[k] = true
		}
	}
	return nil
}

func (m *memory) OpenPage(context.Context, string, int64) error { return nil }

// counting sees the requests that the engine makes of a destination.
type counting struct {
	destination.Destination
	mu     sync.Mutex
	sizes  []int
	intent *memory
	early  bool // a row was sent before its intent was durable
}

func (c *counting) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(b.Changes))
	c.mu.Unlock()
	c.intent.mu.Lock()
	for i := range b.Changes {
		c.early = c.early || !c.intent.intended[keyHash(b.Changes[i].DedupeID)]
	}
	c.intent.mu.Unlock()
	return c.Destination.Write(ctx, b)
}

// keyHash is the number at the end of a rig's dedupe id: dedupe-17-add.
func keyHash(dedupeID string) int64 {
	var n int64
	_, _ = fmt.Sscanf(dedupeID, "dedupe-%d-", &n)
	return n
}

// delivered is what became of a batch that the engine delivered.
type delivered struct {
	rows  []deliver.Row // one a change, in order; Class "" = the run ended before it was tried
	err   error
	sizes []int           // rows of each request
	waits []time.Duration // between tries
}

// run delivers changes as a run does: cut, journalled, paced, retried and split by sync/deliver, and only then finished.
func (r *rig) run(ctx context.Context, changes []destination.Change, object destination.Object) delivered {
	r.Helper()
	b := r.batch(changes)
	page := &plan.Page{Changes: changes, KeyHash: make([]int64, len(changes)), Uncertain: make([]time.Time, len(changes))}
	at := map[int64]int{}
	for i := range changes {
		page.KeyHash[i] = keyHash(changes[i].DedupeID)
		at[page.KeyHash[i]] = i
	}
	if len(at) != len(changes) {
		r.Fatalf("the rows of a case need keys of their own")
	}
	journal := &memory{intended: map[int64]bool{}}
	dest := &counting{Destination: r.dest, intent: journal}
	out := delivered{rows: make([]deliver.Row, len(changes))}
	settle := time.Hour
	if r.spec.Settle != nil {
		settle = *r.spec.Settle
	}
	before := r.standIn.Records(r.sample.Object, r.container)
	var waits sync.Mutex
	_, out.err = deliver.Run(ctx, deliver.Config{
		Name: "conformance", Destination: dest, Spec: r.spec, Object: object, Run: b.Run, Options: b.Options, Container: b.Container,
		Schema: r.schema, Pages: onePage{page}, Journal: journal, Pacer: deliver.NewPacer(destination.Rate{}), BatchSize: r.size, Attempts: 4,
		Timeout: requestTimeout, Settle: settle, Now: time.Now, Log: slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Lease: func() error { return nil },
		After: func(d time.Duration) <-chan time.Time {
			waits.Lock()
			out.waits = append(out.waits, d)
			waits.Unlock()
			return time.After(0)
		},
		Done: func(_ context.Context, p deliver.Result) error {
			if p.Complete {
				for i := range out.rows {
					out.rows[i] = deliver.Row{Class: deliver.Delivered, Attempt: 1}
				}
			}
			for _, row := range p.Rows {
				out.rows[at[row.KeyHash]] = row
			}
			return nil
		},
	})
	out.sizes = dest.sizes
	if out.err == nil {
		r.finish(b)
	}
	if dest.early {
		r.Errorf("a row was sent before its intent was durable")
	}
	r.verify(b, before, out.outcomes(), nil)
	return out
}

// outcomes are the rows as a connector would have told them, for verify.
func (d *delivered) outcomes() []destination.Outcome {
	classes := map[string]destination.Class{
		deliver.Delivered: destination.Delivered, deliver.Accepted: destination.Accepted, deliver.Rejected: destination.Rejected,
		deliver.NotFound: destination.NotFound, deliver.NoRecord: destination.NotFound, deliver.Uncertain: destination.Unknown,
		deliver.Deferred: destination.Retry, "": destination.Retry,
	}
	out := make([]destination.Outcome, len(d.rows))
	for i, row := range d.rows {
		out[i] = destination.Outcome{Class: classes[row.Class], Code: row.Code, Message: row.Message}
		if row.Class == deliver.Delivered && !row.Until.IsZero() {
			out[i].Class = destination.Unknown // acknowledged, but an earlier try may still overtake it
		}
	}
	return out
}

func (d *delivered) classes() string {
	var out []string
	for _, row := range d.rows {
		out = append(out, row.Class)
	}
	return strings.Join(out, " ")
}

// oversize: more rows than a request takes go in several, none of them larger; nothing is sent twice.
func oversize(r *rig) {
	n := 2*r.size + 1
	got := r.run(r.Context(), r.changes(destination.OpAdd, 0, n, "many"), r.object)
	if got.err != nil {
		r.Fatal(got.err)
	}
	sum := 0
	for _, size := range got.sizes {
		if sum += size; size > r.size {
			r.Errorf("a request of %d rows, where %d are allowed", size, r.size)
		}
	}
	if sum != n || len(r.standIn.Records(r.sample.Object, r.container)) != n {
		r.Errorf("%d rows were sent and %d are there, want %d", sum, len(r.standIn.Records(r.sample.Object, r.container)), n)
	}
}

// mixedOperations: adds, updates and removes of one page arrive, apart from each other where the object wants them so.
func mixedOperations(r *rig) {
	if !contains(r.object.Modes, destination.Mirror) {
		return
	}
	r.mode = destination.Mirror
	r.add(0, 4)
	changes := append(r.changes(destination.OpAdd, 10, 13, "new"), r.changes(destination.OpRemove, 2, 4, "left")...)
	for i := 3; i < len(changes); i++ {
		changes[i].Remove, changes[i].Fields = "delete", nil
	}
	if r.sample.Text != "" {
		changes = append(changes, r.changes(destination.OpUpdate, 0, 2, "changed")...)
	}
	got := r.run(r.Context(), changes, r.object)
	if want := strings.TrimSpace(strings.Repeat("delivered ", len(changes))); got.err != nil || got.classes() != want {
		r.Errorf("%v: %s", got.err, got.classes())
	}
	if records := r.standIn.Records(r.sample.Object, r.container); len(records) != 5 {
		r.Errorf("%d records, want 5", len(records))
	}
}

// overcome: one request fails as in befallen, and the engine brings the rows to where they belong by itself.
func overcome(r *rig, f fault) {
	changes := r.changes(destination.OpAdd, 0, 3, "first")
	if r.sample.Seed != nil {
		r.batch(changes) // what must be there before is looked up before the fault
	}
	r.standIn.Core().Script(f.fault)
	got := r.run(r.Context(), changes, r.object)
	if f.class == destination.Stop {
		if got.err == nil || got.classes() != "deferred deferred deferred" || len(got.sizes) != 1 {
			r.Errorf("%v after %d requests: %s", got.err, len(got.sizes), got.classes())
		}
		return
	}
	if got.err != nil {
		r.Fatal(got.err)
	}
	if f.orOutcomes && strings.Contains(got.classes(), deliver.Uncertain) {
		return // an answer that says nothing of the rows
	}
	if got.classes() != "delivered delivered delivered" {
		r.Fatalf("the rows are %s (%+v)", got.classes(), got.rows)
	}
	if f.class == destination.Retry || f.class == destination.Unknown && !f.orOutcomes {
		if len(got.waits) != 1 || got.waits[0] <= 0 || f.after > 0 && got.waits[0] < f.after {
			r.Errorf("waited %v before the second try, want once, and %v at least", got.waits, f.after)
		}
	}
	for _, row := range got.rows {
		stays := f.settles && (r.spec.Settle == nil || *r.spec.Settle > 0)
		if row.Until.IsZero() == stays {
			r.Errorf("the row stays uncertain until %v; the unanswered try may overtake it: %v", row.Until, stays)
		}
	}
}

// revoked: where the token is not taken any more, the run stops at the first answer and says what to do.
func revoked(r *rig) {
	r.standIn.Core().Script(standin.Fault{Times: -1, Status: 401, Body: `{"message":"the token sandbox-token is revoked"}`})
	changes := r.changes(destination.OpAdd, 0, 3, "first")
	if r.object.MembersByID {
		for i := range changes {
			changes[i].RemoteID = fmt.Sprint(i + 1)
		}
	}
	b := &destination.Batch{
		Run: destination.Run{ID: "run-9999", Sync: "conformance_sync", Object: r.sample.Object, Mode: r.mode}, Object: r.sample.Object,
		Options: r.options(), Container: r.container, Schema: r.schema, Changes: changes, Attempt: 1,
	}
	_, err := r.dest.Write(r.Context(), b)
	failed := destination.FromHTTP(err)
	if err == nil || failed.Class != destination.Stop || failed.Hint == "" || strings.Contains(failed.Error()+failed.Hint, "sandbox-token") {
		r.Errorf("a revoked token: %v (%s), hint %q", err, failed.Class, failed.Hint)
	}
}

// drained: a run that is interrupted waits for the request under way, tries nothing else, and knows what it did.
func drained(r *rig) {
	changes := r.changes(destination.OpAdd, 0, 3, "first")
	if r.sample.Seed != nil {
		r.batch(changes)
	}
	r.standIn.Core().Script(standin.Fault{Delay: standin.Duration(requestTimeout / 4)})
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout/8)
	defer cancel()
	got := r.run(ctx, changes, r.object)
	if got.classes() != "delivered delivered delivered" || len(got.sizes) != 1 {
		r.Errorf("after %d requests the rows are %q, %v", len(got.sizes), got.classes(), got.err)
	}
}
