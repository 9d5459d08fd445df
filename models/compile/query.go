package compile

import (
	"regexp"
	"strings"
)

// dollarQuote opens a text as in $$…$$ or $tag$…$tag$.
var dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$`)

// oneQuery takes the semicolons off a query's end, so that it can stand inside a statement. second is the line, from 1, at which
// another statement begins; 0 where there is none: `select 1; drop table x` is no model.
func oneQuery(sql string) (query string, second int) {
	out := []byte(sql)
	ended := -1
	for i := 0; i < len(sql); {
		if n := quiet(sql, i); n > 0 { // white space or a comment
			i += n
			continue
		}
		if sql[i] == ';' {
			ended = i
			out[i] = ' '
			i++
			continue
		}
		if ended >= 0 {
			return sql, strings.Count(sql[:i], "\n") + 1
		}
		i += solid(sql, i)
	}
	return strings.TrimRight(string(out), " \t\r\n"), 0
}

// quiet is the length of the white space or comment at i; 0 where there is neither.
func quiet(sql string, i int) int {
	rest := sql[i:]
	switch {
	case strings.ContainsRune(" \t\r\n", rune(rest[0])):
		return 1
	case strings.HasPrefix(rest, "--"):
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			return end
		}
		return len(rest)
	case strings.HasPrefix(rest, "/*"):
		return blockComment(rest)
	}
	return 0
}

// blockComment is the length of a comment that may hold others.
func blockComment(rest string) int {
	depth := 0
	for i := 0; i < len(rest); {
		switch {
		case strings.HasPrefix(rest[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(rest[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(rest)
}

// solid is the length of the token at i, as far as a semicolon may hide in it.
func solid(sql string, i int) int {
	rest := sql[i:]
	switch c := rest[0]; {
	case c == '\'' || c == '"':
		if end := strings.IndexByte(rest[1:], c); end >= 0 { // a doubled quote begins the next text at once
			return end + 2
		}
		return len(rest)
	case c == '$' && (i == 0 || !isWord(sql[i-1])):
		if tag := dollarQuote.FindString(rest); tag != "" {
			if end := strings.Index(rest[len(tag):], tag); end >= 0 {
				return end + 2*len(tag)
			}
			return len(rest)
		}
	}
	return 1
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
