package registry_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/dray-dev/dray/connectors/destination/conformance"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/internal/diag"
)

// Every connector passes the suite: none can be forgotten.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, e := range registry.Destinations() {
		t.Run(e.Connector.Spec().Type, func(t *testing.T) {
			t.Parallel()
			if spec := e.Connector.Spec(); e.StandIn == nil {
				if len(spec.Objects) > 0 || !spec.Notifies {
					t.Error("what takes rows needs a stand-in")
				}
				return
			}
			conformance.Run(t, e.Connector, e.StandIn)
		})
	}
}

func TestListsAreSorted(t *testing.T) {
	t.Parallel()
	var types []string
	for _, e := range registry.Destinations() {
		types = append(types, e.Connector.Spec().Type)
	}
	if !slices.IsSorted(types) || len(slices.Compact(slices.Clone(types))) != len(types) {
		t.Errorf("destinations are not sorted, or doubled: %v", types)
	}
	for _, typ := range types {
		if spec, ok := registry.Spec(typ); !ok || spec.Type != typ {
			t.Errorf("%s is listed but not found", typ)
		}
	}
	if _, ok := registry.Destination("nothing"); ok {
		t.Error("found a connector that does not exist")
	}
}

func TestUnknownWarehouse(t *testing.T) {
	t.Parallel()
	_, err := registry.OpenWarehouse(t.Context(), "oracle", nil, t.TempDir())
	var e *diag.Error
	if !errors.As(err, &e) || e.Kind != diag.Invalid || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}
