package run_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Names that are longer than an engine takes, of the same beginning, are kept apart from the model to the destination: of models,
// entities, segments and syncs, whose tables' names are longer than theirs, and of fields, which a destination may call anything.
func TestLongNames(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	stem := strings.Repeat("n", 62)
	latin, danish := strings.Repeat("f", 70), strings.Repeat("ø", 40)
	yaml := fmt.Sprintf(`
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources:
  - {name: raw, schema: raw, tables: [{name: people}]}
destinations:
  - {name: hook, type: webhook, url: "%s", settle: 0s}
`, r.URL)
	files := map[string]string{}
	for i, end := range []string{"a", "b"} {
		files[end+".yaml"] = strings.NewReplacer("NAME", stem+end, "EVENTS", "e"+stem[1:]+end, "OTHER", "o"+stem[1:]+end, "END", end, "IS", fmt.Sprint(i), "LATIN", latin, "DANISH", danish).Replace(`models:
  - {name: NAME, primary_key: id, materialized: table, tests: {unique: [id]}, sql: "select id, email, n + IS as n from {{ source('raw', 'people') }}"}
entities:
  - name: NAME
    identifiers: [{name: email}]
    inputs: [{name: NAME, from: "ref('NAME')", identifiers: {email: email}}]
    traits:
      - {name: NAME, from: NAME, value: max(n)}
      - {name: OTHER, from: NAME, value: min(n)}
segments:
  - {name: NAME, entity: NAME, where: {trait: NAME, gte: 10}}
syncs:
  - name: NAME
    segment: NAME
    destination: hook
    object: END
    mode: mirror
    key: {"END": email}
    on_remove: delete
    guard: {max_removes: 100%, max_changes: 100%}
    fields: {LATIN1: NAME, LATIN2: {value: END}, DANISH1: NAME, DANISH2: {value: END}}
  - name: EVENTS
    model: NAME
    destination: hook
    object: events_END
    mode: insert
    key: {"event_END": id}
    fields: {LATIN1: n, LATIN2: {value: END}, DANISH1: n, DANISH2: {value: END}}
`)
	}
	p := newProject(t, yaml, files)
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.people (id BIGINT, email VARCHAR, name VARCHAR, n INTEGER)",
		"INSERT INTO raw.people SELECT i, 'e' || i, 'n', 9 + i FROM range(3) t(i)")

	// step runs all four syncs and wants what the destination then holds: of each sync the rows of one kind of key.
	step := func(what string, code int, changes int, want map[string]int64) {
		t.Helper()
		reports, err := p.run()
		for _, rep := range reports {
			if len(reports) != 4 || rep.ExitCode != 0 && rep.ExitCode != code {
				t.Fatalf("%s: %v: %s", what, err, canonical(rep))
			}
		}
		store, _, got := r.state()
		if got != changes || len(store) != len(want) {
			t.Errorf("%s: %d changes, want %d: %s", what, got, changes, canonical(store))
		}
		for key, n := range want {
			end := string(key[len("{\"event_"):][0])
			if !strings.HasPrefix(key, "{\"event_") {
				end = key[2:3]
			}
			one := canonical(map[string]any{latin + "1": n, latin + "2": end, danish + "1": n, danish + "2": end})
			if canonical(store[key]) != one {
				t.Errorf("%s: %s has %s, want %s", what, key, canonical(store[key]), one)
			}
		}
	}
	reject := true
	r.answer = func(_ int, b *hookBody) verdict { // the second event of each is owed until it is taken
		v := verdict{status: http.StatusOK}
		if !reject || !strings.HasPrefix(b.Object, "events_") {
			return v
		}
		var results []string
		taken := make([]bool, len(b.Changes))
		for i, c := range b.Changes {
			taken[i] = !strings.HasSuffix(canonical(c.Key), ":1}")
			results = append(results, map[bool]string{true: `{"status":"delivered"}`, false: `{"status":"rejected","code":"no"}`}[taken[i]])
		}
		v.apply, v.body = func(i int) bool { return taken[i] }, `{"results":[`+strings.Join(results, ",")+`]}`
		return v
	}
	want := map[string]int64{
		`{"a":"e1"}`: 10, `{"a":"e2"}`: 11, `{"b":"e0"}`: 10, `{"b":"e1"}`: 11, `{"b":"e2"}`: 12,
		`{"event_a":0}`: 9, `{"event_a":2}`: 11, `{"event_b":0}`: 10, `{"event_b":2}`: 12,
	}
	step("first", 3, 9, want)
	step("nothing changed", 3, 0, want)
	reject = false
	now := time.Now().Add(time.Hour) // when the rejected are due
	p.now = func() time.Time { return now }
	p.exec("DELETE FROM raw.people WHERE id = 1") // what is owed is all that is known of it
	want[`{"event_a":1}`], want[`{"event_b":1}`] = 10, 11
	delete(want, `{"a":"e1"}`)
	delete(want, `{"b":"e1"}`)
	step("owed", 0, 4, want)
	p.exec("UPDATE raw.people SET n = 20 WHERE id = 2", "UPDATE raw.people SET n = 8 WHERE id = 0")
	want[`{"a":"e2"}`], want[`{"b":"e2"}`] = 20, 21
	delete(want, `{"b":"e0"}`)
	step("changed", 0, 3, want)
	step("nothing changed again", 0, 0, want)
}
