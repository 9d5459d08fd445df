package segment

import (
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Scope is what a condition may speak of.
type Scope struct {
	Alias   string             // of the relation in the surrounding query; "" = none
	Columns []warehouse.Column // of the relation; nil = not known, and then values compare as the engine decides

	// Profiles: the relation has profile_id, and did:, in:, sent: and traits of relations are allowed; Input, Members, Sent, Own and
	// Relation are then needed. Own is a FROM item of the profiles themselves.
	Profiles bool
	Own      string
	Relation func(name string) (Relation, error) // an *diag.Error without a position gets the condition's
	Input    func(name string) (Input, error)    // an *diag.Error without a position gets the condition's
	Members  func(segment string) warehouse.Table
	// Sent is a query of the profiles that a sync sent something, as profile_id (never NULL) and sent_at; "" = nothing was sent yet.
	Sent func(sync string) (string, error)

	AsOf time.Time
	// Render renders Jinja in values and expressions; nil leaves them as they are.
	Render func(sql string, pos diag.Pos) (string, error)
}

// Input is what a `did:` counts: a FROM item of an input's rows with identity.ProfileColumn, and its time as SQL ("" = none).
type Input struct{ Rows, Seen string }

// Where is a condition as a boolean SQL expression that is never NULL. All problems of the tree are returned together.
func Where(d warehouse.Dialect, c *config.Condition, s Scope) (string, error) {
	t := &translator{d: d, s: s}
	sql := t.condition(c)
	return sql, t.problems.Err()
}

// translator turns a tree into SQL. Every expression it makes is TRUE or FALSE, so that NOT is true wherever the inner one is
// not (YAML.md §4).
type translator struct {
	d        warehouse.Dialect
	s        Scope
	problems diag.List
}

// fail notes a problem; the expression it gives is never used.
func (t *translator) fail(err error) string {
	t.problems.Add(err)
	return "FALSE"
}

func (t *translator) condition(c *config.Condition) string {
	switch {
	case c.All != nil:
		return t.join(c.All, " AND ", "TRUE")
	case c.Any != nil:
		return t.join(c.Any, " OR ", "FALSE")
	case c.Not != nil:
		return "NOT " + t.condition(c.Not)
	case c.Trait != "":
		return t.trait(c)
	case c.Did != "":
		return t.did(c)
	case c.In != "":
		return t.in(c)
	case c.Sent != "":
		return t.sent(c)
	case c.SQL != "":
		sql, err := t.render(c.SQL, c.Node.At("sql"))
		if err != nil {
			return t.fail(err)
		}
		return "coalesce((" + sql + "\n), FALSE)" // the line's end ends a comment
	default:
		return t.fail(diag.At(c.Pos, "condition.empty", "an empty condition").WithHint("write all, any, not, trait, did, in, sent or sql"))
	}
}

func (t *translator) join(conditions []*config.Condition, operator, none string) string {
	if len(conditions) == 0 {
		return none
	}
	parts := make([]string, len(conditions))
	for i, c := range conditions {
		parts[i] = t.condition(c)
	}
	return "(" + strings.Join(parts, operator) + ")"
}

func (t *translator) in(c *config.Condition) string {
	if !t.s.Profiles {
		return t.fail(notOfProfiles(c, "in"))
	}
	return fmt.Sprintf("%s IN (SELECT profile_id FROM %s)", t.profile(), t.d.Table(t.s.Members(c.In)))
}

// sent is true of a profile that a sync sent something, within the condition's time if it says one.
func (t *translator) sent(c *config.Condition) string {
	if !t.s.Profiles {
		return t.fail(notOfProfiles(c, "sent"))
	}
	query, err := t.s.Sent(c.Sent)
	switch {
	case err != nil:
		return t.fail(placed(err, c.Node.At("sent")))
	case query == "":
		return "FALSE"
	}
	within := ""
	if c.Within.Duration > 0 {
		within = " WHERE s.sent_at >= " + t.d.Time(t.s.AsOf.Add(-c.Within.Duration))
	}
	return fmt.Sprintf("%s IN (SELECT s.profile_id FROM (%s) AS s%s)", t.profile(), query, within)
}

func notOfProfiles(c *config.Condition, key string) error {
	return diag.At(c.Node.At(key), "condition.profiles", "%s: speaks of profiles, and the rows of a model are none", key).
		WithHint("sync a segment or an entity, or write a condition on columns")
}

// profile is the row's profile_id.
func (t *translator) profile() string { return t.qualified("profile_id") }

func (t *translator) qualified(column string) string {
	if t.s.Alias == "" {
		return t.d.Quote(column)
	}
	return t.s.Alias + "." + t.d.Quote(column)
}

func (t *translator) render(text string, pos diag.Pos) (string, error) {
	if t.s.Render == nil {
		return text, nil
	}
	return t.s.Render(text, pos)
}
