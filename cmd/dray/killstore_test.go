package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// taken is what a store knows of one key.
type taken struct {
	operation string
	fields    string // JSON
	run       string // which sent it last
	// answered: that run was told so, as far as the store can know; false also for what came before the control state was lost, and
	// for what some request that was dropped would have changed since: who sent that must bring the row back to what it was.
	answered bool
}

// store is a tool behind a webhook, as strict as receiver, and as unreliable as the tests ask for: it is slow, and drops
// connections before and after it has applied a request. It applies at once or not at all, which is what `settle: 0s` promises.
type store struct {
	*httptest.Server

	mu       sync.Mutex
	rng      *rand.Rand
	faults   bool
	insert   bool             // what comes are events: one dedupe id each, for ever
	requests int              // since the last reset
	run      string           // that made them
	rows     map[int64]taken  // also those that were removed
	again    map[string]int   // run → rows that it had delivered, which another run sent again as they were
	ids      map[string]int64 // dedupe id → key
	idOf     map[int64]string // and back: the last one
	broken   []string         // what must not happen
	conns    map[net.Conn]struct{}
	strikeAt int // the request at which strike is called; 0 = none
	late     bool
	strike   func()
}

func newStore(t testing.TB, seed uint64) *store {
	s := &store{
		rng: rand.New(rand.NewPCG(seed, 1)), rows: map[int64]taken{}, again: map[string]int{}, ids: map[string]int64{},
		idOf: map[int64]string{}, conns: map[net.Conn]struct{}{},
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns[c] = struct{}{}
		case http.StateClosed, http.StateHijacked:
			delete(s.conns, c)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// fate is what becomes of one request.
type fate struct {
	slow                     time.Duration
	dropBefore, dropAfter    bool
	strikeBefore, strikeLate func()
}

func (s *store) fate() fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	f := fate{strikeBefore: func() {}, strikeLate: func() {}}
	if s.requests == s.strikeAt && s.late {
		f.strikeLate = s.strike
	} else if s.requests == s.strikeAt {
		f.strikeBefore = s.strike
	}
	if s.faults {
		f.slow = time.Duration(s.rng.IntN(5000)) * time.Microsecond
		x := s.rng.IntN(80)
		f.dropBefore, f.dropAfter = x == 0, x == 1
	}
	return f
}

func (s *store) serve(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodGet { // settled asks
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil { // whoever sent it died in the middle of it
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	d, broken := read(req)
	f := s.fate()
	f.strikeBefore()
	time.Sleep(f.slow)
	if f.dropBefore {
		s.missed(d)
		drop(w)
		return
	}
	if broken == "" {
		broken = s.take(d, !f.dropAfter)
	}
	if broken != "" {
		s.mu.Lock()
		s.broken = append(s.broken, broken)
		s.mu.Unlock()
		http.Error(w, broken, http.StatusBadRequest)
		return
	}
	f.strikeLate()
	if f.dropAfter {
		drop(w)
	}
}

func drop(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// take applies a request and keeps account of what came twice. It says what must not be.
func (s *store) take(d delivery, answered bool) (broken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = *d.RunID
	for _, c := range d.Changes {
		number, ok := c.Key["id"].(json.Number)
		id, err := number.Int64()
		if !ok || err != nil || len(c.Key) != 1 {
			return "a key that is not {id: number}: " + text(c.Key)
		}
		if known, ok := s.ids[c.DedupeID]; ok && known != id {
			return fmt.Sprintf("dedupe_id %s names %d and %d", c.DedupeID, known, id)
		}
		if known, ok := s.idOf[id]; ok && known != c.DedupeID && s.insert {
			return fmt.Sprintf("event %d came as %s and as %s", id, known, c.DedupeID)
		}
		s.ids[c.DedupeID] = id
		s.idOf[id] = c.DedupeID
		now := taken{operation: operation(c), fields: text(c.Fields), run: *d.RunID, answered: answered}
		if was := s.rows[id]; was.answered && was.run != now.run && was.operation == now.operation && was.fields == now.fields {
			s.again[was.run]++
		}
		s.rows[id] = now
	}
	return ""
}

// missed takes note of a request that is not applied.
func (s *store) missed(d delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range d.Changes {
		number, ok := c.Key["id"].(json.Number)
		if id, err := number.Int64(); ok && err == nil {
			row := s.rows[id]
			row.answered = row.answered && row.operation == operation(c) && row.fields == text(c.Fields)
			s.rows[id] = row
		}
	}
}

// operation is what a change does to a key: whether it sends it as new or as changed does not matter here.
func operation(c change) string {
	if c.Operation == "remove" {
		return "remove"
	}
	return "set"
}

// arm makes strike be called at the nth request from now on, before it is applied or (late) after.
func (s *store) arm(n int, late bool, strike func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strikeAt, s.late, s.strike = n, late, strike
}

// reset begins another process's life and tells which run the last one was, and how many requests it made.
func (s *store) reset() (run string, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run, requests = s.run, s.requests
	s.run, s.requests, s.strikeAt = "", 0, 0
	return run, requests
}

// settled waits until nothing that a dead process sent can still be applied: every connection it made was taken (a later one
// was), and has ended.
func (s *store) settled(t testing.TB) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for range 2000 {
		s.mu.Lock()
		open := len(s.conns)
		s.mu.Unlock()
		if open == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("connections of a dead process stay open")
}

// excuse takes all that is held as not known to be delivered: the control state was lost, so that sending it again is no fault.
func (s *store) excuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, row := range s.rows {
		row.answered = false
		s.rows[id] = row
	}
}

// held is what the store holds now.
func (s *store) held() map[int64]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int64]string{}
	for id, row := range s.rows {
		if row.operation == "set" {
			out[id] = row.fields
		}
	}
	return out
}
