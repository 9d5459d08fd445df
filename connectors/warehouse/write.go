package warehouse

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What dialects write alike stands here; how an engine differs, in its own package.

// QualifiedName is a relation's name, its parts quoted.
func QualifiedName(quote func(string) string, t Table) string {
	var parts []string
	for _, p := range []string{t.Database, t.Schema, t.Name} {
		if p != "" {
			parts = append(parts, quote(p))
		}
	}
	return strings.Join(parts, ".")
}

// ShortName is a name that takes at most limit as size counts, bytes or letters: a longer one keeps its beginning, and a hash of the
// whole keeps it apart from others. What is in upper case stays so.
func ShortName(name string, limit int, size func(string) int) string {
	if size(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "_" + hex.EncodeToString(sum[:8])
	if name == strings.ToUpper(name) {
		tail = strings.ToUpper(tail)
	}
	head := name
	for size(head)+len(tail) > limit {
		_, last := utf8.DecodeLastRuneInString(head)
		head = head[:len(head)-last]
	}
	return head + tail
}

// Bytes is how many bytes a name takes.
func Bytes(name string) int { return len(name) }

// QuotedList is names, quoted, as in GROUP BY.
func QuotedList(quote func(string) string, names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// Literal is Dialect.Value, but for floating point, which each engine writes in its own way.
func Literal(d interface {
	Text(value string) string
	Time(t time.Time) string
}, v any, float func(float64) string,
) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case json.Number:
		return v.String()
	case float64:
		return float(v)
	case time.Time:
		return d.Time(v)
	case string:
		return d.Text(v)
	default:
		return d.Text(fmt.Sprint(v))
	}
}

// HashSlice is Dialect.Slice where rows have no numbers: a range of key hashes, which are spread evenly. The column stands alone in
// it, so that an engine whose tables lie in the order of the hashes does not look at other rows.
func HashSlice(alias string, from, to, n int64) string {
	hash, width := alias+".key_hash", HashSliceWidth(n)
	var out []string
	if from > 0 {
		out = append(out, fmt.Sprintf("%s >= %d", hash, from*width))
	}
	if to < n {
		out = append(out, fmt.Sprintf("%s < %d", hash, to*width))
	}
	part := strings.Join(out, " AND ")
	switch {
	case part == "":
		return "TRUE"
	case from == 0:
		return "(" + part + " OR " + hash + " IS NULL)"
	}
	return "(" + part + ")"
}

// HashSliceWidth is how many of the 2^63 hashes one of n parts has; the last has the rest too.
func HashSliceWidth(n int64) int64 { return math.MaxInt64 / n }

// FoldLetters replaces letters of their own, in lower case, by what they are written as without them (DESIGN §12).
func FoldLetters(expr string) string {
	for _, r := range [][2]string{{"æ", "ae"}, {"ø", "oe"}, {"å", "aa"}, {"ß", "ss"}, {"œ", "oe"}, {"þ", "th"}, {"ð", "d"}} {
		expr = "replace(" + expr + ", '" + r[0] + "', '" + r[1] + "')"
	}
	return expr
}

// Soundex is Dialect.Soundex, of a replacement of all that matches an expression. The engines' own functions differ in h and w, and in
// what is no letter of English.
func Soundex(name string, replaceAll func(expr, pattern, by string) string) string {
	letters := replaceAll(name, "[^a-z]", "")
	// h and w, which come last here, are as if not there, but for the first letter; vowels keep equal digits apart.
	code := "translate(substr(" + letters + ", 1, 1), 'abcdefghijklmnopqrstuvwxyz', '01230120022455012623010202')" +
		" || translate(substr(" + letters + ", 2), 'abcdefgijklmnopqrstuvxyzhw', '012301202245501262301202')"
	for digit := 1; digit <= 6; digit++ {
		code = replaceAll(code, fmt.Sprintf("%d+", digit), strconv.Itoa(digit))
	}
	return "upper(nullif(substr(" + letters + ", 1, 1), '')) || substr(replace(substr(" + code + ", 2), '0', '') || '000', 1, 3)"
}

// CreateMissing is Dialect.CreateTable where neither days nor clusters are declared.
func CreateMissing(d interface{ Table(t Table) string }, t Table, columns []string) string {
	return "CREATE TABLE IF NOT EXISTS " + d.Table(t) + " (" + strings.Join(columns, ", ") + ")"
}

// DropSchema is Dialect.DropSchema where schemas are nobody's to be given.
func DropSchema(d Dialect, schema string) string {
	return "DROP SCHEMA IF EXISTS " + d.Quote(schema) + " CASCADE"
}

// Blanks are the characters that Dialect.Trim takes off: those of Unicode's category Zs.
const Blanks = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"

// OrderNulls is Dialect.Order in standard SQL.
func OrderNulls(expr string, desc, nullsFirst bool) string {
	if desc {
		expr += " DESC"
	}
	if nullsFirst {
		return expr + " NULLS FIRST"
	}
	return expr + " NULLS LAST"
}

// PostgresFamily is the part of a Dialect that engines of PostgreSQL's family have in common. A Dialect embeds it.
type PostgresFamily struct{}

// Contains is strpos.
func (PostgresFamily) Contains(expr, part string) string {
	return "strpos(" + expr + ", " + part + ") > 0"
}

// Xor is bit_xor.
func (PostgresFamily) Xor(expr string) string { return "bit_xor(" + expr + ")" }

// Order is one key of an ORDER BY.
func (PostgresFamily) Order(expr string, desc, nullsFirst bool) string {
	return OrderNulls(expr, desc, nullsFirst)
}

// Materialized keeps a common table expression from being computed where it is used.
func (PostgresFamily) Materialized() string { return "MATERIALIZED " }

// DDL is part of transactions.
func (PostgresFamily) DDL() bool { return true }
