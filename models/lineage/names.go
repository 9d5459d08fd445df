package lineage

import (
	"slices"
	"strings"
)

// Names lists what an expression may read by name alone, in lower case and each once: not functions, types after AS, or what stands
// behind a dot. Keywords are among them.
func Names(sql string, backslash bool) []string {
	p := &parser{tokens: tokens(sql, backslash)}
	var out []string
	for i, t := range p.tokens {
		if t.name() && !p.at(i-1).sign(".") && !p.at(i+1).sign("(") && !p.isAlias(i) && !slices.Contains(out, t.text) {
			out = append(out, t.text)
		}
	}
	return out
}

// Member is a name behind a dot, as in account.mrr; both in lower case.
type Member struct{ Of, Name string }

// Members lists what an expression reads behind the names that are of, each once.
func Members(sql string, backslash bool, of func(name string) bool) []Member {
	var out []Member
	_ = Replace(sql, backslash, of, func(m Member) string {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
		return ""
	})
	return out
}

// Replace writes an expression with other words for what it reads behind the names that are of.
func Replace(sql string, backslash bool, of func(name string) bool, by func(Member) string) string {
	p := &parser{tokens: tokens(sql, backslash)}
	var b strings.Builder
	done := 0
	for i, t := range p.tokens {
		if !t.name() || !of(t.text) || p.at(i-1).sign(".") || !p.at(i+1).sign(".") || !p.at(i+2).name() || p.at(i+3).sign("(") {
			continue
		}
		b.WriteString(sql[done:t.at.from])
		b.WriteString(by(Member{t.text, p.at(i + 2).text}))
		done = p.at(i + 2).at.to
	}
	return b.String() + sql[done:]
}
