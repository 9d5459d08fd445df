package slack_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/slack"
	"github.com/dray-dev/dray/connectors/httpx"
)

// The contract (docs.slack.dev, incoming webhooks): POST, JSON with text; 200 with the body ok; 4xx with a word where it is refused.
func TestNotify(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	var got struct{ Text string }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/services/T0/B0/secretpart" || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &got) != nil {
			http.Error(w, "invalid_payload", http.StatusBadRequest)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, map[int]string{http.StatusOK: "ok", http.StatusNotFound: "no_service secretpart"}[status])
	}))
	defer server.Close()
	var log strings.Builder
	env := destination.Env{
		HTTP: httpx.New(httpx.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}),
		Now:  time.Now, Log: slog.New(slog.DiscardHandler),
	}
	d, err := slack.Connector{}.Open(t.Context(), destination.Config{"webhook_url": "https://hooks.slack.com/services/T0/B0/secretpart", "base_url": server.URL}, env)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := d.(destination.Notifier)
	if !ok {
		t.Fatal("it takes no messages")
	}
	if err := n.Notify(t.Context(), destination.Notice{Title: "shop: a <failed> & more", Text: "Run 1."}); err != nil {
		t.Fatal(err)
	}
	if want := "*shop: a &lt;failed&gt; &amp; more*\nRun 1."; got.Text != want {
		t.Errorf("text %q, want %q", got.Text, want)
	}
	status = http.StatusNotFound
	err = n.Notify(t.Context(), destination.Notice{Title: "x"})
	if err == nil || strings.Contains(err.Error(), "secretpart") {
		t.Errorf("a webhook that is gone: %v", err)
	}
	if strings.Contains(log.String(), "secretpart") {
		t.Errorf("the log holds the webhook's address:\n%s", log.String())
	}
	if _, err := (slack.Connector{}).Open(t.Context(), destination.Config{"webhook_url": "hooks/secretpart"}, env); err == nil || strings.Contains(err.Error(), "secretpart") {
		t.Errorf("an address that is none: %v", err)
	}
}
