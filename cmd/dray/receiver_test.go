package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type receiversKey struct{}

// receiver is a webhook that takes nothing but what DESIGN §10 promises, and keeps rows as a tool would.
type receiver struct {
	server *httptest.Server

	mu       sync.Mutex
	requests int               // since the last `received`
	answers  []int             // statuses of the next requests
	rejects  []string          // key values
	rows     map[string]string // key → fields, both as JSON
	faults   []string          // what a strict receiver must not take
	free     chan struct{}     // closed: nothing is held back
	came     chan struct{}     // one for each request that is held back
}

// delivery is the body of a request; unknown names in it are faults.
type delivery struct {
	Sync    *string  `json:"sync"`
	RunID   *string  `json:"run_id"`
	Object  *string  `json:"object"`
	Changes []change `json:"changes"`
}

type change struct {
	Operation string         `json:"operation"`
	Key       map[string]any `json:"key"`
	Fields    map[string]any `json:"fields"`
	DedupeID  string         `json:"dedupe_id"`
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.holdBack(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if len(r.answers) > 0 {
		status := r.answers[0]
		r.answers = r.answers[1:]
		if status >= 300 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(status)
			return
		}
	}
	d, fault := read(req)
	if fault != "" {
		r.faults = append(r.faults, fault)
		http.Error(w, fault, http.StatusBadRequest)
		return
	}
	type result struct {
		Status  string `json:"status"`
		Code    string `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
	results := make([]result, len(d.Changes))
	for i, c := range d.Changes {
		results[i].Status = "delivered"
		if slices.ContainsFunc(slices.Collect(maps.Values(c.Key)), func(v any) bool { return slices.Contains(r.rejects, fmt.Sprint(v)) }) {
			results[i] = result{"rejected", "bad_row", "this row is not wanted"}
			continue
		}
		key := text(c.Key)
		if c.Operation == "remove" {
			delete(r.rows, key)
		} else {
			r.rows[key] = text(c.Fields)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
}

// holdBack waits while requests are held back, and until the client is gone.
func (r *receiver) holdBack(req *http.Request) {
	r.mu.Lock()
	free := r.free
	r.mu.Unlock()
	if free == nil {
		return
	}
	_, _ = io.Copy(io.Discard, req.Body) // only then does the server notice that the client is gone
	r.came <- struct{}{}
	select {
	case <-free:
	case <-req.Context().Done():
	}
}

// read parses a request and says what is wrong with it.
func read(req *http.Request) (delivery, string) {
	var d delivery
	decoder := json.NewDecoder(req.Body)
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		return d, err.Error()
	}
	switch {
	case req.Method != http.MethodPost:
		return d, "method " + req.Method
	case !strings.HasPrefix(req.Header.Get("Content-Type"), "application/json"):
		return d, "content type " + req.Header.Get("Content-Type")
	case d.Sync == nil || d.RunID == nil || *d.RunID == "" || d.Object == nil:
		return d, "no sync, run_id or object"
	case len(d.Changes) == 0 || len(d.Changes) > 100:
		return d, fmt.Sprintf("%d changes", len(d.Changes))
	}
	seen := map[string]bool{}
	for _, c := range d.Changes {
		switch {
		case c.Operation != "add" && c.Operation != "update" && c.Operation != "remove":
			return d, "operation " + c.Operation
		case len(c.Key) == 0:
			return d, "a change without a key"
		case c.DedupeID == "" || seen[c.DedupeID]:
			return d, "a dedupe_id that is empty or not the only one"
		}
		seen[c.DedupeID] = true
	}
	return d, ""
}

// text is a value as JSON, names sorted.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func find(ts *testscript.TestScript, name string) *receiver {
	r := ts.Value(receiversKey{}).(map[string]*receiver)[name]
	if r == nil {
		ts.Fatalf("there is no receiver %s", name)
	}
	return r
}

func cmdReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: receiver NAME")
	}
	r := &receiver{rows: map[string]string{}}
	r.server = httptest.NewServer(r)
	ts.Value(receiversKey{}).(map[string]*receiver)[args[0]] = r
	ts.Setenv(args[0], r.server.URL)
}

func cmdAnswers(ts *testscript.TestScript, _ bool, args []string) {
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = nil // those of a run that ended before it had them all
	for _, arg := range args[1:] {
		status, err := strconv.Atoi(arg)
		ts.Check(err)
		r.answers = append(r.answers, status)
	}
}

func cmdRejects(ts *testscript.TestScript, _ bool, args []string) {
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejects = args[1:]
}

func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: received NAME COUNT")
	}
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if len(r.faults) > 0 {
		ts.Fatalf("the receiver refused: %s", strings.Join(r.faults, "; "))
	}
	if (r.requests == want) == neg {
		ts.Fatalf("%d requests came, want %d", r.requests, want)
	}
	r.requests = 0
}

// cmdHolds holds requests back until `frees`.
func cmdHolds(ts *testscript.TestScript, _ bool, args []string) {
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free, r.came = make(chan struct{}), make(chan struct{}, 100)
}

// cmdAwaits waits until a request is held back.
func cmdAwaits(ts *testscript.TestScript, _ bool, args []string) {
	select {
	case <-find(ts, args[0]).came:
	case <-time.After(time.Minute):
		ts.Fatalf("no request came within a minute")
	}
}

func cmdFrees(ts *testscript.TestScript, _ bool, args []string) {
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.free)
	r.free = nil
}

func cmdRows(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: rows NAME FILE")
	}
	r := find(ts, args[0])
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.rows)) {
		b.WriteString(key + " " + r.rows[key] + "\n")
	}
	if want := ts.ReadFile(args[1]); b.String() != want {
		ts.Fatalf("the receiver holds\n%s\nwant\n%s", b.String(), want)
	}
}
