package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/state"
)

// pages is a plan.
type pages []*plan.Page

func (p pages) Pages() int64 { return int64(len(p)) }

func (p pages) Read(_ context.Context, k int64) (*plan.Page, error) { return p[k], nil }

// pageOf makes a page of adds with these keys.
func pageOf(number int64, keys ...int64) *plan.Page {
	p := &plan.Page{Number: number, KeyHash: keys, Uncertain: make([]time.Time, len(keys))}
	for _, k := range keys {
		p.Changes = append(p.Changes, destination.Change{Operation: destination.OpAdd, Key: []any{k}, Fields: []any{"secret value"}})
	}
	return p
}

// journal remembers what was intended and answered.
type journal struct {
	mu               sync.Mutex
	intent, answered map[int64]int
}

func (j *journal) Write(_ context.Context, e state.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Intent != nil {
		for _, k := range e.Intent.Keys {
			j.intent[k]++
		}
	}
	if e.Answer != nil {
		for _, k := range e.Answer.Keys {
			j.answered[k]++
		}
	}
	return nil
}

func (j *journal) OpenPage(context.Context, string, int64) error { return nil }

// vendor is a destination made of one function.
type vendor struct {
	write func(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error)
}

func (vendor) Check(context.Context) (destination.Account, error) { return destination.Account{}, nil }
func (vendor) Close() error                                       { return nil }
func (v vendor) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	return v.write(ctx, b)
}

// result is a delivery that has ended.
type result struct {
	rows    map[int64]deliver.Row // by key
	twice   []int64               // rows with two outcomes
	journal *journal
	stats   deliver.Stats
	err     error
	waits   []time.Duration
	logged  string
}

// run delivers pages to a vendor.
func run(ctx context.Context, p pages, write func(context.Context, *destination.Batch) ([]destination.Outcome, error), change func(*deliver.Config)) result {
	out := result{rows: map[int64]deliver.Row{}, journal: &journal{intent: map[int64]int{}, answered: map[int64]int{}}}
	var log strings.Builder
	var mu sync.Mutex
	c := deliver.Config{
		Name: "tool", Destination: vendor{write}, Spec: destination.Spec{Type: "tool"}, Concurrency: 3,
		Object: destination.Object{Name: "things", Mixed: true}, Run: destination.Run{ID: "r", Sync: "s", Mode: destination.Upsert},
		Schema: &destination.Schema{Key: []destination.Column{{Name: "id"}}, Fields: []destination.Column{{Name: "f"}}},
		Pages:  p, Journal: out.journal, Pacer: deliver.NewPacer(destination.Rate{}), BatchSize: 5, Attempts: 3, Timeout: time.Second, Settle: time.Hour,
		Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil)), Lease: func() error { return nil },
		After: func(d time.Duration) <-chan time.Time {
			mu.Lock()
			out.waits = append(out.waits, d)
			mu.Unlock()
			return time.After(0)
		},
		Done: func(_ context.Context, got deliver.Result) error {
			listed := map[int64]bool{}
			for _, r := range got.Rows {
				listed[r.KeyHash] = true
				if _, ok := out.rows[r.KeyHash]; ok {
					out.twice = append(out.twice, r.KeyHash)
				}
				out.rows[r.KeyHash] = r
			}
			if got.Complete {
				for _, k := range p[got.Page].KeyHash {
					if !listed[k] {
						out.rows[k] = deliver.Row{KeyHash: k, Class: deliver.Delivered, Attempt: 1}
					}
				}
			}
			return nil
		},
	}
	if change != nil {
		change(&c)
	}
	out.stats, out.err = deliver.Run(ctx, c)
	out.logged = log.String()
	return out
}

func all(class destination.Class, b *destination.Batch) []destination.Outcome {
	out := make([]destination.Outcome, len(b.Changes))
	for i := range out {
		out[i].Class = class
	}
	return out
}

func key(c *destination.Change) int64 { return c.Key[0].(int64) }

// Whatever a vendor answers, in whatever batches: each row has one outcome, and it is the one the vendor gave to that row. A row
// that may have been applied without an answer is never called rejected.
func TestOutcomesMapToRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 60).Draw(t, "rows")
		cut := rapid.Int64Range(1, 20).Draw(t, "rows a page")
		var p pages
		for from := int64(0); from < n; from += cut {
			var keys []int64
			for k := from; k < min(from+cut, n); k++ {
				keys = append(keys, k)
			}
			p = append(p, pageOf(int64(len(p)), keys...))
		}
		// What the vendor thinks of a row: taken, refused by itself, refused with its batch, not there, not mentioned.
		of := map[int64]string{}
		for k := range n {
			of[k] = rapid.SampledFrom([]string{"taken", "taken", "taken", "bad", "poison", "missing", "silent"}).Draw(t, "row")
		}
		faults := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "429", "lost", "500"}), 0, 8).Draw(t, "faults")
		var mu sync.Mutex
		maybe, requests := map[int64]bool{}, 0
		write := func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			requests++
			if len(b.Changes) > 5 {
				t.Errorf("a request of %d rows", len(b.Changes))
			}
			if len(faults) > 0 {
				f := faults[0]
				faults = faults[1:]
				switch f {
				case "429":
					return nil, &destination.Error{Class: destination.Retry, Code: "http_429"}
				case "lost", "500":
					for i := range b.Changes {
						maybe[key(&b.Changes[i])] = true
					}
					return nil, &destination.Error{Class: destination.Unknown, Code: f, Settles: f == "lost"}
				}
			}
			out := make([]destination.Outcome, len(b.Changes))
			for i := range b.Changes {
				k := key(&b.Changes[i])
				code := fmt.Sprintf("code-%d", k)
				switch of[k] {
				case "taken":
					out[i] = destination.Outcome{Class: destination.Delivered, RemoteID: fmt.Sprint("id", k)}
				case "bad":
					out[i] = destination.Outcome{Class: destination.Rejected, Code: code}
				case "missing":
					out[i] = destination.Outcome{Class: destination.NotFound, Code: code}
				case "silent":
					out[i] = destination.Outcome{Class: destination.Unknown, Code: code}
				case "poison":
					return nil, &destination.Error{Class: destination.Split, Code: "http_422"}
				}
			}
			return out, nil
		}
		got := run(t.Context(), p, write, func(c *deliver.Config) { c.Attempts = 20 })
		if got.err != nil || len(got.twice) > 0 || int64(len(got.rows)) != n || got.stats.Requests != int64(requests) {
			t.Fatalf("%v; %d of %d rows have an outcome, %v two; %d requests counted as %d", got.err, len(got.rows), n, got.twice, requests, got.stats.Requests)
		}
		for k := range n {
			want := map[string]string{"taken": deliver.Delivered, "bad": deliver.Rejected, "poison": deliver.Rejected, "missing": deliver.NotFound, "silent": deliver.Uncertain}[of[k]]
			if maybe[k] && (want == deliver.Rejected || want == deliver.NotFound) {
				want = deliver.Uncertain
			}
			r := got.rows[k]
			if r.Class != want || want == deliver.Delivered && r.RemoteID != fmt.Sprint("id", k) || of[k] == "bad" && r.Code != fmt.Sprintf("code-%d", k) {
				t.Errorf("row %d, %s, may have been applied before: %v; it is %+v", k, of[k], maybe[k], r)
			}
			if got.journal.intent[k] != 1 || got.journal.answered[k] != 1 {
				t.Errorf("row %d: %d intents, %d answers in the journal", k, got.journal.intent[k], got.journal.answered[k])
			}
		}
	})
}

func TestAPanicLeavesTheBatchUncertain(t *testing.T) {
	t.Parallel()
	got := run(t.Context(), pages{pageOf(0, 1, 2)}, func(context.Context, *destination.Batch) ([]destination.Outcome, error) {
		panic("secret value")
	}, nil)
	var e *diag.Error
	if !errors.As(got.err, &e) || e.Kind != diag.Failed || strings.Contains(got.err.Error()+got.logged, "secret value") {
		t.Errorf("the error is %v, the log %s", got.err, got.logged)
	}
	for _, k := range []int64{1, 2} {
		if r := got.rows[k]; r.Class != deliver.Uncertain || r.Until.IsZero() {
			t.Errorf("row %d is %+v", k, r)
		}
	}
}

// A connector that forgets a row, or makes one up, has told nothing.
func TestTooFewOutcomes(t *testing.T) {
	t.Parallel()
	got := run(t.Context(), pages{pageOf(0, 1, 2)}, func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		return all(destination.Delivered, b)[1:], nil
	}, nil)
	if r := got.rows[1]; r.Class != deliver.Uncertain || r.Code != "bad_outcomes" || got.rows[2].Class != deliver.Uncertain {
		t.Errorf("the rows are %+v", got.rows)
	}
}

// DESIGN §6.1: nothing is sent once the lease does not outlive it, also when a batch has waited for its next try meanwhile.
func TestLeaseLostBetweenTries(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	sent := 0
	lost := errors.New("the lease is lost")
	got := run(t.Context(), pages{pageOf(0, 1, 2)}, func(context.Context, *destination.Batch) ([]destination.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		sent++
		return nil, &destination.Error{Class: destination.Unknown, Code: "timeout", Settles: true}
	}, func(c *deliver.Config) {
		c.Lease = func() error {
			mu.Lock()
			defer mu.Unlock()
			if sent > 0 {
				return lost
			}
			return nil
		}
	})
	if sent != 1 || !errors.Is(got.err, lost) || got.rows[1].Class != deliver.Uncertain || got.rows[1].Until.IsZero() {
		t.Errorf("%d requests, %v, %+v", sent, got.err, got.rows)
	}
}

// A vendor that asks for more patience than a run has is left alone: the rows are deferred, not sent too early.
func TestLongRetryAfter(t *testing.T) {
	t.Parallel()
	got := run(t.Context(), pages{pageOf(0, 1, 2)}, func(context.Context, *destination.Batch) ([]destination.Outcome, error) {
		return nil, &destination.Error{Class: destination.Retry, Code: "http_429", RetryAfter: 3 * time.Hour}
	}, nil)
	var e *diag.Error
	if !errors.As(got.err, &e) || e.Kind != diag.Failed || !strings.Contains(e.Error(), "3h0m0s") || got.stats.Requests != 1 || got.rows[1].Class != deliver.Deferred {
		t.Errorf("after %d requests: %v, %+v", got.stats.Requests, got.err, got.rows)
	}
}

// Rows that a vendor asks to send later wait as whole batches do.
func TestRowsToBeSentLater(t *testing.T) {
	t.Parallel()
	got := run(t.Context(), pages{pageOf(0, 1, 2, 3)}, func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		out := all(destination.Delivered, b)
		for i := range b.Changes {
			if k := key(&b.Changes[i]); k == 2 && b.Attempt == 1 || k == 3 {
				out[i] = destination.Outcome{Class: destination.Retry, Code: "locked"}
			}
		}
		return out, nil
	}, nil)
	if got.rows[1].Class != deliver.Delivered || got.rows[2].Class != deliver.Delivered || got.rows[2].Attempt != 2 || got.rows[3].Class != deliver.Deferred {
		t.Errorf("the rows are %+v", got.rows)
	}
	if len(got.waits) != 2 || got.waits[0] <= 0 || got.waits[1] <= got.waits[0]/2 {
		t.Errorf("waited %v", got.waits)
	}
}

// I6: what a vendor says of a whole batch goes into the run's error, without the values of the batch.
func TestTheErrorHoldsNoValue(t *testing.T) {
	t.Parallel()
	for _, class := range []destination.Class{destination.Stop, destination.Retry} {
		got := run(t.Context(), pages{pageOf(0, 1, 2)}, func(context.Context, *destination.Batch) ([]destination.Outcome, error) {
			return nil, &destination.Error{Class: class, Code: "no ada@example.com", Message: "not for Secret Value, call +45 12345678"}
		}, nil)
		text := got.err.Error() + got.logged
		for _, secret := range []string{"ecret", "ada", "example", "12345678"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %q is in %s", class, secret, text)
			}
		}
	}
}

// A destination that cannot be reached ends the run; one that answered before may miss two batches in a row.
func TestWhenAVendorIsDown(t *testing.T) {
	t.Parallel()
	var p pages
	for k := range int64(10) {
		p = append(p, pageOf(k, k))
	}
	for _, answers := range []int{0, 1} {
		var mu sync.Mutex
		sent := 0
		got := run(t.Context(), p, func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			if sent++; sent <= answers {
				return all(destination.Delivered, b), nil
			}
			return nil, &destination.Error{Class: destination.Retry, Code: "connection_refused", Err: refusedConnection()}
		}, func(c *deliver.Config) { c.Attempts, c.Concurrency = 1, 1 })
		want := 1
		if answers > 0 {
			want = answers + 3
		}
		if got.err == nil || sent != want || len(got.rows) < want {
			t.Errorf("answered %d: %d requests (want %d), %d outcomes, %v", answers, sent, want, len(got.rows), got.err)
		}
	}
}

// What a vendor asks of one request holds for all that use the credential.
func TestRetryAfterHoldsForAll(t *testing.T) {
	t.Parallel()
	const after = 150 * time.Millisecond
	var mu sync.Mutex
	var refused time.Time
	early, sent := 0, 0
	var p pages
	for k := range int64(6) {
		p = append(p, pageOf(k, k))
	}
	got := run(t.Context(), p, func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		if sent++; sent == 1 {
			refused = time.Now()
			return nil, &destination.Error{Class: destination.Retry, Code: "http_429", RetryAfter: after}
		}
		if time.Since(refused) < after {
			early++
		}
		return all(destination.Delivered, b), nil
	}, func(c *deliver.Config) { c.Concurrency = 1 })
	if got.err != nil || early > 0 || len(got.rows) != 6 {
		t.Errorf("%d requests came too early, %v, %+v", early, got.err, got.rows)
	}
}

// A delivery with a share waits for its places at that part of the pacer's rate, and ends where the run does; one without does not wait.
func TestShareOfADelivery(t *testing.T) {
	t.Parallel()
	all := func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		out := make([]destination.Outcome, len(b.Changes))
		for i := range out {
			out[i].Class = destination.Delivered
		}
		return out, nil
	}
	deliverWith := func(ctx context.Context, share float64) result {
		return run(ctx, pages{pageOf(0, 1, 2, 3)}, all, func(c *deliver.Config) {
			c.Pacer, c.Share, c.BatchSize = deliver.NewPacer(destination.Rate{Requests: 1000, Per: time.Second}), share, 1
		})
	}
	longest := func(r result) (d time.Duration) {
		for _, w := range r.waits {
			d = max(d, w)
		}
		return d
	}
	half, whole := deliverWith(t.Context(), 0.001), deliverWith(t.Context(), 0)
	if half.err != nil || len(half.journal.answered) != 3 || longest(half) < 1900*time.Millisecond {
		t.Errorf("a thousandth of 1000 a second: the third request waits %s, %v", longest(half), half.err)
	}
	if whole.err != nil || longest(whole) > 0 {
		t.Errorf("all of it: a request waits %s, %v", longest(whole), whole.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := deliverWith(ctx, 0.001); !errors.Is(r.err, context.Canceled) {
		t.Errorf("interrupted: %v", r.err)
	}
}
