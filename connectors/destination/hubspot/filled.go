package hubspot

import (
	"context"
	"net/http"
	"net/url"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
)

// Filled tells which of the fields hold a value in HubSpot (batch/read in contacts.json). A property without a value is null in the
// answer, or the empty text.
func (a *account) Filled(ctx context.Context, b *destination.Batch, fields []int) ([][]bool, error) {
	key := b.Schema.Key[0]
	names := []string{key.Name}
	for _, f := range fields {
		names = append(names, b.Schema.Fields[f].Name)
	}
	filled := make([][]bool, len(b.Changes))
	// By record id where it is known, and by the key otherwise: the two are never mixed in one call.
	byID, byKey := map[string][]int{}, map[string][]int{}
	var ids, keys []string
	for i := range b.Changes {
		filled[i] = make([]bool, len(fields))
		c := &b.Changes[i]
		if c.RemoteID != "" {
			if byID[c.RemoteID] = append(byID[c.RemoteID], i); len(byID[c.RemoteID]) == 1 {
				ids = append(ids, c.RemoteID)
			}
			continue
		}
		value := text(c.Key[0], key.Kind)
		if k := canonical(key.Name, value); k != "" {
			if byKey[k] = append(byKey[k], i); len(byKey[k]) == 1 {
				keys = append(keys, value)
			}
		}
	}
	for _, call := range []struct {
		property string
		values   []string
		rows     map[string][]int
	}{{recordID, ids, byID}, {key.Name, keys, byKey}} {
		for len(call.values) > 0 {
			n := min(len(call.values), maxBatch)
			found, err := a.readRecords(ctx, contacts, call.property, names, call.values[:n])
			if err != nil {
				return nil, err
			}
			for _, r := range found {
				for _, i := range call.rows[r.by(call.property)] {
					for k, name := range names[1:] {
						v := r.Properties[name]
						filled[i][k] = v != nil && *v != ""
					}
				}
			}
			call.values = call.values[n:]
		}
	}
	return filled, nil
}

// record is what batch/read tells of one.
type record struct {
	ID         string             `json:"id"`
	Properties map[string]*string `json:"properties"`
}

// by is the record's value of a property as HubSpot compares it; "" where it has none.
func (c record) by(property string) string {
	if property == recordID {
		return c.ID
	}
	if v := c.Properties[property]; v != nil {
		return canonical(property, *v)
	}
	return ""
}

// readRecords reads properties of the records whose property has one of the values; those that do not exist are left out. HubSpot
// answers alike for all objects (objects.json).
func (a *account) readRecords(ctx context.Context, object, property string, properties, values []string) ([]record, error) {
	body := []byte(`{`)
	if property != recordID {
		body = append(body, `"idProperty":`...)
		body = append(encode.String(body, property), ',')
	}
	body = append(body, `"properties":[`...)
	for i, p := range properties {
		if i > 0 {
			body = append(body, ',')
		}
		body = encode.String(body, p)
	}
	body = append(body, `],"propertiesWithHistory":[],"inputs":[`...)
	for i, v := range values {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"id":`...)
		body = append(encode.String(body, v), '}')
	}
	body = append(body, "]}"...)
	var answer struct {
		Status  string       `json:"status"`
		Results []record     `json:"results"`
		Errors  []batchError `json:"errors"`
	}
	if err := a.read(ctx, "look up "+object, http.MethodPost, "/crm/v3/objects/"+url.PathEscape(object)+"/batch/read", body, &answer); err != nil {
		return nil, err
	}
	if answer.Status != complete {
		return nil, &destination.Error{Class: destination.Retry, Code: "status_" + answer.Status, Message: "look up " + object + ": HubSpot has not completed it"}
	}
	for _, e := range answer.Errors {
		if !e.notFound() {
			return nil, &destination.Error{Class: destination.Stop, Code: e.Category, Message: "look up " + object + ": " + e.Message}
		}
	}
	return answer.Results, nil
}
