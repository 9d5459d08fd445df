package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/internal/diag"
)

// write makes a project of files; a name and version stand at the top of dray.yaml unless it has its own.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if !strings.Contains(files["dray.yaml"], "version:") {
		files["dray.yaml"] = "name: shop\nversion: 1\n" + files["dray.yaml"]
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func env(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

// load reads a project that must have no problem.
func load(t *testing.T, files map[string]string, o Options) *Project {
	t.Helper()
	if o.Env == nil {
		o.Env = env(nil)
	}
	p, err := Load(write(t, files), o)
	if err != nil {
		t.Fatalf("loading:\n%v", err)
	}
	return p
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %#v, want %#v", what, got, want)
	}
}

func TestExamplesLoad(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"../examples/shop", "../examples/cdnow", "../cmd/cli/starter"} {
		if _, err := Load(dir, Options{Env: env(nil)}); err != nil {
			t.Errorf("%s:\n%v", dir, err)
		}
	}
}

func TestLanguageDefaults(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{"dray.yaml": aSync, "models/m.sql": "select 1"}, Options{})
	equal(t, "schema", p.Schema, "dray")
	equal(t, "state", p.State, ".dray/state.db")
	equal(t, "as_of", p.AsOf, "now")
	equal(t, "schedules", p.Schedules, "on")
	equal(t, "retention", p.Retention.Duration, 90*24*time.Hour)
	equal(t, "warehouse", p.Warehouse.Type, "duckdb")
	equal(t, "path", p.Warehouse.Options["path"], "shop.duckdb")
	equal(t, "materialized", p.Models[0].Materialized, "view")
	s := p.Syncs[0]
	equal(t, "null_key", s.NullKey, "reject")
	equal(t, "on_duplicate_key", s.OnDuplicateKey.Act, "error")
	equal(t, "on_remove", s.OnRemove, (*OnRemove)(nil))
	equal(t, "remember", s.Remember, "forever")
	equal(t, "send", s.Send, "changed")
	equal(t, "enabled", *s.Enabled, true)
	equal(t, "checkpoint", s.Checkpoint.Duration, 5*time.Minute)
	equal(t, "max_removes", s.Guard.MaxRemoves, Percent(0.05))
	equal(t, "max_changes", s.Guard.MaxChanges, Percent(0.5))
	equal(t, "window", s.Guard.Window.Duration, 24*time.Hour)
	equal(t, "floor", s.Guard.Floor, 10)
	equal(t, "on_trip", s.Guard.OnTrip, "hold")
	equal(t, "attempts", s.Retry.Attempts, 5)
	equal(t, "give_up_after", s.Retry.GiveUpAfter.Duration, 14*24*time.Hour)
	equal(t, "write", s.Fields[0].Write, "always")
	equal(t, "trigger", *s.Fields[0].Trigger, true)
	if s.Has("guard") || !s.Has("mode") {
		t.Error("Has does not tell what is written from what is a default")
	}
}

const aSync = `
destinations: [{name: crm, type: webhook, url: http://localhost}]
syncs:
  - name: a
    model: m
    destination: crm
    object: contacts
    mode: mirror
    key: {id: id}
    fields: {city: city}
`

func TestPositions(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{
		"dray.yaml": "",
		"more/x.yml": `models:
  - name: inline
    primary_key: id
    sql: |

        select 1
        from x
  - {name: quoted, sql: "select 2"}
`,
		"models/deep/m.sql": "\ufeffselect 3",
		"syncs.yaml":        aSync + "    options: {list: VIPs}\n",
	}, Options{})
	byName := map[string]*Model{}
	for _, m := range p.Models {
		byName[m.Name] = m
	}
	at := func(file string, line, col int) diag.Pos { return diag.Pos{File: file, Line: line, Col: col} }
	equal(t, "inline", byName["inline"].Pos, at("more/x.yml", 2, 5))
	equal(t, "inline.sql", byName["inline"].SQLPos, at("more/x.yml", 5, 9))
	equal(t, "inline line", byName["inline"].SQLLine, 5)
	equal(t, "quoted.sql", byName["quoted"].SQLPos, at("more/x.yml", 8, 26))
	equal(t, "m.sql", byName["m"].SQLPos, at("models/deep/m.sql", 1, 1))
	equal(t, "m.sql's text", byName["m"].SQL, "select 3")
	s := p.Syncs[0]
	equal(t, "options.list", s.At("options.list"), at("syncs.yaml", 11, 21))
	equal(t, "field", s.Fields[0].Pos, at("syncs.yaml", 10, 14))
	equal(t, "field's column", s.Fields[0].At("column"), at("syncs.yaml", 10, 20))
	equal(t, "key", s.Key[0].Columns[0].Pos, at("syncs.yaml", 9, 11))
	equal(t, "what is not written", s.At("guard"), s.Pos)
}

func TestWhichFilesBelong(t *testing.T) {
	t.Parallel()
	model := func(name string) string { return "models: [{name: " + name + ", sql: select 1}]\n" }
	p := load(t, map[string]string{
		"dray.yaml":         "",
		"a.yaml":            model("a") + "---\n" + model("second_document"),
		"sub/b.yml":         model("b"),
		".hidden/c.yaml":    "no: 1\n",
		".hidden.yaml":      "no: 1\n",
		"target/d.yaml":     "no: 1\n",
		"deploy/e.yaml":     "no: 1\n",
		"deploy/mine.yaml":  model("mine"),
		"x/y/vendor/f.yaml": "no: 1\n",
		"values.dev.yaml":   "no: 1\n",
		"empty.yaml":        "# nothing\n",
		"notes.txt":         "no",
		".drayignore":       "# ours\n/deploy/*\n!/deploy/mine.yaml\nvendor/\nvalues.*.yaml\nmodels/**/old_*.sql\n",
		"models/f.sql":      "select 1", "models/a/old_g.sql": "select 1", "sql/h.sql": "select 1",
		"macros/cents.sql": "{% macro cents() %}{% endmacro %}",
	}, Options{})
	var names []string
	for _, m := range p.Models {
		names = append(names, m.Name)
	}
	equal(t, "models", names, []string{"a", "second_document", "mine", "b", "f"})
	equal(t, "macros", p.Macros, []SQLFile{{Path: "macros/cents.sql", Text: "{% macro cents() %}{% endmacro %}"}})
}

func TestReferences(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{
		"secret.txt": "from a file\r\n",
		"dray.yaml": `
retention: ${DAYS}d
vars:
  number: "${NUMBER}"
  text: "n${NUMBER}"
  zeros: "${ZEROS}"
  flag: ${FLAG}
  fallback: "${UNSET:-${EMPTY:-{a}}}"
  literal: "$${NUMBER} $ {x}"
  twice: "${NUMBER}${NUMBER}"
destinations:
  - name: crm
    type: webhook
    token: "${NUMBER}"
    file: ${file:secret.txt}
    partly: "Bearer ${NUMBER}"
    plain: abc
    defaulted: "${UNSET:-x}"
    headers: {A: "${NUMBER}", B: "${FLAG}"}
    mixed: {A: "${NUMBER}", B: b}
    batch_size: 100
    timeout: ${NUMBER}s
`,
	}, Options{Env: env(map[string]string{"DAYS": "3", "NUMBER": "42", "ZEROS": "007", "FLAG": "true", "EMPTY": ""})})
	equal(t, "retention", p.Retention.Duration, 72*time.Hour)
	equal(t, "vars", p.Vars, map[string]any{
		"number": 42, "text": "n42", "zeros": "007", "flag": true, "fallback": "{a}", "literal": "${NUMBER} $ {x}", "twice": 4242,
	})
	d := p.Destinations[0]
	equal(t, "options", d.Options, map[string]any{
		"token": "42", "file": "from a file", "partly": "Bearer 42", "plain": "abc", "defaulted": "x",
		"headers": map[string]any{"A": "42", "B": "true"}, "mixed": map[string]any{"A": "42", "B": "b"}, "batch_size": 100,
	})
	equal(t, "timeout", d.Timeout.Duration, 42*time.Second)
	for key, want := range map[string]bool{
		"token": true, "file": true, "defaulted": true, "headers": true, "headers.A": true,
		"partly": false, "plain": false, "mixed": false, "mixed.B": false, "batch_size": false, "not_there": false,
	} {
		if d.IsReference(key) != want {
			t.Errorf("IsReference(%s) = %v", key, !want)
		}
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{"dray.yaml": `
destinations:
  - &base {name: one, type: webhook, url: a, headers: &h {X: "1"}}
  - {<<: *base, name: two}
  - {<<: [{url: c}, *base], name: three, headers: {<<: *h, Y: "2"}}
`}, Options{})
	equal(t, "two", p.Destinations[1].Options["url"], "a")
	equal(t, "three", p.Destinations[2].Options["url"], "c")
	equal(t, "headers", p.Destinations[2].Options["headers"], map[string]any{"X": "1", "Y": "2"})
}

func TestAliasesAreBounded(t *testing.T) {
	t.Parallel()
	bomb := "vars:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := '1'; i <= '9'; i++ {
		p := string(i - 1)
		bomb += "  a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat("*a"+p+", ", 9) + "*a" + p + "]\n"
	}
	_, err := Load(write(t, map[string]string{"dray.yaml": bomb}), Options{})
	if err == nil || !strings.Contains(err.Error(), "expand to more than") {
		t.Fatalf("got %v", err)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	files := map[string]string{"models/m.sql": "select 1", "dray.yaml": aSync + `
warehouse: {type: duckdb, path: prod.duckdb, threads: 4}
vars: {a: 1, b: 2}
defaults: {syncs: {tags: [x], guard: {floor: 3}}}
targets:
  default: {retention: 1d}
  dev:
    schema: dray_dev
    schedules: off
    warehouse: {path: dev.duckdb}
    vars: {b: 3}
    defaults: {syncs: {guard: {max_removes: 20%}}}
    destinations: {"*": {type: file, path: out}}
    syncs: {a: {enabled: false, guard: {on_trip: stop}}}
  ci:
    schema: ci
    name: ci
    warehouse: {type: duckdb, path: ci_file.duckdb}
    destinations: {crm: {url: "${CI_URL}"}}
    models: [{name: only, sql: select 2}]
    syncs: []
`}
	files["dray.yaml"] = strings.Replace(files["dray.yaml"], "http://localhost", `"${PROD_URL}"`, 1)

	prod := load(t, files, Options{Env: env(map[string]string{"PROD_URL": "https://prod"})})
	equal(t, "prod's url", prod.Destinations[0].Options["url"], "https://prod")
	equal(t, "prod's floor", prod.Syncs[0].Guard.Floor, 3)
	equal(t, "prod's target", prod.TargetName, "")
	equal(t, "targets", len(prod.Targets), 3)

	dev := load(t, files, Options{Target: "dev", Vars: map[string]string{"a": "yes", "c": "1.5"}})
	equal(t, "dev's target", dev.TargetName, "dev")
	equal(t, "dev's schema", dev.Schema, "dray_dev")
	equal(t, "dev's schedules", dev.Schedules, "off")
	equal(t, "dev's warehouse", dev.Warehouse.Options, map[string]any{"path": "dev.duckdb", "threads": 4})
	equal(t, "dev's vars", dev.Vars, map[string]any{"a": "yes", "b": 3, "c": 1.5})
	equal(t, "dev's destination", *dev.Destinations[0], Destination{
		Node: dev.Destinations[0].Node, Name: "crm", Type: "file", Options: map[string]any{"path": "out"},
	})
	s := dev.Syncs[0]
	equal(t, "dev's sync", []any{*s.Enabled, s.Guard.OnTrip, s.Guard.Floor, s.Guard.MaxRemoves, s.Tags}, []any{false, "stop", 3, Percent(0.2), []string{"x"}})

	ci := load(t, files, Options{Target: "ci", Env: env(map[string]string{"CI_URL": "https://ci"})})
	equal(t, "ci's url", ci.Destinations[0].Options["url"], "https://ci")
	equal(t, "ci's type", ci.Destinations[0].Type, "webhook")
	equal(t, "ci's warehouse", ci.Warehouse.Options, map[string]any{"path": "ci_file.duckdb"})
	equal(t, "ci's first model", ci.Models[0].Name, "only")
	equal(t, "ci's syncs", len(ci.Syncs), 0)
}

func TestDefaultsOfSyncs(t *testing.T) {
	t.Parallel()
	p := load(t, map[string]string{
		"models/m.sql": "select 1",
		"dray.yaml":    "defaults: {syncs: {timezone: Europe/Copenhagen, on_remove: clear, guard: {floor: 3, max_removes: 1%}, retry: {attempts: 2}}}\n",
		"s.yaml":       aSync + "    guard: {floor: 7}\n" + "  - {name: b, model: m, destination: crm, object: o, mode: upsert, key: {id: id}, timezone: UTC}\n",
	}, Options{})
	a, b := p.Syncs[0], p.Syncs[1]
	equal(t, "a", []any{a.Timezone, a.Guard.Floor, a.Guard.MaxRemoves, a.Retry.Attempts, a.OnRemove.Act}, []any{"Europe/Copenhagen", 7, Percent(0.01), 2, "clear"})
	equal(t, "b", []any{b.Timezone, b.Guard.Floor, b.Mode}, []any{"UTC", 3, "upsert"})
	equal(t, "a's place", a.Pos.File, "s.yaml")
	equal(t, "timezone's place", a.At("timezone").File, "dray.yaml")
	if a.Has("timezone") || !b.Has("timezone") {
		t.Error("Has does not tell a sync's own keys from those of defaults:")
	}
}

func TestAsOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	for text, want := range map[string]string{
		"": "2026-02-03T03:05:06Z", "now": "2026-02-03T03:05:06Z", "2018-04-10": "2018-04-10T00:00:00Z",
		"2018-04-10T12:00:00+02:00": "2018-04-10T10:00:00Z", "2018-04-10 12:30:00": "2018-04-10T12:30:00Z",
	} {
		p := load(t, map[string]string{"dray.yaml": ""}, Options{AsOf: text})
		equal(t, text, p.Clock(now).Format(time.RFC3339), want)
	}
	_, err := Load(write(t, map[string]string{"dray.yaml": ""}), Options{AsOf: "tomorrow"})
	if err == nil || !strings.HasPrefix(err.Error(), "--as-of wants") {
		t.Errorf("got %v", err)
	}
}

// What could be read is returned beside the problems, so that graph can add its own; nothing where a file is no YAML.
func TestProjectBesideProblems(t *testing.T) {
	t.Parallel()
	p, err := Load(write(t, map[string]string{"dray.yaml": "modles: []\nmodels: [{name: a, sql: select 1}]\n"}), Options{})
	var list diag.List
	if !errors.As(err, &list) || len(list) != 1 || p == nil || len(p.Models) != 1 {
		t.Errorf("got %v and %v", p, err)
	}
	if kind, _ := diag.KindOf(err); kind.ExitCode() != 2 {
		t.Errorf("exit code %d", kind.ExitCode())
	}
	if p, err = Load(write(t, map[string]string{"dray.yaml": "a: [\n"}), Options{}); p != nil || err == nil {
		t.Errorf("got %v and %v for what is no YAML", p, err)
	}
}
