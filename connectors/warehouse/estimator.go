package warehouse

import "context"

// Estimator is what a Warehouse may offer beside: what a query would cost, without running it.
type Estimator interface {
	// Estimate is how many bytes a query would read, as the engine itself estimates it.
	Estimate(ctx context.Context, query string) (bytes int64, err error)
}
