// Package jinja renders the Jinja in SQL and in the values of conditions: ref, source, var, target, this, is_incremental,
// identity, profiles, segment and now, with if, for, set and the macros of macros/*.sql.
//
// It is pure: what a relation is called, and whether it exists, is the Resolver's matter. So the same text is rendered once by
// graph, to learn what it reads, and once by compile, for one dialect. Every error stands at its place in the user's file, and
// Locate finds the place of a line of rendered SQL.
package jinja

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	gonja "github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/parser"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// Text is what is rendered, and where it stands.
type Text struct {
	SQL string
	// Pos is of its first character. In a block of YAML every other line is indented as the first.
	Pos diag.Pos
}

// Plain tells whether the text holds no Jinja at all.
func (t Text) Plain() bool {
	return !strings.Contains(t.SQL, "{{") && !strings.Contains(t.SQL, "{%") && !strings.Contains(t.SQL, "{#")
}

// At is the place of a line and column of the text, both from 1; column 0 = unknown.
func (t Text) At(line, col int) diag.Pos {
	pos := diag.Pos{File: t.Pos.File}
	if t.Pos.Line == 0 || line < 1 {
		return t.Pos
	}
	pos.Line = t.Pos.Line + line - 1
	if col > 0 {
		pos.Col = max(t.Pos.Col, 1) + col - 1
	}
	return pos
}

// Env is what a text may use.
type Env struct {
	Vars   map[string]any
	Target Target
	Now    string // the SQL of {{ now }}
	// This is the relation a model builds; nil where there is none.
	This        *Name
	Incremental bool
	// Resolve names a relation. Its error gets the place of the call.
	Resolve func(Relation) (Name, error)
}

// Target is {{ target.name }} and so on.
type Target struct{ Name, Schema, Database, Type string }

// Name is a relation as SQL writes it, with its parts for {{ this.schema }}.
// Lookback is an incremental model's, as the SQL of an interval.
type Name struct{ SQL, Database, Schema, Identifier, Lookback string }

// String makes {{ ref('x') }} the relation's SQL.
func (n Name) String() string { return n.SQL }

// GetAttribute gives the parts, under dbt's words.
func (n Name) GetAttribute(name string) (*exec.Value, bool) {
	switch name {
	case "database":
		return exec.AsValue(n.Database), true
	case "schema":
		return exec.AsValue(n.Schema), true
	case "identifier", "name", "table":
		return exec.AsValue(n.Identifier), true
	case "lookback":
		return exec.AsValue(n.Lookback), n.Lookback != ""
	}
	return exec.AsValue(nil), false
}

// Renderer renders texts of one project.
type Renderer struct {
	cfg    *gonja.Config
	env    *exec.Environment
	macros []macroFile
	names  map[string]bool // of macros
	calls  callSites       // in macros
}

type macroFile struct {
	text     Text
	template *exec.Template
}

// New makes a renderer; macros are parsed and checked at once.
func New(macros []config.SQLFile) (*Renderer, error) {
	r := &Renderer{cfg: gonja.New(), names: map[string]bool{}, calls: callSites{}}
	r.cfg.StrictUndefined = true
	r.env = &exec.Environment{
		Filters: builtins.Filters, Tests: builtins.Tests, Methods: builtins.Methods, ControlStructures: statements(),
		Context: exec.EmptyContext(),
	}
	var problems diag.List
	scans := make([]*scan, len(macros))
	for i, f := range macros {
		text := Text{SQL: newlines(f.Text), Pos: diag.Pos{File: f.Path, Line: 1, Col: 1}}
		scans[i] = scanText(text, r.cfg)
		for name := range scans[i].macros {
			r.names[name] = true
		}
		template, err := r.parse(text)
		if err != nil {
			problems.Add(err)
			continue
		}
		r.macros = append(r.macros, macroFile{text, template})
	}
	within := map[string][]string{}
	for _, s := range scans {
		maps.Copy(within, s.within)
	}
	for _, s := range scans {
		problems.Add(s.check(r.names))
		problems.Add(s.endless(within))
		for site, pos := range s.calls {
			r.calls[site] = pos
		}
	}
	return r, problems.Err()
}

// statements are the control structures a text may use: those that cannot reach other files.
func statements() *exec.ControlStructureSet {
	allowed := map[string]parser.ControlStructureParser{}
	for _, name := range statementNames() {
		if p, ok := builtins.ControlStructures.Get(name); ok {
			allowed[name] = p
		}
	}
	return exec.NewControlStructureSet(allowed)
}

// Render gives the SQL.
func (r *Renderer) Render(t Text, env Env) (string, error) {
	if t.Plain() {
		return t.SQL, nil
	}
	t.SQL = newlines(t.SQL)
	s := scanText(t, r.cfg)
	if err := s.check(r.names); err != nil {
		return "", err
	}
	if err := s.endless(s.within); err != nil {
		return "", err
	}
	return r.render(t, env, s.calls)
}

// Value renders a text whose worth is more than its letters: one that is only {{ var('x') }} keeps the variable's type.
func (r *Renderer) Value(t Text, env Env) (any, error) {
	if m := onlyVar.FindStringSubmatch(t.SQL); m != nil {
		if v, ok := env.Vars[m[1]]; ok {
			return v, nil
		}
	}
	return r.Render(t, env)
}

var onlyVar = regexp.MustCompile(`^\s*\{\{-?\s*var\(\s*['"](\w+)['"]\s*(?:,[^)]*)?\)\s*-?\}\}\s*$`)

func (r *Renderer) parse(t Text) (*exec.Template, error) {
	const id = "/text"
	loader, err := loaders.NewMemoryLoader(map[string]string{id: t.SQL})
	if err != nil {
		return nil, fmt.Errorf("preparing a template: %w", err)
	}
	var template *exec.Template
	err = guarded(func() (err error) {
		template, err = exec.NewTemplate(id, r.cfg, loader, r.env)
		return err
	})
	if err != nil {
		return nil, syntaxError(t, err)
	}
	return template, nil
}

func (r *Renderer) render(t Text, env Env, calls callSites) (string, error) {
	template, err := r.parse(t)
	if err != nil {
		return "", err
	}
	run := &rendering{env: env, text: t, calls: calls, macroCalls: r.calls}
	scope := &exec.Environment{
		Filters: r.env.Filters, Tests: r.env.Tests, Methods: r.env.Methods, ControlStructures: r.env.ControlStructures,
		Context: exec.NewContext(run.globals()),
	}
	for _, m := range r.macros {
		if err := guarded(exec.NewRenderer(scope, io.Discard, r.cfg, nil, m.template).Execute); err != nil {
			return "", run.failure(m.text, err)
		}
	}
	var out strings.Builder
	if err := guarded(exec.NewRenderer(scope, &out, r.cfg, nil, template).Execute); err != nil {
		return "", run.failure(t, err)
	}
	if run.err != nil { // a filter may have swallowed it
		return "", run.err
	}
	return out.String(), nil
}

// guarded makes an error of the template engine's panics: it has some for calls that make no sense, such as 1 / 0.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this cannot be evaluated: %v", p)
		}
	}()
	return f()
}

// rendering is one render: it keeps the first error of a function, which the engine would bury in its own words.
type rendering struct {
	env               Env
	text              Text
	calls, macroCalls callSites
	err               *diag.Error
}

// failure is the error of a render that did not end well.
func (r *rendering) failure(t Text, err error) error {
	if r.err != nil {
		return r.err
	}
	line := 0
	if m := atLine.FindAllStringSubmatch(err.Error(), -1); m != nil {
		line, _ = strconv.Atoi(m[len(m)-1][1])
	}
	return diag.At(t.At(line, 0), "jinja.render", "%s", cause(err))
}

// atLine finds the line in gonja's own words; it keeps it nowhere else.
var atLine = regexp.MustCompile(`at line (\d+):`)

// cause is the innermost message of gonja's chain of wrappings.
func cause(err error) string {
	for {
		var inner error
		if v, ok := err.(*exec.Value); ok { //nolint:errorlint // gonja's values are errors without Unwrap
			inner, _ = v.Interface().(error)
		} else {
			inner = errors.Unwrap(err)
		}
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func syntaxError(t Text, err error) error {
	var syntax *parser.SyntaxError
	if !errors.As(err, &syntax) {
		return diag.At(t.Pos, "jinja.syntax", "the Jinja does not parse: %s", cause(err))
	}
	return diag.At(t.At(syntax.Line, syntax.Column), "jinja.syntax", "the Jinja does not parse: %s", strings.TrimSuffix(syntax.Message, "."))
}

func newlines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// list is a variable's list: it prints as SQL and YAML both write one, quotes in its texts doubled.
type list []any

// String is ['a', 'b”c', 1].
func (l list) String() string {
	items := make([]string, len(l))
	for i, v := range l {
		switch v := v.(type) {
		case string:
			items[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		case nil:
			items[i] = "null"
		default:
			items[i] = fmt.Sprint(v)
		}
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// literal makes a variable's value one that prints as SQL would have it.
func literal(v any) any {
	if items, ok := v.([]any); ok {
		out := make(list, len(items))
		for i, item := range items {
			out[i] = literal(item)
		}
		return out
	}
	t, ok := v.(time.Time)
	if !ok {
		return v
	}
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return t.UTC().Format(time.DateOnly)
	}
	return t.UTC().Format(time.RFC3339)
}
