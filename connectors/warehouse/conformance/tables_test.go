package conformance

import (
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// schemaOf is a schema of its own for each test of tables, made.
func schemaOf(t *testing.T, w warehouse.Warehouse) string {
	t.Helper()
	const schema = "Schöne Tabellen"
	d := w.Dialect()
	name := schema
	if d.Name() == "bigquery" { // datasets have letters, digits and underscores
		name = "tables"
	}
	Exec(t, w, d.CreateSchema(name), d.CreateSchema(name))
	return name
}

// has compares a table's rows with those that it should have.
func has(t *testing.T, w warehouse.Warehouse, what string, table warehouse.Table, fields []Field, rows [][]any) {
	t.Helper()
	if diff := gocmp.Diff(Want(fields, rows), Read(t, w, "SELECT * FROM "+w.Dialect().Table(table))); diff != "" {
		t.Errorf("%s: want -, got +:\n%.3000s", what, diff)
	}
}

// typed are the columns of CREATE TABLE.
func typed(d warehouse.Dialect, fields []Field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = d.Quote(f.Name) + " " + f.TypeIn(d)
	}
	return out
}

func relations(t *testing.T, w warehouse.Warehouse, schema string) map[string]string {
	t.Helper()
	rows, err := w.Query(t.Context(), w.Dialect().Relations(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		name, _ := v[0].(string)
		out[name], _ = v[1].(string)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Values of every kind come through each way in which Dray makes, fills, replaces, empties, renames and drops tables and views.
func TestTables(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	fields := append([]Field{ID()}, Fields(d)...)
	rows := kept(d, fields, Rows(fields[1:]))
	schema := schemaOf(t, w)
	table := func(name string) warehouse.Table { return warehouse.Table{Schema: schema, Name: name} }
	made, other := table("Made by hand"), table("other")
	list := Select(d, fields, rows)
	columns := typed(d, fields)

	Exec(t, w, d.CreateTable(made, columns, "größe_ß", "id"))
	has(t, w, "a new table", made, fields, nil)
	Exec(t, w, "INSERT INTO "+d.Table(made)+" ("+warehouse.QuotedList(d.Quote, names(fields))+") "+list, d.CreateTable(made, columns, "größe_ß", "id"))
	has(t, w, "made once, asked for twice", made, fields, rows)

	Exec(t, w, d.CreateTableAs(other, "SELECT * FROM "+d.Table(made), "id"))
	has(t, w, "made of a query", other, fields, rows)
	few := rows[:5]
	where := " WHERE " + d.Quote("id") + " <= 5"
	Exec(t, w, d.CreateTableAs(other, "SELECT * FROM "+d.Table(other)+where, "id"))
	has(t, w, "made of itself", other, fields, few)

	before, within := d.Swap(other, true, "SELECT * FROM "+d.Table(made))
	if err := w.Atomic(t.Context(), append(before, within...)...); err != nil {
		t.Fatal(err)
	}
	has(t, w, "swapped", other, fields, rows)
	_, within = d.Swap(other, true, "SELECT * FROM "+d.Table(other)+where)
	if err := w.Atomic(t.Context(), within...); err != nil {
		t.Fatal(err)
	}
	has(t, w, "swapped for a part of itself", other, fields, few)
	fresh := table("fresh")
	before, within = d.Swap(fresh, false, "SELECT * FROM "+d.Table(made))
	Exec(t, w, before...)
	if err := w.Atomic(t.Context(), within...); err != nil {
		t.Fatal(err)
	}
	has(t, w, "swapped into nothing", fresh, fields, rows)

	// What fails takes all before it back.
	wrong := "INSERT INTO " + d.Table(other) + " (" + d.Quote("id") + ") SELECT " + d.Cast("t."+d.Quote("firstName"), warehouse.Int) + " FROM " + d.Table(made) + " t"
	_, within = d.Swap(other, true, "SELECT * FROM "+d.Table(made))
	for _, first := range [][]string{within, {"DELETE FROM " + d.Table(other) + " WHERE TRUE"}, {d.Empty(other)}, {d.Discard(other)}} {
		if err := w.Atomic(t.Context(), append(slices.Clone(first), wrong)...); err == nil {
			t.Error("it is done although its end fails")
		}
		has(t, w, "taken back: "+first[0][:min(len(first[0]), 40)], other, fields, few)
	}

	if err := w.Atomic(t.Context(), d.Empty(other)); err != nil {
		t.Fatal(err)
	}
	has(t, w, "emptied", other, fields, nil)
	Exec(t, w, "INSERT INTO "+d.Table(other)+" SELECT * FROM "+d.Table(made)+where)
	has(t, w, "filled again", other, fields, few)
	if err := w.Atomic(t.Context(), d.Discard(other)); err != nil {
		t.Fatal(err)
	}
	there, err := w.Exists(t.Context(), other)
	if err != nil || there == d.DDL() {
		t.Errorf("discarded: there %t, %v", there, err)
	}
	if there {
		has(t, w, "discarded", other, fields, nil)
	}

	view := table("A View")
	Exec(t, w, d.CreateView(view, "SELECT * FROM "+d.Table(made)))
	has(t, w, "a view", view, fields, rows)
	Exec(t, w, d.CreateView(view, "SELECT "+d.Quote("id")+" FROM "+d.Table(made)+where))
	has(t, w, "a view of other columns", view, fields[:1], firsts(few))

	work := d.Work(table("Beside"))
	Exec(t, w, d.CreateTableAs(work, "SELECT * FROM "+d.Table(made)))
	has(t, w, "a table for work", work, fields, rows)

	moved := "moved_to"
	if err := w.Atomic(t.Context(), d.RenameTable(fresh, moved)); err != nil {
		t.Fatal(err)
	}
	has(t, w, "renamed", table(moved), fields, rows)
	got := relations(t, w, schema)
	for name, kind := range map[string]string{"Made by hand": "BASE TABLE", "A View": "VIEW", moved: "BASE TABLE"} {
		if got[d.Kept(name)] != kind {
			t.Errorf("%s is %q among %v", name, got[d.Kept(name)], got)
		}
	}
	if _, old := got["fresh"]; old {
		t.Error("it stands under its old name too")
	}

	Exec(t, w, d.DropSchema(schema), d.DropSchema(schema))
	if got := relations(t, w, schema); len(got) > 0 {
		t.Errorf("the schema is gone, and has %v", got)
	}
}

// kept are the rows as a table of the engine has them.
func kept(d warehouse.Dialect, fields []Field, rows [][]any) [][]any {
	if d.Name() != "bigquery" {
		return rows
	}
	for i, f := range fields {
		if strings.HasPrefix(f.Type["bigquery"], "ARRAY") {
			for _, row := range rows {
				if row[i] == nil {
					row[i] = "[]" // BigQuery keeps no NULL there
				}
			}
		}
	}
	return rows
}

func names(fields []Field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.Name
	}
	return out
}

func firsts(rows [][]any) [][]any {
	out := make([][]any, len(rows))
	for i, row := range rows {
		out[i] = row[:1]
	}
	return out
}

// What is loaded in bulk is there, behind what was: the kinds that outcomes and keys are of.
func TestLoad(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	fields := slices.DeleteFunc(append([]Field{ID()}, Fields(d)...), func(f Field) bool {
		return f.Kind == warehouse.JSON || f.Kind == warehouse.Decimal || f.Name == "table" // which Dray loads as texts
	})
	rows := Rows(fields[1:])
	table := warehouse.Table{Schema: schemaOf(t, w), Name: "Loaded"}
	Exec(t, w, d.CreateTable(table, typed(d, fields), ""))
	for part, given := range [][][]any{rows[:3], rows[3:], nil} {
		i := 0
		n, err := w.Load(t.Context(), table, names(fields), func() ([]any, error) {
			if i == len(given) {
				return nil, nil
			}
			i++
			return given[i-1], nil
		})
		if err != nil || n != int64(len(given)) {
			t.Fatalf("part %d: %d rows, %v", part, n, err)
		}
	}
	has(t, w, "loaded", table, fields, rows)
	part := []Field{fields[0], fields[3]}
	if _, err := w.Load(t.Context(), table, names(part), once([]any{int64(1000), "a text"})); err != nil {
		t.Fatal(err)
	}
	got := Read(t, w, "SELECT * FROM "+d.Table(table)+" WHERE "+d.Quote("id")+" = 1000")
	want := slices.Repeat([]string{"NULL"}, len(fields))
	want[0], want[3] = "1000", `"a text"`
	if diff := gocmp.Diff([][]string{want}, got); diff != "" {
		t.Errorf("some columns: want -, got +:\n%s", diff)
	}
}

func once(row []any) func() ([]any, error) {
	return func() ([]any, error) {
		out := row
		row = nil
		return out, nil
	}
}
