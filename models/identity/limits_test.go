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

// rules are what may refuse values, and what nothing refuses.
type rules struct {
	limits, shared [3]int
	lent           [3]string   // on_refused
	always, never  [][2]string // keys of values
}

// reference decides as DESIGN §12 says it, on sets of texts: level by level, the oldest value first. Pairs that are always one are a
// level above all. before is when builds before met the values. elsewhere are the refused values that their own identifier's rules
// would have let be.
func reference(rows []row, r rules) (of map[string]string, refused []string, elsewhere map[string]bool) {
	elsewhere = map[string]bool{}
	age := ages(rows, nil)
	var groups []map[string]bool // of values
	// A line is a row, or one side of a pair, as the keys it has, the most trusted first; "" where it has none.
	var lines [][]string
	for _, x := range rows {
		line := make([]string, 4)
		for i := range x.values {
			if x.values[i] != "" {
				line[i+1] = x.key(i)
			}
		}
		lines = append(lines, line)
	}
	there := map[string]bool{}
	for _, line := range lines {
		for _, key := range line {
			there[key] = true
		}
	}
	forced := map[string]bool{}
	for n, pair := range r.always {
		for _, key := range pair {
			if !there[key] {
				continue
			}
			forced[key] = true
			line := []string{fmt.Sprintf("always:%d", n), "", "", ""}
			line[1+slices.Index(identifierNames[:], strings.SplitN(key, ":", 2)[0])] = key
			lines = append(lines, line)
		}
	}
	attached := make([]map[string]bool, len(lines))
	touched := func(level int, v string) []map[string]bool {
		var out []map[string]bool
		for i, line := range lines {
			if line[level] == v && attached[i] != nil && !slices.ContainsFunc(out, func(g map[string]bool) bool { return sameGroup(g, attached[i]) }) {
				out = append(out, attached[i])
			}
		}
		return out
	}
	for level := range 4 {
		var values []string
		for _, line := range lines {
			if line[level] != "" && !slices.Contains(values, line[level]) {
				values = append(values, line[level])
			}
		}
		sort.Slice(values, func(i, j int) bool { return age[values[i]] < age[values[j]] })
		tooShared := map[string]bool{}
		for _, v := range values {
			tooShared[v] = level > 0 && r.shared[level-1] > 0 && len(touched(level, v)) > r.shared[level-1]
		}
		for _, v := range values {
			joined, apart := map[string]bool{v: true}, []map[string]bool{{v: true}}
			worst := [3]int{}
			for _, g := range touched(level, v) {
				apart = append(apart, g)
				for value := range g {
					joined[value] = true
				}
				for l := range worst {
					worst[l] = max(worst[l], counted(g, l))
				}
			}
			if !forced[v] && (tooShared[v] || overLimit(joined, r.limits, worst) || r.parts(apart)) {
				refused = append(refused, v)
				elsewhere[v] = !tooShared[v] && firstOver(joined, r.limits, worst) != level-1
				continue
			}
			groups = slices.DeleteFunc(groups, func(g map[string]bool) bool {
				for value := range g {
					return joined[value]
				}
				return false
			})
			groups = append(groups, joined)
			for i, line := range lines {
				for value := range attached[i] {
					if joined[value] {
						attached[i] = joined
						break
					}
				}
				if line[level] == v {
					attached[i] = joined
				}
			}
		}
	}
	of = map[string]string{}
	for i, g := range groups {
		for value := range g {
			if !strings.HasPrefix(value, "always:") {
				of[value] = fmt.Sprint(i)
			}
		}
	}
	sort.Strings(refused)
	return of, refused, elsewhere
}

func sameGroup(a, b map[string]bool) bool {
	for v := range a {
		return b[v]
	}
	return false
}

// parts tells whether two of these groups hold a pair that is never one.
func (r rules) parts(groups []map[string]bool) bool {
	for i, a := range groups {
		for j, b := range groups {
			for _, pair := range r.never {
				if i != j && a[pair[0]] && b[pair[1]] {
					return true
				}
			}
		}
	}
	return false
}

func counted(group map[string]bool, level int) int {
	n := 0
	for value := range group {
		if strings.HasPrefix(value, identifierNames[level]+":") {
			n++
		}
	}
	return n
}

// overLimit: a group that was over a limit before, by a decision, may stay as it is.
func overLimit(group map[string]bool, limits, before [3]int) bool {
	return firstOver(group, limits, before) >= 0
}

// firstOver is the most trusted identifier of which a group has too many; -1 = none.
func firstOver(group map[string]bool, limits, before [3]int) int {
	for level, limit := range limits {
		if n := counted(group, level); limit > 0 && n > limit && n > before[level] {
			return level
		}
	}
	return -1
}

// lentTo is for each refused value that is lent a value of the profile that it is lent to.
func lentTo(rows []row, r rules, of map[string]string, elsewhere map[string]bool) map[string]string {
	type met struct {
		day   int
		owner string
	}
	out := map[string]string{}
	for level, how := range r.lent {
		all := map[string][]met{}
		for _, x := range rows {
			if x.values[level] == "" || !elsewhere[x.key(level)] || (how != "latest" && how != "first") {
				continue
			}
			for above := range level {
				if x.values[above] != "" && of[x.key(above)] != "" {
					all[x.key(level)] = append(all[x.key(level)], met{x.day, x.key(above)})
					break
				}
			}
		}
		for v, people := range all {
			sort.Slice(people, func(i, j int) bool {
				a, b := people[i], people[j]
				switch {
				case a.day == b.day:
					x, y := strings.SplitN(a.owner, ":", 2), strings.SplitN(b.owner, ":", 2)
					if x[0] != y[0] {
						return slices.Index(identifierNames[:], x[0]) < slices.Index(identifierNames[:], y[0])
					}
					return x[1] < y[1]
				case a.day == 0 || b.day == 0: // no time comes last
					return b.day == 0
				}
				return (a.day < b.day) == (how == "first")
			})
			out[v] = people[0].owner
		}
	}
	return out
}

func drawRules(t *rapid.T) rules {
	var r rules
	key := rapid.Custom(func(t *rapid.T) string {
		of := row{}
		i := rapid.IntRange(0, 2).Draw(t, "identifier")
		of.values[i] = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"}).Draw(t, "value")
		return of.key(i)
	})
	for i := range r.limits {
		r.limits[i] = rapid.IntRange(0, 3).Draw(t, identifierNames[i])
		r.shared[i] = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, identifierNames[i]+" shared")
		r.lent[i] = rapid.SampledFrom([]string{"", "none", "latest", "first"}).Draw(t, identifierNames[i]+" lent")
	}
	pairs := func(label string) (out [][2]string) {
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, label) {
			if p := [2]string{key.Draw(t, label), key.Draw(t, label)}; p[0] != p[1] {
				out = append(out, p)
			}
		}
		return out
	}
	r.always, r.never = pairs("always"), pairs("never")
	return r
}

// on puts the rules into an entity; every other decision stands in a table.
func (r rules) on(t *testing.T, w warehouse.Warehouse, spec *Spec) {
	for i, id := range spec.Entity.Identifiers {
		id.Limit, id.SharedAbove, id.OnRefused = r.limits[i], r.shared[i], r.lent[i]
	}
	if len(r.always)+len(r.never) == 0 {
		return
	}
	d := &config.Decisions{}
	table := []string{"SELECT CAST('never' AS VARCHAR) AS verdict, CAST('user_id:nobody' AS VARCHAR) AS a, CAST('user_id:somebody' AS VARCHAR) AS b"}
	for verdict, pairs := range map[string][][2]string{"always": r.always, "never": r.never} {
		for i, p := range pairs {
			switch {
			case i > 0:
				table = append(table, fmt.Sprintf("SELECT '%s', '%s', '%s'", strings.ToUpper(verdict), p[0], p[1]))
			case verdict == "always":
				d.Always = append(d.Always, p[:])
			default:
				d.Never = append(d.Never, p[:])
			}
		}
	}
	exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: "decided"}, strings.Join(table, " UNION ALL ")))
	spec.Entity.Decisions, spec.Decisions = d, "decided"
}

func TestLimitsEqualTheSequentialOrder(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		one, two := rowsOf(rt, "one"), rowsOf(rt, "two")
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		load(t, w, "t1", one)
		load(t, w, "t2", two)
		spec := customer(allColumns("t1"), allColumns("t2"))
		rules := drawRules(rt)
		rules.on(t, w, &spec)
		result := buildWith(t, w, spec, finishBelow, rapid.SampledFrom([]int64{1, 3, decideAtOnce}).Draw(rt, "at once"))
		all := append(slices.Clone(one), two...)
		wantOf, wantRefused, elsewhere := reference(all, rules)
		of := map[string]string{}
		refused := []string{}
		for value, id := range owners(t, w) {
			if id == "NULL" {
				refused = append(refused, value)
			} else {
				of[value] = id
			}
		}
		sort.Strings(refused)
		if !slices.Equal(refused, append([]string{}, wantRefused...)) || result.Refused != int64(len(refused)) {
			rt.Fatalf("refused %v, want %v", refused, wantRefused)
		}
		if got, want := grouped(of), grouped(wantOf); !slices.Equal(got, want) {
			rt.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		lent := map[string]string{}
		for v, owner := range lentTo(all, rules, wantOf, elsewhere) {
			lent[v] = of[owner]
		}
		for v, id := range lentOwners(t, w) {
			if lent[v] != id {
				rt.Fatalf("%s is lent to %s, not to %s", v, id, lent[v])
			}
			of[v] = id
			delete(lent, v)
		}
		if len(lent) > 0 {
			rt.Fatalf("not lent: %v", lent)
		}
		if Limited(spec.Entity) {
			checkRowsHaveOwners(rt, t, w, spec, of, one)
		}
	})
}

// lentOwners reads what the built table lends: refused value → profile id.
func lentOwners(t testing.TB, w warehouse.Warehouse) map[string]string {
	out := map[string]string{}
	for _, line := range query(t, w, "SELECT identifier || ':' || value, profile_id FROM identity_customer WHERE refused IS NOT NULL AND profile_id IS NOT NULL") {
		key, id, _ := strings.Cut(line, "|")
		out[key] = id
	}
	return out
}

// checkRowsHaveOwners: a row is its most trusted used value's profile's; with refused values only it is a profile of its own.
func checkRowsHaveOwners(rt *rapid.T, t *testing.T, w warehouse.Warehouse, spec Spec, of map[string]string, rows []row) {
	from, err := Rows(context.Background(), w, spec.Entity, spec.Inputs[0], spec.Target)
	if err != nil {
		rt.Fatal(err)
	}
	var want []string
	shared := map[string]bool{}
	for _, r := range rows {
		owner := ""
		for _, k := range r.keys() {
			if owner == "" {
				owner = of[k]
			}
		}
		switch {
		case owner != "":
			want = append(want, owner+"|false")
		case len(r.keys()) > 0:
			shared[fmt.Sprint(r)] = true
		}
	}
	sort.Strings(want)
	got := query(t, w, fmt.Sprintf("SELECT %s, %s FROM %s AS r WHERE NOT %[2]s", ProfileColumn, SharedColumn, from))
	if !slices.Equal(got, append([]string{}, want...)) {
		rt.Fatalf("rows belong to %v, want %v", got, want)
	}
	if own := query(t, w, fmt.Sprintf("SELECT DISTINCT %s FROM %s AS r WHERE %s", ProfileColumn, from, SharedColumn)); len(own) != len(shared) {
		rt.Fatalf("%d rows are profiles of their own, want %d", len(own), len(shared))
	}
}
