package identity

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
)

// nobodys is what joins nobody, of the texts here: nothing, a written NULL, zeros alone.
func nobodys(text string) bool {
	zeros := len(text) >= 4 && strings.Trim(text, "0-") == ""
	return text == "" || strings.EqualFold(text, "null") || zeros
}

// Rows that carry one value are one profile, of whatever kind the value is and whatever its column is called; a value that is NULL or
// empty joins nobody. What is kept of a value is its text.
func TestIdentifiersOfEveryKind(t *testing.T) {
	t.Parallel()
	w := open(t)
	d := w.Dialect()
	kinds := append(conformance.Fields(d), conformance.Field{
		Name: "Padded", Kind: warehouse.Text, Values: []any{"\u2003wide\u3000", "wide", "\twide", "\u202f", "wide ", "\u2007 \u00a0wide", nil},
	}, conformance.Field{
		Name: "User ID", Kind: warehouse.Text, Type: map[string]string{"duckdb": "UUID", "postgres": "UUID"},
		Values: []any{"7b1e8f0e-9a6e-4f6e-8f43-0d8b2f5c1a77", "00000000-0000-0000-0000-000000000000", "7b1e8f0e-9a6e-4f6e-8f43-0d8b2f5c1a78", nil},
	})
	if conformance.Carried() != "" { // has no such type
		kinds[len(kinds)-1].Type = nil
	}
	fields := append([]conformance.Field{conformance.ID()}, kinds...)
	rows := conformance.Rows(kinds)
	for _, row := range slices.Clone(rows) { // each value stands in two rows at least
		rows = append(rows, append([]any{row[0].(int64) + 1000}, row[1:]...)) //nolint:forcetypeassert // the rows' number
	}
	conformance.Table(t, w, warehouse.Table{Name: "kinds"}, fields, rows)
	for column, f := range fields {
		if column == 0 || f.Kind == warehouse.JSON {
			continue // is nobody's identifier
		}
		e := &config.Entity{Name: fmt.Sprintf("of_%d", column), Identifiers: []*config.Identifier{{Name: "row_id"}, {Name: "value"}}}
		spec := specOf(e, &config.Input{Name: "kinds", Identifiers: map[string]string{"row_id": "id", "value": f.Name}})
		build(t, w, spec)

		members := map[string][]string{}
		texts := map[string]bool{}
		for _, row := range rows {
			group := fmt.Sprintf("alone %v", row[0])
			if v := row[column]; v != nil {
				text := conformance.Canon(f.Kind, v)
				if f.Kind == warehouse.Text {
					text = strings.TrimFunc(fmt.Sprint(v), func(r rune) bool { return unicode.Is(unicode.Zs, r) })
				}
				if !nobodys(strings.Trim(text, `"`)) {
					group = text
					texts[text] = true
				}
			}
			members[group] = append(members[group], fmt.Sprint(row[0]))
		}
		var want []string
		for _, m := range members {
			slices.Sort(m)
			want = append(want, strings.Join(m, " "))
		}
		slices.Sort(want)
		got := map[string][]string{}
		for _, row := range conformance.Read(t, w, "SELECT profile_id, value FROM "+d.Table(spec.Target)+" WHERE identifier = 'row_id'") {
			got[row[0]] = append(got[row[0]], strings.Trim(row[1], `"`))
		}
		var have []string
		for _, m := range got {
			slices.Sort(m)
			have = append(have, strings.Join(m, " "))
		}
		slices.Sort(have)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("profiles by %s: want -, got +:\n%.2000s", f.Name, diff)
		}
		var values, kept []string
		for text := range texts {
			switch f.Kind {
			case warehouse.Date:
				values = append(values, fmt.Sprintf("%q", text[:len("2006-01-02")]))
			default:
				values = append(values, fmt.Sprintf("%q", text))
			}
		}
		slices.Sort(values)
		for _, row := range conformance.Read(t, w, "SELECT value FROM "+d.Table(spec.Target)+" WHERE identifier = 'value'") {
			kept = append(kept, row[0])
		}
		slices.Sort(kept)
		switch f.Kind {
		case warehouse.Float, warehouse.Decimal, warehouse.Timestamp: // how an engine writes these is its own
			if len(kept) != len(values) {
				t.Errorf("%d texts of %s are kept, of %d", len(kept), f.Name, len(values))
			}
		default:
			if diff := cmp.Diff(values, kept); diff != "" {
				t.Errorf("texts of %s: want -, got +:\n%.2000s", f.Name, diff)
			}
		}
	}
}
