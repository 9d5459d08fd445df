package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dray-dev/dray/connectors/destination"
)

// Lookup is a field that holds the id of another record: that of Object whose By has the row's value.
type Lookup struct {
	Field  int // of the Schema
	Object string
	By     destination.Column
}

const (
	maxFound  = 100_000 // ids that a run remembers: some 20 MB
	roomForID = 64      // bytes that an id may take more in a body than the value it replaces
)

// found are the ids that a run knows. That a record is not there is not remembered: another sync may be creating it.
type found struct {
	mu  sync.Mutex
	ids map[string]string
}

func (f *found) get(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[name]
}

func (f *found) put(name, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids == nil || len(f.ids) >= maxFound {
		f.ids = map[string]string{}
	}
	f.ids[name] = id
}

// find puts the ids of other records in the place of values. A row whose record is not there is not sent; NULL stays NULL. Where the
// vendor does not answer, the rows that needed to know wait for the next run.
func (d *delivery) find(ctx context.Context, b *batch, rows []int, outcomes []Row) []part {
	for _, l := range d.Lookups {
		var rest, need []int
		for _, i := range rows {
			c := &b.page.Changes[b.rows[i]]
			if c.Operation == destination.OpRemove || c.Fields[l.Field] == nil || !c.Sends(l.Field) {
				rest = append(rest, i)
			} else {
				need = append(need, i)
			}
		}
		ids, err := d.ids(ctx, b, l, need)
		for _, i := range need {
			c := &b.page.Changes[b.rows[i]]
			switch id := ids[l.name(c.Fields[l.Field])]; {
			case id != "":
				c.Fields = slices.Clone(c.Fields)
				c.Fields[l.Field] = id
				rest = append(rest, i)
			case err != nil:
				d.giveUp(b, part{rows: []int{i}}, outcomes, "lookup_failed", "")
			default:
				d.refuse(b, part{}, i, NoRecord, "no_record", fmt.Sprintf("no record of %s has this %s", l.Object, l.By.Name), outcomes)
			}
		}
		slices.Sort(rest)
		rows = rest
	}
	return parts(rows)
}

// name is how a value is remembered.
func (l Lookup) name(v any) string {
	return fmt.Sprintf("%s\x00%s\x00%v\x00%v", l.Object, l.By.Name, l.By.Kind, v)
}

// ids finds the records of some rows by the value, in one call for those that are not known yet. With an error the known ones are
// told all the same.
func (d *delivery) ids(ctx context.Context, b *batch, l Lookup, rows []int) (map[string]string, error) {
	ids, asked := map[string]string{}, map[string]bool{}
	var names []string
	var values []any
	for _, i := range rows {
		v := b.page.Changes[b.rows[i]].Fields[l.Field]
		name := l.name(v)
		if asked[name] {
			continue
		}
		asked[name] = true
		if ids[name] = d.found.get(name); ids[name] == "" {
			names, values = append(names, name), append(values, v)
		}
	}
	if len(names) == 0 {
		return ids, nil
	}
	finder, ok := d.Destination.(destination.Finder)
	if !ok {
		return ids, errNoFinder
	}
	lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	var got []string
	err := d.lookUp(lctx, b, func(ctx context.Context) (err error) {
		got, err = finder.Find(ctx, l.Object, l.By, values)
		return err
	})
	if err == nil && len(got) != len(names) {
		err = &destination.Error{Class: destination.Unknown, Code: "bad_outcomes", Message: "the connector did not answer for every value"}
	}
	if err != nil {
		d.lookupFailed(spokenOf(err, b))
		return ids, err
	}
	for k, id := range got {
		if ids[names[k]] = id; id != "" {
			d.found.put(names[k], id)
		}
	}
	return ids, nil
}

var errNoFinder = errors.New("the destination finds no records")
