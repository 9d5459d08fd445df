package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// part is a piece of a value: literal text, or a reference.
type part struct {
	literal string
	name    string // of an environment variable
	file    string // path, of ${file:…}
	// fallback is what :- gives where the variable is not set or empty.
	fallback    []part
	hasFallback bool
}

func (p part) reference() bool { return p.name != "" || p.file != "" }

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxNesting bounds defaults within defaults.
const maxNesting = 20

var errNesting = errors.New("references are nested too deeply")

// parseReferences takes a value apart at ${NAME}, ${NAME:-default} and ${file:/path}; $${ is a literal ${.
func parseReferences(text string) ([]part, error) { return parseParts(text, 0) }

func parseParts(text string, depth int) ([]part, error) {
	if depth > maxNesting {
		return nil, errNesting
	}
	var parts []part
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			parts = append(parts, part{literal: literal.String()})
			literal.Reset()
		}
	}
	for text != "" {
		switch {
		case strings.HasPrefix(text, "$${"):
			literal.WriteString("${")
			text = text[3:]
		case strings.HasPrefix(text, "${"):
			end := closing(text)
			if end < 0 {
				return nil, errors.New("a ${ is not closed")
			}
			p, err := parseReference(text[2:end], depth)
			if err != nil {
				return nil, err
			}
			flush()
			parts = append(parts, p)
			text = text[end+1:]
		default:
			literal.WriteByte(text[0])
			text = text[1:]
		}
	}
	flush()
	return parts, nil
}

// closing is the index of the } that ends the reference at the beginning of text; -1 where there is none.
func closing(text string) int {
	depth := 0
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func parseReference(inner string, depth int) (part, error) {
	if path, ok := strings.CutPrefix(inner, "file:"); ok {
		if path == "" {
			return part{}, errors.New("${file:} names no file")
		}
		return part{file: path}, nil
	}
	name, fallback, has := strings.Cut(inner, ":-")
	if !variableName.MatchString(name) {
		return part{}, fmt.Errorf("${%s} is no reference", shorten(inner))
	}
	p := part{name: name, hasFallback: has}
	if has {
		var err error
		if p.fallback, err = parseParts(fallback, depth+1); err != nil {
			return part{}, err
		}
	}
	return p, nil
}

// resolver looks references up.
type resolver struct {
	dir string // relative paths of ${file:…} start here
	env func(string) (string, bool)
	// blind: references are left as they are, for what is checked but not used (targets that are not selected).
	blind bool
}

// resolved is a scalar after its references were looked up.
type resolved struct {
	text string
	from bool // something of it came from a reference: never show it
	only bool // nothing but references: a secret may stand here
}

// resolve looks up the references of a scalar; problems are positioned there, all at once.
func (r *resolver) resolve(t *tree, problems *diag.List) (resolved, bool) {
	if !strings.Contains(t.text, "${") {
		return resolved{text: t.text}, true
	}
	parts, err := parseReferences(t.text)
	if err != nil {
		*problems = append(*problems, diag.At(t.pos, "config.reference", "%s", err.Error()).
			WithHint("a reference is ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${"))
		return resolved{}, false
	}
	out := resolved{only: true}
	for _, p := range parts {
		out.from = out.from || p.reference()
		out.only = out.only && p.reference()
	}
	if r.blind && out.from {
		return out, true
	}
	before := len(*problems)
	out.text = r.join(parts, t.pos, problems)
	return out, len(*problems) == before
}

func (r *resolver) join(parts []part, at diag.Pos, problems *diag.List) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(r.value(p, at, problems))
	}
	return b.String()
}

func (r *resolver) value(p part, at diag.Pos, problems *diag.List) string {
	switch {
	case p.file != "":
		return r.file(p.file, at, problems)
	case p.name == "":
		return p.literal
	}
	value, set := r.env(p.name)
	switch {
	case p.hasFallback && value == "":
		return r.join(p.fallback, at, problems)
	case !set:
		*problems = append(*problems, diag.At(at, "config.missing_variable", "the environment variable %s is not set", p.name).
			WithHint("set it, or give a default: ${%s:-…}", p.name))
	}
	return value
}

// file is a file's text without the line's end that editors add.
func (r *resolver) file(path string, at diag.Pos, problems *diag.List) string {
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(r.dir, full)
	}
	text, err := os.ReadFile(full)
	if err != nil {
		var why *os.PathError
		if errors.As(err, &why) {
			err = why.Err
		}
		*problems = append(*problems, diag.At(at, "config.missing_file", "the file of ${file:%s} cannot be read: %s", path, err))
		return ""
	}
	return strings.TrimRight(string(text), "\r\n")
}
