package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/dray-dev/dray/models/build"
)

// progress draws one bar at a time on a terminal: what, how much, rows/s and time left. Without a terminal it does nothing.
// It implements run.Progress.
type progress struct {
	w    io.Writer
	draw bool

	mu   sync.Mutex
	pool *mpb.Progress // made by the first bar
	bar  *mpb.Bar
}

func newProgress(w io.Writer, draw bool) *progress { return &progress{w: w, draw: draw} }

// Start begins a bar; one that was not Done is dropped. total 0 means unknown; perSecond is the rate in force, in requests.
func (p *progress) Start(what string, total int64, perSecond func() float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.draw {
		return
	}
	p.drop()
	if p.pool == nil {
		p.pool = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(32), mpb.WithAutoRefresh())
	}
	p.bar = p.pool.New(total, barStyle(total), barDecorators(what, total, time.Now(), perSecond)...)
}

func barStyle(total int64) mpb.BarFillerBuilder {
	if total <= 0 {
		return mpb.NopStyle()
	}
	return mpb.BarStyle().Lbound("").Filler("█").Tip("█").Padding("░").Rbound("")
}

func barDecorators(what string, total int64, started time.Time, perSecond func() float64) []mpb.BarOption {
	speed := func(s decor.Statistics) string { return rate(s.Current, time.Since(started)) }
	counted := func(s decor.Statistics) string { return count(s.Current) + " of " + count(total) + " " }
	elapsed := func(decor.Statistics) string { return time.Since(started).Truncate(time.Second).String() }
	after := []decor.Decorator{decor.Any(speed, decor.WC{W: 16}), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), decor.Name(" left")}
	if perSecond != nil {
		after = append(after, decor.Any(func(decor.Statistics) string { return inForce(perSecond()) }))
	}
	if total <= 0 {
		counted, after = elapsed, nil
	}
	return []mpb.BarOption{
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name("  "+what+"  "), decor.Any(counted)),
		mpb.AppendDecorators(after...),
	}
}

// inForce is the rate at which requests may be made now; "" where none is known.
func inForce(perSecond float64) string {
	switch {
	case perSecond <= 0:
		return ""
	case perSecond < 1:
		return fmt.Sprintf(" · 1 request in %.1f s", 1/perSecond)
	}
	return fmt.Sprintf(" · at most %.3g requests/s", perSecond)
}

// built follows a build: each node is a bar of unknown length while it is under way.
func (p *progress) built(n build.NodeResult) {
	if n.Status == build.Running {
		p.Start("building "+n.Name, 0, nil)
		return
	}
	p.Done()
}

// Add counts n more.
func (p *progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// Done ends the bar and takes it away: the report says what happened.
func (p *progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

func (p *progress) drop() {
	if p.bar == nil {
		return
	}
	p.bar.Abort(true)
	p.bar.Wait()
	p.bar = nil
}

// stop ends all drawing, so that text can follow.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	p.draw = false
	if p.pool != nil {
		p.pool.Shutdown()
		p.pool = nil
	}
}

// above is where logs go so that they do not cut through a bar.
func (p *progress) above() io.Writer { return aboveBar{p} }

type aboveBar struct{ p *progress }

// Write prints over the bar while one is drawn.
func (a aboveBar) Write(b []byte) (int, error) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	if a.p.pool != nil && a.p.bar != nil {
		return a.p.pool.Write(b)
	}
	return a.p.w.Write(b)
}
