package registry

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
)

// Pages are docs/connectors: file name → text, made from the connectors' declarations alone.
func Pages() map[string]string {
	pages := map[string]string{}
	var index strings.Builder
	index.WriteString(generated + "# Destinations\n\n| type | | objects |\n| --- | --- | --- |\n")
	for _, e := range Destinations() {
		s := e.Connector.Spec()
		pages[s.Type+".md"] = page(s)
		var objects []string
		for _, o := range s.Objects {
			objects = append(objects, objectName(s, o))
		}
		fmt.Fprintf(&index, "| [%s](%s.md) | %s | %s |\n", s.Type, s.Type, s.Summary, strings.Join(objects, ", "))
	}
	index.WriteString("\n`dray destinations` prints the same, `dray check` proves that a configured one works.\n")
	pages["README.md"] = index.String()
	return pages
}

const generated = "<!-- Made from the connectors' declarations by `make docs`. -->\n\n"

func page(s destination.Spec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s# %s\n\n%s\n\n", generated, s.Title, s.Summary)
	fmt.Fprintf(&b, "```yaml\ndestinations:\n  - name: my_%s\n    type: %s\n%s```\n\n", s.Type, s.Type, example(s.Config, "    "))
	b.WriteString("## Configuration\n\n")
	b.WriteString(optionTable(append(s.Config, common(s)...)))
	for _, o := range s.Objects {
		writeObject(&b, s, o)
	}
	b.WriteString("## Limits and pace\n\n")
	for _, line := range append(pace(s), s.Limits...) {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	return b.String()
}

// common are the keys that every destination has, unless the connector says more about them itself.
func common(s destination.Spec) []destination.Option {
	all := []destination.Option{
		{Name: "settle", Type: "duration", Default: settle(s), Doc: "How long an unanswered request may still be applied: a row without an answer is sent again until an acknowledged try began this long after the last unanswered one."},
	}
	if declares(s.Config, "base_url") { // it is reached over HTTP
		all = append(all, destination.Option{Name: "timeout", Type: "duration", Default: duration(timeout(s)), Doc: "Of one request, its answer included."})
	}
	var out []destination.Option
	for _, o := range all {
		if !declares(s.Config, o.Name) {
			out = append(out, o)
		}
	}
	return out
}

func declares(options []destination.Option, name string) bool {
	return slices.ContainsFunc(options, func(o destination.Option) bool { return o.Name == name })
}

func settle(s destination.Spec) string {
	if s.Settle == nil {
		return "10m or more"
	}
	return duration(*s.Settle)
}

func timeout(s destination.Spec) time.Duration {
	if s.Timeout == 0 {
		return 30 * time.Second
	}
	return s.Timeout
}

// duration is written as in YAML: 30s, 10m.
func duration(d time.Duration) string {
	text := d.String()
	text = strings.TrimSuffix(text, "m0s") + strings.Repeat("m", strings.Count(text, "m0s"))
	return text
}

// example is the configuration that must be given.
func example(options []destination.Option, indent string) string {
	var b strings.Builder
	for _, o := range options {
		if o.Required {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, o.Name, o.Example)
		}
	}
	return b.String()
}

func optionTable(options []destination.Option) string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, o := range options {
		typ, def := o.Type, "`"+o.Default+"`"
		if len(o.Enum) > 0 {
			typ = "`" + strings.Join(o.Enum, "` `") + "`"
		}
		switch {
		case o.Required:
			def = "required"
		case o.Default == "":
			def = ""
		case strings.Contains(o.Default, " "):
			def = o.Default
		}
		doc := o.Doc
		if o.Secret {
			doc += " A secret: it must be a reference such as `\"${NAME}\"`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, typ, def, cell(doc))
	}
	return b.String() + "\n"
}

func writeObject(b *strings.Builder, s destination.Spec, o destination.Object) {
	name := objectName(s, o)
	fmt.Fprintf(b, "## Object: %s\n\n%s\n\n| | |\n| --- | --- |\n", name, o.Doc)
	row := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "| %s | %s |\n", what, cell(text))
		}
	}
	row("modes", modes(o))
	row("`on_remove`", removes(o))
	row("key", keys(o))
	row("an update sends", sends(o))
	row("rows a request", batches(s, o))
	row("a record's new key", map[bool]string{true: "is written to the same record (rekey)"}[o.Rekey])
	row("`write: if_empty`", map[bool]string{true: "looks first, one more request a batch: what the record has stays, and `clear` leaves it too"}[o.Reads])
	row("`lookup:`", map[bool]string{true: "a field may hold the id of another record there, found before rows are sent"}[s.Finds && !o.Membership])
	row("created or matched", map[bool]string{true: "told for each record, so `on_remove: delete` takes only what Dray created"}[o.TellsCreated])
	row("origin", map[bool]string{true: "every row is Dray's own"}[s.OwnsObjects || o.Membership])
	row("members", map[bool]string{true: "are written by record id: from the sync in `via:`, else looked up"}[o.MembersByID])
	fmt.Fprintf(b, "\n%s", syncExample(s, o))
	if len(o.Options) > 0 {
		b.WriteString("`options:` of the sync:\n\n" + optionTable(o.Options))
	}
	if len(o.Fields) > 0 {
		writeFields(b, o)
	}
}

// syncExample is a sync that mirrors a segment to the object.
func syncExample(s destination.Spec, o destination.Object) string {
	var b strings.Builder
	object, key := o.Name, "email"
	if s.AnyObject {
		object = "people"
	}
	if len(o.Keys) > 0 {
		key = o.Keys[0].Name
	}
	fmt.Fprintf(&b, "```yaml\nsyncs:\n  - name: vips_to_%s\n    segment: vips\n    destination: my_%s\n    object: %s\n", s.Type, s.Type, object)
	for _, option := range o.Options {
		if option.Example != "" {
			fmt.Fprintf(&b, "    options: {%s: %s}\n", option.Name, option.Example)
		}
	}
	fmt.Fprintf(&b, "    mode: mirror\n    key: {%s: email}\n", key)
	if o.OpenFields || len(o.Fields) > 0 {
		b.WriteString("    fields: {firstname: first_name, lastname: last_name}\n")
	}
	if o.DefaultRemove == "" {
		b.WriteString("    on_remove: delete\n")
	}
	b.WriteString("```\n\n")
	return b.String()
}

func writeFields(b *strings.Builder, o destination.Object) {
	b.WriteString("| field | |\n| --- | --- |\n")
	for _, f := range o.Fields {
		doc := f.Doc
		if f.ReadOnly {
			doc += " Read-only."
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", f.Name, cell(doc))
	}
	if o.OpenFields {
		b.WriteString("| any other | As the account has it. |\n")
	}
	b.WriteString("\n")
}

func objectName(s destination.Spec, o destination.Object) string {
	if s.AnyObject {
		return "any name"
	}
	return "`" + o.Name + "`"
}

func modes(o destination.Object) string {
	var out []string
	for _, m := range o.Modes {
		out = append(out, "`"+string(m)+"`")
	}
	return strings.Join(out, " ")
}

func removes(o destination.Object) string {
	var out []string
	for _, r := range o.Removes {
		text := "`" + r + "`"
		if r == o.DefaultRemove {
			text += " (default)"
		}
		out = append(out, text)
	}
	if o.AnyRemove {
		out = append(out, "`{action: …}`")
	}
	return strings.Join(out, " ")
}

func keys(o destination.Object) string {
	var out []string
	for _, k := range o.Keys {
		text := "`" + k.Name + "`: " + k.Doc
		if k.Equality == destination.CaseInsensitive {
			text += " Compared without case and outer blanks."
		}
		out = append(out, text)
	}
	switch {
	case !o.AnyKey:
	case len(out) == 0:
		out = append(out, "Any columns.")
	case o.OneColumn:
		out = append(out, "Any other: one column.")
	}
	return strings.Join(out, "<br>")
}

func sends(o destination.Object) string {
	switch {
	case o.Membership:
		return ""
	case o.Replaces:
		return "all fields"
	default:
		return "the changed fields (`send: all` for all)"
	}
}

func batches(s destination.Spec, o destination.Object) string {
	n := s.BatchSize(o, nil)
	if n < o.MaxBatch {
		return fmt.Sprintf("%d; `batch_size` up to %d", n, o.MaxBatch)
	}
	return fmt.Sprint(n)
}

func pace(s destination.Spec) []string {
	var out []string
	if s.Rate.Requests > 0 {
		out = append(out, fmt.Sprintf("Dray sends at most %d requests in %s for one credential, over all syncs that use it.", s.Rate.Requests, duration(s.Rate.Per)))
	}
	if s.Concurrency > 1 {
		out = append(out, fmt.Sprintf("Up to %d requests are under way at once.", s.Concurrency))
	}
	return out
}

// cell keeps a text inside a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "\n", " ")
}
