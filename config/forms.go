package config

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// form is a value that YAML may write in several ways. Its decoder, its schema and its words in the reference stand together,
// so that they are changed together.
type form struct {
	// decode fills v, which has the form's type; key names the place in messages. It tells whether v got a value.
	decode func(d *decoder, t *tree, v reflect.Value, key string) bool
	schema func(s *schemas) schema
	words  string // in the reference's type column
}

// formOf adapts a typed decoding function.
func formOf[T any](words string, schema func(*schemas) schema, decode func(d *decoder, t *tree, key string) (T, bool)) form {
	return form{words: words, schema: schema, decode: func(d *decoder, t *tree, v reflect.Value, key string) bool {
		value, ok := decode(d, t, key)
		if ok {
			v.Set(reflect.ValueOf(&value).Elem())
		}
		return ok
	}}
}

// forms lists every type with a form of its own; all others are decoded by their kind and tags.
func forms() map[reflect.Type]form {
	return map[reflect.Type]form{
		reflect.TypeFor[Duration]():      formOf("duration", durationSchema, decodeDuration),
		reflect.TypeFor[Percent]():       formOf("percent", percentSchema, decodePercent),
		reflect.TypeFor[Strings]():       formOf("text or list", stringsSchema, decodeStrings),
		reflect.TypeFor[Normalize]():     formOf("normaliser", normalizeSchema, decodeNormalize),
		reflect.TypeFor[Numbers]():       formOf("number or list", numbersSchema, decodeNumbers),
		reflect.TypeFor[[]Within]():      formOf("number, days, or list", withinSchema, decodeWithin),
		reflect.TypeFor[[]*SourceFile](): formOf("map of name: file", filesSchema, decodeFiles),
		reflect.TypeFor[[]Key]():         formOf("map, or list of maps", keySchema, decodeKeys),
		reflect.TypeFor[[]*Field]():      formOf("map of name: field", fieldsSchema, decodeFields),
		reflect.TypeFor[OnDuplicate]():   formOf("word or map", onDuplicateSchema, decodeOnDuplicate),
		reflect.TypeFor[[]After]():       formOf("name, or list of names and maps", afterSchema, decodeAfter),
		reflect.TypeFor[AlertOn]():       formOf("list of words, or map", alertOnSchema, decodeAlertOn),
		reflect.TypeFor[OnRemove]():      formOf("word or map", onRemoveSchema, decodeOnRemove),
		reflect.TypeFor[Holdout]():       formOf("percent or map", holdoutSchema, decodeHoldout),
		reflect.TypeFor[Top]():           formOf("share or number, by a trait", topSchema, decodeTop),
		reflect.TypeFor[Sample]():        formOf("percent or map", sampleSchema, decodeSample),
		reflect.TypeFor[Split]():         formOf("map of name: percent", splitSchema, decodeSplit),
		reflect.TypeFor[Condition]():     formOf("condition", conditionSchema, decodeCondition),
		reflect.TypeFor[[]*Target]():     formOf("map of name: settings", targetsSchema, decodeTargets),
	}
}

func decodeStrings(d *decoder, t *tree, key string) (Strings, bool) {
	if t.shape == mapping {
		d.wants(t, key, "a text or a list of texts")
		return nil, false
	}
	if t.shape != sequence {
		s, ok := d.string(t, key)
		return Strings{s}, ok
	}
	var out Strings
	for _, item := range t.items {
		if s, ok := d.string(item, key); ok {
			out = append(out, s)
		}
	}
	return out, true
}

// normalizers are the words of normalize:.
func normalizers() []string { return []string{"email", "phone", "name", "date", "text"} }

func decodeNormalize(d *decoder, t *tree, key string) (Normalize, bool) {
	out := Normalize{Node: nodeAt(t)}
	kind, arg, ok := d.wordOrMap(t, key, &out.Node)
	if !ok || !d.oneOf(kind.value, key, kind.key, normalizers()) {
		return out, false
	}
	out.Kind = kind.key
	switch {
	case out.Kind == "phone" && arg == nil:
		d.problem(t.pos, "config.normalize", "%s: phone needs the country of numbers without one", key).WithHint("{phone: DK}")
		return out, false
	case out.Kind != "phone" && arg != nil:
		d.problem(arg.pos, "config.normalize", "%s: %s takes nothing", key, out.Kind).WithHint("%s: %s", key, out.Kind)
		return out, false
	case arg != nil:
		out.Country, ok = d.string(arg, "phone")
		if ok && !isCountry(out.Country) {
			d.wants(arg, "phone", "a country of two letters").WithHint("ISO 3166: DK, SE, US")
			return out, false
		}
	}
	return out, ok
}

func isCountry(s string) bool {
	return len(s) == 2 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// wordOrMap reads the form `word` or `{word: argument}`. The pair's value is the tree to blame for the word.
func (d *decoder) wordOrMap(t *tree, key string, node *Node) (word pair, arg *tree, ok bool) {
	switch t.shape {
	case scalar:
		r, ok := d.refs.resolve(t, d.problems)
		return pair{key: r.text, at: t.pos, value: t}, nil, ok && !(d.refs.blind && r.from)
	case mapping:
		if len(t.pairs) == 1 {
			p := t.pairs[0]
			node.put(p.key, p)
			return pair{key: p.key, at: p.at, value: &tree{pos: p.at, tag: "!!str", text: p.key}}, p.value, true
		}
		d.problem(t.pos, "config.type", "%q wants one word, not a map of %d keys", key, len(t.pairs))
	default:
		d.wants(t, key, "a word or a map")
	}
	return pair{}, nil, false
}

func decodeFiles(d *decoder, t *tree, key string) ([]*SourceFile, bool) {
	if t.shape != mapping {
		d.wants(t, key, "a map").WithHint("orders: data/orders.csv")
		return nil, false
	}
	var out []*SourceFile
	for _, p := range t.pairs {
		f := &SourceFile{}
		if p.value.shape == mapping {
			d.value(p.value, reflect.ValueOf(f).Elem(), p.key)
		} else if path, ok := d.string(p.value, p.key); ok {
			f.Path = path
			f.put("path", p)
		}
		f.Name, f.Pos = p.key, p.at
		out = append(out, f)
	}
	return out, true
}

func decodeKeys(d *decoder, t *tree, key string) ([]Key, bool) {
	maps := []*tree{t}
	if t.shape == sequence {
		maps = t.items
	}
	var out []Key
	for _, m := range maps {
		if m.shape != mapping {
			d.wants(m, key, "a map of fields and columns, or a list of those").WithHint("{email: email}")
			continue
		}
		if len(m.pairs) == 0 {
			d.problem(m.pos, "config.empty", "%q names no field", key).WithHint("{email: email}")
			continue
		}
		out = append(out, d.key(m))
	}
	return out, len(out) > 0
}

func (d *decoder) key(t *tree) Key {
	k := Key{Node: nodeAt(t)}
	for _, p := range t.pairs {
		k.put(p.key, p)
		c := KeyColumn{Node: Node{Pos: p.at}, Name: p.key}
		c.put("column", p)
		if column, ok := d.text(p.value, p.key, "a column"); ok {
			c.Column = column.text
			k.Columns = append(k.Columns, c)
		}
	}
	return k
}

func decodeFields(d *decoder, t *tree, key string) ([]*Field, bool) {
	if t.shape == null {
		return nil, false
	}
	if t.shape != mapping {
		d.wants(t, key, "a map of destination fields and columns").WithHint("{firstname: first_name}")
		return nil, false
	}
	var out []*Field
	for _, p := range t.pairs {
		if f, ok := d.field(p); ok {
			out = append(out, f)
		}
	}
	return out, true
}

func (d *decoder) field(p pair) (*Field, bool) {
	f := &Field{}
	if p.value.shape != mapping {
		if tag := p.value.tag; p.value.shape == scalar && tag != "!!str" {
			d.wants(p.value, p.key, "a column").WithHint("a constant is {value: %s}", shorten(p.value.text))
			return nil, false
		}
		column, ok := d.text(p.value, p.key, "a column")
		if !ok {
			return nil, false
		}
		d.structure(&tree{shape: mapping, pos: p.at}, reflect.ValueOf(f).Elem(), p.key)
		f.Name, f.Pos, f.Column = p.key, p.at, column.text
		f.put("column", p)
		return f, true
	}
	if !d.structure(p.value, reflect.ValueOf(f).Elem(), p.key) {
		return nil, false
	}
	f.Name, f.Pos, f.HasValue = p.key, p.at, f.Has("value")
	d.oneSource(f)
	return f, true
}

// oneSource holds that a field says exactly once where its value comes from.
func (d *decoder) oneSource(f *Field) {
	var said []string
	for _, k := range []string{"column", "value", "sql", "lookup", "segments"} {
		if f.Has(k) {
			said = append(said, k)
		}
	}
	switch {
	case len(said) == 0:
		d.problem(f.Pos, "config.field", "field %q does not say where its value comes from", f.Name).
			WithHint("column, value, sql, lookup or segments")
	case len(said) > 1:
		d.problem(f.Pos, "config.field", "field %q has both %s and %s", f.Name, said[0], said[1]).WithHint("keep one of them")
	}
}

// keepFirst is on_duplicate_key as a map.
type keepFirst struct {
	Node
	Keep    string `yaml:"keep" dray:"required,enum=first"`
	OrderBy string `yaml:"order_by" dray:"required"`
}

func decodeOnDuplicate(d *decoder, t *tree, key string) (OnDuplicate, bool) {
	out := OnDuplicate{Node: nodeAt(t)}
	if t.shape == scalar {
		r, ok := d.refs.resolve(t, d.problems)
		out.Act = r.text
		if out.Act == "error" || out.Act == "reject" || !ok {
			return out, ok
		}
	}
	if t.shape != mapping {
		d.wants(t, key, "error, reject or {keep: first, order_by: …}")
		return out, false
	}
	var keep keepFirst
	d.structure(t, reflect.ValueOf(&keep).Elem(), key)
	return OnDuplicate{Node: keep.Node, Act: "keep_first", OrderBy: keep.OrderBy}, true
}

// removal holds that a bare word is one; the words of vendors are actions.
func (d *decoder) removal(t *tree, key, word string) bool {
	if slices.Contains(removals(), word) || Suggest(word, removals()) != "" || strings.Contains(t.text, "${") {
		return d.oneOf(t, key, word, removals())
	}
	d.wants(t, key, join(removals(), "or")).WithHint("an action of the destination is {action: %s}", shorten(word))
	return false
}

// removals are the words of on_remove:.
func removals() []string { return []string{"delete", "clear", "ignore"} }

func decodeOnRemove(d *decoder, t *tree, key string) (OnRemove, bool) {
	out := OnRemove{Node: nodeAt(t)}
	word, arg, ok := d.wordOrMap(t, key, &out.Node)
	if !ok {
		return out, false
	}
	if arg == nil {
		out.Act = word.key
		if slices.Contains([]string{"set", "action"}, out.Act) {
			d.wants(t, key, "a map here").WithHint("{set: {status: inactive}} or {action: archive}")
			return out, false
		}
		return out, d.removal(t, key, out.Act)
	}
	out.Act = word.key
	switch out.Act {
	case "set":
		ok = d.value(arg, reflect.ValueOf(&out.Set).Elem(), "set")
		out.nested("set", arg)
	case "action":
		ok = d.value(arg, reflect.ValueOf(&out.Action).Elem(), "action")
	case "delete":
		ok = d.deleteOf(arg, &out)
	default:
		ok = d.oneOf(word.value, key, out.Act, []string{"delete", "set", "action"})
	}
	return out, ok
}

// deleteOptions is what on_remove: {delete: …} holds.
type deleteOptions struct {
	Node
	Matched bool `yaml:"matched"`
}

func (d *decoder) deleteOf(t *tree, out *OnRemove) bool {
	var options deleteOptions
	ok := d.structure(t, reflect.ValueOf(&options).Elem(), "delete")
	out.Matched = options.Matched
	return ok
}

func decodeHoldout(d *decoder, t *tree, key string) (Holdout, bool) {
	out := Holdout{Node: nodeAt(t)}
	if t.shape != mapping {
		share, ok := decodePercent(d, t, key)
		out.Share = share
		out.put("share", pair{key: "share", at: t.pos, value: t})
		return out, ok
	}
	ok := d.structure(t, reflect.ValueOf(&out).Elem(), key)
	return out, ok
}

const topHint = "top: 10% by lifetime_value, or top: 100 by lifetime_value"

// topText is `10% by lifetime_value`: what is taken, and by what.
var topText = regexp.MustCompile(`^\s*(?:(\S+)\s+)?by\s+(\S+)\s*$`)

func decodeTop(d *decoder, t *tree, key string) (Top, bool) {
	out := Top{Node: nodeAt(t)}
	r, ok := d.text(t, key, "a share or a number, by a trait")
	if !ok || d.refs.blind && r.from {
		return out, false
	}
	m := topText.FindStringSubmatch(r.text)
	switch {
	case m == nil:
		d.wants(t, key, "a share or a number, by a trait").WithHint("%s", topHint)
		return out, false
	case m[1] == "":
		d.problem(t.pos, "config.top", "%q does not say how many", key).WithHint("%s", topHint)
		return out, false
	}
	out.By = m[2]
	if strings.Contains(m[1], "%") {
		share, err := ParsePercent(m[1])
		if err != nil || share <= 0 {
			d.problem(t.pos, "config.top", "%q wants a share above 0 %% and up to 100 %%, or a number", key).WithHint("%s", topHint)
			return out, false
		}
		out.Share = share
		return out, true
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 {
		d.problem(t.pos, "config.top", "%q wants a share, or a whole number from 1", key).WithHint("%s", topHint)
		return out, false
	}
	out.Count = n
	return out, true
}

func decodeSample(d *decoder, t *tree, key string) (Sample, bool) {
	out := Sample{Node: nodeAt(t)}
	if t.shape != mapping {
		share, ok := decodePercent(d, t, key)
		out.Share = share
		out.put("share", pair{key: "share", at: t.pos, value: t})
		return out, ok
	}
	ok := d.structure(t, reflect.ValueOf(&out).Elem(), key)
	return out, ok && out.good("share")
}

// splitSeed is the key of a split that names no part.
const splitSeed = "seed"

func decodeSplit(d *decoder, t *tree, key string) (Split, bool) {
	out := Split{Node: nodeAt(t)}
	if t.shape != mapping {
		d.wants(t, key, "a map of names and shares").WithHint("split: {a: 50%%, b: 50%%}")
		return out, false
	}
	whole := true
	for _, p := range t.pairs {
		out.put(p.key, p)
		if p.key == splitSeed {
			seed, ok := d.string(p.value, p.key)
			out.Seed, whole = seed, whole && ok
			continue
		}
		part := SplitPart{Node: Node{Pos: p.at}, Name: p.key}
		part.put("share", p)
		share, ok := decodePercent(d, p.value, p.key)
		part.Share, whole = share, whole && ok
		out.Parts = append(out.Parts, part)
	}
	return out, whole
}

func decodeAfter(d *decoder, t *tree, key string) ([]After, bool) {
	items := []*tree{t}
	if t.shape == sequence {
		items = t.items
	}
	var out []After
	for _, item := range items {
		a := After{Node: nodeAt(item), When: "succeeded"}
		switch item.shape {
		case mapping:
			d.structure(item, reflect.ValueOf(&a).Elem(), key)
		case scalar:
			a.Sync, _ = d.string(item, key)
		default:
			d.wants(item, key, "a sync's name, or a list").WithHint("after: [contacts] or after: [{sync: contacts, when: clean}]")
			continue
		}
		if a.Sync != "" {
			out = append(out, a)
		}
	}
	return out, len(out) > 0
}

// alertWords are the words of on:.
func alertWords() []string {
	return []string{"failed", "partial", "held", "stale", "rejected", "recovered"}
}

func decodeAlertOn(d *decoder, t *tree, key string) (AlertOn, bool) {
	out := AlertOn{Node: nodeAt(t)}
	items := []*tree{t}
	if t.shape == sequence {
		items = t.items
	}
	said := 0
	for _, item := range items {
		switch item.shape {
		case mapping:
			for _, p := range item.pairs {
				out.put(p.key, p)
				said++
				if d.oneOf(&tree{pos: p.at, tag: "!!str", text: p.key}, key, p.key, alertWords()) {
					d.alertOn(&out, p.key, p.value)
				}
			}
		case scalar:
			word, ok := d.string(item, key)
			said++
			if ok && d.oneOf(item, key, word, alertWords()) {
				d.alertOn(&out, word, nil)
			}
		default:
			d.wants(item, key, "a list of words, or a map").WithHint("on: [failed, held, recovered] or on: {rejected: 1%%}")
			return out, false
		}
	}
	if said == 0 {
		d.problem(t.pos, "config.empty", "%q names nothing", key).WithHint("on: [failed, held, recovered]")
	}
	return out, said > 0
}

// alertOn takes one word, with its limit where it has one.
func (d *decoder) alertOn(out *AlertOn, word string, limit *tree) {
	share := func() *Percent {
		var p Percent
		if limit != nil {
			p, _ = decodePercent(d, limit, word)
		}
		return &p
	}
	switch word {
	case "partial":
		out.Partial = share()
	case "rejected":
		out.Rejected = share()
	case "stale":
		out.Stale = &Duration{}
		if limit != nil {
			*out.Stale, _ = decodeDuration(d, limit, word)
		}
	default:
		on := true
		if limit != nil {
			d.value(limit, reflect.ValueOf(&on).Elem(), word)
		}
		switch word {
		case "failed":
			out.Failed = on
		case "held":
			out.Held = on
		case "recovered":
			out.Recovered = on
		}
	}
}
