package webhook

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
)

// maxWords bounds what is kept of an endpoint's message.
const maxWords = 500

// result is an entry of an answer's results.
type result struct {
	Status  string          `json:"status"`
	Code    json.RawMessage `json:"code"` // text, or a number
	Message string          `json:"message"`
}

// readAnswer tells the outcomes of the changes that were sent from a 2xx answer, into out:
//
//	no body, or one without results   all delivered
//	results                           entry by entry, in order; rows without an entry are unknown
//	results that cannot be read       all unknown
func readAnswer(r *httpx.Response, out []destination.Outcome) {
	body := bytes.TrimSpace(r.Body)
	if len(body) == 0 || body[0] != '{' {
		fillAll(out, destination.Outcome{Class: destination.Delivered})
		return
	}
	var answer struct {
		Results json.RawMessage `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		if speaksJSON(r) || bytes.Contains(body, []byte(`"results`)) {
			fillAll(out, unknown("answer_unreadable", "the answer is JSON that ends or breaks off too early"))
			return
		}
		fillAll(out, destination.Outcome{Class: destination.Delivered})
		return
	}
	if len(answer.Results) == 0 || string(answer.Results) == "null" {
		fillAll(out, destination.Outcome{Class: destination.Delivered})
		return
	}
	var results []json.RawMessage
	if err := json.Unmarshal(answer.Results, &results); err != nil || len(results) > len(out) {
		fillAll(out, unknown("answer_unreadable", "results is not a list with one entry a change"))
		return
	}
	for i := range out {
		if i < len(results) {
			out[i] = outcomeOf(results[i])
		} else {
			out[i] = unknown("not_mentioned", "the answer has no entry for this row")
		}
	}
}

func outcomeOf(raw json.RawMessage) destination.Outcome {
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return unknown("answer_unreadable", "the entry of this row cannot be read")
	}
	switch r.Status {
	case "delivered":
		return destination.Outcome{Class: destination.Delivered}
	case "rejected":
		code := strings.Trim(string(r.Code), `"`)
		if code == "" || code == "null" {
			code = "rejected"
		}
		return destination.Outcome{Class: destination.Rejected, Code: short(code), Message: short(r.Message)}
	default:
		return unknown("status_unknown", "the entry's status is neither delivered nor rejected")
	}
}

func speaksJSON(r *httpx.Response) bool {
	return strings.Contains(strings.ToLower(r.Header.Get("Content-Type")), "json")
}

func unknown(code, message string) destination.Outcome {
	return destination.Outcome{Class: destination.Unknown, Code: code, Message: message}
}

func fillAll(out []destination.Outcome, o destination.Outcome) {
	for i := range out {
		out[i] = o
	}
}

// fill puts the outcomes of the rows that were sent into the places that are still open.
func fill(outcomes, sent []destination.Outcome) {
	for i := range outcomes {
		if outcomes[i].Code == "" {
			outcomes[i], sent = sent[0], sent[1:]
		}
	}
}

// words finds what an endpoint says about a refusal: a JSON message or error, else its text.
func words(body []byte) string {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || !utf8.Valid(body) || body[0] == '<' {
		return ""
	}
	var said map[string]any
	if json.Unmarshal(body, &said) == nil {
		for _, name := range []string{"message", "error", "detail", "title"} {
			if s, ok := said[name].(string); ok && s != "" {
				return short(s)
			}
		}
		return ""
	}
	return short(string(body))
}

func short(s string) string {
	if len(s) <= maxWords {
		return s
	}
	s = s[:maxWords]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
