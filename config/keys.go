package config

import (
	"reflect"
	"slices"
	"strings"
)

// key is what the tags of a struct field say about a word of the language.
type key struct {
	name        string
	aliases     []string
	index       int
	typ         reflect.Type
	doc         string
	required    bool
	root        bool // only in dray.yaml
	unsupported bool
	secret      bool     // must be a reference (I6)
	engines     []string // of a warehouse's keys: the types that have it; none = all
	enum        []string
	later       []string // words of the enum that are not built yet
	fallback    string
	hasFallback bool
}

// keysOf reads the tags of a struct type. rest is the index of the inline map that takes every other key; -1 without one.
func keysOf(t reflect.Type) (keys []key, rest int) {
	rest = -1
	for i := range t.NumField() {
		f := t.Field(i)
		name, flag, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case flag == "inline":
			rest = i
		case name != "" && name != "-":
			keys = append(keys, readTags(f, i, name))
		}
	}
	return keys, rest
}

func readTags(f reflect.StructField, index int, name string) key {
	k := key{name: name, index: index, typ: f.Type, doc: f.Tag.Get("doc")}
	for _, word := range strings.Split(f.Tag.Get("dray"), ",") {
		word, value, _ := strings.Cut(word, "=")
		switch word {
		case "required":
			k.required = true
		case "root":
			k.root = true
		case "secret":
			k.secret = true
		case "for":
			k.engines = strings.Split(value, "|")
		case "unsupported":
			k.unsupported = value == ""
			k.later = strings.FieldsFunc(value, func(r rune) bool { return r == '|' })
		case "enum":
			k.enum = strings.Split(value, "|")
		case "alias":
			k.aliases = strings.Split(value, "|")
		case "default":
			k.fallback, k.hasFallback = value, true
		}
	}
	return k
}

// isFor tells whether a warehouse of a type has the key; of a type that is not known, any may be.
func (k key) isFor(engine string) bool {
	return engine == "" || len(k.engines) == 0 || slices.Contains(k.engines, engine)
}

// names are all words a struct knows, aliases included.
func names(keys []key) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.name)
		out = append(out, k.aliases...)
	}
	return out
}

// vocabulary remembers the keys of each type of the language.
type vocabulary map[reflect.Type]words

type words struct {
	keys []key
	rest int
}

func (v vocabulary) of(t reflect.Type) words {
	w, ok := v[t]
	if !ok {
		w.keys, w.rest = keysOf(t)
		v[t] = w
	}
	return w
}

func (w words) find(name string) (key, bool) {
	for _, k := range w.keys {
		if k.name == name || slices.Contains(k.aliases, name) {
			return k, true
		}
	}
	return key{}, false
}

// of leaves out what is another engine's.
func (w words) of(engine string) words {
	w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(k key) bool { return !k.isFor(engine) })
	return w
}

// whose finds where a misplaced word belongs: under a key of the same struct, or to another kind of thing.
func (v vocabulary) whose(word string, here reflect.Type) string {
	for _, k := range v.of(here).keys {
		if inner, ok := structOf(k.typ); ok && inner != here {
			if _, has := v.of(inner).find(word); has {
				return "it belongs under " + k.name + ":"
			}
		}
	}
	if here == reflect.TypeFor[Project]() {
		return ""
	}
	for _, k := range v.of(reflect.TypeFor[Project]()).keys {
		if inner, ok := structOf(k.typ); ok && inner != here {
			if _, has := v.of(inner).find(word); has {
				return "it is a key of " + k.name
			}
		}
	}
	return ""
}

// structOf looks through pointers and lists at a struct of the language.
func structOf(t reflect.Type) (reflect.Type, bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	_, isNode := nodeField(t)
	return t, isNode
}

func nodeField(t reflect.Type) (int, bool) {
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return 0, false
	}
	return 0, t.Field(0).Type == reflect.TypeFor[Node]()
}

// noun is what a message calls a thing of a type.
func noun(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Project]():
		return "project"
	case reflect.TypeFor[SourceTable]():
		return "source table"
	case reflect.TypeFor[SourceFile]():
		return "source file"
	case reflect.TypeFor[ColumnIs]():
		return "column"
	case reflect.TypeFor[DBT]():
		return "dbt"
	case reflect.TypeFor[ModelTests]():
		return "tests"
	case reflect.TypeFor[EntityGuard]():
		return "guard"
	case reflect.TypeFor[keepFirst]():
		return "on_duplicate_key"
	case reflect.TypeFor[deleteOptions]():
		return "on_remove's delete"
	case reflect.TypeFor[RetryPolicy]():
		return "retry"
	}
	return strings.ToLower(t.Name())
}
