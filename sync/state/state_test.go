package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/leaks"
	"github.com/dray-dev/dray/internal/pgtest"
	"github.com/dray-dev/dray/sync/state"
)

var server pgtest.Server

func TestMain(m *testing.M) { os.Exit(leaks.Check(server.Main(m))) }

// engines runs a test on each engine; open opens the same state again and again.
func engines(t *testing.T, test func(t *testing.T, open func() *state.State)) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			where := filepath.Join(t.TempDir(), ".dray", "state.db")
			if engine == "postgres" {
				where = server.Database(t)
			}
			test(t, func() *state.State { return open(t, where) })
		})
	}
}

func open(t testing.TB, where string) *state.State {
	t.Helper()
	s, err := state.Open(context.Background(), where, state.Options{Project: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKnown(t *testing.T) {
	engines(t, func(t *testing.T, open func() *state.State) {
		s := open()
		id := s.ID()
		if k, err := s.Known(t.Context(), "dray", "vips"); err != nil || k.Exists {
			t.Fatalf("a new state knows %v, %v", k, err)
		}
		must(t, s.Learn(t.Context(), "dray", "vips", 1, 7))
		must(t, s.Learn(t.Context(), "dray", "vips", 2, 8))
		must(t, s.Close())
		s = open()
		defer s.Close()
		if s.ID() != id || id == "" {
			t.Errorf("the state's id was %q and is %q", id, s.ID())
		}
		k, err := s.Known(t.Context(), "dray", "vips")
		if want := (state.Known{Exists: true, Generation: 2, Revision: 8}); err != nil || k != want {
			t.Errorf("known %v, %v; want %v", k, err, want)
		}
		if k, err := s.Known(t.Context(), "dray_prod", "vips"); err != nil || k.Exists {
			t.Errorf("another target knows %v, %v", k, err)
		}
		must(t, s.Unlearn(t.Context(), "dray", "vips"))
		if k, err := s.Known(t.Context(), "dray", "vips"); err != nil || k.Exists {
			t.Errorf("after forgetting: %v, %v", k, err)
		}
	})
}

func TestRuns(t *testing.T) {
	engines(t, func(t *testing.T, open func() *state.State) {
		s := open()
		defer s.Close()
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		var ids []string
		for i := range 4 {
			r := state.Run{RunID: uuid.NewString(), Schema: "dray", Sync: "vips", StartedAt: at.Add(time.Duration(i) * 500 * time.Millisecond)}
			ids = append(ids, r.RunID)
			must(t, s.Begin(t.Context(), r))
			if i == 3 {
				break // it was killed
			}
			r.FinishedAt, r.Status, r.Report = r.StartedAt.Add(time.Minute), "succeeded", []byte(`{"delivered":1}`)
			must(t, s.End(t.Context(), r))
		}
		slices.Reverse(ids)
		got, err := s.Runs(t.Context(), state.RunFilter{Schema: "dray", Sync: "vips", Limit: 10})
		must(t, err)
		if names := column(got); !slices.Equal(names, ids) {
			t.Errorf("runs %v, want the newest first: %v", names, ids)
		}
		want := state.Run{RunID: ids[1], Schema: "dray", Sync: "vips", StartedAt: at.Add(time.Second), FinishedAt: at.Add(time.Minute + time.Second), Status: "succeeded", Report: []byte(`{"delivered":1}`)}
		if d := cmp.Diff(want, got[1]); d != "" {
			t.Errorf("the second run differs (-want +got):\n%s", d)
		}
		if got, err := s.Runs(t.Context(), state.RunFilter{Schema: "dray", Sync: "others", Limit: 10}); err != nil || len(got) > 0 {
			t.Errorf("runs of another sync: %v, %v", got, err)
		}
		must(t, s.Prune(t.Context(), at.Add(time.Hour)))
		got, err = s.Runs(t.Context(), state.RunFilter{Schema: "dray", Sync: "", Limit: 10})
		must(t, err)
		if names := column(got); !slices.Equal(names, ids[:1]) {
			t.Errorf("after pruning %v, want only the one that did not end: %v", names, ids[:1])
		}
	})
}

func column(runs []state.Run) []string {
	var out []string
	for _, r := range runs {
		out = append(out, r.RunID)
	}
	return out
}

// begin starts a run with its journal.
func begin(t testing.TB, s *state.State) string {
	t.Helper()
	run := uuid.NewString()
	must(t, s.Begin(t.Context(), state.Run{RunID: run, Schema: "dray", Sync: "vips", StartedAt: time.Now()}))
	must(t, s.OpenJournal(t.Context(), run))
	return run
}

func TestJournal(t *testing.T) {
	engines(t, func(t *testing.T, open func() *state.State) {
		s := open()
		run := begin(t, s)
		if j, err := s.Journal(t.Context(), run); err != nil || !j.Known || len(j.Batches) > 0 {
			t.Fatalf("a journal without entries is %v, %v", j, err)
		}
		at := time.Date(2026, 3, 1, 12, 0, 0, 123000, time.UTC)
		one := state.Batch{Seq: 1, Page: 0, SentAt: at, Keys: []int64{-1, 2, 1 << 62}}
		two := state.Batch{Seq: 2, Page: 1, SentAt: at.Add(time.Second), Keys: []int64{4}}
		three := state.Batch{Seq: 3, Page: 0, SentAt: at, Keys: []int64{5, 6}}
		must(t, s.OpenPage(t.Context(), run, 0))
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Intent: &one}))
		must(t, s.OpenPage(t.Context(), run, 1))
		one.Answered = true
		one.Exceptions = []state.Exception{{Row: 1, Class: "rejected", Code: "bad", Attempt: 2, Until: at}}
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Answer: &one, Intent: &two}))
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Intent: &three}))
		three.Answered = true
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Answer: &three}))
		must(t, s.Close())

		s = open()
		defer s.Close()
		want := state.Journal{Known: true, Batches: []state.Batch{one, two, three}}
		got, err := s.Journal(t.Context(), run)
		must(t, err)
		if d := cmp.Diff(want, got, equalEmpty()); d != "" {
			t.Errorf("the journal differs (-want +got):\n%s", d)
		}
		must(t, s.Committed(t.Context(), run, nil, true))
		if got, err := s.Journal(t.Context(), run); err != nil || len(got.Batches) > 0 {
			t.Errorf("after the run's commit: %v, %v", got, err)
		}
		if got, err := s.Journal(t.Context(), uuid.NewString()); err != nil || got.Known {
			t.Errorf("a run that was never begun: %v, %v", got, err)
		}
	})
}

// A checkpoint takes the journal of its pages away.
func TestCheckpoint(t *testing.T) {
	engines(t, func(t *testing.T, open func() *state.State) {
		s := open()
		run := begin(t, s)
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		var want []state.Batch
		keys := make([]int64, 10_000) // so much that a file is written anew
		for i := range keys {
			keys[i] = int64(i)
		}
		for page := range int64(80) {
			must(t, s.OpenPage(t.Context(), run, page))
			b := state.Batch{Seq: page, Page: page, SentAt: at, Keys: keys}
			must(t, s.Write(t.Context(), state.Entry{RunID: run, Intent: &b}))
			if b.Answered = page%2 == 0; b.Answered {
				b.Exceptions = []state.Exception{{Row: 3, Class: "delivered", RemoteID: fmt.Sprint(page)}}
				must(t, s.Write(t.Context(), state.Entry{RunID: run, Answer: &b}))
			}
			if page >= 70 {
				want = append(want, b)
				continue
			}
			must(t, s.Committed(t.Context(), run, []int64{page}, false))
		}
		more := state.Batch{Seq: 100, Page: 80, SentAt: at, Keys: []int64{1}}
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Intent: &more}))
		must(t, s.Close())
		s = open()
		defer s.Close()
		got, err := s.Journal(t.Context(), run)
		must(t, err)
		if d := cmp.Diff(state.Journal{Known: true, Batches: append(want, more)}, got, equalEmpty()); d != "" {
			t.Errorf("the journal differs (-want +got):\n%s", d)
		}
	})
}

func equalEmpty() cmp.Option {
	return cmp.Transformer("exceptions", func(x []state.Exception) string {
		if len(x) == 0 {
			return ""
		}
		b, _ := json.Marshal(x)
		return string(b)
	})
}

// A journal file that is cut at any byte is known up to there, with its pages in doubt; one that is gone, empty or not ours is lost.
func TestTornJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "state.db"))
	defer s.Close()
	run := begin(t, s)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	must(t, s.OpenPage(t.Context(), run, 5))
	path := filepath.Join(dir, "state.journal", run)
	var ends []int
	for i := range int64(3) {
		must(t, s.Write(t.Context(), state.Entry{RunID: run, Intent: &state.Batch{Seq: i, Page: 5, SentAt: at, Keys: []int64{i, i}}}))
		ends = append(ends, len(read(t, path)))
	}
	whole := read(t, path)
	journal := func(content []byte) state.Journal {
		t.Helper()
		must(t, os.WriteFile(path, content, 0o600))
		j, err := s.Journal(t.Context(), run)
		must(t, err)
		return j
	}
	for cut := ends[0]; cut <= ends[2]; cut++ {
		j := journal(whole[:cut])
		entire := slices.Contains(ends, cut)
		n := 0
		for _, end := range ends {
			if end <= cut {
				n++
			}
		}
		if !j.Known || len(j.Batches) != n || entire != (len(j.Doubtful) == 0) || !entire && !slices.Equal(j.Doubtful, []int64{5}) {
			t.Fatalf("cut at %d of %d: %+v", cut, ends[2], j)
		}
	}
	for i := range whole {
		b := slices.Clone(whole)
		b[i] ^= 0x40
		if j := journal(b); j.Known {
			t.Fatalf("byte %d is wrong, and the journal is taken for whole: %+v", i, j)
		}
	}
	for name, content := range map[string][]byte{"empty": {}, "zeros": make([]byte, 4096), "text": []byte("no journal at all")} {
		if j := journal(content); j.Known {
			t.Errorf("%s: %+v", name, j)
		}
	}
	must(t, os.Remove(path))
	if j, err := s.Journal(t.Context(), run); err != nil || j.Known {
		t.Errorf("the file is gone: %+v, %v", j, err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// Two processes want one sync: the second is told who has it, until the lease ends or the holder is known to be dead.
func TestLock(t *testing.T) {
	t.Parallel()
	url := server.Database(t)
	one, two := open(t, url), open(t, url)
	defer one.Close()
	defer two.Close()
	ctx := t.Context()
	lock := func(s *state.State, run, dead string, lease time.Duration) (bool, state.Held) {
		t.Helper()
		taken, by, err := s.Lock(ctx, "dray", "vips", run, "host of "+run, lease, dead)
		must(t, err)
		return taken, by
	}
	if taken, _ := lock(one, "a", "", time.Hour); !taken {
		t.Fatal("nobody has it, and it is not to be had")
	}
	taken, by := lock(two, "b", "", time.Hour)
	if taken || by.RunID != "a" || by.Host != "host of a" || time.Since(by.Since).Abs() > time.Minute {
		t.Fatalf("the second got it: %v, %+v", taken, by)
	}
	if held, err := two.Renew(ctx, "dray", "vips", "b", time.Hour); err != nil || held {
		t.Errorf("who does not hold it renews it: %v, %v", held, err)
	}
	must(t, two.Unlock(ctx, "dray", "vips", "b")) // frees nothing
	if held, err := one.Renew(ctx, "dray", "vips", "a", 0); err != nil || !held {
		t.Errorf("the holder cannot renew: %v, %v", held, err)
	}
	time.Sleep(time.Millisecond)
	if taken, _ := lock(two, "b", "", time.Hour); !taken {
		t.Error("the lease has ended, and the lock is not to be had")
	}
	if held, err := one.Renew(ctx, "dray", "vips", "a", time.Hour); err != nil || held {
		t.Errorf("the lock was lost, and renewed: %v, %v", held, err)
	}
	if taken, _ := lock(one, "c", "b", time.Hour); !taken {
		t.Error("the holder is dead, and the lock is not to be had")
	}
	must(t, one.Unlock(ctx, "dray", "vips", "c"))
	if taken, _ := lock(two, "d", "", time.Hour); !taken {
		t.Error("the lock was given back, and is not to be had")
	}
	other, err := state.Open(ctx, url, state.Options{Project: "another"})
	must(t, err)
	defer other.Close()
	if taken, _, err := other.Lock(ctx, "dray", "vips", "e", "", time.Hour, ""); err != nil || !taken {
		t.Errorf("another project's sync of this name is locked: %v", err)
	}
}

// Several processes open a new database at once: one makes the tables.
func TestOpenTogether(t *testing.T) {
	engines(t, func(t *testing.T, open func() *state.State) {
		ids := make(chan string)
		for range 8 {
			go func() {
				s := open()
				defer s.Close()
				ids <- s.ID()
			}()
		}
		first := <-ids
		for range 7 {
			if id := <-ids; id != first {
				t.Errorf("two identities: %s and %s", first, id)
			}
		}
	})
}

// The user's own schema comes before the usual one on PostgreSQL's search path. It may be the project's, made after the state's
// tables were: a state that is opened then is the same one.
func TestSchemaOfTheUser(t *testing.T) {
	t.Parallel()
	url := server.Database(t)
	first := open(t, url)
	defer first.Close()
	must(t, first.Begin(t.Context(), state.Run{RunID: "r1", Schema: "dray", Sync: "s", StartedAt: time.Now()}))
	_, err := first.DB().ExecContext(t.Context(), "DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$")
	must(t, err)
	second := open(t, url)
	defer second.Close()
	if first.ID() != second.ID() {
		t.Errorf("two identities: %s and %s", first.ID(), second.ID())
	}
	if j, err := second.Journal(t.Context(), "r1"); err != nil || !j.Known {
		t.Errorf("the run that was begun is not known: %v", err)
	}
}

// A state of a newer Dray's that this one must not touch is refused.
func TestNewerState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	_, err := s.DB().ExecContext(t.Context(), "INSERT INTO version VALUES (999, 999)")
	must(t, err)
	must(t, s.Close())
	_, err = state.Open(t.Context(), path, state.Options{})
	if kind, _ := diag.KindOf(err); kind != diag.Invalid {
		t.Errorf("opened: %v", err)
	}
}

// What cannot be opened says what to do, and never the password.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"mysql://u:hunter2@h/d", "postgres://u:hunter2@h:no/d", "postgres://u:hunter2@127.0.0.1:1/d?connect_timeout=2"} {
		_, err := state.Open(t.Context(), where, state.Options{})
		var d *diag.Error
		if !errors.As(err, &d) || d.Hint == "" || strings.Contains(fmt.Sprint(err, d.Hint), "hunter2") {
			t.Errorf("%s: %v", where[:8], err)
		}
	}
}

// A damaged file is put aside and a new one begun, but not under another process's feet.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	garbage := []byte(strings.Repeat("no database ", 3000))
	for name, damage := range map[string]func(path string) error{
		"garbage": func(path string) error { return os.WriteFile(path, garbage, 0o600) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"lost":    os.Remove,
		"garbled log": func(path string) error {
			return errors.Join(os.WriteFile(path, garbage, 0o600), os.WriteFile(path+"-wal", garbage, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			s := open(t, path)
			must(t, s.Learn(t.Context(), "dray", "vips", 1, 1))
			must(t, s.Close())
			must(t, damage(path))
			s = open(t, path)
			defer s.Close()
			if k, err := s.Known(t.Context(), "dray", "vips"); err != nil || k.Exists {
				t.Errorf("known %v, %v", k, err)
			}
			must(t, s.Learn(t.Context(), "dray", "vips", 1, 1))
			if aside, _ := filepath.Glob(path + ".damaged-*"); (len(aside) > 0) != strings.HasPrefix(name, "garb") {
				t.Errorf("put aside: %v", aside)
			}
		})
	}
}

// A file that is cut short is found out when what is missing is read: that run fails, the next one begins a new state.
func TestTruncatedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	for i := range 300 {
		must(t, s.Learn(t.Context(), "dray", fmt.Sprint("sync", i), 1, 1))
		must(t, s.End(t.Context(), state.Run{RunID: uuid.NewString(), Schema: "dray", Sync: "vips", StartedAt: time.Now(), Report: make([]byte, 500)}))
	}
	must(t, s.Close())
	whole := len(read(t, path))
	for cut := whole - 4096; cut > 0; cut -= whole / 7 {
		must(t, os.Truncate(path, int64(cut)))
		for try := 0; ; try++ {
			if try == 3 {
				t.Fatalf("cut to %d of %d bytes: never well again", cut, whole)
			}
			s, err := state.Open(t.Context(), path, state.Options{})
			if err != nil {
				continue
			}
			_, err = s.Runs(t.Context(), state.RunFilter{Schema: "dray", Sync: "", Limit: 1000})
			for i := range 300 {
				if _, kerr := s.Known(t.Context(), "dray", fmt.Sprint("sync", i)); err == nil {
					err = kerr
				}
			}
			if err == nil {
				err = s.Learn(t.Context(), "dray", "vips", 1, 1)
			}
			must(t, s.Close())
			if err == nil {
				break
			}
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			where := filepath.Join(b.TempDir(), "state.db")
			if engine == "postgres" {
				where = server.Database(b)
			}
			s := open(b, where)
			defer s.Close()
			run := begin(b, s)
			must(b, s.OpenPage(b.Context(), run, 0))
			keys := make([]int64, 100)
			var answer *state.Batch
			seq := int64(0)
			for b.Loop() {
				seq++
				intent := &state.Batch{Seq: seq, SentAt: time.Now(), Keys: keys}
				if err := s.Write(b.Context(), state.Entry{RunID: run, Answer: answer, Intent: intent}); err != nil {
					b.Fatal(err)
				}
				answer = intent
			}
		})
	}
}
