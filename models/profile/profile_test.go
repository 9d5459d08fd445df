package profile

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/models/identity"
)

var asOf = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func open(t testing.TB) warehouse.Warehouse { t.Helper(); return conformance.Open(t) }

func exec(t testing.TB, w warehouse.Warehouse, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := w.Exec(context.Background(), s); err != nil {
			t.Fatalf("%v\n%s", err, s)
		}
	}
}

// query gives rows as text, columns by a bar, sorted.
func query(t testing.TB, w warehouse.Warehouse, sql string) []string {
	t.Helper()
	rows, err := w.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	defer rows.Close()
	out := []string{}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		parts := make([]string, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case nil:
				parts[i] = "NULL"
			case time.Time:
				parts[i] = v.Format("2006-01-02")
			case string: // a literal 5.0 is exact on one engine and floating on another
				if f, err := strconv.ParseFloat(v, 64); err == nil && strings.Contains(v, ".") {
					v = strconv.FormatFloat(f, 'g', -1, 64)
				}
				parts[i] = v
			default:
				parts[i] = fmt.Sprint(v)
			}
		}
		out = append(out, strings.Join(parts, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return out
}

// specs are those of an entity person with user_id and email, over orders(uid, mail, amount, status, name, city, ts) and
// letters(mail, name, city, ts).
func specs(traits ...*config.Trait) (identity.Spec, Spec) {
	e := &config.Entity{
		Name:        "person",
		Identifiers: []*config.Identifier{{Name: "user_id"}, {Name: "email", Normalize: &config.Normalize{Kind: "email"}}},
		Inputs: []*config.Input{
			{Name: "orders", Identifiers: map[string]string{"user_id": "uid", "email": "mail"}, At: "ts"},
			{Name: "letters", Identifiers: map[string]string{"email": "mail"}, At: "ts"},
		},
		Traits: traits,
	}
	var inputs []identity.Input
	for _, in := range e.Inputs {
		inputs = append(inputs, identity.Input{Input: in, Source: in.Name})
	}
	inputs[0].PrimaryKey = []string{"id"}
	ids, merges, profiles := warehouse.Table{Name: "identity_person"}, warehouse.Table{Name: "identity_person_merges"}, warehouse.Table{Name: "profiles_person"}
	return identity.Spec{Entity: e, Inputs: inputs, Target: ids, Merges: merges, Prior: ids, PriorMerges: merges, AsOf: asOf, Salt: "test"},
		Spec{Entity: e, Inputs: inputs, Identity: ids, Target: profiles, Prior: profiles, AsOf: asOf}
}

func shop(t testing.TB) warehouse.Warehouse {
	w := open(t)
	exec(t, w, `CREATE TABLE orders AS SELECT * FROM (VALUES
		(1, 1, 'ann@x.dk', 10.5, 'completed', 'Ann', 'Aarhus', TIMESTAMP '2025-01-02'),
		(2, 1, 'ann@work.dk', 20.0, 'completed', 'Anna', '', TIMESTAMP '2025-12-30'),
		(3, 1, NULL, 5.0, 'returned', NULL, 'Odense', TIMESTAMP '2025-12-31'),
		(4, 2, 'bo@x.dk', 7.0, 'returned', 'Bo', 'Ribe', TIMESTAMP '2025-06-01'),
		(5, 2, 'bo@x.dk', 7.0, 'open', 'Bob', 'Ribe', TIMESTAMP '2025-06-01')) v(id, uid, mail, amount, status, name, city, ts)`,
		`CREATE TABLE letters AS SELECT * FROM (VALUES
		('Ann@x.dk', 'Annie', 'Vejle', TIMESTAMP '2025-12-31'), ('cy@x.dk', 'Cy', NULL, TIMESTAMP '2025-02-01'),
		('cy@x.dk', 'Cyd', NULL, TIMESTAMP '2025-02-02'), ('cy@x.dk', 'Cy', NULL, NULL)) v(mail, name, city, ts)`)
	return w
}

func build(t testing.TB, w warehouse.Warehouse, ids identity.Spec, spec Spec) Result {
	t.Helper()
	if _, err := identity.Build(context.Background(), w, ids); err != nil {
		t.Fatal(err)
	}
	r, err := Build(context.Background(), w, spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func day(n int) config.Duration { return config.Duration{Duration: time.Duration(n) * 24 * time.Hour} }

func TestTraits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		trait config.Trait
		want  string // of user 1, user 2, cy
	}{
		{"most recent", config.Trait{Pick: "most_recent", From: config.Strings{"orders.name"}}, "Anna Bo NULL"},
		{"most recent of two inputs", config.Trait{Pick: "most_recent", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bo Cyd"},
		{"empty is never picked", config.Trait{Pick: "most_recent", From: config.Strings{"orders.city"}}, "Odense Ribe NULL"},
		{"at the same time the earlier in from", config.Trait{Pick: "most_recent", From: config.Strings{"orders.city", "letters.city"}}, "Odense Ribe NULL"},
		{"the later in from the other way round", config.Trait{Pick: "most_recent", From: config.Strings{"letters.city", "orders.city"}}, "Vejle Ribe NULL"},
		{"oldest", config.Trait{Pick: "oldest", From: config.Strings{"orders.name", "letters.name"}}, "Ann Bo Cy"},
		{"most frequent", config.Trait{Pick: "most_frequent", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bo Cy"},
		{"source order", config.Trait{Pick: "source_order", From: config.Strings{"letters.name", "orders.name"}}, "Annie Bo Cyd"},
		{"longest", config.Trait{Pick: "longest", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bob Cyd"},
		{"min", config.Trait{Pick: "min", From: config.Strings{"orders.amount"}}, "5 7 NULL"},
		{"max", config.Trait{Pick: "max", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bob Cyd"},
		{"first", config.Trait{Pick: "first", From: config.Strings{"orders.status"}, OrderBy: "status = 'completed' desc, ts desc"}, "completed returned NULL"},
		{"first of two inputs", config.Trait{Pick: "first", From: config.Strings{"letters.name", "orders.name"}, OrderBy: "length(name), ts desc"}, "Ann Bo Cy"},
		{"where", config.Trait{Pick: "most_recent", From: config.Strings{"orders.name"}, Where: "status <> 'completed'"}, "NULL Bo NULL"},
		{"max_age", config.Trait{Pick: "most_recent", From: config.Strings{"orders.name"}, MaxAge: day(30)}, "Anna NULL NULL"},
		{"default", config.Trait{Pick: "most_recent", From: config.Strings{"orders.name"}, MaxAge: day(30), Default: "nobody"}, "Anna nobody nobody"},
		{"sum", config.Trait{From: config.Strings{"orders"}, Value: "sum(amount)"}, "35.5 14 NULL"},
		{"sum where, default", config.Trait{From: config.Strings{"orders"}, Value: "sum(amount)", Where: "status = 'completed'", Default: 0}, "30.5 0 0"},
		{"count of nothing is 0", config.Trait{From: config.Strings{"orders"}, Value: "count(*)", Within: day(2)}, "2 0 0"},
		{"comments", config.Trait{From: config.Strings{"orders"}, Value: "sum(amount) -- all", Where: "amount > 6 -- or so"}, "30.5 14 NULL"},
		{"scalar with a comment", config.Trait{SQL: "length(email) -- of it"}, "8 7 7"},
		{"expression of aggregates", config.Trait{From: config.Strings{"orders"}, Value: "sum(amount) / count(*)"}, "11.833333333333334 7 NULL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := shop(t)
			trait := c.trait
			trait.Name = "t"
			ids, spec := specs(&trait)
			build(t, w, ids, spec)
			got := query(t, w, "SELECT coalesce(user_id, '3'), t FROM profiles_person")
			for i := range got {
				got[i] = got[i][2:]
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), c.want)
			}
		})
	}
}
