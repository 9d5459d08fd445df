// Package registry is the one list of connectors: it alone knows the concrete ones.
//
// Adding a connector is a folder and a line here. Nothing registers itself, so that a reader sees all there is.
package registry

import (
	"context"
	"sort"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/file"
	filestandin "github.com/dray-dev/dray/connectors/destination/file/standin"
	"github.com/dray-dev/dray/connectors/destination/hubspot"
	hubspotstandin "github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	"github.com/dray-dev/dray/connectors/destination/slack"
	"github.com/dray-dev/dray/connectors/destination/smtp"
	"github.com/dray-dev/dray/connectors/destination/webhook"
	webhookstandin "github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/bigquery"
	"github.com/dray-dev/dray/connectors/warehouse/postgres"
	"github.com/dray-dev/dray/connectors/warehouse/snowflake"
	"github.com/dray-dev/dray/internal/diag"
)

// Entry is a destination connector, and what stands in for its vendor; nil for those that take messages only.
type Entry struct {
	Connector destination.Connector
	StandIn   func() standin.StandIn
}

// Destinations lists the destination connectors, sorted by type.
func Destinations() []Entry {
	return []Entry{
		{file.Connector{}, filestandin.New},
		{hubspot.Connector{}, hubspotstandin.New},
		{slack.Connector{}, nil},
		{smtp.Connector{}, nil},
		{webhook.Connector{}, webhookstandin.New},
	}
}

// Destination finds a connector by its type.
func Destination(typ string) (destination.Connector, bool) {
	for _, e := range Destinations() {
		if e.Connector.Spec().Type == typ {
			return e.Connector, true
		}
	}
	return nil, false
}

// Spec finds a connector's declaration by its type; it is graph.Specs.
func Spec(typ string) (destination.Spec, bool) {
	c, ok := Destination(typ)
	if !ok {
		return destination.Spec{}, false
	}
	return c.Spec(), true
}

// Warehouse is an engine that can be opened.
type Warehouse struct {
	Type string
	Open func(ctx context.Context, options map[string]any, dir string) (warehouse.Warehouse, error)
}

// Warehouses lists the engines, sorted by type. DuckDB is there in builds with cgo.
func Warehouses() []Warehouse {
	all := append(embedded(),
		Warehouse{"bigquery", func(ctx context.Context, options map[string]any, dir string) (warehouse.Warehouse, error) {
			return nilOnError(bigquery.Open(ctx, options, dir))
		}},
		Warehouse{"postgres", func(ctx context.Context, options map[string]any, dir string) (warehouse.Warehouse, error) {
			return nilOnError(postgres.Open(ctx, options, dir))
		}},
		Warehouse{"snowflake", func(ctx context.Context, options map[string]any, dir string) (warehouse.Warehouse, error) {
			return nilOnError(snowflake.Open(ctx, options, dir))
		}},
	)
	sort.Slice(all, func(i, j int) bool { return all[i].Type < all[j].Type })
	return all
}

// nilOnError keeps a nil pointer from becoming a warehouse.
func nilOnError[W warehouse.Warehouse](w W, err error) (warehouse.Warehouse, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}

// OpenWarehouse opens a connection to an engine. options are the keys of `warehouse:` besides type; dir is the project's.
func OpenWarehouse(ctx context.Context, typ string, options map[string]any, dir string) (warehouse.Warehouse, error) {
	var types []string
	for _, w := range Warehouses() {
		if w.Type == typ {
			return w.Open(ctx, options, dir)
		}
		types = append(types, w.Type)
	}
	e := diag.Errorf(diag.Invalid, "warehouse.type", "this build of dray has no warehouse of type %q", typ)
	if len(types) == 0 {
		return nil, e.WithHint("it was built without cgo, which DuckDB needs")
	}
	return nil, e.WithHint("it has %s", strings.Join(types, ", "))
}
