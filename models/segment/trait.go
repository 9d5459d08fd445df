package segment

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// operand is the trait of one condition.
type operand struct {
	expr  string
	kind  warehouse.Kind
	known bool // the kind is
	name  string
}

// trait is {trait: t, OP: value}. A NULL trait fulfils ne, none_of and is_null, for they are the negations of conditions that
// are not true of it, and no other.
func (t *translator) trait(c *config.Condition) string {
	if t.s.Profiles && strings.Contains(c.Trait, ".") {
		return t.related(c)
	}
	o, err := t.operand(c)
	if err != nil {
		return t.fail(err)
	}
	sql, err := t.compared(o, c)
	if err != nil {
		return t.fail(err)
	}
	return sql
}

// compared is a condition's comparison of its operand.
func (t *translator) compared(o operand, c *config.Condition) (string, error) {
	pos := c.Node.At(c.Op)
	value, err := t.value(c.Value, pos)
	if err != nil {
		return "", err
	}
	return t.compare(o, c.Op, value, pos)
}

func (t *translator) operand(c *config.Condition) (operand, error) {
	o := operand{name: c.Trait}
	if t.s.Columns == nil {
		o.expr = t.qualified(c.Trait)
		return o, nil
	}
	what := "column"
	if t.s.Profiles {
		what = "trait"
	}
	column, err := t.column(t.s.Columns, c.Trait, what, c.Node.At("trait"))
	o.expr, o.kind, o.known = t.qualified(column.Name), column.Kind, true
	return o, err
}

// column finds one by name, whatever its case.
func (t *translator) column(among []warehouse.Column, name, what string, pos diag.Pos) (warehouse.Column, error) {
	names := make([]string, len(among))
	for i, column := range among {
		if strings.EqualFold(column.Name, name) {
			return column, nil
		}
		names[i] = column.Name
	}
	e := diag.At(pos, "condition.trait", "there is no %s %q", what, name)
	if s := config.Suggest(name, names); s != "" {
		return warehouse.Column{}, e.WithHint("did you mean %s?", s)
	}
	return warehouse.Column{}, e.WithHint("there are %s", strings.Join(names, ", "))
}

// value renders Jinja in a text, also in those of a list.
func (t *translator) value(v any, pos diag.Pos) (any, error) {
	switch v := v.(type) {
	case string:
		if !strings.Contains(v, "{{") && !strings.Contains(v, "{%") {
			return v, nil
		}
		return t.render(v, pos)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = t.value(v[i], pos); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return v, nil
	}
}

func (t *translator) compare(o operand, op string, value any, pos diag.Pos) (string, error) {
	switch op {
	case "eq", "gt", "gte", "lt", "lte":
		symbol := map[string]string{"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}[op]
		literal, err := t.literal(o, value, pos)
		return isTrue(t.comparable(o) + " " + symbol + " " + literal), err
	case "ne":
		equal, err := t.compare(o, "eq", value, pos)
		return "NOT " + equal, err
	case "one_of":
		literals, err := t.list(o, value, pos)
		return isTrue(t.comparable(o) + " IN (" + strings.Join(literals, ", ") + ")"), err
	case "none_of":
		among, err := t.compare(o, "one_of", value, pos)
		return "NOT " + among, err
	case "between":
		literals, err := t.list(o, value, pos)
		if err == nil && len(literals) != 2 {
			err = diag.At(pos, "condition.between", "between needs two values, [from, to]")
		}
		if err != nil {
			return "", err
		}
		return isTrue(t.comparable(o) + " BETWEEN " + literals[0] + " AND " + literals[1]), nil
	case "contains", "starts_with":
		return t.textOp(o, op, value), nil
	case "is_null":
		return t.isNull(o, value, pos)
	case "older_than", "within", "within_next":
		return t.age(o, op, value, pos)
	default:
		return "", diag.At(pos, "condition.operator", "there is no operator %q", op)
	}
}

// isTrue makes an expression two-valued.
func isTrue(sql string) string { return "coalesce(" + sql + ", FALSE)" }

func (t *translator) textOp(o operand, op string, value any) string {
	literal := t.d.Text(text(value))
	column := o.expr
	if !o.known || o.kind != warehouse.Text {
		column = t.d.Cast(o.expr, warehouse.Text)
	}
	if text(value) == "" {
		return isTrue(column + " IS NOT NULL")
	}
	if op == "contains" {
		return isTrue("replace(" + column + ", " + literal + ", '') <> " + column)
	}
	return isTrue(fmt.Sprintf("substr(%s, 1, length(%s)) = %[2]s", column, literal))
}

func (t *translator) isNull(o operand, value any, pos diag.Pos) (string, error) {
	switch strings.ToLower(text(value)) {
	case "true":
		return "(" + o.expr + " IS NULL)", nil
	case "false":
		return "(" + o.expr + " IS NOT NULL)", nil
	}
	return "", diag.At(pos, "condition.value", "is_null is true or false")
}

// age compares a time with the run's as_of. older_than is <, the others hold their ends.
func (t *translator) age(o operand, op string, value any, pos diag.Pos) (string, error) {
	duration, err := durationOf(value, pos)
	if err != nil {
		return "", err
	}
	switch {
	case !o.known || o.kind == warehouse.Timestamp || o.kind == warehouse.Date || o.kind == warehouse.Text:
	default:
		return "", diag.At(pos, "condition.type", "%s compares times, and %s is %s", op, o.name, o.kind)
	}
	when := t.time(o)
	switch op {
	case "older_than":
		return isTrue(when + " < " + t.d.Time(t.s.AsOf.Add(-duration))), nil
	case "within":
		return isTrue(when + " >= " + t.d.Time(t.s.AsOf.Add(-duration))), nil
	default:
		return isTrue(when + " BETWEEN " + t.d.Time(t.s.AsOf) + " AND " + t.d.Time(t.s.AsOf.Add(duration))), nil
	}
}

// time is a trait as a timestamp; NULL for a text that is none.
func (t *translator) time(o operand) string {
	if o.known && (o.kind == warehouse.Timestamp || o.kind == warehouse.Date) {
		return t.d.Cast(o.expr, warehouse.Timestamp)
	}
	return t.d.TryCast(o.expr, t.d.Type(warehouse.Timestamp))
}

func durationOf(value any, pos diag.Pos) (time.Duration, error) {
	switch v := value.(type) {
	case config.Duration:
		return v.Duration, nil
	case *config.Duration:
		return v.Duration, nil
	case time.Duration:
		return v, nil
	}
	d, err := config.ParseDuration(text(value))
	if err != nil {
		return 0, &diag.Error{Pos: pos, Code: "condition.duration", Err: err}
	}
	return d.Duration, nil
}

// comparable is the trait as its literals are written.
func (t *translator) comparable(o operand) string {
	switch {
	case o.known && (o.kind == warehouse.Date || o.kind == warehouse.Timestamp):
		return t.d.Cast(o.expr, warehouse.Timestamp)
	case o.known && o.kind == warehouse.JSON:
		return t.d.Cast(o.expr, warehouse.Text)
	default:
		return o.expr
	}
}

// list reads the values of one_of and between. A text that Jinja gave may itself be a list: ['a', 'b'].
func (t *translator) list(o operand, value any, pos diag.Pos) ([]string, error) {
	values, ok := value.([]any)
	if s, isText := value.(string); isText {
		ok = yaml.Unmarshal([]byte(s), &values) == nil
	}
	if !ok || len(values) == 0 {
		return nil, diag.At(pos, "condition.list", "a list of values is needed: [a, b]")
	}
	out := make([]string, len(values))
	for i, v := range values {
		literal, err := t.literal(o, v, pos)
		if err != nil {
			return nil, err
		}
		out[i] = literal
	}
	return out, nil
}

var number = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// literal writes a value as the trait's type needs it, so that "500" is a number beside a number and a text beside a text.
func (t *translator) literal(o operand, value any, pos diag.Pos) (string, error) {
	s := strings.TrimSpace(text(value))
	if !o.known {
		if v, ok := value.(string); ok {
			return t.d.Text(v), nil // the engine gives it the column's type
		}
		return t.d.Value(value), nil
	}
	wrong := func(what string) error {
		return diag.At(pos, "condition.type", "%s is %s, and the value is not %s", o.name, o.kind, what)
	}
	switch o.kind {
	case warehouse.Int, warehouse.Float, warehouse.Decimal:
		if !number.MatchString(s) {
			return "", wrong("a number")
		}
		return t.d.Value(json.Number(s)), nil
	case warehouse.Bool:
		if b, err := strconv.ParseBool(strings.ToLower(s)); err == nil {
			return strconv.FormatBool(b), nil
		}
		return "", wrong("true or false")
	case warehouse.Date, warehouse.Timestamp:
		when, ok := timeOf(value)
		if !ok {
			return "", wrong("a date or a time")
		}
		return t.d.Time(when), nil
	default:
		return t.d.Text(text(value)), nil
	}
}

// timeOf reads a date or a time; without a zone it is UTC.
func timeOf(value any) (time.Time, bool) {
	if when, ok := value.(time.Time); ok {
		return when.UTC(), true
	}
	s := strings.TrimSpace(text(value))
	for _, layout := range []string{
		"2006-01-02", time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999",
		"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04", "2006-01-02T15:04",
	} {
		if when, err := time.Parse(layout, s); err == nil {
			return when.UTC(), true
		}
	}
	return time.Time{}, false
}

// text is a YAML scalar as it is read.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case nil:
		return ""
	case float64:
		return fraction(v)
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format("2006-01-02")
		}
		return v.Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}

// fraction is a number as every engine reads it. Where its digits would be those of a whole number that is too large for one, it has an
// exponent, without which BigQuery refuses it.
func fraction(v float64) string {
	if math.Abs(v) >= 1<<53 {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
