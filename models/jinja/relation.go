package jinja

import (
	"fmt"
	"regexp"
	"strings"
)

// Relation is what a text reads: ref('orders'), source('shop', 'orders'), identity('customer'), profiles('customer'), segment('vips').
type Relation struct {
	Kind    string // ref, source, identity, profiles, segment
	Name    string
	Table   string // of a source
	Package string // of ref('package', 'model'): a project of that name
	Version string // of ref('model', v=2)
}

// String is the relation as its user writes it.
func (r Relation) String() string {
	if r.Kind == "source" {
		return fmt.Sprintf("source('%s', '%s')", r.Name, r.Table)
	}
	args := "'" + r.Name + "'"
	if r.Package != "" {
		args = "'" + r.Package + "', " + args
	}
	if r.Version != "" {
		args += ", v='" + r.Version + "'"
	}
	return r.Kind + "(" + args + ")"
}

var relation = regexp.MustCompile(`^(?:\{\{)?\s*(ref|source|identity|profiles|segment)\s*\(\s*(?:'([^']*)'|"([^"]*)")\s*(?:,\s*(?:'([^']*)'|"([^"]*)")\s*)?(?:,\s*v(?:ersion)?\s*=\s*(?:'([\w.]+)'|"([\w.]+)"|([\w.]+))\s*)?\)\s*(?:\}\})?$`)

// ParseRelation reads a relation as YAML has it, with or without {{ }}; ok is false for anything else.
func ParseRelation(text string) (r Relation, ok bool) {
	m := relation.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Relation{}, false
	}
	first, second, version := m[2]+m[3], m[4]+m[5], m[6]+m[7]+m[8]
	switch {
	case m[1] == "source":
		return Relation{Kind: m[1], Name: first, Table: second}, second != "" && version == ""
	case m[1] == "ref" && second != "":
		return Relation{Kind: m[1], Name: second, Package: first, Version: version}, true
	case m[1] == "ref":
		return Relation{Kind: m[1], Name: first, Version: version}, true
	}
	return Relation{Kind: m[1], Name: first}, second == "" && version == ""
}
