package profile

import (
	"context"
	"slices"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Between is Find of a profile that holds two values, with the shortest path of edges from the first to the second in Path: why the
// two are one. An *diag.Error with code profile.two says that they are not.
func Between(ctx context.Context, w warehouse.Warehouse, spec Spec, from, to string) (Found, error) {
	other := newFinder(w, spec)
	end, err := other.owner(ctx, to)
	if err != nil {
		return Found{}, err
	}
	f := newFinder(w, spec)
	start, err := f.find(ctx, from)
	if err != nil {
		return Found{}, err
	}
	if f.found.ProfileID != other.found.ProfileID {
		return Found{}, diag.Errorf(diag.Invalid, "profile.two", "the two belong to different profiles of %s: %s and %s", spec.Entity.Name, f.found.ProfileID, other.found.ProfileID).
			WithHint("decisions: {always: [[…, …]]} makes them one; dray profile shows each with what links it")
	}
	if f.found.Path = path(f.found.Edges, start, end); f.found.Path == nil && start != end {
		e := diag.Errorf(diag.Failed, "profile.no_path", "no rows that are there now link the two, though they were one profile when %s was built", spec.Entity.Name)
		if f.found.Truncated {
			e = diag.Errorf(diag.Failed, "profile.no_path", "the profile is too large: none of the %d rows of each input that are looked at link the two", shown)
		}
		return Found{}, e.WithHint("dray build %s brings the profiles up to date", spec.Entity.Name)
	}
	return f.found, nil
}

// path is the shortest way over edges, in either direction, each turned to the way it is walked; of several the first by the edges' order.
// nil = there is none.
func path(edges []Edge, from, to string) []Edge {
	came := map[string]Edge{from: {}}
	for layer := []string{from}; len(layer) > 0; {
		var next []string
		for _, at := range layer {
			for _, e := range edges {
				switch at {
				case e.From:
				case e.To:
					e.From, e.To = e.To, e.From
				default:
					continue
				}
				if _, ok := came[e.To]; !ok {
					came[e.To] = e
					next = append(next, e.To)
				}
			}
		}
		if _, ok := came[to]; ok {
			break
		}
		layer = next
	}
	var out []Edge
	for at := to; at != from; at = came[at].From {
		e, ok := came[at]
		if !ok {
			return nil
		}
		out = append(out, e)
	}
	slices.Reverse(out)
	return out
}
