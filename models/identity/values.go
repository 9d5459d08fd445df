package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Normalize is the text by which a value of an identifier is known; NULL for what cannot be one. Without a normaliser it is
// the value as text, trimmed.
func Normalize(d warehouse.Dialect, id *config.Identifier, expr string) string {
	text := "nullif(" + d.Trim(d.Cast(expr, warehouse.Text)) + ", '')"
	if id.Normalize == nil {
		return text
	}
	switch id.Normalize.Kind {
	case "email":
		return d.NormalizeEmail(expr)
	case "phone":
		return d.NormalizePhone(expr, id.Normalize.Country)
	case "name":
		return d.NormalizeName(expr)
	case "date":
		return d.NormalizeDate(expr)
	case "text":
		return d.NormalizeText(expr)
	default:
		return text
	}
}

// junk lists what systems write where they know nothing. Such a value would join strangers.
func junk() []string {
	return []string{
		"null", "(null)", "undefined", "none", "nan", "nil", "n/a", "na", "#n/a", "unknown", "(not set)", "not set",
		"-", "--", "?", "[object object]",
	}
}

// known is a normalised text, NULL where it is empty or says that nothing is known.
func known(d warehouse.Dialect, text string) string {
	var words []string
	for _, word := range append(junk(), "") {
		words = append(words, d.Text(word))
	}
	return "CASE WHEN " + text + " NOT IN (" + strings.Join(words, ", ") + ") THEN " + text + " END"
}

// checkExclusions holds that the relations which list what identifies nobody have the columns they are said to have.
func (b *builder) checkExclusions(ctx context.Context) error {
	var problems diag.List
	for _, id := range b.spec.Entity.Identifiers {
		from, ok := b.spec.Exclude[id.Name]
		if !ok || id.Exclude == nil {
			continue
		}
		column := id.Exclude.Column
		if column == "" {
			column = id.Name
		}
		columns, err := b.w.Columns(ctx, "SELECT * FROM "+from)
		if err != nil {
			problems.Add(&diag.Error{Kind: kindOf(err), Pos: id.Exclude.At("from"), Code: "entity.exclude", Msg: "reading what identifier " + id.Name + " excludes", Err: err})
			continue
		}
		var names []string
		for _, c := range columns {
			names = append(names, c.Name)
		}
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, column) }) {
			continue
		}
		e := diag.At(id.Exclude.At("column"), "entity.exclude", "what identifier %s excludes has no column %q", id.Name, column)
		if near := config.Suggest(column, names); near != "" {
			problems.Add(e.WithHint("did you mean %s?", near))
		} else {
			problems.Add(e.WithHint("it has %s", strings.Join(names, ", ")))
		}
	}
	return problems.Err()
}

// identifies is the condition under which the normalised value v identifies somebody: no junk and not excluded.
func (b *builder) identifies(id *config.Identifier, v string) (string, error) {
	words := junk()
	for i, word := range words {
		words[i] = b.d.Text(word)
	}
	conditions := []string{
		"lower(" + v + ") NOT IN (" + strings.Join(words, ", ") + ")",
		// Four zeros and more, the empty UUID included. A single 0 may well be somebody's number.
		"NOT (length(" + v + ") >= 4 AND replace(replace(" + v + ", '0', ''), '-', '') = '')",
	}
	x := id.Exclude
	if x == nil {
		return strings.Join(conditions, " AND "), nil
	}
	if len(x.Values) > 0 {
		values := make([]string, len(x.Values))
		for i, value := range x.Values {
			values[i] = Normalize(b.d, id, b.d.Text(value))
		}
		for _, value := range values { // one by one: an excluded text that does not normalise is NULL, and excludes nothing
			conditions = append(conditions, "coalesce("+v+" <> "+value+", TRUE)")
		}
	}
	if x.Pattern != "" {
		conditions = append(conditions, "NOT "+b.d.Matches(v, x.Pattern))
	}
	if x.From != "" {
		from, ok := b.spec.Exclude[id.Name]
		if !ok {
			return "", diag.At(x.At("from"), "entity.exclude", "exclude.from of identifier %s is not resolved", id.Name)
		}
		column := x.Column
		if column == "" {
			column = id.Name
		}
		value := Normalize(b.d, id, "x."+b.d.Quote(column))
		conditions = append(conditions, v+" NOT IN (SELECT "+value+" FROM "+from+" AS x WHERE "+value+" IS NOT NULL)")
	}
	return strings.Join(conditions, " AND "), nil
}
