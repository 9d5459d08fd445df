package profile

import (
	"strings"
	"sync"
	"testing"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// typed is a dialect that has to be told the type of what First picks; it notes what it was not told.
type typed struct {
	warehouse.Dialect
	mu     *sync.Mutex
	untold *[]string
}

func (typed) FirstNeedsType() {}

func (d typed) First(value, typ, orderBy, where string) string {
	first := d.Dialect.First(value, typ, orderBy, where)
	if typ == "" {
		d.mu.Lock()
		defer d.mu.Unlock()
		*d.untold = append(*d.untold, value)
		return first
	}
	return "CAST(" + first + " AS " + typ + ")"
}

type typedWarehouse struct {
	warehouse.Warehouse
	d typed
}

func (w typedWarehouse) Dialect() warehouse.Dialect { return w.d }

// Engines that gather values in JSON get the type of each, and of what it is ordered by, also where several inputs are picked from.
func TestTypesOfPicks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trait config.Trait
		want  string
	}{
		{config.Trait{Pick: "most_recent", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bo Cyd"},
		{config.Trait{Pick: "min", From: config.Strings{"orders.amount"}}, "5 7 NULL"},
		{config.Trait{Pick: "first", From: config.Strings{"letters.name", "orders.name"}, OrderBy: "length(name), ts desc"}, "Ann Bo Cy"},
		{config.Trait{Pick: "most_frequent", From: config.Strings{"orders.name", "letters.name"}}, "Annie Bo Cy"},
	} {
		inner := shop(t)
		d := typed{inner.Dialect(), &sync.Mutex{}, &[]string{}}
		trait := c.trait
		trait.Name = "t"
		ids, spec := specs(&trait)
		build(t, typedWarehouse{inner, d}, ids, spec)
		got := query(t, inner, "SELECT coalesce(user_id, '3'), t FROM profiles_person")
		for i := range got {
			got[i] = got[i][2:]
		}
		if strings.Join(got, " ") != c.want || len(*d.untold) > 0 {
			t.Errorf("%s: got %s, want %s; not told the types of %v", c.trait.Pick, strings.Join(got, " "), c.want, *d.untold)
		}
	}
}
