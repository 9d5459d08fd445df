package deliver

import (
	"context"
	"sync"

	"github.com/dray-dev/dray/sync/plan"
)

// ahead reads the pages of a plan in their order, the next one while one is waited for: a page is a query and the making of its rows
// out of the result, one goroutine's work each, and one alone did not keep two workers busy (docs/performance.md).
type ahead struct {
	pages  pager
	next   chan chan reading
	stop   context.CancelFunc
	ending sync.WaitGroup
}

// reading is what came of one page.
type reading struct {
	page *plan.Page
	err  error
}

// readAhead starts. close must be called.
func readAhead(ctx context.Context, pages pager) *ahead {
	ctx, stop := context.WithCancel(ctx)
	a := &ahead{pages: pages, next: make(chan chan reading), stop: stop}
	a.ending.Go(func() {
		defer close(a.next)
		for k := range pages.Pages() {
			one := make(chan reading, 1)
			a.ending.Go(func() {
				page, err := pages.Read(ctx, k)
				one <- reading{page, err}
			})
			select {
			case a.next <- one: // taken when it is waited for, so that there are two at most
			case <-ctx.Done():
				return
			}
		}
	})
	return a
}

// page is the next page; ok is false after the last, and once ctx of readAhead is done.
func (a *ahead) page() (p *plan.Page, ok bool, err error) {
	one, ok := <-a.next
	if !ok {
		return nil, false, nil
	}
	r := <-one
	return r.page, true, r.err
}

// close ends what is being read and waits for it.
func (a *ahead) close() {
	a.stop()
	a.ending.Wait()
}
