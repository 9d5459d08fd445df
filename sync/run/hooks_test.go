package run_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// A hook with an address is sent the report; its answer, and the address itself, show no secret.
func TestHookURL(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := hookProject(t, r, "mode: upsert\nkey: {id: id}\nhooks: {after: [{url: \"${PING}\"}]}")
	p.exec("INSERT INTO raw.people VALUES (1, 'a@x', 'Ann', 1), (2, 'b@x', 'Bo', 2)")
	var got []byte
	status := http.StatusOK
	ping := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got, _ = io.ReadAll(req.Body)
		http.Error(w, "no such path "+req.URL.Path, status)
	}))
	defer ping.Close()
	p.env["PING"] = ping.URL + "/secret-path-7f3a"
	var logs strings.Builder
	once := func() report.Run {
		deps := p.deps()
		deps.Log = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s, err := run.Open(t.Context(), deps, p.options())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		reports, err := s.Run(t.Context(), nil, run.RunOptions{})
		if err != nil || len(reports) != 1 {
			t.Fatalf("%v: %v", reports, err)
		}
		return reports[0]
	}
	rep := once()
	var told report.Run
	if err := json.Unmarshal(got, &told); err != nil || told.RunID != rep.RunID || told.Delivered.Add != 2 || told.Status != report.Succeeded {
		t.Fatalf("the hook was told %s: %v", got, err)
	}
	if strings.Contains(string(got), "Ann") || strings.Contains(string(got), "a@x") {
		t.Fatalf("the report has values: %s", got)
	}
	status = http.StatusNotFound
	rep = once()
	if len(rep.HookErrors) != 1 || rep.Status != report.Succeeded || rep.ExitCode != 0 {
		t.Fatalf("a hook that failed: %s", canonical(rep))
	}
	for _, text := range []string{logs.String(), canonical(rep)} {
		if strings.Contains(text, "secret-path") {
			t.Fatalf("the address is shown: %s", text)
		}
	}
}
