package warehouse

import (
	"context"
	"maps"
)

type labelKey struct{}

// Label says what a statement is for (command, sync, run), to those engines that let their statements bear it: query history and
// bills can then be told apart. No customer's value may be one (I6).
func Label(ctx context.Context, key, value string) context.Context {
	all := maps.Clone(Labels(ctx))
	if all == nil {
		all = map[string]string{}
	}
	all[key] = value
	return context.WithValue(ctx, labelKey{}, all)
}

// Labels are those that Label has put there; not to be changed.
func Labels(ctx context.Context) map[string]string {
	all, _ := ctx.Value(labelKey{}).(map[string]string)
	return all
}
