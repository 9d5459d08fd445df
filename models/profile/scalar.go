package profile

import (
	"regexp"
	"strings"
)

// layers puts the derived traits, which have no cycle, in an order of queries: each needs only traits of layers before it.
func layers(traits []*trait) [][]*trait {
	depth := map[string]int{}
	byName := map[string]*trait{}
	for _, t := range traits {
		if t.derived() {
			byName[strings.ToLower(t.Name)] = t
		}
	}
	var of func(name string) int
	of = func(name string) int {
		if d, ok := depth[name]; ok {
			return d
		}
		d := 0
		for _, need := range byName[name].needs {
			d = max(d, of(need)+1)
		}
		depth[name] = d
		return d
	}
	var out [][]*trait
	for _, t := range traits {
		if !t.derived() {
			continue
		}
		d := of(strings.ToLower(t.Name))
		for len(out) <= d {
			out = append(out, nil)
		}
		out[d] = append(out[d], t)
	}
	return out
}

var (
	nullsPart = regexp.MustCompile(`(?is)^(.*\S)\s+nulls\s+(first|last)$`)
	wayPart   = regexp.MustCompile(`(?is)^(.*\S)\s+(asc|desc)$`)
)

// direction reads one key of an ORDER BY. NULL goes last where nothing is said, as on no two engines by default.
func direction(part string) key {
	k := key{expr: strings.TrimSpace(part), nulls: last}
	if m := nullsPart.FindStringSubmatch(k.expr); m != nil {
		k.expr = m[1]
		if strings.EqualFold(m[2], "first") {
			k.nulls = first
		}
	}
	if m := wayPart.FindStringSubmatch(k.expr); m != nil {
		k.expr, k.desc = m[1], strings.EqualFold(m[2], "desc")
	}
	k.expr = "(" + k.expr + ")"
	return k
}

// splitTop splits SQL at the commas that stand outside parentheses and quotes.
func splitTop(text string) []string {
	var out []string
	depth, start := 0, 0
	quote := byte(0)
	for i := range len(text) {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == ',' && depth == 0:
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:])
}
