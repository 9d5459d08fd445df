package jinja

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/tokens"

	"github.com/dray-dev/dray/internal/diag"
)

// Marks are lines of the text written into its own output: a private-use letter, the line, another. They are made only when an
// error has to be placed, so that rendering itself is never touched by them.
const (
	markOpen  = "\uE0F0"
	markClose = "\uE0F1"
)

var mark = regexp.MustCompile(markOpen + `(\d+)` + markClose)

// Locate finds the place of a line of the rendered SQL in the user's file. Where loops and macros make that impossible it is
// the line of the loop's body, or of the macro's call, and at worst the text's beginning.
func (r *Renderer) Locate(t Text, env Env, line int) diag.Pos {
	if line < 1 {
		return t.Pos
	}
	if t.Plain() {
		return t.At(line, 0)
	}
	t.SQL = newlines(t.SQL)
	marked := t
	marked.SQL = r.mark(t)
	plain, err := r.Render(t, env)
	if err != nil {
		return t.Pos
	}
	withMarks, err := r.Render(marked, env)
	if err != nil || mark.ReplaceAllString(withMarks, "") != plain {
		return t.Pos // the marks changed what the text says: a comparison with text it made itself
	}
	return t.At(lineOf(withMarks, line), 0)
}

// lineOf is the mark in force at a line of the output: its own first, else the last before it.
func lineOf(output string, line int) int {
	current := 1
	for i, text := range strings.Split(output, "\n") {
		marks := mark.FindAllStringSubmatch(text, -1)
		if i+1 == line {
			if len(marks) > 0 {
				current, _ = strconv.Atoi(marks[0][1])
			}
			break
		}
		if len(marks) > 0 {
			current, _ = strconv.Atoi(marks[len(marks)-1][1])
		}
	}
	return current
}

// mark writes the line into every line of the data. White space at the ends of a piece stays outside, for {%- -%} to trim; what
// {% set %} and {% macro %} take in is left alone, since it may be compared.
func (r *Renderer) mark(t Text) string {
	s := scanText(t, r.cfg)
	var out strings.Builder
	end, captured := 0, 0
	for i, tok := range s.tokens {
		switch {
		case tok.Type == tokens.BlockBegin && s.typeAt(i+1) == tokens.Name:
			captured += captures(s, i+1)
		case tok.Type == tokens.Data && captured == 0 && !s.inComment(i):
			out.WriteString(t.SQL[end:tok.Pos])
			end = tok.Pos + len(tok.Val)
			out.WriteString(markData(tok.Val, strings.Count(t.SQL[:tok.Pos], "\n")+1))
		}
	}
	out.WriteString(t.SQL[end:])
	return out.String()
}

func (s *scan) inComment(i int) bool { return s.typeAt(i-1) == tokens.CommentBegin }

// captures is 1 for a block that begins to take its body in as a value, -1 for its end.
func captures(s *scan, i int) int {
	switch s.tokens[i].Val {
	case "macro", "filter":
		return 1
	case "endmacro", "endset", "endfilter":
		return -1
	case "set":
		for j := i; j < len(s.tokens) && s.typeAt(j) != tokens.BlockEnd; j++ {
			if s.typeAt(j) == tokens.Assign {
				return 0
			}
		}
		return 1
	}
	return 0
}

func markData(data string, line int) string {
	const white = " \t\r\n"
	core := strings.Trim(data, white)
	if core == "" {
		return data
	}
	start := strings.Index(data, core)
	line += strings.Count(data[:start], "\n")
	var out strings.Builder
	out.WriteString(data[:start])
	for i, text := range strings.Split(core, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(markOpen + strconv.Itoa(line+i) + markClose + text)
	}
	out.WriteString(data[start+len(core):])
	return out.String()
}
