package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// decoder fills the types of the language from trees. It never stops at a problem: all are collected.
type decoder struct {
	refs     *resolver
	problems *diag.List
	words    vocabulary
	forms    map[reflect.Type]form
	// partial: what is missing is neither missed nor given its default (overrides of a target).
	partial bool
}

func newDecoder(refs *resolver, problems *diag.List) *decoder {
	return &decoder{refs: refs, problems: problems, words: vocabulary{}, forms: forms()}
}

func (d *decoder) problem(at diag.Pos, code, format string, args ...any) *diag.Error {
	e := diag.At(at, code, format, args...)
	*d.problems = append(*d.problems, e)
	return e
}

// wants reports a value of the wrong type.
func (d *decoder) wants(t *tree, key, what string) *diag.Error {
	return d.problem(t.pos, "config.type", "%q wants %s, not %s", key, what, t.words())
}

// value decodes t into v; key names the place in messages. It tells whether v got a value.
func (d *decoder) value(t *tree, v reflect.Value, key string) bool {
	if f, ok := d.forms[v.Type()]; ok {
		return f.decode(d, t, v, key)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(t, v.Elem(), key)
	case reflect.Struct:
		return d.structure(t, v, key)
	case reflect.Slice:
		return d.list(t, v, key)
	case reflect.Map:
		return d.table(t, v, key)
	case reflect.Interface:
		return d.anything(t, v, key, infer)
	default:
		return d.scalar(t, v, key)
	}
}

// text is a scalar's text with its references looked up; a problem is reported where there is none.
func (d *decoder) text(t *tree, key, what string) (resolved, bool) {
	switch t.shape {
	case scalar:
		return d.refs.resolve(t, d.problems)
	case null:
		d.problem(t.pos, "config.empty", "%q is empty", key).WithHint("write %s, or take the key away", what)
	default:
		d.wants(t, key, what)
	}
	return resolved{}, false
}

// string is a text; numbers and booleans are taken as they are written.
func (d *decoder) string(t *tree, key string) (string, bool) {
	r, ok := d.text(t, key, "a text")
	return r.text, ok
}

func (d *decoder) scalar(t *tree, v reflect.Value, key string) bool {
	what := map[reflect.Kind]string{
		reflect.String: "a text", reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.Float64: "a number",
	}[v.Kind()]
	r, ok := d.text(t, key, what)
	if !ok || d.refs.blind && r.from {
		return false
	}
	free := r.from || t.anyType
	switch v.Kind() {
	case reflect.String:
		v.SetString(r.text)
		return true
	case reflect.Bool:
		ok = (free || t.tag == "!!bool") && setBool(v, r.text)
	case reflect.Int:
		ok = (free || t.tag == "!!int") && setInt(v, r.text)
	case reflect.Float64:
		ok = (free || t.tag == "!!int" || t.tag == "!!float") && setFloat(v, r.text)
	default:
		panic(fmt.Sprintf("config: no decoding into %s", v.Type()))
	}
	if !ok {
		d.wants(t, key, what)
	}
	return ok
}

func setBool(v reflect.Value, text string) bool {
	b, ok := map[string]bool{"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false}[text]
	v.SetBool(b)
	return ok
}

func setInt(v reflect.Value, text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	v.SetInt(n)
	return err == nil && n >= 0
}

func setFloat(v reflect.Value, text string) bool {
	f, err := strconv.ParseFloat(text, 64)
	v.SetFloat(f)
	return err == nil && f >= 0 && !math.IsInf(f, 0)
}

func (d *decoder) list(t *tree, v reflect.Value, key string) bool {
	switch t.shape {
	case null:
		return false
	case sequence:
	default:
		e := d.wants(t, key, "a list")
		if _, things := d.plainStruct(v.Type()); things {
			e.WithHint("- {name: …}")
		} else if t.shape == scalar && !strings.Contains(t.text, "${") {
			e.WithHint("[%s]", shorten(t.text))
		}
		return false
	}
	out := reflect.MakeSlice(v.Type(), 0, len(t.items))
	_, things := d.plainStruct(v.Type())
	for _, item := range t.items {
		if things && item.shape != mapping {
			d.problem(item.pos, "config.type", "%q is a list of maps; this is %s", key, item.words()).WithHint("- {name: …}")
			continue
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if d.value(item, element, key) {
			out = reflect.Append(out, element)
		}
	}
	v.Set(out)
	return true
}

// plainStruct is structOf for types that have no form of their own.
func (d *decoder) plainStruct(t reflect.Type) (reflect.Type, bool) {
	inner, ok := structOf(t)
	_, form := d.forms[inner]
	return inner, ok && !form
}

// listLike are the types whose value may be left out: nothing is an empty list.
func listLike(t reflect.Type) bool { return t.Kind() == reflect.Slice || t.Kind() == reflect.Map }

func (d *decoder) table(t *tree, v reflect.Value, key string) bool {
	if t.shape == null {
		return false
	}
	if t.shape != mapping {
		d.wants(t, key, "a map")
		return false
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(t.pairs)))
	for _, p := range t.pairs {
		element := reflect.New(v.Type().Elem()).Elem()
		if d.value(p.value, element, p.key) {
			v.SetMapIndex(reflect.ValueOf(p.key), element)
		}
	}
	return true
}

// structure decodes a map into a struct that embeds Node.
func (d *decoder) structure(t *tree, v reflect.Value, name string) bool {
	if t.shape != mapping {
		d.wants(t, name, "a map")
		return false
	}
	kind := d.words.of(v.Type())
	node := Node{Pos: t.pos, places: make([]place, 0, len(t.pairs))}
	for _, p := range t.pairs {
		d.pair(p, t, v, kind, &node)
	}
	if !d.partial {
		d.complete(t, v, kind, node)
	}
	v.FieldByName("Node").Set(reflect.ValueOf(node))
	return true
}

func (d *decoder) pair(p pair, t *tree, v reflect.Value, kind words, node *Node) {
	k, known := kind.find(p.key)
	switch {
	case known && k.unsupported:
		node.put(k.name, p)
		d.problem(p.at, "config.unsupported", "%q is not supported yet", p.key)
	case known && !k.isFor(engineOf(t, v.Type())):
		d.unknown(p, t, v.Type(), kind)
	case known:
		if first := node.place(k.name); first != nil {
			d.problem(p.at, "config.duplicate_key", "%q says the same as the key at %s", p.key, first.pos())
			return
		}
		node.put(k.name, p)
		if d.value(p.value, v.Field(k.index), p.key) {
			d.checkEnum(k, p, v.Field(k.index))
		} else if p.value.shape != null || !listLike(k.typ) {
			node.spoil(k.name)
		}
		node.nested(k.name, p.value)
	case kind.rest >= 0:
		node.put(p.key, p)
		node.nested(p.key, p.value)
		d.option(p, v.Field(kind.rest))
	default:
		d.unknown(p, t, v.Type(), kind)
	}
}

// engineOf is the type of a warehouse, if that is what it is and its type is one of those there are.
func engineOf(t *tree, typ reflect.Type) string {
	if typ != reflect.TypeFor[Warehouse]() {
		return ""
	}
	engine, written := t.find("type")
	kind, _ := keysOf(typ)
	if !written || !slices.Contains(kind[0].enum, engine.value.text) {
		return ""
	}
	return engine.value.text
}

// option keeps a key that a connector's own declaration will judge. Its texts stay texts: a token may look like a number.
func (d *decoder) option(p pair, options reflect.Value) {
	if options.IsNil() {
		options.Set(reflect.MakeMap(options.Type()))
	}
	var value any
	if d.anything(p.value, reflect.ValueOf(&value).Elem(), p.key, asText) {
		options.SetMapIndex(reflect.ValueOf(p.key), reflect.ValueOf(&value).Elem())
	}
}

// complete adds defaults and misses what must be there.
func (d *decoder) complete(t *tree, v reflect.Value, kind words, node Node) {
	var lacks []string
	for _, k := range kind.keys {
		if node.place(k.name) != nil {
			continue
		}
		field := v.Field(k.index)
		switch {
		case k.required:
			lacks = append(lacks, k.name)
		case k.hasFallback:
			d.value(&tree{shape: scalar, tag: "!!str", text: k.fallback, anyType: true}, field, k.name)
		case field.Kind() == reflect.Struct && d.forms[field.Type()].decode == nil:
			d.structure(&tree{shape: mapping, pos: t.pos, body: t.pos}, field, k.name)
		}
	}
	if len(lacks) > 0 {
		d.problem(t.pos, "config.missing_key", "%s lacks %s", d.title(t, v.Type()), join(lacks, "and"))
	}
}

// title is how a message calls a thing: sync "vips".
func (d *decoder) title(t *tree, typ reflect.Type) string {
	if p, ok := t.find("name"); ok && p.value.shape == scalar {
		return noun(typ) + " " + quote(shorten(p.value.text))
	}
	if typ == reflect.TypeFor[Project]() {
		return "dray.yaml"
	}
	return noun(typ)
}

func (d *decoder) unknown(p pair, t *tree, typ reflect.Type, kind words) {
	if k, ok := kind.find("type"); ok && slices.Contains(k.later, engineOf(t, typ)) {
		return // the type is what is wrong
	}
	kind = kind.of(engineOf(t, typ))
	e := d.problem(p.at, "config.unknown_key", "unknown key %q in %s", p.key, d.title(t, typ))
	if s := Suggest(p.key, names(kind.keys)); s != "" {
		e.WithHint("did you mean %s?", s)
	} else if owner := d.words.whose(p.key, typ); owner != "" {
		e.WithHint("%s", owner)
	} else {
		e.WithHint("known: %s", strings.Join(supported(kind.keys), ", "))
	}
}

func supported(keys []key) []string {
	var out []string
	for _, k := range keys {
		if !k.unsupported {
			out = append(out, k.name)
		}
	}
	return out
}

func (d *decoder) checkEnum(k key, p pair, v reflect.Value) {
	if len(k.enum) == 0 || v.Kind() != reflect.String {
		return
	}
	if slices.Contains(k.later, v.String()) {
		d.problem(p.value.pos, "config.unsupported", "%s: %s is not supported yet", p.key, v.String())
		return
	}
	d.oneOf(p.value, p.key, v.String(), k.enum)
}

// oneOf reports a word that is not among the known ones.
func (d *decoder) oneOf(t *tree, key, word string, known []string) bool {
	for _, w := range known {
		if w == word {
			return true
		}
	}
	e := d.wants(t, key, join(known, "or"))
	if s := Suggest(word, known); s != "" && !strings.Contains(t.text, "${") {
		e.WithHint("did you mean %s?", s)
	}
	return false
}

// join is "a, b or c".
func join(words []string, last string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

// anything decodes a value whose type nobody declared: string, bool, int, float64, nil, []any or map[string]any. fromReference
// says what the text of a reference becomes.
func (d *decoder) anything(t *tree, v reflect.Value, key string, fromReference func(string) any) bool {
	var out any
	switch t.shape {
	case null:
		return true
	case scalar:
		r, ok := d.refs.resolve(t, d.problems)
		if !ok {
			return false
		}
		out = plain(t, r, fromReference)
	case sequence:
		list := make([]any, len(t.items))
		for i, item := range t.items {
			d.anything(item, reflect.ValueOf(&list[i]).Elem(), key, fromReference)
		}
		out = list
	case mapping:
		table := make(map[string]any, len(t.pairs))
		for _, p := range t.pairs {
			var value any
			d.anything(p.value, reflect.ValueOf(&value).Elem(), p.key, fromReference)
			table[p.key] = value
		}
		out = table
	}
	if out != nil {
		v.Set(reflect.ValueOf(out))
	}
	return true
}

func plain(t *tree, r resolved, fromReference func(string) any) any {
	switch {
	case r.only:
		return fromReference(r.text)
	case t.tag == "!!str":
		return r.text
	}
	return infer(r.text)
}

func asText(s string) any { return s }

var (
	wholeNumber = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)
	otherNumber = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// infer gives a text the type it looks like. A number with a leading zero (007) and one that fits no 64 bits stay texts.
func infer(text string) any {
	switch {
	case text == "true" || text == "True" || text == "TRUE":
		return true
	case text == "false" || text == "False" || text == "FALSE":
		return false
	case wholeNumber.MatchString(text):
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	case otherNumber.MatchString(text):
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	}
	return text
}
