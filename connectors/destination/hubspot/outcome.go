package hubspot

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
)

const (
	complete         = "COMPLETE"
	notFoundCategory = "OBJECT_NOT_FOUND"
	conflictCategory = "CONFLICT"
)

// batchAnswer is the answer of a batch call: 200, 201 or 207 alike, as a 200 may list errors too.
type batchAnswer struct {
	Status  string `json:"status"`
	Results []struct {
		ID    string `json:"id"`
		New   *bool  `json:"new"`
		Trace string `json:"objectWriteTraceId"`
	} `json:"results"`
	Errors []batchError `json:"errors"`
}

// batchError is HubSpot's StandardError: one may be about several rows.
type batchError struct {
	Status   string         `json:"status"`
	Category string         `json:"category"`
	Message  string         `json:"message"`
	Context  map[string]any `json:"context"` // name → list of texts
}

func (e *batchError) notFound() bool { return e.Category == notFoundCategory || e.Status == "404" }

func (e *batchError) outcome() destination.Outcome {
	o := destination.Outcome{Class: destination.Rejected, Code: e.Category, Message: e.Message}
	if e.notFound() {
		o.Class = destination.NotFound
	}
	if o.Code == "" {
		o.Code = "rejected"
	}
	return o
}

// context is the list of texts under a name.
func (e *batchError) context(name string) []string {
	list, _ := e.Context[name].([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	if s, ok := e.Context[name].(string); ok {
		out = append(out, s)
	}
	return out
}

// readBatch tells the outcome of each row. sent are the ids by which the rows were named, for errors that name those instead
// of a trace id. A row that is not mentioned, or mentioned both as done and as wrong, is unknown.
func readBatch(body []byte, act action, sent []string) []destination.Outcome {
	out := make([]destination.Outcome, len(sent))
	var answer batchAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return fillUnknown(out, "answer_unreadable", "the answer is not the JSON that HubSpot documents")
	}
	if answer.Status != complete {
		return fillUnknown(out, "status_"+answer.Status, "HubSpot has not completed the batch")
	}
	fillUnknown(out, "not_mentioned", "the answer does not mention this row")
	rows := make(map[string]int, len(sent))
	for i := range sent {
		rows[traceID(i)] = i
	}
	for _, r := range answer.Results {
		if i, ok := rows[r.Trace]; ok {
			out[i] = destination.Outcome{Class: destination.Delivered, RemoteID: r.ID, Origin: origin(act, r.New)}
		}
	}
	for i := range answer.Errors {
		e := &answer.Errors[i]
		named := rowsOf(e, rows, sent)
		for _, i := range named {
			if out[i].Class == destination.Delivered {
				out[i] = destination.Outcome{Class: destination.Unknown, Code: "contradiction", Message: "the answer lists this row as done and as wrong"}
				continue
			}
			out[i] = e.outcome()
			out[i].Exists = act == create && e.Category == conflictCategory
		}
	}
	return out
}

func rowsOf(e *batchError, rows map[string]int, sent []string) []int {
	var named []int
	for _, trace := range e.context("objectWriteTraceId") {
		if i, ok := rows[trace]; ok {
			named = append(named, i)
		}
	}
	if len(named) > 0 {
		return named
	}
	for _, name := range []string{"ids", "id"} {
		for _, id := range e.context(name) {
			for i := range sent {
				if id != "" && id == sent[i] {
					named = append(named, i)
				}
			}
		}
	}
	return named
}

func origin(act action, isNew *bool) destination.Origin {
	switch {
	case act == create, isNew != nil && *isNew:
		return destination.Created
	case act == update, isNew != nil:
		return destination.Matched
	default:
		return destination.OriginUnknown
	}
}

func fillUnknown(out []destination.Outcome, code, message string) []destination.Outcome {
	for i := range out {
		out[i] = destination.Outcome{Class: destination.Unknown, Code: code, Message: message}
	}
	return out
}

// failure reads HubSpot's Error out of a refused request: category and message say more than the status.
func failure(err error) *destination.Error {
	e := destination.FromHTTP(err)
	var h *httpx.Error
	if !errors.As(err, &h) || h.Status == 0 {
		return e
	}
	var said struct {
		Category string `json:"category"`
		Message  string `json:"message"`
		Policy   string `json:"policyName"`
	}
	if json.Unmarshal(h.Body, &said) == nil && said.Message != "" {
		e.Message = said.Message
		if said.Category != "" {
			e.Code = said.Category
		}
	}
	switch {
	case h.Status == http.StatusBadRequest && strings.Contains(said.Message, noProperty):
		unknownProperty(e, said.Message)
	case h.Status == http.StatusTooManyRequests:
		limited(e, said.Policy, h.Header)
	case h.Status == http.StatusLocked, e.Class == destination.Split && h.RetryAfter > 0:
		e.Class = destination.Retry // the record is locked, or HubSpot says when to come again: nothing is wrong with the rows
	case h.Status == http.StatusNotFound && e.Code == h.Code:
		e.Code = notFoundCategory
	}
	return e
}

// noProperty stands in the message of a batch that names a property which the account does not have, next to the property's name
// (github.com/segmentio/action-destinations, hubspot/errors.ts).
const noProperty = "PROPERTY_DOESNT_EXIST"

var propertyName = regexp.MustCompile(`"error":\s*"` + noProperty + `"[^{}]*?"name":\s*"([A-Za-z0-9_]+)"`)

// unknownProperty: all rows of the sync name the same properties, so that splitting would only refuse them one by one.
func unknownProperty(e *destination.Error, said string) {
	e.Class, e.Mapping, e.Code, e.Message = destination.Stop, true, noProperty, "a mapped property does not exist in the account"
	if m := propertyName.FindStringSubmatch(said); m != nil {
		e.Message = "the account has no contact property " + m[1]
	}
	e.Hint = "create it in HubSpot, or correct fields: in the sync; dray check lists all that are missing"
}

// limited fills in when to come again: HubSpot tells the window of its short limit in a header.
func limited(e *destination.Error, policy string, h http.Header) {
	if policy == "DAILY" {
		e.Class = destination.Stop // trying again within the run only adds to the errors that HubSpot counts
		e.Hint = "the account's daily limit of API calls is used up; it starts anew at midnight in the account's time zone"
		return
	}
	if e.RetryAfter > 0 {
		return
	}
	if ms, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Interval-Milliseconds")); err == nil && ms > 0 {
		e.RetryAfter = time.Duration(ms) * time.Millisecond
	}
}
