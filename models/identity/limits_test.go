package identity

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// reference decides limits as DESIGN §12 says it, on sets of texts: level by level, the oldest value first.
func reference(rows []row, limits [3]int) (of map[string]string, refused []string) {
	age := ages(rows, nil)
	var groups []map[string]bool // of values
	attached := make([]map[string]bool, len(rows))
	for level := range limits {
		var values []string
		for _, r := range rows {
			if r.values[level] != "" && !slices.Contains(values, r.key(level)) {
				values = append(values, r.key(level))
			}
		}
		sort.Slice(values, func(i, j int) bool { return age[values[i]] < age[values[j]] })
		for _, v := range values {
			joined := map[string]bool{v: true}
			for i, r := range rows {
				if r.values[level] != "" && r.key(level) == v {
					for value := range attached[i] {
						joined[value] = true
					}
				}
			}
			if overLimit(joined, limits) {
				refused = append(refused, v)
				continue
			}
			groups = slices.DeleteFunc(groups, func(g map[string]bool) bool {
				for value := range g {
					return joined[value]
				}
				return false
			})
			groups = append(groups, joined)
			for i, r := range rows {
				for value := range attached[i] {
					if joined[value] {
						attached[i] = joined
						break
					}
				}
				if r.values[level] != "" && r.key(level) == v {
					attached[i] = joined
				}
			}
		}
	}
	of = map[string]string{}
	for i, g := range groups {
		for value := range g {
			of[value] = fmt.Sprint(i)
		}
	}
	sort.Strings(refused)
	return of, refused
}

func overLimit(group map[string]bool, limits [3]int) bool {
	for level, limit := range limits {
		n := 0
		for value := range group {
			if strings.HasPrefix(value, identifierNames[level]+":") {
				n++
			}
		}
		if limit > 0 && n > limit {
			return true
		}
	}
	return false
}

func TestLimitsEqualTheSequentialOrder(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		one, two := rowsOf(rt, "one"), rowsOf(rt, "two")
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		load(t, w, "t1", one)
		load(t, w, "t2", two)
		spec := customer(allColumns("t1"), allColumns("t2"))
		var limits [3]int
		for i := range limits {
			limits[i] = rapid.IntRange(0, 3).Draw(rt, identifierNames[i])
			spec.Entity.Identifiers[i].Limit = limits[i]
		}
		result := buildWith(t, w, spec, finishBelow)
		all := append(slices.Clone(one), two...)
		wantOf, wantRefused := reference(all, limits)
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
		if Limited(spec.Entity) {
			checkRowsHaveOwners(rt, t, w, spec, of, one)
		}
	})
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
