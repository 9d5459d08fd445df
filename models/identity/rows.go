package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// ProfileColumn is the column that Rows adds. It is not called profile_id because an input may be another entity's profiles.
const ProfileColumn = "dray_profile_id"

// SharedColumn is true in the rows that have only refused values, each of which is a profile of its own. Rows adds it for
// entities that are Limited.
const SharedColumn = "dray_shared"

// Rows is a FROM item (without alias) with every column of one input and ProfileColumn, the profile its row belongs to: the one
// that holds its most trusted value. Rows that belong to no profile are left out. table is the built identity table.
func Rows(ctx context.Context, w warehouse.Warehouse, entity *config.Entity, in Input, table warehouse.Table) (string, error) {
	r, err := Describe(ctx, w, in)
	if err != nil {
		return "", err
	}
	return r.Rows(entity, table)
}

// Rows is the package's Rows for an input whose columns are known already.
func (r Relation) Rows(entity *config.Entity, table warehouse.Table) (string, error) {
	d := r.dialect
	var problems diag.List
	var values, joins, owners, refused []string
	for i, l := range Levels(entity) {
		normal, _, ok, err := l.Value(r)
		if err != nil {
			problems.Add(err)
			continue
		}
		if !ok {
			continue
		}
		value := fmt.Sprintf("r.dray_v%d", i)
		if len(owners) > 0 { // a less trusted value is asked only where no more trusted one is known
			value = fmt.Sprintf("CASE WHEN %s IS NULL THEN %s END", strings.Join(owners, " IS NULL AND "), value)
		}
		values = append(values, fmt.Sprintf("%s AS dray_v%d", normal, i))
		joins = append(joins, fmt.Sprintf("LEFT JOIN (SELECT * FROM %s WHERE identifier = %s) AS i%d ON i%[3]d.value = %s",
			d.Table(table), d.Text(l.Name), i, value))
		owners = append(owners, fmt.Sprintf("i%d.profile_id", i))
		refused = append(refused, fmt.Sprintf("i%d.refused IS NOT NULL", i))
	}
	if err := problems.Err(); err != nil {
		return "", err
	}
	if len(values) == 0 {
		return "", diag.At(r.Pos, "entity.identifiers", "input %s has no identifier of entity %s", r.Name, entity.Name)
	}
	columns := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		columns[i] = "r." + d.Quote(c.Name)
	}
	owner := "coalesce(" + strings.Join(append(owners, "NULL"), ", ") + ")"
	columns = append(columns, owner+" AS "+ProfileColumn)
	if Limited(entity) {
		shared := "FALSE"
		if r.Links() {
			shared = owner + " IS NULL AND (" + strings.Join(refused, " OR ") + ")"
			owner = "coalesce(" + owner + ", CASE WHEN " + strings.Join(refused, " OR ") + " THEN " + r.sharedID(entity) + " END)"
			columns[len(columns)-1] = owner + " AS " + ProfileColumn
		}
		columns = append(columns, shared+" AS "+SharedColumn)
	}
	return fmt.Sprintf(`(SELECT %s
	FROM (SELECT *, %s FROM %s) AS r
	%s
	WHERE %s IS NOT NULL)`, strings.Join(columns, ", "), strings.Join(values, ", "), r.FromItem(), strings.Join(joins, "\n\t"), owner), nil
}

// sharedID is the id of a row that has only refused values: of its input and its primary key, or of all its columns where no
// primary key is declared.
func (r Relation) sharedID(entity *config.Entity) string {
	key := r.PrimaryKey
	if len(key) == 0 {
		for _, c := range r.Columns {
			key = append(key, c.Name)
		}
	}
	exprs := make([]string, len(key))
	for i, name := range key {
		exprs[i] = "r." + r.dialect.Quote(name)
	}
	salt := r.dialect.Text(fmt.Sprintf("%s\nshared\n%s\n", entity.Name, r.Name))
	return fmt.Sprintf("substr(%s, 1, 20)", r.dialect.Digest(salt+" || "+r.dialect.JSONArray(exprs...)))
}
