package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// schema is a JSON Schema as encoding/json writes it: keys sorted, so that the text is the same each time.
type schema map[string]any

// schemas makes JSON Schemas of the types of the language. Types that are named in several places become definitions.
type schemas struct {
	forms map[reflect.Type]form
	words vocabulary
	defs  schema
}

// JSONSchema is a JSON Schema (draft 2020-12) of any YAML file of a project. It takes every file that Load takes; what only
// a whole project shows (keys of dray.yaml in other files, doubled names) it cannot see.
func JSONSchema() ([]byte, error) {
	s := &schemas{forms: forms(), words: vocabulary{}, defs: schema{}}
	root := s.object(reflect.TypeFor[Project](), true)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Dray"
	root["description"] = "A YAML file of a Dray project. Each file may hold any of these keys; some belong to dray.yaml alone."
	root["type"] = []string{"object", "null"}
	root["$defs"] = s.defs
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// reference fits a value that is, or holds, a reference: it takes the type its place needs.
func reference() schema { return schema{"type": "string", "pattern": `\$\{`} }

func anyOf(of ...schema) schema { return schema{"anyOf": of} }

func text() schema { return schema{"type": []string{"string", "number", "boolean"}} }

func wordsSchema(words []string) schema { return anyOf(schema{"enum": words}, reference()) }

// orNull lets a list or map be written and left empty.
func orNull(s schema) schema {
	s["type"] = []any{s["type"], "null"}
	return s
}

// closed is an object with these properties and no other.
func closed(properties schema, required ...string) schema {
	out := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// tableOf is an object with any keys.
func tableOf(values schema) schema { return schema{"type": "object", "additionalProperties": values} }

// of is the schema of a type; partial leaves out what is required.
func (s *schemas) of(t reflect.Type, partial bool) schema {
	if f, ok := s.forms[t]; ok {
		return f.schema(s)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), partial)
	case reflect.Struct:
		return s.define(t, partial)
	case reflect.Slice:
		return orNull(schema{"type": "array", "items": s.of(t.Elem(), partial)})
	case reflect.Map:
		return orNull(tableOf(s.of(t.Elem(), partial)))
	case reflect.Bool:
		return anyOf(schema{"type": "boolean"}, reference())
	case reflect.Int:
		return anyOf(schema{"type": "integer", "minimum": 0}, reference())
	case reflect.Float64:
		return anyOf(schema{"type": "number", "minimum": 0}, reference())
	case reflect.Interface:
		return schema{}
	default:
		return text()
	}
}

// define puts a struct among the definitions and points at it.
func (s *schemas) define(t reflect.Type, partial bool) schema {
	name := t.Name()
	if partial {
		name += "Part"
	}
	if _, done := s.defs[name]; !done {
		s.defs[name] = true // while it is made: types may hold themselves
		s.defs[name] = s.object(t, partial)
	}
	return schema{"$ref": "#/$defs/" + name}
}

func (s *schemas) object(t reflect.Type, partial bool) schema {
	kind := s.words.of(t)
	properties := schema{}
	var required []string
	for _, k := range kind.keys {
		property := s.property(k)
		if k.name == "name" && namesRelations(t) {
			for word, of := range nameSchema() {
				property[word] = of
			}
			delete(property, "type")
		}
		for _, name := range append([]string{k.name}, k.aliases...) {
			properties[name] = property
		}
		if k.required && !partial {
			required = append(required, k.name)
		}
	}
	out := closed(properties, required...)
	out["additionalProperties"] = kind.rest >= 0
	if !partial {
		alternatives(t, out)
	}
	return out
}

// alternatives adds what must stand in a thing exactly once.
func alternatives(t reflect.Type, out schema) {
	one := func(keys ...string) schema {
		var of []schema
		for _, k := range keys {
			of = append(of, schema{"required": []string{k}})
		}
		return schema{"oneOf": of}
	}
	switch t {
	case reflect.TypeFor[Sync]():
		out["allOf"] = []schema{one("model", "segment", "entity")}
	case reflect.TypeFor[Segment]():
		var some []schema
		for _, k := range saysWho() {
			some = append(some, schema{"required": []string{k}})
		}
		out["allOf"] = []schema{{"not": schema{"required": []string{"where", "sql"}}}, {"anyOf": some}}
	case reflect.TypeFor[Trait]():
		out["allOf"] = []schema{one("name", "names"), one("pick", "value", "sql", "quintile")}
	}
}

// nameSchema is the text of a name that becomes part of a relation's or a column's.
func nameSchema() schema {
	return anyOf(schema{"type": "string", "pattern": identifier.String()}, reference())
}

// namesRelations tells whether the names of a type are identifiers; a source's tables bear the warehouse's own.
func namesRelations(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Source](), reflect.TypeFor[Model](), reflect.TypeFor[Entity](), reflect.TypeFor[Segment](),
		reflect.TypeFor[Destination](), reflect.TypeFor[Sync](), reflect.TypeFor[Identifier](), reflect.TypeFor[Trait](), reflect.TypeFor[Input](), reflect.TypeFor[Relation]():
		return true
	}
	return false
}

func (s *schemas) property(k key) schema {
	if k.unsupported {
		return schema{"not": schema{}, "description": k.doc + " Not supported yet."}
	}
	var out schema
	switch {
	case len(k.enum) > 0 && k.typ.Kind() == reflect.String:
		out = wordsSchema(without(k.enum, k.later))
	default:
		out = s.of(k.typ, k.typ == reflect.TypeFor[*Sync]())
	}
	doc := k.doc
	if len(k.engines) > 0 {
		doc = strings.Join(k.engines, ", ") + ": " + doc
	}
	if k.secret {
		out = reference()
	}
	described := schema{"description": doc}
	if k.hasFallback {
		described["description"] = k.doc + " Default: " + k.fallback + "."
	}
	for key, value := range out {
		described[key] = value
	}
	return described
}

func without(words, dropped []string) []string {
	var out []string
	for _, w := range words {
		keep := true
		for _, d := range dropped {
			keep = keep && d != w
		}
		if keep {
			out = append(out, w)
		}
	}
	return out
}

func durationSchema(*schemas) schema {
	return anyOf(schema{
		"type": "string", "examples": []string{"30s", "5m", "2h", "20d", "90 days"},
		"pattern": `^\s*([0-9]+(\.[0-9]+)?\s*[A-Za-z]+\s*)+$`,
	}, schema{"enum": []any{0, "0"}}, reference())
}

func percentSchema(*schemas) schema {
	return anyOf(schema{"type": "string", "pattern": `^\s*[0-9.]+\s*%?\s*$`, "examples": []string{"5%"}},
		schema{"type": "number", "minimum": 0, "maximum": 1}, reference())
}

func stringsSchema(*schemas) schema { return anyOf(text(), schema{"type": "array", "items": text()}) }

func numbersSchema(*schemas) schema { return oneOrSeveral(numberSchema()) }

func withinSchema(s *schemas) schema { return oneOrSeveral(anyOf(numberSchema(), durationSchema(s))) }

func numberSchema() schema {
	return anyOf(schema{"type": "number", "minimum": 0}, reference())
}

func oneOrSeveral(one schema) schema {
	return anyOf(one, schema{"type": "array", "items": one, "minItems": 1})
}

func normalizeSchema(*schemas) schema {
	phone := schema{"phone": anyOf(schema{"type": "string", "pattern": "^[A-Z]{2}$"}, reference())}
	return anyOf(wordsSchema(without(normalizers(), []string{"phone"})), closed(phone, "phone"))
}

func filesSchema(s *schemas) schema {
	return tableOf(anyOf(text(), s.define(reflect.TypeFor[SourceFile](), false)))
}

func keySchema(*schemas) schema {
	columns := tableOf(text())
	columns["minProperties"] = 1
	return anyOf(columns, schema{"type": "array", "items": columns, "minItems": 1})
}

func fieldsSchema(s *schemas) schema {
	field := anyOf(schema{"type": "string"}, schema{
		"$ref":  s.define(reflect.TypeFor[Field](), false)["$ref"],
		"oneOf": []schema{{"required": []string{"column"}}, {"required": []string{"value"}}, {"required": []string{"sql"}}, {"required": []string{"lookup"}}, {"required": []string{"segments"}}},
	})
	return orNull(tableOf(field))
}

func onDuplicateSchema(*schemas) schema {
	return anyOf(wordsSchema([]string{"error", "reject"}),
		closed(schema{"keep": wordsSchema([]string{"first"}), "order_by": text()}, "keep", "order_by"))
}

func holdoutSchema(s *schemas) schema {
	return anyOf(percentSchema(s), closed(schema{"share": percentSchema(s), "seed": text(), "by": text()}, "share"), closed(schema{"column": text()}, "column"))
}

func topSchema(*schemas) schema {
	return anyOf(schema{"type": "string", "pattern": `^\s*\S+\s+by\s+\S+\s*$`}, reference())
}

func sampleSchema(s *schemas) schema {
	return anyOf(percentSchema(s), s.define(reflect.TypeFor[Sample](), false))
}

func splitSchema(s *schemas) schema {
	return schema{"type": "object", "minProperties": 2, "properties": schema{splitSeed: text()}, "additionalProperties": percentSchema(s)}
}

func afterSchema(s *schemas) schema {
	one := anyOf(text(), s.define(reflect.TypeFor[After](), false))
	return anyOf(text(), s.define(reflect.TypeFor[After](), false), schema{"type": "array", "items": one, "minItems": 1})
}

func alertOnSchema(s *schemas) schema {
	on := anyOf(schema{"type": "boolean"}, reference())
	limits := closed(schema{"failed": on, "held": on, "recovered": on, "partial": percentSchema(s), "rejected": percentSchema(s), "stale": durationSchema(s)})
	limits["minProperties"] = 1
	one := anyOf(wordsSchema(alertWords()), limits)
	return anyOf(one, schema{"type": "array", "items": one, "minItems": 1})
}

func onRemoveSchema(*schemas) schema {
	matched := closed(schema{"matched": anyOf(schema{"type": "boolean"}, reference())})
	return anyOf(wordsSchema(removals()),
		closed(schema{"set": schema{"type": "object"}}, "set"),
		closed(schema{"action": text()}, "action"),
		closed(schema{"delete": matched}, "delete"))
}

func targetsSchema(s *schemas) schema {
	settings := schema{}
	project := reflect.TypeFor[Project]()
	for _, k := range s.words.of(project).keys {
		if k.name == "targets" || k.name == "version" {
			continue
		}
		property := s.property(k)
		if isSection(k) && !k.unsupported {
			thing, _ := structOf(k.typ)
			property = anyOf(schema{"type": "array", "items": s.define(thing, true)}, tableOf(s.define(thing, true)))
		}
		if k.name == "warehouse" {
			property = s.define(reflect.TypeFor[Warehouse](), true)
		}
		settings[k.name] = property
	}
	targets := tableOf(closed(settings, "schema"))
	targets["properties"] = schema{defaultTarget: closed(settings)}
	return orNull(targets)
}

func conditionSchema(s *schemas) schema {
	const name = "Condition"
	if _, done := s.defs[name]; !done {
		s.defs[name] = true
		kinds := []schema{text()}
		for _, l := range leaves() {
			kinds = append(kinds, s.leaf(l))
		}
		s.defs[name] = anyOf(kinds...)
	}
	return schema{"$ref": "#/$defs/" + name}
}

func (s *schemas) leaf(l leaf) schema {
	kind := s.words.of(reflect.TypeFor[Condition]())
	properties := schema{}
	for _, name := range append([]string{l.name}, l.beside...) {
		if l.name == "trait" && name != "trait" {
			properties[name] = s.operand(name)
			continue
		}
		k, _ := kind.find(name)
		properties[name] = s.property(k)
	}
	out := closed(properties, l.name)
	switch l.name {
	case "all", "any":
		list := properties[l.name].(schema)
		list["type"], list["minItems"] = "array", 1
	case "trait":
		out["minProperties"], out["maxProperties"] = 2, 2
	}
	return out
}

// operand is what an operator compares with.
func (s *schemas) operand(operator string) schema {
	jinja := schema{"type": "string", "pattern": `\{\{`}
	value := schema{"type": []string{"string", "number", "boolean"}}
	switch operator {
	case "older_than", "within", "within_next":
		return anyOf(durationSchema(s), jinja)
	case "is_null":
		return anyOf(schema{"type": "boolean"}, reference(), jinja)
	case "one_of", "none_of":
		return anyOf(schema{"type": "array", "items": value, "minItems": 1}, jinja)
	case "between":
		return anyOf(schema{"type": "array", "items": value, "minItems": 2, "maxItems": 2}, jinja)
	}
	return value
}
