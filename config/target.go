package config

import (
	"reflect"
	"slices"
	"strings"
)

// defaultTarget is the name of the settings as they stand outside targets:.
const defaultTarget = "default"

func decodeTargets(d *decoder, t *tree, key string) ([]*Target, bool) {
	if t.shape == null {
		return nil, false
	}
	if t.shape != mapping {
		d.wants(t, key, "a map of targets").WithHint("dev: {schema: dray_dev}")
		return nil, false
	}
	var out []*Target
	for _, p := range t.pairs {
		target := &Target{Node: Node{Pos: p.at}, Name: p.key}
		for _, setting := range p.value.pairs {
			target.put(setting.key, setting)
		}
		out = append(out, target)
	}
	return out, true
}

// applyTarget checks every target and lays the selected one over the project.
func (l *loader) applyTarget(root *tree) (*tree, bool) {
	var targets []pair
	if section, ok := root.find("targets"); ok && section.value.shape == mapping {
		targets = section.value.pairs
	}
	for _, t := range targets {
		l.checkTarget(t, root)
	}
	if l.target() == "" {
		return root, true
	}
	known := []string{defaultTarget}
	for _, t := range targets {
		if t.key == l.target() && t.value.shape == mapping {
			return l.overlay(root, t.value), true
		}
		known = append(known, t.key)
	}
	e := l.problem(root.pos, "config.unknown_target", "there is no target %q", l.target())
	if s := Suggest(l.target(), known); s != "" {
		e.WithHint("did you mean %s?", s)
	} else {
		e.WithHint("known: %s", strings.Join(known, ", "))
	}
	return root, false
}

// checkTarget holds what must hold of a target whether it is selected or not. Its references are not looked up: whoever works on
// dev need not have the secrets of prod.
func (l *loader) checkTarget(target pair, root *tree) {
	if target.value.shape != mapping {
		l.problem(target.value.pos, "config.type", "target %q wants a map, not %s", target.key, target.value.words())
		return
	}
	d := newDecoder(&resolver{blind: true, env: l.options.Env}, &l.problems.List)
	d.partial = true
	kind := d.words.of(reflect.TypeFor[Project]())
	for _, p := range target.value.pairs {
		k, known := kind.find(p.key)
		switch {
		case !known || p.key == "targets" || p.key == "version":
			e := l.problem(p.at, "config.unknown_key", "target %q cannot set %q", target.key, p.key)
			if s := Suggest(p.key, names(kind.keys)); s != "" && s != p.key {
				e.WithHint("did you mean %s?", s)
			}
		case k.unsupported:
			l.problem(p.at, "config.unsupported", "%q is not supported yet", p.key)
		case isSection(k) && p.value.shape == mapping:
			d.checkOverrides(p, k, root)
		default:
			d.value(p.value, reflect.New(k.typ).Elem(), p.key)
		}
	}
	l.checkTargetSchema(target, root)
}

func (l *loader) checkTargetSchema(target pair, root *tree) {
	own, ok := target.value.find("schema")
	if !ok {
		if target.key != defaultTarget {
			l.problem(target.at, "config.target_schema", "target %q needs a schema of its own", target.key).
				WithHint("%s: {schema: dray_%s}", target.key, target.key)
		}
		return
	}
	usual := "dray"
	if s, ok := root.find("schema"); ok {
		usual = s.value.text
	}
	if own.value.shape == scalar && strings.EqualFold(own.value.text, usual) {
		l.problem(own.value.pos, "config.target_schema", "target %q needs a schema of its own; %s is the default target's", target.key, shorten(usual))
	}
}

// isSection tells whether a top-level key holds a list of named things.
func isSection(k key) bool {
	_, things := structOf(k.typ)
	return things && k.typ.Kind() == reflect.Slice && k.typ != reflect.TypeFor[[]*Target]()
}

// checkOverrides reads a map of name → keys, as targets have it for destinations and other lists.
func (d *decoder) checkOverrides(section pair, k key, root *tree) {
	known := namesIn(root, section.key)
	for _, p := range section.value.pairs {
		if p.key != "*" && !slices.Contains(known, p.key) {
			e := d.problem(p.at, "config.unknown_name", "there is no %q under %s: to override", p.key, section.key)
			if s := Suggest(p.key, known); s != "" {
				e.WithHint("did you mean %s?", s)
			} else {
				e.WithHint(`known: %s; "*" means all`, strings.Join(known, ", "))
			}
		}
		typ, _ := structOf(k.typ)
		d.structure(p.value, reflect.New(typ).Elem(), p.key)
	}
}

func namesIn(root *tree, section string) []string {
	var out []string
	if s, ok := root.find(section); ok {
		for _, item := range s.value.items {
			out = append(out, item.name())
		}
	}
	return out
}

// name is the text of a thing's name: key.
func (t *tree) name() string {
	if p, ok := t.find("name"); ok {
		return p.value.text
	}
	return ""
}

// overlay lays a target's settings over the project's.
func (l *loader) overlay(root, target *tree) *tree {
	kind := l.decoder.words.of(reflect.TypeFor[Project]())
	for _, p := range target.pairs {
		before, has := root.find(p.key)
		k, _ := kind.find(p.key)
		switch {
		case has && isSection(k) && p.value.shape == mapping:
			p = pair{key: p.key, at: before.at, value: overrideItems(before.value, p.value)}
		case has && p.key == "warehouse":
			p.value = override(before.value, p.value)
		case has && p.key == "vars":
			p.value = mergeMaps(before.value, p.value)
		case has && p.key == "defaults":
			p.value = mergeMaps(before.value, p.value, "syncs", "guard", "retry")
		}
		root = root.with(p)
	}
	return root
}

// overrideItems applies name → keys to a list of named things: "*" to all, then each name to its own.
func overrideItems(list, overrides *tree) *tree {
	if list.shape != sequence {
		return list
	}
	out := *list
	out.items = slices.Clone(list.items)
	for i, item := range out.items {
		for _, name := range []string{"*", item.name()} {
			if o, ok := overrides.find(name); ok && o.value.shape == mapping && item.shape == mapping {
				item = override(item, o.value)
			}
		}
		out.items[i] = item
	}
	return &out
}

// override lays keys over a thing. Another `type` replaces it whole but for its name and purpose: the old one's options mean nothing
// there, but who consents to be sent is the same question.
func override(old, over *tree) *tree {
	if _, retyped := over.find("type"); !retyped {
		return mergeMaps(old, over, "guard", "retry", "options")
	}
	fresh := *over
	var kept []pair
	for _, key := range []string{"name", "purpose"} {
		_, own := over.find(key)
		if p, ok := old.find(key); ok && !own {
			kept = append(kept, p)
		}
	}
	fresh.pairs = append(kept, over.pairs...)
	return &fresh
}

// mergeMaps lays the keys of over on base; maps under a key that deep names are merged themselves.
func mergeMaps(base, over *tree, deep ...string) *tree {
	if base.shape != mapping || over.shape != mapping {
		return over
	}
	out := base
	for _, p := range over.pairs {
		if before, ok := base.find(p.key); ok && slices.Contains(deep, p.key) {
			p.value = mergeMaps(before.value, p.value, deep...)
		}
		out = out.with(p)
	}
	return out
}

// applyDefaults fills each sync with what defaults: says and the sync leaves out.
func (l *loader) applyDefaults(root *tree) *tree {
	section, ok := root.find("defaults")
	if !ok {
		return root
	}
	l.checkDefaults(section)
	filling, ok := section.value.find("syncs")
	syncs, has := root.find("syncs")
	if !ok || !has || filling.value.shape != mapping || syncs.value.shape != sequence {
		return root.without("defaults")
	}
	filled := *syncs.value
	filled.items = slices.Clone(filled.items)
	for i, item := range filled.items {
		if item.shape == mapping {
			filled.items[i] = mergeMaps(inherit(filling.value), item, "guard", "retry").at(item)
		}
	}
	syncs.value = &filled
	return root.with(syncs).without("defaults")
}

// checkDefaults reads defaults: as a sync without its required keys, once, so that a mistake is reported where it stands.
func (l *loader) checkDefaults(section pair) {
	d := newDecoder(l.decoder.refs, &l.problems.List)
	d.partial = true
	var defaults Defaults
	if section.value.shape != null {
		d.structure(section.value, reflect.ValueOf(&defaults).Elem(), "defaults")
	}
}

// inherit marks all keys as filled in.
func inherit(t *tree) *tree {
	if t.shape != mapping {
		return t
	}
	out := *t
	out.pairs = slices.Clone(t.pairs)
	for i := range out.pairs {
		out.pairs[i].inherited = true
		out.pairs[i].value = inherit(out.pairs[i].value)
	}
	return &out
}

// at moves a merged map to where its own part is written.
func (t *tree) at(own *tree) *tree {
	out := *t
	out.pos, out.body = own.pos, own.body
	return &out
}

func (t *tree) without(key string) *tree {
	out := *t
	out.pairs = slices.DeleteFunc(slices.Clone(t.pairs), func(p pair) bool { return p.key == key })
	return &out
}
