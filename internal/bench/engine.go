package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// engine is Dray in this process, with its statements recorded.
type engine struct {
	*run.Session
	rec *recorder
}

// syncName is the one sync of the benches' projects.
const syncName = "customers_to_sink"

// project is a dray.yaml that mirrors raw.customers to a webhook, by the key column (id or email).
func project(key, url string) string {
	fields := ""
	for _, c := range valueColumns() {
		fields += fmt.Sprintf("      %s: %s\n", c, c)
	}
	return fmt.Sprintf(`name: bench
version: 1
warehouse: {type: duckdb, path: bench.duckdb}
sources:
  - {name: raw, schema: raw, tables: [{name: customers}]}
models:
  - {name: customers, table: "source('raw', 'customers')", primary_key: id}
destinations:
  - {name: sink, type: webhook, url: %q, settle: 0s}
syncs:
  - name: %s
    model: customers
    destination: sink
    object: customers
    mode: mirror
    key: {%s: %s}
    on_remove: delete
    fields:
%s`, url, syncName, key, key, fields)
}

// open opens the project in the lab's folder.
func (l *lab) open(ctx context.Context) (*engine, error) {
	e := &engine{}
	s, err := run.Open(ctx, run.Deps{
		Connector: registry.Destination,
		OpenWarehouse: func(ctx context.Context, typ string, options map[string]any, dir string) (warehouse.Warehouse, error) {
			w, err := registry.OpenWarehouse(ctx, typ, options, dir)
			if err != nil {
				return nil, err
			}
			e.rec = &recorder{Warehouse: w}
			return e.rec, nil
		},
		Log: slog.New(slog.DiscardHandler),
		Now: time.Now,
	}, run.Options{Dir: l.dir, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		return nil, err
	}
	e.Session = s
	return e, nil
}

// with makes a project of n customers in a folder of its own, opens it and runs f.
func (l *lab) with(ctx context.Context, key, url string, n int, f func(e *engine) error) (err error) {
	own := *l
	if own.dir, err = os.MkdirTemp(l.dir, "project-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own.dir)) }()
	return own.inProject(ctx, key, url, n, f)
}

func (l *lab) inProject(ctx context.Context, key, url string, n int, f func(e *engine) error) error {
	if err := l.write("dray.yaml", project(key, url)); err != nil {
		return err
	}
	w, err := registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": "bench.duckdb"}, l.dir)
	if err != nil {
		return err
	}
	l.say("making %d rows", n)
	if err := errors.Join(makeCustomers(ctx, w, n), w.Close()); err != nil {
		return err
	}
	e, err := l.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(e), e.Close())
}

// deliver runs the sync once; anything but success is an error.
func (e *engine) deliver(ctx context.Context) (report.Run, error) {
	runs, err := e.Run(ctx, []string{syncName}, run.RunOptions{})
	if err != nil {
		return report.Run{}, err
	}
	if len(runs) != 1 || runs[0].Status != report.Succeeded {
		return report.Run{}, fmt.Errorf("the run did not succeed: %+v", runs)
	}
	return runs[0], nil
}

// plan plans the sync once.
func (e *engine) plan(ctx context.Context) (report.Plan, error) {
	plans, err := e.Plan(ctx, []string{syncName}, run.RunOptions{})
	if err != nil {
		return report.Plan{}, err
	}
	if len(plans) != 1 {
		return report.Plan{}, fmt.Errorf("%d plans for one sync", len(plans))
	}
	return plans[0], nil
}
