package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// record is what a rule about pairs sees of a row: some columns, each as normalised text. All of them together are the row's value at
// the rule's level, so that rows which look the same to the rule are one record of it, and pairs are pairs of values.
type record struct {
	parts    []part
	compared []int   // the part of each comparison
	blocks   [][]key // the parts of each blocking key
	all      bool    // whether each compared part has to be there
}

// part is one column of a record.
type part struct {
	column string
	as     string // text, name, date or number: how it is normalised
	pos    diag.Pos
}

// key is a part of a blocking key.
type key struct {
	part    int
	soundex bool
}

func recordOf(m *config.Match) record {
	r := record{all: m.Probability == nil}
	for _, c := range m.Comparisons() {
		column, as := plainOf(c.Column)
		if as == "" {
			as = kindOfComparison(c, r.all)
		}
		r.compared = append(r.compared, r.part(column, as, c.At("column")))
	}
	for _, block := range m.Block {
		var keys []key
		for _, text := range block {
			k := key{}
			if in := soundexed.FindStringSubmatch(strings.TrimSpace(text)); in != nil {
				k.soundex = true
				k.part = r.part(strings.TrimSpace(in[1]), "name", m.At("block"))
			} else if column, as := plainOf(text); as != "" {
				k.part = r.part(column, as, m.At("block"))
			} else if known := r.find(column, ""); known >= 0 { // as it is compared
				k.part = known
			} else {
				k.part = r.part(column, "text", m.At("block"))
			}
			keys = append(keys, k)
		}
		r.blocks = append(r.blocks, keys)
	}
	return r
}

// plainOf takes normalize() off; as is "" where there is none.
func plainOf(text string) (column, as string) {
	text = strings.TrimSpace(text)
	if in := normalized.FindStringSubmatch(text); in != nil {
		return strings.TrimSpace(in[1]), "name"
	}
	return text, ""
}

// kindOfComparison is how a comparison wants its column: letters without accents where they are counted.
func kindOfComparison(c *config.Comparison, exact bool) string {
	switch {
	case len(c.Within) > 0 && c.Within[0].Days > 0:
		return "date"
	case len(c.Within) > 0:
		return "number"
	case len(c.EditDistance) > 0 || len(c.JaroWinkler) > 0 || c.Soundex || !exact && !c.Equal:
		return "name"
	default:
		return "text"
	}
}

func (r *record) find(column, as string) int {
	return slices.IndexFunc(r.parts, func(p part) bool { return strings.EqualFold(p.column, column) && (as == "" || p.as == as) })
}

func (r *record) part(column, as string, pos diag.Pos) int {
	if i := r.find(column, as); i >= 0 {
		return i
	}
	r.parts = append(r.parts, part{column: column, as: as, pos: pos})
	return len(r.parts) - 1
}

// there tells whether an input may have the part: a plain name has to be one of its columns.
func (p part) there(r Relation) bool {
	_, ok := r.Column(p.column)
	return ok || !plainName.MatchString(p.column)
}

// exprs are the parts of an input's rows as SQL, NULL where they are empty, and which of them the input may have.
func (r record) exprs(in Relation) (exprs []string, there []bool, err error) {
	var problems diag.List
	for _, p := range r.parts {
		expr := in.dialect.Cast("NULL", warehouse.Text)
		if p.there(in) {
			column, err := in.Expr(p.column, p.pos)
			problems.Add(err)
			expr = normal(in.dialect, p.as, column)
		}
		exprs, there = append(exprs, expr), append(there, p.there(in))
	}
	return exprs, there, problems.Err()
}

// value is the record as one text, NULL where a row has too little of it, and the condition that it has enough: all that is compared, or
// in a probability whatever there is, and all of one blocking key. ok is false if no row of the input can have.
func (r record) value(d warehouse.Dialect, parts []string, there []bool) (value, enough string, ok bool) {
	var required, blocks []string
	if r.all {
		for _, i := range r.compared {
			if !there[i] {
				return "", "", false
			}
			required = append(required, parts[i]+" IS NOT NULL")
		}
	}
	for _, block := range r.blocks {
		if slices.ContainsFunc(block, func(k key) bool { return !there[k.part] }) {
			continue
		}
		whole := make([]string, len(block))
		for i, k := range block {
			whole[i] = parts[k.part] + " IS NOT NULL"
		}
		blocks = append(blocks, strings.Join(whole, " AND "))
	}
	if len(blocks) == 0 {
		return "", "", false
	}
	enough = strings.Join(append(required, "("+strings.Join(blocks, " OR ")+")"), " AND ")
	return "CASE WHEN " + enough + " THEN " + d.JSONArray(parts...) + " END", enough, true
}

func normal(d warehouse.Dialect, as, expr string) string {
	switch as {
	case "name":
		return known(d, d.NormalizeName(expr))
	case "date":
		return d.NormalizeDate(expr)
	default:
		return known(d, d.NormalizeText(expr))
	}
}

// partColumn is the column of a stage, and of a table of records, that holds a part.
func partColumn(level, i int) string { return fmt.Sprintf("c%d_%d", level, i) }

// checkColumns holds that some input has each column that is compared or makes a key.
func (r record) checkColumns(m *config.Match, inputs []Relation) error {
	var problems diag.List
	for _, p := range r.parts {
		if slices.ContainsFunc(inputs, p.there) {
			continue
		}
		var names []string
		for _, in := range inputs {
			names = append(names, columnNames(in.Columns)...)
		}
		e := diag.At(p.pos, "entity.match", "match %s: no input has a column %q", m.Name, p.column)
		if near := config.Suggest(p.column, names); near != "" {
			e = e.WithHint("did you mean %s?", near)
		} else {
			e = e.WithHint("%s", columnsOf(inputs))
		}
		problems.Add(e)
	}
	return problems.Err()
}

func columnsOf(inputs []Relation) string {
	var out []string
	for _, r := range inputs {
		out = append(out, fmt.Sprintf("%s has %s", r.Name, strings.Join(columnNames(r.Columns), ", ")))
	}
	return strings.Join(out, "; ")
}
