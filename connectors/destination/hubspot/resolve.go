package hubspot

import (
	"context"
	"net/http"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
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
	body := []byte(`{`)
	if property != recordID {
		body = append(body, `"idProperty":`...)
		body = append(encode.String(body, property), ',')
	}
	body = append(body, `"properties":[`...)
	body = append(encode.String(body, property), `],"propertiesWithHistory":[],"inputs":[`...)
	for i, v := range values {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"id":`...)
		body = append(encode.String(body, v), '}')
	}
	body = append(body, "]}"...)
	var answer struct {
		Status  string `json:"status"`
		Results []struct {
			ID         string             `json:"id"`
			Properties map[string]*string `json:"properties"`
		} `json:"results"`
		Errors []batchError `json:"errors"`
	}
	if err := a.read(ctx, "look up contacts", http.MethodPost, contactsPath+"/batch/read", body, &answer); err != nil {
		return nil, err
	}
	if answer.Status != complete {
		return nil, &destination.Error{Class: destination.Retry, Code: "status_" + answer.Status, Message: "look up contacts: HubSpot has not completed it"}
	}
	for _, e := range answer.Errors {
		if !e.notFound() {
			return nil, &destination.Error{Class: destination.Stop, Code: e.Category, Message: "look up contacts: " + e.Message}
		}
	}
	found := map[string]string{}
	for _, r := range answer.Results {
		switch v := r.Properties[property]; {
		case property == recordID:
			found[r.ID] = r.ID
		case v != nil:
			found[canonical(property, *v)] = r.ID
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
