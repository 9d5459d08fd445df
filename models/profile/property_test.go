package profile

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/models/identity"
)

// What traits mean, said once more: a reference over rows in Go that shares no code with the SQL. Times are half days around asOf, so that
// windows are hit at their very ends, and most columns have NULLs.

// fact is a row of one of two inputs; those of b have no id.
type fact struct {
	input string
	id    int
	uid   int
	v     any // string or nil
	n     any // int or nil
	ts    any // time.Time or nil
}

func maybe[T any](t *rapid.T, name string, values ...T) any {
	i := rapid.IntRange(0, len(values)).Draw(t, name)
	if i == len(values) {
		return nil
	}
	return values[i]
}

func drawFacts(t *rapid.T) []fact {
	facts := make([]fact, rapid.IntRange(0, 14).Draw(t, "facts"))
	for i := range facts {
		f := &facts[i]
		*f = fact{
			input: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "input"), id: (i*7 + 3) % 15, uid: rapid.IntRange(1, 3).Draw(t, "uid"),
			v: maybe(t, "v", "", "x", "xx", "y", "zz"), n: maybe(t, "n", 0, 1, 2),
		}
		if k := rapid.IntRange(0, 8).Draw(t, "ts"); k < 8 {
			f.ts = asOf.Add(time.Duration(k) * -12 * time.Hour)
		}
	}
	return facts
}

func sqlOf(v any, typ string) string {
	switch v := v.(type) {
	case nil:
		return "CAST(NULL AS " + typ + ")"
	case time.Time:
		return "CAST('" + v.Format("2006-01-02 15:04:05") + "' AS " + typ + ")"
	default:
		return fmt.Sprintf("CAST('%v' AS %s)", v, typ)
	}
}

// relation replaces a table; columns are name and type.
func relation(t testing.TB, w warehouse.Warehouse, name string, columns []string, rows [][]any) {
	t.Helper()
	var names, list []string
	for _, c := range columns {
		column, _, _ := strings.Cut(c, " ")
		names = append(names, column)
	}
	for _, row := range append([][]any{make([]any, len(columns))}, rows...) {
		cells := []string{"FALSE"}
		if len(list) > 0 { // the first row gives the types only
			cells[0] = "TRUE"
		}
		for i, v := range row {
			_, typ, _ := strings.Cut(columns[i], " ")
			if typ == "TIMESTAMP" && columns[0] == identityColumns[0] && conformance.Carried() == "bigquery" {
				typ = "TIMESTAMPTZ" // as Dray makes that table: an instant
			}
			cells = append(cells, sqlOf(v, typ))
		}
		list = append(list, "("+strings.Join(cells, ", ")+")")
	}
	exec(t, w, "DROP TABLE IF EXISTS "+name, fmt.Sprintf("CREATE TABLE %s AS SELECT %s FROM (VALUES %s) v(keep_, %[2]s) WHERE keep_", name, strings.Join(names, ", "), strings.Join(list, ", ")))
}

var identityColumns = []string{"identifier VARCHAR", "value VARCHAR", "profile_id VARCHAR", "refused VARCHAR", "first_seen_at TIMESTAMP", "last_seen_at TIMESTAMP"}

// member is a row of an identity table.
func member(identifier string, value any, profile any) []any {
	return []any{identifier, value, profile, nil, asOf, asOf}
}

func drawTraits(t *rapid.T) []*config.Trait {
	var out []*config.Trait
	for i := range 8 {
		c := &config.Trait{Name: fmt.Sprintf("t%d", i)}
		c.Where = rapid.SampledFrom([]string{"", "", "n > 0", "v <> 'x'"}).Draw(t, "where")
		c.Within.Duration = time.Duration(rapid.SampledFrom([]int{0, 0, 1, 3, 5}).Draw(t, "within")) * 12 * time.Hour
		if rapid.IntRange(0, 3).Draw(t, "aggregate") == 0 {
			c.From = config.Strings{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "from")}
			c.Value = rapid.SampledFrom([]string{"count(*)", "count(DISTINCT v)", "sum(n)", "max(ts)", "sum(n) * 4.0 / nullif(count(n) * 2 - 2, 0)"}).Draw(t, "value")
			if rapid.Bool().Draw(t, "defaulted") && c.Value != "max(ts)" {
				c.Default = 7
			}
			out = append(out, c)
			continue
		}
		c.Pick = rapid.SampledFrom([]string{"most_recent", "oldest", "most_frequent", "source_order", "longest", "min", "max", "first"}).Draw(t, "pick")
		c.From = rapid.SampledFrom([]config.Strings{{"a.v"}, {"b.v"}, {"a.v", "b.v"}, {"b.v", "a.v"}}).Draw(t, "from")
		if c.Pick == "first" || c.Pick != "most_frequent" && rapid.Bool().Draw(t, "ordered") {
			c.OrderBy = rapid.SampledFrom([]string{"n", "n desc", "n nulls first, v desc"}).Draw(t, "order_by")
		}
		if rapid.Bool().Draw(t, "aged") {
			c.Within, c.MaxAge = config.Duration{}, c.Within
		}
		if rapid.Bool().Draw(t, "defaulted") {
			c.Default = "none"
		}
		out = append(out, c)
	}
	return out
}

// cmpNull compares with NULL last, also where desc.
func cmpNull(a, b any, desc bool) int {
	switch {
	case a == nil || b == nil:
		return cmp.Compare(map[bool]int{true: 1}[a == nil], map[bool]int{true: 1}[b == nil])
	case desc:
		a, b = b, a
	}
	switch a := a.(type) {
	case int:
		return cmp.Compare(a, b.(int)) //nolint:forcetypeassert // of one kind
	case time.Time:
		return a.Compare(b.(time.Time)) //nolint:forcetypeassert // of one kind
	default:
		return cmp.Compare(a.(string), b.(string)) //nolint:forcetypeassert // of one kind
	}
}

// keep are the rows that a trait looks at.
func keep(c *config.Trait, facts []fact, uid int) []fact {
	var out []fact
	for _, f := range facts {
		n, _ := f.n.(int)
		ts, dated := f.ts.(time.Time)
		ok := f.uid == uid && map[string]bool{"": true, "n > 0": n > 0, "v <> 'x'": f.v != nil && f.v != "x"}[c.Where]
		for _, d := range []time.Duration{c.Within.Duration, c.MaxAge.Duration} {
			ok = ok && (d == 0 || dated && asOf.Sub(ts) <= d)
		}
		if ok {
			out = append(out, f)
		}
	}
	return out
}

func pickedText(c *config.Trait, facts []fact, uid int) any {
	source := func(f fact) int {
		return slices.IndexFunc(c.From, func(from string) bool { return from == f.input+".v" })
	}
	facts = slices.DeleteFunc(keep(c, facts, uid), func(f fact) bool { return f.v == nil || f.v == "" || source(f) < 0 })
	if len(facts) == 0 {
		return c.Default
	}
	if c.Pick == "most_frequent" {
		counts, last := map[string]int{}, map[string]any{}
		var values []string
		for _, f := range facts {
			v := f.v.(string) //nolint:forcetypeassert // NULL is out
			if counts[v]++; counts[v] == 1 {
				values = append(values, v)
				last[v] = f.ts
			} else if cmpNull(f.ts, last[v], true) < 0 {
				last[v] = f.ts
			}
		}
		return slices.MinFunc(values, func(a, b string) int {
			return cmp.Or(cmp.Compare(counts[b], counts[a]), cmpNull(last[a], last[b], true), cmp.Compare(a, b))
		})
	}
	best := slices.MinFunc(facts, func(a, b fact) int {
		bySource := cmp.Compare(source(a), source(b))
		var own, order int
		switch c.Pick {
		case "most_recent":
			own = cmpNull(a.ts, b.ts, true)
		case "oldest":
			own = cmpNull(a.ts, b.ts, false)
		case "source_order":
			own = cmp.Or(bySource, cmpNull(a.ts, b.ts, true))
		case "longest":
			own = cmp.Or(cmp.Compare(len(b.v.(string)), len(a.v.(string))), cmpNull(a.ts, b.ts, true)) //nolint:forcetypeassert // NULL is out
		case "min":
			own = cmpNull(a.v, b.v, false)
		case "max":
			own = cmpNull(a.v, b.v, true)
		}
		switch c.OrderBy {
		case "n":
			order = cmpNull(a.n, b.n, false)
		case "n desc":
			order = cmpNull(a.n, b.n, true)
		case "n nulls first, v desc":
			order = cmpNull(a.n, b.n, false)
			if a.n == nil || b.n == nil {
				order = -order
			}
			order = cmp.Or(order, cmpNull(a.v, b.v, true))
		}
		last := 0
		if a.input == "a" && b.input == "a" {
			last = cmp.Compare(a.id, b.id)
		}
		return cmp.Or(own, order, bySource, last, cmpNull(a.v, b.v, false))
	})
	return best.v
}

func aggregated(c *config.Trait, facts []fact, uid int) any {
	facts = slices.DeleteFunc(keep(c, facts, uid), func(f fact) bool { return f.input != c.From[0] })
	values := map[any]bool{}
	sum, counted := 0, 0
	var last any
	for _, f := range facts {
		if f.v != nil {
			values[f.v] = true
		}
		if n, ok := f.n.(int); ok {
			sum, counted = sum+n, counted+1
		}
		if cmpNull(f.ts, last, true) < 0 {
			last = f.ts
		}
	}
	switch c.Value {
	case "count(*)":
		return len(facts)
	case "count(DISTINCT v)":
		return len(values)
	case "max(ts)":
		return last
	case "sum(n)":
		if counted > 0 {
			return sum
		}
	default:
		if counted > 1 {
			return big.NewRat(int64(sum)*4, int64(counted)*2-2)
		}
	}
	return c.Default
}

// Of any rows, picks and aggregates give what the reference does.
func TestTraitsMeanWhatTheReferenceSays(t *testing.T) {
	t.Parallel()
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		facts := drawFacts(rt)
		var a, b, ids [][]any
		for _, f := range facts {
			if f.input == "a" {
				a = append(a, []any{f.id, f.uid, f.v, f.n, f.ts})
			} else {
				b = append(b, []any{f.uid, f.v, f.n, f.ts})
			}
		}
		for uid := 1; uid <= 3; uid++ {
			ids = append(ids, member("user_id", uid, fmt.Sprintf("p%d", uid)))
		}
		relation(t, w, "a", []string{"id INTEGER", "uid INTEGER", "v VARCHAR", "n INTEGER", "ts TIMESTAMP"}, a)
		relation(t, w, "b", []string{"uid INTEGER", "v VARCHAR", "n INTEGER", "ts TIMESTAMP"}, b)
		relation(t, w, "ids", identityColumns, ids)
		e := &config.Entity{Name: "person", Identifiers: []*config.Identifier{{Name: "user_id"}}, Traits: drawTraits(rt)}
		spec := Spec{Entity: e, Identity: warehouse.Table{Name: "ids"}, Target: warehouse.Table{Name: "people"}, AsOf: asOf}
		for _, name := range []string{"a", "b"} {
			e.Inputs = append(e.Inputs, &config.Input{Name: name, Identifiers: map[string]string{"user_id": "uid"}, At: "ts"})
			spec.Inputs = append(spec.Inputs, identity.Input{Input: e.Inputs[len(e.Inputs)-1], Source: name})
		}
		spec.Inputs[0].PrimaryKey = []string{"id"}
		if _, err := Build(context.Background(), w, spec); err != nil {
			rt.Fatalf("%v\n%s", err, traitsText(e.Traits))
		}
		for uid := 1; uid <= 3; uid++ {
			for _, c := range e.Traits {
				want := pickedText(c, facts, uid)
				if c.Value != "" {
					want = aggregated(c, facts, uid)
				}
				got := value(t, w, fmt.Sprintf("SELECT %s FROM people WHERE user_id = '%d'", c.Name, uid))
				if !same(got, want) {
					rt.Fatalf("of %d: got %v, want %v\n%s\n%+v", uid, got, want, traitsText([]*config.Trait{c}), facts)
				}
			}
		}
	})
}

// value reads the one value of a query.
func value(t testing.TB, w warehouse.Warehouse, sql string) any {
	t.Helper()
	rows, err := w.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatalf("no row: %s", sql)
	}
	values, err := rows.Values()
	if err != nil {
		t.Fatal(err)
	}
	return values[0]
}

// same compares numbers by value: engines give sums and quotients in types of their own.
func same(got, want any) bool {
	switch want := want.(type) {
	case nil:
		return got == nil
	case int:
		r, ok := new(big.Rat).SetString(fmt.Sprint(got))
		return ok && r.Cmp(big.NewRat(int64(want), 1)) == 0
	case *big.Rat:
		r, ok := new(big.Rat).SetString(fmt.Sprint(got))
		if !ok {
			return false
		}
		far, _ := r.Sub(r, want).Float64()
		return far < 1e-6 && far > -1e-6
	case time.Time:
		at, ok := got.(time.Time)
		return ok && at.Equal(want)
	default:
		return got == want
	}
}

func traitsText(traits []*config.Trait) string {
	var out strings.Builder
	for _, c := range traits {
		fmt.Fprintf(&out, "%s: pick %q from %v value %q where %q order_by %q within %s max_age %s default %v\n",
			c.Name, c.Pick, c.From, c.Value, c.Where, c.OrderBy, c.Within.Duration, c.MaxAge.Duration, c.Default)
	}
	return out.String()
}
