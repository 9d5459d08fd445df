package jinja

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/builtins"
	gonja "github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/tokens"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// The words of the language. Macros and what a text sets itself come on top.

func globalNames() []string {
	return []string{
		"ref", "source", "var", "target", "this", "is_incremental", "identity", "profiles", "segment", "now",
		"range", "dict", "namespace", "cycler", "joiner",
	}
}

// valueNames are the names that are no functions, or need not be called.
func valueNames() []string { return []string{"target", "this", "now"} }

func statementNames() []string {
	return []string{"if", "for", "set", "macro", "raw", "with", "do", "filter", "break", "continue"}
}

// innerNames are the statements that stand inside or end others.
func innerNames() []string {
	return []string{"elif", "else", "endif", "endfor", "endset", "endmacro", "endraw", "endwith", "endfilter"}
}

func keywords() []string {
	return []string{
		"true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else", "recursive",
		"loop", "caller", "varargs", "kwargs", "self", "elif",
	}
}

// callSite is a call of one of the functions with literal arguments; arguments "" stands for any.
type callSite struct{ function, arguments string }

type callSites map[callSite]diag.Pos

func joinArgs(args []string) string { return strings.Join(args, "\x00") }

// scan is what the tokens of a text tell before it is parsed: gonja's own errors have neither the column nor a suggestion.
type scan struct {
	text   Text
	tokens []*tokens.Token
	locals map[string]bool // set, loop variables, parameters, macros
	macros map[string]bool
	calls  callSites
	within map[string][]string // macro → what its body calls
}

func scanText(t Text, cfg *gonja.Config) *scan {
	s := &scan{text: t, locals: map[string]bool{}, macros: map[string]bool{}, calls: callSites{}, within: map[string][]string{}}
	stream := tokens.LexAll(t.SQL, cfg)
	for ; !stream.End(); stream.Next() {
		s.tokens = append(s.tokens, stream.Current())
	}
	s.tokens = append(s.tokens, stream.Current())
	macro := ""
	for i, tok := range s.tokens {
		if tok.Type == tokens.BlockBegin {
			s.declare(i)
			macro = s.macroFrom(i, macro)
		}
		if tok.Type == tokens.Name && s.typeAt(i+1) == tokens.LeftParenthesis && !s.isMember(i) && s.typeAt(i-2) != tokens.BlockBegin {
			s.call(i)
			s.within[macro] = append(s.within[macro], tok.Val)
		}
	}
	return s
}

// macroFrom is the macro whose body goes on after the block that begins at i.
func (s *scan) macroFrom(i int, macro string) string {
	if s.typeAt(i+1) != tokens.Name {
		return macro
	}
	switch s.tokens[i+1].Val {
	case "macro":
		if s.typeAt(i+2) == tokens.Name {
			return s.tokens[i+2].Val
		}
	case "endmacro":
		return ""
	}
	return macro
}

// endless refuses macros that call themselves, directly or through others: the template engine would not come back.
func (s *scan) endless(calls map[string][]string) error {
	for _, name := range slices.Sorted(maps.Keys(s.macros)) {
		seen := map[string]bool{}
		for open := slices.Clone(calls[name]); len(open) > 0; {
			next := open[0]
			open = open[1:]
			if next == name {
				return diag.At(s.macroPos(name), "jinja.recursion", "macro %q calls itself", name)
			}
			if !seen[next] {
				seen[next] = true
				open = append(open, calls[next]...)
			}
		}
	}
	return nil
}

func (s *scan) macroPos(name string) diag.Pos {
	for i, tok := range s.tokens {
		if tok.Type == tokens.Name && tok.Val == name && s.typeAt(i-2) == tokens.BlockBegin {
			return s.pos(tok)
		}
	}
	return s.text.Pos
}

func (s *scan) typeAt(i int) tokens.Type {
	if i < 0 || i >= len(s.tokens) {
		return tokens.EOF
	}
	return s.tokens[i].Type
}

// isMember: the name at i is an attribute, a filter or a test, not a name of its own.
func (s *scan) isMember(i int) bool {
	switch s.typeAt(i - 1) {
	case tokens.Dot, tokens.Pipe, tokens.Is:
		return true
	case tokens.Not:
		return s.typeAt(i-2) == tokens.Is
	}
	return false
}

func (s *scan) pos(tok *tokens.Token) diag.Pos {
	before := s.text.SQL[:min(tok.Pos, len(s.text.SQL))]
	line := strings.Count(before, "\n") + 1
	return s.text.At(line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])+1)
}

// declare notes the names that a block beginning at i gives to what follows. Scopes are not followed: a name set anywhere in
// the text is known everywhere in it, and the engine itself finds the rest.
func (s *scan) declare(i int) {
	if s.typeAt(i+1) != tokens.Name {
		return
	}
	block := s.tokens[i+1].Val
	depth := 0
	for j := i + 2; j < len(s.tokens) && s.typeAt(j) != tokens.BlockEnd; j++ {
		tok := s.tokens[j]
		switch tok.Type {
		case tokens.LeftParenthesis:
			depth++
		case tokens.RightParenthesis:
			depth--
		case tokens.In:
			if block == "for" {
				return
			}
		case tokens.Assign:
			if block == "set" {
				return
			}
		case tokens.Name:
			s.declareName(block, j, depth)
		}
	}
}

func (s *scan) declareName(block string, i, depth int) {
	name := s.tokens[i].Val
	before := s.typeAt(i - 1)
	switch block {
	case "for", "set":
		s.locals[name] = true
	case "macro":
		if s.typeAt(i-2) == tokens.BlockBegin {
			s.locals[name], s.macros[name] = true, true
		}
		parameter := before == tokens.LeftParenthesis || before == tokens.Comma || before == tokens.Multiply || before == tokens.Power
		if depth == 1 && parameter {
			s.locals[name] = true
		}
	case "with":
		if depth == 0 && s.typeAt(i+1) == tokens.Assign {
			s.locals[name] = true
		}
	}
}

// call notes where a function is called, by its literal arguments.
func (s *scan) call(i int) {
	name, pos := s.tokens[i].Val, s.pos(s.tokens[i])
	var args []string
	for j := i + 2; s.typeAt(j) == tokens.String; j += 2 {
		args = append(args, strings.Trim(s.tokens[j].Val, `'"`))
		if s.typeAt(j+1) != tokens.Comma {
			break
		}
	}
	if name == "var" && len(args) > 1 {
		args = args[:1]
	}
	for _, site := range []callSite{{name, joinArgs(args)}, {name, ""}} {
		if _, known := s.calls[site]; !known {
			s.calls[site] = pos
		}
	}
}

// check refuses names, statements, filters and tests that do not exist; all at once.
func (s *scan) check(macros map[string]bool) error {
	var problems diag.List
	depth := 0
	for i, tok := range s.tokens {
		switch tok.Type {
		case tokens.Error:
			problems.Add(diag.At(s.pos(tok), "jinja.syntax", "the Jinja does not parse: %s", lowerFirst(tok.Val)))
		case tokens.LeftParenthesis:
			depth++
		case tokens.RightParenthesis:
			depth--
		case tokens.VariableBegin, tokens.BlockBegin:
			depth = 0
		case tokens.Name:
			problems.Add(s.checkName(i, depth, macros))
		}
	}
	return problems.Err()
}

func (s *scan) checkName(i, depth int, macros map[string]bool) error {
	tok := s.tokens[i]
	name, pos := tok.Val, s.pos(tok)
	switch before := s.typeAt(i - 1); {
	case before == tokens.BlockBegin:
		return s.checkStatement(name, pos)
	case before == tokens.Dot:
		return nil
	case before == tokens.Pipe:
		if !builtins.Filters.Exists(name) || name == "random" {
			return diag.At(pos, "jinja.unknown_filter", "there is no filter %q", name)
		}
		return nil
	case s.isMember(i):
		if !builtins.Tests.Exists(name) && !slices.Contains(keywords(), name) {
			return diag.At(pos, "jinja.unknown_test", "there is no test %q", name)
		}
		return nil
	case depth > 0 && s.typeAt(i+1) == tokens.Assign: // a keyword argument
		return nil
	case slices.Contains(keywords(), name), s.locals[name], macros[name]:
		return nil
	case slices.Contains(globalNames(), name):
		if !slices.Contains(valueNames(), name) && s.typeAt(i+1) != tokens.LeftParenthesis {
			arguments := "…"
			if name == "is_incremental" {
				arguments = ""
			}
			// {% if is_incremental %} would never be true, and {{ ref }} print nonsense.
			return diag.At(pos, "jinja.not_called", "%s is a function and is not called", name).WithHint("write %s(%s)", name, arguments)
		}
		return nil
	}
	return s.unknown(name, pos, s.typeAt(i+1) == tokens.LeftParenthesis, macros)
}

func (s *scan) checkStatement(name string, pos diag.Pos) error {
	if slices.Contains(statementNames(), name) || slices.Contains(innerNames(), name) {
		return nil
	}
	err := diag.At(pos, "jinja.unknown_statement", "there is no statement {%% %s %%}", name)
	if m := config.Suggest(name, append(statementNames(), innerNames()...)); m != "" {
		return err.WithHint("did you mean %s?", m)
	}
	return err.WithHint("there are if, for, set and macro")
}

func (s *scan) unknown(name string, pos diag.Pos, called bool, macros map[string]bool) error {
	switch {
	case name == "env_var":
		return diag.At(pos, "jinja.env_var", "env_var is refused in SQL: its value would end in views and logs").
			WithHint("use {{ var('name') }} and set it under vars: with ${NAME}")
	case name == "config" && called:
		return diag.At(pos, "jinja.config", "config() has no place in a model's SQL").
			WithHint("write materialized, primary_key and tags under models: in YAML")
	}
	known := globalNames()
	for _, names := range []map[string]bool{macros, s.locals} {
		for n := range names {
			known = append(known, n)
		}
	}
	slices.Sort(known)
	what := "name"
	if called {
		what = "function or macro"
	}
	err := diag.At(pos, "jinja.unknown_name", "there is no %s %q", what, name)
	if m := config.Suggest(name, known); m != "" {
		return err.WithHint("did you mean %s?", m)
	}
	if !called {
		return err.WithHint("a variable is written {{ var('%s') }}", name)
	}
	return err.WithHint("there are %s, and the macros of macros/*.sql", strings.Join(globalNames()[:10], ", "))
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
