package config

import (
	"reflect"
	"slices"
	"strings"
)

// leaf is one kind of condition: the key that names it and what may stand beside it.
type leaf struct {
	name   string
	beside []string
}

func leaves() []leaf {
	return []leaf{
		{"all", nil},
		{"any", nil},
		{"not", nil},
		{"trait", operators()},
		{"did", []string{"where", "at_least", "at_most", "exactly", "within", "and_not_since", "then"}},
		{"in", nil},
		{"sent", []string{"within"}},
		{"sql", nil},
	}
}

// operators are what a trait is compared by.
func operators() []string {
	return []string{
		"eq", "ne", "gt", "gte", "lt", "lte", "one_of", "none_of", "between", "contains", "starts_with", "is_null",
		"older_than", "within", "within_next",
	}
}

func decodeCondition(d *decoder, t *tree, key string) (Condition, bool) {
	c := Condition{Node: nodeAt(t)}
	switch t.shape {
	case scalar:
		r, ok := d.refs.resolve(t, d.problems)
		if ok && strings.TrimSpace(r.text) == "" && !r.from {
			d.problem(t.pos, "config.empty", "%q is empty", key).WithHint("write a condition, or take the key away")
			return c, false
		}
		c.SQL = r.text
		c.places = []place{placeOf("sql", t)}
		return c, ok
	case mapping:
		return c, d.condition(t, &c)
	case sequence:
		d.wants(t, key, "one condition").WithHint("put the list under all: or any:")
	default:
		d.wants(t, key, "a condition")
	}
	return c, false
}

func (d *decoder) condition(t *tree, c *Condition) bool {
	kind, ok := d.leafOf(t)
	if !ok {
		return false
	}
	var said []string // operators
	for _, p := range t.pairs {
		switch {
		case p.key != kind.name && !slices.Contains(kind.beside, p.key):
			d.misplaced(p, kind)
			ok = false
		case kind.name == "trait" && p.key != "trait":
			said = append(said, p.key)
			c.put(p.key, p)
			ok = d.compare(p, c) && ok
		default:
			c.put(p.key, p)
			word, _ := d.words.of(reflect.TypeFor[Condition]()).find(p.key)
			if word.unsupported {
				d.problem(p.at, "config.unsupported", "%q is not supported yet", p.key)
				ok = false
				continue
			}
			read := d.value(p.value, reflect.ValueOf(c).Elem().Field(word.index), p.key)
			ok = ok && (read || p.value.shape == null && listLike(word.typ))
		}
	}
	return ok && d.whole(t, kind, c, said)
}

// leafOf finds which kind of condition a map is: exactly one of its naming keys is written.
func (d *decoder) leafOf(t *tree) (leaf, bool) {
	var found []leaf
	var all []string
	for _, l := range leaves() {
		if word, _ := d.words.of(reflect.TypeFor[Condition]()).find(l.name); !word.unsupported {
			all = append(all, l.name)
		}
		if _, ok := t.find(l.name); ok {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], true
	case 0:
		e := d.problem(t.pos, "config.condition", "a condition needs one of %s", join(all, "or"))
		for _, p := range t.pairs {
			if s := Suggest(p.key, all); s != "" {
				e.WithHint("did you mean %s instead of %s?", s, p.key)
				break
			}
		}
	default:
		d.problem(t.pos, "config.condition", "a condition has both %s and %s", found[0].name, found[1].name).
			WithHint("put each into a map of its own, under all: or any:")
	}
	return leaf{}, false
}

func (d *decoder) misplaced(p pair, kind leaf) {
	e := d.problem(p.at, "config.unknown_key", "unknown key %q in a condition on %s", p.key, kind.name)
	if s := Suggest(p.key, kind.beside); s != "" {
		e.WithHint("did you mean %s?", s)
	} else if len(kind.beside) > 0 {
		e.WithHint("known: %s", strings.Join(kind.beside, ", "))
	} else {
		e.WithHint("nothing stands beside %s", kind.name)
	}
}

// whole checks what a leaf needs beside the types of its keys.
func (d *decoder) whole(t *tree, kind leaf, c *Condition, said []string) bool {
	switch kind.name {
	case "all", "any":
		if list, _ := t.find(kind.name); len(list.value.items) == 0 {
			d.problem(list.at, "config.condition", "%q needs at least one condition", kind.name)
			return false
		}
	case "trait":
		if len(said) == 0 {
			named, _ := t.find("trait")
			d.problem(t.pos, "config.condition", "trait %q is not compared with anything", shorten(named.value.text)).
				WithHint("operators: %s", strings.Join(operators(), ", "))
			return false
		}
		if len(said) > 1 {
			d.problem(t.pos, "config.condition", "a condition on a trait has both %s and %s", said[0], said[1]).
				WithHint("write two conditions under all:")
			return false
		}
	case "did":
		return d.wholeDid(t, c)
	}
	return true
}

func (d *decoder) wholeDid(t *tree, c *Condition) bool {
	var counts []string
	for _, k := range []string{"at_least", "at_most", "exactly"} {
		if c.Has(k) {
			counts = append(counts, k)
		}
	}
	if len(counts) > 1 {
		d.problem(t.pos, "config.condition", "a condition has both %s and %s", counts[0], counts[1]).WithHint("keep one of them")
		return false
	}
	for k, inner := range map[string]*Condition{"then": c.Then, "and_not_since": c.AndNotSince} {
		if inner != nil && inner.Did == "" {
			d.problem(c.At(k), "config.condition", "%q wants a condition on did", k).WithHint("%s: {did: …}", k)
			return false
		}
	}
	return true
}

// compare reads an operator with its value. A value that holds Jinja stays a text: its type is known when it is rendered.
func (d *decoder) compare(p pair, c *Condition) bool {
	c.Op = p.key
	if p.value.shape == scalar && strings.Contains(p.value.text, "{{") {
		r, ok := d.refs.resolve(p.value, d.problems)
		c.Value = r.text
		return ok
	}
	switch p.key {
	case "older_than", "within", "within_next":
		return decodeInto[Duration](d, p, c)
	case "is_null":
		return decodeInto[bool](d, p, c)
	case "contains", "starts_with":
		return decodeInto[string](d, p, c)
	case "one_of", "none_of", "between":
		return d.compareList(p, c)
	}
	return d.compareOne(p, c)
}

func decodeInto[T any](d *decoder, p pair, c *Condition) bool {
	var value T
	ok := d.value(p.value, reflect.ValueOf(&value).Elem(), p.key)
	c.Value = value
	return ok
}

func (d *decoder) compareOne(p pair, c *Condition) bool {
	if p.value.shape == null {
		d.wants(p.value, p.key, "a value").WithHint("NULL is asked for by is_null: true")
		return false
	}
	if p.value.shape != scalar {
		d.wants(p.value, p.key, "one value")
		return false
	}
	return decodeInto[any](d, p, c)
}

func (d *decoder) compareList(p pair, c *Condition) bool {
	if p.value.shape != sequence || len(p.value.items) == 0 {
		d.wants(p.value, p.key, "a list of values")
		return false
	}
	if p.key == "between" && len(p.value.items) != 2 {
		d.problem(p.value.pos, "config.type", "%q wants two values, not %d", p.key, len(p.value.items))
		return false
	}
	for _, item := range p.value.items {
		if item.shape != scalar {
			d.wants(item, p.key, "a list of values")
			return false
		}
	}
	return decodeInto[any](d, p, c)
}
