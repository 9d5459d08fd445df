package schedule

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/internal/timetable"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/state"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func table(t *testing.T, expression, zone string) *timetable.Table {
	t.Helper()
	out, err := timetable.Parse(expression, zone)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A process that was down for a week catches up each sync once, whatever its interval; what is new is not caught up.
func TestMissedRunsAreCaughtUpOnce(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-07-08T12:00:31Z")
	_, missed := plan(map[string]*timetable.Table{
		"often": table(t, "@every 2s", ""), "daily": table(t, "0 3 * * *", ""), "new": table(t, "0 3 * * *", ""), "later": table(t, "0 3 * * 5", ""),
	}, func(sync string) time.Time {
		if sync == "new" {
			return time.Time{}
		}
		return now.Add(-5 * 24 * time.Hour)
	}, now)
	got := map[string]time.Time{}
	for _, m := range missed {
		if !got[m.Sync].IsZero() {
			t.Errorf("%s was caught up twice", m.Sync)
		}
		got[m.Sync] = m.Due
	}
	if len(got) != 2 || !got["often"].Equal(now.Add(-time.Second)) || !got["daily"].Equal(at(t, "2026-07-08T03:00:00Z")) {
		t.Errorf("caught up %v", got)
	}
}

// The clock of a day with a leap and of one with an hour twice, second by second: a 02:30 job is due once on each.
func TestDaylightSavingOnTheAgenda(t *testing.T) {
	t.Parallel()
	for day, want := range map[string]string{"2026-03-29": "2026-03-29T01:00:00Z", "2026-10-25": "2026-10-25T00:30:00Z"} {
		now := at(t, day+"T00:00:00Z")
		a, missed := plan(map[string]*timetable.Table{"night": table(t, "30 2 * * *", "Europe/Copenhagen")}, func(string) time.Time { return now }, now)
		ticks := missed
		for ; now.Before(at(t, day+"T05:00:00Z")); now = now.Add(time.Second) {
			ticks = append(ticks, a.due(now)...)
		}
		if len(ticks) != 1 || !ticks[0].Due.Equal(at(t, want)) {
			t.Errorf("%s: due %v, want once at %s", day, ticks, want)
		}
	}
}

// A machine that slept through many dues starts each sync once; a reload within the jitter neither loses nor doubles one.
func TestSleepAndReload(t *testing.T) {
	t.Parallel()
	start := at(t, "2026-07-08T12:00:00Z").Add(-time.Second)
	tables := map[string]*timetable.Table{"hourly": table(t, "0 * * * *", "")}
	a, _ := plan(tables, func(string) time.Time { return start }, start)
	if got := a.due(start.Add(10 * time.Hour)); len(got) != 1 || !got[0].Due.Equal(at(t, "2026-07-08T21:00:00Z")) {
		t.Errorf("after ten hours of sleep %v", got)
	}
	if got := a.due(start.Add(10 * time.Hour)); len(got) != 0 {
		t.Errorf("and again %v", got)
	}
	due := at(t, "2026-07-08T12:00:00Z")
	jitter := tables["hourly"].Jitter("hourly", due)
	if jitter < 2*time.Second {
		t.Fatalf("jitter %s is too short for this test", jitter)
	}
	a, missed := plan(tables, func(string) time.Time { return start }, due.Add(time.Second))
	if len(missed) != 0 || !a.next().Equal(due.Add(jitter)) {
		t.Errorf("a reload within the jitter: caught up %v, next at %s, want %s", missed, a.next(), due.Add(jitter))
	}
}

// A tick during a run is one later run, not two at once and not a queue.
func TestNoOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	w.do = func(string) report.Status { <-release; return report.Succeeded }
	_, stop := w.serve(syncs(`slow schedule: "@every 1s"`))
	until(t, "the first run", func() bool { return w.count("slow") == 1 })
	time.Sleep(4 * time.Second) // several ticks
	if n := w.count("slow"); n != 1 {
		t.Errorf("%d runs while one is under way", n)
	}
	close(release)
	until(t, "a later run", func() bool { return w.count("slow") >= 2 })
	stop()
	if w.twice {
		t.Error("two runs at once")
	}
}

// An interrupted run is taken up by the next process, and what that one missed is caught up once.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := syncs(`yearly schedule: "0 0 1 1 *"`)
	hold := make(chan struct{})
	w.do = func(string) report.Status { <-hold; return report.Succeeded }
	s, stop := w.serve(text)
	until(t, "the loop", func() bool { return !s.Alive().IsZero() })
	stop()
	if w.count("yearly") != 0 {
		t.Fatal("a new sync was caught up")
	}
	back(t, w.dir, "yearly", time.Now().Add(-800*24*time.Hour))
	_, stop = w.serve(text)
	until(t, "the missed run", func() bool { return w.count("yearly") == 1 })
	go func() { time.Sleep(100 * time.Millisecond); close(hold) }()
	stop() // interrupts it
	s, stop = w.serve(text)
	until(t, "the interrupted run", func() bool { return w.count("yearly") == 2 })
	until(t, "the end of it", func() bool { waiting, running, err := s.Counts(t.Context()); return err == nil && waiting+running == 0 })
	stop()
	s, stop = w.serve(text)
	until(t, "the loop", func() bool { return !s.Alive().IsZero() })
	stop()
	if n := w.count("yearly"); n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

// back makes the control state remember an earlier due time.
func back(t *testing.T, dir, sync string, due time.Time) {
	t.Helper()
	s, err := state.Open(t.Context(), dir+"/state.db", state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Unfollow(t.Context(), "dray", []string{sync}); err != nil {
		t.Fatal(err)
	}
	if err := s.Begun(t.Context(), "dray", []string{sync}, due); err != nil {
		t.Fatal(err)
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var status atomic.Value
	status.Store(report.Succeeded)
	w.do = func(sync string) report.Status {
		if s, ok := status.Load().(report.Status); ok && sync == "parent" {
			return s
		}
		return report.Succeeded
	}
	_, stop := w.serve(syncs(`parent schedule: "@every 1s"`, `child after: [parent]`, `strict after: [{sync: parent, when: clean}]`, `always after: {sync: parent, when: finished}`,
		`both schedule: "@every 1s", after: parent`, `grandchild after: [child, strict]`))
	defer stop()
	until(t, "the sequence", func() bool {
		return w.count("child") > 0 && w.count("strict") > 0 && w.count("always") > 0 && w.count("both") > 0 && w.count("grandchild") > 0
	})
	status.Store(report.Failed)
	n := w.count("parent")
	until(t, "failures", func() bool { return w.count("parent") >= n+2 })
	settled := func(sync string) int { // a run that began before the failure may end after it
		n := w.count(sync)
		until(t, "quiet", func() bool {
			time.Sleep(1500 * time.Millisecond)
			was := n
			n = w.count(sync)
			return was == n
		})
		return n
	}
	child, both, always := settled("child"), settled("both"), w.count("always")
	until(t, "runs after a failed one", func() bool { return w.count("always") > always+1 })
	if w.count("child") != child || w.count("both") != both {
		t.Errorf("child ran %d and both %d times after a parent that failed", w.count("child")-child, w.count("both")-both)
	}
	kept, err := w.state.Scheduled(t.Context(), "dray", "both")
	if err != nil || kept.Note == "" {
		t.Errorf("nobody says why both is left out: %q, %v", kept.Note, err)
	}
	status.Store(report.Partial)
	strict := settled("strict")
	until(t, "the child of a partial run", func() bool { return w.count("child") > child && w.count("both") > both })
	if w.count("strict") != strict {
		t.Error("clean takes rejected rows")
	}
}

func TestPauseAndReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, stop := w.serve(syncs(`a schedule: "@every 1s"`, `b schedule: "@every 1s", enabled: false`))
	defer stop()
	until(t, "a run", func() bool { return w.count("a") > 0 })
	if err := w.state.Pause(t.Context(), "dray", []string{"a"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Look()
	until(t, "quiet", func() bool {
		n := w.count("a")
		time.Sleep(2500 * time.Millisecond)
		return n == w.count("a")
	})
	n := w.count("a")
	if err := w.state.Resume(t.Context(), "dray", []string{"a"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Look()
	until(t, "a run of the resumed sync", func() bool { return w.count("a") > n })
	if w.count("b") != 0 {
		t.Error("a sync that is not enabled ran")
	}
	if err := s.Reload(t.Context(), prepare(t, w.dir, syncs(`b schedule: "@every 1s"`))); err != nil {
		t.Fatal(err)
	}
	until(t, "a run of the changed project", func() bool { return w.count("b") > 0 })
	other := t.TempDir()
	if err := s.Reload(t.Context(), prepare(t, other, "  []\nschedules: off\n")); err == nil {
		t.Error("another control state was taken over")
	}
	if err := s.Reload(context.Background(), prepare(t, w.dir, syncs(`b schedule: "@every 1s"`)+"schedules: off\n")); err != nil {
		t.Fatal(err)
	}
	until(t, "quiet", func() bool {
		n := w.count("b")
		time.Sleep(2500 * time.Millisecond)
		return n == w.count("b")
	})
}
