package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Report is the health of an entity's identity graph. It holds ids and counts, never values.
type Report struct {
	Entity   string    `json:"entity"`
	Profiles int64     `json:"profiles"`
	Values   int64     `json:"values"` // those of profiles; the refused ones come on top
	Sizes    []Size    `json:"sizes"`
	Largest  []Large   `json:"largest"`
	Refused  []Refused `json:"refused"`
	Matched  []Matched `json:"matched"` // by rules about pairs
	Blocks   []Block   `json:"blocks"`
	Models   []Model   `json:"models"`
	Moved    []Moved   `json:"moved"`
	Warnings []string  `json:"warnings"`
}

// Size counts the profiles of From to To values.
type Size struct {
	From     int64 `json:"from"`
	To       int64 `json:"to"`
	Profiles int64 `json:"profiles"`
}

// Large is one of the largest profiles.
type Large struct {
	ProfileID string           `json:"profile_id"`
	Values    int64            `json:"values"`
	Of        map[string]int64 `json:"of"` // by identifier or rule
}

// Refused counts the values of an identifier that a rule refused.
type Refused struct {
	Rule       string `json:"rule"` // "limit: 1 user_id"
	Identifier string `json:"identifier"`
	Values     int64  `json:"values"`
}

// Moved counts the merges, or the splits, of one build.
type Moved struct {
	At       time.Time `json:"at"`
	Rule     string    `json:"rule"`
	Profiles int64     `json:"profiles"`
}

const (
	largestShown = 5
	movesShown   = 10
	giant        = 100 // values; a person has a few
)

// Health reads the report of what was built last.
func Health(ctx context.Context, w warehouse.Warehouse, e *config.Entity, table, merges warehouse.Table) (*Report, error) {
	r := &Report{Entity: e.Name, Sizes: []Size{}, Largest: []Large{}, Refused: []Refused{}, Matched: []Matched{}, Blocks: []Block{}, Models: []Model{}, Moved: []Moved{}, Warnings: []string{}}
	for _, t := range []warehouse.Table{table, merges} {
		there, err := w.Exists(ctx, t)
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, diag.Errorf(diag.Invalid, "identity.not_built", "the identities of %s are not built yet", e.Name).WithHint("run dray build %s first", e.Name)
		}
	}
	b := &builder{w: w, d: w.Dialect(), spec: Spec{Entity: e}}
	for _, read := range []func(context.Context, *builder, warehouse.Table) error{r.sizes, r.largest, r.refused, r.pairs} {
		if err := read(ctx, b, table); err != nil {
			return nil, err
		}
	}
	if err := r.moved(ctx, b, merges); err != nil {
		return nil, err
	}
	r.warn()
	return r, nil
}

func sized(b *builder, table warehouse.Table) string {
	return "(SELECT profile_id, count(*) AS n FROM " + b.d.Table(table) + " WHERE profile_id IS NOT NULL AND refused IS NULL GROUP BY profile_id) AS s"
}

// sizes counts profiles by size: one by one to three, then in steps that grow.
func (r *Report) sizes(ctx context.Context, b *builder, table warehouse.Table) error {
	bounds := []int64{1, 2, 3, 5, 10, 20, 50, 100, 1000, 1 << 62}
	step := "CASE"
	for i, to := range bounds {
		step += fmt.Sprintf(" WHEN n <= %d THEN %d", to, i)
	}
	return b.each(ctx, fmt.Sprintf("SELECT step, count(*) AS profiles, CAST(sum(n) AS %s) AS total, max(n) AS most FROM (SELECT n, %s END AS step FROM %s) AS x GROUP BY step ORDER BY step",
		b.bigint(), step, sized(b, table)), func(row []any) {
		i, profiles, total, most := whole(row[0]), whole(row[1]), whole(row[2]), whole(row[3])
		s := Size{From: 1, To: min(bounds[i], max(most, 1)), Profiles: profiles}
		if i > 0 {
			s.From = bounds[i-1] + 1
		}
		if i < int64(len(bounds))-1 {
			s.To = bounds[i]
		}
		r.Sizes = append(r.Sizes, s)
		r.Profiles += profiles
		r.Values += total
	})
}

func (r *Report) largest(ctx context.Context, b *builder, table warehouse.Table) error {
	of := map[string]int{}
	err := b.each(ctx, fmt.Sprintf("SELECT profile_id, n FROM %s ORDER BY n DESC, profile_id LIMIT %d", sized(b, table), largestShown), func(row []any) {
		id, _ := row[0].(string)
		of[id] = len(r.Largest)
		r.Largest = append(r.Largest, Large{ProfileID: id, Values: whole(row[1]), Of: map[string]int64{}})
	})
	if err != nil || len(of) == 0 {
		return err
	}
	ids := ""
	for _, l := range r.Largest {
		ids += ", " + b.d.Text(l.ProfileID)
	}
	return b.each(ctx, fmt.Sprintf("SELECT profile_id, identifier, count(*) AS n FROM %s WHERE profile_id IN (%s) GROUP BY profile_id, identifier", b.d.Table(table), ids[2:]), func(row []any) {
		id, _ := row[0].(string)
		name, _ := row[1].(string)
		r.Largest[of[id]].Of[name] = whole(row[2])
	})
}

func (r *Report) refused(ctx context.Context, b *builder, table warehouse.Table) error {
	return b.each(ctx, "SELECT refused, identifier, count(*) AS n FROM "+b.d.Table(table)+" WHERE refused IS NOT NULL GROUP BY refused, identifier ORDER BY refused, identifier", func(row []any) {
		rule, _ := row[0].(string)
		name, _ := row[1].(string)
		r.Refused = append(r.Refused, Refused{Rule: rule, Identifier: name, Values: whole(row[2])})
	})
}

// moved counts what the last builds that moved anything have moved, the last one first.
func (r *Report) moved(ctx context.Context, b *builder, merges warehouse.Table) error {
	at := b.d.Quote("at")
	return b.each(ctx, fmt.Sprintf("SELECT %[1]s, rule, count(*) AS n FROM %[2]s GROUP BY %[1]s, rule ORDER BY %[1]s DESC, rule LIMIT %[3]d", at, b.d.Table(merges), movesShown), func(row []any) {
		when, _ := row[0].(time.Time)
		rule, _ := row[1].(string)
		r.Moved = append(r.Moved, Moved{At: when, Rule: rule, Profiles: whole(row[2])})
	})
}

// warn says what a person should look at.
func (r *Report) warn() {
	var giants int64
	for _, s := range r.Sizes {
		if s.From > giant {
			giants += s.Profiles
		}
	}
	if giants > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s of more than %d values: look at the largest with dray profile; a limit, shared_above or exclude keeps strangers apart",
			count(giants, "profile"), giant))
	}
	var refused int64
	for _, x := range r.Refused {
		refused += x.Values
	}
	if refused >= 10 && refused*20 > r.Values { // a few say nothing of the limits
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s refused, %.0f %% of all: the limits may be too low", count(refused, "value"), 100*float64(refused)/float64(r.Values+refused)))
	}
}

// Largest are the largest profiles of a table of identities, the largest first.
func Largest(ctx context.Context, w warehouse.Warehouse, table warehouse.Table) ([]Large, error) {
	var r Report
	err := r.largest(ctx, &builder{w: w, d: w.Dialect()}, table)
	return r.Largest, err
}

// Moving counts the rows of a table whose column holds the id of a profile that ended in another one, or that was split, by a table
// of merges.
func Moving(ctx context.Context, w warehouse.Warehouse, table warehouse.Table, column string, merges warehouse.Table) (merged, split int64, err error) {
	b := &builder{w: w, d: w.Dialect()}
	among := func(rule string) string {
		return fmt.Sprintf("(SELECT count(*) FROM %s WHERE %s IN (SELECT from_id FROM %s WHERE rule = '%s'))", b.d.Table(table), b.d.Quote(column), b.d.Table(merges), rule)
	}
	n, err := b.ints(ctx, "SELECT "+among("merge")+", "+among("split"))
	if err != nil {
		return 0, 0, err
	}
	return n[0], n[1], nil
}

func whole(v any) int64 {
	n, _ := v.(int64)
	return n
}
