package identity

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// row is one row of an input: a value for each identifier, "" = NULL, and a day.
type row struct {
	values [3]string
	day    int // 0 = NULL
}

func rowsOf(t *rapid.T, name string) []row {
	value := rapid.SampledFrom([]string{"", "", "a", "b", "c", "d", "e", "f", "g"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) row {
		return row{values: [3]string{value.Draw(t, "user"), value.Draw(t, "email"), value.Draw(t, "anon")}, day: rapid.IntRange(0, 3).Draw(t, "day")}
	}), 0, 14).Draw(t, name)
}

// text turns a drawn value into the one that stands in the table, and key into the one that is stored.
func (r row) text(i int) string {
	if r.values[i] == "" {
		return "NULL"
	}
	if i == 1 {
		return "' " + strings.ToUpper(r.values[i]) + "@X.dk'"
	}
	return "'" + r.values[i] + "'"
}

var identifierNames = [3]string{"user_id", "email", "anonymous_id"}

func (r row) key(i int) string {
	if i == 1 {
		return "email:" + r.values[i] + "@x.dk"
	}
	return identifierNames[i] + ":" + r.values[i]
}

// keys are the values that the row carries, most trusted first.
func (r row) keys() []string {
	var out []string
	for i, v := range r.values {
		if v != "" {
			out = append(out, r.key(i))
		}
	}
	return out
}

func load(t testing.TB, w warehouse.Warehouse, table string, rows []row) {
	values := []string{"(NULL, NULL, NULL, NULL)"} // also a row that carries nothing
	for _, r := range rows {
		day := "NULL"
		if r.day > 0 {
			day = fmt.Sprintf("TIMESTAMP '2025-01-%02d'", r.day)
		}
		values = append(values, fmt.Sprintf("(%s, %s, %s, %s)", r.text(0), r.text(1), r.text(2), day))
	}
	exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: table}, fmt.Sprintf(`SELECT CAST(uid AS VARCHAR) AS uid, CAST(mail AS VARCHAR) AS mail, CAST(anon AS VARCHAR) AS anon, CAST(ts AS TIMESTAMP) AS ts
		FROM (VALUES %s) v(uid, mail, anon, ts)`, strings.Join(values, ", "))))
}

func allColumns(name string) *config.Input {
	return &config.Input{Name: name, Identifiers: map[string]string{"user_id": "uid", "email": "mail", "anonymous_id": "anon"}, At: "ts"}
}

// naive is the partition by a union-find over all rows.
func naive(rows []row) map[string]string {
	parent := map[string]string{}
	var find func(string) string
	find = func(k string) string {
		if _, ok := parent[k]; !ok {
			parent[k] = k
		}
		if parent[k] == k {
			return k
		}
		parent[k] = find(parent[k])
		return parent[k]
	}
	for _, r := range rows {
		keys := r.keys()
		for _, k := range keys {
			parent[find(k)] = find(keys[0])
		}
	}
	out := map[string]string{}
	for k := range parent {
		out[k] = find(k)
	}
	return out
}

// grouped writes a partition as sorted groups of sorted values.
func grouped(of map[string]string) []string {
	members := map[string][]string{}
	for k, g := range of {
		members[g] = append(members[g], k)
	}
	out := []string{}
	for _, m := range members {
		sort.Strings(m)
		out = append(out, strings.Join(m, " "))
	}
	sort.Strings(out)
	return out
}

// owners reads the built table: value → profile id; of what was refused also where it is lent to somebody it is NULL.
func owners(t testing.TB, w warehouse.Warehouse) map[string]string {
	out := map[string]string{}
	for _, line := range query(t, w, "SELECT identifier || ':' || value, CASE WHEN refused IS NULL THEN profile_id END FROM identity_customer") {
		key, id, _ := strings.Cut(line, "|")
		out[key] = id
	}
	return out
}

// buildWith builds with all edges but few left to the warehouse's rounds, and so many disputed values decided at a time.
func buildWith(t testing.TB, w warehouse.Warehouse, spec Spec, finish, atOnce int64) Result {
	b := newBuilder(w, spec)
	b.finish, b.atOnce = finish, atOnce
	defer b.drop(context.Background())
	if err := b.build(context.Background()); err != nil {
		t.Fatal(err)
	}
	return b.result
}

func TestIdentityIsUnionFind(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		one, two := rowsOf(rt, "one"), rowsOf(rt, "two")
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		load(t, w, "t1", one)
		load(t, w, "t2", two)
		finish := rapid.SampledFrom([]int64{0, 2, finishBelow}).Draw(rt, "finish")
		buildWith(t, w, customer(allColumns("t1"), allColumns("t2")), finish, decideAtOnce)
		got, want := grouped(owners(t, w)), grouped(naive(append(slices.Clone(one), two...)))
		if !slices.Equal(got, want) {
			rt.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestLinkFalseMergesNobody: the rows of a joined input change nothing, and belong to whom their most trusted known value does.
func TestLinkFalseMergesNobody(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		linking, joined := rowsOf(rt, "linking"), rowsOf(rt, "joined")
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		load(t, w, "t1", linking)
		load(t, w, "t2", joined)
		no := false
		second := allColumns("t2")
		second.Link = &no
		spec := customer(allColumns("t1"), second)
		buildWith(t, w, spec, finishBelow, decideAtOnce)
		of := owners(t, w)
		if got, want := grouped(of), grouped(naive(linking)); !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v", got, want)
		}
		var want []string
		for _, r := range joined {
			for _, k := range r.keys() {
				if id, ok := of[k]; ok {
					want = append(want, id)
					break
				}
			}
		}
		sort.Strings(want)
		rows, err := Rows(context.Background(), w, spec.Entity, spec.Inputs[1], spec.Target)
		if err != nil {
			rt.Fatal(err)
		}
		if got := query(t, w, "SELECT "+ProfileColumn+" FROM "+rows+" AS r"); !slices.Equal(got, append([]string{}, want...)) {
			rt.Fatalf("rows belong to %v, want %v", got, want)
		}
	})
}

// TestIDsAreKept draws histories of inputs: whatever merges and splits, every profile that holds the oldest value of an earlier
// one keeps an id of its past, no id ever comes back for others, and what moved is recorded.
func TestIDsAreKept(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		spec := customer(allColumns("t1"))
		var before map[string]string
		var seen map[string]int   // value → its day, as the build before knew it
		gone := map[string]bool{} // ids that ended in another
		for build := range rapid.IntRange(2, 4).Draw(rt, "builds") {
			rows := rowsOf(rt, fmt.Sprintf("rows%d", build))
			load(t, w, "t1", rows)
			result := buildWith(t, w, spec, finishBelow, decideAtOnce)
			after := owners(t, w)
			if got, want := grouped(after), grouped(naive(rows)); !slices.Equal(got, want) {
				rt.Fatalf("got %v, want %v", got, want)
			}
			if before != nil {
				checkKept(rt, before, after, ages(rows, seen), gone)
			}
			seen = days(rows, seen)
			_ = result
			again := buildWith(t, w, spec, finishBelow, decideAtOnce)
			if again.Born+again.Merged+again.Split != 0 {
				rt.Fatalf("the same rows again: %+v", again)
			}
			if same := owners(t, w); !sameMap(same, after) {
				rt.Fatalf("the same rows again gave %v, not %v", same, after)
			}
			for _, line := range query(t, w, "SELECT from_id FROM identity_customer_merges WHERE rule = 'merge'") {
				gone[line] = true
			}
			before = after
		}
	})
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// ages orders values as the oldest identifier is found: first seen, then trust, then the value.
func ages(rows []row, seen map[string]int) map[string]string {
	out := map[string]string{}
	when := days(rows, seen)
	for _, r := range rows {
		for i, v := range r.values {
			if v != "" {
				out[r.key(i)] = fmt.Sprintf("%02d %d %s", when[r.key(i)], i, r.key(i))
			}
		}
	}
	return out
}

// days are the first days of the values of rows; of those without one, what the build before knew, else the day of the builds: 99.
func days(rows []row, seen map[string]int) map[string]int {
	out := map[string]int{}
	for _, r := range rows {
		for _, key := range r.keys() {
			if day, ok := out[key]; r.day > 0 && (!ok || r.day < day) {
				out[key] = r.day
			}
		}
	}
	for _, r := range rows {
		for _, key := range r.keys() {
			if _, ok := out[key]; ok {
				continue
			}
			out[key] = 99
			if day, ok := seen[key]; ok {
				out[key] = day
			}
		}
	}
	return out
}

// checkKept holds one build against the one before, by the rule written out plainly.
func checkKept(rt *rapid.T, before, after, age map[string]string, gone map[string]bool) {
	oldest := map[string]string{} // prior id → its oldest value that is still there
	for value, id := range before {
		if _, there := after[value]; !there {
			continue
		}
		if o, ok := oldest[id]; !ok || age[value] < age[o] {
			oldest[id] = value
		}
	}
	heir := map[string]string{} // new id → prior id that should survive in it
	for id, value := range oldest {
		now := after[value]
		if h, ok := heir[now]; !ok || age[value] < age[oldest[h]] {
			heir[now] = id
		}
	}
	used := map[string]bool{}
	for _, id := range before {
		used[id] = true
	}
	for value, id := range after {
		if want, ok := heir[id]; ok && id != want {
			rt.Fatalf("the profile of %s is %s, want the id %s kept", value, id, want)
		}
		if _, ok := heir[id]; !ok && (used[id] || gone[id]) {
			rt.Fatalf("the new profile of %s has an id that was another's", value)
		}
	}
}
