package identity

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Level is a step in the order of trust: an identifier, or a match rule, whose values are what its columns hold together.
type Level struct {
	Name string // as in identity_<entity>.identifier
	// Identifier is nil for a rule.
	Identifier *config.Identifier
	match      *config.Match
	decided    bool // the first level of an entity with always: each value is a pair that was decided by hand
	pair       bool // the level below that of a rule about pairs: each value is a pair of that level's values
}

// decidedLevel is the name of the level of decisions. Its values are in no table.
const decidedLevel = "always"

// Levels are an entity's identifiers and match rules, the most trusted first: a rule stands where its after: says, or behind all
// identifiers, in the order of the file.
func Levels(e *config.Entity) []Level {
	var out, last []Level
	after := map[string][]Level{}
	for _, m := range e.Match {
		l := Level{Name: m.Name, match: m}
		if m.After == "" {
			last = append(last, l)
		} else {
			after[m.After] = append(after[m.After], l)
		}
	}
	for _, id := range e.Identifiers {
		out = append(append(out, Level{Name: id.Name, Identifier: id}), after[id.Name]...)
	}
	return append(out, last...)
}

func (l Level) limit() int {
	if l.Identifier == nil {
		return 0
	}
	return l.Identifier.Limit
}

func (l Level) sharedAbove() int {
	if l.Identifier == nil {
		return 0
	}
	return l.Identifier.SharedAbove
}

// Value is the level's value in an input's row, as SQL: normalised, NULL where the row has none. raw tells whether the row has
// something there. ok is false if the input knows nothing of the level.
func (l Level) Value(r Relation) (value, raw string, ok bool, err error) {
	switch {
	case l.decided || l.pair:
		return "", "", false, nil
	case l.match != nil:
		return l.matched(r)
	}
	column, ok := r.Identifiers[l.Name]
	if !ok {
		return "", "", false, nil
	}
	expr, err := r.Expr(column, r.Node.At("identifiers"))
	if err != nil {
		return "", "", false, err
	}
	return Normalize(r.dialect, l.Identifier, expr), expr + " IS NOT NULL", true, nil
}

var (
	normalized = regexp.MustCompile(`(?is)^normalize\s*\((.*)\)$`)
	soundexed  = regexp.MustCompile(`(?is)^soundex\s*\((.*)\)$`)
)

// matched is the rule's columns as one text, NULL if any is NULL, empty or junk. Of a rule about pairs it is the row's record, NULL if that has
// too little.
func (l Level) matched(r Relation) (value, raw string, ok bool, err error) {
	d := r.dialect
	if l.match.Pairs() {
		rec := recordOf(l.match)
		parts, there, err := rec.exprs(r)
		if err != nil {
			return "", "", false, err
		}
		value, raw, ok = rec.value(d, parts, there)
		return value, raw, ok, nil
	}
	var parts, there []string
	for _, on := range l.match.On {
		on = strings.TrimSpace(on)
		as := "text"
		if in := normalized.FindStringSubmatch(on); in != nil {
			on, as = strings.TrimSpace(in[1]), "name"
		}
		if _, ok := r.Column(on); !ok && plainName.MatchString(on) {
			return "", "", false, nil // another input's
		}
		expr, err := r.Expr(on, l.match.At("on"))
		if err != nil {
			return "", "", false, err
		}
		part := normal(d, as, expr)
		parts, there = append(parts, part), append(there, part+" IS NOT NULL")
	}
	all := strings.Join(there, " AND ")
	return "CASE WHEN " + all + " THEN " + d.JSONArray(parts...) + " END", all, true, nil
}

// checkLevels holds that each rule has an input with all its columns, and that those it is tried after are there.
func checkLevels(levels []Level, inputs []Relation) error {
	var problems diag.List
	for _, l := range levels {
		if l.match == nil || l.pair {
			continue
		}
		columns, pos := l.match.On, l.match.At("on")
		if l.match.Pairs() {
			r := recordOf(l.match)
			if err := r.checkColumns(l.match, inputs); err != nil {
				problems.Add(err)
				continue
			}
			columns, pos = nil, l.match.At("block")
			for _, p := range r.parts {
				columns = append(columns, p.column)
			}
		}
		if slices.ContainsFunc(inputs, func(r Relation) bool { _, _, ok, err := l.Value(r); return ok || err != nil }) {
			continue
		}
		e := diag.At(pos, "entity.match", "no input has all columns of match %s: %s", l.Name, strings.Join(columns, ", "))
		problems.Add(e.WithHint("%s", columnsOf(inputs)))
	}
	return problems.Err()
}

func columnNames(columns []warehouse.Column) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.Name
	}
	return out
}
