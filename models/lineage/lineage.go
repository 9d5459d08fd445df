// Package lineage follows columns through SQL: given which columns of what a query reads may not leave the warehouse, it tells which
// of the query's own columns are made of them.
//
// It reads SQL of all engines alike, without a grammar of any: it cuts the text into select lists and goes by the names in them. Where
// it errs, it errs towards more: a name stands for every column of that name that the query reads. What it cannot follow it says, and
// then every column may be made of them. Conditions are not followed: which rows a query gives, by where, join, having and order by,
// may well depend on a column that is not in it.
package lineage

import (
	"maps"
	"slices"
	"strings"
)

// Columns are columns that may not leave, by lower-cased name, with where each comes from.
type Columns map[string]string

// Query follows columns through a query. opaque says why it cannot; then any column may be made of them. Where a query passes all
// columns on (SELECT *), the answer holds names of columns that it may not have. backslash: in this engine's literals a backslash
// escapes.
func Query(sql string, backslash bool, from Columns) (out Columns, opaque string) {
	if len(from) == 0 {
		return Columns{}, ""
	}
	p := &parser{tokens: tokens(sql, backslash), relations: map[string]bool{}, read: map[int]bool{}}
	for len(p.tokens) > 0 && p.tokens[len(p.tokens)-1].sign(";") {
		p.tokens = p.tokens[:len(p.tokens)-1]
	}
	outer := p.group(0, len(p.tokens))
	if p.opaque == "" && outer == nil {
		p.opaque = "it is no SELECT"
	}
	if p.opaque != "" {
		return nil, p.opaque
	}
	outer.visible = true
	names := maps.Clone(from)
	for size := -1; size != len(names); {
		size = len(names)
		for _, q := range p.queries {
			made, opaque := p.made(q, names)
			if opaque != "" {
				return nil, opaque
			}
			for name, origin := range made {
				if names[name] == "" {
					names[name] = origin
				}
			}
		}
		for _, call := range p.calls {
			if p.holds(call, names) != "" {
				return nil, "it gives one of them to a table function"
			}
		}
	}
	return p.made(outer, names)
}

// Expression tells whether an expression over columns is made of any of them, and of which; "" = of none.
func Expression(sql string, backslash bool, from Columns) string {
	if len(from) == 0 {
		return ""
	}
	p := &parser{tokens: tokens(sql, backslash), relations: map[string]bool{}, read: map[int]bool{}}
	p.group(0, len(p.tokens))
	if p.opaque != "" {
		return anyOf(from)
	}
	return p.holds(span{0, len(p.tokens)}, from)
}

func anyOf(c Columns) string { return c[slices.Sorted(maps.Keys(c))[0]] }

type span struct{ from, to int }

// query is one SELECT, or several joined by UNION and the like.
type query struct {
	branches []branch
	byName   bool
	visible  bool     // its columns can be named: it stands in FROM or WITH, or is the whole
	rename   []string // names that a list after its alias gives its columns, in order
}

// branch is the select list of one SELECT.
type branch struct{ items []item }

// item is one entry of a select list.
type item struct {
	span
	name   string          // of the column; "" where the engine would find one
	star   bool            // all columns, of one or of all relations
	except map[string]bool // of a star: without these
}

type parser struct {
	tokens    []token
	queries   []*query
	relations map[string]bool // names and aliases of what is read: each alone stands for a whole row
	read      map[int]bool    // tokens that name what is read: no values
	calls     []span          // table functions
	opaque    string
}

// made are the columns of a query that are made of names.
func (p *parser) made(q *query, names Columns) (Columns, string) {
	out := Columns{}
	stars := false
	for _, b := range q.branches {
		for _, i := range b.items {
			stars = stars || i.star
		}
	}
	if positional := len(q.branches) > 1 && !q.byName || q.rename != nil; positional && stars {
		return nil, "in it * stands where columns go by their order (UNION, or a list of names)"
	}
	for _, b := range q.branches {
		for k, i := range b.items {
			if i.star {
				i.passed(names, out)
			}
			origin := p.holds(i.span, names)
			if origin == "" {
				continue
			}
			name := i.name
			switch {
			case i.star: // what REPLACE and RENAME make has a name of its own, and is an item of its own
				continue
			case k < len(q.rename):
				name = q.rename[k]
			case !q.byName && k < len(q.branches[0].items):
				name = q.branches[0].items[k].name
			}
			if name == "" && !q.visible {
				continue
			}
			if name == "" {
				return nil, "a column made of one of them has no name (write AS name)"
			}
			out[name] = origin
		}
	}
	return out, ""
}

// passed adds what a star passes on: all names but those that it leaves out.
func (star item) passed(names, out Columns) {
	for name, origin := range names {
		if star.except[name] {
			continue
		}
		out[name] = origin
	}
}

// holds tells whether tokens name a column of names, a whole row, or all columns at once; "" = they do not.
func (p *parser) holds(s span, names Columns) string {
	for i := s.from; i < s.to; i++ {
		t := p.tokens[i]
		before, after := p.at(i-1), p.at(i+1)
		switch {
		case p.read[i]:
		case t.name() && !after.sign("(") && names[t.text] != "" && !p.isAlias(i):
			return names[t.text]
		case t.name() && p.relations[t.text] && !after.sign(".") && !before.sign(".") && !after.sign("(") && !p.isAlias(i):
			return anyOf(names)
		case t.sign("*") && p.isStar(i) && !(p.at(i-2).is("count") && before.sign("(") && after.sign(")")):
			return anyOf(names)
		}
	}
	return ""
}

// isAlias tells whether a name stands after AS. A type of CAST(x AS type) is none, and harms nobody.
func (p *parser) isAlias(i int) bool { return p.at(i - 1).is("as") }

// isStar tells whether * means columns, and not a product.
func (p *parser) isStar(i int) bool {
	b := p.at(i - 1)
	return b.sign("(") || b.sign(",") || b.sign(".") || b.is("select") || b.is("distinct") || b.is("all") || b.sign(")") && p.afterDistinctOn(i-1)
}

// afterDistinctOn tells whether the bracket that ends at i is that of DISTINCT ON (…).
func (p *parser) afterDistinctOn(i int) bool {
	depth := 0
	for ; i >= 0; i-- {
		switch {
		case p.tokens[i].sign(")"):
			depth++
		case p.tokens[i].sign("("):
			if depth--; depth == 0 {
				return p.at(i-1).is("on") && p.at(i-2).is("distinct")
			}
		}
	}
	return false
}

func (p *parser) at(i int) token {
	if i < 0 || i >= len(p.tokens) {
		return token{kind: sign}
	}
	return p.tokens[i]
}

// close is where the bracket that opens at i ends.
func (p *parser) close(i int) int {
	depth := 0
	for j := i; j < len(p.tokens); j++ {
		switch {
		case p.tokens[j].sign("("), p.tokens[j].sign("["), p.tokens[j].sign("{"):
			depth++
		case p.tokens[j].sign(")"), p.tokens[j].sign("]"), p.tokens[j].sign("}"):
			if depth--; depth == 0 {
				return j
			}
		}
	}
	return len(p.tokens)
}

// names reads a list of names in brackets that opens at i; nil where it is something else.
func (p *parser) names(i int) []string {
	if !p.at(i).sign("(") {
		return nil
	}
	var out []string
	for j := i + 1; ; j += 2 {
		if !p.at(j).name() {
			return nil
		}
		out = append(out, p.at(j).text)
		if p.at(j + 1).sign(")") {
			return out
		}
		if !p.at(j + 1).sign(",") {
			return nil
		}
	}
}

func (p *parser) cannot(why string) {
	if p.opaque == "" {
		p.opaque = why
	}
}

func lower(names []string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[strings.ToLower(n)] = true
	}
	return out
}
