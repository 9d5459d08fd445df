package build_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
)

// kinds is a fixture beside the shared data, in the table kinds.
type kinds struct {
	*fixture
	d      warehouse.Dialect
	fields []conformance.Field
	rows   [][]any
}

func newKinds(t *testing.T, models ...*config.Model) *kinds {
	k := &kinds{fixture: newFixture(t, models...)}
	k.d = k.w.Dialect()
	k.fields = append([]conformance.Field{conformance.ID()}, conformance.Fields(k.d)...)
	k.rows = conformance.Rows(k.fields[1:])
	for i, f := range k.fields {
		for _, row := range k.rows {
			if row[i] == nil && k.d.Name() == "bigquery" && strings.HasPrefix(f.Type["bigquery"], "ARRAY") {
				row[i] = "[]" // BigQuery keeps no NULL there
			}
		}
	}
	k.have(k.rows)
	return k
}

func (k *kinds) have(rows [][]any) {
	k.Helper()
	conformance.Table(k, k.w, warehouse.Table{Name: "kinds"}, k.fields, rows)
}

// holds compares a model with the rows that it should have.
func (k *kinds) holds(what, model string, rows [][]any) {
	k.Helper()
	got := conformance.Read(k, k.w, "SELECT * FROM "+k.d.Table(warehouse.Table{Schema: "dray", Name: model}))
	if diff := gocmp.Diff(conformance.Want(k.fields, rows), got); diff != "" {
		k.Errorf("%s, %s: want -, got +:\n%.3000s", model, what, diff)
	}
}

// same is a value as a text that is the same for values which the engines take for one.
func same(f conformance.Field, v any) string {
	if v == 0.0 {
		return "0" // -0 is 0
	}
	return conformance.Canon(f.Kind, v)
}

// Each materialisation keeps values of every kind as they are; an incremental one replaces rows of its key and keeps the others.
func TestMaterialisationsOfEveryKind(t *testing.T) {
	t.Parallel()
	k := newKinds(t, model("Seen", "view", "select * from kinds"), model("kept", "table", "select * from {{ ref('Seen') }}"),
		model("grown", "incremental", "select * from {{ ref('Seen') }}", "id"))
	k.mustRun(k.hooks)
	for _, m := range k.project.Models {
		k.holds("built", m.Name, k.rows)
	}
	var now, all [][]any // every other row has the values of the next; some rows are new
	for i, row := range k.rows {
		if i%2 == 0 {
			changed := append([]any{row[0]}, k.rows[(i+1)%len(k.rows)][1:]...)
			now, all = append(now, changed), append(all, changed)
			continue
		}
		all = append(all, row)
	}
	for i, row := range k.rows[:4] {
		added := append([]any{int64(1000 + i)}, row[1:]...)
		now, all = append(now, added), append(all, added)
	}
	k.have(now)
	k.mustRun(k.hooks)
	k.holds("built again", "Seen", now)
	k.holds("built again", "kept", now)
	k.holds("built again", "grown", all)
}

// An incremental model may have a key of any kind that can be compared.
func TestIncrementalKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	k := newKinds(t)
	type keyed struct {
		f      conformance.Field
		values []any
	}
	var keys []keyed
	fields := func(f conformance.Field) []conformance.Field {
		return []conformance.Field{f, {Name: "payload", Kind: warehouse.Text}}
	}
	put := func(n int, f conformance.Field, values []any, payload string) {
		rows := make([][]any, len(values))
		for i, v := range values {
			rows[i] = []any{v, payload}
		}
		conformance.Table(t, k.w, warehouse.Table{Name: fmt.Sprintf("keyed_%d", n)}, fields(f), rows)
	}
	for _, f := range k.fields[1:] {
		if f.Kind == warehouse.JSON {
			continue // has no equality on every engine
		}
		var values []any
		for _, v := range f.Values {
			if v != nil && !slices.ContainsFunc(values, func(x any) bool { return same(f, x) == same(f, v) }) {
				values = append(values, v)
			}
		}
		n := len(keys)
		k.project.Models = append(k.project.Models, model(fmt.Sprintf("by_%d", n), "incremental", fmt.Sprintf("select * from keyed_%d", n), f.Name))
		keys = append(keys, keyed{f, values})
		put(n, f, values, "old")
	}
	k.mustRun(k.hooks)
	for n, key := range keys {
		put(n, key.f, key.values[len(key.values)/2:], "new")
	}
	k.mustRun(k.hooks)
	for n, key := range keys {
		want := make([][]any, len(key.values))
		for i, v := range key.values {
			want[i] = []any{v, "old"}
			if i >= len(key.values)/2 {
				want[i] = []any{v, "new"}
			}
		}
		got := conformance.Read(t, k.w, "SELECT * FROM "+k.d.Table(warehouse.Table{Schema: "dray", Name: fmt.Sprintf("by_%d", n)}))
		if diff := gocmp.Diff(conformance.Want(fields(key.f), want), got); diff != "" {
			t.Errorf("by %s: want -, got +:\n%.2000s", key.f.Name, diff)
		}
	}
}

// Tests of models count the rows that Go counts.
func TestTestsOfEveryKind(t *testing.T) {
	t.Parallel()
	k := newKinds(t, model("kept", "table", "select * from kinds", "id"), model("odd", "view", "select * from kinds where mod(id, 2) = 1"))
	k.mustRun(k.hooks)
	tests := &config.ModelTests{AcceptedValues: map[string][]string{}, Relationships: map[string]string{}}
	want := map[string]int64{}
	for i, f := range k.fields {
		if f.Kind == warehouse.JSON {
			continue // has no equality on every engine
		}
		times, odd, accepted := map[string]int64{}, map[string]bool{}, map[string]bool{}
		nulls := int64(0)
		for n, row := range k.rows {
			if row[i] == nil {
				nulls++
				continue
			}
			times[same(f, row[i])]++
			if n%2 == 0 { // its number is odd
				odd[same(f, row[i])] = true
			}
		}
		tests.NotNull = append(tests.NotNull, f.Name)
		want["not_null("+f.Name+")"] = nulls
		tests.Unique = append(tests.Unique, config.Strings{f.Name})
		tests.Relationships[f.Name] = "odd." + f.Name
		var written []string
		for n, v := range f.Values {
			text := fmt.Sprint(v)
			switch {
			case v == nil, f.Kind == warehouse.Timestamp, f.Kind == warehouse.Float && v != -1.5 && v != 0.1, n%3 == 2:
				continue // how engines write times and the least of numbers is their own
			case f.Kind == warehouse.Date:
				text = conformance.Canon(f.Kind, v)[:len("2006-01-02")]
			}
			written = append(written, text)
			accepted[same(f, v)] = true
		}
		if len(written) > 0 {
			tests.AcceptedValues[f.Name] = written
		}
		for value, n := range times {
			if n > 1 {
				want["unique("+f.Name+")"] += n
			}
			if !odd[value] {
				want["relationships("+f.Name+", odd."+f.Name+")"] += n
			}
			if len(written) > 0 && !accepted[value] {
				want["accepted_values("+f.Name+")"] += n
			}
		}
	}
	k.project.Models[0].Tests = tests
	all, err := build.Test(t.Context(), build.Deps{Warehouse: k.w}, k.compile(k.hooks), []graph.ID{"model.kept"})
	if err == nil {
		t.Error("no test fails")
	}
	n, _ := all.Node("model.kept")
	if len(n.Tests) < 30 {
		t.Errorf("only %d tests were run", len(n.Tests))
	}
	for _, test := range n.Tests {
		if test.Failures != want[test.Name] || test.Err != nil && want[test.Name] == 0 {
			t.Errorf("%s: got %d (%v), want %d", test.Name, test.Failures, test.Err, want[test.Name])
		}
	}
}
