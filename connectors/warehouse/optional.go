package warehouse

import "context"

// As finds what a Warehouse may offer beside the contract (Estimator, Checker), in it or in what it wraps.
func As[T any](w Warehouse) (T, bool) {
	for {
		if t, ok := w.(T); ok {
			return t, true
		}
		inner, ok := w.(interface{ Unwrap() Warehouse })
		if !ok {
			var none T
			return none, false
		}
		w = inner.Unwrap()
	}
}

// Estimator is what a Warehouse may offer beside: what a query would cost, without running it.
type Estimator interface {
	// Estimate is how many bytes a query would read, as the engine itself estimates it.
	Estimate(ctx context.Context, query string) (bytes int64, err error)
}

// Checker is what a Warehouse may offer beside: whether it is allowed all that a project needs.
type Checker interface {
	// Check tries to make and change tables in a schema, and to read others, without doing so. The errors, joined, name each permission
	// that is missing. account is whose project or database it is.
	Check(ctx context.Context, own string, changed, read []Table) (account string, err error)
}

// FirstNeedsType is what a Dialect may offer beside: it has to be told the type of what First picks, which otherwise may come out as JSON, or not at all.
type FirstNeedsType interface{ FirstNeedsType() }
