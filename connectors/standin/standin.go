// Package standin is what the stand-ins of vendors' APIs share: scripted faults, a record of requests, rate limits and the
// pages under /_standin/ that let a person or a test look in from outside.
//
// A stand-in is written from the vendor's contract and shares no code with its connector, so that they share no mistake. It
// keeps everything in memory.
package standin

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Records are what a stand-in holds: key → field → value, values as the vendor keeps them.
type Records map[string]map[string]any

// Sample is how a test may use one of the vendor's objects.
type Sample struct {
	Object  string
	Options map[string]any // of the sync
	Key     string         // the column that identifies a row
	// KeyOf is the n-th valid key, as the vendor shows it.
	KeyOf func(n int) string
	// Text is a field that takes any text of up to 60,000 characters; Number one that takes numbers; "" for memberships.
	Text, Number string
	// Seed makes what must exist before rows with these keys can be delivered (the contacts of a list); nil = nothing.
	Seed func(keys ...string)
	// Proves: the vendor can be asked for what its answer left out, so that a connector may know better than uncertain.
	Proves bool
}

// StandIn is one vendor's API.
type StandIn interface {
	// Handler answers as the vendor does, and under /_standin/ for those who look in.
	Handler() http.Handler
	// Config is the configuration by which its connector reaches it at base ("http://127.0.0.1:8080").
	Config(base string) map[string]any
	// Records are what lies in an object, or of an object with containers in the container of that id.
	Records(object, container string) Records
	// Samples are the objects that a conformance test writes to.
	Samples() []Sample
	// Core scripts faults and tells what came in.
	Core() *Core
}

// Fault is what a request gets instead of the vendor's answer, or after it was applied.
type Fault struct {
	// Match is a part of "METHOD /path"; empty matches every request.
	Match string `json:"match,omitempty"`
	// Times is how many requests it befalls: 0 = one, negative = all until it is cleared.
	Times int `json:"times,omitempty"`
	// Skip lets so many matching requests pass first.
	Skip int `json:"skip,omitempty"`
	// Apply has the vendor carry the request out first; its answer is lost.
	Apply bool `json:"apply,omitempty"`
	// Exactly one of the following; none of them changes nothing but the delay.
	Status int  `json:"status,omitempty"` // answer with this status, Headers and Body
	Drop   bool `json:"drop,omitempty"`   // close the connection without an answer
	Hang   bool `json:"hang,omitempty"`   // answer nothing until the client gives up
	Cut    bool `json:"cut,omitempty"`    // the vendor's answer, cut off in the middle of its body
	Omit   bool `json:"omit,omitempty"`   // the vendor's answer without its last row; the stand-in does it (see Core.Omits)

	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	Delay   Duration          `json:"delay,omitempty"` // before anything else
}

// Duration is a time.Duration that JSON writes as "1.5s".
type Duration time.Duration

// UnmarshalText reads "1.5s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes "1.5s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Request is a request that came in.
type Request struct {
	Method string      `json:"method"`
	Path   string      `json:"path"` // with the query
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	Status int         `json:"status"` // as answered; 0 = not answered
	At     time.Time   `json:"at"`
}

// Limit is a rate limit: so many requests in any window; the zero value is none.
type Limit struct {
	Requests int
	Per      time.Duration
}

// maxRequests bounds the record of requests, so that a long rehearsal does not fill the memory.
const maxRequests = 10_000

// Core is the part that all stand-ins share. It is safe for concurrent use.
type Core struct {
	name  string
	now   func() time.Time
	state func() any
	reset func()

	mu       sync.Mutex
	faults   []*Fault
	bad      []string
	badBatch []string
	requests []Request
	counts   map[int]int // by status
	total    int
	limit    Limit
	refuse   func(w http.ResponseWriter, retryAfter time.Duration)
	recent   []time.Time
	omit     map[*http.Request]bool
}

// NewCore makes the shared part of the stand-in called name. state is what /_standin/state shows, as JSON; reset forgets it.
func NewCore(name string, state func() any, reset func()) *Core {
	return &Core{name: name, now: time.Now, state: state, reset: reset, counts: map[int]int{}, omit: map[*http.Request]bool{}}
}

// Script adds faults; the first that matches a request befalls it.
func (c *Core) Script(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		c.faults = append(c.faults, &f)
	}
}

// Refuse makes rows bad whose values contain one of the texts: the vendor refuses them as its contract says.
func (c *Core) Refuse(texts ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bad = append(c.bad, texts...)
}

// RefuseBatch is as Refuse, but the vendor refuses the whole request that holds such a row.
func (c *Core) RefuseBatch(texts ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.badBatch = append(c.badBatch, texts...)
}

// Bad tells whether a row with this value is to be refused.
func (c *Core) Bad(value string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return containsAny(value, c.bad)
}

// BadBatch tells whether the request of a row with this value is to be refused.
func (c *Core) BadBatch(value string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return containsAny(value, c.badBatch)
}

func containsAny(value string, texts []string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(value, s) })
}

// Limit sets the rate limit, and how the vendor says no.
func (c *Core) Limit(l Limit, refuse func(w http.ResponseWriter, retryAfter time.Duration)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit, c.refuse = l, refuse
}

// Remaining is how many requests the limit still allows now; 0 without a limit.
func (c *Core) Remaining() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.limit.Requests-len(c.recent), 0)
}

// Clear forgets faults and bad texts, not what the stand-in holds.
func (c *Core) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults, c.bad, c.badBatch = nil, nil, nil
}

// Requests are those that came in, oldest first (the last 10,000).
func (c *Core) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Total is how many requests came in since the last reset.
func (c *Core) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Omits tells whether the answer to r is to leave out its last row, as a scripted fault asks.
func (c *Core) Omits(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.omit[r]
}

// Wrap puts faults, limits, the record and /_standin/ around the vendor's handler.
func (c *Core) Wrap(vendor http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_standin/state", func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, http.StatusOK, c.state()) })
	mux.HandleFunc("GET /_standin/requests", func(w http.ResponseWriter, _ *http.Request) { c.showRequests(w) })
	mux.HandleFunc("POST /_standin/faults", c.takeFaults)
	mux.HandleFunc("DELETE /_standin/faults", func(w http.ResponseWriter, _ *http.Request) { c.Clear(); w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /_standin/refuse", c.takeRefused)
	mux.HandleFunc("DELETE /_standin", func(w http.ResponseWriter, _ *http.Request) { c.Reset(); w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, vendor) })
	return mux
}

// Reset forgets everything: what the stand-in holds, faults, requests.
func (c *Core) Reset() {
	c.reset()
	c.Clear()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests, c.total, c.recent, c.counts = nil, 0, nil, map[int]int{}
}

func (c *Core) serve(w http.ResponseWriter, r *http.Request, vendor http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away before it had sent all
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	at := c.now()
	w2 := &statusWriter{ResponseWriter: w}
	defer func() {
		c.record(Request{
			Method: r.Method, Path: r.URL.RequestURI(), Header: masked(r.Header), Body: string(body), Status: w2.status, At: at,
		})
		c.mu.Lock()
		delete(c.omit, r)
		c.mu.Unlock()
	}()
	if wait, over := c.overLimit(at); over {
		c.refuse(w2, wait)
		return
	}
	if f := c.take(r); f != nil {
		f.befall(w2, r, vendor)
		return
	}
	vendor.ServeHTTP(w2, r)
}

// take finds the fault that befalls r.
func (c *Core) take(r *http.Request) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.faults {
		if !strings.Contains(r.Method+" "+r.URL.Path, f.Match) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times--; f.Times == 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		if f.Omit {
			c.omit[r] = true
		}
		taken := *f
		return &taken
	}
	return nil
}

func (f *Fault) befall(w http.ResponseWriter, r *http.Request, vendor http.Handler) {
	if f.Delay > 0 {
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(f.Delay)):
		}
	}
	lost := &captured{header: http.Header{}, status: http.StatusOK}
	if f.Apply || f.Cut {
		vendor.ServeHTTP(lost, r)
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Cut:
		lost.cut(w)
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		for name, value := range f.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	case f.Apply:
		lost.replay(w)
	default:
		vendor.ServeHTTP(w, r)
	}
}

// overLimit counts a request against the rate limit, in a rolling window.
func (c *Core) overLimit(at time.Time) (wait time.Duration, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit.Requests == 0 {
		return 0, false
	}
	from := at.Add(-c.limit.Per)
	for len(c.recent) > 0 && !c.recent[0].After(from) {
		c.recent = c.recent[1:]
	}
	if len(c.recent) >= c.limit.Requests {
		return c.recent[0].Add(c.limit.Per).Sub(at), true
	}
	c.recent = append(c.recent, at)
	return 0, false
}

func (c *Core) record(r Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.counts[r.Status]++
	if len(c.requests) >= maxRequests {
		c.requests = slices.Delete(c.requests, 0, maxRequests/10)
	}
	c.requests = append(c.requests, r)
}

func (c *Core) showRequests(w http.ResponseWriter) {
	c.mu.Lock()
	out := struct {
		StandIn  string         `json:"standin"`
		Total    int            `json:"total"`
		ByStatus map[string]int `json:"by_status"`
		Requests []Request      `json:"requests"`
	}{c.name, c.total, map[string]int{}, slices.Clone(c.requests)}
	for status, n := range c.counts {
		out.ByStatus[strconv.Itoa(status)] = n
	}
	c.mu.Unlock()
	WriteJSON(w, http.StatusOK, out)
}

func (c *Core) takeFaults(w http.ResponseWriter, r *http.Request) {
	var faults []Fault
	if !readStrict(w, r, &faults) {
		return
	}
	c.Script(faults...)
	w.WriteHeader(http.StatusNoContent)
}

func (c *Core) takeRefused(w http.ResponseWriter, r *http.Request) {
	var texts struct {
		Rows    []string `json:"rows"`
		Batches []string `json:"batches"`
	}
	if !readStrict(w, r, &texts) {
		return
	}
	c.Refuse(texts.Rows...)
	c.RefuseBatch(texts.Batches...)
	w.WriteHeader(http.StatusNoContent)
}

func readStrict(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		WriteJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return false
	}
	return true
}

// masked keeps credentials out of the record.
func masked(h http.Header) http.Header {
	h = maps.Clone(h)
	if len(h["Authorization"]) > 0 {
		h["Authorization"] = []string{"***"}
	}
	return h
}

// WriteJSON answers with a JSON document.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// captured is an answer that is not sent, or not as it is.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *captured) Header() http.Header         { return c.header }
func (c *captured) WriteHeader(status int)      { c.status = status }
func (c *captured) Write(b []byte) (int, error) { return c.body.Write(b) }

func (c *captured) replay(w http.ResponseWriter) {
	maps.Copy(w.Header(), c.header)
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body.Bytes())
}

// cut sends the head and half of the body, and says that all of it comes.
func (c *captured) cut(w http.ResponseWriter) {
	maps.Copy(w.Header(), c.header)
	whole := c.body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(max(len(whole), 1)))
	if c.status == http.StatusNoContent {
		c.status = http.StatusOK // a 204 has no body that could be cut off
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(whole[:len(whole)/2])
	_ = http.NewResponseController(w).Flush()
}
