package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad holds that no text of a project file makes the loader panic or hang, and that what it refuses has a place.
func FuzzLoad(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	broken, err := filepath.Glob("testdata/broken/*/dray.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(seeds, broken...) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ProjectFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Load(dir, Options{Env: env(nil)})
		if err == nil && p == nil {
			t.Error("neither a project nor a problem")
		}
		if err != nil && !strings.Contains(err.Error(), ProjectFile) {
			t.Errorf("a problem without a place: %v", err)
		}
	})
}

// FuzzReferences holds that what has no reference comes out as it went in, and nothing panics.
func FuzzReferences(f *testing.F) {
	for _, s := range []string{"", "${A}", "${A:-${B:-c}}", "$${A}", "${", "${file:x}", "a${A}b", "${A:-{}}", "${}", "$$${A}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := parseReferences(text)
		if err == nil && !strings.Contains(text, "${") && text != "" && (len(parts) != 1 || parts[0].literal != text) {
			t.Errorf("%q came apart into %v", text, parts)
		}
	})
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"5m", "90 days", "1h30m", "5%", "0.05", "-1", "1e9d", "٣%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && d.Duration < 0 {
			t.Errorf("%q is %v", text, d)
		}
		if p, err := ParsePercent(text); err == nil && !(p >= 0 && p <= 1) {
			t.Errorf("%q is %v", text, p)
		}
	})
}

func BenchmarkLoad1000Files(b *testing.B) {
	files := map[string]string{"dray.yaml": "destinations: [{name: crm, type: webhook, url: x}]\n"}
	for i := range 1000 {
		files[fmt.Sprintf("m/f%03d.yaml", i)] = fmt.Sprintf(`models:
  - {name: m%[1]d, primary_key: id, sql: select 1 as id, tests: {unique: [id], not_null: [id]}}
syncs:
  - name: s%[1]d
    model: m%[1]d
    destination: crm
    object: o
    mode: mirror
    key: {id: id}
    fields: {a: a, b: b, c: {sql: a || b}, d: {value: 5}}
    on_remove: delete
    guard: {max_removes: 10%%}
`, i)
	}
	dir := write(b, files)
	for b.Loop() {
		if _, err := Load(dir, Options{Env: env(nil)}); err != nil {
			b.Fatal(err)
		}
	}
}
