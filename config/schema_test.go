package config

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/internal/golden"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("dray.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("dray.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

func TestSchemaTakesWhatLoads(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	for _, dir := range []string{"../examples", "../cmd/cli/starter", "testdata/valid"} {
		seen := 0
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".yaml" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			seen++
			if err := validate(t, s, string(text)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		})
		if err != nil || seen == 0 {
			t.Errorf("%s: %d files, %v", dir, seen, err)
		}
	}
	if _, err := Load("testdata/valid", Options{Env: env(map[string]string{"TOKEN": "x", "N": "5"})}); err != nil {
		t.Errorf("testdata/valid does not load:\n%v", err)
	}
}

func TestSchemaRefusesWhatDoesNot(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	sync := "syncs: [{name: a, model: m, destination: d, object: o, mode: upsert, key: {id: id}, "
	for _, text := range []string{
		"modles: []", "models: {a: {}}", "models: [{sql: x}]", "models: [{name: a, sqll: x}]", "models: [{name: a, materialized: tabel}]",
		"holdout: 5", "alerts: [{on: [fell], to: x}]", "retention: soon", "warehouse: {type: oracle}", "vars: [a]",
		"targets: {dev: {shema: x}}", "targets: {dev: {retention: 3d}}", "targets: {dev: {schema: x, version: 1}}",
		"segments: [{name: a, entity: b, where: {trait: x, gte: 1, lt: 2}}]", "segments: [{name: a, entity: b, where: {trait: x}}]",
		"segments: [{name: a, entity: b, where: {all: []}}]", "segments: [{name: a, entity: b, where: {did: x, then: 5, at: 1}}]",
		sync + "fields: {a: 5}}]", sync + "fields: {a: {column: x, sql: y}}}]", sync + "on_remove: archive}]", sync + "guard: {max_removes: 5}}]",
		sync + "holdout: {share: 5%, column: c}}]", sync + "retry: {attempts: many}}]", sync + "on_duplicate_key: {keep: first}}]",
		"entities: [{name: a, identifiers: [{name: b, normalize: phone}]}]",
	} {
		if validate(t, s, text) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

func TestReferencePage(t *testing.T) {
	t.Parallel()
	golden.Check(t, "../docs/reference/language.md", Reference())
}

func TestEveryWordIsExplained(t *testing.T) {
	t.Parallel()
	v := vocabulary{}
	explained := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if _, ok := nodeField(typ); !ok || explained[typ] {
			return
		}
		explained[typ] = true
		for _, k := range v.of(typ).keys {
			if strings.TrimSpace(k.doc) == "" {
				t.Errorf("%s of %s has no doc", k.name, typ)
			}
			look(k.typ)
		}
	}
	look(reflect.TypeFor[Project]())
	if len(explained) < 20 {
		t.Errorf("only %d types were looked at", len(explained))
	}
}
