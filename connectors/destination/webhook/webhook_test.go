package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/webhook"
	"github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

func open(t testing.TB, cfg destination.Config) destination.Destination {
	t.Helper()
	client := httpx.New(httpx.Options{Timeout: time.Second})
	t.Cleanup(client.Close)
	d, err := webhook.Connector{}.Open(t.Context(), cfg, destination.Env{HTTP: client, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rows(n int) *destination.Batch {
	b := &destination.Batch{
		Run: destination.Run{ID: "r1", Sync: "s"}, Object: "people",
		Schema: &destination.Schema{
			Key:    []destination.Column{{Name: "id", Kind: warehouse.Int}},
			Fields: []destination.Column{{Name: "score", Kind: warehouse.Float}},
		},
	}
	for i := range n {
		b.Changes = append(b.Changes, destination.Change{
			Operation: destination.OpAdd, Key: []any{int64(i)}, Fields: []any{float64(i) / 2}, DedupeID: fmt.Sprint("d", i),
		})
	}
	return b
}

func TestBody(t *testing.T) {
	t.Parallel()
	var got string
	var header http.Header
	var method string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, header, method = string(b), r.Header, r.Method
	}))
	t.Cleanup(s.Close)
	d := open(t, destination.Config{
		"url": s.URL + "/in?tenant=7", "method": "PUT", "headers": map[string]string{"Authorization": "Bearer x", "X-Team": "growth"},
	})
	b := rows(2)
	b.Changes[1].Operation = destination.OpRemove
	b.Changes[1].Fields = nil
	if _, err := d.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	want := `{"sync":"s","run_id":"r1","object":"people","changes":[` +
		`{"operation":"add","key":{"id":0},"fields":{"score":0},"dedupe_id":"d0"},` +
		`{"operation":"remove","key":{"id":1},"fields":{},"dedupe_id":"d1"}]}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if method != "PUT" || header.Get("Authorization") != "Bearer x" || header.Get("X-Team") != "growth" ||
		header.Get("Content-Type") != "application/json" || header.Get("Webhook-Id") != "" {
		t.Errorf("%s with %v", method, header)
	}
}

// What Sizes says is what Write sends, but for the comma that the first change does not need.
func TestSizes(t *testing.T) {
	t.Parallel()
	var got int
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = len(b)
	}))
	t.Cleanup(s.Close)
	d := open(t, destination.Config{"url": s.URL})
	b := rows(5)
	b.Changes[1].JSON, b.Changes[1].Key, b.Changes[1].Fields = []byte(`"key":{"id":1},"fields":{"score":"ære"}`), nil, nil
	b.Changes[3].Fields[0] = math.NaN() // is not sent
	base, each := d.(destination.Sizer).Sizes(b)
	want := base - 1
	for i, n := range each {
		want += n
		if (n == 0) != (i == 3) {
			t.Errorf("row %d has %d bytes", i, n)
		}
	}
	if _, err := d.Write(t.Context(), b); err != nil || got != want {
		t.Errorf("%v: a body of %d bytes, told as %d", err, got, want)
	}
}

// Which 2xx answers mean what.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const D, R, U = destination.Delivered, destination.Rejected, destination.Unknown
	tests := []struct {
		name, kind, body string
		want             [3]destination.Class
	}{
		{"no body", "", "", [3]destination.Class{D, D, D}},
		{"blanks", "", " \n", [3]destination.Class{D, D, D}},
		{"text", "text/plain", "thanks", [3]destination.Class{D, D, D}},
		{"a page", "text/html", "<html>", [3]destination.Class{D, D, D}},
		{"other JSON", "application/json", `{"ok":true}`, [3]destination.Class{D, D, D}},
		{"a JSON list", "application/json", `[{"status":"rejected"}]`, [3]destination.Class{D, D, D}},
		{"results that are null", "application/json", `{"results":null}`, [3]destination.Class{D, D, D}},
		{
			"one rejected", "application/json",
			`{"results":[{"status":"delivered"},{"status":"rejected","code":"bad","message":"no"},{"status":"delivered"}]}`,
			[3]destination.Class{D, R, D},
		},
		{"without a content type", "", `{"results":[{"status":"rejected"},{"status":"delivered"},{"status":"delivered"}]}`, [3]destination.Class{R, D, D}},
		{"more than asked for beside", "application/json", `{"x":1,"results":[{"status":"delivered","id":7},{"status":"rejected","code":422},{"status":"delivered"}]}`, [3]destination.Class{D, R, D}},
		{"too few", "application/json", `{"results":[{"status":"delivered"},{"status":"rejected"}]}`, [3]destination.Class{D, R, U}},
		{"none", "application/json", `{"results":[]}`, [3]destination.Class{U, U, U}},
		{"too many", "application/json", `{"results":[{"status":"delivered"},{"status":"delivered"},{"status":"delivered"},{"status":"delivered"}]}`, [3]destination.Class{U, U, U}},
		{"another status", "application/json", `{"results":[{"status":"queued"},{"status":"delivered"},{}]}`, [3]destination.Class{U, D, U}},
		{"entries that are no objects", "application/json", `{"results":["delivered",1,null]}`, [3]destination.Class{U, U, U}},
		{"results that are no list", "application/json", `{"results":"ok"}`, [3]destination.Class{U, U, U}},
		{"cut off", "", `{"results":[{"status":"delivered"},{"sta`, [3]destination.Class{U, U, U}},
		{"cut off early", "application/json", `{"re`, [3]destination.Class{U, U, U}},
		{"braces, but no JSON", "text/plain", `{thanks}`, [3]destination.Class{D, D, D}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.kind != "" {
					w.Header().Set("Content-Type", test.kind)
				}
				_, _ = io.WriteString(w, test.body)
			}))
			t.Cleanup(s.Close)
			outcomes, err := open(t, destination.Config{"url": s.URL}).Write(t.Context(), rows(3))
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range outcomes {
				if o.Class != test.want[i] {
					t.Errorf("row %d is %s (%s), want %s", i, o.Class, o.Code, test.want[i])
				}
			}
		})
	}
}

func TestRejectionSaysWhy(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"results":[{"status":"rejected","code":"too_old","message":"over a year"},{"status":"rejected","code":17}]}`)
	}))
	t.Cleanup(s.Close)
	got, err := open(t, destination.Config{"url": s.URL}).Write(t.Context(), rows(2))
	if err != nil {
		t.Fatal(err)
	}
	want := []destination.Outcome{
		{Class: destination.Rejected, Code: "too_old", Message: "over a year"}, {Class: destination.Rejected, Code: "17"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// A row that JSON cannot carry is rejected by itself; where none can be carried nothing is sent.
func TestRowsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	var bodies []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
	}))
	t.Cleanup(s.Close)
	d := open(t, destination.Config{"url": s.URL})
	b := rows(3)
	b.Changes[0].Fields[0], b.Changes[2].Fields[0] = math.NaN(), math.Inf(1)
	outcomes, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []destination.Class{destination.Rejected, destination.Delivered, destination.Rejected} {
		if outcomes[i].Class != want {
			t.Errorf("row %d is %s, want %s", i, outcomes[i].Class, want)
		}
	}
	var sent struct{ Changes []json.RawMessage }
	if len(bodies) != 1 || json.Unmarshal([]byte(bodies[0]), &sent) != nil || len(sent.Changes) != 1 {
		t.Errorf("sent %q", bodies)
	}
	b.Changes[1].Fields[0] = math.NaN()
	if _, err := d.Write(t.Context(), b); err != nil || len(bodies) != 1 {
		t.Errorf("nothing could be sent: %v, %d requests", err, len(bodies))
	}
}

// The stand-in verifies signatures with code of its own; a batch that is sent again has the same id.
func TestSignature(t *testing.T) {
	t.Parallel()
	in := standin.New()
	s := httptest.NewServer(in.Handler())
	t.Cleanup(s.Close)
	for _, secret := range []string{standin.Secret, strings.TrimPrefix(standin.Secret, "whsec_")} {
		d := open(t, destination.Config{"url": s.URL + "/signed", "signing_secret": secret})
		for range 2 {
			if _, err := d.Write(t.Context(), rows(2)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids := map[string]bool{}
	for _, r := range in.Core().Requests() {
		ids[r.Header.Get("webhook-id")] = true
	}
	if len(ids) != 1 {
		t.Errorf("one batch was sent under the ids %v", ids)
	}
	_, err := open(t, destination.Config{"url": s.URL + "/signed", "signing_secret": "whsec_b3RoZXI="}).Write(t.Context(), rows(1))
	var failed *destination.Error
	if !errors.As(err, &failed) || failed.Class != destination.Stop {
		t.Errorf("a wrong secret: %v", err)
	}
}

// Some endpoints quote what they were sent; no message holds a credential then.
func TestEchoedSecrets(t *testing.T) {
	t.Parallel()
	const said = `q s3cretquery, h s3cretbearer, w c2VjcmV0IQ==`
	for _, test := range []struct {
		status int
		body   string
	}{
		{200, `{"results":[{"status":"rejected","code":"s3cretbearer","message":"` + said + `"}]}`},
		{422, `{"message":"` + said + `"}`},
		{400, said},
		{401, said},
		{500, said},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		t.Cleanup(s.Close)
		d := open(t, destination.Config{
			"url": s.URL + "/in?token=s3cretquery&v=2", "headers": map[string]string{"Authorization": "Bearer s3cretbearer"}, "signing_secret": "c2VjcmV0IQ==",
		})
		outcomes, err := d.Write(t.Context(), rows(1))
		text := fmt.Sprintf("%+v %v", outcomes, err)
		var failed *destination.Error
		if errors.As(err, &failed) {
			text += failed.Message + failed.Hint
		}
		for _, secret := range []string{"s3cret", "c2VjcmV0"} {
			if strings.Contains(text, secret) {
				t.Errorf("%d: %s", test.status, text)
			}
		}
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		cfg  destination.Config
		want string
	}{
		{"no url", destination.Config{}, "url is missing"},
		{"no address", destination.Config{"url": "localhost:80/x?s3cret"}, "url is not an http or https address"},
		{"broken", destination.Config{"url": "http://a b/s3cret"}, "url is not"},
		{"a password", destination.Config{"url": "https://u:s3cret@x/"}, "holds a user name"},
		{"base_url", destination.Config{"url": "https://x/", "base_url": "s3cret"}, "base_url is not"},
		{"header's name", destination.Config{"url": "https://x/", "headers": map[string]string{"a b": "s3cret"}}, `header "a b" is not valid`},
		{"header's value", destination.Config{"url": "https://x/", "headers": map[string]string{"a": "s3cret\r\nb: c"}}, `header "a" is not valid`},
		{"method", destination.Config{"url": "https://x/", "method": "GET"}, "method must be"},
		{"batch_size", destination.Config{"url": "https://x/", "batch_size": int64(-1)}, "batch_size must be"},
		{"concurrency", destination.Config{"url": "https://x/", "concurrency": int64(33)}, "concurrency must be"},
		{"max_bytes", destination.Config{"url": "https://x/", "max_bytes": int64(10)}, "max_bytes must be"},
		{"secret", destination.Config{"url": "https://x/", "signing_secret": "s3cret!"}, "signing_secret is not"},
	} {
		_, err := webhook.Connector{}.Open(t.Context(), test.cfg, destination.Env{})
		var e *diag.Error
		if !errors.As(err, &e) || e.Kind != diag.Invalid || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestAccountAndBaseURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, base, want string }{
		{"https://example.com/in?token=s3cret#x", "", "https://example.com/in"},
		{"https://example.com/in", "http://127.0.0.1:9/hooks/", "http://127.0.0.1:9/hooks/in"},
		{"https://example.com/in", "http://127.0.0.1:9", "http://127.0.0.1:9/in"},
	} {
		d := open(t, destination.Config{"url": test.url, "base_url": test.base})
		account, err := d.Check(t.Context())
		if err != nil || account.ID != test.want {
			t.Errorf("%s at %q: account %q, %v; want %q", test.url, test.base, account.ID, err, test.want)
		}
	}
}

// A batch of 100 rows of 12 fields to a server in this process; rows/s is the number to look at (DESIGN §11).
func BenchmarkWrite(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(s.Close)
	d := open(b, destination.Config{"url": s.URL})
	batch := rows(100)
	for i := range 11 {
		batch.Schema.Fields = append(batch.Schema.Fields, destination.Column{Name: fmt.Sprint("field_", i)})
	}
	for i := range batch.Changes {
		for range 11 {
			batch.Changes[i].Fields = append(batch.Changes[i].Fields, "some value")
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "rows/s")
}
