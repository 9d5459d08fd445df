package run_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/run"
)

// recorder keeps the statements of a run.
type recorder struct {
	warehouse.Warehouse
	statements []string
}

func (r *recorder) Exec(ctx context.Context, q string) (int64, error) {
	r.statements = append(r.statements, q)
	return r.Warehouse.Exec(ctx, q)
}

// The plan joins by hash on PostgreSQL: nothing is sorted, and no row is looked up by itself.
func TestPlanJoinsByHash(t *testing.T) {
	t.Parallel()
	if server == "" {
		t.Skip("about PostgreSQL's planner: make test-postgres runs this")
	}
	r := newReceiver(t)
	p := hookProject(t, r, "mode: mirror\nkey: {id: id}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i || '@example.com', 'n', i FROM range(60000) t(i)", "ANALYZE raw.people")
	p.must(0)
	p.exec("UPDATE raw.people SET n = n + 1 WHERE id < 600", "ANALYZE raw.people")
	var kept *recorder
	deps := p.deps()
	open := deps.OpenWarehouse
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		w, err := open(ctx, typ, o, dir)
		kept = &recorder{Warehouse: w}
		return kept, err
	}
	s, err := run.Open(t.Context(), deps, p.options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if rep := p.quietly(s); rep.Delivered.Update != 600 {
		t.Fatalf("%s", canonical(rep))
	}
	for _, s := range kept.statements {
		query, ok := planQuery(s)
		if !ok {
			continue
		}
		text := strings.Join(p.query("EXPLAIN "+query), "\n")
		if !strings.Contains(text, "Hash Full Join") || strings.Contains(text, "Merge") || strings.Contains(text, "Nested Loop") {
			t.Fatalf("the plan is not made by hash joins:\n%s", text)
		}
		return
	}
	t.Fatal("no statement made the plan")
}

// planQuery is the query of the statement that makes the plan.
func planQuery(statement string) (string, bool) {
	const head = `CREATE TABLE "dray"."dray_new_plan_people" AS `
	_, rest, ok := strings.Cut(statement, head)
	if !ok || !strings.Contains(rest, "FULL OUTER JOIN") {
		return "", false
	}
	query, _, _ := strings.Cut(rest, "\n;\n")
	return query, true
}
