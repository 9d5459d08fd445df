package dbt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/models/dbt"
)

// write makes a manifest of nodes and sources, as dbt 1.5 to 1.11 would.
func write(t *testing.T, version int, nodes, sources, disabled string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.json")
	text := fmt.Sprintf(`{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v%d.json", "dbt_version": "1.9.1",
		"generated_at": "2026-03-01T10:00:00.123456Z", "project_name": "shop", "adapter_type": "snowflake"},
		"nodes": {%s}, "sources": {%s}, "disabled": {%s}, "macros": {"macro.dbt.x": {"macro_sql": "{{ x }}"}}}`, version, nodes, sources, disabled)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, nodes, sources, disabled string) *dbt.Manifest {
	t.Helper()
	m, err := dbt.Read(write(t, 12, nodes, sources, disabled), "target/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func model(pkg, name, more string) string {
	return fmt.Sprintf(`"model.%[1]s.%[2]s": {"resource_type": "model", "package_name": %[1]q, "name": %[2]q, "alias": %[2]q, "database": "PROD",
		"schema": "MARTS", "relation_name": "PROD.MARTS.%[2]s", "config": {"materialized": "table"} %[3]s}`, pkg, name, more)
}

func TestRef(t *testing.T) {
	t.Parallel()
	m := read(t, strings.Join([]string{
		model("shop", "customers", ""), model("util", "customers", ""), model("util", "dates", ""), model("other", "dates", ""),
		model("util", "calendar", ""),
		`"model.shop.regions.v1": {"resource_type": "model", "package_name": "shop", "name": "regions", "version": 1, "latest_version": "prod", "relation_name": "P.M.regions_v1"}`,
		`"model.shop.regions.vprod": {"resource_type": "model", "package_name": "shop", "name": "regions", "version": "prod", "latest_version": "prod", "relation_name": "P.M.regions"}`,
		`"model.shop.parts.v1.5": {"resource_type": "model", "package_name": "shop", "name": "parts", "version": 1.5, "latest_version": 1.5, "relation_name": "P.M.parts"}`,
		`"seed.shop.countries": {"resource_type": "seed", "package_name": "shop", "name": "countries", "relation_name": "P.M.countries"}`,
		`"snapshot.shop.history": {"resource_type": "snapshot", "package_name": "shop", "name": "history", "relation_name": "P.M.history"}`,
		`"model.shop.stage": {"resource_type": "model", "package_name": "shop", "name": "stage", "config": {"materialized": "ephemeral"}}`,
		`"analysis.shop.look": {"resource_type": "analysis", "package_name": "shop", "name": "look"}`,
	}, ","), "", `"model.shop.gone": [{"resource_type": "model", "package_name": "shop", "name": "gone"}]`)
	for name, tt := range map[string]struct {
		pkg, name, version string
		want, call, err    string
	}{
		"own before a package's":  {name: "customers", want: "model.shop.customers", call: "ref('customers')"},
		"of a package":            {pkg: "util", name: "customers", want: "model.util.customers", call: "ref('util', 'customers')"},
		"of the only package":     {name: "calendar", want: "model.util.calendar", call: "ref('util', 'calendar')"},
		"in several packages":     {name: "dates", err: "several packages (write ref('other', 'dates'))"},
		"not in the package":      {pkg: "shop", name: "dates", err: `no "dates" in package "shop" (there are other, util)`},
		"the latest":              {name: "regions", want: "model.shop.regions.vprod", call: "ref('regions', v='prod')"},
		"a version":               {name: "regions", version: "1", want: "model.shop.regions.v1", call: "ref('regions', v=1)"},
		"a version with a point":  {name: "parts", version: "1.5", want: "model.shop.parts.v1.5", call: "ref('parts', v=1.5)"},
		"no such version":         {name: "regions", version: "3", err: "no version 3 (there are 1, prod)"},
		"no versions":             {pkg: "shop", name: "customers", version: "1", err: "there are no versions of it"},
		"a seed":                  {name: "countries", want: "seed.shop.countries", call: "ref('countries')"},
		"a snapshot":              {name: "history", want: "snapshot.shop.history", call: "ref('history')"},
		"ephemeral":               {name: "stage", err: "is ephemeral"},
		"disabled":                {name: "gone", err: `model "gone" is disabled`},
		"an analysis is no model": {name: "look"},
		"unknown":                 {name: "nobody"},
	} {
		r, err := m.Ref(tt.pkg, tt.name, tt.version)
		got, call, fault := "", "", ""
		if r != nil {
			got, call = r.UniqueID, r.Call(m.Project)
		}
		if err != nil {
			fault = err.Error()
		}
		if got != tt.want || call != tt.call || (tt.err == "") != (fault == "") || !strings.Contains(fault, tt.err) {
			t.Errorf("%s: got %q %q %q, want %q %q %q", name, got, call, fault, tt.want, tt.call, tt.err)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	m := read(t, "", `"source.shop.raw.orders": {"resource_type": "source", "package_name": "shop", "source_name": "raw", "name": "orders",
		"identifier": "ORDERS_2024", "database": "RAW", "schema": "SHOP", "relation_name": "RAW.SHOP.ORDERS_2024", "description": " All orders.\n",
		"columns": {"cpr": {"name": "cpr", "meta": {"never_send": true}}, "id": {"name": "id", "data_type": "int", "description": "The key."}}}`,
		`"source.shop.raw.old": [{"resource_type": "source", "source_name": "raw", "name": "old"}]`)
	r, err := m.Source("raw", "orders")
	if err != nil || r.SQL != "RAW.SHOP.ORDERS_2024" || r.Identifier != "ORDERS_2024" || r.Description != "All orders." || r.Full() != "raw.orders" ||
		r.Call("shop") != "source('raw', 'orders')" {
		t.Fatalf("%+v %v", r, err)
	}
	if want := []dbt.Column{{Name: "cpr", NeverSend: true}, {Name: "id", Type: "int", Description: "The key."}}; !slices.Equal(r.Columns, want) {
		t.Fatalf("%+v", r.Columns)
	}
	if _, err := m.Source("raw", "old"); err == nil || !strings.Contains(err.Error(), `source "raw.old" is disabled`) {
		t.Fatal(err)
	}
	if r, err := m.Source("raw", "none"); r != nil || err != nil {
		t.Fatal(r, err)
	}
}

// A key is what constraints or tests prove; a column that is unique and may be NULL is none.
func TestPrimaryKey(t *testing.T) {
	t.Parallel()
	test := func(kind, of, column string) string {
		return fmt.Sprintf(`"test.shop.%s_%s_%s": {"resource_type": "test", "name": %[1]q, "column_name": %[3]q, "attached_node": "model.shop.%[2]s",
			"test_metadata": {"name": %[1]q, "kwargs": {"column_name": %[3]q}}, "depends_on": {"nodes": ["model.shop.%[2]s"]}}`, kind, of, column)
	}
	m := read(t, strings.Join([]string{
		model("shop", "tested", ""), test("unique", "tested", "email"), test("unique", "tested", "id"), test("not_null", "tested", "id"),
		model("shop", "nullable", ""), test("unique", "nullable", "id"),
		model("shop", "declared", `, "constraints": [{"type": "primary_key", "columns": ["a", "b"]}]`), test("unique", "declared", "id"), test("not_null", "declared", "id"),
		model("shop", "column", `, "columns": {"id": {"constraints": [{"type": "primary_key"}]}}`),
		model("shop", "inferred", `, "primary_key": ["day", "id"]`),
		model("shop", "combined", ""),
		`"test.shop.c": {"resource_type": "test", "name": "c", "attached_node": "model.shop.combined", "test_metadata": {"name": "unique_combination_of_columns",
			"kwargs": {"combination_of_columns": ["day", "user_id"]}}, "depends_on": {"nodes": ["model.shop.combined"]}}`,
	}, ","), "", "")
	for name, want := range map[string][]string{
		"tested": {"id"}, "nullable": nil, "declared": {"a", "b"}, "column": {"id"}, "inferred": {"day", "id"}, "combined": {"day", "user_id"},
	} {
		r, err := m.Ref("", name, "")
		if err != nil || !slices.Equal(r.PrimaryKey, want) {
			t.Errorf("%s: %v %v, want %v", name, r.PrimaryKey, err, want)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, known := range map[int]bool{4: false, 8: false, 9: true, 10: true, 11: true, 12: true, 13: false, 20: true} {
		_, err := dbt.Read(write(t, version, model("shop", "customers", ""), "", ""), "m.json")
		if (err == nil) != known {
			t.Errorf("v%d: %v", version, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"cut":            {`{"metadata": {"dbt_schema_version": "https://`, "ends before its end"},
		"not JSON":       {`hello`, "not JSON at byte 1"},
		"something else": {`{"name": "x"}`, "is no dbt manifest"},
		"run results":    {`{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}}`, "is no dbt manifest"},
		"another shape":  {`{"metadata": {}, "nodes": []}`, "nodes is not as dbt writes it"},
	} {
		path := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dbt.Read(path, "m.json"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := dbt.Read(filepath.Join(t.TempDir(), "none.json"), "m.json"); err == nil || !strings.Contains(err.Error(), "there is no dbt manifest m.json") {
		t.Error(err)
	}
}

func TestUnmet(t *testing.T) {
	t.Parallel()
	nodes := model("shop", "customers", `, "depends_on": {"nodes": ["model.shop.stage", "source.shop.raw.people"]}`) + "," +
		model("shop", "stage", `, "depends_on": {"nodes": ["source.shop.raw.orders"]}`) + `,
		"test.shop.a": {"resource_type": "test", "name": "a", "attached_node": "model.shop.customers", "depends_on": {"nodes": ["model.shop.customers"]}},
		"test.shop.b": {"resource_type": "test", "name": "b", "depends_on": {"nodes": ["model.shop.customers"]}},
		"test.shop.c": {"resource_type": "test", "name": "c", "attached_node": "model.shop.stage", "depends_on": {"nodes": ["model.shop.customers", "model.shop.stage"]}}`
	source := func(name string) string {
		return fmt.Sprintf(`"source.shop.raw.%s": {"resource_type": "source", "package_name": "shop", "source_name": "raw", "name": %[1]q}`, name)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	results := func(kind string, version int, list string) string {
		return fmt.Sprintf(`{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/%s/v%d.json"}, "args": {"which": "test"}, "results": [%s]}`, kind, version, list)
	}
	result := func(id, status string) string {
		return fmt.Sprintf(`{"unique_id": %q, "status": %q}`, id, status)
	}
	loaded := func(name, status, at string) string {
		return fmt.Sprintf(`{"unique_id": "source.shop.raw.%s", "status": %q, "max_loaded_at": %q}`, name, status, at)
	}
	for name, tt := range map[string]struct {
		file, text string
		within     time.Duration
		want       []string // a part of each sentence; none = met
	}{
		"passed":           {"run_results.json", results("run-results", 6, result("test.shop.a", "pass")+","+result("test.shop.b", "warn")), 0, nil},
		"of dbt 1.5":       {"run_results.json", results("run-results", 4, result("test.shop.a", "pass")+","+result("test.shop.b", "pass")), 0, nil},
		"failed":           {"run_results.json", results("run-results", 6, result("test.shop.a", "fail")+","+result("test.shop.b", "error")), 0, []string{"test a of customers: fail", "test b of customers: error"}},
		"only compiled":    {"run_results.json", results("run-results", 6, result("test.shop.a", "success")+","+result("test.shop.b", "pass")), 0, []string{"dbt test, its last command, did not run test a"}},
		"not run":          {"run_results.json", results("run-results", 6, ""), 0, []string{"did not run 2 tests"}},
		"not built":        {"run_results.json", results("run-results", 6, result("model.shop.customers", "error")+","+result("test.shop.a", "skipped")+","+result("test.shop.b", "skipped")), 0, []string{"was not built: error", "a of customers: skipped", "b of customers: skipped"}},
		"another version":  {"run_results.json", results("run-results", 7, ""), 0, []string{"does not read a run_results.json of that version"}},
		"another file":     {"run_results.json", results("sources", 3, ""), 0, []string{"does not read a run_results.json"}},
		"broken":           {"run_results.json", "{", 0, []string{"run_results.json cannot be read"}},
		"none":             {"x.json", "", 0, []string{"there is no run_results.json"}},
		"fresh":            {"sources.json", results("sources", 3, loaded("people", "pass", "2026-03-01T11:30:00Z")+","+loaded("orders", "warn", "2026-03-01T13:00:00+02:00")), 2 * time.Hour, nil},
		"old":              {"sources.json", results("sources", 3, loaded("people", "pass", "2026-03-01T09:30:00.5+00:00")+","+loaded("orders", "error", "2026-02-26T11:00:00Z")), 2 * time.Hour, []string{"raw.orders was last seen with rows 3d 1h old, more than 2h", "raw.people was last seen with rows 2h29m old, more than 2h"}},
		"no rows":          {"sources.json", results("sources", 3, loaded("people", "pass", "0001-01-01T00:00:00Z")), time.Hour, []string{"raw.people has no row"}},
		"not to be told":   {"sources.json", results("sources", 3, `{"unique_id": "source.shop.raw.orders", "status": "runtime error", "error": "x"}`), time.Hour, []string{"could not tell how fresh source raw.orders"}},
		"one has no times": {"sources.json", results("sources", 3, loaded("people", "pass", "2026-03-01T11:30:00Z")), time.Hour, nil},
		"not looked at":    {"sources.json", results("sources", 3, loaded("more", "pass", "2026-03-01T11:30:00Z")), time.Hour, []string{"tells of no source of customers"}},
	} {
		path := write(t, 12, nodes, source("people")+","+source("orders")+","+source("more"), "")
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), tt.file), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := dbt.Read(path, "m.json")
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Ref("", "customers", "")
		if err != nil {
			t.Fatal(err)
		}
		got := m.Unmet([]dbt.Demand{{Relation: r, Within: tt.within}}, now)
		same := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			same = same && strings.Contains(got[i], tt.want[i])
		}
		if !same {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestExposures(t *testing.T) {
	t.Parallel()
	m := read(t, model("shop", "customers", ""), "", "")
	r, err := m.Ref("", "customers", "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = m.WriteExposures(&out, []string{"By hand."}, []dbt.Exposure{{
		Name: "my-shop_to crm", Label: "to crm", Description: "Who: 'pays'", Owner: "growth", DependsOn: []*dbt.Relation{r},
	}})
	want := `# By hand.
version: 2
exposures:
  - name: my_shop_to_crm
    label: to crm
    type: application
    description: 'Who: ''pays'''
    depends_on:
      - ref('customers')
    owner:
      name: growth
`
	if err != nil || out.String() != want {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

// Manifests of the jaffle shop as dbt itself wrote them, v9 to v12: they are Apache-2.0 and lie, among others, in
// github.com/yu-iskw/dbt-artifacts-parser under tests/resources/manifest.
func TestJaffleShop(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("DRAY_DBT_MANIFESTS")
	if dir == "" {
		t.Skip("DRAY_DBT_MANIFESTS names no folder with manifests of the jaffle shop")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no manifests in ", dir)
	}
	for _, file := range files {
		m, err := dbt.Read(file, filepath.Base(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if m.Project != "jaffle_shop" || m.Adapter == "" || m.Generated.IsZero() {
			t.Errorf("%s: project %q, adapter %q, %s", file, m.Project, m.Adapter, m.Generated)
		}
		for _, name := range []string{"customers", "orders"} {
			r, err := m.Ref("", name, "")
			if err != nil || r == nil {
				t.Errorf("%s: %s: %v", file, name, err)
				continue
			}
			if !strings.Contains(r.SQL, name) || len(r.PrimaryKey) != 1 || len(r.Tests) == 0 || len(r.Columns) == 0 || r.Description == "" {
				t.Errorf("%s: %+v", file, r)
			}
		}
		for _, r := range m.Relations() {
			found, err := m.Ref(r.Package, r.Name, r.Version)
			if r.Kind == "source" {
				found, err = m.Source(r.Source, r.Name)
			}
			if err != nil && r.Materialized != "ephemeral" || err == nil && found.UniqueID != r.UniqueID {
				t.Errorf("%s: %s: %v %v", file, r.UniqueID, found, err)
			}
		}
	}
}
