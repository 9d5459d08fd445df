package identity

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
)

// TestMain draws fewer cases than rapid does by itself: each is some builds in a database. -rapid.checks=1000 draws more.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	m.Run()
}

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

var asOf = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// customer is an entity of user_id, email and anonymous_id with these inputs, in the tables t1, t2 …
func customer(inputs ...*config.Input) Spec {
	e := &config.Entity{Name: "customer", Identifiers: []*config.Identifier{
		{Name: "user_id"}, {Name: "email", Normalize: &config.Normalize{Kind: "email"}}, {Name: "anonymous_id"},
	}}
	return specOf(e, inputs...)
}

func specOf(e *config.Entity, inputs ...*config.Input) Spec {
	spec := Spec{
		Entity: e, AsOf: asOf, Salt: "test",
		Target: warehouse.Table{Name: "identity_" + e.Name}, Merges: warehouse.Table{Name: "identity_" + e.Name + "_merges"},
	}
	spec.Prior, spec.PriorMerges = spec.Target, spec.Merges
	for i, in := range inputs {
		if in.Name == "" {
			in.Name = fmt.Sprintf("t%d", i+1)
		}
		e.Inputs = append(e.Inputs, in)
		spec.Inputs = append(spec.Inputs, Input{Input: in, Source: in.Name})
	}
	return spec
}

func build(t testing.TB, w warehouse.Warehouse, spec Spec) Result {
	t.Helper()
	r, err := Build(context.Background(), w, spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// groups gives the values of each profile, sorted: "email:a@x.dk user_id:1".
func groups(t testing.TB, w warehouse.Warehouse) []string {
	t.Helper()
	return query(t, w, `SELECT string_agg(identifier || ':' || value, ' ' ORDER BY identifier, value) FROM identity_customer GROUP BY profile_id`)
}

func TestRowsLinkTheValuesTheyCarry(t *testing.T) {
	t.Parallel()
	w := open(t)
	exec(t, w, `CREATE TABLE t1 AS SELECT * FROM (VALUES
		(1, ' Ann@X.dk ', 'a1', TIMESTAMP '2025-01-02'), (1, 'ann@work.dk', NULL, TIMESTAMP '2025-03-01'),
		(2, NULL, 'a2', TIMESTAMP '2025-01-01'), (NULL, 'bo@x.dk', 'a2', TIMESTAMP '2025-02-01'),
		(NULL, NULL, 'a3', TIMESTAMP '2025-02-01'), (NULL, '', 'null', TIMESTAMP '2025-02-02'), (3, 'no address', '0000', NULL)) v(uid, mail, anon, ts)`)
	r := build(t, w, customer(&config.Input{Identifiers: map[string]string{"user_id": "uid", "email": "mail", "anonymous_id": "anon"}, At: "ts"}))
	want := []string{
		"anonymous_id:a1 email:ann@work.dk email:ann@x.dk user_id:1",
		"anonymous_id:a2 email:bo@x.dk user_id:2",
		"anonymous_id:a3",
		"user_id:3",
	}
	if got := groups(t, w); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Values != 9 || r.Profiles != 4 || r.Born != 4 || r.Unlinked != 1 || r.Ignored["email"] != 2 || r.Ignored["anonymous_id"] != 2 {
		t.Errorf("counts: %+v", r)
	}
	got := query(t, w, "SELECT identifier, value, first_seen_at, last_seen_at FROM identity_customer WHERE value IN ('1', '3')")
	if want := []string{"user_id|1|2025-01-02|2025-03-01", "user_id|3|2026-01-01|NULL"}; strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %v, want %v", got, want)
	}
	if left := query(t, w, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%\\_\\_%' ESCAPE '\\'"); len(left) > 0 {
		t.Errorf("work tables are left: %v", left)
	}
}

// Without times the older profile is the one that an earlier build made, whatever its values are called.
func TestOlderProfileSurvivesWithoutTimes(t *testing.T) {
	t.Parallel()
	w := open(t)
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid", "email": "mail"}})
	day := func(n int, rows string) []string {
		spec.AsOf = asOf.AddDate(0, 0, n)
		exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: "t1"}, "SELECT * FROM (VALUES "+rows+") v(uid, mail)"))
		build(t, w, spec)
		return query(t, w, "SELECT DISTINCT profile_id FROM identity_customer")
	}
	first := day(0, "('zz', 'z@x.dk')")
	day(1, "('zz', 'z@x.dk'), ('aa', 'a@x.dk')")
	merged := day(2, "('zz', 'z@x.dk'), ('aa', 'a@x.dk'), ('aa', 'z@x.dk')")
	if len(first) != 1 || len(merged) != 1 || merged[0] != first[0] {
		t.Errorf("got %v, want the first id to survive: %v", merged, first)
	}
	got := query(t, w, "SELECT value, first_seen_at, last_seen_at FROM identity_customer WHERE identifier = 'user_id'")
	if want := []string{"aa|2026-01-02|NULL", "zz|2026-01-01|NULL"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
