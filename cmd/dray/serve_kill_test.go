//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/state"
)

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// A scheduler that is killed again and again, while the model changes and the destination fails: the next one goes on where it was,
// and rows in flight alone come twice.
func TestKilledServe(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: mirror\n    on_remove: delete\n    schedule: \"@every 1s\"\nschedules: on")
	h.store.faults = true
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		h.store.reset()
		p := h.start("serve", "--listen", "off", "--log-level", "warn")
		at, late := 1+h.rng.IntN(h.pending()), h.rng.IntN(2) == 0
		h.store.arm(at, late, p.kill)
		timer := time.AfterFunc(time.Duration(1+h.rng.IntN(8))*time.Second, p.kill) // between two runs, where no request comes
		if code := p.wait(); code != -1 {
			t.Fatalf("exit code %d\n%s", code, p.said())
		}
		timer.Stop()
		h.store.settled(t)
		run, requests := h.store.reset()
		h.killed[run] = true
		h.logf("serve killed at request %d or later (applied: %v): %d requests", at, late, requests)
		h.change([]float64{0.01, 0.2}[h.rng.IntN(2)])
	}
	h.store.faults = false
	p := h.start("serve", "--listen", "off")
	waitFor(t, "the model at the destination", func() bool { return maps.Equal(h.store.held(), h.wanted()) })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.said())
	}
	h.store.settled(t)
	h.converged()
	h.same(h.store.held(), h.wanted())
	h.remembers(slices.Sorted(maps.Keys(h.model)))
}

// ended are the runs of a sync that have ended so, as the command line tells beside a serve.
func (h *hunted) ended(sync, status string) int {
	h.t.Helper()
	var out []byte
	waitFor(h.t, "an answer of dray runs", func() bool {
		cmd := exec.CommandContext(h.t.Context(), "dray", "runs", sync, "--limit", "1000", "--output", "json")
		cmd.Dir, cmd.Env = h.dir, append(append(cmd.Environ(), "HOOK="+h.store.URL), h.env...)
		said, err := cmd.Output()
		if cmd.ProcessState.ExitCode() == 5 { // the serve has opened the file, and does not listen yet
			return false
		}
		if err != nil {
			h.t.Fatalf("dray runs: %v\n%s", err, said)
		}
		out = said
		return true
	})
	var runs []struct{ Status string }
	if err := json.Unmarshal(out, &runs); err != nil {
		h.t.Fatal(err)
	}
	n := 0
	for _, r := range runs {
		if r.Status == status {
			n++
		}
	}
	return n
}

// What was due several times while no scheduler lived is caught up once, also after one that was killed.
func TestKilledServeCatchesUpOnce(t *testing.T) {
	t.Parallel()
	h := newHunted(t, "mode: mirror\n    on_remove: delete\n    schedule: \"@every 1s\"\nschedules: on")
	rare := fmt.Sprintf("0 0 1 %d *", time.Now().UTC().AddDate(0, 0, -183).Month()) // once a year, half a year ago: no jitter reaches today
	h.write("more.yaml", []byte(`
syncs:
  - {name: yearly, model: rows, destination: hook, object: other, mode: upsert, key: {id: id}, schedule: "`+rare+`"}
`))
	p := h.start("serve", "--listen", "off")
	waitFor(t, "two runs", func() bool { return h.ended("rows", "succeeded") >= 2 })
	p.kill()
	p.wait()
	if n := h.ended("yearly", "succeeded"); n != 0 {
		t.Fatalf("the sync that is due once a year ran %d times", n)
	}
	s, err := state.Open(t.Context(), filepath.Join(h.dir, ".dray", "state.db"), state.Options{Project: "hunted"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.DB().ExecContext(t.Context(), "UPDATE schedule SET due_at = ? WHERE sync = 'yearly'", time.Now().AddDate(-3, 0, 0).UnixMicro())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		t.Fatalf("%d syncs missed three years: %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := h.ended("rows", "succeeded")
	p = h.start("serve", "--listen", "off")
	waitFor(t, "what was missed", func() bool { return h.ended("yearly", "succeeded") > 0 })
	waitFor(t, "more runs", func() bool { return h.ended("rows", "succeeded") >= before+4 })
	if n := h.ended("yearly", "succeeded"); n != 1 {
		t.Errorf("what was missed three times was caught up %d times", n)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.said())
	}
}
