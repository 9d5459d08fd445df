package deliver

import (
	"testing"
	"time"
)

// A share takes its part of the rate in force, also where that changes, and nothing where none is known.
func TestShare(t *testing.T) {
	t.Parallel()
	now, rate := time.Unix(0, 0), 10.0
	s := &share{part: 0.5, rate: func() float64 { return rate }, now: func() time.Time { return now }}
	for i, want := range []time.Duration{0, 200, 400} {
		if got := s.take(); got != want*time.Millisecond {
			t.Errorf("request %d waits %s, want %s", i, got, want*time.Millisecond)
		}
	}
	now = now.Add(10 * time.Second) // what was not used is not saved up
	for i, want := range []time.Duration{0, 200} {
		if got := s.take(); got != want*time.Millisecond {
			t.Errorf("after a pause request %d waits %s, want %s", i, got, want*time.Millisecond)
		}
	}
	rate = 0
	if got := s.take(); got != 0 {
		t.Errorf("at no known rate a request waits %s", got)
	}
}
