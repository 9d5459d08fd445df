package httpx_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/httpx"
)

// client retries fast, and bounds answers to 1 MiB.
func client(t *testing.T, o httpx.Options) *httpx.Client {
	t.Helper()
	o.MinWait, o.MaxBody = time.Millisecond, 1<<20
	if o.MaxWait == 0 {
		o.MaxWait = 2 * time.Second
	}
	c := httpx.New(o)
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func asError(t *testing.T, err error) *httpx.Error {
	t.Helper()
	var e *httpx.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *httpx.Error", err)
	}
	return e
}

func TestReadIsRetriedAndWriteIsNot(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) < 3 {
				w.WriteHeader(status)
				return
			}
			_, _ = io.WriteString(w, "ok")
		})
		c := client(t, httpx.Options{})
		resp, err := c.Read(t.Context(), httpx.Request{URL: s.URL})
		if err != nil || string(resp.Body) != "ok" || n.Load() != 3 {
			t.Errorf("%d: read: %v after %d requests", status, err, n.Load())
		}
		n.Store(0)
		_, err = c.Write(t.Context(), httpx.Request{URL: s.URL, Body: []byte("{}")})
		if e := asError(t, err); e.Status != status || e.NotSent || n.Load() != 1 {
			t.Errorf("%d: write: %v (not sent: %v) after %d requests", status, e, e.NotSent, n.Load())
		}
	}
}

func TestReadGivesUp(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		if r.URL.Path == "/later" {
			w.Header().Set("Retry-After", "3600")
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c := client(t, httpx.Options{Retries: 2})
	_, err := c.Read(t.Context(), httpx.Request{URL: s.URL, What: "list"})
	if e := asError(t, err); e.Status != 503 || n.Load() != 3 || e.Error() != "list: answered 503 Service Unavailable" {
		t.Errorf("%v after %d requests", e, n.Load())
	}
	n.Store(0)
	_, err = c.Read(t.Context(), httpx.Request{URL: s.URL + "/later"})
	if e := asError(t, err); e.RetryAfter != time.Hour || n.Load() != 1 {
		t.Errorf("a wait of an hour: %v after %d requests", e.RetryAfter, n.Load())
	}
}

func TestReadHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	started := time.Now()
	if _, err := client(t, httpx.Options{}).Read(t.Context(), httpx.Request{URL: s.URL}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < time.Second {
		t.Errorf("came again after %v, before the second the server asked for", took)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "-1": 0, "soon": 0, "NaN": 0, "1e300": 0,
		"Thu, 01 Jan 2026 00:01:00 GMT": time.Minute, "Wed, 31 Dec 2025 00:01:00 GMT": 0,
	} {
		if got := httpx.RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// A request that never left is told from one that may have arrived: the first was certainly not applied.
func TestWhatWasSent(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(secure.Close)
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	dropped := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	half := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "{")
	})
	tests := []struct {
		name, url, code string
		notSent         bool
	}{
		{"nobody listens", closed.URL, "connection_refused", true},
		{"no such host", "http://host.invalid", "dns", true},
		{"certificate of an unknown authority", secure.URL, "tls", true},
		{"TLS to a plain server", strings.Replace(plain.URL, "http:", "https:", 1), "tls", true},
		{"no such scheme", "gopher://x", "invalid_url", true},
		{"broken URL", "http://x:y:z?secret", "invalid_url", true},
		{"connection dropped", dropped.URL, "connection_lost", false},
		{"no answer", slow.URL, "timeout", false},
		{"answer cut off", half.URL, "connection_lost", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute // only one case is about time: a busy machine must not make others so
			if test.code == "timeout" {
				limit = 300 * time.Millisecond
			}
			c := client(t, httpx.Options{Timeout: limit})
			_, err := c.Write(t.Context(), httpx.Request{URL: test.url, Body: []byte("{}")})
			e := asError(t, err)
			if test.code == "dns" && e.NotSent {
				return // without a resolver the code differs
			}
			if e.NotSent != test.notSent || e.Code != test.code {
				t.Errorf("got %s (%v), not sent: %v; want %s, %v", e.Code, e, e.NotSent, test.code, test.notSent)
			}
		})
	}
}

// An injected transport does not tell when it has a connection: then only a dial that failed counts as not sent.
func TestWhatWasSentByAnInjectedTransport(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err     error
		notSent bool
	}{
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, false},
		{io.ErrUnexpectedEOF, false},
	} {
		c := client(t, httpx.Options{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, test.err })})
		_, err := c.Write(t.Context(), httpx.Request{URL: "http://x", Body: []byte("{}")})
		if e := asError(t, err); e.NotSent != test.notSent {
			t.Errorf("%v: not sent: %v, want %v", test.err, e.NotSent, test.notSent)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := client(t, httpx.Options{}).Write(ctx, httpx.Request{URL: s.URL, Body: []byte("{}")})
	if e := asError(t, err); e.Code != "canceled" || e.NotSent {
		t.Errorf("got %s, not sent: %v", e.Code, e.NotSent)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not tell that it was canceled", err)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request followed a redirect to another host") })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, elsewhere.URL+"/?token=secret", http.StatusTemporaryRedirect)
		case "/here":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		}
	})
	c := client(t, httpx.Options{})
	if _, err := c.Read(t.Context(), httpx.Request{URL: s.URL + "/here"}); err != nil {
		t.Errorf("a read within the host: %v", err)
	}
	_, err := c.Read(t.Context(), httpx.Request{URL: s.URL + "/away"})
	if e := asError(t, err); e.Status != 307 || e.Location != elsewhere.URL {
		t.Errorf("a read to another host: %v, location %q", e, e.Location)
	}
	for _, path := range []string{"/here", "/away"} {
		_, err := c.Write(t.Context(), httpx.Request{URL: s.URL + path, Body: []byte("{}")})
		if e := asError(t, err); e.Status != 307 {
			t.Errorf("a write: %v", e)
		}
	}
}

func TestAnswerTooLarge(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20+1)) })
	_, err := client(t, httpx.Options{}).Write(t.Context(), httpx.Request{URL: s.URL, Body: []byte("{}")})
	if e := asError(t, err); e.Code != "answer_too_large" || !e.Truncated {
		t.Errorf("got %v", e)
	}
}

// Each request waits its turn, retries too; the first of a paid context has waited already.
func TestGate(t *testing.T) {
	t.Parallel()
	var asked, tooMany atomic.Int32
	var last atomic.Value
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Limit", "100")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	c := client(t, httpx.Options{
		Retries: 2, MinWait: time.Millisecond,
		Gate: func(ctx context.Context) error { asked.Add(1); return ctx.Err() },
		Observe: func(limited bool, header func(string) string) {
			if limited {
				tooMany.Add(1)
			}
			last.Store(header("x-limit"))
		},
	})
	var counted atomic.Int64
	_, _ = c.Read(httpx.Counted(t.Context(), &counted), httpx.Request{URL: s.URL})
	if counted.Load() != 3 {
		t.Errorf("%d requests were counted, want 3", counted.Load())
	}
	if asked.Load() != 3 || tooMany.Load() != 3 || last.Load() != "100" {
		t.Errorf("asked %d times, told of %d refusals and %v", asked.Load(), tooMany.Load(), last.Load())
	}
	paid := httpx.Paid(t.Context())
	for range 2 {
		_, _ = c.Write(paid, httpx.Request{URL: s.URL})
	}
	if asked.Load() != 4 {
		t.Errorf("asked %d times, want once more for two requests of which one was paid", asked.Load())
	}
	refusing := client(t, httpx.Options{Gate: func(context.Context) error { return context.DeadlineExceeded }})
	_, err := refusing.Write(t.Context(), httpx.Request{URL: s.URL})
	if e := asError(t, err); !e.NotSent {
		t.Errorf("a request that did not get its turn counts as sent: %v", e)
	}
}

// I6: nothing of a URL's user part or query, of headers or of bodies reaches a log or an error.
func TestNoSecretInLogsAndErrors(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/drop" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "s3cret")
	})
	_, err := client(t, httpx.Options{}).Write(t.Context(), httpx.Request{URL: s.URL, Secrets: []string{"", "s3cret"}})
	if e := asError(t, err); string(e.Body) != "***" {
		t.Errorf("a quoted secret is handed on: %q", e.Body)
	}
	c := client(t, httpx.Options{Log: log, Timeout: time.Minute})
	host := strings.TrimPrefix(s.URL, "http://")
	for _, url := range []string{"http://u:s3cret@" + host + "/?k=s3cret", s.URL + "/drop?k=s3cret", "http://127.0.0.1:1/?s3cret", "http://x:y/s3cret", "s3cret://x"} {
		_, err := c.Write(t.Context(), httpx.Request{URL: url, Header: http.Header{"Authorization": {"s3cret"}}, Body: []byte("s3cret")})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error is %v", err)
		}
	}
	if !strings.Contains(logged.String(), `"status":400`) {
		t.Errorf("requests are not logged: %s", logged.String())
	}
	if strings.Contains(logged.String(), "s3cret") {
		t.Errorf("the log holds a secret:\n%s", logged.String())
	}
}

// A transport may read the body after it has answered; the caller may have the bytes back only when it will not.
func TestBodyIsReleasedOnceItIsRead(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("x"), 16<<20) // more than a connection holds
	t.Run("read to its end", func(t *testing.T) {
		t.Parallel()
		written := make(chan struct{})
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(written) }})
		released := 0
		s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-written
		})
		_, err := client(t, httpx.Options{}).Write(ctx, httpx.Request{URL: s.URL, Body: body, Release: func() { released++ }})
		if err != nil || released != 1 {
			t.Errorf("released %d times, with the error %v", released, err)
		}
	})
	t.Run("answered before it was read", func(t *testing.T) {
		t.Parallel()
		released := 0
		c := client(t, httpx.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
			return &http.Response{StatusCode: 413, Body: http.NoBody, Request: r}, nil
		})})
		_, err := c.Write(t.Context(), httpx.Request{URL: "http://x", Body: body, Release: func() { released++ }})
		if e := asError(t, err); e.Status != http.StatusRequestEntityTooLarge || released != 0 {
			t.Errorf("released %d times, with the error %v", released, err)
		}
	})
	t.Run("never sent", func(t *testing.T) {
		t.Parallel()
		released := 0
		_, err := client(t, httpx.Options{}).Write(t.Context(), httpx.Request{URL: "http://127.0.0.1:1/", Body: body, Release: func() { released++ }})
		if err == nil || released != 1 {
			t.Errorf("released %d times, with the error %v", released, err)
		}
	})
}

func TestHeadersAndHost(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	c := client(t, httpx.Options{UserAgent: "dray/1.2.3"})
	_, err := c.Write(t.Context(), httpx.Request{
		Method: "PUT", URL: s.URL, Header: http.Header{"X-A": {"1"}, "Host": {"inner.test"}}, Body: []byte(`{"a":1}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != "PUT" || got.Header.Get("X-A") != "1" || got.Host != "inner.test" || got.UserAgent() != "dray/1.2.3" ||
		got.ContentLength != 7 || string(body) != `{"a":1}` {
		t.Errorf("got %s %v host %s length %d body %s", got.Method, got.Header, got.Host, got.ContentLength, body)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
