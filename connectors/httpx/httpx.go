// Package httpx is the one HTTP client of all connectors, built on hashicorp/go-retryablehttp.
//
// It knows HTTP and nothing of destinations. Read is for what changes nothing there (checks, look-ups, lists of fields): it is
// retried, within bounds. Write is one attempt, because only the engine may decide to send a row again (I1, DESIGN §6); what
// befell it comes back as an *Error that says whether the request can have been applied. Authorization, other headers, the
// query and the user part of a URL, and bodies reach no log and no error (I6).
package httpx

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Defaults of Options.
const (
	DefaultTimeout = 30 * time.Second
	DefaultMaxBody = 32 << 20
	DefaultRetries = 4
	defaultMinWait = 200 * time.Millisecond
	defaultMaxWait = 20 * time.Second
	maxRedirects   = 5
)

// Options of a client; the zero value is ready to use.
type Options struct {
	Transport http.RoundTripper // nil = a pooled one of its own
	Log       *slog.Logger      // nil = none; one line a request, at debug level
	UserAgent string            // dray/<version>
	Timeout   time.Duration     // of one attempt, the answer's body included; 0 = DefaultTimeout
	MaxBody   int64             // bytes of an answer that are read; 0 = DefaultMaxBody
	Retries   int               // of a Read, after the first attempt; 0 = DefaultRetries, negative = none
	MinWait   time.Duration     // before the first retry of a Read; 0 = 200 ms
	MaxWait   time.Duration     // before any retry of a Read; a longer Retry-After ends the Read; 0 = 20 s
	// Gate is asked before each request, retries included, and returns when it may start; nil = at once. See Paid.
	Gate func(ctx context.Context) error
	// Observe is told of each answer whether it says 429, and its headers; nil = nobody.
	Observe func(tooMany bool, header func(name string) string)
}

// Client is safe for concurrent use. Close it when the destination is closed.
type Client struct {
	o     Options
	retry *retryablehttp.Client
}

// Request is one request. Method is empty for GET (Read) or POST (Write).
type Request struct {
	Method string
	URL    string
	Header http.Header // not changed
	Body   []byte
	// Release is called before the call returns, if Body may then be used for something else: a transport can go on reading it
	// after it has returned an answer, or an error. nil = the caller does not use it again.
	Release func()
	// What names the request in logs and errors: "upsert contacts". It must hold no customer value.
	What    string
	Timeout time.Duration // 0 = the client's
	// Secrets are taken out of the body of a refusal: some servers quote the credentials that they do not take.
	Secrets []string
}

// Response is an answer whose body has been read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// New makes a client.
func New(o Options) *Client {
	if o.Transport == nil {
		o.Transport = NewTransport()
	}
	if o.UserAgent == "" {
		o.UserAgent = "dray"
	}
	o.Timeout = orDuration(o.Timeout, DefaultTimeout)
	o.MinWait = orDuration(o.MinWait, defaultMinWait)
	o.MaxWait = orDuration(o.MaxWait, defaultMaxWait)
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	switch {
	case o.Retries == 0:
		o.Retries = DefaultRetries
	case o.Retries < 0:
		o.Retries = 0
	}
	c := &Client{o: o}
	c.retry = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     attempts{next: o.Transport, gate: o.Gate, observe: o.Observe},
			CheckRedirect: checkRedirect,
		},
		RetryWaitMin: o.MinWait,
		RetryWaitMax: o.MaxWait,
		RetryMax:     o.Retries,
		CheckRetry:   c.checkRetry,
		Backoff:      backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
		Logger:       nil, // it would print URLs
	}
	return c
}

// NewTransport is the transport New makes: pooled connections, bounded dials and handshakes, HTTP/2, proxies from the environment.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       64 << 10, // a usual batch leaves in one write
	}
}

// Close lets go of idle connections; the client stays usable.
func (c *Client) Close() { c.retry.HTTPClient.CloseIdleConnections() }

// Read sends a request that changes nothing, again where that helps: at most Options.Retries times, with jitter, after the
// time Retry-After names. It follows redirects within the same host. The error is an *Error for every answer but 2xx.
func (c *Client) Read(ctx context.Context, r Request) (*Response, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	return c.do(ctx, r, &attempt{read: true})
}

// Write sends a request once. It follows no redirect. The error is an *Error for every answer but 2xx.
func (c *Client) Write(ctx context.Context, r Request) (*Response, error) {
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	return c.do(ctx, r, &attempt{})
}

func (c *Client) do(ctx context.Context, r Request, a *attempt) (*Response, error) {
	a.timeout = orDuration(r.Timeout, c.o.Timeout)
	started := time.Now()
	resp, err := c.roundTrip(context.WithValue(ctx, attemptKey{}, a), r, a)
	c.log(ctx, r, a, resp, err, time.Since(started))
	if r.Release != nil && a.bodyRead() {
		r.Release()
	}
	return resp, err
}

func (c *Client) roundTrip(ctx context.Context, r Request, a *attempt) (*Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	a.monotonic = replayable(req.Request)
	resp, err := c.retry.Do(req)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return nil, lost(ctx, r.What, a.maybeSent(err), err)
	}
	defer resp.Body.Close()
	out := &Response{Status: resp.StatusCode, Header: resp.Header}
	if resp.ContentLength != 0 {
		out.Body, err = io.ReadAll(io.LimitReader(resp.Body, c.o.MaxBody+1))
		if err != nil && succeeded(resp.StatusCode) {
			return nil, lost(ctx, r.What, true, err)
		}
	}
	if int64(len(out.Body)) > c.o.MaxBody {
		return nil, tooLarge(r.What, resp, c.o.MaxBody)
	}
	if !succeeded(resp.StatusCode) {
		out.Body = []byte(Mask(string(out.Body), r.Secrets))
		return nil, refused(r.What, out)
	}
	return out, nil
}

func (c *Client) request(ctx context.Context, r Request) (*retryablehttp.Request, error) {
	var raw any
	if r.Body != nil {
		raw = r.Body // which the transport knows to lie in memory, and so writes it together with the headers
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.Method, r.URL, raw)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" { // err would quote the URL
		return nil, &Error{What: r.What, Code: "invalid_url", Message: "the address is not an http or https URL", NotSent: true}
	}
	for name, values := range r.Header {
		if http.CanonicalHeaderKey(name) == "Host" && len(values) > 0 {
			req.Host = values[0]
			continue
		}
		req.Header[name] = values
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", c.o.UserAgent)
	}
	return req, nil
}

// checkRetry is retryablehttp's question after each attempt; a Write is never retried here.
func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	if a == nil || !a.read {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	a.tries++
	if err != nil {
		return retryableLoss(err), nil
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return RetryAfter(resp.Header, time.Now()) <= c.o.MaxWait, nil
	}
	return false, nil
}

// backoff waits as long as the vendor says, else exponentially; both with jitter, so that several clients do not come at once.
func backoff(minWait, maxWait time.Duration, n int, resp *http.Response) time.Duration {
	wait := min(minWait<<min(n, 16), maxWait)
	if resp != nil {
		if after := RetryAfter(resp.Header, time.Now()); after > 0 {
			return after + rand.N(minWait)
		}
	}
	return wait/2 + rand.N(wait/2+1)
}

// checkRedirect lets a Read follow within its host; headers with secrets must not travel further, and a POST not at all.
func checkRedirect(req *http.Request, via []*http.Request) error {
	a, _ := req.Context().Value(attemptKey{}).(*attempt)
	first := via[0].URL
	if a == nil || !a.read || len(via) > maxRedirects || req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

func (c *Client) log(ctx context.Context, r Request, a *attempt, resp *Response, err error, took time.Duration) {
	if c.o.Log == nil || !c.o.Log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	host := ""
	if u, perr := url.Parse(r.URL); perr == nil {
		host = u.Host
	}
	attrs := []slog.Attr{
		slog.String("request", r.What), slog.String("method", r.Method), slog.String("host", host),
		slog.Int("bytes", len(r.Body)), slog.Duration("took", took),
	}
	if a.tries > 1 {
		attrs = append(attrs, slog.Int("tries", a.tries))
	}
	var e *Error
	switch {
	case err == nil:
		attrs = append(attrs, slog.Int("status", resp.Status))
	case errors.As(err, &e):
		attrs = append(attrs, slog.Int("status", e.Status), slog.String("code", e.Code), slog.Bool("not_sent", e.NotSent))
	}
	c.o.Log.LogAttrs(ctx, slog.LevelDebug, "http", attrs...)
}

func succeeded(status int) bool { return status >= 200 && status < 300 }

func orDuration(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
