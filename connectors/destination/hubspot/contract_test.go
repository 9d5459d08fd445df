package hubspot_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/hubspot/standin"
)

// contracts is where HubSpot's OpenAPI descriptions lie: beside the repository, as they may not be copied into it.
func contracts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("DRAY_CONTRACTS")
	if dir == "" {
		dir = "../../../../shared/contracts"
	}
	dir = filepath.Join(dir, "hubspot")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("HubSpot's OpenAPI descriptions are not here: set DRAY_CONTRACTS to the folder that holds hubspot/contacts.json")
	}
	return dir
}

// Every request of the connector, and every answer of the stand-in, is valid by HubSpot's own descriptions.
func TestContract(t *testing.T) {
	t.Parallel()
	v := newValidator(t, contracts(t))
	in := standin.New()
	server := httptest.NewServer(in.Handler())
	t.Cleanup(server.Close)
	d := open(t, server.URL, v)

	if _, err := d.(destination.FieldLister).Fields(t.Context(), "contacts", nil); err != nil {
		t.Fatal(err)
	}
	add := batch(destination.Upsert, adds(3)...)
	outcomes := write(t, d, add)
	ids := []string{outcomes[0].RemoteID, outcomes[1].RemoteID, outcomes[2].RemoteID}
	update := adds(3)
	for i := range update {
		update[i].Operation, update[i].Send, update[i].RemoteID = destination.OpUpdate, []bool{true, false}, ids[i]
	}
	update[2].RemoteID = ""
	write(t, d, batch(destination.Upsert, update...))
	missing := destination.Change{
		Operation: destination.OpUpdate, Key: []any{"nobody@example.com"}, Fields: []any{"x", int64(1)}, Send: []bool{true, false},
	}
	write(t, d, batch(destination.Update, missing))
	rekey := destination.Change{
		Operation: destination.OpRekey, Key: []any{"new@example.com"}, OldKey: []any{"person-0@example.com"}, RemoteID: ids[0],
		Fields: []any{"x", int64(1)},
	}
	write(t, d, batch(destination.Upsert, rekey))
	bad := adds(2)
	bad[0].Key[0], bad[0].Fields[1] = "no address", nil
	write(t, d, batch(destination.Upsert, bad...))
	write(t, d, batch(destination.Insert, destination.Change{Operation: destination.OpAdd, Key: []any{"insert@example.com"}, Fields: []any{nil, nil}}))
	members(t, d, ids)
	for _, act := range []string{"clear", "set", "delete"} {
		c := destination.Change{Operation: destination.OpRemove, Remove: act, Key: []any{"person-1@example.com"}, Fields: []any{"left", nil}}
		write(t, d, batch(destination.Mirror, c))
	}
	if v.checked() < 15 {
		t.Errorf("only %d exchanges were checked", v.checked())
	}
}

func members(t *testing.T, d destination.Destination, ids []string) {
	t.Helper()
	options := destination.Config{"list": "VIPs & friends æ", "create": true}
	list, err := d.(destination.Containers).Container(t.Context(), "list_members", options)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time all are members already, and HubSpot is asked
		write(t, d, membership(list, destination.OpAdd, ids...))
	}
	write(t, d, membership(list, destination.OpRemove, ids[0], "9999"))
}

// validator is a transport that holds each exchange against the descriptions.
type validator struct {
	t       *testing.T
	routers []routers.Router

	mu sync.Mutex
	n  int
}

func newValidator(t *testing.T, dir string) *validator {
	t.Helper()
	v := &validator{t: t}
	for _, name := range []string{"contacts.json", "lists.json", "properties.json"} {
		doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		doc.Servers = nil // any host: the stand-in's
		router, err := legacy.NewRouter(doc, openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation(), openapi3.DisableSchemaPatternValidation())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v.routers = append(v.routers, router)
	}
	return v
}

func (v *validator) checked() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.n
}

func (v *validator) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/account-info/") {
		return http.DefaultTransport.RoundTrip(r) // not among the descriptions
	}
	body := []byte{}
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	input := v.request(r, body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || input == nil {
		return resp, err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	v.response(input, resp, answer)
	return resp, err
}

func (v *validator) request(r *http.Request, body []byte) *openapi3filter.RequestValidationInput {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n++
	for _, router := range v.routers {
		route, params, err := router.FindRoute(r)
		if err != nil {
			continue
		}
		copied := r.Clone(r.Context())
		copied.Body = io.NopCloser(bytes.NewReader(body))
		input := &openapi3filter.RequestValidationInput{
			Request: copied, PathParams: params, Route: route,
			Options: &openapi3filter.Options{AuthenticationFunc: bearer, IncludeResponseStatus: true},
		}
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			v.t.Errorf("%s %s with %s: %v", r.Method, r.URL.Path, body, err)
		}
		return input
	}
	v.t.Errorf("%s %s is in none of the descriptions", r.Method, r.URL.Path)
	return nil
}

func (v *validator) response(input *openapi3filter.RequestValidationInput, resp *http.Response, body []byte) {
	if resp.StatusCode >= 400 {
		return // Error is described for */*, which the validator does not read
	}
	out := (&openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Options: input.Options,
	}).SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		v.t.Errorf("the stand-in's answer to %s %s: %v", input.Request.Method, input.Request.URL.Path, err)
	}
}

func bearer(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if !strings.HasPrefix(in.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ") {
		return openapi3filter.ErrAuthenticationServiceMissing
	}
	return nil
}
