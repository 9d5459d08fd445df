package lineage

// group reads what stands between brackets, or the whole text: its query, if it is one, and those in it. nil: it is none.
func (p *parser) group(from, to int) *query {
	var q *query
	i := from
	if p.at(i).is("with") && i < to {
		i = p.with(i+1, to)
	}
	switch t := p.at(i); {
	case i >= to:
		return nil
	case t.is("from"): // DuckDB: FROM t stands for SELECT * FROM t; a SELECT may follow
		q = &query{}
		i = p.from(i+1, to)
		if !p.at(i).is("select") || i >= to {
			q.branches = append(q.branches, branch{items: []item{{span: span{i, i}, star: true}}})
		}
	case t.is("summarize"), t.is("describe"), t.is("table"), t.is("pivot"), t.is("unpivot"), t.is("show"):
		if i == from && i+1 < to && p.at(i+1).name() {
			p.cannot("it uses " + t.text)
		}
	}
	for i < to {
		t := p.tokens[i]
		switch {
		case t.sign("(") || t.sign("[") || t.sign("{"):
			end := min(p.close(i), to)
			if inner := p.group(i+1, end); inner != nil && (i == from || p.setOperator(i-1)) {
				q = join(q, inner) // (SELECT …) UNION (SELECT …)
				p.drop(inner)
			}
			i = end + 1
		case t.is("select"):
			if q == nil {
				q = &query{}
			}
			var list []item
			list, i = p.selected(i+1, to)
			q.branches = append(q.branches, branch{items: list})
		case t.is("from") && q != nil && p.clause(i):
			i = p.from(i+1, to)
		case t.is("union") || t.is("intersect") || t.is("except"):
			for i++; i < to && (p.at(i).is("all") || p.at(i).is("distinct")); i++ {
			}
			if q != nil && p.at(i).is("by") && p.at(i+1).is("name") {
				q.byName = true
				i += 2
			}
			if q != nil && p.at(i).is("from") {
				p.cannot("a part of a UNION has no SELECT")
			}
		case t.is("pivot") || t.is("unpivot") || t.is("match_recognize"):
			if p.at(i+1).sign("(") || p.at(i+1).name() {
				p.cannot("it uses " + t.text)
			}
			i++
		case t.sign("|>"):
			p.cannot("it uses |>")
			i++
		default:
			i++
		}
	}
	if q != nil && len(q.branches) > 0 {
		p.queries = append(p.queries, q)
		return q
	}
	return nil
}

func (p *parser) setOperator(i int) bool {
	for p.at(i).is("all") || p.at(i).is("distinct") {
		i--
	}
	return p.at(i).is("union") || p.at(i).is("intersect") || p.at(i).is("except")
}

func join(q, inner *query) *query {
	if q == nil {
		q = &query{}
	}
	q.branches = append(q.branches, inner.branches...)
	return q
}

// drop forgets a query that became a part of another.
func (p *parser) drop(q *query) {
	for i, known := range p.queries {
		if known == q {
			p.queries = append(p.queries[:i], p.queries[i+1:]...)
			return
		}
	}
}

// with reads common table expressions, from after WITH to what follows them.
func (p *parser) with(i, to int) int {
	if p.at(i).is("recursive") {
		i++
	}
	for i < to && p.at(i).name() {
		p.relations[p.at(i).text] = true
		i++
		rename := p.names(i)
		if p.at(i).sign("(") {
			i = p.close(i) + 1
		}
		for i < to && !p.at(i).sign("(") { // AS [NOT] [MATERIALIZED]
			if p.at(i).is("select") {
				return i
			}
			i++
		}
		end := min(p.close(i), to)
		if q := p.group(i+1, end); q != nil {
			q.rename, q.visible = rename, true
		}
		i = end + 1
		if !p.at(i).sign(",") {
			break
		}
		i++
	}
	return i
}

// clause tells whether a word that begins a part of a query does so at i: one after a dot, a comma or AS is a name.
func (p *parser) clause(i int) bool {
	t, before, after := p.at(i), p.at(i-1), p.at(i+1)
	if t.kind != word || before.sign(".") || before.sign(",") || before.is("as") || before.is("select") || after.sign(",") || after.sign(".") {
		return false
	}
	switch t.text {
	case "from":
		return !before.is("distinct") // IS DISTINCT FROM
	case "group", "order":
		return after.is("by")
	case "into", "where", "having", "qualify", "window", "limit", "offset", "fetch", "union", "intersect", "except",
		"pivot", "unpivot", "match_recognize":
		return true
	case "using":
		return after.is("sample")
	}
	return false
}

// selected reads a select list from after SELECT.
func (p *parser) selected(i, to int) ([]item, int) {
	for i < to && (p.at(i).is("distinct") || p.at(i).is("all")) {
		i++
		if p.at(i).is("on") && p.at(i+1).sign("(") {
			end := p.close(i + 1)
			p.group(i+2, end)
			i = end + 1
		}
	}
	if p.at(i).is("top") && p.at(i+1).kind == number {
		i += 2
	}
	if p.at(i).is("as") && (p.at(i+1).is("struct") || p.at(i+1).is("value")) {
		p.cannot("it selects as " + p.at(i+1).text)
	}
	var list []item
	start := i
	end := func() {
		if i > start {
			list = append(list, p.item(start, i)...)
		}
	}
	for i < to {
		t := p.tokens[i]
		switch {
		case t.sign("(") || t.sign("[") || t.sign("{"):
			inner := min(p.close(i), to)
			p.group(i+1, inner)
			i = inner + 1
		case t.sign(","):
			end()
			i++
			start = i
		case (t.is("except") || t.is("exclude")) && p.at(i-1).sign("*") && (p.at(i+1).sign("(") && !p.at(i+2).is("select") || t.is("exclude")):
			i++ // * EXCEPT (a, b)
		case p.clause(i):
			end()
			return list, i
		default:
			i++
		}
	}
	end()
	return list, i
}

// item reads one entry of a select list. A star with REPLACE or RENAME gives further ones.
func (p *parser) item(from, to int) []item {
	for i := from; i < to; i++ {
		if p.at(i).sign("#") && p.at(i+1).kind == number {
			p.cannot("it names columns by number")
		}
		if p.at(i).is("columns") && p.at(i+1).sign("(") {
			p.cannot("it uses columns(…)")
		}
	}
	if star := p.star(from, to); star >= 0 {
		return p.starred(from, star, to)
	}
	i := item{span: span{from, to}}
	last := p.at(to - 1)
	switch {
	case p.at(from).name() && p.at(from+1).sign(":"): // DuckDB's name: expression; elsewhere a path into JSON
		if p.at(from + 2).name() {
			p.cannot("a colon in it may be a name or a path")
		}
	case to-from == 1 && last.name():
		i.name = last.text
	case last.name() && p.at(to-2).is("as"):
		i.name, i.to = last.text, to-2
	case last.name() && p.at(to-2).sign("."):
		if p.path(from, to) {
			i.name = last.text
		}
	case last.name() && to-from > 1 && !last.is("end") && p.ends(to-2):
		i.name, i.to = last.text, to-1
	}
	return []item{i}
}

// path tells whether tokens are a.b.c.
func (p *parser) path(from, to int) bool {
	for i := from; i < to; i++ {
		if (i-from)%2 == 0 && !p.at(i).name() || (i-from)%2 == 1 && !p.at(i).sign(".") {
			return false
		}
	}
	return true
}

// ends tells whether an expression may end at i, so that a name after it is its alias.
func (p *parser) ends(i int) bool {
	t := p.at(i)
	switch {
	case t.sign(")"), t.sign("]"), t.kind == text, t.kind == number, t.kind == quoted:
		return true
	case t.kind != word:
		return false
	}
	switch t.text {
	case "and", "or", "not", "is", "in", "like", "ilike", "between", "then", "else", "when", "case", "distinct", "collate", "zone", "interval":
		return false
	}
	return true
}

// star is where the star of an item stands that is one: * or t.*; -1 = it is none.
func (p *parser) star(from, to int) int {
	i := from
	for p.at(i).name() && p.at(i+1).sign(".") && i+1 < to {
		i += 2
	}
	if i < to && p.at(i).sign("*") {
		return i
	}
	return -1
}

func (p *parser) starred(from, star, to int) []item {
	s := item{span: span{star + 1, star + 1}, star: true}
	out := []item{}
	for i := star + 1; i < to; i++ {
		t := p.at(i)
		switch {
		case t.is("exclude") || t.is("except"):
			if p.at(i + 1).sign("(") {
				s.except = lower(p.names(i + 1))
				i = p.close(i + 1)
			} else {
				s.except = map[string]bool{p.at(i + 1).text: true}
				i++
			}
		case (t.is("replace") || t.is("rename")) && p.at(i+1).sign("("):
			end := min(p.close(i+1), to)
			list, _ := p.selected(i+2, end)
			out = append(out, list...)
			i = end
		case t.is("replace"), t.is("rename"):
			out = append(out, p.item(i+1, to)...)
			i = to
		default:
			p.cannot("it does something to *")
		}
	}
	return append([]item{s}, out...)
}

// from reads the relations of FROM, up to the next clause; conditions of joins too.
func (p *parser) from(i, to int) int {
	expect := true // a relation
	for i < to {
		t := p.tokens[i]
		switch {
		case p.clause(i):
			return i
		case t.is("select"):
			return i
		case t.sign(",") || t.is("join"):
			expect = true
			i++
		case t.is("lateral") || t.is("only"):
			if p.at(i + 1).is("view") {
				p.cannot("it uses lateral view")
			}
			i++
		case expect && t.sign("("):
			end := min(p.close(i), to)
			q := p.group(i+1, end)
			if q != nil {
				q.visible = true
			}
			if q == nil && !p.at(i+1).is("values") {
				p.from(i+1, end) // (a JOIN b)
			}
			i = p.alias(end+1, to, q, true)
			expect = false
		case expect && t.name():
			last := t.text
			p.read[i] = true
			for i++; p.at(i).sign(".") && p.at(i+1).name(); i += 2 {
				last = p.at(i + 1).text
				p.read[i+1] = true
			}
			if p.at(i).sign("(") {
				end := min(p.close(i), to)
				p.group(i+1, end)
				p.calls = append(p.calls, span{i + 1, end})
				i = p.alias(end+1, to, nil, false)
			} else {
				p.relations[last] = true
				i = p.alias(i, to, nil, false)
			}
			expect = false
		case t.sign("(") || t.sign("["):
			end := min(p.close(i), to)
			p.group(i+1, end)
			i = end + 1
		default:
			i++
		}
	}
	return i
}

// alias reads the alias of a relation, with a list of names for its columns.
func (p *parser) alias(i, to int, q *query, bracket bool) int {
	if p.at(i).is("as") {
		i++
	}
	if i >= to || !p.at(i).name() || !p.at(i-1).is("as") && (p.clause(i) || between(p.at(i))) {
		return i
	}
	p.relations[p.at(i).text] = true
	p.read[i] = true
	i++
	if !p.at(i).sign("(") {
		return i
	}
	switch rename := p.names(i); {
	case q != nil && rename != nil:
		q.rename = rename
	case !bracket || rename == nil:
		if p.at(i-1).name() && !p.isCall(i-1) {
			p.cannot("a list of names stands after a relation")
		}
	}
	return min(p.close(i), to) + 1
}

// isCall: names after a table function are of what it makes.
func (p *parser) isCall(alias int) bool {
	i := alias - 1
	if p.at(i).is("as") {
		i--
	}
	return p.at(i).sign(")")
}

// between are words that may follow a relation without being its alias.
func between(t token) bool {
	if t.kind == quoted {
		return false
	}
	switch t.text {
	case "join", "inner", "left", "right", "full", "cross", "natural", "outer", "on", "lateral", "tablesample", "semi", "anti", "asof", "positional", "with",
		"sample", "at", "before", "select", "using", "for":
		return true
	}
	return false
}
