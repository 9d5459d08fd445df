package graph

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
)

// Select gives the nodes that include means and exclude does not, in Order; with kinds, of those kinds alone. An empty include
// means all. Selectors are dbt's: a name, a glob, tag:x, sync:x or sync.x, +name and 2+name (with what it reads), name+ and
// name+2 (with what reads it), and a,b for what both mean. A selector that means nothing is an error.
func (g *Graph) Select(include, exclude []string, kinds ...Kind) ([]*Node, error) {
	chosen, err := g.selectAll(include, kinds)
	if err != nil {
		return nil, err
	}
	if len(include) == 0 {
		chosen = map[ID]bool{}
		for id := range g.Nodes {
			chosen[id] = true
		}
	}
	dropped, err := g.selectAll(exclude, kinds)
	if err != nil {
		return nil, err
	}
	var out []*Node
	for _, n := range g.Order() {
		if chosen[n.ID] && !dropped[n.ID] && (len(kinds) == 0 || slices.Contains(kinds, n.Kind)) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (g *Graph) selectAll(selectors []string, kinds []Kind) (map[ID]bool, error) {
	out := map[ID]bool{}
	var problems diag.List
	for _, list := range selectors {
		for _, selector := range strings.Fields(list) {
			set, err := g.intersect(selector, kinds)
			problems.Add(err)
			maps.Copy(out, set)
		}
	}
	return out, problems.Err()
}

// intersect is a,b,c.
func (g *Graph) intersect(selector string, kinds []Kind) (map[ID]bool, error) {
	var out map[ID]bool
	for _, part := range strings.Split(selector, ",") {
		set, err := g.selectOne(part, kinds)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = set
			continue
		}
		maps.DeleteFunc(out, func(id ID, _ bool) bool { return !set[id] })
	}
	return out, nil
}

var operators = regexp.MustCompile(`^(?:(\d*)(\+))?(.*?)(?:(\+)(\d*))?$`)

func (g *Graph) selectOne(selector string, kinds []Kind) (map[ID]bool, error) {
	m := operators.FindStringSubmatch(selector)
	up, down, name := m[2] != "", m[4] != "", m[3]
	if name == "" {
		return nil, diag.Errorf(diag.Invalid, "select.syntax", "%q is not a selector", selector).WithHint("a name, tag:x, +name or name+")
	}
	if up || down {
		kinds = nil // the name may be of any kind: it is what it leads to that counts
	}
	ids, err := g.named(name, kinds)
	if err != nil {
		return nil, err
	}
	out := g.reach(ids, 0, nil)
	if up {
		maps.Copy(out, g.reach(ids, steps(m[1]), func(id ID) []ID { return g.Nodes[id].Parents }))
	}
	if down {
		maps.Copy(out, g.reach(ids, steps(m[5]), func(id ID) []ID { return g.children[id] }))
	}
	return out, nil
}

func steps(digits string) int {
	if n, err := strconv.Atoi(digits); err == nil {
		return n
	}
	return -1
}

// named finds what a selector without operators means.
func (g *Graph) named(name string, kinds []Kind) ([]ID, error) {
	if tag, ok := strings.CutPrefix(name, "tag:"); ok {
		return g.tagged(tag)
	}
	pattern, of := name, kinds
	if k, rest, ok := strings.Cut(name, ":"); ok {
		if !slices.Contains(Kinds(), Kind(k)) {
			return nil, g.noMethod(k)
		}
		pattern, of = rest, []Kind{Kind(k)}
	} else if k, rest, ok := strings.Cut(name, "."); ok && slices.Contains(Kinds(), Kind(k)) {
		pattern, of = rest, []Kind{Kind(k)}
	}
	if out := g.match(pattern, of); len(out) > 0 {
		return out, nil
	}
	return nil, g.noName(name, pattern, of)
}

func (g *Graph) match(pattern string, kinds []Kind) []ID {
	var out []ID
	for _, id := range g.order {
		n := g.Nodes[id]
		if len(kinds) > 0 && !slices.Contains(kinds, n.Kind) {
			continue
		}
		ok, err := path.Match(pattern, n.Name)
		group := n.Source != nil && n.Source.Name == pattern // source:shop means all its tables
		if n.Name == pattern || group || (err == nil && ok) {
			out = append(out, id)
		}
	}
	return out
}

func (g *Graph) tagged(tag string) ([]ID, error) {
	var out []ID
	known := map[string]bool{}
	for _, id := range g.order {
		for _, t := range g.Nodes[id].Tags {
			known[t] = true
			if ok, err := path.Match(tag, t); t == tag || (err == nil && ok) {
				out = append(out, id)
			}
		}
	}
	if len(out) > 0 {
		return slices.Compact(out), nil
	}
	tags := slices.Sorted(maps.Keys(known))
	err := unknown(diag.Pos{}, "select.unknown_tag", fmt.Sprintf("nothing is tagged %q", tag), tag, tags)
	if len(tags) == 0 {
		err.Hint = "the project has no tags"
	}
	return nil, err
}

func (g *Graph) noMethod(method string) error {
	known := []string{"tag"}
	for _, k := range Kinds() {
		known = append(known, string(k))
	}
	return unknown(diag.Pos{}, "select.unknown_method", fmt.Sprintf("there is no selector %s:", method), method, known)
}

func (g *Graph) noName(written, pattern string, kinds []Kind) error {
	what := "name"
	if len(kinds) > 0 {
		words := make([]string, len(kinds))
		for i, k := range kinds {
			words[i] = string(k)
		}
		what = strings.Join(words, " or ")
	}
	var known []string
	for _, n := range g.Order() {
		switch {
		case len(kinds) == 0 || slices.Contains(kinds, n.Kind):
			known = append(known, n.Name)
		case n.Name == pattern && written == pattern:
			return diag.Errorf(diag.Invalid, "select.unknown_name", "there is no %s %q", what, pattern).
				WithHint("%q is %s; %s+ means what reads it", pattern, article(n.Kind), pattern)
		}
	}
	if strings.ContainsAny(pattern, "*?[") {
		return diag.Errorf(diag.Invalid, "select.unknown_name", "no %s matches %q", what, pattern)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if near := config.Suggest(pattern, known); near != "" {
		return diag.Errorf(diag.Invalid, "select.unknown_name", "there is no %s %q", what, pattern).WithHint("did you mean %s?", near)
	}
	return unknown(diag.Pos{}, "select.unknown_name", fmt.Sprintf("there is no %s %q", what, pattern), pattern, known)
}
