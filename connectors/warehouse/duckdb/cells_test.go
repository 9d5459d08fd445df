package duckdb_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
)

// awkward are values of every type that a model can have, NULLs among them, at the edges of what the types hold.
const awkward = `SELECT * FROM (VALUES
	(1, true, 9223372036854775807::BIGINT, (-128)::TINYINT, 4294967295::UINTEGER, 18446744073709551615::UBIGINT, 170141183460469231731687303715884105727::HUGEINT,
		12345.6789::DECIMAL(12,4), 0.1::DOUBLE, 0.1::FLOAT, 'plain', 'Zoë "Quoted" \ back' || chr(10) || chr(9) || chr(1) || ' 日本 🎉', '',
		DATE '2026-02-28', TIMESTAMP '2026-02-28 12:34:56.789012', TIMESTAMPTZ '2026-02-28 12:34:56+02', TIMESTAMP_S '2026-02-28 12:34:56', TIME '01:02:03',
		'{"a": [1, 2.50, null], "b": {"c": "x"}}'::JSON, [3, 1, 2], {'s': 'x', 'n': NULL}, MAP {'k': 1}, 'a'::ENUM ('a', 'b'), uuid '6c7be3a6-5f0e-4a0b-9a39-0d8a2f4f1c11',
		'\xAA\xFF'::BLOB, INTERVAL 3 DAY),
	(2, false, (-9223372036854775808)::BIGINT, 127, 0, 0, -1, -0.0001, -0.0, 3.4e38, 'exactly 12 b', 'thirteen byte', ' ',
		DATE '0001-01-01', TIMESTAMP '1969-12-31 23:59:59.999999', TIMESTAMPTZ '0900-01-01 00:00:00+00', TIMESTAMP_S '1970-01-01 00:00:00', TIME '23:59:59.999999',
		'"text"'::JSON, [], {'s': '', 'n': 1}, MAP {}, 'b', uuid '00000000-0000-0000-0000-000000000000', ''::BLOB, INTERVAL '1 month -2 hours'),
	(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'nan'::DOUBLE, 'inf'::FLOAT, NULL, NULL, NULL, 'infinity'::DATE, 'infinity'::TIMESTAMP, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(4, true, 0, 0, 1, 1, 1, 99999999.9999, 1e21, 1e-7, 'x', 'y', 'z', DATE '9999-12-31', TIMESTAMP '9999-12-31 23:59:59', '-infinity'::TIMESTAMPTZ, NULL, NULL,
		'[1,' || chr(10) || ' 2]', [NULL, 1], NULL, NULL, NULL, NULL, NULL, NULL)
	) t(id, flag, big, tiny, uint, ubig, huge, dec, dbl, flt, s12, text, empty, day, ts, tstz, tss, tod, js, list, struct, map, enum, uuid, blob, span)`

// wired is a query of what leaves the warehouse, as the plan's pages ask for it, with its columns.
func wired(t testing.TB, w *duckdb.Warehouse, query string) (string, []warehouse.Column) {
	t.Helper()
	columns, err := w.Columns(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	out := "SELECT "
	for i, c := range columns {
		if i > 0 {
			out += ", "
		}
		out += w.Dialect().Wire(w.Dialect().Quote(c.Name), c)
	}
	return out + " FROM (" + query + ")", columns
}

// What is read in place is what the driver gives. A driver of another make has no cells, and fails here.
func TestCells(t *testing.T) {
	t.Parallel()
	w, err := duckdb.Open(t.Context(), map[string]any{"path": ":memory:"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	for _, query := range []string{
		awkward,
		// More than one of DuckDB's chunks, with NULLs on both sides of their edges.
		"SELECT i AS id, CASE WHEN i % 7 = 0 THEN NULL ELSE 'text number ' || i END AS s, CASE WHEN i % 64 IN (0, 63) THEN NULL ELSE i / 3 END AS f FROM range(5000) r(i)",
		"SELECT 1 AS id WHERE false",
	} {
		statement, columns := wired(t, w, query)
		want := read(t, w, statement, func(rows warehouse.Rows, each func([]any)) {
			for rows.Next() {
				v, err := rows.Values()
				if err != nil {
					t.Fatal(err)
				}
				each(slices.Clone(v))
			}
		})
		got := read(t, w, statement, func(rows warehouse.Rows, each func([]any)) {
			in, ok := rows.(warehouse.InPlace)
			if !ok {
				t.Fatal("rows cannot be read in place")
			}
			cells, ok := in.Cells()
			if !ok {
				t.Fatal("this result cannot be read in place")
			}
			for cells.Next() {
				row := make([]any, len(columns))
				for i, c := range columns {
					row[i] = warehouse.Value(cells, i, c.Kind)
				}
				each(row)
			}
			if cells.Next() {
				t.Error("there is a row behind the last")
			}
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("values -, cells +:\n%s", diff)
		}
	}
}

// read gives the rows as text, sorted: the engine may give them in any order.
func read(t testing.TB, w *duckdb.Warehouse, statement string, f func(warehouse.Rows, func([]any))) []string {
	t.Helper()
	rows, err := w.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	f(rows, func(row []any) { out = append(out, fmt.Sprintf("%#v", row)) })
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// A row that is written from where it lies is the row that its values make, byte by byte, whatever the types; one that JSON cannot
// carry is not written, and the values say why.
func TestRowsInPlaceAreWrittenAsTheirValues(t *testing.T) {
	t.Parallel()
	w, err := duckdb.Open(t.Context(), map[string]any{"path": ":memory:"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	statement, columns := wired(t, w, awkward)
	schema := &destination.Schema{}
	for i, c := range columns {
		d := destination.Column{Name: c.Name, Path: []string{c.Name}, Kind: c.Kind, Type: c.Type}
		switch {
		case i < 2:
			schema.Key = append(schema.Key, d)
			continue
		case i%3 == 0:
			d.Path = []string{"nested", c.Name}
		}
		schema.Fields = append(schema.Fields, d)
	}
	// A column that no row can be sent with would hide the others.
	for _, without := range []string{"", "dbl", "flt", "day", "ts"} {
		e, err := encode.New(schema)
		if err != nil {
			t.Fatal(err)
		}
		query := strings.ReplaceAll(statement, "SELECT * FROM (VALUES", "SELECT * "+replaced(without)+" FROM (VALUES")
		want, refused := map[int64]string{}, map[int64]bool{}
		values, err := w.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for values.Next() {
			v, err := values.Values()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := v[0].(int64)
			row, err := e.Change(nil, &destination.Change{Operation: destination.OpAdd, Key: v[:2], Fields: v[2:], DedupeID: "d"})
			want[id], refused[id] = string(row), err != nil || v[1] == nil
		}
		rows, err := w.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		cells, ok := rows.(warehouse.InPlace).Cells()
		if !ok {
			t.Fatal("the result cannot be read in place")
		}
		written := 0
		for cells.Next() {
			id := cells.Int(0)
			row, ok := e.Row([]byte("x"), cells)
			if !ok {
				if !refused[id] || string(row) != "x" {
					t.Errorf("row %d without %q was not written, and left %q", id, without, row)
				}
				continue
			}
			written++
			whole, err := e.Change(nil, &destination.Change{Operation: destination.OpAdd, JSON: row[1:], DedupeID: "d"})
			if diff := cmp.Diff(want[id], string(whole)); diff != "" || err != nil {
				t.Errorf("row %d, %v: values -, in place +:\n%s", id, err, diff)
			}
			if !json.Valid(whole) {
				t.Errorf("row %d is no JSON: %s", id, whole)
			}
		}
		if written == 0 {
			t.Errorf("no row was written without %q", without)
		}
		values.Close()
		rows.Close()
	}
}

func replaced(column string) string {
	if column == "" {
		return ""
	}
	return "REPLACE (NULL AS " + column + ")"
}
