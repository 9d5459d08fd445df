package segment

import (
	"fmt"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/profile"
)

// Relation is what a relation of the profiles' entity leads to. Columns are those of its profiles; nil = not known, as in Scope.
type Relation struct {
	profile.Related
	Columns []warehouse.Column
}

// related is {trait: account.mrr, OP: value}: true of the profiles whose relation leads to one of which the comparison is true. For one
// that it leads nowhere the trait is NULL, as it is in `sql: account.mrr`. The profiles are read once more, beside what the relation
// leads to, because not every engine takes a subquery that looks back at a row.
func (t *translator) related(c *config.Condition) string {
	of, name, _ := strings.Cut(c.Trait, ".")
	rel, err := t.s.Relation(of)
	if err != nil {
		return t.fail(placed(err, c.Node.At("trait")))
	}
	const column = "dray_related"
	o := operand{name: c.Trait, expr: "x." + t.d.Quote(column)}
	if rel.Columns != nil {
		found, err := t.column(rel.Columns, name, "trait", c.Node.At("trait"))
		if err != nil {
			return t.fail(err)
		}
		o.kind, o.known = found.Kind, true
	}
	sql, err := t.compared(o, c)
	if err != nil {
		return t.fail(err)
	}
	join := rel.Join(t.d, "x", func(own string) string { return "o." + t.d.Quote(own) }, map[string]string{name: column})
	return fmt.Sprintf("%s IN (SELECT o.profile_id FROM %s AS o %s WHERE %s)", t.profile(), t.s.Own, join, sql)
}

// NoRelation is the error of a condition that names a relation which the entity does not have; without a position.
func NoRelation(e *config.Entity, name string) error {
	return &diag.Error{Code: "condition.trait", Msg: fmt.Sprintf("entity %s has no relation %q", e.Name, name)}
}
