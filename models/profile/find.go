package profile

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

// Found is one profile with what it is made of, as `dray profile` shows it (DESIGN §9).
type Found struct {
	Entity      string         `json:"entity"`
	ProfileID   string         `json:"profile_id"`
	Identifiers []Identifier   `json:"identifiers"`
	Traits      map[string]any `json:"traits"`
	Relations   []Belongs      `json:"relations,omitempty"`
	Edges       []Edge         `json:"edges"`
	Path        []Edge         `json:"path,omitempty"` // of Between
	// Truncated: there are more identifiers or edges than are shown.
	Truncated bool `json:"truncated,omitempty"`
}

// Identifier is one value of a profile. Sources are the inputs it stands in.
type Identifier struct {
	Identifier  string     `json:"identifier"`
	Value       string     `json:"value"`
	FirstSeenAt *time.Time `json:"first_seen_at"`
	Sources     []string   `json:"sources"`
}

// Belongs is the profile of another entity that a relation leads to; nil = it leads to none.
type Belongs struct {
	Name      string  `json:"name"`
	Entity    string  `json:"entity"`
	ProfileID *string `json:"profile_id"`
}

// Edge is two values, written identifier:value, that stand in one row of an input; At is the first such row's time. Source is
// "decisions" where a person has decided that they are always one.
type Edge struct {
	From   string     `json:"from"`
	To     string     `json:"to"`
	Source string     `json:"source"`
	At     *time.Time `json:"at"`
}

// shown bounds what Find reads of one profile: identifiers, and distinct rows of one input.
const shown = 1000

// Find looks up the profile that holds a value: `value`, or `identifier:value`. Only Spec's Entity, Inputs, Identity, Relations,
// Decisions and Target are read. An *diag.Error with code profile.not_found says that nobody has it.
func Find(ctx context.Context, w warehouse.Warehouse, spec Spec, identifier string) (Found, error) {
	f := newFinder(w, spec)
	_, err := f.find(ctx, identifier)
	return f.found, err
}

func newFinder(w warehouse.Warehouse, spec Spec) *finder {
	return &finder{w: w, d: w.Dialect(), spec: spec, found: Found{Entity: spec.Entity.Name, Traits: map[string]any{}, Edges: []Edge{}}}
}

// find reads all of the profile of a value, and gives the value as identifier:value.
func (f *finder) find(ctx context.Context, identifier string) (key string, err error) {
	if key, err = f.owner(ctx, identifier); err != nil {
		return "", err
	}
	for _, step := range []func(context.Context) error{f.identifiers, f.traits, f.belongs, f.rows, f.matched, f.decided} {
		if err := step(ctx); err != nil {
			return "", fmt.Errorf("reading a profile of %s: %w", f.spec.Entity.Name, err)
		}
	}
	return key, nil
}

type finder struct {
	w     warehouse.Warehouse
	d     warehouse.Dialect
	spec  Spec
	found Found
	has   map[string]bool // the columns of the profiles as they were built, in lower case
}

// owner finds whose the value is. Without the identifier's name all identifiers are tried.
func (f *finder) owner(ctx context.Context, asked string) (key string, err error) {
	entity := f.spec.Entity
	there, err := f.w.Exists(ctx, f.spec.Identity)
	if err != nil {
		return "", err
	}
	if !there {
		return "", diag.Errorf(diag.Invalid, "profile.not_built", "the profiles of %s are not built yet", entity.Name).WithHint("run dray build %s first", entity.Name)
	}
	value, among := asked, entity.Identifiers
	if name, rest, ok := strings.Cut(asked, ":"); ok {
		for _, id := range entity.Identifiers {
			if strings.EqualFold(id.Name, name) {
				value, among = rest, []*config.Identifier{id}
			}
		}
	}
	var conditions []string
	for _, id := range among {
		conditions = append(conditions, fmt.Sprintf("identifier = %s AND value = %s", f.d.Text(id.Name), identity.Normalize(f.d, id, f.d.Text(value))))
	}
	rows, err := f.all(ctx, fmt.Sprintf("SELECT identifier, value, profile_id FROM %s WHERE %s", f.d.Table(f.spec.Identity), strings.Join(conditions, " OR ")))
	if err != nil {
		return "", err
	}
	owners := map[string]bool{}
	var where []string
	for _, row := range rows {
		where = append(where, fmt.Sprint(row[0]))
		if id, ok := row[2].(string); ok {
			owners[id] = true
			f.found.ProfileID, key = id, fmt.Sprintf("%v:%v", row[0], row[1])
		}
	}
	switch {
	case len(rows) == 0:
		return "", diag.Errorf(diag.Invalid, "profile.not_found", "no profile of %s has this identifier", entity.Name).
			WithHint("it is looked up in what was built last; identifiers of %s: %s", entity.Name, identifierNames(entity))
	case len(owners) == 0:
		return "", diag.Errorf(diag.Invalid, "profile.refused", "this identifier belongs to no profile of %s: a limit refused it", entity.Name)
	case len(owners) > 1:
		slices.Sort(where)
		return "", diag.Errorf(diag.Invalid, "profile.ambiguous", "this value is of several profiles of %s, as %s", entity.Name, strings.Join(where, " and ")).
			WithHint("write the identifier before it: %s:VALUE", where[0])
	}
	return key, nil
}

func identifierNames(e *config.Entity) string {
	names := make([]string, len(e.Identifiers))
	for i, id := range e.Identifiers {
		names[i] = id.Name
	}
	return strings.Join(names, ", ")
}

// level is the place of an identifier, or of a match rule, in the order of trust.
func (f *finder) level(name string) int {
	return slices.IndexFunc(identity.Levels(f.spec.Entity), func(l identity.Level) bool { return l.Name == name })
}

func (f *finder) identifiers(ctx context.Context) error {
	rows, err := f.all(ctx, fmt.Sprintf("SELECT identifier, value, first_seen_at FROM %s WHERE profile_id = %s ORDER BY identifier, first_seen_at, value LIMIT %d",
		f.d.Table(f.spec.Identity), f.d.Text(f.found.ProfileID), shown+1))
	if err != nil {
		return err
	}
	f.truncate(&rows)
	for _, row := range rows {
		f.found.Identifiers = append(f.found.Identifiers, Identifier{
			Identifier: fmt.Sprint(row[0]), Value: fmt.Sprint(row[1]), FirstSeenAt: timeOf(row[2]), Sources: []string{},
		})
	}
	slices.SortStableFunc(f.found.Identifiers, func(a, b Identifier) int { return cmp.Compare(f.level(a.Identifier), f.level(b.Identifier)) })
	return nil
}

func (f *finder) truncate(rows *[][]any) {
	if len(*rows) > shown {
		*rows = (*rows)[:shown]
		f.found.Truncated = true
	}
}

func timeOf(v any) *time.Time {
	if when, ok := v.(time.Time); ok {
		return &when
	}
	return nil
}

func (f *finder) traits(ctx context.Context) error {
	columns, err := f.w.Columns(ctx, "SELECT * FROM "+f.d.Table(f.spec.Target))
	if err != nil {
		return err
	}
	isTrait := map[string]bool{}
	for _, t := range f.spec.Entity.Traits {
		for _, name := range namesOf(t) {
			isTrait[strings.ToLower(name)] = true
		}
	}
	var names, wires []string
	var kinds []warehouse.Kind
	f.has = map[string]bool{}
	for _, c := range columns {
		f.has[strings.ToLower(c.Name)] = true
		if isTrait[strings.ToLower(c.Name)] {
			names = append(names, c.Name)
			wires = append(wires, f.d.Wire(f.d.Quote(c.Name), c))
			kinds = append(kinds, c.Kind)
		}
	}
	if len(names) == 0 {
		return nil
	}
	rows, err := f.all(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE profile_id = %s", strings.Join(wires, ", "), f.d.Table(f.spec.Target), f.d.Text(f.found.ProfileID)))
	if err != nil || len(rows) == 0 {
		return err
	}
	for i, name := range names {
		f.found.Traits[name] = Plain(rows[0][i], kinds[i])
	}
	return nil
}

// Plain is a value as JSON writes it best: exact numbers as numbers, those that JSON has not (infinity) as text, days as days, JSON as itself.
func Plain(v any, kind warehouse.Kind) any {
	switch v := v.(type) {
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Sprint(v)
		}
	case string:
		switch kind {
		case warehouse.Decimal:
			return json.Number(v)
		case warehouse.JSON:
			return json.RawMessage(v)
		}
	case time.Time:
		if kind == warehouse.Date {
			return v.Format(time.DateOnly)
		}
	}
	return v
}

// rows finds in which inputs the profile's values stand, and which of them stand together. An input with link: false is a
// source and links nothing.
func (f *finder) rows(ctx context.Context) error {
	place := map[string]int{}
	for i, id := range f.found.Identifiers {
		place[id.Identifier+":"+id.Value] = i
	}
	for _, in := range f.spec.Inputs {
		names, rows, err := f.rowsOf(ctx, in)
		if err != nil {
			return err
		}
		f.truncate(&rows)
		for _, row := range rows {
			var values []string
			for i, name := range names {
				value, ok := row[i].(string)
				if !ok {
					continue
				}
				value = name + ":" + value
				values = append(values, value)
				if at, ok := place[value]; ok && !slices.Contains(f.found.Identifiers[at].Sources, in.Name) {
					f.found.Identifiers[at].Sources = append(f.found.Identifiers[at].Sources, in.Name)
				}
			}
			if in.Links() {
				f.link(values, in.Name, timeOf(row[len(names)]))
			}
		}
	}
	return nil
}

// link notes the edges of one row, from its most trusted value to each other; of the same two the first row's.
func (f *finder) link(values []string, source string, at *time.Time) {
	for i := 1; i < len(values); i++ {
		known := slices.ContainsFunc(f.found.Edges, func(e Edge) bool { return e.From == values[0] && e.To == values[i] && e.Source == source })
		if !known {
			f.found.Edges = append(f.found.Edges, Edge{From: values[0], To: values[i], Source: source, At: at})
		}
	}
}

// decided adds what people have decided.
func (f *finder) decided(ctx context.Context) error {
	pairs, err := identity.Always(ctx, f.w, f.spec.Entity, f.spec.Decisions, f.spec.Identity, f.found.ProfileID)
	for _, p := range pairs {
		f.found.Edges = append(f.found.Edges, Edge{From: p[0], To: p[1], Source: "decisions"})
	}
	return err
}

// rowsOf reads the distinct rows of an input that hold a value of the profile, the first seen first: a column for each identifier
// in order of trust, then the time.
func (f *finder) rowsOf(ctx context.Context, in identity.Input) (names []string, rows [][]any, err error) {
	r, err := identity.Describe(ctx, f.w, in)
	if err != nil {
		return nil, nil, err
	}
	seen, err := r.Time(ctx, f.w)
	if err != nil {
		return nil, nil, err
	}
	if seen == "" {
		seen = f.d.Cast("NULL", warehouse.Timestamp)
	}
	var inner, outer, whose, order []string
	for i, l := range identity.Levels(f.spec.Entity) {
		value, _, ok, err := l.Value(r)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue
		}
		names = append(names, l.Name)
		v := fmt.Sprintf("v%d", i)
		inner = append(inner, value+" AS "+v)
		mine := fmt.Sprintf("%s IN (SELECT value FROM %s WHERE identifier = %s AND profile_id = %s)", v, f.d.Table(f.spec.Identity), f.d.Text(l.Name), f.d.Text(f.found.ProfileID))
		outer = append(outer, fmt.Sprintf("CASE WHEN %s THEN %s END AS %s", mine, v, v))
		whose = append(whose, v+" IS NOT NULL")
		order = append(order, v)
	}
	all := strings.Join(order, ", ")
	rows, err = f.all(ctx, fmt.Sprintf(`SELECT %s, min(seen) AS first_seen
FROM (SELECT %s, seen FROM (SELECT %s, %s AS seen FROM %s) AS n) AS m
WHERE %s
GROUP BY %[1]s
ORDER BY %[8]s, %[1]s
LIMIT %[7]d`, all, strings.Join(outer, ", "), strings.Join(inner, ", "), seen, in.FromItem(), strings.Join(whose, " OR "), shown+1, f.d.Order("first_seen", false, false)))
	return names, rows, err
}

// all reads the few rows of a query.
func (f *finder) all(ctx context.Context, query string) ([][]any, error) {
	rows, err := f.w.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out [][]any
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		out = append(out, slices.Clone(values))
	}
	return out, rows.Err()
}
