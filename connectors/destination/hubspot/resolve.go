package hubspot

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
)

// Resolve finds the record ids of contacts by the sync's key; ids that the changes carry already are kept.
func (a *account) Resolve(ctx context.Context, b *destination.Batch) ([]string, error) {
	key := b.Schema.Key[0]
	ids := make([]string, len(b.Changes))
	rows := map[string][]int{} // by key as HubSpot compares it
	var values []string
	for i := range b.Changes {
		c := &b.Changes[i]
		if c.RemoteID != "" {
			ids[i] = c.RemoteID
			continue
		}
		value := text(c.Key[0], key.Kind)
		if _, known := rows[canonical(key.Name, value)]; !known {
			values = append(values, value)
		}
		rows[canonical(key.Name, value)] = append(rows[canonical(key.Name, value)], i)
	}
	for len(values) > 0 {
		n := min(len(values), maxBatch)
		found, err := a.lookUp(ctx, contacts, key.Name, values[:n])
		if err != nil {
			return nil, err
		}
		for value, id := range found {
			for _, i := range rows[value] {
				ids[i] = id
			}
		}
		values = values[n:]
	}
	return ids, nil
}

// Find finds records of any object by a property whose values HubSpot keeps unique, or by their id.
func (a *account) Find(ctx context.Context, object string, by destination.Column, values []any) ([]string, error) {
	ids := make([]string, len(values))
	rows := map[string][]int{} // by value as HubSpot compares it
	var texts []string
	for i, v := range values {
		value := text(v, by.Kind)
		name := canonical(by.Name, value)
		if name == "" {
			continue // no record has nothing
		}
		if rows[name] = append(rows[name], i); len(rows[name]) == 1 {
			texts = append(texts, value)
		}
	}
	f := finder{account: a, object: object, property: by.Name, found: map[string]string{}}
	for len(texts) > 0 {
		n := min(len(texts), maxBatch)
		if err := f.find(ctx, texts[:n]); err != nil {
			return nil, err
		}
		texts = texts[n:]
	}
	for value, id := range f.found {
		for _, i := range rows[value] {
			ids[i] = id
		}
	}
	return ids, nil
}

// finder is one Find. HubSpot refuses a call for one value that its property cannot have as it does for an object or a property that
// cannot be asked for: the call is halved until the value stands alone, which names no record then, unless nothing else is taken.
type finder struct {
	*account
	object, property string
	found            map[string]string // by value as HubSpot compares it
	answered         bool
	refused          int // values
}

const maxRefused = 3 // values in a row, before it is the object or the property

func (f *finder) find(ctx context.Context, values []string) error {
	found, err := f.lookUp(ctx, f.object, f.property, values)
	if err == nil {
		f.answered = true
		maps.Copy(f.found, found)
		return nil
	}
	var e *destination.Error
	if !errors.As(err, &e) || e.Class != destination.Split {
		return err
	}
	if n := len(values) / 2; n > 0 {
		if err := f.find(ctx, values[:n]); err != nil {
			return err
		}
		return f.find(ctx, values[n:])
	}
	if f.refused++; f.refused < maxRefused || f.answered {
		return nil
	}
	return &destination.Error{
		Class: destination.Stop, Mapping: true, Code: e.Code, Err: e, Message: "HubSpot finds no " + f.object + " by " + f.property,
		Hint: "a lookup wants one of HubSpot's objects, as companies, and a property whose values HubSpot keeps unique (hasUniqueValue)",
	}
}

// lookUp reads the records that have the values; the result is by value as HubSpot compares it.
func (a *account) lookUp(ctx context.Context, object, property string, values []string) (map[string]string, error) {
	results, err := a.readRecords(ctx, object, property, []string{property}, values)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, r := range results {
		if by := r.by(property); by != "" {
			found[by] = r.ID
		}
	}
	return found, nil
}

// canonical is a key's value as HubSpot compares it: addresses without case.
func canonical(property, value string) string {
	if property == "email" {
		return strings.ToLower(strings.TrimSpace(value))
	}
	return value
}
