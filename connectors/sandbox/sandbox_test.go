package sandbox_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	hubspot "github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	webhook "github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/sandbox"
	"github.com/dray-dev/dray/connectors/standin"
)

func start(t *testing.T) (base string, s *sandbox.Sandbox, printed *bytes.Buffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = sandbox.New([]sandbox.Entry{
		{Type: "hubspot", Title: "HubSpot", New: hubspot.New}, {Type: "webhook", Title: "Webhook", New: webhook.New},
	})
	printed = &bytes.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l, printed) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), s, printed
}

func do(t *testing.T, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const delivery = `{"sync":"s","run_id":"r","object":"people","changes":[{"operation":"add","key":{"id":"7"},"fields":{"a":1},"dedupe_id":"d"}]}`

func TestOneAddress(t *testing.T) {
	t.Parallel()
	base, s, _ := start(t)
	for path, want := range map[string]string{
		"/": "campaigns", "/hubspot/account-info/v3/details": "portalId", "/campaigns/_standin/state": `"7":{"a":1}`,
		"/webhook/_standin/requests": `"total":0`, "/campaigns/_standin/requests": `"total":1`,
	} {
		if status, answer := do(t, "POST", base+"/campaigns", delivery); status != 204 {
			t.Fatalf("a webhook: %d %s", status, answer)
		}
		if status, answer := do(t, "GET", base+path, ""); status != 200 || !strings.Contains(answer, want) {
			t.Errorf("%s: %d, %s; want %s", path, status, answer, want)
		}
		if status, _ := do(t, "DELETE", base+"/campaigns/_standin", ""); status != 204 {
			t.Errorf("forgetting: %d", status)
		}
	}
	if status, _ := do(t, "GET", base+"/favicon.ico", ""); status != 404 {
		t.Errorf("a page that does not exist: %d", status)
	}
	if _, ok := s.StandIn("campaigns"); !ok {
		t.Error("the receiver cannot be found by its name")
	}
	if _, ok := s.StandIn("favicon.ico"); ok {
		t.Error("asking for a page made a receiver")
	}
}

func TestPrintsWhereEverythingIs(t *testing.T) {
	t.Parallel()
	base, _, printed := start(t)
	do(t, "GET", base, "")
	for _, want := range []string{
		`{type: hubspot, access_token: "sandbox-token", base_url: "` + base + `/hubspot"}`, `{type: webhook, url: "` + base + `/webhook/changes"}`,
	} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("printed\n%s\nwithout %s", printed, want)
		}
	}
}

func TestScriptedOverHTTP(t *testing.T) {
	t.Parallel()
	base, _, _ := start(t)
	script := `[{"status":429,"times":2,"headers":{"Retry-After":"2"}},{"skip":1,"status":500,"apply":true}]`
	if status, answer := do(t, "POST", base+"/webhook/_standin/faults", script); status != 204 {
		t.Fatalf("%d %s", status, answer)
	}
	for i, want := range []int{429, 429, 204, 500, 204} {
		if status, _ := do(t, "POST", base+"/webhook/changes", delivery); status != want {
			t.Errorf("request %d: %d, want %d", i, status, want)
		}
	}
	if status, _ := do(t, "POST", base+"/webhook/_standin/faults", `[{"stauts":429}]`); status != 400 {
		t.Errorf("a misspelt fault: %d", status)
	}
	if status, _ := do(t, "POST", base+"/webhook/_standin/refuse", `{"rows":["\"id\":\"7\""]}`); status != 204 {
		t.Errorf("refuse: %d", status)
	}
	if _, answer := do(t, "POST", base+"/webhook/changes", delivery); !strings.Contains(answer, `"rejected"`) {
		t.Errorf("a refused row: %s", answer)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	base, s, _ := start(t)
	in, _ := s.StandIn("webhook")
	in.Core().Limit(standin.Limit{Requests: 2, Per: 300 * time.Millisecond}, func(w http.ResponseWriter, wait time.Duration) {
		if wait <= 0 {
			t.Errorf("refused with a wait of %v", wait)
		}
		w.WriteHeader(http.StatusTooManyRequests)
	})
	for i, want := range []int{204, 204, 429} {
		if status, _ := do(t, "POST", base+"/webhook/changes", delivery); status != want {
			t.Errorf("request %d: %d, want %d", i, status, want)
		}
	}
	time.Sleep(320 * time.Millisecond)
	if status, _ := do(t, "POST", base+"/webhook/changes", delivery); status != 204 {
		t.Errorf("after the window: %d", status)
	}
}
