// Package webhook delivers to any HTTP endpoint: batches of changes as JSON, signed as Standard Webhooks where a secret is set.
//
// It is the generic destination, and the fastest: a batch goes from the warehouse's values straight into one buffer.
package webhook

import (
	"strconv"

	"github.com/dray-dev/dray/connectors/destination"
)

const (
	defaultBatch = 100
	maxBatch     = 10_000

	defaultConcurrency = 4
	maxConcurrency     = 32
	minBytes           = 1024 // of a body: less would hold no row
)

// Connector makes webhook destinations.
type Connector struct{}

// Spec declares the connector.
func (Connector) Spec() destination.Spec {
	return destination.Spec{
		Type:     "webhook",
		Title:    "Webhook",
		Notifies: true,
		Summary:  "Posts changes as JSON to an address of yours; the answer may tell the outcome of each row.",
		Config: []destination.Option{
			{
				Name: "url", Type: "string", Required: true, Example: "https://example.com/changes",
				Doc: "Where changes are posted: an http or https address. It is not treated as a secret and is part of what a snapshot is " +
					"bound to (without its query), so credentials belong into `headers`.",
			},
			{
				Name: "headers", Type: "map", Example: "{Authorization: \"Bearer ${TOKEN}\"}",
				Doc: "Headers sent with each request, such as `Authorization: \"Bearer ${TOKEN}\"`. Values are never printed or logged; " +
					"keep secret ones in references.",
			},
			{
				Name: "batch_size", Type: "int", Default: strconv.Itoa(defaultBatch),
				Doc: "Rows a request, 1 to 10,000. A batch that is refused with a 4xx is halved until the bad row is alone.",
			},
			{
				Name: "max_bytes", Type: "int",
				Doc: "Bytes of a request's body, at most: batches are cut by it as well as by `batch_size`. A row that makes more by itself is " +
					"not sent and rejected as `row_too_large`. Default: no limit. Bodies of 1 MB are what many gateways take.",
			},
			{
				Name: "concurrency", Type: "int",
				Doc: "Requests under way at once, 1 to 32. No two of them hold the same key. Default: 4.",
			},
			{
				Name: "method", Type: "string", Default: "POST", Enum: []string{"POST", "PUT", "PATCH"},
				Doc: "The HTTP method.",
			},
			{
				Name: "signing_secret", Type: "string", Secret: true,
				Doc: "Signs each request as Standard Webhooks (headers `webhook-id`, `webhook-timestamp`, `webhook-signature`): the base64 " +
					"secret, with or without its prefix `whsec_`. The id stays the same when a batch is sent again.",
			},
			{
				Name: "settle", Type: "duration",
				Doc: "How long an unanswered request may still be applied behind the endpoint; rows without an answer are sent again until an " +
					"acknowledged try began this long after the last unanswered one. `0s` where the endpoint applies before it answers or not at " +
					"all. Default: 10 minutes or more.",
			},
			{
				Name: "base_url", Type: "string",
				Doc: "Another scheme and host (and leading path) to send to instead of that of `url`, keeping its path and query: a local " +
					"stand-in, a proxy.",
			},
		},
		Objects:     []destination.Object{object()},
		AnyObject:   true,
		OwnsObjects: true,
		Concurrency: defaultConcurrency,
		Limits: []string{
			"Any 2xx answer means that all rows are delivered, unless its body is `{\"results\": [{\"status\": \"delivered\" | \"rejected\", " +
				"\"code\", \"message\"}]}`, one entry a change, in order. A row without an entry, or with another status, stays uncertain and is " +
				"sent again.",
			"408, 429 and 5xx are tried again (`Retry-After` is honoured). 401 and 403 stop the sync: they are about the credentials, not " +
				"about rows. Any other 4xx refuses the batch, which is then split. A redirect stops the sync.",
		},
	}
}

func object() destination.Object {
	return destination.Object{
		Name: "*",
		Doc: "Any name: it is sent as `object`. A change is `{\"operation\": \"add\" | \"update\" | \"remove\", \"key\": {…}, \"fields\": {…}, " +
			"\"dedupe_id\"}`, always with all fields; dotted names nest; numbers and decimals are JSON numbers, timestamps RFC 3339 in UTC, " +
			"dates YYYY-MM-DD, JSON is embedded. Every `on_remove` but `ignore` is a remove.",
		Modes:      []destination.Mode{destination.Upsert, destination.Update, destination.Insert, destination.Mirror},
		Removes:    []string{"delete", "clear", "set", "ignore"},
		Withdraw:   "delete",
		AnyRemove:  true,
		AnyKey:     true,
		OpenFields: true,
		MaxBatch:   maxBatch,
		Replaces:   true,
		Mixed:      true,
	}
}
