package deliver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
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
	rate = 0.001
	s.take()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.wait(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A delivery with a share makes its requests at that part of the pacer's rate; one without makes them at all of it.
func TestShareOfADelivery(t *testing.T) {
	t.Parallel()
	took := func(part float64) time.Duration {
		pacer := NewPacer(destination.Rate{Requests: 100, Per: time.Second})
		s := &share{part: part, rate: pacer.Rate, now: time.Now}
		began := time.Now()
		for range 20 {
			if part > 0 {
				if err := s.wait(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := pacer.Wait(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	if half, least := took(0.5), 19*20*time.Millisecond; half < least {
		t.Errorf("20 requests at half of 100 a second took %s, less than %s", half, least)
	}
}
