package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

// people are profiles p1 … pn by user_id, with one row each of the input facts.
func people(t testing.TB, w warehouse.Warehouse, columns []string, facts [][]any, traits ...*config.Trait) Spec {
	t.Helper()
	var ids, rows [][]any
	for i, fact := range facts {
		ids = append(ids, member("user_id", i+1, fmt.Sprintf("p%d", i+1)))
		rows = append(rows, append([]any{i + 1}, fact...))
	}
	relation(t, w, "facts", append([]string{"uid INTEGER"}, columns...), rows)
	relation(t, w, "ids", identityColumns, ids)
	e := &config.Entity{
		Name: "person", Identifiers: []*config.Identifier{{Name: "user_id"}}, Traits: traits,
		Inputs: []*config.Input{{Name: "facts", Identifiers: map[string]string{"user_id": "uid"}}},
	}
	return Spec{
		Entity: e, Inputs: []identity.Input{{Input: e.Inputs[0], Source: "facts"}}, Identity: warehouse.Table{Name: "ids"},
		Target: warehouse.Table{Name: "people"}, Prior: warehouse.Table{Name: "people"}, AsOf: asOf,
	}
}

// latest is the value of the one row that a person has.
func latest(name string) *config.Trait {
	return &config.Trait{Name: name, Pick: "source_order", From: config.Strings{"facts." + name}}
}

// Of any values, a quintile is one more than the fifths of all that have one which are wholly below it.
func TestQuintiles(t *testing.T) {
	t.Parallel()
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(0, 12).Draw(rt, "most")
		facts := make([][]any, rapid.IntRange(1, 14).Draw(rt, "people"))
		for i := range facts {
			facts[i] = []any{nil}
			if n := rapid.IntRange(-1, most).Draw(rt, "n"); n >= 0 {
				facts[i][0] = n
			}
		}
		spec := people(t, w, []string{"n INTEGER"}, facts, latest("n"),
			&config.Trait{Name: "up", Quintile: "N"}, &config.Trait{Name: "down", Quintile: "n", Order: "desc", Default: 9},
			&config.Trait{Name: "twice", SQL: "n * 2"}, &config.Trait{Name: "later", Quintile: "twice"}, &config.Trait{Name: "score", SQL: "later * 10 + down"})
		if _, err := Build(context.Background(), w, spec); err != nil {
			rt.Fatal(err)
		}
		var want []string
		for i, fact := range facts {
			n, ok := fact[0].(int)
			if !ok {
				want = append(want, fmt.Sprintf("%d|NULL|9|NULL|NULL", i+1))
				continue
			}
			below, above, all := 0, 0, 0
			for _, other := range facts {
				if m, ok := other[0].(int); ok {
					all++
					below += map[bool]int{true: 1}[m < n]
					above += map[bool]int{true: 1}[m > n]
				}
			}
			up, down := 1+5*below/all, 1+5*above/all
			want = append(want, fmt.Sprintf("%d|%d|%d|%d|%d", i+1, up, down, up, up*10+down))
		}
		sort.Strings(want)
		if got := query(t, w, "SELECT user_id, up, down, later, score FROM people"); !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v of %v", got, want, facts)
		}
	})
}

// A profile of refused values only is nobody's: it is in no fifth, and does not move those of others.
func TestQuintilesWithoutTheShared(t *testing.T) {
	t.Parallel()
	w := open(t)
	spec := people(t, w, []string{"n INTEGER"}, [][]any{{1}, {2}, {3}, {4}, {5}, {6}}, latest("n"), &config.Trait{Name: "fifth", Quintile: "n"})
	spec.Entity.Identifiers[0].Limit = 1
	exec(t, w, "UPDATE ids SET profile_id = NULL, refused = 'limit' WHERE value = '1'")
	if _, err := Build(context.Background(), w, spec); err != nil {
		t.Fatal(err)
	}
	got := query(t, w, "SELECT coalesce(user_id, 'shared'), n, fifth FROM people")
	if want := []string{"2|2|1", "3|3|2", "4|4|3", "5|5|4", "6|6|5", "shared|1|NULL"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

type held struct {
	id, trait, value string
	from, to         time.Time
}

func (h held) String() string {
	to := "NULL"
	if !h.to.IsZero() {
		to = h.to.Format("2006-01-02")
	}
	return strings.Join([]string{h.id, h.trait, h.value, h.from.Format("2006-01-02"), to}, "|")
}

// Over any builds, also of one time twice and of the past, the history says which value was held from when to when.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		exec(t, w, "DROP TABLE IF EXISTS people", "DROP TABLE IF EXISTS people_history")
		now := asOf
		var rows []held
		for range rapid.IntRange(1, 6).Draw(rt, "builds") {
			now = now.AddDate(0, 0, rapid.SampledFrom([]int{1, 1, 1, 0, -1}).Draw(rt, "days"))
			facts := make([][]any, rapid.IntRange(1, 3).Draw(rt, "people"))
			for i := range facts {
				facts[i] = []any{maybe(rt, "n", 1, 2), maybe(rt, "s", "a", "b")}
			}
			both := &config.Trait{Name: "both", SQL: "case n when 1 then '1' || s when 2 then '2' || s end", History: true}
			n := latest("n")
			n.History = true
			spec := people(t, w, []string{"n INTEGER", "s VARCHAR"}, facts, n, latest("s"), both)
			spec.AsOf, spec.History = now, warehouse.Table{Name: "people_history"}
			if _, err := Build(context.Background(), w, spec); err != nil {
				rt.Fatal(err)
			}
			rows = remembered(rows, facts, now)
			want := []string{}
			for _, h := range rows {
				want = append(want, h.String())
			}
			sort.Strings(want)
			d := w.Dialect()
			got := query(t, w, fmt.Sprintf("SELECT profile_id, %s, %s, valid_from, valid_to FROM people_history", d.Quote("trait"), d.Quote("value")))
			if !slices.Equal(got, want) {
				rt.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// remembered is what a history holds after one more build.
func remembered(rows []held, facts [][]any, now time.Time) []held {
	for _, h := range rows {
		if h.from.After(now) || h.to.After(now) {
			return rows
		}
	}
	values := map[[2]string]string{}
	for i, fact := range facts {
		id := "p" + strconv.Itoa(i+1)
		if fact[0] != nil {
			values[[2]string{id, "n"}] = fmt.Sprint(fact[0])
		}
		if fact[0] != nil && fact[1] != nil {
			values[[2]string{id, "both"}] = fmt.Sprint(fact[0], fact[1])
		}
	}
	var out []held
	for _, h := range rows {
		key := [2]string{h.id, h.trait}
		if h.to.IsZero() {
			if values[key] == h.value {
				delete(values, key)
			} else {
				h.to = now
			}
		}
		if !h.from.Equal(h.to) {
			out = append(out, h)
		}
	}
	for key, v := range values {
		out = append(out, held{key[0], key[1], v, now, time.Time{}})
	}
	return out
}

// A trait that is not kept any more leaves what is known of it; a build beside writes none.
func TestHistoryOfChosenTraits(t *testing.T) {
	t.Parallel()
	w := open(t)
	run := func(n int, kept string, days int) {
		t.Helper()
		spec := people(t, w, []string{"n INTEGER", "s VARCHAR"}, [][]any{{n, "a"}}, latest("n"), latest("s"))
		for _, c := range spec.Entity.Traits {
			c.History = c.Name == kept
		}
		spec.AsOf, spec.History = asOf.AddDate(0, 0, days), warehouse.Table{Name: "people_history"}
		if _, err := Build(context.Background(), w, spec); err != nil {
			t.Fatal(err)
		}
		if days == 2 {
			spec.Target, spec.History, spec.AsOf = warehouse.Table{Name: "beside"}, warehouse.Table{}, asOf.AddDate(1, 0, 0)
			if _, err := Build(context.Background(), w, spec); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(1, "n", 0)
	run(2, "s", 1)
	run(3, "n", 2)
	d := w.Dialect()
	got := query(t, w, fmt.Sprintf("SELECT %s, %s, valid_from, valid_to FROM people_history", d.Quote("trait"), d.Quote("value")))
	if want := []string{"n|1|2026-01-01|2026-01-03", "n|3|2026-01-03|NULL", "s|a|2026-01-02|NULL"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Of any values, a relation leads to the profile that has the value, as the other's identifier is written there; to none of what is
// refused, nobody's or NULL.
func TestRelations(t *testing.T) {
	t.Parallel()
	w := open(t)
	firm := &config.Entity{
		Name:        "firm",
		Identifiers: []*config.Identifier{{Name: "firm_id", Limit: 1}, {Name: "mail", Normalize: &config.Normalize{Kind: "email"}}},
		Traits:      []*config.Trait{{Name: "MRR"}, {Name: "n"}},
	}
	rapid.Check(t, func(rt *rapid.T) {
		owner := map[string]any{} // of a firm's value
		var ids, firms [][]any
		for _, v := range []string{"firm_id 1", "firm_id 2", "firm_id 3", "mail a@x.dk", "mail b@x.dk"} {
			identifier, value, _ := strings.Cut(v, " ")
			owner[v] = maybe(rt, "owner", "f1", "f2")
			row := member(identifier, value, owner[v])
			if refused := maybe(rt, "refused", "limit: 1"); refused != nil { // it may be lent
				row[3], owner[v] = refused, nil
			}
			ids = append(ids, row)
		}
		mrr := map[any]any{"f1": maybe(rt, "mrr", 10, 20), "f2": maybe(rt, "mrr", 10, 20)}
		firms = append(firms, []any{"f1", mrr["f1"], 7}, []any{"f2", mrr["f2"], 8})
		relation(t, w, "firm_ids", identityColumns, ids)
		relation(t, w, "firms", []string{"profile_id VARCHAR", w.Dialect().Quote("MRR") + " INTEGER", "n INTEGER"}, firms)

		facts := make([][]any, rapid.IntRange(1, 4).Draw(rt, "people"))
		for i := range facts {
			facts[i] = []any{maybe(rt, "n", 1, 2, 3, 4), maybe(rt, "mail", "a@x.dk", "A@X.dk ", "b@x.dk", "nobody")}
		}
		spec := people(t, w, []string{"n INTEGER", "mail VARCHAR"}, facts, latest("n"), latest("mail"),
			&config.Trait{Name: "a", SQL: "firm.mrr"}, &config.Trait{Name: "b", SQL: "coalesce(writer.\"mrr\", 0) + n -- firm.mrr"}, &config.Trait{Name: "c", SQL: "both.Mrr", Default: -1},
			&config.Trait{Name: "d", SQL: "a + firm.n"}, &config.Trait{Name: "m", SQL: "n + 1"}, &config.Trait{Name: "e", SQL: "next.mrr"})
		for _, r := range []config.Relation{
			{Name: "firm", On: map[string]string{"n": "firm_id"}},
			{Name: "writer", On: map[string]string{"mail": "mail"}},
			{Name: "both", On: map[string]string{"n": "firm_id", "mail": "mail"}},
			{Name: "next", On: map[string]string{"m": "firm_id"}},
		} {
			r.Entity = "firm"
			spec.Entity.Relations = append(spec.Entity.Relations, &r)
			spec.Relations = append(spec.Relations, Related{Relation: &r, Other: firm, Identity: warehouse.Table{Name: "firm_ids"}, Profiles: warehouse.Table{Name: "firms"}})
		}
		if w.Dialect().Name() == "bigquery" { // whose quotes are others
			spec.Entity.Traits[3].SQL = "coalesce(writer.`mrr`, 0) + n -- firm.mrr"
		}
		if _, err := Build(context.Background(), w, spec); err != nil {
			rt.Fatal(err)
		}
		text := func(v any, more int) string {
			if n, ok := v.(int); ok {
				return strconv.Itoa(n + more)
			}
			return "NULL"
		}
		var want []string
		for i, fact := range facts {
			byID := func(more int) any {
				if n, ok := fact[0].(int); ok {
					return owner["firm_id "+strconv.Itoa(n+more)]
				}
				return nil
			}
			var byMail any
			if mail, ok := fact[1].(string); ok {
				byMail = owner["mail "+strings.ToLower(strings.TrimSpace(mail))]
			}
			a, b, c, d := text(mrr[byID(0)], 0), "NULL", "-1", "NULL"
			if n, ok := fact[0].(int); ok {
				mailed, _ := mrr[byMail].(int)
				b = strconv.Itoa(mailed + n)
			}
			if byMail != nil && byMail == byID(0) && mrr[byMail] != nil {
				c = text(mrr[byMail], 0)
			}
			if f := byID(0); f != nil {
				d = text(mrr[f], map[any]int{"f1": 7, "f2": 8}[f])
			}
			want = append(want, strings.Join([]string{strconv.Itoa(i + 1), a, b, c, d, text(mrr[byID(1)], 0)}, "|"))
		}
		sort.Strings(want)
		if got := query(t, w, "SELECT user_id, a, b, c, d, e FROM people"); !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v\nof %v, firms %v, values %v", got, want, facts, firms, ids)
		}
	})
}

// Lists, counts of distinct values, first and last values, and ratios, also of nothing.
func TestAggregates(t *testing.T) {
	t.Parallel()
	list := "array_agg(DISTINCT name ORDER BY name)"
	if conformance.Carried() == "snowflake" {
		list = "array_agg(DISTINCT name) WITHIN GROUP (ORDER BY name)"
	}
	for _, c := range []struct {
		name   string
		traits []*config.Trait // the last is shown
		want   string          // of user 1, user 2, cy
	}{
		{"a list", []*config.Trait{{From: config.Strings{"orders"}, Value: list, Where: "name IS NOT NULL"}}, `["Ann","Anna"] ["Bo","Bob"] NULL`},
		{"distinct", []*config.Trait{{From: config.Strings{"orders"}, Value: "count(DISTINCT status)"}}, "2 2 0"},
		{"distinct in a window", []*config.Trait{{From: config.Strings{"orders"}, Value: "count(DISTINCT status)", Within: day(3)}}, "2 0 0"},
		{"the first of some", []*config.Trait{{Pick: "oldest", From: config.Strings{"orders.amount"}, Where: "status = 'completed'"}}, "10.5 NULL NULL"},
		{"the last of some in a window", []*config.Trait{{Pick: "most_recent", From: config.Strings{"orders.amount"}, Where: "status = 'completed'", Within: day(3)}}, "20 NULL NULL"},
		{"a ratio of rows", []*config.Trait{{From: config.Strings{"orders"}, Value: "sum(CASE WHEN status = 'returned' THEN 1.0 ELSE 0 END) / nullif(count(name), 0)", Default: 0}}, "0.5 0.5 0"},
		{"a ratio of traits", []*config.Trait{
			{Name: "returned", From: config.Strings{"orders"}, Value: "count(*)", Where: "status = 'returned'"},
			{Name: "all_", From: config.Strings{"orders"}, Value: "count(*)"},
			{SQL: "returned * 1.5 / nullif(all_, 0)"},
		}, "0.5 0.75 NULL"},
		{"of one row, and what decides among equal ones", []*config.Trait{{Names: []string{"name", "t"}, Pick: "most_recent", From: config.Strings{"moves"}, OrderBy: "t desc"}}, "Ribe Vejle NULL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := shop(t)
			exec(t, w, "CREATE TABLE moves AS SELECT uid, name, city AS t, ts FROM (VALUES (1, 'a', 'Aarhus', TIMESTAMP '2025-01-02'), (1, 'b', 'Ribe', TIMESTAMP '2025-01-02'), (2, 'c', 'Vejle', TIMESTAMP '2025-01-03')) v(uid, name, city, ts)")
			last := c.traits[len(c.traits)-1]
			if len(last.Names) == 0 {
				last.Name = "t"
			}
			ids, spec := specs(c.traits...)
			spec.Entity.Inputs = append(spec.Entity.Inputs, &config.Input{Name: "moves", Identifiers: map[string]string{"user_id": "uid"}, At: "ts"})
			spec.Inputs = append(spec.Inputs, identity.Input{Input: spec.Entity.Inputs[2], Source: "moves"})
			ids.Inputs = spec.Inputs
			build(t, w, ids, spec)
			columns, err := w.Columns(context.Background(), "SELECT t FROM profiles_person")
			if err != nil {
				t.Fatal(err)
			}
			got := query(t, w, "SELECT coalesce(user_id, '3'), "+w.Dialect().Wire("t", columns[0])+" FROM profiles_person")
			for i := range got {
				got[i] = strings.ReplaceAll(got[i][2:], " ", "")
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), c.want)
			}
			// A second build of the same changes nobody, whatever an aggregate's order.
			spec.AsOf = spec.AsOf.Add(time.Hour)
			if again := build(t, w, ids, spec); again.Changed != 0 {
				t.Errorf("%d profiles changed", again.Changed)
			}
		})
	}
}

// What compiles and fails on a value is an error at the trait, with the way out.
func TestDivisionByZero(t *testing.T) {
	t.Parallel()
	if conformance.Postgres() == "" {
		t.Skip("DuckDB divides by zero without an error: " + conformance.PostgresVar + " names a server")
	}
	for _, traits := range [][]*config.Trait{
		{latest("n"), {Name: "t", SQL: "1 / n"}},
		{{Name: "t", From: config.Strings{"facts"}, Value: "sum(1) / sum(n)"}},
	} {
		w := open(t)
		_, err := Build(context.Background(), w, people(t, w, []string{"n INTEGER"}, [][]any{{1}, {0}}, traits...))
		var e *diag.Error
		if !errors.As(err, &e) || e.Code != "trait.sql" || !strings.Contains(e.Error(), "trait t: division by zero (where it divides: a / nullif(b, 0)") {
			t.Errorf("got %v", err)
		}
	}
}

func TestQuintileOfText(t *testing.T) {
	t.Parallel()
	w := open(t)
	_, err := Build(context.Background(), w, people(t, w, []string{"s VARCHAR"}, [][]any{{"a"}}, latest("s"), &config.Trait{Name: "t", Quintile: "s"}))
	if err == nil || !strings.Contains(err.Error(), "a quintile goes by a number or a time, and s is text") {
		t.Errorf("got %v", err)
	}
}
