package lineage

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what a token is.
type kind int

const (
	word   kind = iota // an identifier or a keyword, without quotes; lower-cased
	quoted             // an identifier in quotes; lower-cased, because engines differ in whether case matters
	text               // a literal
	number
	sign // one operator or bracket; :: and |> are one
)

type token struct {
	kind kind
	text string
	at   span // in the text's bytes
}

// name tells whether the token may be an identifier.
func (t token) name() bool { return t.kind == word || t.kind == quoted }

func (t token) is(keyword string) bool { return t.kind == word && t.text == keyword }

func (t token) sign(s string) bool { return t.kind == sign && t.text == s }

// tokens cuts SQL. Where backslash is set, a backslash escapes in literals (BigQuery, Snowflake).
func tokens(sql string, backslash bool) []token {
	var out []token
	add := func(k kind, body string, at, n int) { out = append(out, token{k, body, span{at, at + n}}) }
	for i := 0; i < len(sql); {
		rest := sql[i:]
		switch c := sql[i]; {
		case strings.HasPrefix(rest, "--"), c == '#' && backslash:
			i += line(rest)
		case strings.HasPrefix(rest, "/*"):
			i += comment(rest)
		case c == '\'' || c == '"' || c == '`':
			n, body := quotation(rest, backslash && c != '`' || c == '\'' && escapes(out))
			k := quoted
			if c == '\'' {
				k = text
			}
			add(k, strings.ToLower(body), i, n)
			i += n
		case c == '$' && dollar(rest) > 0:
			add(text, "", i, dollar(rest))
			i += dollar(rest)
		case c >= '0' && c <= '9':
			n := 1
			for n < len(rest) && (rest[n] == '.' || rest[n] == '_' || isLetter(rune(rest[n])) || unicode.IsDigit(rune(rest[n]))) {
				n++
			}
			add(number, rest[:n], i, n)
			i += n
		case unicode.IsSpace(rune(c)):
			i++
		default:
			r, size := utf8.DecodeRuneInString(rest)
			if isLetter(r) {
				n := strings.IndexFunc(rest, func(r rune) bool { return !isLetter(r) && !unicode.IsDigit(r) && r != '$' })
				if n < 0 {
					n = len(rest)
				}
				add(word, strings.ToLower(rest[:n]), i, n)
				i += n
				continue
			}
			if strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, "|>") {
				size = 2
			}
			add(sign, rest[:size], i, size)
			i += size
		}
	}
	return out
}

func isLetter(r rune) bool { return r == '_' || unicode.IsLetter(r) }

func line(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n + 1
	}
	return len(s)
}

// comment is the length of /* … */, which may hold others.
func comment(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// escapes tells whether the literal that comes next is PostgreSQL's e'…'.
func escapes(before []token) bool { return len(before) > 0 && before[len(before)-1].is("e") }

// quotation is the length of what begins with a quote, and what stands in it. A doubled quote is one; three begin a long literal.
func quotation(s string, backslash bool) (n int, body string) {
	quote := s[0]
	if long := strings.Repeat(string(quote), 3); backslash && strings.HasPrefix(s, long) {
		if end := strings.Index(s[3:], long); end >= 0 {
			return end + 6, s[3 : end+3]
		}
		return len(s), s[3:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			b.WriteByte(quote)
			i++
		case s[i] == quote:
			return i + 1, b.String()
		default:
			b.WriteByte(s[i])
		}
	}
	return len(s), b.String()
}

// dollar is the length of $tag$ … $tag$; 0 where none begins.
func dollar(s string) int {
	end := strings.IndexByte(s[1:], '$')
	if end < 0 || strings.ContainsFunc(s[1:end+1], func(r rune) bool { return !isLetter(r) && !unicode.IsDigit(r) }) {
		return 0
	}
	tag := s[:end+2]
	if close := strings.Index(s[len(tag):], tag); close >= 0 {
		return len(tag) + close + len(tag)
	}
	return 0
}
