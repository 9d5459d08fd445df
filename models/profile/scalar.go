package profile

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// words are the names in an SQL expression: literals and comments are skipped, quoted names count.
var words = regexp.MustCompile(`'(?:[^']|'')*'|--[^\n]*|(?s:/\*.*?\*/)|"(?:[^"]|"")*"|[\p{L}_][\p{L}\p{N}_]*`)

// namesIn lists the names an expression mentions, in lower case.
func namesIn(sql string) []string {
	var out []string
	for _, word := range words.FindAllString(sql, -1) {
		switch {
		case word[0] == '\'', strings.HasPrefix(word, "--"), strings.HasPrefix(word, "/*"):
		case word[0] == '"':
			out = append(out, strings.ToLower(strings.ReplaceAll(word[1:len(word)-1], `""`, `"`)))
		default:
			out = append(out, strings.ToLower(word))
		}
	}
	return out
}

// order finds which scalar traits each scalar trait needs, and names cycles.
func (b *builder) order(traits []*trait) error {
	scalars := map[string]*trait{}
	for _, t := range traits {
		if t.scalar != "" {
			scalars[strings.ToLower(t.Name)] = t
		}
	}
	for _, t := range scalars {
		for _, name := range namesIn(t.scalar) {
			if _, ok := scalars[name]; ok && !slices.Contains(t.needs, name) {
				t.needs = append(t.needs, name)
			}
		}
	}
	done := map[string]bool{}
	for _, t := range traits {
		if t.scalar == "" {
			continue
		}
		if cycle := findCycle(scalars, strings.ToLower(t.Name), nil, done); cycle != nil {
			return diag.At(t.Node.At("sql"), "trait.cycle", "traits need each other: %s", strings.Join(cycle, " -> "))
		}
	}
	return nil
}

// findCycle walks what a trait needs; it gives the names from the first that returns to itself.
func findCycle(scalars map[string]*trait, name string, path []string, done map[string]bool) []string {
	if done[name] {
		return nil
	}
	if i := slices.Index(path, name); i >= 0 {
		return append(slices.Clone(path[i:]), name)
	}
	for _, need := range scalars[name].needs {
		if cycle := findCycle(scalars, need, append(path, name), done); cycle != nil {
			return cycle
		}
	}
	done[name] = true
	return nil
}

// layers puts the scalar traits, which have no cycle, in an order of queries: each needs only traits of layers before it.
func layers(traits []*trait) [][]*trait {
	depth := map[string]int{}
	byName := map[string]*trait{}
	for _, t := range traits {
		if t.scalar != "" {
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
		if t.scalar == "" {
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
