package destination

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/dray-dev/dray/connectors/httpx"
)

// FromHTTP says what a request's failure means for the batch it carried. It is the one place where HTTP becomes a Class:
//
//	not sent (name, dial, TLS)       Retry: certainly not applied
//	no answer, or one that was lost  Unknown, and may still be applied
//	408, 502, 504                    Unknown, and may still be applied behind the proxy that answered
//	429; 503 with Retry-After        Retry
//	other 5xx                        Unknown: a server can fail after it has written
//	401, 403                         Stop: nothing can be delivered with these credentials
//	3xx                              Stop: a write is not sent to another address than the one configured
//	other 4xx                        Split
//
// An error that is no *httpx.Error is Unknown.
func FromHTTP(err error) *Error {
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	var h *httpx.Error
	if !errors.As(err, &h) {
		return &Error{Class: Unknown, Code: "error", Settles: true, Err: err}
	}
	e := &Error{Code: h.Code, Message: h.Error(), RetryAfter: h.RetryAfter, Err: h}
	switch {
	case h.Code == "invalid_url":
		e.Class, e.Hint = Stop, "check the destination's url or base_url"
	case h.NotSent:
		e.Class = Retry
	case h.Status == 0:
		e.Class, e.Settles = Unknown, true
	default:
		e.Class, e.Settles = classOf(h)
		e.Hint = hintOf(h)
	}
	return e
}

func classOf(h *httpx.Error) (c Class, settles bool) {
	switch s := h.Status; {
	case h.Truncated:
		return Unknown, false
	case s == http.StatusRequestTimeout, s == http.StatusBadGateway, s == http.StatusGatewayTimeout:
		return Unknown, true
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable && h.RetryAfter > 0:
		return Retry, false
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s >= 300 && s < 400:
		return Stop, false
	case s >= 400 && s < 500:
		return Split, false
	default:
		return Unknown, false
	}
}

func hintOf(h *httpx.Error) string {
	switch {
	case h.Status == http.StatusUnauthorized:
		return "the credentials are not accepted (any more): renew them, then run again"
	case h.Status == http.StatusForbidden:
		return "the credentials lack a permission that this needs"
	case h.Location != "":
		return fmt.Sprintf("it redirects to %s: configure the address that answers itself", h.Location)
	case h.Status >= 300 && h.Status < 400:
		return "it redirects elsewhere: configure the address that answers itself"
	}
	return ""
}
