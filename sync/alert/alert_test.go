package alert_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/sync/alert"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
	"github.com/dray-dev/dray/sync/state"
)

const project = `
name: shop
version: 1
models:
  - {name: people, primary_key: id, sql: select 1 as id}
destinations:
  - {name: hook, type: webhook, url: "http://127.0.0.1:1"}
  - {name: chat, type: slack, webhook_url: "${HOOK}"}
syncs:
  - {name: a, model: people, destination: hook, object: x, mode: upsert, key: {id: id}, schedule: "0 * * * *", tags: [crm]}
  - {name: b, model: people, destination: hook, object: y, mode: upsert, key: {id: id}}
alerts:
  - {on: [failed, held, stale, recovered], to: hook}
  - {on: {rejected: 10%}, to: chat, syncs: ["tag:crm"]}
`

type world struct {
	*testing.T
	dir     string
	now     time.Time
	project *run.Prepared
	state   *state.State
	teller  *alert.Teller
	sent    []string
	texts   []string
	fail    bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	if err := os.WriteFile(filepath.Join(w.dir, "dray.yaml"), []byte(project), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := run.Prepare(run.Deps{Connector: registry.Destination}, run.Options{Dir: w.dir, Env: func(string) (string, bool) { return "https://hooks.example/x", true }})
	if err != nil {
		t.Fatal(err)
	}
	w.project = p
	w.restart()
	return w
}

// restart is another process on the same control state.
func (w *world) restart() {
	w.Helper()
	if w.state != nil {
		_ = w.state.Close()
	}
	var err error
	if w.state, err = state.Open(w.Context(), filepath.Join(w.dir, "state.db"), state.Options{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = w.state.Close() })
	w.teller = &alert.Teller{
		State: w.state, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		Send: func(_ context.Context, _ *run.Prepared, to string, n destination.Notice) error {
			if w.fail {
				return errors.New("nobody answers")
			}
			w.sent = append(w.sent, to+" "+n.Sync+" "+n.State)
			w.texts = append(w.texts, n.Title+"\n"+n.Text)
			return nil
		},
	}
}

// ends lets a run end, as sync/run writes it down.
func (w *world) ends(sync string, status report.Status, rejected int64) {
	w.Helper()
	w.now = w.now.Add(time.Minute)
	r := report.Run{
		RunID: sync + w.now.Format("150405"), Sync: sync, Status: status, StartedAt: w.now.Add(-time.Second), FinishedAt: w.now,
		Planned: report.Counts{Add: 20}, Rejected: report.Counts{Add: rejected}, Delivered: report.Counts{Add: 20 - rejected},
	}
	if status == report.Failed {
		r.Error = &report.Problem{Code: "sync.sql", Message: "could not convert 'anna@example.com'"}
	}
	if err := w.state.End(w.Context(), state.Run{RunID: r.RunID, Schema: "dray", Sync: sync, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Status: string(status)}); err != nil {
		w.Fatal(err)
	}
	w.teller.Ended(w.Context(), w.project, r)
}

func (w *world) look() {
	w.teller.Look(w.Context(), w.project, func(context.Context, string) ([]report.Run, error) { return nil, nil })
}

func (w *world) want(what string, want ...string) {
	w.Helper()
	slices.Sort(w.sent)
	if !slices.Equal(w.sent, want) {
		w.Fatalf("%s: sent %v, want %v", what, w.sent, want)
	}
	w.sent = nil
}

func TestOncePerChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ends("a", report.Succeeded, 0)
	w.want("all is well")
	w.ends("a", report.Failed, 0)
	w.want("it failed", "hook a failed")
	w.ends("a", report.Failed, 0)
	w.ends("a", report.Interrupted, 0)
	w.ends("a", report.Locked, 0)
	w.want("it failed again")
	w.restart()
	w.ends("a", report.Failed, 0)
	w.look()
	w.want("it failed after a restart")
	w.ends("a", report.Stopped, 0)
	w.want("it is stopped now", "hook a held")
	w.ends("b", report.Failed, 0)
	w.want("another", "hook b failed")
	w.ends("a", report.Succeeded, 0)
	w.want("it is well again", "hook a recovered")
	w.ends("a", report.Succeeded, 0)
	w.want("it stays well")
	w.ends("a", report.Failed, 0)
	w.want("it fails anew", "hook a failed")
	for _, text := range w.texts {
		if strings.Contains(text, "anna") {
			t.Errorf("a customer's value in %q", text)
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ends("a", report.Partial, 2)
	w.want("a tenth is not more than a tenth")
	w.ends("a", report.Partial, 3)
	w.ends("b", report.Partial, 20)
	w.want("above it, of the selected sync alone", "chat a rejected")
	w.ends("a", report.Succeeded, 0)
	w.want("nobody asked to hear of the recovery")
	w.ends("a", report.Partial, 3)
	w.want("anew", "chat a rejected")
}

func TestWhatCouldNotBeSentIsSentLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fail = true
	w.ends("a", report.Failed, 0)
	w.want("nobody answers")
	w.fail = false
	w.look()
	w.look()
	w.want("later, once", "hook a failed")
}

func TestStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ends("a", report.Succeeded, 0)
	w.now = w.now.Add(2 * time.Hour)
	w.look()
	w.want("two of its intervals")
	w.now = w.now.Add(61 * time.Minute)
	w.look()
	w.look()
	w.want("more than three", "hook a stale")
	w.ends("a", report.Succeeded, 0)
	w.want("it succeeded", "hook a recovered")
}
