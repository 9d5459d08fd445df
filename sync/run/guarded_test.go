package run_test

import (
	"context"
	"fmt"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// gone is what the guard of removes is held against: rows that were certain and went, in a run and in the one before it, which its
// window reaches back to. It is kept in histories with a guard, and judges the engine by the snapshot alone.
type gone struct {
	certain map[string]bool // keys of the snapshot before anything was sent; true = known as they are
	sent    map[string]bool // of them, those that a remove was sent of and took effect, or will
	present map[string]bool // keys of the model in the run before
	began   time.Time       // of the run
	rows    int             // of the snapshot when it began
	read    bool            // certain is of this run
	killed  bool            // the run before was
	was     struct {
		began time.Time
		rows  int
		n     int
		free  bool // a person let rows go
	}
}

func (h *story) judged() bool { return h.shape.guard && h.shape.mode != "insert" }

// standing reads the keys of the snapshot; true = it is known as it is.
func (h *story) standing() map[string]bool {
	out := map[string]bool{}
	if there, err := h.w.Exists(context.Background(), warehouse.Table{Schema: "dray", Name: "snapshot_rows"}); err != nil || !there {
		return out
	}
	found, err := h.w.Query(context.Background(), "SELECT dest_key, uncertain_until IS NULL FROM dray.snapshot_rows")
	if err != nil {
		h.wrong("reading the snapshot: %v", err)
		return out
	}
	defer found.Close()
	for found.Next() {
		if v, err := found.Values(); err == nil {
			out[fmt.Sprintf(`{"k":%v}`, v[0])] = v[1] == true
		}
	}
	return out
}

// before remembers what stands before a run.
func (h *story) before() {
	if !h.judged() {
		return
	}
	certain := h.standing()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone.certain, h.gone.rows, h.gone.began, h.gone.read, h.gone.sent = certain, len(certain), h.clock, false, map[string]bool{}
}

// goes takes a request that is about to be answered so: what was refused has not gone. What a run that was killed had in flight is
// doubtful once the next one recovered, which it has before its first request; h.mu is held.
func (h *story) goes(changes []hookChange, a reaction) {
	if !h.judged() {
		return
	}
	g := &h.gone
	if !g.read && g.killed {
		before := g.certain
		g.certain = h.standing()
		for k := range before { // recovery knows of no guard that let a row go
			if _, stands := g.certain[k]; !stands && h.shape.mode != "mirror" {
				h.wrong("%s stood in the snapshot before a plan that was left open was closed, and does not after", k)
			}
		}
		g.rows = max(g.rows, len(g.certain))
	}
	g.read = true
	for i, c := range changes {
		if k := canonical(c.Key); c.Operation == "remove" && a.applied(i) && g.certain[k] {
			g.sent[k] = true
		}
	}
}

// within judges a run that ended or was killed: what went, with what went in the run before, is not more than the guard lets go.
// h.mu is held.
func (h *story) within(allowed bool) {
	if !h.judged() {
		return
	}
	g := &h.gone
	present := map[string]bool{}
	for k := range h.claims() {
		present[k] = true
	}
	n := len(g.sent)
	if g.killed { // what recovery found counts, of which a run that sends nothing tells nothing
		g.rows = max(g.rows, h.shape.keys)
	}
	if h.shape.mode != "mirror" { // forgotten
		after := h.standing()
		for k, certain := range g.certain {
			_, stands := after[k]
			// What the run before had in flight may have become doubtful, and goes then without a guard.
			if certain && !stands && !present[k] && !(g.killed && g.present[k]) {
				n++
			}
		}
	}
	all, base := n, g.rows
	if !g.was.began.IsZero() && g.began.Sub(g.was.began) < 2*time.Minute {
		all, base = n+g.was.n, max(g.rows, g.was.rows)
	}
	if limit := max(1, base/5); n > 0 && all > limit && !allowed && !g.was.free {
		h.wrong("%d rows went, %d with the run before it, of %d: more than %d", n, all, base, limit)
	}
	g.was.began, g.was.rows, g.was.n, g.was.free = g.began, g.rows, n, allowed
	g.killed, g.present = h.dead, present
}

// kept: no row waits for a retry as it was acknowledged.
func (h *story) kept() {
	if there, err := h.w.Exists(context.Background(), warehouse.Table{Schema: "dray", Name: "snapshot_rows"}); err != nil || !there {
		return
	}
	as := "s.hash = r.row_hash AND r.operation <> 'remove' AND s.uncertain_until IS NULL"
	if h.shape.mode == "insert" {
		as = "true"
	}
	n, err := warehouse.Number(context.Background(), h.w, "SELECT count(*) FROM dray.retry_rows r JOIN dray.snapshot_rows s ON s.key_hash = r.key_hash WHERE "+as)
	if err != nil {
		h.fatalf("reading what waits: %v", err)
	}
	if n > 0 {
		h.fatalf("%d rows wait for a retry as they were acknowledged", n)
	}
}
