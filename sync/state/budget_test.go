package state_test

import (
	"testing"
	"time"
)

// Two processes take places in one row, none twice; a pause holds for both; a row that was left alone begins now.
func TestBudget(t *testing.T) {
	t.Parallel()
	url := server.Database(t)
	one, two := open(t, url), open(t, url)
	defer one.Close()
	defer two.Close()
	const every = 10 * time.Second
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if got > want || got < want-5*time.Second {
			t.Errorf("%s: the first place is %s off, want about %s", what, got, want)
		}
	}
	reserve := func(b interface{ ID() string }, n int) time.Duration {
		t.Helper()
		s := one
		if b == two {
			s = two
		}
		wait, err := s.Budget().Reserve(t.Context(), "c", n, every)
		must(t, err)
		return wait
	}
	near("a new row", reserve(one, 2), 0)
	near("the other's", reserve(two, 3), 20*time.Second)
	near("and again", reserve(one, 1), 50*time.Second)
	must(t, two.Budget().Pause(t.Context(), "c", time.Hour))
	must(t, one.Budget().Pause(t.Context(), "c", time.Minute))
	near("after a pause", reserve(one, 1), time.Hour)
	if wait, err := two.Budget().Reserve(t.Context(), "another", 1, every); err != nil || wait > 0 {
		t.Errorf("another credential waits %s, %v", wait, err)
	}
	_, err := one.DB().ExecContext(t.Context(), "UPDATE dray_budgets SET next_at = now() + interval '1 day', paused_until = NULL WHERE credential = 'c'")
	must(t, err)
	near("after the clock was set back", reserve(one, 1), 0)
	alone := open(t, t.TempDir()+"/state.db")
	defer alone.Close()
	if alone.Budget() != nil {
		t.Error("an embedded state has a budget to share")
	}
}
