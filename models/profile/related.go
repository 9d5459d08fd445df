package profile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/lineage"
)

// Related is the other side of a relation: its entity, and where that stands as it was built.
type Related struct {
	*config.Relation
	Other              *config.Entity
	Identity, Profiles warehouse.Table
}

// related finds a relation by name.
func (s Spec) related(name string) (Related, bool) {
	for _, r := range s.Relations {
		if strings.EqualFold(r.Name, name) {
			return r, true
		}
	}
	return Related{}, false
}

// Join is what a FROM item adds behind own, one row a profile, to bring the profile that the relation leads to beside it: the columns
// of that, as named, and none where the value is nobody's, refused, or NULL. own writes a column of the first; columns maps a
// column to the name it gets. No row is ever doubled: a value belongs to one profile.
func (r Related) Join(d warehouse.Dialect, alias string, own func(column string) string, columns map[string]string) string {
	var list, from, on []string
	for i, column := range slices.Sorted(maps.Keys(r.On)) {
		value, key := fmt.Sprintf("i%d", i), fmt.Sprintf("k%d", i)
		list = append(list, value+".value AS "+key)
		join := fmt.Sprintf("JOIN %s AS %s ON %[2]s.profile_id = p.profile_id AND %[2]s.identifier = %s", d.Table(r.Identity), value, d.Text(r.On[column]))
		if identity.Limited(r.Other) { // what is only lent to a profile is not its own
			join += " AND " + value + ".refused IS NULL"
		}
		from = append(from, join)
		on = append(on, fmt.Sprintf("%s.%s = %s", alias, key, identity.Normalize(d, r.identifier(r.On[column]), own(column))))
	}
	for _, column := range slices.Sorted(maps.Keys(columns)) {
		list = append(list, fmt.Sprintf("p.%s AS %s", d.Quote(r.column(column)), d.Quote(columns[column])))
	}
	return fmt.Sprintf("LEFT JOIN (SELECT %s FROM %s AS p %s) AS %s ON %s",
		strings.Join(list, ", "), d.Table(r.Profiles), strings.Join(from, " "), alias, strings.Join(on, " AND "))
}

// identifier is the other's, by name; graph has checked that it is there.
func (r Related) identifier(name string) *config.Identifier {
	for _, i := range r.Other.Identifiers {
		if i.Name == name {
			return i
		}
	}
	return &config.Identifier{Name: name}
}

// column is a column of the other's profiles as it is written there.
func (r Related) column(name string) string {
	for _, c := range graph.ProfileColumns(r.Other) {
		if strings.EqualFold(c, name) {
			return c
		}
	}
	return name
}

// throughRelation is the column under which what a trait reads of a relation stands in the query below it.
func throughRelation(m lineage.Member) string { return "dray_" + m.Of + "_" + m.Name }

// withRelations joins the relations that some traits read, but those in joined, to a query of profiles. What other traits read of them
// comes along. The first names are those of the columns that it passes on.
func (b *builder) withRelations(query string, layer, all []*trait, joined map[string]bool) string {
	var names []string
	for _, t := range layer {
		for _, m := range t.through {
			if !joined[m.Of] {
				joined[m.Of], names = true, append(names, m.Of)
			}
		}
	}
	if len(names) == 0 {
		return query
	}
	columns := []string{"t.*"}
	var joins strings.Builder
	for i, name := range names {
		r, _ := b.spec.related(name)
		alias := fmt.Sprintf("r%d", i)
		read := map[string]string{}
		for _, t := range all {
			for _, m := range t.through {
				if m.Of == name {
					read[m.Name] = throughRelation(m)
				}
			}
		}
		for _, column := range slices.Sorted(maps.Keys(read)) {
			columns = append(columns, alias+"."+b.d.Quote(read[column]))
		}
		joins.WriteString("\n" + r.Join(b.d, alias, func(column string) string { return "t." + b.d.Quote(column) }, read))
	}
	return "SELECT " + strings.Join(columns, ", ") + "\nFROM (" + query + ") AS t" + joins.String()
}

// belongs finds the profiles that the relations lead to, in one statement; what was not built yet leads nowhere.
func (f *finder) belongs(ctx context.Context) error {
	var ids []string
	var joins strings.Builder
	for _, r := range f.spec.Relations {
		there, err := f.w.Exists(ctx, r.Profiles)
		if err != nil {
			return err
		}
		for own := range r.On { // it may have been added since
			there = there && f.has[strings.ToLower(own)]
		}
		if !there {
			continue
		}
		alias := fmt.Sprintf("r%d", len(ids))
		joins.WriteString("\n" + r.Join(f.d, alias, func(own string) string { return "t." + f.d.Quote(own) }, map[string]string{"profile_id": "dray_related"}))
		ids = append(ids, alias+"."+f.d.Quote("dray_related"))
		f.found.Relations = append(f.found.Relations, Belongs{Name: r.Name, Entity: r.Other.Name})
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := f.all(ctx, fmt.Sprintf("SELECT %s FROM %s AS t%s WHERE t.profile_id = %s", strings.Join(ids, ", "), f.d.Table(f.spec.Target), joins.String(), f.d.Text(f.found.ProfileID)))
	if err != nil || len(rows) == 0 {
		return err
	}
	for i, v := range rows[0] {
		if id, ok := v.(string); ok {
			f.found.Relations[i].ProfileID = &id
		}
	}
	return nil
}
