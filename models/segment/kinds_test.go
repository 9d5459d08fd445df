package segment

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
)

// ordered compares two values of a kind that has an order which is the same everywhere.
func ordered(k warehouse.Kind, a, b any) int {
	switch a := a.(type) {
	case int64:
		return big.NewInt(a).Cmp(big.NewInt(b.(int64))) //nolint:forcetypeassert // of one kind
	case float64:
		return big.NewFloat(a).Cmp(big.NewFloat(b.(float64))) //nolint:forcetypeassert // of one kind
	case time.Time:
		return a.Compare(b.(time.Time)) //nolint:forcetypeassert // of one kind
	}
	if k != warehouse.Decimal {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}
	x, _ := new(big.Rat).SetString(fmt.Sprint(a))
	y, _ := new(big.Rat).SetString(fmt.Sprint(b))
	return x.Cmp(y)
}

// written is a value as it stands in YAML.
func written(f conformance.Field, v any) any {
	at, ok := v.(time.Time)
	switch {
	case !ok:
		return v
	case f.Kind == warehouse.Date:
		return at.Format(time.DateOnly)
	default:
		return at.Format(time.RFC3339Nano)
	}
}

// Each condition on each value of each kind finds the rows that Go finds, and is true or false of NULL too.
func TestConditionsOnEveryKind(t *testing.T) {
	t.Parallel()
	w := open(t)
	d := w.Dialect()
	fields := append([]conformance.Field{conformance.ID()}, conformance.Fields(d)...)
	rows := conformance.Rows(fields[1:])
	table := warehouse.Table{Name: "kinds"}
	conformance.Table(t, w, table, fields, rows)
	columns, err := w.Columns(t.Context(), "SELECT * FROM "+d.Table(table))
	if err != nil {
		t.Fatal(err)
	}
	for column, f := range fields {
		if f.Kind == warehouse.JSON {
			continue
		}
		var conditions []*config.Condition
		var wants []func(v any) bool
		add := func(op string, value any, want func(v any) bool) {
			conditions, wants = append(conditions, trait(f.Name, op, value)), append(wants, want)
		}
		add("is_null", true, func(v any) bool { return v == nil })
		add("is_null", false, func(v any) bool { return v != nil })
		var given []any
		for _, value := range f.Values {
			if value == nil {
				continue
			}
			cmp := func(v any) int { return ordered(f.Kind, v, value) }
			y := written(f, value)
			given = append(given, y)
			add("eq", y, func(v any) bool { return v != nil && cmp(v) == 0 })
			add("ne", y, func(v any) bool { return v == nil || cmp(v) != 0 })
			switch f.Kind {
			case warehouse.Text:
				s := fmt.Sprint(value)
				add("contains", y, func(v any) bool { return v != nil && strings.Contains(fmt.Sprint(v), s) })
				add("starts_with", y, func(v any) bool { return v != nil && strings.HasPrefix(fmt.Sprint(v), s) })
			case warehouse.Bool:
			default:
				add("gt", y, func(v any) bool { return v != nil && cmp(v) > 0 })
				add("gte", y, func(v any) bool { return v != nil && cmp(v) >= 0 })
				add("lt", y, func(v any) bool { return v != nil && cmp(v) < 0 })
				add("lte", y, func(v any) bool { return v != nil && cmp(v) <= 0 })
			}
		}
		if len(given) > 1 {
			two := []any{f.Values[0], f.Values[1]}
			in := func(v any) bool {
				return v != nil && slices.ContainsFunc(two, func(x any) bool { return ordered(f.Kind, v, x) == 0 })
			}
			if f.Kind != warehouse.Text && f.Kind != warehouse.Bool { // texts have an order of their own in each database
				low, high := f.Values[0], f.Values[1]
				for _, ends := range [][2]any{{low, high}, {high, low}, {low, low}} {
					add("between", []any{written(f, ends[0]), written(f, ends[1])}, func(v any) bool {
						return v != nil && ordered(f.Kind, v, ends[0]) >= 0 && ordered(f.Kind, v, ends[1]) <= 0
					})
				}
			}
			add("one_of", given[:2], in)
			add("none_of", given[:2], func(v any) bool { return !in(v) })
		}
		exprs := []string{d.Quote("id")}
		for i, c := range conditions {
			sql, err := Where(d, c, Scope{Columns: columns, AsOf: asOf})
			if err != nil {
				t.Errorf("%s %s %v: %v", f.Name, c.Op, c.Value, err)
				sql = "FALSE"
			}
			exprs = append(exprs, fmt.Sprintf("CASE WHEN %s THEN 'y' WHEN NOT %s THEN 'n' END AS v%d", sql, sql, i))
		}
		for _, got := range conformance.Read(t, w, "SELECT "+strings.Join(exprs, ", ")+" FROM "+d.Table(table)) {
			row := rows[slices.IndexFunc(rows, func(r []any) bool { return fmt.Sprint(r[0]) == got[0] })]
			for i, c := range conditions {
				want := `"n"`
				if wants[i](row[column]) {
					want = `"y"`
				}
				if got[i+1] != want {
					t.Errorf("%s %s %v of %v: got %s, want %s", f.Name, c.Op, c.Value, row[column], got[i+1], want)
				}
			}
		}
	}
}

// Conditions on how long ago a time is hold at each value's own moment, and a microsecond beside it.
func TestAgesOfEveryTime(t *testing.T) {
	t.Parallel()
	w := open(t)
	d := w.Dialect()
	fields := append([]conformance.Field{conformance.ID()}, conformance.Fields(d)...)
	rows := conformance.Rows(fields[1:])
	table := warehouse.Table{Name: "kinds"}
	conformance.Table(t, w, table, fields, rows)
	columns, err := w.Columns(t.Context(), "SELECT * FROM "+d.Table(table))
	if err != nil {
		t.Fatal(err)
	}
	const span = 36 * time.Hour
	first, last := time.Date(1, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 29, 0, 0, 0, 0, time.UTC)
	for column, f := range fields {
		if f.Kind != warehouse.Date && f.Kind != warehouse.Timestamp {
			continue
		}
		var conditions []string
		var wants []func(v time.Time) bool
		exprs := []string{d.Quote("id")}
		for _, value := range f.Values {
			at, ok := value.(time.Time)
			if !ok || at.Before(first) || at.After(last) { // no engine has times beyond
				continue
			}
			for _, off := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
				for op, holds := range map[string]func(v, from, now, to time.Time) bool{
					"older_than":  func(v, from, _, _ time.Time) bool { return v.Before(from) },
					"within":      func(v, from, _, _ time.Time) bool { return !v.Before(from) },
					"within_next": func(v, _, now, to time.Time) bool { return !v.Before(now) && !v.After(to) },
				} {
					from := at.Add(off)
					now := from.Add(span)
					if op == "within_next" { // its later end is at the value
						now = from.Add(-span)
					}
					sql, err := Where(d, trait(f.Name, op, config.Duration{Duration: span}), Scope{Columns: columns, AsOf: now})
					if err != nil {
						t.Fatal(err)
					}
					exprs = append(exprs, fmt.Sprintf("CASE WHEN %s THEN 'y' WHEN NOT %s THEN 'n' END AS v%d", sql, sql, len(wants)))
					conditions = append(conditions, fmt.Sprintf("%s %s as of %s", f.Name, op, now))
					wants = append(wants, func(v time.Time) bool { return holds(v, now.Add(-span), now, now.Add(span)) })
				}
			}
		}
		if len(wants) < 20 {
			t.Fatalf("%s: only %d conditions", f.Name, len(wants))
		}
		for _, got := range conformance.Read(t, w, "SELECT "+strings.Join(exprs, ", ")+" FROM "+d.Table(table)) {
			row := rows[slices.IndexFunc(rows, func(r []any) bool { return fmt.Sprint(r[0]) == got[0] })]
			for i, holds := range wants {
				want := `"n"`
				if v, ok := row[column].(time.Time); ok && holds(v) {
					want = `"y"`
				}
				if got[i+1] != want {
					t.Errorf("%s of %v: got %s, want %s", conditions[i], row[column], got[i+1], want)
				}
			}
		}
	}
}
