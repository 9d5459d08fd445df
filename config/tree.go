package config

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/internal/diag"
)

// shape is what a value is before anybody asks what it means.
type shape int

const (
	scalar shape = iota
	null
	mapping
	sequence
)

// tree is a YAML value that knows its file, with anchors and merge keys resolved. Unlike a yaml.Node it can be put together
// from several files: that is how sections, targets and defaults are merged before anything is decoded.
type tree struct {
	pos   diag.Pos
	shape shape
	tag   string   // of a scalar: !!str, !!int, !!float, !!bool
	text  string   // of a scalar, as written: references are not resolved
	body  diag.Pos // of a scalar: where its text begins (the line after | or >)
	items []*tree
	pairs []pair
	// anyType: the text takes the type its place needs (defaults of the language).
	anyType bool
}

// pair is one key of a mapping with its value.
type pair struct {
	key       string
	at        diag.Pos
	value     *tree
	inherited bool // filled in from defaults: or a target
}

// find is the pair of a key.
func (t *tree) find(key string) (pair, bool) {
	for _, p := range t.pairs {
		if p.key == key {
			return p, true
		}
	}
	return pair{}, false
}

// with returns a copy of a mapping in which p replaces the pair of the same key, or stands at the end.
func (t *tree) with(p pair) *tree {
	merged := *t
	merged.pairs = make([]pair, 0, len(t.pairs)+1)
	replaced := false
	for _, old := range t.pairs {
		if old.key == p.key {
			old, replaced = p, true
		}
		merged.pairs = append(merged.pairs, old)
	}
	if !replaced {
		merged.pairs = append(merged.pairs, p)
	}
	return &merged
}

// maxAliased bounds what aliases may expand to in one file, so that nested anchors cannot exhaust memory.
const maxAliased = 100_000

// parser turns one file's bytes into trees.
type parser struct {
	file     string
	lines    [][]byte
	problems *diag.List
	aliases  []*yaml.Node // being expanded
	aliased  int
	gaveUp   bool
}

// parseYAML reads all documents of a file. Problems go into the list; ok is false where the text is no YAML at all.
func parseYAML(file string, text []byte, problems *diag.List) (documents []*tree, ok bool) {
	p := &parser{file: file, problems: problems}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return documents, !p.gaveUp
		}
		if err != nil {
			*problems = append(*problems, syntaxError(file, text, err))
			return nil, false
		}
		if len(node.Content) == 0 {
			continue
		}
		p.lines = bytes.Split(text, []byte("\n"))
		documents = append(documents, p.convert(node.Content[0]))
	}
}

func (p *parser) pos(n *yaml.Node) diag.Pos {
	return diag.Pos{File: p.file, Line: n.Line, Col: n.Column}
}

func (p *parser) problem(at diag.Pos, code, format string, args ...any) *diag.Error {
	e := diag.At(at, code, format, args...)
	*p.problems = append(*p.problems, e)
	return e
}

func (p *parser) convert(n *yaml.Node) *tree {
	t := &tree{pos: p.pos(n), body: p.pos(n)}
	if len(p.aliases) > 0 {
		if p.aliased++; p.aliased > maxAliased {
			p.giveUp(n)
			t.shape = null
			return t
		}
	}
	switch n.Kind {
	case yaml.MappingNode:
		t.shape = mapping
		p.mapping(n, t)
	case yaml.SequenceNode:
		t.shape = sequence
		for _, item := range n.Content {
			t.items = append(t.items, p.convert(item))
		}
	case yaml.AliasNode:
		return p.alias(n)
	default:
		p.scalar(n, t)
	}
	return t
}

func (p *parser) giveUp(n *yaml.Node) {
	if !p.gaveUp {
		p.gaveUp = true
		p.problem(p.pos(n), "config.aliases", "the aliases of this file expand to more than %d values", maxAliased)
	}
}

func (p *parser) alias(n *yaml.Node) *tree {
	for _, open := range p.aliases {
		if open == n.Alias {
			p.problem(p.pos(n), "config.aliases", "the anchor &%s contains itself", n.Value)
			return &tree{pos: p.pos(n), shape: null}
		}
	}
	p.aliases = append(p.aliases, n.Alias)
	t := p.convert(n.Alias)
	p.aliases = p.aliases[:len(p.aliases)-1]
	return t
}

func (p *parser) scalar(n *yaml.Node, t *tree) {
	t.text = n.Value
	switch tag := n.ShortTag(); tag {
	case "!!null":
		t.shape = null
	case "!!int", "!!float", "!!bool", "!!str":
		t.tag = tag
	case "!!timestamp", "!!merge":
		t.tag = "!!str"
	default:
		t.tag = "!!str"
		p.problem(t.pos, "config.tag", "the tag %s means nothing here", tag)
	}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		t.body = p.blockBody(n.Line)
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		t.body.Col++
	}
}

// blockBody is where the text after a | or > at a line begins: the next line, at its indentation.
func (p *parser) blockBody(line int) diag.Pos {
	at := diag.Pos{File: p.file, Line: line + 1, Col: 1}
	for _, l := range p.lines[min(line, len(p.lines)):] {
		if rest := bytes.TrimLeft(l, " "); len(bytes.TrimSpace(rest)) > 0 {
			at.Col = len(l) - len(rest) + 1
			break
		}
	}
	return at
}

func (p *parser) mapping(n *yaml.Node, t *tree) {
	seen := make(map[string]diag.Pos, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.ShortTag() == "!!merge":
			merges = append(merges, v)
			continue
		case k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null":
			p.problem(p.pos(k), "config.key", "a key must be a word").WithHint("texts with {, [ or : in front need quotes")
			continue
		}
		if first, twice := seen[k.Value]; twice {
			p.problem(p.pos(k), "config.duplicate_key", "%q is written twice in one map; first at %s", k.Value, first)
			continue
		}
		seen[k.Value] = p.pos(k)
		t.pairs = append(t.pairs, pair{key: k.Value, at: p.pos(k), value: p.convert(v)})
	}
	for _, m := range merges {
		p.merge(m, t, seen)
	}
}

// merge adds the keys of `<<:` that the mapping does not write itself; of several merged maps the first wins.
func (p *parser) merge(n *yaml.Node, t *tree, seen map[string]diag.Pos) {
	merged := p.convert(n)
	maps := []*tree{merged}
	if merged.shape == sequence {
		maps = merged.items
	}
	for _, m := range maps {
		if m.shape != mapping {
			p.problem(p.pos(n), "config.merge", "<< wants a map, or a list of maps")
			return
		}
		for _, pr := range m.pairs {
			if _, have := seen[pr.key]; !have {
				seen[pr.key] = pr.at
				t.pairs = append(t.pairs, pr)
			}
		}
	}
}

// words says what a value is, for messages. What comes from a reference is never shown (I6).
func (t *tree) words() string {
	switch t.shape {
	case null:
		return "nothing"
	case mapping:
		return "a map"
	case sequence:
		return "a list"
	}
	text := shorten(t.text)
	switch {
	case strings.Contains(t.text, "${"):
		return "what " + text + " holds"
	case t.tag == "!!int" || t.tag == "!!float":
		return "the number " + text
	case t.tag == "!!bool":
		return text
	}
	return "the text " + quote(text)
}

func quote(text string) string { return `"` + text + `"` }

// shorten keeps messages on one line.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return text
}
