package deliver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/destination"
)

var (
	address = regexp.MustCompile(`[^\s"'<>(),;:]+@[^\s"'<>(),;:]+`)
	digits  = regexp.MustCompile(`\+?\d[\d ()-]{6,}\d`)
	instant = regexp.MustCompile(`\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?))?)?`)
	number  = regexp.MustCompile(`[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?`)
	escaped = regexp.MustCompile(`(?:%[0-9A-Fa-f]{2})+|(?:\\u[0-9A-Fa-f]{4})+`)
	codes   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}$`)
	digit   = regexp.MustCompile(`\d`)
	words   = regexp.MustCompile(`[\p{L}\p{M}\p{N}]+`)
)

// usual are words of vendors' messages. They are no one's data where they are only a part of a value, or the value of another row.
//
//nolint:gochecknoglobals // a constant in spirit
var usual = setOf("and are bad but can cannot contact could customer does email exists expected field found for from has have " +
	"invalid list missing must name not null number object of only property record rejected required row set should status than " +
	"that the this too unknown user valid value values was were with")

func setOf(list string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(list) {
		out[w] = true
	}
	return out
}

// maxMessage keeps a vendor's words short enough for a table.
const maxMessage = 300

// maxScrubbed is how much of a vendor's words is looked at: what lies behind is never shown.
const maxScrubbed = 4 * maxMessage

// scrub takes values out of a vendor's message (I6): a row's own in whatever spelling the vendor repeats them, those of the
// batch's other rows as they are, and whatever looks like an address or a number of a person. c may be nil, b too.
func scrub(message string, c *destination.Change, b *batch) string {
	if message == "" {
		return ""
	}
	message = b.takeOut(instant.ReplaceAllString(spelledOut(head(message, maxScrubbed)), "***"))
	if c != nil {
		var n needles
		eachValue(c, n.add)
		message = n.takeOut(message)
	}
	message = digits.ReplaceAllString(address.ReplaceAllString(message, "***"), "***")
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxMessage {
		message = head(message, maxMessage) + "…"
	}
	return message
}

// scrubCode keeps what is a code; anything else a vendor puts in its place is treated as its words.
func scrubCode(code string, c *destination.Change, b *batch) string {
	if codes.MatchString(code) && !digits.MatchString(code) && !isKey(code, c) {
		return code
	}
	return scrub(code, c, b)
}

func eachValue(c *destination.Change, f func(any)) {
	if c.JSON != nil {
		key, fields := written(c)
		for _, v := range []any{key, fields} {
			leaves(v, f)
		}
		return
	}
	for _, values := range [][]any{c.Key, c.OldKey, c.Fields} {
		for _, v := range values {
			f(v)
		}
	}
}

// written are the values of a change that is given as JSON; it is read when a message must be held against it, and not before.
func written(c *destination.Change) (key, fields any) {
	var row struct {
		Key    any `json:"key"`
		Fields any `json:"fields"`
	}
	d := json.NewDecoder(io.MultiReader(strings.NewReader("{"), bytes.NewReader(c.JSON), strings.NewReader("}")))
	d.UseNumber()
	if d.Decode(&row) != nil {
		return nil, nil
	}
	return row.Key, row.Fields
}

// leaves calls f with each value in decoded JSON as the warehouse would have given it: times and dates as such.
func leaves(v any, f func(any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			leaves(member, f)
		}
	case []any:
		for _, member := range v {
			leaves(member, f)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			f(n)
			return
		}
		f(v.String())
	case string:
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if t, err := time.Parse(layout, v); err == nil {
				f(t)
				return
			}
		}
		f(v)
	default:
		f(v)
	}
}

// maxWords is how many words a value of another row may have to be found.
const maxWords = 6

// takeOut takes the values of all rows of the batch out of a message: texts and numbers that stand in it as whole words. They
// are gathered at the first message, and looked up word by word: a batch may have 10,000 rows, each with a message.
func (b *batch) takeOut(message string) string {
	if b == nil {
		return message
	}
	if b.values == nil {
		b.values = map[string]bool{}
		for _, r := range b.rows {
			eachValue(&b.page.Changes[r], b.gather)
		}
	}
	spans := words.FindAllStringIndex(message, -1)
	var out strings.Builder
	last := 0
	for i := 0; i < len(spans); i++ {
		name, end := "", -1
		for j := i; j < min(i+maxWords, len(spans)); j++ {
			name += " " + strings.ToLower(message[spans[j][0]:spans[j][1]])
			if b.values[name] {
				end = j
			}
		}
		if end < 0 {
			continue
		}
		out.WriteString(message[last:spans[i][0]])
		out.WriteString("***")
		last, i = spans[end][1], end
	}
	return out.String() + message[last:]
}

func (b *batch) gather(v any) {
	if v == nil {
		return
	}
	if _, flag := v.(bool); flag {
		return
	}
	parts := words.FindAllString(strings.ToLower(fmt.Sprint(v)), maxWords+1)
	name := ""
	for _, p := range parts {
		name += " " + p
	}
	if len(parts) <= maxWords && len(name) > 3 && !usual[strings.TrimSpace(name)] {
		b.values[name] = true
	}
}

func isKey(s string, c *destination.Change) bool {
	keys := append(slices.Clone(c.Key), c.OldKey...)
	if c.JSON != nil {
		key, _ := written(c)
		leaves(key, func(v any) { keys = append(keys, v) })
	}
	return slices.ContainsFunc(keys, func(v any) bool {
		text, _ := v.(string)
		return len(text) >= 3 && strings.Contains(strings.ToLower(s), strings.ToLower(text))
	})
}

// spelledOut undoes the escapes in which a vendor may repeat a value: of URLs, JSON and HTML.
func spelledOut(s string) string {
	if !strings.ContainsAny(s, `%\&`) {
		return s
	}
	s = escaped.ReplaceAllStringFunc(s, func(e string) string {
		if e[0] == '%' {
			if plain, err := url.PathUnescape(e); err == nil && utf8.ValidString(plain) {
				return plain
			}
			return e
		}
		var plain string
		if json.Unmarshal([]byte(`"`+e+`"`), &plain) == nil {
			return plain
		}
		return e
	})
	return html.UnescapeString(strings.NewReplacer(`\"`, `"`, `\/`, `/`, `\n`, " ", `\t`, " ").Replace(s))
}

// needles are the spellings of values to take out of a text.
type needles struct {
	texts   []string // lower case, 3 characters and more
	short   []string // as they are: only whole words of that very spelling
	numbers []float64
}

func (n *needles) add(v any) {
	switch v := v.(type) {
	case nil, bool:
	case string:
		n.text(v)
	case int64:
		n.number(float64(v), strconv.FormatInt(v, 10))
	case float64:
		n.number(v, strconv.FormatFloat(v, 'f', -1, 64))
	case time.Time:
		for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly, time.RFC1123, "02/01/2006", "01/02/2006", "2 January 2006"} {
			n.text(v.UTC().Format(layout))
		}
	default:
		n.text(fmt.Sprint(v))
	}
}

// number also finds the other ways to write it: with a sign, separators, zeros at the end. One of less than three digits says
// nothing of a person, and stands in every second message.
func (n *needles) number(f float64, text string) {
	if len(digit.FindAllString(text, 3)) < 3 {
		return
	}
	n.numbers = append(n.numbers, f)
}

// text takes a value and what is inside it: the members of JSON, the words of a short text (a name), the name in an address.
func (n *needles) text(s string) {
	s = strings.Join(strings.Fields(s), " ")
	if t := strings.TrimSpace(s); t != "" && (t[0] == '{' || t[0] == '[') && n.members(t) {
		return
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && digit.MatchString(s) {
		n.number(f, s)
		return
	}
	switch size := utf8.RuneCountInString(s); {
	case size == 0:
		return
	case size < 3:
		n.short = append(n.short, s)
		return
	}
	n.texts = append(n.texts, strings.ToLower(s))
	parts := words.FindAllString(s, 8)
	if name, _, ok := strings.Cut(s, "@"); ok {
		parts = append(words.FindAllString(name, 8), name)
	}
	if len(parts) < 8 {
		for _, p := range parts {
			if p = strings.ToLower(p); utf8.RuneCountInString(p) >= 3 && !usual[p] {
				n.texts = append(n.texts, p)
			}
		}
	}
}

// members takes what is inside JSON; false if it is none.
func (n *needles) members(s string) bool {
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return false
	}
	n.texts = append(n.texts, strings.ToLower(s))
	n.inside(v)
	return true
}

func (n *needles) inside(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			n.inside(member)
		}
	case []any:
		for _, member := range v {
			n.inside(member)
		}
	default:
		n.add(v)
	}
}

// takeOut replaces the needles, the longest first, so that what is part of another leaves nothing of it behind. A needle of
// letters and digits is replaced where it is a whole word or a longer text, not in the middle of a vendor's own word.
func (n *needles) takeOut(s string) string {
	slices.SortFunc(n.texts, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, text := range slices.Compact(n.texts) {
		if strings.Contains(strings.ToLower(s), text) {
			s = replaceFold(s, text)
		}
	}
	for _, text := range n.short {
		s = replaceWord(s, text)
	}
	if len(n.numbers) > 0 {
		s = number.ReplaceAllStringFunc(s, func(found string) string {
			for _, spelling := range []string{strings.ReplaceAll(found, ",", ""), strings.ReplaceAll(strings.ReplaceAll(found, ".", ""), ",", ".")} {
				if f, err := strconv.ParseFloat(strings.TrimRight(spelling, ".,"), 64); err == nil && slices.Contains(n.numbers, f) {
					return "***"
				}
			}
			return found
		})
	}
	return s
}

// replaceFold replaces a text in any case. Short ones of letters only count as whole words.
func replaceFold(s, text string) string {
	pattern := `(?i)` + regexp.QuoteMeta(text)
	found := regexp.MustCompile(pattern)
	if utf8.RuneCountInString(text) >= 6 {
		return found.ReplaceAllString(s, "***")
	}
	return replaceWhole(s, found)
}

func replaceWord(s, text string) string {
	if !strings.Contains(s, text) {
		return s
	}
	return replaceWhole(s, regexp.MustCompile(regexp.QuoteMeta(text)))
}

func replaceWhole(s string, found *regexp.Regexp) string {
	var out strings.Builder
	last := 0
	for _, at := range found.FindAllStringIndex(s, -1) {
		before, _ := utf8.DecodeLastRuneInString(s[:at[0]])
		after, _ := utf8.DecodeRuneInString(s[at[1]:])
		if inWord(before) || inWord(after) {
			continue
		}
		out.WriteString(s[last:at[0]])
		out.WriteString("***")
		last = at[1]
	}
	return out.String() + s[last:]
}

func inWord(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }

func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// spoken is an error of a whole batch as it may be shown: without the values of its rows.
func spoken(e *destination.Error, b *batch) *destination.Error {
	shown := *e
	shown.Code, shown.Message = code(e), scrub(e.Message, nil, b)
	return &shown
}

func spokenOf(err error, b *batch) error {
	var e *destination.Error
	if errors.As(err, &e) {
		return spoken(e, b)
	}
	return err
}

// code is an error's code if it looks like one.
func code(e *destination.Error) string { return scrubCode(e.Code, &destination.Change{}, nil) }

const levelRetry = slog.LevelInfo

func retryAttrs(run destination.Run, p part, e *destination.Error) []slog.Attr {
	return []slog.Attr{
		slog.String("sync", run.Sync), slog.String("run", run.ID), slog.Int("rows", len(p.rows)), slog.Int("attempt", p.attempt),
		slog.String("code", code(e)), slog.Duration("retry_after", e.RetryAfter),
	}
}
