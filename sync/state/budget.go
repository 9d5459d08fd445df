package state

import (
	"context"
	"time"
)

// Budget is what all processes of a shared state may ask of vendors: one row a credential, named by its hash, with the time of
// the next place. It goes by the server's clock. Safe for concurrent use.
type Budget struct{ s *State }

// Budget is the state's, nil where the state is one process's.
func (s *State) Budget() *Budget {
	if !s.Shared() {
		return nil
	}
	return &Budget{s}
}

// Reserve takes n places in a credential's row, each so long after the one before, and tells how far off the first is. A row that
// nobody used for a while begins now; so does one whose next place is so far off that the server's clock must have been set back.
func (b *Budget) Reserve(ctx context.Context, credential string, n int, every time.Duration) (time.Duration, error) {
	span := float64(n) * every.Seconds()
	var wait float64
	err := b.s.row(ctx, `INSERT INTO {budgets} AS b (credential, next_at) VALUES (?, clock_timestamp() + CAST(? AS DOUBLE PRECISION) * interval '1 second')
ON CONFLICT (credential) DO UPDATE SET next_at = greatest(
  CASE WHEN b.next_at BETWEEN clock_timestamp() - interval '50 milliseconds' AND clock_timestamp() + interval '1 minute' + CAST(? AS DOUBLE PRECISION) * interval '1 second'
    THEN b.next_at ELSE clock_timestamp() END, coalesce(b.paused_until, '-infinity')) + CAST(? AS DOUBLE PRECISION) * interval '1 second'
RETURNING CAST(extract(epoch FROM next_at - clock_timestamp()) AS DOUBLE PRECISION)`, credential, span, 100*every.Seconds(), span).Scan(&wait)
	return time.Duration((wait - span) * float64(time.Second)), b.s.wrap("reserving requests in", err)
}

// Pause lets no process begin a request for a while. A shorter pause takes nothing back.
func (b *Budget) Pause(ctx context.Context, credential string, d time.Duration) error {
	_, err := b.s.exec(ctx, `INSERT INTO {budgets} AS b (credential, next_at, paused_until) VALUES (?, clock_timestamp(), clock_timestamp() + CAST(? AS DOUBLE PRECISION) * interval '1 second')
ON CONFLICT (credential) DO UPDATE SET paused_until = greatest(b.paused_until, excluded.paused_until)`, credential, d.Seconds())
	return b.s.wrap("writing", err)
}
