package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

// Reference is docs/reference/language.md: every word of the language with its type, default and meaning, made from the types.
func Reference() []byte {
	w := &referenceWriter{forms: forms(), words: vocabulary{}}
	w.text(referenceIntroduction)
	w.section("The project", "A project is a folder with a `dray.yaml`. Every other `*.yaml` or `*.yml` below it belongs to it as well, and "+
		"may hold any of these keys but those marked **dray.yaml**. Lists of several files are joined.", reflect.TypeFor[Project]())
	for _, c := range chapters() {
		w.section(c.title, c.text, c.typ)
	}
	w.text(referenceForms)
	w.conditions()
	w.section("Keys of conditions", "", reflect.TypeFor[Condition]())
	return w.out.Bytes()
}

type chapter struct {
	title, text string
	typ         reflect.Type
}

func chapters() []chapter {
	return []chapter{
		{"Warehouse", "Where the data is, and where everything Dray makes of it stays.", reflect.TypeFor[Warehouse]()},
		{"Sources", "Tables and files that others load.", reflect.TypeFor[Source]()},
		{"Source tables", "", reflect.TypeFor[SourceTable]()},
		{"Source files", "Written as `name: path` or `name: {path: …}`. The first line of a CSV file is its header. A column in which " +
			"any value is two or more digits only and begins with 0 is text.", reflect.TypeFor[SourceFile]()},
		{"Columns", "Written as `column: {…}` under a source's table or a model.", reflect.TypeFor[ColumnIs]()},
		{"Models", "Named queries, in SQL with Jinja: `ref source var target this is_incremental identity profiles segment now`. A file " +
			"`models/<name>.sql` that no YAML mentions is a model too, with the defaults below.", reflect.TypeFor[Model]()},
		{"dbt", "What stands in a dbt project beside this one.", reflect.TypeFor[DBT]()},
		{"Model tests", "", reflect.TypeFor[ModelTests]()},
		{"Entities", "Who is modelled.", reflect.TypeFor[Entity]()},
		{"Identifiers", "", reflect.TypeFor[Identifier]()},
		{"Exclusions", "", reflect.TypeFor[Exclude]()},
		{"Inputs", "", reflect.TypeFor[Input]()},
		{"Match rules", "A rule has one of `on`, `compare` and `probability`; the last two need `block`.", reflect.TypeFor[Match]()},
		{"Comparisons", "In `compare` a column has one of them, with one bound.", reflect.TypeFor[Comparison]()},
		{"Probability", "", reflect.TypeFor[Probability]()},
		{"Relations", "", reflect.TypeFor[Relation]()},
		{"Traits", "A trait has one of four forms: `pick` takes a value from rows of inputs, `value` aggregates over the rows of one " +
			"input, `sql` is computed from other traits, `quintile` is the fifth of all profiles that one falls into.", reflect.TypeFor[Trait]()},
		{"Segments", "Named sets of profiles.", reflect.TypeFor[Segment]()},
		{"Destinations", "Configured connections to tools.", reflect.TypeFor[Destination]()},
		{"Syncs", "What is delivered where. A sync is planned by its `key`, the identity at the destination.", reflect.TypeFor[Sync]()},
		{"Fields", "Written as `field: column`, or as `field: {…}` with exactly one of `column`, `value`, `sql`, `lookup` and `segments`. A dot in the " +
			"field's name nests, `\\.` does not.", reflect.TypeFor[Field]()},
		{"Lookup", "", reflect.TypeFor[Lookup]()},
		{"Holdout", "Written as a share, `10%`, or as a map with exactly one of `share` and `column`.", reflect.TypeFor[Holdout]()},
		{"Requires", "", reflect.TypeFor[Requires]()},
		{"Events", "", reflect.TypeFor[Event]()},
		{"Guard", "What stops a run before anything is sent.", reflect.TypeFor[Guard]()},
		{"Retry", "", reflect.TypeFor[RetryPolicy]()},
	}
}

type referenceWriter struct {
	out   bytes.Buffer
	forms map[reflect.Type]form
	words vocabulary
}

func (w *referenceWriter) text(s string) { w.out.WriteString(s) }

// section is a heading with the table of a type's keys.
func (w *referenceWriter) section(title, text string, t reflect.Type) {
	fmt.Fprintf(&w.out, "\n## %s\n\n", title)
	if text != "" {
		w.out.WriteString(text + "\n\n")
	}
	w.out.WriteString("| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
	kind := w.words.of(t)
	for _, k := range kind.keys {
		fmt.Fprintf(&w.out, "| %s | %s | %s | %s |\n", keyCell(k), escape(w.typeOf(k)), fallbackCell(k), escape(w.meaning(k)))
	}
	if kind.rest >= 0 {
		w.out.WriteString("| *any other* | anything |  | An option of the connector. |\n")
	}
}

func keyCell(k key) string {
	out := "`" + k.name + "`"
	for _, a := range k.aliases {
		out += ", `" + a + "`"
	}
	return out
}

func fallbackCell(k key) string {
	switch {
	case k.required:
		return "**required**"
	case k.hasFallback:
		return "`" + k.fallback + "`"
	}
	return ""
}

func (w *referenceWriter) meaning(k key) string {
	out := k.doc
	if len(k.engines) > 0 {
		out = "*" + strings.Join(k.engines, ", ") + ":* " + out
	}
	if k.secret {
		out += " A secret: it must be a reference such as `\"${NAME}\"`."
	}
	if k.root {
		out += " **dray.yaml**"
	}
	if k.unsupported {
		out += " *Not supported yet.*"
	}
	return out
}

// escape keeps a cell in its column.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "{{", "`{{", "}}", "}}`").Replace(s)
}

func (w *referenceWriter) typeOf(k key) string {
	if k.unsupported {
		return ""
	}
	if len(k.enum) > 0 {
		return "`" + strings.Join(without(k.enum, k.later), "`, `") + "`"
	}
	return w.typeName(k.typ)
}

func (w *referenceWriter) typeName(t reflect.Type) string {
	if f, ok := w.forms[t]; ok {
		return f.words
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.typeName(t.Elem())
	case reflect.Slice:
		return "list of " + plural(w.typeName(t.Elem()))
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return "map"
		}
		return "map of " + plural(w.typeName(t.Elem()))
	case reflect.Struct:
		return w.link(t)
	case reflect.Interface:
		return "anything"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.Float64:
		return "number"
	}
	return "text"
}

func plural(s string) string {
	if strings.HasPrefix(s, "[") || strings.Contains(s, " ") {
		return s
	}
	return s + "s"
}

// link points at the section of a type.
func (w *referenceWriter) link(t reflect.Type) string {
	for _, c := range chapters() {
		if c.typ == t {
			return fmt.Sprintf("[%s](#%s)", strings.ToLower(c.title), strings.ReplaceAll(strings.ToLower(c.title), " ", "-"))
		}
	}
	return "map"
}

func (w *referenceWriter) conditions() {
	w.text("\n## Conditions\n\nA condition is SQL (a text), or a map with exactly one of these:\n\n| condition | beside it |\n| --- | --- |\n")
	kind := w.words.of(reflect.TypeFor[Condition]())
	for _, l := range leaves() {
		if word, _ := kind.find(l.name); word.unsupported {
			continue // it stands, as such, in the table of keys
		}
		beside := "`" + strings.Join(l.beside, "`, `") + "`"
		if l.name == "trait" {
			beside = "exactly one of " + beside
		}
		if len(l.beside) == 0 {
			beside = ""
		}
		fmt.Fprintf(&w.out, "| `%s` | %s |\n", l.name, beside)
	}
	w.text(referenceConditions)
}

const referenceIntroduction = `<!-- Made from config/types.go by go test ./config -update. Do not edit. -->

# The language

Every word a project may use. ` + "`dray schema`" + ` prints the same as a JSON Schema for editors.

An unknown key, a wrong type, a doubled name or a missing variable is an error that names the file, line and column; all errors
are reported at once, and nothing is ever ignored: what Dray does not support yet is refused.

## Files

- ` + "`dray.yaml`" + ` at the root, every other ` + "`*.yaml`" + ` and ` + "`*.yml`" + ` below it, ` + "`models/**/*.sql`" + `, ` + "`macros/*.sql`" + `.
- Hidden folders and files, folders named ` + "`target`" + `, and what ` + "`.drayignore`" + ` names are skipped. ` + "`.drayignore`" + ` has the
  patterns of ` + "`.gitignore`" + `: ` + "`*`, `**`, `?`" + `, a leading ` + "`/`" + ` for the root, a trailing one for folders, ` + "`!`" + ` to take back.
- Anchors, aliases and merge keys (` + "`<<`" + `) work within a file; a file may hold several documents.
- Names are letters, digits and ` + "`_`" + `, do not begin with a digit, and have at most 63 characters. Two names of one kind must differ in
  more than letter case. Projects and targets may also have ` + "`-`" + `; source tables bear the warehouse's own names.

## References

| written | is |
| --- | --- |
| ` + "`${NAME}`" + ` | the environment variable; an error where it is not set |
| ` + "`${NAME:-default}`" + ` | the default where the variable is not set or empty; it may hold references itself |
| ` + "`${file:/path}`" + ` | the file's text without the end of its last line; a relative path starts at the project's folder |
| ` + "`$${`" + ` | a literal ` + "`${`" + ` |

References are looked up inside values, never in keys and never in SQL files, after the YAML was read: what they hold can never
break it. A value that is nothing but references takes the type its place needs; where any type fits (variables, constants), numbers
and booleans are recognised, and options of connectors stay texts. What came from a reference is never shown in an error.

## Targets

` + "`targets:`" + ` holds named sets of settings; ` + "`--target NAME`" + ` lays one over the project. It may set every top-level key but
` + "`version`" + ` and ` + "`targets`" + `, and needs a ` + "`schema`" + ` of its own.

- Single values replace. ` + "`vars`" + ` and ` + "`defaults`" + ` are merged key by key.
- Of lists (` + "`sources models entities segments destinations syncs`" + `) a target gives a map of name to keys, ` + "`\"*\"`" + ` for all of them;
  the keys it names are replaced, of ` + "`guard retry options`" + ` those inside. A list instead of a map replaces the whole.
- A destination or warehouse whose ` + "`type`" + ` is given is replaced whole, but for its name.
- References of targets that are not selected, and of what the selected one replaces, are not looked up.

` + "```yaml" + `
targets:
  dev: {schema: dray_dev, schedules: off, vars: {vip_threshold: 10}, destinations: {"*": {type: file, path: out}}}
` + "```" + `

## Defaults

` + "`defaults: {syncs: {…}}`" + ` fills what a sync leaves out; ` + "`guard`" + ` and ` + "`retry`" + ` are filled key by key.
`

const referenceForms = `
## Types

| type | written |
| --- | --- |
| text | a YAML scalar; numbers and booleans are taken as they are written |
| duration | ` + "`30s`, `5m` (minutes), `2h`, `20d`, `2w`, `90 days`, `1h30m`" + `; a day is 24 hours |
| percent | ` + "`5%` or `0.05`" + ` |
| text or list | ` + "`order_id` or `[day, user_id]`" + ` |
| normaliser | ` + "`email`, `name`, `date`, `text` or `{phone: DK}`" + `: the country, in two letters, of numbers that name none |
| share or number, by a trait | ` + "`10% by lifetime_value` or `100 by lifetime_value`" + ` |
| key | ` + "`{email: email}`" + `: field: column. A list of such maps: the first whose columns are not NULL |
| on_duplicate_key | ` + "`error`, `reject` or `{keep: first, order_by: \"updated_at desc\"}`" + ` |
| on_remove | ` + "`delete`, `clear`, `ignore`, `{set: {status: inactive}}`, `{action: archive}`, `{delete: {matched: true}}`" + `. What is set must also be mapped |
| as_of | ` + "`now`, `2026-01-31` or `2026-01-31T08:00:00Z`" + `; UTC where no zone is given |
`

const referenceConditions = `
Operators of ` + "`trait`" + `: ` + "`eq ne gt gte lt lte contains starts_with`" + ` take a value, ` + "`one_of none_of`" + ` a list, ` + "`between`" + ` two values,
` + "`is_null`" + ` true or false, ` + "`older_than within within_next`" + ` a duration. Values may hold Jinja: ` + "`gte: \"{{ var('vip_threshold') }}\"`" + `.

Logic is two-valued: ` + "`not`" + ` is true wherever the inner condition is not, NULL included. ` + "`ne` and `none_of`" + ` are the negations of
` + "`eq` and `one_of`" + `, so a NULL fulfils them; it fulfils no other comparison but ` + "`is_null: true`" + `. ` + "`older_than`" + ` is ` + "`<`" + `, ` + "`within`" + ` is
` + "`>=`, `within_next`" + ` holds both its ends; a NULL time makes all three false. A bare ` + "`did`" + ` means at least once.
`
