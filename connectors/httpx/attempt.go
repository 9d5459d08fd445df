package httpx

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// attempt is what one call remembers while it is under way.
type attempt struct {
	read      bool
	timeout   time.Duration
	monotonic bool // a request once on a connection counts as sent for good
	tries     int
	phase     atomic.Int32
	started   atomic.Int32 // requests that are on a connection
	written   atomic.Int32 // those of them that were written to their end, or will not be
}

// bodyRead is false while a transport may still read the request's body, as it may after it has returned an answer.
func (a *attempt) bodyRead() bool {
	return a.phase.Load() != untold && a.started.Load() == a.written.Load()
}

type attemptKey struct{}

// The phases of an attempt, as the transport tells them.
const (
	untold     int32 = iota // the transport tells nothing (an injected one)
	connecting              // looking for a connection: nothing has been sent
	connected               // on a connection: any byte may have been sent
)

// maybeSent tells whether the vendor can have received the request that ended with err.
func (a *attempt) maybeSent(err error) bool {
	switch a.phase.Load() {
	case connecting:
		return false
	case connected:
		return true
	}
	var dns *net.DNSError
	var op *net.OpError
	return !errors.As(err, &dns) && !(errors.As(err, &op) && op.Op == "dial")
}

func (a *attempt) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// net/http tries again by itself on another connection only if nothing was written, or if the request is replayable.
		GetConn: func(string) {
			if !a.monotonic || a.phase.Load() != connected {
				a.phase.Store(connecting)
			}
		},
		GotConn: func(httptrace.GotConnInfo) {
			a.started.Add(1)
			a.phase.Store(connected)
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { a.written.Add(1) },
	}
}

// replayable tells whether net/http may send the request again by itself after it was written (http.Request.isReplayable).
func replayable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return len(r.Header["Idempotency-Key"]) > 0 || len(r.Header["X-Idempotency-Key"]) > 0
}

// Paid marks a context whose first request has waited its turn already: Options.Gate is not asked for it.
func Paid(ctx context.Context) context.Context {
	return context.WithValue(ctx, paidKey{}, new(atomic.Bool))
}

type paidKey struct{}

// Counted marks a context: each request made with it, retries included, adds one to n.
func Counted(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, countKey{}, n)
}

type countKey struct{}

// attempts has each attempt wait its turn, and gives it its own time-out, which lasts until the answer's body is closed.
type attempts struct {
	next    http.RoundTripper
	gate    func(context.Context) error
	observe func(tooMany bool, header func(name string) string)
}

func (t attempts) wait(ctx context.Context) error {
	if t.gate == nil {
		return nil
	}
	if used, ok := ctx.Value(paidKey{}).(*atomic.Bool); ok && used.CompareAndSwap(false, true) {
		return nil
	}
	return t.gate(ctx)
}

func (t attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	a, _ := req.Context().Value(attemptKey{}).(*attempt)
	if a == nil {
		return t.next.RoundTrip(req)
	}
	if err := req.Context().Err(); err != nil {
		a.phase.Store(connecting)
		return nil, err
	}
	if err := t.wait(req.Context()); err != nil {
		a.phase.Store(connecting)
		return nil, err
	}
	if n, ok := req.Context().Value(countKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
	ctx, cancel := context.WithTimeout(req.Context(), a.timeout)
	resp, err := t.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, a.trace())))
	if err != nil {
		cancel()
		return nil, err
	}
	if t.observe != nil {
		t.observe(resp.StatusCode == http.StatusTooManyRequests, resp.Header.Get)
	}
	resp.Body = &cancelingBody{resp.Body, cancel}
	return resp, nil
}

// CloseIdleConnections lets http.Client reach the transport's pool.
func (t attempts) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
