package profile

import (
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

// A quintile goes by how many profiles have a lower value (a higher one, with order: desc): less than a fifth of those that have any, 1;
// less than two fifths, 2; and so on. So equal values are in one fifth, on every engine and in every build, which ntile() does not
// promise. Profiles of refused values only are nobody's: they count for none and have none.

// ranks adds to a query of profiles what the quintiles of a layer go by.
func (b *builder) ranks(query string, layer []*trait) string {
	columns := []string{"*"}
	for _, t := range layer {
		if t.Quintile == "" {
			continue
		}
		below, of := b.rankColumns(t)
		by := b.d.Quote(b.column(t.Quintile))
		if identity.Limited(b.spec.Entity) {
			by = "CASE WHEN NOT " + sharedColumn + " THEN " + by + " END"
		}
		columns = append(columns,
			fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN rank() OVER (ORDER BY %s) - 1 END AS %s", by, b.d.Order(by, t.Order == "desc", false), below),
			fmt.Sprintf("count(%s) OVER () AS %s", by, of))
	}
	if len(columns) == 1 {
		return query
	}
	return "SELECT " + strings.Join(columns, ", ") + "\nFROM (" + query + ") AS t"
}

// rankColumns are what a quintile goes by: how many are below a profile, of how many.
func (b *builder) rankColumns(t *trait) (below, of string) {
	return b.d.Quote("dray_below_" + t.Name), b.d.Quote("dray_of_" + t.Name)
}

// quintile is the fifth by a trait's ranks. It multiplies, for engines divide whole numbers in three ways.
func (b *builder) quintile(t *trait) string {
	below, of := b.rankColumns(t)
	parts := []string{"1"}
	for k := 1; k < 5; k++ {
		parts = append(parts, fmt.Sprintf("CASE WHEN 5 * %s >= %d * %s THEN 1 ELSE 0 END", below, k, of))
	}
	return fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN %s END", below, strings.Join(parts, " + "))
}

// column is a column of the profiles as it is written in the project.
func (b *builder) column(name string) string {
	for _, c := range append(b.columnNames(), "profile_id", "first_seen_at") {
		if strings.EqualFold(c, name) {
			return c
		}
	}
	return name
}

// checkQuintiles holds that they go by what has an order that means something.
func (b *builder) checkQuintiles(traits []*trait, record []warehouse.Column) error {
	var problems diag.List
	for _, t := range traits {
		if t.Quintile == "" {
			continue
		}
		for _, c := range record {
			if !strings.EqualFold(c.Name, t.Quintile) {
				continue
			}
			switch c.Kind {
			case warehouse.Int, warehouse.Float, warehouse.Decimal, warehouse.Date, warehouse.Timestamp:
			default:
				problems.Add(diag.At(t.Node.At("quintile"), "trait.quintile", "a quintile goes by a number or a time, and %s is %s", t.Quintile, c.Kind))
			}
		}
	}
	return problems.Err()
}
