package conformance

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Each value of each kind goes in as a literal, stands in a table, and comes out as it was; the engine's types mean what they should.
func TestValuesComeBack(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	fields := append([]Field{ID()}, Fields(d)...)
	rows := Rows(fields[1:])
	table := warehouse.Table{Schema: "some schema", Name: `it's a "Table"`}
	if d.Name() == "bigquery" {
		table = warehouse.Table{Schema: "some_schema", Name: "a Table, größer"}
	}
	Table(t, w, table, fields, rows)
	columns, err := w.Columns(t.Context(), "SELECT * FROM "+d.Table(table))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range columns {
		if c.Name != fields[i].Name || c.Kind != fields[i].Kind {
			t.Errorf("column %s is a %s (%s), want %s of %s", c.Name, c.Kind, c.Type, fields[i].Name, fields[i].Kind)
		}
	}
	if diff := cmp.Diff(Want(fields, rows), Read(t, w, "SELECT * FROM "+d.Table(table))); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// A literal of Go's means the value itself, in a comparison too: it is not cast by what it stands beside.
func TestLiterals(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	for _, f := range Fields(d) {
		if f.Kind == warehouse.Decimal || f.Kind == warehouse.Date || f.Kind == warehouse.JSON || f.write != nil {
			continue
		}
		for _, v := range f.Values {
			if v == nil {
				continue
			}
			got := Read(t, w, "SELECT "+d.Value(v)+" AS v")
			if want := Canon(f.Kind, v); len(got) != 1 || got[0][0] != want {
				t.Errorf("%s: got %s, want %s", d.Value(v), got, want)
			}
		}
	}
}
