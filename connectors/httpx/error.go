package httpx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Error is a request that did not end with a 2xx answer read to its end. Its text holds no URL, header or body.
type Error struct {
	What    string // Request.What
	Status  int    // 0 = no answer
	Code    string // http_503; or connection_refused, dns, tls, connect, timeout, canceled, connection_lost, answer_too_large, invalid_url
	Message string
	// NotSent: no byte of the request left, so it was certainly not applied.
	NotSent bool
	// Truncated: the vendor answered 2xx, and the answer was too large to read to its end.
	Truncated  bool
	RetryAfter time.Duration // 0 = the vendor did not say
	Location   string        // of a redirect: scheme and host
	Header     http.Header   // of the answer
	Body       []byte        // of the answer, for the connector to read; never to be logged
	Err        error         // the cause, without the URL
}

func (e *Error) Error() string {
	s := e.Message
	if e.What != "" {
		s = e.What + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// refused is an answer other than 2xx.
func refused(what string, r *Response) *Error {
	e := &Error{
		What: what, Status: r.Status, Code: "http_" + strconv.Itoa(r.Status),
		Message:    strings.TrimSpace(fmt.Sprintf("answered %d %s", r.Status, http.StatusText(r.Status))),
		RetryAfter: RetryAfter(r.Header, time.Now()), Header: r.Header, Body: r.Body,
	}
	if u, err := url.Parse(r.Header.Get("Location")); r.Status/100 == 3 && err == nil && u.Host != "" {
		e.Location = u.Scheme + "://" + u.Host
	}
	return e
}

func tooLarge(what string, r *http.Response, limit int64) *Error {
	return &Error{
		What: what, Status: r.StatusCode, Code: "answer_too_large", Truncated: succeeded(r.StatusCode), Header: r.Header,
		Message:    fmt.Sprintf("the answer is larger than %d MiB", limit>>20),
		RetryAfter: RetryAfter(r.Header, time.Now()),
	}
}

// lost is a request without a whole answer.
func lost(ctx context.Context, what string, sent bool, err error) *Error {
	e := &Error{What: what, NotSent: !sent, Err: clean(err)}
	e.Code, e.Message = loss(ctx, sent, err)
	return e
}

func loss(ctx context.Context, sent bool, err error) (code, message string) {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled):
		return "canceled", "interrupted"
	case errors.As(err, &dns):
		return "dns", "the host's name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection_refused", "the connection was refused"
	case isTLS(err):
		return "tls", "no secure connection could be made"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		if !sent {
			return "connect", "no connection in time"
		}
		return "timeout", "no answer in time"
	case !sent:
		return "connect", "no connection could be made"
	default:
		return "connection_lost", "the connection was lost before the answer"
	}
}

func isTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var alert tls.AlertError
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &alert) || errors.Is(err, http.ErrSchemeMismatch)
}

// retryableLoss tells whether a Read that got no answer is worth another try: a wrong certificate or address stays wrong.
func retryableLoss(err error) bool {
	if isTLS(err) {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return !dns.IsNotFound
	}
	return true
}

// clean takes the URL out of an error: url.Error quotes all of it.
func clean(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// shortest is how long a secret is at least; what is shorter would be found in any text.
const shortest = 4

// Mask takes secrets out of a server's words.
func Mask(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) >= shortest {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

// RetryAfter reads the header Retry-After: seconds (also with a fraction) or an HTTP date. 0 = absent or past.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if !(s > 0 && s < 1e8) {
			return 0
		}
		return time.Duration(s * float64(time.Second))
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
