package deliver_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/plan"
)

// gated are pages of which the first is there only once the second is asked for; it counts how many are read at once, and is
// broken from one page on.
type gated struct {
	pages
	second  chan struct{}
	at      atomic.Int32
	most    atomic.Int32
	reading atomic.Int32
	broken  int64
}

var errBroken = errors.New("the warehouse is gone")

func (g *gated) Read(ctx context.Context, k int64) (*plan.Page, error) {
	defer g.reading.Add(-1)
	n := g.reading.Add(1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
		continue
	}
	g.at.Add(1)
	switch {
	case k >= g.broken:
		return nil, errBroken
	case k == 1:
		close(g.second)
	case k == 0:
		<-g.second
	}
	return g.pages.Read(ctx, k)
}

// Two pages are read at a time (the first would wait for ever), no more, and arrive in their order; when one cannot be read, what was read before is delivered,
// and nothing goes on reading.
func TestPagesAreReadAhead(t *testing.T) {
	t.Parallel()
	g := &gated{second: make(chan struct{}), broken: 20}
	for k := range int64(30) {
		g.pages = append(g.pages, pageOf(k, 10*k, 10*k+1))
	}
	var order []int64
	write := func(_ context.Context, b *destination.Batch) ([]destination.Outcome, error) {
		for _, c := range b.Changes {
			order = append(order, c.Key[0].(int64)) //nolint:forcetypeassert // pageOf's
		}
		return all(destination.Delivered, b), nil
	}
	got := run(t.Context(), g.pages, write, func(c *deliver.Config) { c.Pages, c.Concurrency = g, 1 })
	if !errors.Is(got.err, errBroken) {
		t.Fatalf("ended with %v", got.err)
	}
	if g.most.Load() > 2 || g.reading.Load() != 0 {
		t.Errorf("%d pages were read at once, and %d still are", g.most.Load(), g.reading.Load())
	}
	if n := g.at.Load(); n > 22 {
		t.Errorf("%d pages were asked for", n)
	}
	if len(order) != 40 {
		t.Errorf("%d rows were delivered, of the 40 before the page that could not be read", len(order))
	}
	for i, k := range order {
		if want := int64(i/2*10 + i%2); k != want {
			t.Fatalf("row %d is %d, not %d", i, k, want)
		}
	}
}
