package hubspot

import (
	"context"
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
		found, err := a.lookUp(ctx, key.Name, values[:n])
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

// lookUp reads the contacts that have the values; the result is by value as HubSpot compares it.
func (a *account) lookUp(ctx context.Context, property string, values []string) (map[string]string, error) {
	results, err := a.readContacts(ctx, property, []string{property}, values)
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
