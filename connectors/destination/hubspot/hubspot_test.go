package hubspot_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/hubspot"
	"github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

func open(t *testing.T, base string, transport http.RoundTripper) destination.Destination {
	t.Helper()
	client := httpx.New(httpx.Options{Transport: transport, Timeout: time.Second, MinWait: time.Millisecond, Retries: 1})
	t.Cleanup(client.Close)
	d, err := hubspot.Connector{}.Open(t.Context(), destination.Config{"access_token": "tok-1", "base_url": base}, destination.Env{HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// answers serves the same answer to every request and keeps the last body.
func answers(t *testing.T, status int, header map[string]string, body string) (destination.Destination, *string) {
	t.Helper()
	var last string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		last = r.Method + " " + r.URL.Path + " " + string(b)
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return open(t, s.URL, nil), &last
}

func adds(n int) []destination.Change {
	var out []destination.Change
	for i := range n {
		out = append(out, destination.Change{
			Operation: destination.OpAdd, Key: []any{fmt.Sprintf("person-%d@example.com", i)}, Fields: []any{"Boss", int64(i)}, DedupeID: fmt.Sprint(i),
		})
	}
	return out
}

func batch(mode destination.Mode, changes ...destination.Change) *destination.Batch {
	return &destination.Batch{
		Run: destination.Run{ID: "r1", Sync: "s", Mode: mode}, Object: "contacts",
		Schema: &destination.Schema{
			Key:    []destination.Column{{Name: "email"}},
			Fields: []destination.Column{{Name: "jobtitle"}, {Name: "annualrevenue", Kind: warehouse.Int}},
		},
		Changes: changes,
	}
}

func membership(list string, op destination.Operation, ids ...string) *destination.Batch {
	b := &destination.Batch{
		Object: "list_members", Container: list, Schema: &destination.Schema{Key: []destination.Column{{Name: "email"}}},
	}
	for i, id := range ids {
		b.Changes = append(b.Changes, destination.Change{
			Operation: op, Remove: map[destination.Operation]string{destination.OpRemove: "delete"}[op],
			Key: []any{fmt.Sprintf("person-%d@example.com", i)}, RemoteID: id,
		})
	}
	return b
}

func write(t *testing.T, d destination.Destination, b *destination.Batch) []destination.Outcome {
	t.Helper()
	outcomes, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// What leaves for each operation, mode and removal.
func TestRequests(t *testing.T) {
	t.Parallel()
	one := func(c destination.Change) destination.Change {
		c.Key = []any{"A@x.dk"}
		if c.Fields == nil {
			c.Fields = []any{"Boss", int64(7)}
		}
		return c
	}
	const path = "POST /crm/v3/objects/contacts/batch/"
	tests := []struct {
		name   string
		mode   destination.Mode
		change destination.Change
		want   string
	}{
		{
			"an add", destination.Upsert, one(destination.Change{Operation: destination.OpAdd}),
			path + `upsert {"inputs":[{"id":"A@x.dk","idProperty":"email","objectWriteTraceId":"row-0","properties":{"email":"A@x.dk","jobtitle":"Boss","annualrevenue":"7"}}]}`,
		},
		{
			"an update of one field", destination.Mirror, one(destination.Change{Operation: destination.OpUpdate, Send: []bool{false, true}, RemoteID: "901"}),
			path + `update {"inputs":[{"id":"901","objectWriteTraceId":"row-0","properties":{"annualrevenue":"7"}}]}`,
		},
		{
			"without a record id", destination.Upsert, one(destination.Change{Operation: destination.OpUpdate, Send: []bool{false, true}}),
			path + `update {"inputs":[{"id":"A@x.dk","idProperty":"email","objectWriteTraceId":"row-0","properties":{"annualrevenue":"7"}}]}`,
		},
		{
			"an update of everything may create", destination.Upsert, one(destination.Change{Operation: destination.OpUpdate, RemoteID: "901"}),
			path + `upsert {"inputs":[{"id":"A@x.dk","idProperty":"email","objectWriteTraceId":"row-0","properties":{"email":"A@x.dk","jobtitle":"Boss","annualrevenue":"7"}}]}`,
		},
		{
			"mode update never creates", destination.Update, one(destination.Change{Operation: destination.OpUpdate}),
			path + `update {"inputs":[{"id":"A@x.dk","idProperty":"email","objectWriteTraceId":"row-0","properties":{"jobtitle":"Boss","annualrevenue":"7"}}]}`,
		},
		{
			"mode insert", destination.Insert, one(destination.Change{Operation: destination.OpAdd, Fields: []any{nil, nil}}),
			path + `create {"inputs":[{"associations":[],"objectWriteTraceId":"row-0","properties":{"email":"A@x.dk","jobtitle":"","annualrevenue":""}}]}`,
		},
		{
			"a rekey", destination.Upsert,
			one(destination.Change{Operation: destination.OpRekey, OldKey: []any{"old@x.dk"}, RemoteID: "901", Send: []bool{false, false}}),
			path + `update {"inputs":[{"id":"901","objectWriteTraceId":"row-0","properties":{"email":"A@x.dk"}}]}`,
		},
		{
			"a rekey without a record id", destination.Upsert,
			one(destination.Change{Operation: destination.OpRekey, OldKey: []any{"old@x.dk"}, Send: []bool{true, false}}),
			path + `update {"inputs":[{"id":"old@x.dk","idProperty":"email","objectWriteTraceId":"row-0","properties":{"email":"A@x.dk","jobtitle":"Boss"}}]}`,
		},
		{
			"clear", destination.Mirror, one(destination.Change{Operation: destination.OpRemove, Remove: "clear", RemoteID: "901"}),
			path + `update {"inputs":[{"id":"901","objectWriteTraceId":"row-0","properties":{"jobtitle":"","annualrevenue":""}}]}`,
		},
		{
			"set", destination.Mirror, one(destination.Change{Operation: destination.OpRemove, Remove: "set", RemoteID: "901", Send: []bool{true, false}, Fields: []any{"left", nil}}),
			path + `update {"inputs":[{"id":"901","objectWriteTraceId":"row-0","properties":{"jobtitle":"left"}}]}`,
		},
		{
			"delete", destination.Mirror, one(destination.Change{Operation: destination.OpRemove, Remove: "delete", RemoteID: "901"}),
			path + `archive {"inputs":[{"id":"901"}]}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, last := answers(t, http.StatusOK, nil, `{"status":"COMPLETE","results":[]}`)
			write(t, d, batch(test.mode, test.change))
			if diff := cmp.Diff(test.want, *last); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// Which answers mean what, row by row.
func TestAnswers(t *testing.T) {
	t.Parallel()
	type row struct {
		class  destination.Class
		code   string
		id     string
		origin destination.Origin
	}
	unknown := func(code string) row { return row{class: destination.Unknown, code: code} }
	tests := []struct {
		name   string
		status int
		body   string
		want   [3]row
	}{
		{
			"in another order", 200,
			`{"status":"COMPLETE","results":[{"id":"3","new":false,"objectWriteTraceId":"row-2"},{"id":"1","new":true,"objectWriteTraceId":"row-0"},{"id":"2","objectWriteTraceId":"row-1"}]}`,
			[3]row{{destination.Delivered, "", "1", destination.Created}, {destination.Delivered, "", "2", ""}, {destination.Delivered, "", "3", destination.Matched}},
		},
		{
			"partly", 207,
			`{"status":"COMPLETE","numErrors":2,"results":[{"id":"1","new":true,"objectWriteTraceId":"row-0"}],"errors":[` +
				`{"status":"error","category":"VALIDATION_ERROR","message":"m","context":{"objectWriteTraceId":["row-1"]}},` +
				`{"status":"404","category":"OBJECT_NOT_FOUND","message":"m","context":{"objectWriteTraceId":["row-2"]}}]}`,
			[3]row{{destination.Delivered, "", "1", destination.Created}, {class: destination.Rejected, code: "VALIDATION_ERROR"}, {class: destination.NotFound, code: "OBJECT_NOT_FOUND"}},
		},
		{
			"errors in a 200, one for two rows", 200,
			`{"status":"COMPLETE","results":[{"id":"2","new":false,"objectWriteTraceId":"row-1"}],"errors":[{"category":"CONFLICT","message":"m","context":{"objectWriteTraceId":["row-0","row-2"]}}]}`,
			[3]row{{class: destination.Rejected, code: "CONFLICT"}, {destination.Delivered, "", "2", destination.Matched}, {class: destination.Rejected, code: "CONFLICT"}},
		},
		{
			"errors that name ids", 207,
			`{"status":"COMPLETE","results":[],"errors":[{"category":"OBJECT_NOT_FOUND","message":"m","context":{"ids":["person-1@example.com"]}}]}`,
			[3]row{unknown("not_mentioned"), {class: destination.NotFound, code: "OBJECT_NOT_FOUND"}, unknown("not_mentioned")},
		},
		{
			"a row not mentioned", 200, `{"status":"COMPLETE","results":[{"id":"1","new":false,"objectWriteTraceId":"row-0"},{"id":"9","objectWriteTraceId":"row-9"}]}`,
			[3]row{{destination.Delivered, "", "1", destination.Matched}, unknown("not_mentioned"), unknown("not_mentioned")},
		},
		{
			"a row mentioned twice", 207,
			`{"status":"COMPLETE","results":[{"id":"1","objectWriteTraceId":"row-0"}],"errors":[{"category":"X","message":"m","context":{"objectWriteTraceId":["row-0"]}}]}`,
			[3]row{unknown("contradiction"), unknown("not_mentioned"), unknown("not_mentioned")},
		},
		{
			"not complete", 200, `{"status":"PROCESSING","results":[{"id":"1","objectWriteTraceId":"row-0"}]}`,
			[3]row{unknown("status_PROCESSING"), unknown("status_PROCESSING"), unknown("status_PROCESSING")},
		},
		{"nothing in it", 200, `{"status":"COMPLETE","results":[],"errors":[]}`, [3]row{unknown("not_mentioned"), unknown("not_mentioned"), unknown("not_mentioned")}},
		{"no JSON", 200, `<html>`, [3]row{unknown("answer_unreadable"), unknown("answer_unreadable"), unknown("answer_unreadable")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, _ := answers(t, test.status, nil, test.body)
			for i, o := range write(t, d, batch(destination.Upsert, adds(3)...)) {
				if got := (row{o.Class, o.Code, o.RemoteID, o.Origin}); got != test.want[i] {
					t.Errorf("row %d is %+v, want %+v", i, got, test.want[i])
				}
			}
		})
	}
}

// Which refusals mean what for the batch.
func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		header map[string]string
		body   string
		class  destination.Class
		code   string
		after  time.Duration
	}{
		{400, nil, `{"category":"VALIDATION_ERROR","message":"m"}`, destination.Split, "VALIDATION_ERROR", 0},
		{
			400, nil, `{"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"nosuch\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"nosuch\"}]"}`,
			destination.Stop, "PROPERTY_DOESNT_EXIST", 0,
		},
		{401, nil, `{"category":"INVALID_AUTHENTICATION","message":"m"}`, destination.Stop, "INVALID_AUTHENTICATION", 0},
		{403, nil, `{"category":"MISSING_SCOPES","message":"m"}`, destination.Stop, "MISSING_SCOPES", 0},
		{404, nil, ``, destination.Split, "OBJECT_NOT_FOUND", 0},
		{409, nil, `{"category":"CONFLICT","message":"m"}`, destination.Split, "CONFLICT", 0},
		{423, nil, ``, destination.Retry, "http_423", 0},
		{477, map[string]string{"Retry-After": "60"}, ``, destination.Retry, "http_477", time.Minute},
		{429, map[string]string{"X-HubSpot-RateLimit-Interval-Milliseconds": "10000"}, `{"policyName":"TEN_SECONDLY_ROLLING","category":"RATE_LIMITS","message":"m"}`, destination.Retry, "RATE_LIMITS", 10 * time.Second},
		{429, map[string]string{"X-HubSpot-RateLimit-Interval-Milliseconds": "10000"}, `{"policyName":"DAILY","category":"RATE_LIMITS","message":"m"}`, destination.Stop, "RATE_LIMITS", 0},
		{500, nil, `oops`, destination.Unknown, "http_500", 0},
	}
	for _, test := range tests {
		d, _ := answers(t, test.status, test.header, test.body)
		_, err := d.Write(t.Context(), batch(destination.Upsert, adds(2)...))
		var e *destination.Error
		if !errors.As(err, &e) || e.Class != test.class || e.Code != test.code || e.RetryAfter != test.after {
			t.Errorf("%d %s: %+v", test.status, test.body, e)
		}
	}
	d, _ := answers(t, 404, nil, ``)
	if o := write(t, d, batch(destination.Update, destination.Change{Operation: destination.OpUpdate, Key: []any{"a"}, Fields: []any{"x", nil}})); o[0].Class != destination.NotFound {
		t.Errorf("a single row answered with 404 is %s", o[0].Class)
	}
}

// A contact that somebody deleted in HubSpot comes back whole or not at all.
func TestUpdateOfADeletedContact(t *testing.T) {
	t.Parallel()
	in := standin.New()
	s := httptest.NewServer(in.Handler())
	t.Cleanup(s.Close)
	d := open(t, s.URL, nil)
	write(t, d, batch(destination.Upsert, adds(1)...))
	changes := adds(3)
	for i := range changes {
		changes[i].Operation = destination.OpUpdate
	}
	changes[0].Send = []bool{true, false} // exists
	changes[1].Send = []bool{true, false} // does not, and has one field only
	outcomes := write(t, d, batch(destination.Upsert, changes...))
	for i, want := range []destination.Class{destination.Delivered, destination.NotFound, destination.Delivered} {
		if outcomes[i].Class != want {
			t.Errorf("row %d is %s, want %s", i, outcomes[i].Class, want)
		}
	}
	records := in.Records("contacts", "")
	if len(records) != 2 || records["person-2@example.com"]["annualrevenue"] != "2" {
		t.Errorf("there are %v", records)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 23, 30, 0, 123_456_000, time.FixedZone("", -3600))
	tests := []struct {
		v    any
		kind warehouse.Kind
		want string
	}{
		{nil, warehouse.Text, ""},
		{"æ", warehouse.Text, "æ"},
		{true, warehouse.Bool, "true"},
		{false, warehouse.Bool, "false"},
		{int64(-5), warehouse.Int, "-5"},
		{1e21, warehouse.Float, "1000000000000000000000"},
		{0.1, warehouse.Float, "0.1"},
		{"12.50", warehouse.Decimal, "12.50"},
		{time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC), warehouse.Date, "2026-02-03"},
		{at, warehouse.Timestamp, "2026-02-04T00:30:00.123Z"},
		{`["a","b;c",3,true]`, warehouse.JSON, "a;b;c;3;true"},
		{`[]`, warehouse.JSON, ""},
		{`[["a"]]`, warehouse.JSON, `[["a"]]`},
		{`{"a":1}`, warehouse.JSON, `{"a":1}`},
		{`null`, warehouse.JSON, `null`},
	}
	for _, test := range tests {
		d, last := answers(t, 200, nil, `{"status":"COMPLETE","results":[]}`)
		b := batch(destination.Upsert, destination.Change{Operation: destination.OpAdd, Key: []any{"a"}, Fields: []any{test.v}})
		b.Schema.Fields = []destination.Column{{Name: "f", Kind: test.kind}}
		write(t, d, b)
		_, body, _ := strings.Cut(*last, "upsert ")
		var sent struct {
			Inputs []struct{ Properties map[string]string }
		}
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			t.Fatal(err)
		}
		if got := sent.Inputs[0].Properties["f"]; got != test.want {
			t.Errorf("%v: got %q, want %q", test.v, got, test.want)
		}
	}
}

func TestAccountAndFields(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(standin.New().Handler())
	t.Cleanup(s.Close)
	d := open(t, s.URL, nil)
	account, err := d.Check(t.Context())
	if err != nil || account.ID != fmt.Sprint(standin.PortalID) {
		t.Errorf("account %+v, %v", account, err)
	}
	fields, err := d.(destination.FieldLister).Fields(t.Context(), "contacts", nil)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]destination.Field{}
	for _, f := range fields {
		byName[f.Name] = f
	}
	if !byName["createdate"].ReadOnly || byName["city"].ReadOnly || len(byName["annualrevenue"].Kinds) == 0 || byName["city"].Kinds != nil {
		t.Errorf("fields are %+v", byName)
	}
}

func TestContainers(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(standin.New().Handler())
	t.Cleanup(s.Close)
	d := open(t, s.URL, nil).(destination.Containers)
	find := func(options destination.Config) (string, error) {
		return d.Container(t.Context(), "list_members", options)
	}
	made, err := find(destination.Config{"list": "VIPs/æ ?", "create": true})
	if err != nil || made == "" {
		t.Fatalf("made %q, %v", made, err)
	}
	for _, options := range []destination.Config{{"list": "vips/æ ?"}, {"list": "VIPs/æ ?", "create": true}, {"list_id": made}} {
		if again, err := find(options); err != nil || again != made {
			t.Errorf("%v: found %q, %v; want %q", options, again, err, made)
		}
	}
	for want, options := range map[string]destination.Config{
		"there is no list with the name Nobody": {"list": "Nobody"},
		"there is no list with the id 7":        {"list_id": "7", "create": true},
		"is DYNAMIC":                            {"list": "All contacts"},
		"either options.list or options.list":   {},
		"needs either options.list":             {"list": "a", "list_id": "1"},
	} {
		_, err := find(options)
		var e *diag.Error
		if !errors.As(err, &e) || e.Kind != diag.Invalid || !strings.Contains(e.Msg, want) || e.Hint == "" {
			t.Errorf("%v: got %v, want %q", options, err, want)
		}
	}
}

func TestMembershipAnswers(t *testing.T) {
	t.Parallel()
	const D, N, U = destination.Delivered, destination.NotFound, destination.Unknown
	tests := []struct {
		name, body string
		op         destination.Operation
		want       [2]destination.Class
	}{
		{"added", `{"recordsIdsAdded":["2","1"],"recordIdsRemoved":[],"recordIdsMissing":[]}`, destination.OpAdd, [2]destination.Class{D, D}},
		{"added, in the other spelling", `{"recordIdsAdded":["1"],"recordIdsRemoved":[],"recordIdsMissing":["2"]}`, destination.OpAdd, [2]destination.Class{D, N}},
		{"added, one not mentioned", `{"recordsIdsAdded":["1"],"recordIdsRemoved":[],"recordIdsMissing":[]}`, destination.OpAdd, [2]destination.Class{D, U}},
		{"removed", `{"recordsIdsAdded":[],"recordIdsRemoved":["1"],"recordIdsMissing":[]}`, destination.OpRemove, [2]destination.Class{D, D}},
		{"removed, one missing", `{"recordsIdsAdded":[],"recordIdsRemoved":["1"],"recordIdsMissing":["2"]}`, destination.OpRemove, [2]destination.Class{D, N}},
		{"nothing in it", `{}`, destination.OpAdd, [2]destination.Class{U, U}},
		{"no JSON", `ok`, destination.OpRemove, [2]destination.Class{U, U}},
	}
	for _, test := range tests {
		d, _ := answers(t, 200, nil, test.body)
		for i, o := range write(t, d, membership("12", test.op, "1", "2")) {
			if o.Class != test.want[i] {
				t.Errorf("%s: row %d is %s (%s), want %s", test.name, i, o.Class, o.Code, test.want[i])
			}
		}
	}
	d, last := answers(t, 404, nil, ``)
	_, err := d.Write(t.Context(), membership("12", destination.OpAdd, "1"))
	var e *destination.Error
	if !errors.As(err, &e) || e.Class != destination.Stop || e.Code != "list_not_found" {
		t.Errorf("a list that is gone: %v", err)
	}
	if want := `PUT /crm/v3/lists/12/memberships/add ["1"]`; *last != want {
		t.Errorf("sent %s, want %s", *last, want)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for _, cfg := range []destination.Config{
		{}, {"access_token": "s3cret s3cret"}, {"access_token": "s3cret", "base_url": "ftp://s3cret"}, {"access_token": "s3cret", "base_url": "https://x/?s3cret"},
	} {
		_, err := hubspot.Connector{}.Open(t.Context(), cfg, destination.Env{})
		var e *diag.Error
		if !errors.As(err, &e) || e.Kind != diag.Invalid || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	d, _ := answers(t, 200, nil, `{}`)
	b := batch(destination.Upsert, adds(1)...)
	b.Schema.Key = []destination.Column{{Name: "hs_object_id"}}
	two := batch(destination.Upsert, adds(1)...)
	two.Schema.Key = append(two.Schema.Key, destination.Column{Name: "shop"})
	for _, b := range []*destination.Batch{b, two} {
		_, err := d.Write(t.Context(), b)
		var e *destination.Error
		if !errors.As(err, &e) || e.Class != destination.Stop || e.Hint == "" {
			t.Errorf("got %v", err)
		}
	}
}

// A proxy may let only the CRM's paths through: the token is proved all the same, and a wrong one is found out.
func TestCheckWithoutAccountDetails(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method+" "+r.URL.RequestURI() != "GET /crm/v3/objects/contacts?limit=1" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"results":[]}`)
	}))
	t.Cleanup(s.Close)
	d := open(t, s.URL, nil)
	host := strings.TrimPrefix(s.URL, "http://")
	if account, err := d.Check(t.Context()); err != nil || account.ID != host {
		t.Errorf("the account is %+v, %v; want %s", account, err, host)
	}
	status = http.StatusUnauthorized
	if account, err := d.Check(t.Context()); err == nil || destination.FromHTTP(err).Class != destination.Stop {
		t.Errorf("with a wrong token the account is %+v, %v", account, err)
	}
}
