package build_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

// fixture is a project on a database of its own.
type fixture struct {
	*testing.T
	w       warehouse.Warehouse
	project *config.Project
	hooks   compile.Options
}

func newFixture(t *testing.T, models ...*config.Model) *fixture {
	t.Helper()
	dir := t.TempDir()
	w, err := conformance.OpenAt(t.Context(), dir, "test.duckdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{T: t, w: w, project: &config.Project{Dir: dir, Name: "test", Schema: "dray", Vars: map[string]any{}, Models: models}}
	f.hooks = build.Hooks(t.Context(), w, compile.Options{AsOf: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	return f
}

// model is one whose SQL stands in models/<name>.sql.
func model(name, materialized, sql string, key ...string) *config.Model {
	return &config.Model{
		Node: config.Node{Pos: diag.Pos{File: "dray.yaml", Line: 1, Col: 1}},
		Name: name, Materialized: materialized, SQL: sql, PrimaryKey: key, SQLPos: diag.Pos{File: "models/" + name + ".sql", Line: 1, Col: 1},
	}
}

// readsFiles skips a test of what only DuckDB can.
func readsFiles(t *testing.T) {
	t.Helper()
	if conformance.Postgres() != "" || conformance.Carried() != "" {
		t.Skip("only DuckDB reads files in place")
	}
}

// tellsLines skips a test of the lines that errors name.
func tellsLines(t *testing.T) {
	t.Helper()
	if conformance.Carried() != "" {
		t.Skip("a carried statement stands on one line, and what cannot be parsed cannot be carried")
	}
}

// replace gives a table other rows.
func (f *fixture) replace(table, query string) {
	f.Helper()
	f.exec(f.w.Dialect().CreateTableAs(warehouse.Table{Name: table}, query))
}

func (f *fixture) compile(o compile.Options) *compile.Program {
	f.Helper()
	g, err := graph.Resolve(f.project, f.hooks.Specs)
	if err != nil {
		f.Fatal(err)
	}
	p, err := compile.Compile(g, f.w.Dialect(), o)
	if err != nil {
		f.Fatal(err)
	}
	return p
}

func (f *fixture) run(o compile.Options, targets ...graph.ID) (build.Result, error) {
	f.Helper()
	p := f.compile(o)
	if len(targets) == 0 {
		for _, n := range p.Nodes {
			targets = append(targets, n.ID)
		}
	}
	return build.Run(f.Context(), build.Deps{Warehouse: f.w, Threads: 2}, p, targets)
}

func (f *fixture) mustRun(o compile.Options, targets ...graph.ID) build.Result {
	f.Helper()
	r, err := f.run(o, targets...)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) exec(sql string) {
	f.Helper()
	if _, err := f.w.Exec(f.Context(), sql); err != nil {
		f.Fatal(err)
	}
}

// table reads a query as text: columns by comma, rows by semicolon.
func (f *fixture) table(sql string) string {
	f.Helper()
	rows, err := f.w.Query(context.WithoutCancel(f.Context()), sql)
	if err != nil {
		f.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			f.Fatal(err)
		}
		cells := make([]string, len(v))
		for i := range v {
			cells[i] = fmt.Sprint(v[i])
		}
		out = append(out, strings.Join(cells, ","))
	}
	if err := rows.Err(); err != nil {
		f.Fatal(err)
	}
	return strings.Join(out, ";")
}

func (f *fixture) expect(sql, want string) {
	f.Helper()
	if got := f.table(sql); got != want {
		f.Errorf("%s\ngot  %s\nwant %s", sql, got, want)
	}
}

func (f *fixture) file(name, text string) {
	f.Helper()
	path := filepath.Join(f.project.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func statuses(r build.Result) string {
	var out []string
	for _, n := range r.Nodes {
		s := n.Name + " " + string(n.Status)
		if n.SkippedBy != "" {
			s += " by " + string(n.SkippedBy)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestModelsOverCSV(t *testing.T) {
	t.Parallel()
	readsFiles(t)
	f := newFixture(t,
		model("orders", "table", "select id, code, amount from {{ source('shop', 'orders') }} where amount > {{ var('least') }};\n", "id"),
		model("big", "view", "-- the large ones\nselect * from {{ ref('orders') }} where amount >= 20 -- and no more"))
	f.project.Vars["least"] = 1
	f.file("data/orders.csv", "id,code,amount,day\n1,007,10,2024-01-01\n2,12,20,2024-01-02\n3,0,30,2024-01-03\n4,1,0.5,2024-01-04\n")
	f.project.Sources = []*config.Source{{Name: "shop", Files: []*config.SourceFile{{Name: "orders", Path: "data/orders.csv"}}}}
	r := f.mustRun(f.hooks)
	if got := statuses(r); got != "orders ok; big ok" {
		t.Errorf("got %s", got)
	}
	if orders, _ := r.Node("model.orders"); orders.Rows != 3 {
		t.Errorf("orders has %d rows", orders.Rows)
	}
	f.expect("select code, amount from dray.big order by id", "12,20;0,30")
	f.expect("select typeof(code), typeof(amount) from dray.orders limit 1", "VARCHAR,DOUBLE")
}

// The engine looks at a file's beginning only to guess its types; a code with a leading zero may come late.
func TestTextBeyondTheSample(t *testing.T) {
	t.Parallel()
	readsFiles(t)
	f := newFixture(t, model("m", "table", "select code, id, share from {{ source('s', 'f') }}"))
	var csv strings.Builder
	csv.WriteString("id,code,share\n")
	for i := range 30_000 {
		fmt.Fprintf(&csv, "%d,%d,0.5\n", i, i%50+1)
	}
	csv.WriteString("0,007,0\n")
	f.file("f.csv", csv.String())
	f.project.Sources = []*config.Source{{Name: "s", Files: []*config.SourceFile{{Name: "f", Path: "f.csv"}}}}
	f.mustRun(f.hooks)
	f.expect("select count(*), max(typeof(code)), max(typeof(id)), max(typeof(share)) from dray.m where code = '007'", "1,VARCHAR,BIGINT,DOUBLE")
}

// A source's naive timestamps are of its zone, summer time included; columns of other types, and times with a zone, are not touched.
func TestSourcesInATimeZone(t *testing.T) {
	t.Parallel()
	readsFiles(t)
	f := newFixture(t, model("m", "table", "select f.id, f.at, f.day, f.note from {{ source('s', 'f') }} f"), model("n", "view", "select * from {{ source('s', 'T a') }}"))
	f.file("f.csv", "id,at,day,note\n1,2026-07-01 12:00:00,2026-07-01,2026-07-01 x\n2,2026-01-01 00:30:00,2026-01-01,y\n3,,,\n")
	f.exec("create schema raw")
	f.exec(`create table raw."T a" as select timestamp_ns '2026-07-01 12:00:00.5' as "a t", timestamptz '2026-07-01 12:00:00+00' as z, time '12:00:00' as clock`)
	f.project.Sources = []*config.Source{{
		Name: "s", Schema: "raw", Timezone: "Europe/Copenhagen",
		Files: []*config.SourceFile{{Name: "f", Path: "f.csv"}}, Tables: []*config.SourceTable{{Name: "T a"}},
	}}
	f.mustRun(f.hooks)
	f.expect(`select id, cast("at" as text), cast(day as text), note, typeof("at") from dray.m order by id`,
		"1,2026-07-01 10:00:00,2026-07-01,2026-07-01 x,TIMESTAMP;2,2025-12-31 23:30:00,2026-01-01,y,TIMESTAMP;3,<nil>,<nil>,<nil>,TIMESTAMP")
	f.expect(`select cast("a t" as text), cast(z as text), cast(clock as text) from dray.n`, "2026-07-01 10:00:00.5,2026-07-01 12:00:00+00,12:00:00")
}

func TestMaterializationChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, model("m", "view", "select 1 as a"))
	for _, m := range []string{"view", "table", "view", "incremental", "incremental", "table", "table"} {
		f.project.Models[0].Materialized = m
		f.mustRun(f.hooks)
		want := map[string]string{"view": "VIEW"}[m]
		if want == "" {
			want = "BASE TABLE"
		}
		f.expect("select table_type from information_schema.tables where table_schema = 'dray' and table_name = 'm'", want)
	}
}

func TestIncremental(t *testing.T) {
	t.Parallel()
	sql := "select * from raw {% if is_incremental() %} where ts > (select max(ts) from {{ this }}) - 1 {% endif %}"
	f := newFixture(t, model("m", "incremental", sql, "id"), model("log", "incremental", "select id, ts from {{ ref('m') }}{% if is_incremental() %} where ts = 5{% endif %}"))
	f.exec("create table raw as select * from (values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')) t(id, ts, v)")
	f.mustRun(f.hooks)
	f.expect("select * from dray.m order by id", "1,1,a;2,2,b;3,3,c")
	// Row 1 changed behind the window, 3 inside it, 5 is new; a column comes, another goes.
	f.replace("raw", "select * from (values (1, 1, 'A', true), (3, 3, 'C', true), (5, 5, 'e', false)) t(id, ts, v, extra)")

	scratch := f.hooks
	scratch.Scratch = true
	p := f.compile(scratch)
	if _, err := build.Run(t.Context(), build.Deps{Warehouse: f.w}, p, []graph.ID{"model.m", "model.log"}); err != nil {
		t.Fatal(err)
	}
	want := "1,1,a,<nil>;2,2,b,<nil>;3,3,C,true;5,5,e,false"
	f.expect("select * from dray_scratch.m order by id", want)
	f.expect("select * from dray.m order by id", "1,1,a;2,2,b;3,3,c")
	if err := build.DropScratch(t.Context(), f.w, p); err != nil {
		t.Fatal(err)
	}
	f.expect("select count(*) from information_schema.schemata where schema_name = 'dray_scratch'", "0")

	f.mustRun(f.hooks)
	f.expect("select * from dray.m order by id", want)
	f.expect("select id from dray.log order by id", "1;2;3;5")
	f.expect("select count(*) from information_schema.tables where table_name like '%__new'", "0")

	full := f.hooks
	full.FullRefresh = true
	f.mustRun(full)
	f.expect("select * from dray.m order by id", "1,1,A,true;3,3,C,true;5,5,e,false")
}

// lookback reads the last days again and replaces them whole; what is older stays as it was.
func TestLookback(t *testing.T) {
	t.Parallel()
	byKey := model("by_key", "incremental", "select * from raw -- every row", "day", "id")
	byLoad := model("by_load", "incremental", "select id, day as seen, v from raw")
	byLoad.LoadedAt = "seen"
	own := model("own", "incremental", "select * from raw {% if is_incremental() %} where day > (select max(day) from {{ this }}) - {{ this.lookback }} {% endif %}", "day", "id")
	for _, m := range []*config.Model{byKey, byLoad, own} {
		m.Lookback = config.Duration{Duration: 48 * time.Hour}
	}
	f := newFixture(t, byKey, byLoad, own)
	f.exec("create table raw as select * from (values (date '2026-01-01', 1, 'a'), (date '2026-01-08', 2, 'b'), (date '2026-01-09', 3, 'c'), (date '2026-01-10', 4, 'd')) t(day, id, v)")
	f.mustRun(f.hooks)
	f.replace("raw", "select * from (values (date '2026-01-01', 1, 'A'), (date '2026-01-08', 2, 'B'), (date '2026-01-09', 5, 'e'), (date '2026-01-12', 4, 'd')) t(day, id, v)")
	scratch := f.hooks
	scratch.Scratch = true
	for _, o := range []compile.Options{scratch, f.hooks} { // a scratch build looks at what is there: it comes first
		f.mustRun(o)
		schema := f.compile(o).Target.Schema
		// 3 left the window and went; 1 changed behind it; 4 moved.
		f.expect("select id, v from "+schema+".by_key order by day", "1,a;2,B;5,e;4,d")
		f.expect("select id, v from "+schema+".by_load order by seen", "1,a;2,B;5,e;4,d")
		f.expect("select id, v from "+schema+".own order by day, id", "1,a;2,b;3,c;5,e;4,d;4,d")
	}

	none := model("none", "incremental", "select 1 as id", "id")
	none.Lookback = config.Duration{Duration: time.Hour}
	g := newFixture(t, none)
	if _, err := build.Explain(t.Context(), g.w, g.compile(g.hooks)); err == nil || !strings.Contains(err.Error(), "lookback of model none needs to know when") {
		t.Errorf("got %v", err)
	}
}

// A column that no longer fits what is there leaves the relation as it was, and says how to begin anew.
func TestIncrementalOfAnotherType(t *testing.T) {
	t.Parallel()
	f := newFixture(t, model("m", "incremental", "select {{ var('n') }} as id, {{ var('v') }} as v", "id"))
	f.project.Vars["n"], f.project.Vars["v"] = 1, 5
	f.mustRun(f.hooks)
	f.project.Vars["n"], f.project.Vars["v"] = 2, "'x'"
	_, err := f.run(f.hooks)
	if err == nil || !strings.Contains(err.Error(), "models/m.sql:1: the warehouse refuses model m: ") || !strings.Contains(err.Error(), "dray build m --full-refresh") {
		t.Errorf("got %v", err)
	}
	f.expect("select * from dray.m", "1,5")
	f.expect("select count(*) from information_schema.tables where table_name like '%__new'", "0")
}

// Rows with a NULL in their key are replaced like others: else each build would add them once more.
func TestIncrementalNullKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, model("m", "incremental", "select nullif(1, 1) as a, 1 as b", "a", "b"))
	f.mustRun(f.hooks)
	f.mustRun(f.hooks)
	f.expect("select count(*) from dray.m", "1")
}

func TestFailuresStopWhatDependsOnThem(t *testing.T) {
	t.Parallel()
	tellsLines(t)
	bad := model("bad", "table", "select 1 as id union all select 1 union all select null")
	bad.Tests = &config.ModelTests{Unique: []config.Strings{{"id"}}, NotNull: []string{"id"}}
	f := newFixture(t, bad, model("child", "view", "select * from {{ ref('bad') }}"), model("grandchild", "view", "select * from {{ ref('child') }}"),
		model("broken", "table", "select\n  1 as a,\n  nope\nfrom {{ ref('fine') }}"), model("under_broken", "view", "select * from {{ ref('broken') }}"),
		model("fine", "view", "select 1 as x"))
	r, err := f.run(f.hooks)
	for id, want := range map[graph.ID]string{
		"model.bad": "failed", "model.child": "skipped by model.bad", "model.grandchild": "skipped by model.bad",
		"model.broken": "failed", "model.under_broken": "skipped by model.broken", "model.fine": "ok",
	} {
		n, _ := r.Node(id)
		got := string(n.Status)
		if n.SkippedBy != "" {
			got += " by " + string(n.SkippedBy)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
	for _, want := range []string{
		"model bad fails its test unique(id): 2 rows", "model bad fails its test not_null(id): 1 row",
		"models/broken.sql:3: the warehouse refuses model broken: ", "nope",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestEveryTestKind(t *testing.T) {
	t.Parallel()
	orders := model("orders", "table", "select 1 as id, 10 as customer, 'open' as status, 1 as n union all select 2, 11, 'closed', 1 union all select 3, 99, 'lost', 2 union all select 4, null, null, 2")
	orders.Tests = &config.ModelTests{
		Unique: []config.Strings{{"id"}, {"n"}, {"n", "id"}}, NotNull: []string{"id", "customer"},
		AcceptedValues: map[string][]string{"status": {"open", "closed"}, "n": {"1", "2"}},
		Relationships:  map[string]string{"customer": "customers.id"},
		SQL:            []string{"select * from {{ this }} where n > 5;", "select * from {{ ref('orders') }} where id = 1 -- one"},
	}
	f := newFixture(t, orders, model("customers", "table", "select distinct customer as id from {{ ref('orders') }} where customer < 50"),
		model("report", "view", "select * from {{ ref('orders') }}"))
	r, err := f.run(f.hooks, "model.report")
	if err == nil {
		t.Fatal("no error")
	}
	if got := statuses(r); got != "orders failed; customers skipped by model.orders; report skipped by model.orders" {
		t.Errorf("got %s", got)
	}
	all, err := build.Test(t.Context(), build.Deps{Warehouse: f.w}, f.compile(f.hooks), []graph.ID{"model.orders"})
	if kind, ok := diag.KindOf(err); !ok || kind != diag.Invalid && kind != diag.Stopped {
		t.Errorf("got %v", err)
	}
	n, _ := all.Node("model.orders")
	got := map[string]int64{}
	for _, test := range n.Tests {
		got[test.Name] = test.Failures
	}
	want := map[string]int64{
		"unique(id)": 0, "unique(n)": 4, "unique(n, id)": 0, "not_null(id)": 0, "not_null(customer)": 1, "accepted_values(status)": 1,
		"accepted_values(n)": 0, "relationships(customer, customers.id)": 0, "sql 1": 0, "sql 2": 1,
	}
	for name, failures := range want {
		if g, ok := got[name]; !ok || g != failures && name != "relationships(customer, customers.id)" {
			t.Errorf("%s: got %d (%v), want %d", name, g, ok, failures)
		}
	}
	if strings.Contains(fmt.Sprint(err), "lost") {
		t.Errorf("a value is shown: %v", err)
	}
}

// In a test {{ this }} is what was just built, in a scratch build the scratch one; in the query of the model it is what was there.
func TestThisInTests(t *testing.T) {
	t.Parallel()
	m := model("m", "table", "select {{ var('n') }} as n, true as ok, 2.0e0 as d, cast(1.50 as numeric(9,2)) as e, '007' as code")
	m.Tests = &config.ModelTests{
		SQL:            []string{"select * from {{ this }} where n > 1"},
		AcceptedValues: map[string][]string{"ok": {"true"}, "d": {"1", "2"}, "e": {"1.5"}, "code": {"7", "007"}},
	}
	f := newFixture(t, m)
	f.project.Vars["n"] = 1
	scratch := f.hooks
	scratch.Scratch = true
	f.mustRun(scratch)
	f.mustRun(f.hooks)
	f.project.Vars["n"] = 2
	if _, err := f.run(scratch); err == nil || !strings.Contains(err.Error(), "sql 1: 1 row") {
		t.Errorf("got %v", err)
	}
	m.Tests.AcceptedValues["code"] = []string{"7"}
	f.project.Vars["n"] = 1
	if _, err := f.run(f.hooks); err == nil || !strings.Contains(err.Error(), "accepted_values(code): 1 row") {
		t.Errorf("got %v", err)
	}
}

// A source that cannot be read stops what reads it, and is blamed where it is named.
func TestMissingSources(t *testing.T) {
	t.Parallel()
	readsFiles(t)
	asItIs := &config.Model{Name: "as_it_is", Table: "source('s', 'gone')"}
	f := newFixture(t, model("from_file", "table", "select *\nfrom {{ source('s', 'f') }}"), model("from_table", "view", "select * from {{ source('s', 'gone') }}"),
		asItIs, model("after", "view", "select * from {{ ref('as_it_is') }}"), model("fine", "table", "select 1 as x"))
	at := func(line int) config.Node { return config.Node{Pos: diag.Pos{File: "dray.yaml", Line: line, Col: 5}} }
	f.project.Sources = []*config.Source{{
		Name: "s", Files: []*config.SourceFile{{Node: at(3), Name: "f", Path: "no.csv"}}, Tables: []*config.SourceTable{{Node: at(4), Name: "gone"}},
	}}
	p := f.compile(f.hooks)
	r, err := build.Run(t.Context(), build.Deps{Warehouse: f.w}, p, []graph.ID{"model.after", "model.from_file", "model.from_table", "model.fine"})
	if got := statuses(r); got != "fine ok; as_it_is failed; after skipped by model.as_it_is; from_file failed; from_table failed" {
		t.Errorf("got %s", got)
	}
	for _, want := range []string{"dray.yaml:3:5: source s.f cannot be read: ", "dray.yaml:4:5: source s.gone cannot be read: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if kind, _ := diag.KindOf(err); kind != diag.Invalid {
		t.Errorf("got kind %v", kind)
	}
}

// customers is built from orders: orders' relationship can be tested only after it, and customers does not wait for the test.
func TestLaterTests(t *testing.T) {
	t.Parallel()
	orders := model("orders", "table", "select 1 as id, 10 as customer union all select 2, 99")
	orders.Tests = &config.ModelTests{Relationships: map[string]string{"customer": "customers.id"}}
	f := newFixture(t, orders, model("customers", "table", "select customer as id from {{ ref('orders') }} where customer < 50"),
		model("report", "view", "select * from {{ ref('orders') }}"))
	r, err := f.run(f.hooks, "model.report")
	if got := statuses(r); got != "orders failed; customers ok; report skipped by model.orders" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	tellsLines(t)
	keyed := model("keyed", "table", "select 1 as id, 2 as amount", "idd")
	tested := model("tested", "view", "select 1 as id")
	tested.Tests = &config.ModelTests{Node: config.Node{Pos: diag.Pos{File: "dray.yaml", Line: 7, Col: 3}}, NotNull: []string{"nope"}, SQL: []string{"select * from {{ ref('tested') }} where id > 5"}}
	f := newFixture(t, keyed, tested,
		model("fine", "incremental", "select id from {{ source('shop', 'orders') }} -- all of them", "id"),
		model("wrong", "table", "select id,\n  custmer\nfrom {{ source('shop', 'orders') }}"),
		model("after_wrong", "view", "select * from {{ ref('wrong') }}"),
		model("lost", "view", "select * from {{ source('shop', 'nowhere') }}"),
		model("garbage", "view", "select id,\n  customer\nfrm {{ ref('fine') }}"))
	f.exec("create table orders (id int, customer int)")
	at := config.Node{Pos: diag.Pos{File: "dray.yaml", Line: 3, Col: 5}}
	f.project.Sources = []*config.Source{{Name: "shop", Tables: []*config.SourceTable{{Node: at, Name: "orders"}, {Node: at, Name: "nowhere"}}}}
	_, err := build.Explain(t.Context(), f.w, f.compile(f.hooks))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`dray.yaml:1:1: model keyed has no column "idd" (did you mean id?)`,
		"dray.yaml:7:3: the warehouse refuses test not_null(nope) of model tested: ",
		"models/wrong.sql:2: the warehouse refuses model wrong: ", "custmer",
		"dray.yaml:3:5: source shop.nowhere cannot be read: ",
		"models/garbage.sql:3: the warehouse refuses model garbage: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "after_wrong") || strings.Contains(err.Error(), "fine:") || strings.Contains(err.Error(), "sql 1") {
		t.Errorf("too much: %v", err)
	}
	f.expect("select count(*) from information_schema.tables where table_schema like 'dray%'", "0")
}

func hookSpec(typ string) (destination.Spec, bool) {
	return destination.Spec{Type: "hook", AnyObject: true, Objects: []destination.Object{{
		Name: "*", Modes: []destination.Mode{destination.Upsert, destination.Mirror}, Removes: []string{"delete"}, AnyKey: true, OpenFields: true,
		Fields: []destination.Field{{Name: "age", Kinds: []warehouse.Kind{warehouse.Int}}},
	}}}, typ == "hook"
}

// yaml replaces the project by one that is loaded.
func (f *fixture) yaml(text string) {
	f.Helper()
	f.file("dray.yaml", "name: t\nversion: 1\nschema: dray\n"+text)
	p, err := config.Load(f.project.Dir, config.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.project = p
	f.hooks.Specs = hookSpec
}

const people = `
sources: [{name: s, tables: [{name: people, loaded_at: seen}]}]
models: [{name: people, primary_key: id, sql: "select * from {{ source('s', 'people') }}"}]
entities:
  - name: person
    identifiers: [{name: id}, {name: email, normalize: email}]
    inputs: [{name: people, from: ref('people'), identifiers: {id: id, email: email}, at: seen}]
    traits: [{name: n, from: people, value: count(*)}]
segments:
  - {name: many, entity: person, where: {trait: n, gt: 1}}
destinations: [{name: hook, type: hook}]
`

func (f *fixture) people() {
	f.exec("create table people as select * from (values (1, 'a@x.dk', timestamp '2025-01-01', 'x'), (1, 'A@x.dk ', timestamp '2025-01-02', 'y'), (2, 'b@x.dk', timestamp '2025-01-03', 'z')) t(id, email, seen, name)")
}

func TestEntitiesAndSegments(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.people()
	f.yaml(people)
	scratch := f.hooks
	scratch.Scratch = true
	f.mustRun(scratch)
	f.expect("select email, n from dray_scratch.profiles_person order by email", "a@x.dk,2;b@x.dk,1")
	f.expect("select count(*) from information_schema.tables where table_schema = 'dray'", "0")
	r := f.mustRun(f.hooks)
	for id, want := range map[graph.ID]int64{"entity.person": 2, "segment.many": 1, "model.people": -1} {
		if n, _ := r.Node(id); n.Status != build.OK || n.Rows != want {
			t.Errorf("%s: %s, %d rows, want %d", id, n.Status, n.Rows, want)
		}
	}
	f.expect("select size from dray.segment_history", "1")
	// The clones of scratch read the real state: nobody is new.
	f.mustRun(scratch)
	f.expect("select count(*) from dray_scratch.profiles_person join dray.profiles_person using (profile_id)", "2")
}

// What is wrong in an entity or a segment is said of the very trait, identifier or condition.
func TestExplainEntities(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.yaml(`models: [{name: a, sql: select 1 as id}]
entities:
  - name: c
    identifiers: [{name: id}]
    inputs: [{from: ref('a'), identifiers: {id: id}}]
    traits:
      - {name: y, from: a, value: summ(id)}
  - name: d
    identifiers: [{name: id}]
    inputs: [{from: ref('a'), identifiers: {id: id}}]
    traits:
      - {name: n, from: a, value: count(*)}
      - {name: m, sql: n + 1}
      - {name: x, sql: nope + m}
      - {name: after_x, sql: x + 1}
  - name: e
    identifiers: [{name: id, exclude: {from: ref('a'), column: idd}}]
    inputs: [{from: ref('a'), identifiers: {id: id}}]
  - name: good
    identifiers: [{name: id}]
    inputs: [{from: ref('a'), identifiers: {id: id}}]
segments:
  - {name: s, entity: good, where: {any: [{trait: id, eq: "1"}, {sql: nope > 1}]}}
  - {name: s2, entity: good, where: {did: a, where: nope}}
`)
	_, err := build.Explain(t.Context(), f.w, f.compile(f.hooks))
	for _, want := range []string{
		"dray.yaml:10:9: trait y: ",
		"dray.yaml:17:24: trait x: ",
		`dray.yaml:20:64: what identifier id excludes has no column "idd" (did you mean id?)`,
		"dray.yaml:26:71: segment s: ",
		"dray.yaml:27:53: segment s2: ",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "after_x") {
		t.Errorf("too much: %v", err)
	}
}

func TestExplainSyncs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.people()
	f.yaml(people + `
syncs:
  - {name: good, segment: many, destination: hook, object: a, mode: upsert, key: {id: profile_id}, fields: {age: n, e: {sql: "upper(email)"}}}
  - name: bad
    model: people
    destination: hook
    object: b
    mode: upsert
    key: {id: idd}
    fields:
      age: name
      first: nam
      last: {sql: "lower(nope)"}
  - {name: worse, model: people, where: nothing > 1, destination: hook, object: c, mode: upsert, key: {id: id}}
`)
	_, err := build.Explain(t.Context(), f.w, f.compile(f.hooks))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`dray.yaml:23:11: what sync bad reads has no column "idd" (did you mean id?)`,
		`dray.yaml:25:7: field "age" of hook b takes integer, not text`,
		`dray.yaml:26:14: what sync bad reads has no column "nam" (did you mean name?)`,
		`dray.yaml:27:20: the warehouse refuses field "last" of sync bad: `,
		`dray.yaml:28:41: the warehouse refuses sync worse: `,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "good") {
		t.Errorf("too much: %v", err)
	}
}

func TestFailFastAndInterruption(t *testing.T) {
	t.Parallel()
	f := newFixture(t, model("a", "table", "select nope"), model("b", "view", "select 1 as x"))
	p := f.compile(f.hooks)
	r, err := build.Run(t.Context(), build.Deps{Warehouse: f.w, FailFast: true}, p, []graph.ID{"model.a", "model.b"})
	if got := statuses(r); err == nil || got != "a failed; b skipped by model.a" {
		t.Errorf("got %s, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var heard []string
	deps := build.Deps{Warehouse: f.w, Progress: func(n build.NodeResult) {
		heard = append(heard, n.Name+" "+string(n.Status))
		cancel()
	}}
	r, err = build.Run(ctx, deps, p, []graph.ID{"model.a", "model.b"})
	if kind, _ := diag.KindOf(err); kind != diag.Interrupted {
		t.Errorf("got %v", err)
	}
	if got := statuses(r); got != "a failed; b skipped" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(heard, ", "); got != "a running, a failed, b skipped" {
		t.Errorf("heard %s", got)
	}
}
