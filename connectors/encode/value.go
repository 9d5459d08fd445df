package encode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// ErrValue is a value that JSON cannot carry: an infinite number, a year beyond 9999.
var ErrValue = errors.New("a value cannot be written as JSON")

// Value appends one value of warehouse.Rows: numbers and decimals as numbers, timestamps RFC 3339 in UTC, dates YYYY-MM-DD,
// JSON embedded as JSON on one line, NULL as null.
func Value(dst []byte, v any, kind warehouse.Kind) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return text(dst, v, kind)
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		return Float(dst, v)
	case bool:
		return strconv.AppendBool(dst, v), nil
	case time.Time:
		return quotedTime(dst, v, kind)
	default:
		return dst, fmt.Errorf("%w: a Go %T", ErrValue, v)
	}
}

// Cell is Value for a value that still lies in the warehouse's result.
func Cell(dst []byte, c warehouse.Cells, column int, kind warehouse.Kind) ([]byte, error) {
	if c.Null(column) {
		return append(dst, "null"...), nil
	}
	switch kind {
	case warehouse.Int:
		return strconv.AppendInt(dst, c.Int(column), 10), nil
	case warehouse.Float:
		return Float(dst, c.Float(column))
	case warehouse.Bool:
		return strconv.AppendBool(dst, c.Bool(column)), nil
	case warehouse.Date, warehouse.Timestamp:
		return quotedTime(dst, c.Time(column), kind)
	default:
		return text(dst, c.Text(column), kind)
	}
}

// text appends what leaves the warehouse as text.
func text(dst []byte, s string, kind warehouse.Kind) ([]byte, error) {
	switch kind {
	case warehouse.Decimal:
		if !isNumber(s) {
			return dst, fmt.Errorf("%w: a decimal that is no number", ErrValue)
		}
		return append(dst, s...), nil
	case warehouse.JSON:
		return embed(dst, s), nil
	default:
		return String(dst, s), nil
	}
}

// Float appends a number as encoding/json writes it.
func Float(dst []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, fmt.Errorf("%w: a number that is not finite", ErrValue)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64), nil
}

func quotedTime(dst []byte, t time.Time, kind warehouse.Kind) ([]byte, error) {
	dst = append(dst, '"')
	dst, err := Time(dst, t, kind)
	return append(dst, '"'), err
}

// Time appends a date as YYYY-MM-DD and an instant as RFC 3339 in UTC, with a fraction where there is one. It writes digits itself:
// a layout costs three times as much, and rows have several times.
func Time(dst []byte, t time.Time, kind warehouse.Kind) ([]byte, error) {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return dst, fmt.Errorf("%w: a year outside 0 to 9999", ErrValue)
	}
	dst = append(two(two(dst, year/100), year%100), '-')
	dst = two(append(two(dst, int(month)), '-'), day)
	if kind == warehouse.Date {
		return dst, nil
	}
	hour, minute, second := t.Clock()
	dst = append(two(append(dst, 'T'), hour), ':')
	dst = two(append(two(dst, minute), ':'), second)
	if fraction := t.Nanosecond(); fraction > 0 {
		places := 9
		for ; fraction%10 == 0; fraction /= 10 {
			places--
		}
		dst = append(dst, '.')
		for range places {
			dst = append(dst, '0')
		}
		for i := len(dst) - 1; fraction > 0; i-- {
			dst[i] += byte(fraction % 10)
			fraction /= 10
		}
	}
	return append(dst, 'Z'), nil
}

// two appends a number below 100 in two digits.
func two(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// embed appends JSON text as it is; text that is no JSON becomes a string, so that the body stays whole.
func embed(dst []byte, s string) []byte {
	if !json.Valid([]byte(s)) {
		return String(dst, s)
	}
	start := len(dst)
	dst = append(dst, s...)
	if bytes.ContainsAny(dst[start:], "\n\r") { // outside strings, as the text is valid
		var b bytes.Buffer
		if json.Compact(&b, []byte(s)) == nil {
			dst = append(dst[:start], b.Bytes()...)
		}
	}
	return dst
}

// isNumber tells whether s is a number in JSON's grammar.
func isNumber(s string) bool {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	default:
		n := digits(s[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	if i < len(s) && s[i] == '.' {
		n := digits(s[i+1:])
		if n == 0 {
			return false
		}
		i += 1 + n
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		n := digits(s[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return i == len(s)
}

func digits(s string) int {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

const hex = "0123456789abcdef"

// String appends a JSON string. Bytes that are no UTF-8 become U+FFFD, as in encoding/json; < > & stay readable.
func String(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if i+8 <= len(s) && plain(s[i:i+8]) {
			i += 8
			continue
		}
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			dst = escape(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// plain tells whether none of eight bytes needs more than to be copied: below 0x20, above 0x7F, " or \\. It looks at all of them at once.
func plain(s string) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	_ = s[7]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	quote, backslash := w^('"'*ones), w^('\\'*ones)
	return (w|(w-' '*ones)|(quote-ones)|(backslash-ones))&high == 0
}

func escape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
}
