package config

import (
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// Node is embedded in everything that has a place in a file.
type Node struct {
	Pos    diag.Pos         `yaml:"-" json:"-"`
	places map[string]place // of the keys' values; a nested one as options.list
}

// place is where, and how, a key's value is written.
type place struct {
	value     *tree
	inherited bool // from defaults:
	bad       bool // reported: checks that build on it stay silent
}

// At is the position of the value of key; of the node itself where the key is not written. Keys of maps are named with a dot:
// At("options.list").
func (n Node) At(key string) diag.Pos {
	if p, ok := n.places[key]; ok {
		return p.value.pos
	}
	return n.Pos
}

// TextAt is the position at which the text of key's value begins: in a block (|) the first line after its mark, in quotes the
// first letter. Positions inside SQL are counted from there.
func (n Node) TextAt(key string) diag.Pos {
	if p, ok := n.places[key]; ok && p.value.body.Line > 0 {
		return p.value.body
	}
	return n.At(key)
}

// Has tells whether the key is written there in the file (as against filled by a default, of the language or of defaults:).
func (n Node) Has(key string) bool { p, ok := n.places[key]; return ok && !p.inherited }

// IsReference tells whether key's value is written as nothing but references: ${NAME}, ${file:…}. Of a map or a list, whether
// all it holds is. A secret must be (I6).
func (n Node) IsReference(key string) bool {
	p, ok := n.places[key]
	return ok && p.value.onlyReferences()
}

// good tells whether the key is written and its value could be read.
func (n Node) good(key string) bool { return n.Has(key) && !n.places[key].bad }

func (n *Node) spoil(key string) {
	p := n.places[key]
	p.bad = true
	n.places[key] = p
}

func nodeAt(t *tree) Node { return Node{Pos: t.pos} }

func (n *Node) put(key string, p pair) {
	if n.places == nil {
		n.places = map[string]place{}
	}
	n.places[key] = place{value: p.value, inherited: p.inherited}
}

// nested remembers the places of a map's keys as key.inner.
func (n *Node) nested(key string, t *tree) {
	if t.shape == mapping {
		for _, p := range t.pairs {
			n.put(key+"."+p.key, p)
		}
	}
}

func (t *tree) onlyReferences() bool {
	switch t.shape {
	case mapping:
		for _, p := range t.pairs {
			if !p.value.onlyReferences() {
				return false
			}
		}
		return len(t.pairs) > 0
	case sequence:
		for _, item := range t.items {
			if !item.onlyReferences() {
				return false
			}
		}
		return len(t.items) > 0
	}
	if !strings.Contains(t.text, "${") {
		return false
	}
	parts, err := parseReferences(t.text)
	if err != nil {
		return false
	}
	for _, p := range parts {
		if !p.reference() {
			return false
		}
	}
	return len(parts) > 0
}
