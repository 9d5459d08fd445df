package profile

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/models/identity"
)

// picked is what survives of rows that come in the order of their times, by the meaning of each pick: neither NULL nor an empty text is
// ever picked.
func picked(pick string, f conformance.Field, values []any) any {
	values = slices.DeleteFunc(slices.Clone(values), func(v any) bool { return v == nil || f.Kind == warehouse.Text && v == "" })
	if len(values) == 0 {
		return nil
	}
	switch pick {
	case "oldest":
		return values[0]
	case "most_recent", "source_order", "first": // in the order of falling numbers
		return values[len(values)-1]
	case "longest": // the latest of those
		slices.Reverse(values)
		return slices.MaxFunc(values, func(a, b any) int {
			return utf8.RuneCountInString(fmt.Sprint(a)) - utf8.RuneCountInString(fmt.Sprint(b))
		})
	case "most_frequent": // the latest of those
		slices.Reverse(values)
		times := func(v any) (n int) {
			for _, x := range values {
				if conformance.Canon(f.Kind, x) == conformance.Canon(f.Kind, v) {
					n++
				}
			}
			return n
		}
		return slices.MaxFunc(values, func(a, b any) int { return times(a) - times(b) })
	}
	least := slices.MinFunc(values, func(a, b any) int { return compared(f.Kind, a, b) })
	if pick == "max" {
		return slices.MaxFunc(values, func(a, b any) int { return compared(f.Kind, a, b) })
	}
	return least
}

func compared(k warehouse.Kind, a, b any) int {
	switch a := a.(type) {
	case bool:
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	case int64:
		return big.NewInt(a).Cmp(big.NewInt(b.(int64))) //nolint:forcetypeassert // of one kind
	case float64:
		return big.NewFloat(a).Cmp(big.NewFloat(b.(float64))) //nolint:forcetypeassert // of one kind
	case time.Time:
		return a.Compare(b.(time.Time)) //nolint:forcetypeassert // of one kind
	case string:
		if k == warehouse.Decimal {
			x, _ := new(big.Rat).SetString(a)
			y, _ := new(big.Rat).SetString(fmt.Sprint(b))
			return x.Cmp(y)
		}
		return strings.Compare(a, fmt.Sprint(b))
	}
	return 0
}

// Each pick gives a value of each kind as it was, and goes by NULL and empty texts. Each person has three neighbours of the data, and
// the first of them once more.
func TestPicksOfEveryKind(t *testing.T) {
	t.Parallel()
	w := open(t)
	fields := []conformance.Field{conformance.ID(), {Name: "uid", Kind: warehouse.Int}, {Name: "ts", Kind: warehouse.Timestamp}}
	kinds := conformance.Fields(w.Dialect())
	fields = append(fields, kinds...)
	rows := conformance.Rows(kinds)
	people := map[int64][][]any{}
	var all [][]any
	put := func(uid int64, values []any) {
		n := len(all)
		all = append(all, append([]any{int64(n), uid, time.Date(2025, 1, 1+n, 0, 0, 0, 0, time.UTC)}, values...))
		people[uid] = append(people[uid], all[n])
	}
	for i, row := range rows {
		uid := int64(i / 3)
		if put(uid, row[1:]); i%3 == 2 {
			put(uid, rows[i-2][1:])
		}
	}
	rows = all
	conformance.Table(t, w, warehouse.Table{Name: "kinds"}, fields, rows)
	e := &config.Entity{
		Name: "person", Identifiers: []*config.Identifier{{Name: "user_id"}},
		Inputs: []*config.Input{{Name: "kinds", Identifiers: map[string]string{"user_id": "uid"}, At: "ts"}},
	}
	type wanted struct {
		column int
		pick   string
	}
	var traits []wanted
	for i, f := range fields[3:] {
		for _, pick := range []string{"most_recent", "oldest", "source_order", "first", "longest", "most_frequent", "min", "max"} {
			if pick == "longest" && f.Kind != warehouse.Text {
				continue // is about texts
			}
			if (pick == "min" || pick == "max") && (f.Kind == warehouse.JSON || f.Kind == warehouse.Text || f.Kind == warehouse.Bool) {
				continue // has no order, or one of a language
			}
			trait := &config.Trait{Name: fmt.Sprintf("t%d", len(traits)), Pick: pick, From: config.Strings{"kinds." + f.Name}}
			if pick == "first" {
				trait.OrderBy = "id desc"
			}
			e.Traits = append(e.Traits, trait)
			traits = append(traits, wanted{i + 3, pick})
		}
	}
	inputs := []identity.Input{{Input: e.Inputs[0], Source: "kinds", PrimaryKey: []string{"id"}}}
	ids, merges, profiles := warehouse.Table{Name: "identity_person"}, warehouse.Table{Name: "identity_person_merges"}, warehouse.Table{Name: "profiles_person"}
	build(t, w, identity.Spec{Entity: e, Inputs: inputs, Target: ids, Merges: merges, Prior: ids, PriorMerges: merges, AsOf: asOf, Salt: "test"},
		Spec{Entity: e, Inputs: inputs, Identity: ids, Target: profiles, Prior: profiles, AsOf: asOf})
	d := w.Dialect()
	for n, trait := range traits {
		f := fields[trait.column]
		got := map[string]string{}
		for _, row := range conformance.Read(t, w, "SELECT user_id, "+e.Traits[n].Name+" FROM "+d.Table(profiles)) {
			got[row[0]] = row[1]
		}
		for uid, rows := range people {
			values := make([]any, len(rows))
			for i, row := range rows {
				values[i] = row[trait.column]
			}
			want := conformance.Canon(f.Kind, picked(trait.pick, f, values))
			have := got[fmt.Sprintf("%q", fmt.Sprint(uid))]
			if want == "-0" || want == "0" { // one value
				have = strings.TrimPrefix(have, "-")
				want = "0"
			}
			if have != want {
				t.Errorf("%s of %s for %d: got %s, want %s", trait.pick, f.Name, uid, have, want)
			}
		}
	}
}
