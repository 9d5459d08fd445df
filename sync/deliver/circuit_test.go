package deliver_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/deliver"
)

// flying counts the requests that are under way at once.
type flying struct{ now, most atomic.Int64 }

func (f *flying) enter() {
	n := f.now.Add(1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
	}
}

func manyPages(pagesOf, rows int64) pages {
	var p pages
	for k := range pagesOf {
		var keys []int64
		for i := range rows {
			keys = append(keys, k*rows+i)
		}
		p = append(p, pageOf(k, keys...))
	}
	return p
}

// A vendor that is down from the beginning meets the tries of one batch and one of two others, one at a time, whatever the concurrency; the rest is not sent.
func TestVendorThatIsDownMeetsOneBatch(t *testing.T) {
	t.Parallel()
	var f flying
	asked := map[int64]bool{}
	got := run(t.Context(), manyPages(4, 50), func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		f.enter()
		defer f.now.Add(-1)
		for i := range b.Changes {
			asked[key(&b.Changes[i])] = true // without a lock: -race tells if two come at once
		}
		time.Sleep(time.Millisecond)
		return nil, &destination.Error{Class: destination.Unknown, Code: "timeout", Settles: true}
	}, func(c *deliver.Config) { c.Concurrency = 16 })
	var failed *diag.Error
	if !errors.As(got.err, &failed) || failed.Code != "destination.down" {
		t.Errorf("the delivery ended with %v", got.err)
	}
	// Three tries of the first batch, one of each of two others: then it is not the batch.
	if f.most.Load() != 1 || len(asked) != 15 || got.stats.Requests != 5 {
		t.Errorf("%d requests at once, %d rows asked, %d requests", f.most.Load(), len(asked), got.stats.Requests)
	}
	for k, r := range got.rows {
		if asked[k] != (r.Class == deliver.Uncertain) {
			t.Errorf("row %d is %s, asked %t", k, r.Class, asked[k])
		}
	}
}

// One that goes down in the middle: what was in flight then, and after it one request at a time.
func TestVendorThatGoesDown(t *testing.T) {
	t.Parallel()
	const workers = 6
	var f flying
	var n, after atomic.Int64
	got := run(t.Context(), manyPages(4, 100), func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		f.enter()
		defer f.now.Add(-1)
		time.Sleep(time.Millisecond)
		if n.Add(1) <= 20 {
			return all(destination.Delivered, b), nil
		}
		after.Add(1)
		return nil, &destination.Error{Class: destination.Retry, Code: "connection_refused", Err: refusedConnection()}
	}, func(c *deliver.Config) { c.Concurrency = workers })
	if got.err == nil {
		t.Error("the delivery did not fail")
	}
	// What was in flight, the other tries of the first batch to have the circuit, and one of each of two more.
	if f.most.Load() < 2 || after.Load() > workers+2+2 {
		t.Errorf("%d requests at once, %d after the vendor went down", f.most.Load(), after.Load())
	}
	delivered := 0
	for k, r := range got.rows {
		switch r.Class {
		case deliver.Delivered:
			delivered++
		case deliver.Deferred:
		default:
			t.Errorf("row %d is %s", k, r.Class)
		}
	}
	if delivered != 100 {
		t.Errorf("%d rows were delivered", delivered)
	}
}

// One that is back goes on at full width.
func TestVendorThatComesBack(t *testing.T) {
	t.Parallel()
	var f flying
	var n atomic.Int64
	got := run(t.Context(), manyPages(4, 100), func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		f.enter()
		defer f.now.Add(-1)
		if n.Add(1) <= 2 {
			return nil, &destination.Error{Class: destination.Unknown, Code: "http_500"}
		}
		time.Sleep(2 * time.Millisecond)
		return all(destination.Delivered, b), nil
	}, func(c *deliver.Config) { c.Concurrency = 4 })
	if got.err != nil || f.most.Load() != 4 || len(got.rows) != 400 {
		t.Errorf("%v, %d requests at once, %d rows", got.err, f.most.Load(), len(got.rows))
	}
}

// sized is a vendor whose requests have a size.
type sized struct {
	vendor
	base int
	each func(c *destination.Change) int
}

func (s sized) Sizes(b *destination.Batch) (int, []int) {
	out := make([]int, len(b.Changes))
	for i := range out {
		out[i] = s.each(&b.Changes[i])
	}
	return s.base, out
}

// Whatever the sizes of rows: no request is larger than it may be, none has too many rows, each row that fits is sent once, and those
// that do not are rejected without being sent.
func TestBodiesHaveALimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 60), 1, 60).Draw(t, "sizes")
		const base, limit = 10, 50
		var mu sync.Mutex
		sent := map[int64]int{}
		var p pages
		var keys []int64
		for k := range sizes {
			keys = append(keys, int64(k))
		}
		p = append(p, pageOf(0, keys...))
		for i := range p[0].Changes {
			p[0].Changes[i].Operation = rapid.SampledFrom([]destination.Operation{destination.OpAdd, destination.OpUpdate}).Draw(t, "operation")
		}
		mixed := rapid.Bool().Draw(t, "mixed")
		each := func(c *destination.Change) int { return sizes[key(c)] }
		got := run(context.Background(), p, nil, func(c *deliver.Config) {
			c.MaxBytes, c.Object.Mixed = limit, mixed
			c.Destination = sized{vendor{func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
				mu.Lock()
				defer mu.Unlock()
				size := base
				for i := range b.Changes {
					size += each(&b.Changes[i])
					sent[key(&b.Changes[i])]++
				}
				if size > limit || len(b.Changes) > c.BatchSize {
					t.Errorf("a request of %d bytes and %d rows", size, len(b.Changes))
				}
				return all(destination.Delivered, b), nil
			}}, base, each}
		})
		for k, size := range sizes {
			row, want := got.rows[int64(k)], deliver.Delivered
			times := 1
			if base+size > limit {
				want, times = deliver.Rejected, 0
			}
			if row.Class != want || sent[int64(k)] != times || want == deliver.Rejected && row.Code != "row_too_large" {
				t.Errorf("row %d of %d bytes: %s %s, sent %d times", k, size, row.Class, row.Code, sent[int64(k)])
			}
		}
	})
}

// However a vendor answers, no key is under way twice at once: what is tried again waits for the answer to the first try.
func TestAKeyIsUnderWayOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		answers := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 30).Draw(t, "answers")
		mixed := rapid.Bool().Draw(t, "mixed")
		p := manyPages(3, 20)
		for _, page := range p {
			for i := range page.Changes {
				page.Changes[i].Operation = rapid.SampledFrom([]destination.Operation{destination.OpAdd, destination.OpUpdate, destination.OpRemove}).Draw(t, "operation")
			}
		}
		var mu sync.Mutex
		under := map[int64]bool{}
		acknowledged := map[int64]bool{}
		n := 0
		run(context.Background(), p, func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
			mu.Lock()
			answer := answers[n%len(answers)]
			n++
			var keys []int64
			for i := range b.Changes {
				k := key(&b.Changes[i])
				if under[k] || acknowledged[k] {
					t.Errorf("key %d: under way %t, acknowledged %t", k, under[k], acknowledged[k])
				}
				under[k] = true
				keys = append(keys, k)
			}
			mu.Unlock()
			time.Sleep(50 * time.Microsecond)
			mu.Lock()
			defer mu.Unlock()
			for _, k := range keys {
				delete(under, k)
			}
			switch answer {
			case 0:
				return nil, &destination.Error{Class: destination.Unknown, Code: "timeout"}
			case 1:
				return nil, &destination.Error{Class: destination.Split, Code: "http_400"}
			case 2:
				return all(destination.Retry, b), nil
			}
			for _, k := range keys {
				acknowledged[k] = true
			}
			return all(destination.Delivered, b), nil
		}, func(c *deliver.Config) { c.Concurrency, c.Object.Mixed = 5, mixed })
	})
}

func refusedConnection() error { return &httpx.Error{Code: "connection_refused", NotSent: true} }

// A vendor that refuses everything, or wants to be left alone, is asked once: who waits for the first answer must not come after it.
func TestVendorThatWantsNothingIsAskedOnce(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*destination.Error{
		"stop":       {Class: destination.Stop, Code: "http_401"},
		"come later": {Class: destination.Retry, Code: "http_429", RetryAfter: time.Hour},
	} {
		for range 20 {
			var asked atomic.Int64
			got := run(t.Context(), manyPages(2, 100), func(context.Context, *destination.Batch) ([]destination.Outcome, error) {
				asked.Add(1)
				return nil, e
			}, func(c *deliver.Config) { c.Concurrency = 16 })
			if asked.Load() != 1 || got.err == nil {
				t.Fatalf("%s: asked %d times, %v", name, asked.Load(), got.err)
			}
		}
	}
}
