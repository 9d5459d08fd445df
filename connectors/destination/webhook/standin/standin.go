// Package standin is a strict receiver of webhooks: it takes what the documentation of the webhook destination promises and
// nothing else, and keeps the records that the changes make.
package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/standin"
)

// Secret signs what the stand-in takes at /signed.
const Secret = "whsec_ZHJheS1zYW5kYm94LXNpZ25pbmctc2VjcmV0"

// maxSkew is how old a signature may be.
const maxSkew = 5 * time.Minute

// receiver is the stand-in.
type receiver struct {
	core    *standin.Core
	handler http.Handler

	mu      sync.Mutex
	objects map[string]standin.Records
	applied map[string]int // operation → how many
}

// New makes an empty receiver.
func New() standin.StandIn {
	r := &receiver{}
	r.forget()
	r.core = standin.NewCore("webhook", r.state, r.forget)
	mux := http.NewServeMux()
	mux.HandleFunc("/", r.take)
	mux.HandleFunc("/signed", r.takeSigned)
	r.handler = r.core.Wrap(mux)
	return r
}

// Handler takes changes at any path; at /signed only such as Secret signs.
func (r *receiver) Handler() http.Handler { return r.handler }

// Core scripts faults.
func (r *receiver) Core() *standin.Core { return r.core }

// Config reaches the receiver.
func (r *receiver) Config(base string) map[string]any {
	return map[string]any{"url": base + "/changes"}
}

// Samples are an object like any other.
func (r *receiver) Samples() []standin.Sample {
	return []standin.Sample{{
		Object: "people", Key: "email", KeyOf: func(n int) string { return fmt.Sprintf("person-%d@example.com", n) },
		Text: "note", Number: "score",
	}}
}

// Records are the object's; a key of one column is its value, one of several a JSON object.
func (r *receiver) Records(object, _ string) standin.Records {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := standin.Records{}
	for key, fields := range r.objects[object] {
		out[key] = fields
	}
	return out
}

func (r *receiver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.objects, r.applied = map[string]standin.Records{}, map[string]int{}
}

func (r *receiver) state() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	objects := map[string]any{}
	for name, records := range r.objects {
		copied := standin.Records{}
		for key, fields := range records {
			copied[key] = fields
		}
		objects[name] = map[string]any{"count": len(records), "records": copied}
	}
	applied := map[string]int{}
	for operation, n := range r.applied {
		applied[operation] = n
	}
	return map[string]any{"objects": objects, "applied": applied}
}

// delivery is the body of a request.
type delivery struct {
	Sync    *string  `json:"sync"`
	RunID   *string  `json:"run_id"`
	Object  *string  `json:"object"`
	Changes []change `json:"changes"`
}

type change struct {
	Operation string         `json:"operation"`
	Key       map[string]any `json:"key"`
	Fields    map[string]any `json:"fields"`
	DedupeID  *string        `json:"dedupe_id"`
}

type result struct {
	Status  string `json:"status"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

func (r *receiver) takeSigned(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if err := verify(req.Header, body, time.Now()); err != nil {
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	r.take(w, req)
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, req.Method) {
		refuse(w, http.StatusMethodNotAllowed, "POST, PUT or PATCH")
		return
	}
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "Content-Type is not application/json")
		return
	}
	d, err := read(req.Body)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	for _, c := range d.Changes {
		if r.core.BadBatch(c.text()) {
			refuse(w, http.StatusUnprocessableEntity, "a change is not valid")
			return
		}
	}
	results, rejected := r.apply(d)
	switch {
	case r.core.Omits(req):
		standin.WriteJSON(w, http.StatusOK, map[string]any{"results": results[:len(results)-1]})
	case rejected:
		standin.WriteJSON(w, http.StatusOK, map[string]any{"results": results})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// read is strict: unknown, missing and doubled things are refused.
func read(body io.Reader) (delivery, error) {
	var d delivery
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(&d); err != nil {
		return d, fmt.Errorf("the body is not a delivery: %w", err)
	}
	if dec.More() {
		return d, errors.New("something follows the delivery")
	}
	if d.Sync == nil || d.RunID == nil || d.Object == nil || *d.Sync == "" || *d.RunID == "" || *d.Object == "" || len(d.Changes) == 0 {
		return d, errors.New("sync, run_id, object or changes are missing")
	}
	seen := map[string]bool{}
	for i, c := range d.Changes {
		if !slices.Contains([]string{"add", "update", "remove"}, c.Operation) {
			return d, fmt.Errorf("change %d: there is no such operation", i)
		}
		if len(c.Key) == 0 || c.Fields == nil || c.DedupeID == nil || *c.DedupeID == "" {
			return d, fmt.Errorf("change %d: key, fields or dedupe_id are missing", i)
		}
		if seen[c.key()] {
			return d, fmt.Errorf("change %d: its key comes twice", i)
		}
		seen[c.key()] = true
	}
	return d, nil
}

// apply makes the changes; repeating one changes nothing.
func (r *receiver) apply(d delivery) (results []result, rejected bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := r.objects[*d.Object]
	if records == nil {
		records = standin.Records{}
		r.objects[*d.Object] = records
	}
	for _, c := range d.Changes {
		if r.core.Bad(c.text()) {
			results = append(results, result{Status: "rejected", Code: "refused", Message: "the receiver does not take this row"})
			rejected = true
			continue
		}
		if c.Operation == "remove" {
			delete(records, c.key())
		} else {
			records[c.key()] = c.Fields
		}
		r.applied[c.Operation]++
		results = append(results, result{Status: "delivered"})
	}
	return results, rejected
}

func (c *change) key() string {
	if len(c.Key) == 1 {
		for _, v := range c.Key {
			if s, ok := v.(string); ok {
				return s
			}
		}
	}
	b, err := json.Marshal(c.Key)
	if err != nil {
		return ""
	}
	return string(b)
}

// text is what bad rows are told by.
func (c *change) text() string {
	b, err := json.Marshal([]any{c.Key, c.Fields})
	if err != nil {
		return ""
	}
	return string(b)
}

// verify checks a Standard Webhooks signature (standardwebhooks.com, symmetric scheme v1).
func verify(h http.Header, body []byte, now time.Time) error {
	id, stamp, signatures := h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil || signatures == "" {
		return errors.New("the request is not signed")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > maxSkew || age < -maxSkew {
		return errors.New("the signature is too old, or of the future")
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(Secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, signature := range strings.Fields(signatures) {
		if version, value, _ := strings.Cut(signature, ","); version == "v1" && hmac.Equal([]byte(value), []byte(want)) {
			return nil
		}
	}
	return errors.New("the signature is wrong")
}

func refuse(w http.ResponseWriter, status int, message string) {
	standin.WriteJSON(w, status, map[string]string{"message": message})
}
