package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
)

func (a *app) destinationsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "destinations [TYPE]",
		Short: "List the destinations Dray can deliver to, or describe one",
		Long: `Without TYPE: every type of destination with its objects and modes. With TYPE: its settings, and for each object what it
takes: modes, keys, fields, what becomes of rows that left, and the vendor's limits. Needs no project.`,
		Example: "  dray destinations\n  dray destinations webhook",
		GroupID: groupLook,
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			specs := destinationSpecs()
			if len(args) == 0 {
				docs := make([]specDocument, len(specs))
				for i, spec := range specs {
					docs[i] = documentSpec(spec)
				}
				a.show(docs, func(s screen) { drawSpecs(s, specs) })
				return nil
			}
			at := slices.IndexFunc(specs, func(spec destination.Spec) bool { return spec.Type == args[0] })
			if at < 0 {
				return unknownType(args[0], specs)
			}
			a.show(documentSpec(specs[at]), func(s screen) { drawSpec(s, specs[at]) })
			return nil
		},
	}
}

func unknownType(name string, specs []destination.Spec) error {
	types := make([]string, len(specs))
	for i, spec := range specs {
		types[i] = spec.Type
	}
	return diag.Errorf(diag.Invalid, "destination.unknown_type", "there is no destination type %q", name).
		WithHint("there are %s", strings.Join(types, ", "))
}

// specDocument is a connector's declaration in JSON.
type specDocument struct {
	Type        string           `json:"type"`
	Title       string           `json:"title"`
	Summary     string           `json:"summary"`
	Config      []optionDocument `json:"config"`
	AnyObject   bool             `json:"any_object"`
	Objects     []objectDocument `json:"objects"`
	Rate        *rateDocument    `json:"rate_limit,omitempty"`
	Concurrency int              `json:"concurrency"`
	Limits      []string         `json:"limits"`
}

type optionDocument struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Required bool     `json:"required"`
	Secret   bool     `json:"secret"`
	Default  string   `json:"default,omitempty"`
	Enum     []string `json:"enum,omitempty"`
	Doc      string   `json:"doc,omitempty"`
}

type objectDocument struct {
	Name       string             `json:"name"`
	Doc        string             `json:"doc,omitempty"`
	Options    []optionDocument   `json:"options,omitempty"`
	Modes      []destination.Mode `json:"modes"`
	OnRemove   []string           `json:"on_remove"`
	AnyKey     bool               `json:"any_key"`
	Keys       []keyDocument      `json:"keys"`
	OpenFields bool               `json:"open_fields"`
	Fields     []fieldDocument    `json:"fields"`
	MaxBatch   int                `json:"max_batch"`
	MaxBytes   int                `json:"max_bytes,omitempty"`
	Membership bool               `json:"membership"`
}

type keyDocument struct {
	Name     string `json:"name"`
	Equality string `json:"equality"`
	Doc      string `json:"doc,omitempty"`
}

type fieldDocument struct {
	Name     string   `json:"name"`
	Types    []string `json:"types,omitempty"`
	ReadOnly bool     `json:"read_only,omitempty"`
	Doc      string   `json:"doc,omitempty"`
}

type rateDocument struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
}

func documentSpec(spec destination.Spec) specDocument {
	doc := specDocument{
		Type: spec.Type, Title: spec.Title, Summary: spec.Summary, Config: documentOptions(spec.Config), AnyObject: spec.AnyObject,
		Objects: make([]objectDocument, len(spec.Objects)), Concurrency: max(spec.Concurrency, 1), Limits: append([]string{}, spec.Limits...),
	}
	if spec.Rate.Requests > 0 {
		doc.Rate = &rateDocument{spec.Rate.Requests, spec.Rate.Per.Seconds()}
	}
	for i, o := range spec.Objects {
		doc.Objects[i] = documentObject(o)
	}
	return doc
}

func documentObject(o destination.Object) objectDocument {
	doc := objectDocument{
		Name: o.Name, Doc: o.Doc, Options: documentOptions(o.Options), Modes: o.Modes, OnRemove: append([]string{}, o.Removes...),
		AnyKey: o.AnyKey, Keys: make([]keyDocument, len(o.Keys)), OpenFields: o.OpenFields, Fields: make([]fieldDocument, len(o.Fields)),
		MaxBatch: batchSize(o), MaxBytes: o.MaxBytes, Membership: o.Membership,
	}
	for i, k := range o.Keys {
		doc.Keys[i] = keyDocument{k.Name, equality(k), k.Doc}
	}
	for i, f := range o.Fields {
		doc.Fields[i] = fieldDocument{f.Name, kindNames(f), f.ReadOnly, f.Doc}
	}
	return doc
}

func documentOptions(options []destination.Option) []optionDocument {
	docs := make([]optionDocument, len(options))
	for i, o := range options {
		docs[i] = optionDocument{o.Name, o.Type, o.Required, o.Secret, o.Default, o.Enum, o.Doc}
	}
	return docs
}

func kindNames(f destination.Field) []string {
	names := make([]string, len(f.Kinds))
	for i, k := range f.Kinds {
		names[i] = k.String()
	}
	return names
}

func equality(k destination.Key) string {
	if k.Equality == destination.Exact {
		return "exact"
	}
	return string(k.Equality)
}

// batchSize is the object's own limit, or the engine's default.
func batchSize(o destination.Object) int {
	if o.MaxBatch == 0 {
		return 100
	}
	return o.MaxBatch
}

// drawSpecs is one line a type.
func drawSpecs(s screen, specs []destination.Spec) {
	rows := make([][]string, len(specs))
	for i, spec := range specs {
		rows[i] = []string{s.bold(spec.Type), objectNames(spec), modeNames(spec.Objects...), spec.Summary}
	}
	s.table([]column{left("type"), left("objects"), left("modes"), prose("")}, rows)
	s.line("")
	s.line("dray destinations TYPE describes one")
}

func objectNames(spec destination.Spec) string {
	if spec.AnyObject {
		return "any"
	}
	names := make([]string, len(spec.Objects))
	for i, o := range spec.Objects {
		names[i] = o.Name
	}
	return strings.Join(names, ", ")
}

// modeNames lists the modes that any of the objects takes.
func modeNames(objects ...destination.Object) string {
	var names []string
	for _, mode := range []destination.Mode{destination.Upsert, destination.Update, destination.Insert, destination.Mirror} {
		if slices.ContainsFunc(objects, func(o destination.Object) bool { return slices.Contains(o.Modes, mode) }) {
			names = append(names, string(mode))
		}
	}
	return strings.Join(names, ", ")
}

// drawSpec describes one type wholly.
func drawSpec(s screen, spec destination.Spec) {
	s.line("%s  %s", s.bold(spec.Type), spec.Summary)
	if len(spec.Config) > 0 {
		s.line("")
		s.line("settings")
		drawOptions(s, spec.Config)
	}
	for _, o := range spec.Objects {
		drawObject(s, spec, o)
	}
	if limit := rateLimit(spec.Rate); limit != "" || len(spec.Limits) > 0 {
		s.line("")
		s.line("limits")
		if limit != "" {
			s.line("  %s", limit)
		}
		for _, l := range spec.Limits {
			s.paragraph("  ", l)
		}
	}
}

func drawObject(s screen, spec destination.Spec, o destination.Object) {
	name := o.Name
	if spec.AnyObject {
		name = "any name"
	}
	s.line("")
	s.line("object %s", s.bold(name))
	if o.Doc != "" {
		s.paragraph("  ", o.Doc)
	}
	rows := [][]string{
		{"modes", modeNames(o)},
		{"on_remove", strings.Join(o.Removes, ", ")},
		{"keys", keyNames(o)},
		{"batch", batchLimits(o)},
	}
	s.table([]column{left(""), left("")}, rows)
	if len(o.Options) > 0 {
		s.line("  options")
		drawOptions(s, o.Options)
	}
	drawFields(s, o)
}

func keyNames(o destination.Object) string {
	if o.AnyKey {
		return "any"
	}
	names := make([]string, len(o.Keys))
	for i, k := range o.Keys {
		names[i] = k.Name
		if k.Equality == destination.CaseInsensitive {
			names[i] += " (case ignored)"
		}
	}
	return strings.Join(names, ", ")
}

func batchLimits(o destination.Object) string {
	limits := "at most " + plural(int64(batchSize(o)), "row") + " a request"
	if o.MaxBytes > 0 {
		limits += fmt.Sprintf(", %s bytes", count(int64(o.MaxBytes)))
	}
	return limits
}

func drawFields(s screen, o destination.Object) {
	if len(o.Fields) == 0 {
		s.line("  fields: any")
		return
	}
	rows := make([][]string, len(o.Fields))
	for i, f := range o.Fields {
		note := f.Doc
		if f.ReadOnly {
			note = strings.TrimSpace("read-only " + note)
		}
		rows[i] = []string{f.Name, strings.Join(kindNames(f), ", "), note}
	}
	s.table([]column{left("field"), left("takes"), prose("")}, rows)
	if o.OpenFields {
		s.line("  and any other field")
	}
}

func drawOptions(s screen, options []destination.Option) {
	rows := make([][]string, len(options))
	for i, o := range options {
		var notes []string
		switch {
		case o.Required:
			notes = append(notes, "required")
		case o.Default != "":
			notes = append(notes, "default "+o.Default)
		}
		if o.Secret {
			notes = append(notes, "secret")
		}
		if len(o.Enum) > 0 {
			notes = append(notes, strings.Join(o.Enum, "|"))
		}
		rows[i] = []string{o.Name, o.Type, strings.Join(notes, ", "), o.Doc}
	}
	columns := []column{left(""), left(""), left(""), prose("")}
	if s.room(columns, rows) >= minProseWidth {
		s.table(columns, rows)
		return
	}
	for _, row := range rows { // on a narrow terminal the meaning stands below
		s.line("  %s", strings.Join(slices.DeleteFunc(slices.Clone(row[:3]), func(cell string) bool { return cell == "" }), "  "))
		s.paragraph("    ", row[3])
	}
}

// rateLimit says what the vendor allows; "" where no limit is known.
func rateLimit(r destination.Rate) string {
	if r.Requests == 0 {
		return ""
	}
	return fmt.Sprintf("%s in %v s", plural(int64(r.Requests), "request"), r.Per.Seconds())
}
