package run_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// cost is what a run asks of its warehouse. What Atomic is given are as many statements and one transaction, which the clouds that
// count and bill jobs take as one.
type cost struct {
	ddl, dml, queries, loads int
	transactions, jobs       int // of the statements: those of Exec, Query and Load, and one a transaction
	looks                    int // Columns and Exists: what costs no computing
}

func (c cost) String() string {
	return fmt.Sprintf("{ddl: %d, dml: %d, queries: %d, loads: %d, transactions: %d, jobs: %d, looks: %d}",
		c.ddl, c.dml, c.queries, c.loads, c.transactions, c.jobs, c.looks)
}

// counting counts what a run asks of the warehouse, and the rows that it reads from there. The lock's renewals would be among it: they
// come with time, which these runs are too short for.
type counting struct {
	warehouse.Warehouse
	mu     sync.Mutex
	cost   cost
	rows   int
	pages  int // of the queries: those that read a page of the plan
	others []string
	log    []string
}

// statement counts one by its first word.
func (c *counting) statement(q string) {
	word, _, _ := strings.Cut(strings.TrimSpace(q), " ")
	switch strings.ToUpper(strings.TrimLeft(word, "(")) {
	case "CREATE", "DROP", "ALTER", "DO": // PostgreSQL replaces a table in a block
		c.cost.ddl++
	case "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE":
		c.cost.dml++
	case "SELECT", "WITH":
		c.cost.queries++
	default:
		c.others = append(c.others, q)
	}
	c.log = append(c.log, q)
}

func (c *counting) Exec(ctx context.Context, q string) (int64, error) {
	c.mu.Lock()
	c.statement(q)
	c.cost.jobs++
	c.mu.Unlock()
	return c.Warehouse.Exec(ctx, q)
}

func (c *counting) Atomic(ctx context.Context, q ...string) error {
	c.mu.Lock()
	for _, s := range q {
		c.statement(s)
	}
	c.cost.jobs++
	c.cost.transactions++
	c.mu.Unlock()
	return c.Warehouse.Atomic(ctx, q...)
}

func (c *counting) Query(ctx context.Context, q string) (warehouse.Rows, error) {
	c.mu.Lock()
	c.statement(q)
	c.cost.jobs++
	page := strings.Contains(q, "p WHERE CASE WHEN state = 'send'")
	if page {
		c.pages++
		c.cost.queries--
		c.cost.jobs--
	}
	c.mu.Unlock()
	rows, err := c.Warehouse.Query(ctx, q)
	if err != nil || page {
		return rows, err
	}
	return &countedRows{rows, c}, nil
}

func (c *counting) Load(ctx context.Context, t warehouse.Table, columns []string, next func() ([]any, error)) (int64, error) {
	c.mu.Lock()
	c.cost.loads++
	c.cost.jobs++
	c.log = append(c.log, "LOAD "+t.Name)
	c.mu.Unlock()
	return c.Warehouse.Load(ctx, t, columns, next)
}

func (c *counting) Columns(ctx context.Context, q string) ([]warehouse.Column, error) {
	c.look("COLUMNS " + q)
	return c.Warehouse.Columns(ctx, q)
}

func (c *counting) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	c.look("EXISTS " + t.Name)
	return c.Warehouse.Exists(ctx, t)
}

func (c *counting) look(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cost.looks++
	c.log = append(c.log, what)
}

type countedRows struct {
	warehouse.Rows
	c *counting
}

func (r *countedRows) Next() bool {
	ok := r.Rows.Next()
	if ok {
		r.c.mu.Lock()
		r.c.rows++
		r.c.mu.Unlock()
	}
	return ok
}

// counted runs the sync and counts.
func (p *project) counted(pageRows int64) (*counting, report.Run) {
	p.t.Helper()
	c := &counting{}
	deps := p.deps()
	deps.PageRows = pageRows
	deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
		w, err := openWarehouse(ctx, typ, o, dir)
		c.Warehouse = w
		return c, err
	}
	s, err := run.Open(p.t.Context(), deps, p.options())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	reports, err := s.Run(p.t.Context(), nil, run.RunOptions{})
	if len(reports) != 1 || reports[0].ExitCode != 0 && reports[0].ExitCode != 3 {
		p.t.Fatalf("%v %s", err, canonical(reports))
	}
	return c, reports[0]
}

// A run costs the same number of statements, jobs and looks however many rows there are, but for the queries that read the pages of
// what is sent, which are counted apart; a load comes with rejected rows alone; and with nothing to send no row of data is read
// (DESIGN §4, §11). What stands in the warehouses' guide is this table.
func TestStatementsOfARun(t *testing.T) {
	t.Parallel()
	type steps []struct {
		what     string
		changed  bool
		rejects  bool
		embedded cost // on DuckDB and PostgreSQL, where tables are made and dropped in transactions
		cloud    cost // in BigQuery's and Snowflake's SQL
	}
	tests := []struct {
		mode, sync, change string
		steps              steps
	}{
		{
			"mirror", "key: {id: id}\non_remove: delete", "UPDATE raw.people SET n = %[2]d WHERE id >= %[1]d - %[3]d",
			steps{
				{"first run", false, false, cost{14, 17, 5, 0, 4, 21, 9}, cost{13, 18, 5, 0, 4, 21, 9}},
				{"nothing changed", false, false, cost{4, 8, 5, 0, 1, 10, 9}, cost{3, 9, 5, 0, 1, 10, 9}},
				{"1 % changed", true, false, cost{4, 15, 5, 0, 2, 11, 9}, cost{3, 16, 5, 0, 2, 11, 9}},
				{"with rejects", true, true, cost{5, 20, 5, 1, 2, 13, 9}, cost{4, 21, 5, 1, 2, 13, 9}},
				{"rejected before, delivered now", true, false, cost{4, 17, 5, 0, 2, 11, 9}, cost{3, 18, 5, 0, 2, 11, 9}},
				{"nothing changed again", false, false, cost{4, 8, 5, 0, 1, 10, 9}, cost{3, 9, 5, 0, 1, 10, 9}},
			},
		},
		{
			"insert", "key: {id: id}\nremember: 30d", "INSERT INTO raw.people SELECT %[2]d * %[1]d + i, 'e', 'n', 1 FROM range(%[3]d) t(i)",
			steps{
				{"first run", false, false, cost{15, 22, 5, 0, 4, 22, 10}, cost{14, 23, 5, 0, 4, 22, 10}},
				{"nothing new", false, false, cost{4, 12, 5, 0, 1, 10, 11}, cost{3, 13, 5, 0, 1, 10, 11}},
				{"1 % new", true, false, cost{4, 19, 5, 0, 2, 11, 11}, cost{3, 20, 5, 0, 2, 11, 11}},
				{"with rejects", true, true, cost{5, 23, 5, 1, 2, 13, 11}, cost{4, 24, 5, 1, 2, 13, 11}},
				{"rejected before and new", true, false, cost{4, 21, 5, 0, 2, 11, 11}, cost{3, 22, 5, 0, 2, 11, 11}},
				{"rejected before", false, false, cost{4, 13, 5, 0, 1, 10, 11}, cost{3, 14, 5, 0, 1, 10, 11}},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			var few []int // pages, by step
			for _, n := range []int{2_000, 20_000} {
				r := newReceiver(t)
				p := hookProject(t, r, "mode: "+tt.mode+"\n"+tt.sync)
				p.replace("batch_size: 3", "batch_size: 5000")
				p.exec(fmt.Sprintf("INSERT INTO raw.people SELECT i, 'e', 'n', 1 FROM range(%d) t(i)", n))
				for i, s := range tt.steps {
					if s.changed {
						p.exec(fmt.Sprintf(tt.change, n, i, n/100))
					}
					if r.answer = nil; s.rejects {
						r.answer = rejectHalf
					}
					rows := int64(5) // a page
					if i == 0 {
						rows = 0
					}
					c, rep := p.counted(rows)
					want := s.embedded
					if name := c.Dialect().Name(); name == "bigquery" || name == "snowflake" {
						want = s.cloud
					}
					if c.cost != want {
						t.Errorf("%s, %d rows: %v, want %v", s.what, n, c.cost, want)
					}
					if len(c.others) > 0 {
						t.Errorf("%s: what kind of statement is %q?", s.what, c.others)
					}
					if c.rows > 40 || s.changed != (rep.Requests > 0) && i > 0 || s.rejects != (rep.Rejected.Add+rep.Rejected.Update > 0) {
						t.Errorf("%s, %d rows: %d rows read, report %s", s.what, n, c.rows, canonical(rep))
					}
					switch most := 2 * n / 100 / 5; {
					case i == 0:
					case !s.changed && c.pages > 0, c.pages > most+2:
						t.Errorf("%s, %d rows: %d pages", s.what, n, c.pages)
					case n == 20_000 && s.changed && c.pages < 8*few[i]:
						t.Errorf("%s: %d pages of many rows, %d of few: the sizes do not differ", s.what, c.pages, few[i])
					}
					few = append(few, c.pages)
				}
			}
		})
	}
}

// rejectHalf rejects every other row.
func rejectHalf(_ int, b *hookBody) verdict {
	results := make([]string, len(b.Changes))
	for i := range results {
		results[i] = `{"status":"delivered"}`
		if i%2 == 0 {
			results[i] = `{"status":"rejected","code":"no"}`
		}
	}
	return verdict{status: http.StatusOK, body: `{"results":[` + strings.Join(results, ",") + `]}`}
}
