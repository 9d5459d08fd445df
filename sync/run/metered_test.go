package run_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/run"
)

// metered is a warehouse that can do what BigQuery can beside the contract: estimate, tell what it is not allowed, bear labels.
type metered struct {
	warehouse.Warehouse
	mu        *sync.Mutex
	estimated []string
	labels    map[string]map[string]string // a statement's beginning → its labels
	checked   []string
	denied    error
}

func (m *metered) Estimate(ctx context.Context, query string) (int64, error) {
	if _, err := m.Columns(ctx, query); err != nil { // a dry run refuses what could not run
		return 0, fmt.Errorf("a query that does not run is estimated: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.estimated = append(m.estimated, query)
	return 1000, nil
}

func (m *metered) Check(_ context.Context, own string, changed, read []warehouse.Table) (string, error) {
	m.checked = append(m.checked, fmt.Sprint(own, changed, read))
	return "shop-project", m.denied
}

func (m *metered) Atomic(ctx context.Context, statements ...string) error {
	m.mu.Lock()
	m.labels[statements[0]] = warehouse.Labels(ctx)
	m.mu.Unlock()
	return m.Warehouse.Atomic(ctx, statements...)
}

func TestEstimatesOfTheWarehouse(t *testing.T) {
	t.Parallel()
	if server != "" {
		t.Skip("the test counts DuckDB's")
	}
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {email: email}\nguard: {max_removes: 100%}")
	p.write("more.yaml", `
models:
  - {name: all_people, primary_key: id, materialized: table, sql: "select * from {{ source('raw', 'people') }}"}
  - {name: unused, primary_key: id, materialized: table, sql: "select * from {{ source('raw', 'people') }}"}
  - {name: seen, primary_key: id, sql: "select * from {{ ref('all_people') }}"}
syncs:
  - {name: seen, model: seen, destination: hook, object: seen, mode: upsert, key: {email: email}, fields: {name: name}}
`)
	p.exec("INSERT INTO raw.people SELECT i, 'u' || i || '@example.com', 'n', i FROM range(4) t(i)")
	m := &metered{mu: &sync.Mutex{}, labels: map[string]map[string]string{}}
	deps := p.deps()
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		w, err := openWarehouse(ctx, typ, o, dir)
		m.Warehouse = w
		return m, err
	}
	s, err := run.Open(t.Context(), deps, p.options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	scanned, err := s.Validate(t.Context())
	if err != nil || scanned != 4000 { // two tables and what two syncs read
		t.Errorf("validate: %d bytes, %v: %q", scanned, err, m.estimated)
	}
	plans, err := s.Plan(t.Context(), []string{"people", "seen"}, run.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1000, 2000} { // the plan alone; the plan and the one table it needs
		if got := plans[i].Estimate.BytesScanned; got != want {
			t.Errorf("plan of %s: %d bytes, want %d", plans[i].Sync, got, want)
		}
	}

	m.denied = &diag.Error{Kind: diag.Failed, Code: "warehouse.denied", Msg: "permission bigquery.tables.getData is missing", Hint: "grant it"}
	list, err := s.Check(t.Context(), nil)
	if !errors.Is(err, m.denied) || len(list) != 2 || list[0].Name != "warehouse" || list[0].OK || list[0].Error.Hint != "grant it" || list[0].Account != "shop-project" {
		t.Errorf("check: %+v, %v", list, err)
	}
	if want := "dray[] [{ raw people}]"; len(m.checked) != 1 || m.checked[0] != want {
		t.Errorf("asked for %v, want %s", m.checked, want)
	}
	if list, err := s.Check(t.Context(), []string{"hook"}); err != nil || len(list) != 1 {
		t.Errorf("check of a destination: %+v, %v", list, err)
	}

	reports, err := s.Run(t.Context(), []string{"people"}, run.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labelled := 0
	for statement, labels := range m.labels {
		if labels["run"] == reports[0].RunID && labels["sync"] == "people" {
			labelled++
		} else if strings.Contains(statement, "snapshot_people") {
			t.Errorf("labels of a commit are %v", labels)
		}
	}
	if labelled == 0 {
		t.Errorf("no statement bears its run: %v", m.labels)
	}
}
