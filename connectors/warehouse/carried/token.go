package carried

import "strings"

// kind is what a token is.
type kind int

const (
	word   kind = iota // a name or a keyword
	quoted             // a quoted name
	text               // a literal text
	space              // white space and comments
	other              // a number or a sign
)

type token struct {
	kind kind
	s    string
}

// is tells whether the token is a word, whatever its case, or a sign.
func (t token) is(s string) bool {
	return (t.kind == word || t.kind == other) && strings.EqualFold(t.s, s)
}

// lexer says what quotes mean in a dialect.
type lexer struct {
	names     string // characters that quote names
	texts     string // characters that quote texts
	backslash bool   // escapes in texts, and in names between backticks
}

// split cuts a statement into tokens; joined they are the statement again.
func (l lexer) split(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		n, k := l.next(sql[i:])
		out = append(out, token{k, sql[i : i+n]})
		i += n
	}
	return out
}

func (l lexer) next(rest string) (n int, k kind) {
	c := rest[0]
	switch {
	case strings.IndexByte(" \t\r\n", c) >= 0:
		return span(rest, func(c byte) bool { return strings.IndexByte(" \t\r\n", c) >= 0 }), space
	case strings.HasPrefix(rest, "--"):
		return upTo(rest, "\n"), space
	case strings.HasPrefix(rest, "/*"):
		return upTo(rest, "*/"), space
	case strings.IndexByte(l.names, c) >= 0:
		return l.literal(rest, c), quoted
	case strings.IndexByte(l.texts, c) >= 0:
		return l.literal(rest, c), text
	case isWord(c):
		return span(rest, func(c byte) bool { return isWord(c) || c >= '0' && c <= '9' }), word
	case c >= '0' && c <= '9':
		return span(rest, func(c byte) bool { return c >= '0' && c <= '9' || c == '.' }), other
	default:
		return 1, other
	}
}

// literal is the length of a quoted text; a doubled quote is read as two that touch.
func (l lexer) literal(rest string, quote byte) int {
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && l.backslash:
			i++
		case rest[i] == quote:
			return i + 1
		}
	}
	return len(rest)
}

func isWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func span(s string, is func(byte) bool) int {
	for i := range len(s) {
		if !is(s[i]) {
			return i
		}
	}
	return len(s)
}

func upTo(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

func join(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(t.s)
	}
	return b.String()
}

// solid is the index of the first token from i on that is no white space; len(tokens) where there is none.
func solid(tokens []token, i int) int {
	for i < len(tokens) && tokens[i].kind == space {
		i++
	}
	return i
}

// at is the token at an index; none beyond the end.
func at(tokens []token, i int) token {
	if i < 0 || i >= len(tokens) {
		return token{kind: space}
	}
	return tokens[i]
}
