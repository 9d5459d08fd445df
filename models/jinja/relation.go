package jinja

import (
	"fmt"
	"regexp"
	"strings"
)

// Relation is what a text reads: ref('orders'), source('shop', 'orders'), identity('customer'), profiles('customer'), segment('vips').
type Relation struct {
	Kind  string // ref, source, identity, profiles, segment
	Name  string
	Table string // of a source
}

// String is the relation as its user writes it.
func (r Relation) String() string {
	if r.Kind == "source" {
		return fmt.Sprintf("source('%s', '%s')", r.Name, r.Table)
	}
	return fmt.Sprintf("%s('%s')", r.Kind, r.Name)
}

var relation = regexp.MustCompile(`^(?:\{\{)?\s*(ref|source|identity|profiles|segment)\s*\(\s*(?:'([^']*)'|"([^"]*)")\s*(?:,\s*(?:'([^']*)'|"([^"]*)")\s*)?\)\s*(?:\}\})?$`)

// ParseRelation reads a relation as YAML has it, with or without {{ }}; ok is false for anything else.
func ParseRelation(text string) (r Relation, ok bool) {
	m := relation.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Relation{}, false
	}
	r = Relation{Kind: m[1], Name: m[2] + m[3], Table: m[4] + m[5]}
	if (r.Kind == "source") != (r.Table != "") {
		return Relation{}, false
	}
	return r, true
}
