//go:build unix

package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// told are the messages that came, by the stand-in that took them.
type told struct {
	mu     sync.Mutex
	slack  []string
	mail   []string
	hook   []string // states
	faults []string
}

func (a *told) fault(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

func (a *told) counts() [3]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return [3]int{len(a.slack), len(a.mail), len(a.hook)}
}

const slackPath = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"

// takeSlack is an incoming webhook (docs.slack.dev, "Sending messages using incoming webhooks"): a POST of JSON with a text that is
// not empty is answered 200 with the body ok, anything else by a 4xx and a word for why.
func (a *told) takeSlack(w http.ResponseWriter, r *http.Request) {
	var message struct {
		Text string `json:"text"`
	}
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	err := body.Decode(&message)
	switch {
	case r.URL.Path != slackPath:
		http.Error(w, "no_service", http.StatusNotFound)
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || err != nil:
		a.fault("slack: %s %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		http.Error(w, "invalid_payload", http.StatusBadRequest)
	case message.Text == "":
		a.fault("slack: no text")
		http.Error(w, "no_text", http.StatusBadRequest)
	default:
		a.mu.Lock()
		a.slack = append(a.slack, message.Text)
		a.mu.Unlock()
		_, _ = io.WriteString(w, "ok")
	}
}

var hookSecret = []byte("alerts are signed, too")

// takeHook is a webhook that checks what it gets as Standard Webhooks says: id, time and body under an HMAC with SHA-256.
func (a *told) takeHook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, hookSecret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	seconds, terr := strconv.ParseInt(at, 10, 64)
	var doc struct {
		Alert struct{ ID, State, Sync, Title, Text string }
	}
	switch {
	case err != nil || id == "" || terr != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute:
		a.fault("webhook: headers %q %q: %v", id, at, err)
	case !slices.Contains(strings.Fields(r.Header.Get("webhook-signature")), want):
		a.fault("webhook: the signature is wrong")
	case json.Unmarshal(body, &doc) != nil || doc.Alert.ID == "" || doc.Alert.Sync != "people" || doc.Alert.Title == "":
		a.fault("webhook: %s", body)
	default:
		a.mu.Lock()
		a.hook = append(a.hook, doc.Alert.State)
		a.mu.Unlock()
		return
	}
	w.WriteHeader(http.StatusBadRequest)
}

// takeMail speaks as much of RFC 5321 as a mail needs, in clear.
func (a *told) takeMail(c net.Conn) {
	defer c.Close() //nolint:errcheck // the mail is what is looked at
	say := func(line string) { _, _ = fmt.Fprintf(c, "%s\r\n", line) }
	in := bufio.NewScanner(c)
	say("220 mail.example ESMTP")
	from, to := "", 0
	for in.Scan() {
		line := strings.ToUpper(in.Text())
		switch {
		case strings.HasPrefix(line, "EHLO "):
			say("250-mail.example")
			say("250 8BITMIME")
		case strings.HasPrefix(line, "MAIL FROM:<") && from == "":
			from = line
			say("250 ok")
		case strings.HasPrefix(line, "RCPT TO:<") && from != "":
			to++
			say("250 ok")
		case line == "DATA" && to > 0:
			say("354 go on")
			content := ""
			for in.Scan() && in.Text() != "." {
				content += in.Text() + "\n"
			}
			a.mu.Lock()
			a.mail = append(a.mail, content)
			a.mu.Unlock()
			from, to = "", 0
			say("250 queued")
		case line == "QUIT":
			say("221 bye")
			return
		case line == "NOOP" || line == "RSET":
			say("250 ok")
		default:
			a.fault("smtp: %s", line)
			say("503 bad sequence of commands")
		}
	}
}

const alertsYAML = `
name: shop
version: 1
schedules: on
warehouse: {type: duckdb, path: w.duckdb}
sources: [{name: raw, files: {people: {path: people.csv}}}]
models:
  - {name: people, primary_key: id, sql: "select id, name from {{ source('raw', 'people') }}"}
destinations:
  - {name: out, type: file, path: out}
  - {name: slack_ops, type: slack, webhook_url: "${SLACK}"}
  - {name: hook_ops, type: webhook, url: "${ALERTS}", signing_secret: "${WHSEC}"}
  - {name: mail_ops, type: smtp, host: 127.0.0.1, port: "${SMTP_PORT}", tls: none, from: dray@example.com, to: "a@example.com, b@example.com"}
syncs:
  - {name: people, model: people, destination: out, object: x, mode: mirror, key: {id: id}, fields: {name: name}, on_remove: delete, schedule: "@every 1s"}
alerts:
  - {on: [failed, held, recovered], to: slack_ops}
  - {on: [failed, held, recovered], to: hook_ops}
  - {on: [failed, held, recovered], to: mail_ops}
`

// A sync that a serve runs every second fails, is held, and gets well: each is told once at each place, over a kill of the serve too.
func TestAlertsThroughServe(t *testing.T) {
	t.Parallel()
	a := &told{}
	slack, hook := httptest.NewServer(http.HandlerFunc(a.takeSlack)), httptest.NewServer(http.HandlerFunc(a.takeHook))
	t.Cleanup(slack.Close)
	t.Cleanup(hook.Close)
	mail, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	go func() {
		for {
			c, err := mail.Accept()
			if err != nil {
				return
			}
			go a.takeMail(c)
		}
	}()
	_, port, _ := net.SplitHostPort(mail.Addr().String())
	h := &hunted{t: t, dir: t.TempDir(), store: newStore(t, 1), env: []string{
		"SLACK=" + slack.URL + slackPath, "ALERTS=" + hook.URL, "WHSEC=whsec_" + base64.StdEncoding.EncodeToString(hookSecret), "SMTP_PORT=" + port,
	}}
	people := func(n int) {
		text := "id,name\n"
		for i := range n {
			text += fmt.Sprintf("%d,customer-%d\n", i+1, i+1)
		}
		h.write("people.csv", []byte(text))
	}
	people(100)
	h.write("dray.yaml", []byte(alertsYAML))

	p := h.start("serve", "--listen", "off", "--log-level", "warn")
	runs := func(n int, status string) {
		t.Helper()
		before := h.ended("people", status)
		waitFor(t, fmt.Sprintf("%d runs that end %s", n, status), func() bool { return h.ended("people", status) >= before+n })
	}
	all := func(n int) {
		t.Helper()
		waitFor(t, fmt.Sprintf("message %d at each place", n), func() bool {
			c := a.counts()
			return c[0] >= n && c[1] >= n && c[2] >= n
		})
	}
	runs(2, "succeeded")
	if c := a.counts(); c != [3]int{} {
		t.Fatalf("a sync that is well was told of: %v", c)
	}

	if err := os.Rename(filepath.Join(h.dir, "people.csv"), filepath.Join(h.dir, "away")); err != nil {
		t.Fatal(err)
	}
	all(1)
	runs(2, "failed")
	p.kill()
	p.wait()
	p = h.start("serve", "--listen", "off", "--log-level", "warn")
	runs(2, "failed")
	if err := os.Rename(filepath.Join(h.dir, "away"), filepath.Join(h.dir, "people.csv")); err != nil {
		t.Fatal(err)
	}
	all(2)
	runs(2, "succeeded")

	people(50) // half of them leave: removes are held
	all(3)
	runs(2, "stopped")
	people(100)
	all(4)
	runs(2, "succeeded")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.said())
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.faults) > 0 {
		t.Errorf("refused: %s", strings.Join(a.faults, "; "))
	}
	if want := []string{"failed", "recovered", "held", "recovered"}; !slices.Equal(a.hook, want) {
		t.Errorf("the webhook was told %v, want %v", a.hook, want)
	}
	if len(a.slack) != 4 || len(a.mail) != 4 {
		t.Errorf("%d messages in slack and %d mails, want 4 each:\n%s\n%s", len(a.slack), len(a.mail), strings.Join(a.slack, "\n"), strings.Join(a.mail, "\n"))
	}
	for _, text := range slices.Concat(a.slack, a.mail) {
		if !strings.Contains(text, "people") || strings.Contains(text, "customer-") {
			t.Errorf("a message that does not name the sync, or names a customer:\n%s", text)
		}
	}
}
