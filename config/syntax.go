package config

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/internal/diag"
)

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// grammarErrors are the messages for which yaml.v3 counts lines from 0: it adds one for its scanner alone.
var grammarErrors = regexp.MustCompile(`^did not find expected (node content|'-' indicator|key|',' or '\]'|',' or '\}'|<document start>)|^found undefined tag handle`)

// syntaxError places what yaml.v3 says. It tells at best the line at which the surrounding block began and never a column,
// so the line is looked for: what follows the longest beginning of the file that is YAML in itself.
func syntaxError(file string, text []byte, err error) *diag.Error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = err.Error()[len(m[0]):]
		if grammarErrors.MatchString(msg) {
			line++
		}
	}
	if at, bad := badByte(text); bad {
		return diag.At(diag.Pos{File: file, Line: at.Line, Col: at.Col}, "config.yaml", "the file is not UTF-8 text")
	}
	lines := bytes.Split(text, []byte("\n"))
	line = min(blame(lines, line), len(lines))
	at := diag.Pos{File: file, Line: line, Col: blameColumn(lines[line-1], msg)}
	e := diag.At(at, "config.yaml", "this is not YAML: %s", msg)
	if hint := syntaxHint(lines[line-1], msg); hint != "" {
		e = e.WithHint("%s", hint)
	}
	return e
}

// badByte finds what is not UTF-8. (YAML may be UTF-16 too; that begins with a mark and parses.)
func badByte(text []byte) (at diag.Pos, bad bool) {
	at = diag.Pos{Line: 1, Col: 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			return at, true
		}
		at.Col++
		if r == '\n' {
			at.Line, at.Col = at.Line+1, 1
		}
		text = text[size:]
	}
	return at, false
}

// blameWindow bounds the lines that are tried: each try parses the file's beginning once more.
const blameWindow = 200

// blame is the line after the longest beginning of the file, no shorter than the reported line, that parses.
func blame(lines [][]byte, reported int) int {
	last := reported - 1
	for k := reported; k < len(lines) && k < reported+blameWindow; k++ {
		var node yaml.Node
		if yaml.Unmarshal(bytes.Join(lines[:k], []byte("\n")), &node) == nil {
			last = k
		}
	}
	for k := last; k < len(lines); k++ {
		if l := bytes.TrimSpace(lines[k]); len(l) > 0 && l[0] != '#' {
			return k + 1
		}
	}
	return reported
}

func blameColumn(line []byte, msg string) int {
	if strings.Contains(msg, "mapping values are not allowed") {
		if i := bytes.LastIndex(line, []byte(": ")); i >= 0 {
			return utf8.RuneCount(line[:i]) + 1
		}
	}
	if i := bytes.IndexByte(line, '\t'); i >= 0 && strings.Contains(msg, "cannot start any token") {
		return utf8.RuneCount(line[:i]) + 1
	}
	return len(line) - len(bytes.TrimLeft(line, " \t")) + 1
}

func syntaxHint(line []byte, msg string) string {
	switch {
	case strings.Contains(msg, "mapping values are not allowed"):
		return "a text that holds \": \" needs quotes"
	case strings.Contains(msg, "cannot start any token") && bytes.ContainsRune(line, '\t'):
		return "indent with blanks, not tabs"
	case strings.Contains(msg, "cannot start any token"):
		return "a text that begins with @, ` or % needs quotes"
	case strings.Contains(msg, "did not find expected key"), strings.Contains(msg, "'-' indicator"):
		return "is this line indented like its neighbours?"
	case strings.Contains(msg, "',' or ']'"), strings.Contains(msg, "',' or '}'"):
		return "a bracket or a comma is missing, or a text with { [ , needs quotes"
	case strings.Contains(msg, "unexpected end of stream"):
		return "a quote is not closed"
	}
	return ""
}
