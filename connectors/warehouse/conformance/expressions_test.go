package conformance

import (
	"cmp"
	"crypto/md5" //nolint:gosec // what Digest promises
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// held is the shared data in a table of an engine, with the columns as the engine describes them.
type held struct {
	*testing.T
	w       warehouse.Warehouse
	d       warehouse.Dialect
	table   string
	fields  []Field
	rows    [][]any
	columns []warehouse.Column
}

func hold(t *testing.T) *held {
	t.Helper()
	w := Open(t)
	h := &held{T: t, w: w, d: w.Dialect()}
	h.fields = append([]Field{ID()}, Fields(h.d)...)
	h.rows = Rows(h.fields[1:])
	table := warehouse.Table{Schema: "shared", Name: "all kinds"}
	Table(t, w, table, h.fields, h.rows)
	h.table = h.d.Table(table)
	var err error
	if h.columns, err = w.Columns(t.Context(), "SELECT * FROM "+h.table); err != nil {
		t.Fatal(err)
	}
	return h
}

// by gives what an expression of a row's columns is in each row.
func (h *held) by(expr string) map[int64]string {
	h.Helper()
	out := map[int64]string{}
	for _, row := range Read(h, h.w, "SELECT "+h.d.Quote("id")+", "+expr+" AS v FROM "+h.table+" AS t") {
		id, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			h.Fatal(err)
		}
		out[id] = row[1]
	}
	return out
}

// want compares an expression of one column with what Go makes of its values. A nil stands for a value that is not looked at.
func (h *held) want(what string, column int, k warehouse.Kind, expr string, of func(v any) any) {
	h.Helper()
	got, want := h.by(expr), map[int64]string{}
	for _, row := range h.rows {
		id := row[0].(int64) //nolint:forcetypeassert // the rows' number
		v := of(row[column])
		if v == skipped {
			delete(got, id)
			continue
		}
		want[id] = Canon(k, v)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		h.Errorf("%s: %s: want -, got +:\n%s", what, expr, diff)
	}
}

// unlooked is what Go cannot tell.
type unlooked struct{}

var skipped any = unlooked{}

// index is the first column of a kind.
func (h *held) index(k warehouse.Kind) int {
	return slices.IndexFunc(h.fields[1:], func(f Field) bool { return f.Kind == k }) + 1
}

func (h *held) quoted(column int) string { return "t." + h.d.Quote(h.fields[column].Name) }

// text applies a function to texts; NULL stays NULL.
func onText(f func(s string) any) func(any) any {
	return func(v any) any {
		if s, ok := v.(string); ok {
			return f(s)
		}
		return nil
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	h := hold(t)
	i := h.index(warehouse.Text)
	col := h.quoted(i)
	h.want("digest", i, warehouse.Text, h.d.Digest(col), onText(func(s string) any {
		sum := md5.Sum([]byte(s)) //nolint:gosec // see above
		return hex.EncodeToString(sum[:])
	}))
	for _, part := range []string{"'", `"`, `\`, `\n`, "\n", "%", "_", "å", "😀", "NULL", "", "$1", "--"} {
		h.want("contains", i, warehouse.Bool, h.d.Contains(col, h.d.Text(part)), onText(func(s string) any { return strings.Contains(s, part) }))
	}
	for _, pattern := range []string{`.*'.*`, `[a-z]+`, `0*7`, `\d+`, `[^\\]+\\`, `(null|NULL)`, `a|plain`, `G.s`, `\S+\s\S+`} {
		whole := regexp.MustCompile(`^(?:` + pattern + `)$`)
		h.want("matches", i, warehouse.Bool, h.d.Matches(col, pattern), onText(func(s string) any {
			if strings.ContainsAny(s, "\n\r") { // whether . takes the end of a line is not the same everywhere
				return skipped
			}
			return whole.MatchString(s)
		}))
	}
	for _, v := range Texts() {
		if s, ok := v.(string); ok { // a literal is equal to its value alone
			h.want("equals", i, warehouse.Bool, col+" = "+h.d.Text(s), onText(func(have string) any { return have == s }))
		}
	}
}

func TestTryCasts(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	for _, c := range []struct {
		kind warehouse.Kind
		text string
		want any
	}{
		{warehouse.Int, "42", int64(42)},
		{warehouse.Int, "9223372036854775807", int64(math.MaxInt64)},
		{warehouse.Int, "-9223372036854775808", int64(math.MinInt64)},
		{warehouse.Int, "9223372036854775808", nil},
		{warehouse.Int, "4x", nil},
		{warehouse.Int, "", nil},
		{warehouse.Float, "1e300", 1e300},
		{warehouse.Float, "-0.1", -0.1},
		{warehouse.Float, "x", nil},
		{warehouse.Decimal, "99999999999999999999999999999.999999999", "99999999999999999999999999999.999999999"},
		{warehouse.Decimal, "999999999999999999999999999999", nil},
		{warehouse.Decimal, "1,5", nil},
		{warehouse.Bool, "true", true},
		{warehouse.Bool, "false", false},
		{warehouse.Bool, "maybe", nil},
		{warehouse.Date, "2024-02-29", day("2024-02-29")},
		{warehouse.Date, "2023-02-29", nil},
		{warehouse.Date, "0001-01-01", day("0001-01-01")},
		{warehouse.Date, "9999-12-31", day("9999-12-31")},
		{warehouse.Date, "soon", nil},
		{warehouse.Timestamp, "2024-02-29 12:34:56.123456", instant("2024-02-29T12:34:56.123456Z")},
		{warehouse.Timestamp, "2024-02-30 00:00:00", nil},
		{warehouse.JSON, `{"a": [1]}`, `{"a":[1]}`},
		{warehouse.JSON, `{"a": `, nil},
	} {
		expr := d.TryCast(d.Text(c.text), d.Type(c.kind))
		if got, want := Read(t, w, "SELECT "+expr+" AS v"), Canon(c.kind, c.want); len(got) != 1 || got[0][0] != want {
			t.Errorf("%s: got %v, want %s", expr, got, want)
		}
		if expr = d.TryCast("CAST(NULL AS "+d.Type(warehouse.Text)+")", d.Type(c.kind)); Read(t, w, "SELECT "+expr+" AS v")[0][0] != "NULL" {
			t.Errorf("%s is not NULL", expr)
		}
	}
}

// Times move by whole seconds and spans, over leap days and changes of the clock, which are none in UTC.
func TestTimes(t *testing.T) {
	t.Parallel()
	h := hold(t)
	zone, err := time.LoadLocation("Europe/Copenhagen")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range h.fields {
		if f.Kind != warehouse.Timestamp {
			continue
		}
		col := h.quoted(i)
		middle := func(move func(at time.Time) any) func(v any) any { // of what does not leave the calendar
			return func(v any) any {
				at, ok := v.(time.Time)
				switch {
				case !ok:
					return nil
				case at.Year() == 1 || at.Year() == 9999:
					return skipped
				}
				return move(at)
			}
		}
		safe := fmt.Sprintf("CASE WHEN %[1]s > %[2]s AND %[1]s < %[3]s THEN %[1]s END", col, h.d.Time(day("1900-01-01")), h.d.Time(day("2100-01-01")))
		for _, seconds := range []int64{1, -1, 86400, -86400 * 366, 3600 * 24 * 365 * 3} {
			h.want("seconds", i, warehouse.Timestamp, h.d.AddSeconds(safe, strconv.FormatInt(seconds, 10)), middle(func(at time.Time) any { return at.Add(time.Duration(seconds) * time.Second) }))
		}
		for _, span := range []time.Duration{time.Microsecond, 1500 * time.Millisecond, time.Second, 90 * 24 * time.Hour} {
			h.want("interval", i, warehouse.Timestamp, safe+" - "+h.d.Interval(span), middle(func(at time.Time) any { return at.Add(-span) }))
		}
		c := h.columns[i]
		naive := strings.HasPrefix(c.Type, "TIMESTAMP_NTZ") || c.Type == "TIMESTAMP" || c.Type == "timestamp without time zone"
		if h.d.Name() == "bigquery" {
			naive = false // an instant, both of them
		}
		h.want("UTC", i, warehouse.Timestamp, h.d.UTC(safe, c, "Europe/Copenhagen"), middle(func(at time.Time) any {
			if !naive || f.Name == "table" {
				return at
			}
			local := time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), zone)
			if twice := local.Add(-time.Hour).In(zone).Format(time.DateTime) == local.In(zone).Format(time.DateTime) || local.Add(time.Hour).In(zone).Format(time.DateTime) == local.In(zone).Format(time.DateTime); twice {
				return skipped // an hour that the clocks show twice
			}
			return local.UTC()
		}))
	}
	now := Read(t, h.w, "SELECT "+h.d.Now()+" AS v")
	if at, err := time.Parse(time.RFC3339Nano, now[0][0]); err != nil || time.Since(at).Abs() > 12*time.Hour {
		t.Errorf("now is %v", now)
	}
}

// Hashes are the same exactly where the values are, of one column and of all.
func TestHashes(t *testing.T) {
	t.Parallel()
	h := hold(t)
	var all []string
	for i, f := range h.fields {
		expr := h.d.Comparable(h.d.SortArray(h.quoted(i), h.columns[i]), h.columns[i])
		if i > 0 {
			all = append(all, expr)
		}
		ofValue, ofHash := map[string]string{}, map[string]string{}
		for id, hash := range h.by(h.d.Hash(expr)) {
			value := Canon(f.Kind, h.rows[id-1][i])
			switch {
			case value == "-0": // that is 0 by value; whether its hash is is the engine's own
				continue
			case value == "NULL" && h.d.Name() == "bigquery" && strings.HasPrefix(h.columns[i].Type, "ARRAY"):
				value = "[]" // BigQuery keeps no NULL there
			case value == "-1/1000000000" && Carried() == "snowflake":
				continue // DuckDB's hash stands in, which takes it for 0
			}
			if n, err := strconv.ParseInt(hash, 10, 64); err != nil || n < 0 {
				t.Errorf("%s: the hash of %s is %s", f.Name, value, hash)
			}
			if known, ok := ofValue[value]; ok && known != hash {
				t.Errorf("%s: %s has two hashes", f.Name, value)
			}
			if known, ok := ofHash[hash]; ok && known != value {
				t.Errorf("%s: %s and %s have one hash", f.Name, known, value)
			}
			ofValue[value], ofHash[hash] = hash, value
		}
	}
	hashes := h.by(h.d.Hash(all...))
	if n := len(slices.Compact(slices.Sorted(maps.Values(hashes)))); n != len(h.rows) {
		t.Errorf("%d rows have %d hashes", len(h.rows), n)
	}
	xor := int64(0)
	texts, buckets := h.by(h.d.HashText(h.d.Hash(all...))), h.by(h.d.Bucket(h.d.Hash(all...), 7))
	halves := h.by(h.d.IntDiv(h.d.Hash(all...), 3))
	for id, text := range hashes {
		n, _ := strconv.ParseInt(text, 10, 64)
		xor ^= n
		if want := fmt.Sprintf(`"%016x"`, n); texts[id] != want {
			t.Errorf("%d as text is %s, want %s", n, texts[id], want)
		}
		if want := strconv.FormatInt(n%7, 10); buckets[id] != want {
			t.Errorf("%d is in bucket %s, want %s", n, buckets[id], want)
		}
		if Carried() == "snowflake" {
			continue // the quotient of decimals is carried to a floating one, of 53 bits
		}
		if want := strconv.FormatInt(n/3, 10); halves[id] != want {
			t.Errorf("%d by 3 is %s, want %s", n, halves[id], want)
		}
	}
	got := Read(t, h.w, "SELECT "+h.d.Xor(h.d.Hash(all...))+" AS v FROM "+h.table+" AS t")
	if want := strconv.FormatInt(xor, 10); got[0][0] != want {
		t.Errorf("the hashes together are %s, want %s", got[0][0], want)
	}
}

// What is easily taken for one: NULLs and empty texts that change places, texts that end where the next begins.
func TestHashesOfSeveral(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	null := "NULL"
	seen := map[string]string{}
	for _, values := range [][]string{
		{null, "''"},
		{"''", null},
		{null, null},
		{"''", "''"},
		{"'a'", "'bc'"},
		{"'ab'", "'c'"},
		{"'abc'", "''"},
		{"'abc'", null},
		{null, "'abc'"},
		{"'NULL'", "''"},
		{d.Text(`a","b`), "'c'"},
		{"'a'", d.Text(`b","c`)},
		{"'a,b'", "'c'"},
		{"'a'", "'b,c'"},
		{"' '", "''"},
		{"''", "' '"},
	} {
		for i, v := range values {
			values[i] = "CAST(" + v + " AS " + d.Type(warehouse.Text) + ")"
		}
		hash := Read(t, w, "SELECT "+d.Hash(values...)+" AS v")[0][0]
		if seen[hash] != "" {
			t.Errorf("%v and %s have one hash", values, seen[hash])
		}
		seen[hash] = strings.Join(values, " ")
	}
}

// JSON and arrays are equal by value: the order of keys and of elements, spaces, and how a number is written make no difference.
func TestComparable(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	fields := Fields(d)
	list := fields[slices.IndexFunc(fields, func(f Field) bool { return f.Name == "Tags" })]
	nums := fields[slices.IndexFunc(fields, func(f Field) bool { return f.Name == "nums" })]
	doc := fields[slices.IndexFunc(fields, func(f Field) bool { return f.Name == "from" })]
	for _, c := range []struct {
		field Field
		a, b  any
		same  bool
		keys  bool // it is about the order of keys, which DuckDB keeps
	}{
		{doc, `{"a":1,"b":2}`, `{"b":2,"a":1}`, true, true},
		{doc, `{"a":{"x":1,"y":[{"p":1,"q":2}]}}`, `{ "a": {"y": [{"q":2, "p":1}], "x": 1} }`, true, true},
		{doc, `{"a":1}`, `{ "a" : 1 }`, true, false},
		{doc, `{"a":1}`, `{"a":"1"}`, false, false},
		{doc, `{"a":1}`, `{"a":2}`, false, false},
		{doc, `{"a":null}`, `{}`, false, false},
		{doc, `[1,2]`, `[2,1]`, false, false},
		{doc, `{}`, `[]`, false, false},
		{doc, `{"a":true}`, `{"a":"true"}`, false, false},
		{doc, `""`, `null`, false, false},
		{doc, `{"a b":1}`, `{"a":{"b":1}}`, false, false},
		{doc, `{"a.b":1}`, `{"a":{"b":1}}`, false, false},
		{doc, `{"a":"x INTEGER 1"}`, `{"a":"x"}`, false, false},
		{doc, `{"a":[]}`, `{"a":{}}`, false, false},
		{doc, `{}`, nil, false, false},
		{list, `["a","b","c"]`, `["c","a","b"]`, true, false},
		{list, `["a","a"]`, `["a"]`, false, false},
		{list, `[]`, nil, false, false},
		{list, `[""]`, `[]`, false, false},
		{nums, `[5]`, `[-5]`, false, false},
		{nums, `[3,1,2]`, `[1,2,3]`, true, false},
		{doc, `[[1],2]`, `[1,[2]]`, false, false},
		{doc, `[]`, nil, false, false},
		{doc, `[[]]`, `[]`, false, false},
		{doc, `{"a":1.0}`, `{"a":1.00}`, true, true},
		{list, `["a,b"]`, `["a","b"]`, false, false},
		{list, `["a","B"]`, `["a","b"]`, false, false},
	} {
		if c.keys && Carried() != "" {
			continue // the cloud keeps JSON with its keys in order; DuckDB, on which it is carried, as it is written
		}
		if d.Name() == "bigquery" && c.field.Name == list.Name && c.b == nil {
			continue // BigQuery keeps no NULL there
		}
		if c.field.Name != doc.Name && c.same && Carried() == "snowflake" {
			continue // arrays are carried to JSON, which ARRAY_SORT does not take
		}
		query := "SELECT 1 AS id, " + c.field.Literal(d, c.a) + " AS v UNION ALL SELECT 2, " + c.field.Literal(d, c.b)
		columns, err := w.Columns(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		value := d.Comparable(d.SortArray("q.v", columns[1]), columns[1])
		got := Read(t, w, "SELECT q.id, "+d.Hash(value)+" AS h FROM ("+query+") AS q")
		if same := got[0][1] == got[1][1]; same != c.same {
			t.Errorf("%v and %v: the same %t, want %t", c.a, c.b, same, c.same)
		}
		got = Read(t, w, "SELECT COUNT(*) AS n FROM (SELECT DISTINCT "+value+" AS v FROM ("+query+") AS q) AS d")
		if same := got[0][0] == "1"; same != c.same {
			t.Errorf("%v and %v: equal %t, want %t", c.a, c.b, same, c.same)
		}
	}
}

// The canonical form of a key of several columns.
func TestJSONArrays(t *testing.T) {
	t.Parallel()
	h := hold(t)
	columns := []int{h.index(warehouse.Bool), h.index(warehouse.Int), h.index(warehouse.Text)}
	var exprs []string
	for _, i := range columns {
		exprs = append(exprs, h.quoted(i))
	}
	got := h.by(h.d.JSONArray(exprs...))
	for _, row := range h.rows {
		text, err := strconv.Unquote(got[row[0].(int64)]) //nolint:forcetypeassert // the rows' number
		if err != nil {
			t.Fatal(err)
		}
		var values []any
		if err := decode(text, &values); err != nil || len(values) != len(columns) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for n, i := range columns {
			want := row[i]
			if v, ok := want.(int64); ok { // an integer's digits, all of them
				want = strconv.FormatInt(v, 10)
				values[n] = fmt.Sprint(values[n])
			}
			if values[n] != want {
				t.Errorf("row %d: got %#v of %s, want %#v", row[0], values[n], h.fields[i].Name, want)
			}
		}
	}
}

// compare orders two values of a kind; NULLs are looked at by the caller.
func compare(k warehouse.Kind, a, b any) int {
	switch a := a.(type) {
	case bool:
		return cmp.Compare(strconv.FormatBool(a), fmt.Sprint(b))
	case int64:
		return cmp.Compare(a, b.(int64)) //nolint:forcetypeassert // of one kind
	case float64:
		return cmp.Compare(a, b.(float64)) //nolint:forcetypeassert // of one kind
	case time.Time:
		return a.Compare(b.(time.Time)) //nolint:forcetypeassert // of one kind
	case string:
		if k == warehouse.Decimal {
			return rat(a).Cmp(rat(fmt.Sprint(b)))
		}
		return strings.Compare(a, fmt.Sprint(b))
	}
	return 0
}

// Order puts NULL where it is told to; First picks the first value, also where it is NULL.
func TestOrderAndFirst(t *testing.T) {
	t.Parallel()
	h := hold(t)
	for i, f := range h.fields {
		if f.Kind == warehouse.JSON {
			continue // has no order
		}
		for _, desc := range []bool{false, true} {
			for _, nullsFirst := range []bool{false, true} {
				rows := slices.Clone(h.rows)
				slices.SortStableFunc(rows, func(a, b []any) int {
					x, y := a[i], b[i]
					switch {
					case x == nil || y == nil:
						if (x == nil) == (y == nil) {
							return cmp.Compare(a[0].(int64), b[0].(int64)) //nolint:forcetypeassert // the rows' number
						}
						if (x == nil) == nullsFirst {
							return -1
						}
						return 1
					case f.Kind == warehouse.Text: // languages order texts in ways of their own: only NULLs are looked at
						return cmp.Compare(a[0].(int64), b[0].(int64)) //nolint:forcetypeassert // the rows' number
					}
					n := compare(f.Kind, x, y)
					if desc {
						n = -n
					}
					return cmp.Or(n, cmp.Compare(a[0].(int64), b[0].(int64))) //nolint:forcetypeassert // the rows' number
				})
				expr := h.quoted(i)
				if f.Kind == warehouse.Text {
					expr = "CASE WHEN " + expr + " IS NOT NULL THEN 0 END"
				}
				id := h.d.Order(h.quoted(0), false, false)
				order := h.d.Order(expr, desc, nullsFirst) + ", " + id
				for _, where := range []string{"", h.quoted(0) + " > 10"} {
					want := rows
					if where != "" {
						want = slices.DeleteFunc(slices.Clone(rows), func(r []any) bool { return r[0].(int64) <= 10 }) //nolint:forcetypeassert // the rows' number
					}
					first := h.d.First(h.quoted(0), h.columns[0].Type, order, where)
					got := Read(t, h.w, "SELECT "+first+" AS v FROM "+h.table+" AS t")
					if w := Canon(warehouse.Int, want[0][0]); got[0][0] != w {
						t.Errorf("%s desc %t nulls first %t where %q: first is %s, want %s", f.Name, desc, nullsFirst, where, got[0][0], w)
					}
				}
				numbered := "ROW_NUMBER() OVER (ORDER BY " + order + ")"
				places := h.by(numbered)
				for n, row := range rows {
					if got := places[row[0].(int64)]; got != strconv.Itoa(n+1) { //nolint:forcetypeassert // the rows' number
						t.Errorf("%s desc %t nulls first %t: row %d is in place %s, want %d", f.Name, desc, nullsFirst, row[0], got, n+1)
						break
					}
				}
			}
		}
		// What is picked keeps its type and value, NULL too.
		typ := h.columns[i].Type
		for _, row := range h.rows {
			where := fmt.Sprintf("%s >= %d", h.quoted(0), row[0])
			got := Read(t, h.w, "SELECT "+h.d.First(h.quoted(i), typ, h.d.Order(h.quoted(0), false, false), where)+" AS v FROM "+h.table+" AS t")
			if want := Canon(f.Kind, row[i]); got[0][0] != want {
				t.Errorf("first of %s is %s, want %s", f.Name, got[0][0], want)
			}
		}
	}
}
