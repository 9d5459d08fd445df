package config

import (
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// Node is embedded in everything that has a place in a file. It keeps no part of the file: a project of ten thousand syncs is held
// for as long as it is served.
type Node struct {
	Pos    diag.Pos `yaml:"-" json:"-"`
	places []place  // of the keys' values, in the order they were read; a nested one as options.list
}

// place is where, and how, a key's value is written.
type place struct {
	key        string
	file       string
	line, col  int32
	body       [2]int32 // line and column at which its text begins; zero = where the value does
	inherited  bool     // from defaults:
	references bool     // nothing but references
	bad        bool     // reported: checks that build on it stay silent
}

func placeOf(key string, t *tree) place {
	return place{
		key: key, file: t.pos.File, line: int32(t.pos.Line), col: int32(t.pos.Col), //nolint:gosec // lines and columns of a file that was read
		body: [2]int32{int32(t.body.Line), int32(t.body.Col)}, references: t.onlyReferences(), //nolint:gosec // as above
	}
}

func (p *place) pos() diag.Pos { return diag.Pos{File: p.file, Line: int(p.line), Col: int(p.col)} }

// place is nil for a key that is not written.
func (n *Node) place(key string) *place {
	for i := range n.places {
		if n.places[i].key == key {
			return &n.places[i]
		}
	}
	return nil
}

// At is the position of the value of key; of the node itself where the key is not written. Keys of maps are named with a dot:
// At("options.list").
func (n *Node) At(key string) diag.Pos {
	if p := n.place(key); p != nil {
		return p.pos()
	}
	return n.Pos
}

// TextAt is the position at which the text of key's value begins: in a block (|) the first line after its mark, in quotes the
// first letter. Positions inside SQL are counted from there.
func (n *Node) TextAt(key string) diag.Pos {
	if p := n.place(key); p != nil && p.body[0] > 0 {
		return diag.Pos{File: p.file, Line: int(p.body[0]), Col: int(p.body[1])}
	}
	return n.At(key)
}

// Has tells whether the key is written there in the file (as against filled by a default, of the language or of defaults:).
func (n *Node) Has(key string) bool { p := n.place(key); return p != nil && !p.inherited }

// IsReference tells whether key's value is written as nothing but references: ${NAME}, ${file:…}. Of a map or a list, whether
// all it holds is. A secret must be (I6).
func (n *Node) IsReference(key string) bool { p := n.place(key); return p != nil && p.references }

// good tells whether the key is written and its value could be read.
func (n *Node) good(key string) bool { return n.Has(key) && !n.spoilt(key) }

func (n *Node) spoilt(key string) bool { p := n.place(key); return p != nil && p.bad }

func (n *Node) spoil(key string) {
	if p := n.place(key); p != nil {
		p.bad = true
	}
}

func nodeAt(t *tree) Node { return Node{Pos: t.pos} }

// put remembers where a key is written; the last of several counts.
func (n *Node) put(key string, p pair) {
	written := placeOf(key, p.value)
	written.inherited = p.inherited
	if before := n.place(key); before != nil {
		*before = written
		return
	}
	n.places = append(n.places, written)
}

// forget takes a key out.
func (n *Node) forget(key string) {
	n.places = slices.DeleteFunc(n.places, func(p place) bool { return p.key == key })
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
