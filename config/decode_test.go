package config

import (
	"math"
	"testing"
	"time"
)

// syncWith loads a project whose only sync has these further keys.
func syncWith(t *testing.T, keys string) *Sync {
	t.Helper()
	text := "destinations: [{name: crm, type: webhook}]\nsyncs:\n  - {name: a, model: m, destination: crm, object: o, " + keys + "}\n"
	return load(t, map[string]string{"dray.yaml": text, "models/m.sql": "select 1"}, Options{}).Syncs[0]
}

func TestDurations(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "5m": 5 * time.Minute, "2h": 2 * time.Hour, "20d": 20 * day, "90 days": 90 * day, "1 hour": time.Hour,
		"2w": 14 * day, "1h30m": 90 * time.Minute, "0.5h": 30 * time.Minute, "250ms": 250 * time.Millisecond, " 3  Days ": 3 * day, "0": 0, "0s": 0,
	} {
		got, err := ParseDuration(text)
		if err != nil || got.Duration != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-5m", "m", "5 m m", "3 months", "1y", "5m!", "400000d", "1e3s", "٣d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestPercents(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"5%": 0.05, "0.05": 0.05, "100%": 1, "1.0": 1, "0": 0, "0%": 0, " 2.5 % ": 0.025, ".5": 0.5} {
		got, err := ParsePercent(text)
		if err != nil || math.Abs(float64(got)-want) > 1e-12 {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "5", "1", "101%", "-5%", "five", "1e-2", "5%%", "NaN", "Inf"} {
		if got, err := ParsePercent(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	one := syncWith(t, "mode: upsert, key: {zip: z, day: d}")
	equal(t, "alternatives", len(one.Key), 1)
	equal(t, "columns", []string{one.Key[0].Columns[0].Name, one.Key[0].Columns[1].Column}, []string{"zip", "d"})
	two := syncWith(t, "mode: upsert, key: [{email: email}, {phone: phone}]")
	equal(t, "alternatives", len(two.Key), 2)
	equal(t, "second", two.Key[1].Columns[0].Name, "phone")
}

func TestFields(t *testing.T) {
	t.Parallel()
	s := syncWith(t, `mode: upsert, key: {id: id}, fields: {
  first: first_name, source: {value: dray}, none: {value: null}, n: {value: 5}, tier: {sql: "case 1"},
  phone: {column: p, nulls: omit, write: if_empty}, score: {column: c, tolerance: 0.05, trigger: false, ordered: true},
  in: {segments: [a, b]}, "address.city": city, id: id}`)
	byName := map[string]*Field{}
	for _, f := range s.Fields {
		byName[f.Name] = f
	}
	equal(t, "order", s.Fields[1].Name, "source")
	equal(t, "first", byName["first"].Column, "first_name")
	equal(t, "source", []any{byName["source"].HasValue, byName["source"].Value}, []any{true, "dray"})
	equal(t, "none", []any{byName["none"].HasValue, byName["none"].Value}, []any{true, nil})
	equal(t, "n", byName["n"].Value, 5)
	equal(t, "tier", byName["tier"].SQL, "case 1")
	equal(t, "phone", []string{byName["phone"].Column, byName["phone"].Nulls, byName["phone"].Write}, []string{"p", "omit", "if_empty"})
	equal(t, "score", []any{byName["score"].Tolerance, *byName["score"].Trigger, byName["score"].Ordered}, []any{0.05, false, true})
	equal(t, "in", byName["in"].Segments, []string{"a", "b"})
	equal(t, "address.city", byName["address.city"].Column, "city")
}

func TestOnRemoveAndOnDuplicate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]OnRemove{
		"delete":                    {Act: "delete"},
		"{delete: {matched: true}}": {Act: "delete", Matched: true},
		"{action: archive}":         {Act: "action", Action: "archive"},
		"{set: {city: gone}}":       {Act: "set", Set: map[string]any{"city": "gone"}},
	} {
		got := *syncWith(t, "mode: mirror, key: {id: id}, fields: {city: city}, on_remove: "+text).OnRemove
		got.Node = Node{}
		equal(t, text, got, want)
	}
	got := *syncWith(t, "mode: upsert, key: {id: id}, on_duplicate_key: {keep: first, order_by: ltv desc}").OnDuplicateKey
	equal(t, "keep", []string{got.Act, got.OrderBy}, []string{"keep_first", "ltv desc"})
	equal(t, "reject", syncWith(t, "mode: upsert, key: {id: id}, on_duplicate_key: reject").OnDuplicateKey.Act, "reject")
}

func TestConditions(t *testing.T) {
	t.Parallel()
	where := func(text string) *Condition { return syncWith(t, "mode: upsert, key: {id: id}, where: "+text).Where }
	equal(t, "sql", where("email is not null").SQL, "email is not null")
	equal(t, "true", where("true").SQL, "true")
	for text, want := range map[string]any{
		"{trait: a, eq: gold}":                 "gold",
		"{trait: a, gte: 5}":                   5,
		`{trait: a, lt: "{{ var('x') }}"}`:     "{{ var('x') }}",
		"{trait: a, one_of: [x, 2, true]}":     []any{"x", 2, true},
		"{trait: a, between: [1.5, 2]}":        []any{1.5, 2},
		"{trait: a, is_null: true}":            true,
		"{trait: a, older_than: 90 days}":      Duration{90 * 24 * time.Hour},
		`{trait: a, within: "{{ var('d') }}"}`: "{{ var('d') }}",
		"{trait: a, starts_with: 45}":          "45",
	} {
		c := where(text)
		equal(t, text, c.Value, want)
		if c.Trait != "a" || c.Op == "" {
			t.Errorf("%s is %+v", text, c)
		}
	}
	c := where("{all: [{any: [{in: s}, x > 1]}, {not: {did: orders, where: a = 1, exactly: 0, within: 30d, and_not_since: {did: web}}}, {did: web, within: 1w}]}")
	did := c.All[1].Not
	equal(t, "any", []string{c.All[0].Any[0].In, c.All[0].Any[1].SQL}, []string{"s", "x > 1"})
	equal(t, "did", []any{did.Did, did.Where, *did.Exactly, did.Within.Duration, did.AndNotSince.Did}, []any{"orders", "a = 1", 0, 720 * time.Hour, "web"})
	equal(t, "within", []any{c.All[2].Did, c.All[2].Within.Duration}, []any{"web", 7 * 24 * time.Hour})
	then := where("{did: a, then: {did: b, within: 2h}}").Then
	equal(t, "then", []any{then.Did, then.Within.Duration}, []any{"b", 2 * time.Hour})
}

func TestEntities(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{"dray.yaml": `
sources:
  - {name: raw, catalog: db, files: {b: b.csv, a: {path: "a_*.csv", types: {zip: text}, delimiter: ";", hive: true}}}
entities:
  - name: customer
    identifiers:
      - {name: user_id, limit: 1}
      - {name: phone, normalize: {phone: DK}, column: none}
      - {name: email, normalize: email, exclude: {values: [x@y.z, 5], pattern: "^a$"}}
    inputs:
      - {from: ref('orders'), identifiers: {user_id: id}}
      - {from: "source('raw', 'b')", identifiers: {user_id: id}, link: false}
      - {from: "{{ profiles(\"member\") }}", identifiers: {user_id: id}}
    traits:
      - {name: city, pick: most_recent, from: orders.city, default: ''}
      - {names: [a, b], pick: oldest, from: [orders]}
      - {name: n, from: orders, value: count(*), default: 0, within: 1w}
`}, Options{})
	s, e := p.Sources[0], p.Entities[0]
	equal(t, "database", s.Database, "db")
	equal(t, "files", []string{s.Files[0].Name, s.Files[0].Path, s.Files[1].Types["zip"], s.Files[1].Delimiter}, []string{"b", "b.csv", "text", ";"})
	equal(t, "inputs", []string{e.Inputs[0].Name, e.Inputs[1].Name, e.Inputs[2].Name}, []string{"orders", "b", "member"})
	equal(t, "link", []bool{*e.Inputs[0].Link, *e.Inputs[1].Link}, []bool{true, false})
	equal(t, "phone", []string{e.Identifiers[1].Normalize.Kind, e.Identifiers[1].Normalize.Country, e.Identifiers[1].Column}, []string{"phone", "DK", "none"})
	equal(t, "exclude", e.Identifiers[2].Exclude.Values, []string{"x@y.z", "5"})
	equal(t, "defaults", []any{e.Traits[0].Default, e.Traits[2].Default, e.Traits[1].Default}, []any{"", 0, nil})
	equal(t, "from", e.Traits[0].From, Strings{"orders.city"})
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	known := []string{"mirror", "upsert", "primary_key", "fields"}
	for word, want := range map[string]string{"miror": "mirror", "Upsert": "upsert", "primarykey": "primary_key", "feilds": "fields", "schedule": ""} {
		equal(t, word, Suggest(word, known), want)
	}
}
