package run

import (
	"context"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/state"
)

// taking is a warehouse that takes every transaction.
type taking struct{ warehouse.Warehouse }

func (taking) Atomic(context.Context, ...string) error { return nil }

// A renewal that waited for the run's last transaction finds the lock's row free: that is no loss of the lock. In the middle of a
// run it is one.
func TestRenewalAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{false, true} {
		s, err := state.Open(t.Context(), t.TempDir()+"/state.db", state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		nobody := func(context.Context) (bool, error) { return false, nil }
		r := &one{Session: &Session{State: s}, lease: &lease{now: time.Now, renew: nobody, term: time.Minute, until: time.Now().Add(time.Minute)}}
		f := &fenced{Warehouse: taking{}, run: r, fence: "fence", unlock: "unlock"}
		statements := []string{"commit"}
		if ends {
			statements = append(statements, "unlock")
		}
		if err := f.Atomic(t.Context(), statements...); err != nil {
			t.Fatal(err)
		}
		r.lease.prolong(t.Context())
		if r.lease.lost() == ends {
			t.Errorf("a transaction that ends the run: %v; the lock counts as lost: %v", ends, r.lease.lost())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
