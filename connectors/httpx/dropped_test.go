package httpx

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// A vendor that took the request and closed the connection without a word: the request was sent, on a fresh connection and on a
// reused one.
func TestDroppedAfterReading(t *testing.T) {
	t.Parallel()
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if n++; n%2 == 1 {
			return
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
	}))
	defer srv.Close()
	for i := range 20 {
		c := New(Options{})
		for k := range 2 {
			_, err := c.Write(t.Context(), Request{URL: srv.URL, Body: []byte(`{"a":1}`), What: "test"})
			var e *Error
			if k == 1 && (!errors.As(err, &e) || e.NotSent) {
				t.Fatalf("try %d: %v, not sent %v", i, err, e != nil && e.NotSent)
			}
		}
		c.Close()
	}
}

// The same with requests side by side, which share and wait for connections.
func TestDroppedSideBySide(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.Header.Get("X-Drop") == "" {
			return
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
	}))
	defer srv.Close()
	c := New(Options{})
	defer c.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for k := range 200 {
				h := http.Header{}
				if k%3 == 0 {
					h.Set("X-Drop", "1")
				}
				_, err := c.Write(t.Context(), Request{URL: srv.URL, Body: []byte(`{"a":1}`), What: "test", Header: h})
				var e *Error
				if k%3 == 0 && (!errors.As(err, &e) || e.NotSent) {
					t.Errorf("%v, not sent %v", err, e != nil && e.NotSent)
				}
				if k%3 != 0 && err != nil && !errors.As(err, &e) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
}
