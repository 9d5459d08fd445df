package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A collector that the usual variables name is sent the spans of a run, without values; and none where they do not ask for any.
func TestTraces(t *testing.T) { // t.Setenv: the exporter reads the environment of the process
	var mu sync.Mutex
	var spans []*tracepb.Span
	var raw bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		raw.Write(body)
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				spans = append(spans, ss.GetSpans()...)
			}
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"people.csv": "id,email\n1,ann@example.com\n2,bo@example.com\n",
		"dray.yaml": `
name: shop
version: 1
sources: [{name: crm, files: {people: people.csv}}]
models: [{name: people, primary_key: id, sql: "select * from {{ source('crm', 'people') }}"}]
destinations: [{name: out, type: file, path: out}]
syncs: [{name: people, model: people, destination: out, object: people, mode: upsert, key: {email: email}, fields: {id: id}}]
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(env ...string) {
		for _, line := range env {
			name, value, _ := strings.Cut(line, "=")
			t.Setenv(name, value)
		}
		var out, problems bytes.Buffer
		if code := Main(t.Context(), []string{"run", "--project", dir}, os.Environ(), strings.NewReader(""), &out, &problems); code != 0 {
			t.Fatalf("exit code %d: %s%s", code, &out, &problems)
		}
	}
	do("OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var names []string
	byID := map[string]*tracepb.Span{}
	for _, s := range spans {
		names = append(names, s.GetName())
		byID[string(s.GetSpanId())] = s
	}
	for _, want := range []string{"run", "build", "sync people", "recover", "bind", "plan", "guard", "deliver", "send", "commit"} {
		if !slices.Contains(names, want) {
			t.Errorf("no span %q among %q", want, names)
		}
	}
	for _, s := range spans {
		parent := byID[string(s.GetParentSpanId())]
		want := map[string]string{"build": "run", "sync people": "run", "plan": "sync people", "deliver": "sync people", "send": "deliver", "commit": "deliver"}[s.GetName()]
		if want != "" && parent.GetName() != want {
			t.Errorf("the parent of %s is %q, want %q", s.GetName(), parent.GetName(), want)
		}
		if s.GetName() == "run" && !bytes.Equal(s.GetParentSpanId(), []byte{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}) {
			t.Errorf("the run is no child of TRACEPARENT: %x", s.GetParentSpanId())
		}
		if s.GetName() == "sync people" {
			attributes := map[string]string{}
			for _, a := range s.GetAttributes() {
				attributes[a.GetKey()] = a.GetValue().String()
			}
			if attributes["dray.status"] != `string_value:"succeeded"` || attributes["dray.delivered"] != "int_value:2" {
				t.Errorf("attributes %v", attributes)
			}
		}
	}
	if bytes.Contains(raw.Bytes(), []byte("example.com")) {
		t.Error("a trace holds a value")
	}
	spans = nil
	do("OTEL_TRACES_EXPORTER=none")
	if len(spans) > 0 {
		t.Errorf("%d spans were sent although none were wanted", len(spans))
	}
	do("OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT=200") // nobody there: the run does not fail
}
