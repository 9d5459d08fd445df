package webhook

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/internal/diag"
)

// webhook is one endpoint.
type webhook struct {
	http    *httpx.Client
	now     func() time.Time
	url     string
	account string
	method  string
	header  http.Header
	secret  []byte   // nil = unsigned
	secrets []string // what no message may quote

	encoder atomic.Pointer[schemaEncoder] // of the schema used last: one a run
	buffers httpx.Buffers
}

type schemaEncoder struct {
	schema *destination.Schema
	*encode.Encoder
}

// Open checks the configuration; no request is made.
func (Connector) Open(_ context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	target, err := endpoint(cfg.String("url"), cfg.String("base_url"))
	if err != nil {
		return nil, err
	}
	header, err := headers(cfg.Map("headers"))
	if err != nil {
		return nil, err
	}
	secret, err := signingSecret(cfg.String("signing_secret"))
	if err != nil {
		return nil, err
	}
	w := &webhook{
		http: env.HTTP, now: env.Now, url: target.String(), method: cfg.String("method"), header: header, secret: secret,
		account: (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path}).String(),
	}
	if w.now == nil {
		w.now = time.Now
	}
	w.secrets = secretsOf(cfg, target)
	switch w.method {
	case "":
		w.method = http.MethodPost
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil, invalid("method must be POST, PUT or PATCH")
	}
	if n := cfg.Int("batch_size"); n < 0 || n > maxBatch {
		return nil, invalid("batch_size must be between 1 and 10000")
	}
	if n := cfg.Int("concurrency"); n < 0 || n > maxConcurrency {
		return nil, invalid("concurrency must be between 1 and 32")
	}
	if n := cfg.Int("max_bytes"); n < 0 || n > 0 && n < minBytes {
		return nil, invalid("max_bytes must be 1024 or more")
	}
	return w, nil
}

// endpoint joins url and base_url. Neither is quoted in errors: a query may hold a token.
func endpoint(raw, base string) (*url.URL, error) {
	if raw == "" {
		return nil, invalid("url is missing").WithHint("add the address that takes the changes, such as https://example.com/changes")
	}
	target, err := parseURL("url", raw)
	if err != nil || base == "" {
		return target, err
	}
	b, err := parseURL("base_url", base)
	if err != nil {
		return nil, err
	}
	target.Scheme, target.Host = b.Scheme, b.Host
	if prefix := strings.TrimSuffix(b.Path, "/"); prefix != "" {
		target.Path, target.RawPath = prefix+"/"+strings.TrimPrefix(target.Path, "/"), ""
	}
	return target, nil
}

// secretsOf are the values that an endpoint might quote and nobody may see: of headers, of the query, and the signing secret.
func secretsOf(cfg destination.Config, target *url.URL) []string {
	out := []string{cfg.String("signing_secret")}
	for _, value := range cfg.Map("headers") {
		out = append(out, value)
		if _, credentials, ok := strings.Cut(value, " "); ok { // Bearer, Basic
			out = append(out, credentials)
		}
	}
	for _, values := range target.Query() {
		out = append(out, values...)
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) }) // what holds another goes first
	return out
}

func parseURL(option, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, invalid("%s is not an http or https address", option)
	}
	if u.User != nil {
		return nil, invalid("%s holds a user name or password", option).
			WithHint("send credentials in headers, as a reference: {Authorization: \"Basic ${TOKEN}\"}")
	}
	return u, nil
}

func headers(in map[string]string) (http.Header, error) {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	for name, value := range in {
		if !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, invalid("header %q is not valid", name).WithHint("names are letters, digits and dashes; values are one line")
		}
		h.Set(name, value)
	}
	return h, nil
}

func isToken(s string) bool {
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) {
			return false
		}
	}
	return s != ""
}

// signingSecret decodes a Standard Webhooks secret: base64, its prefix and padding optional. "" gives nil.
func signingSecret(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	text := strings.TrimRight(strings.TrimPrefix(strings.TrimSpace(s), "whsec_"), "=")
	secret, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(secret) == 0 {
		return nil, invalid("signing_secret is not a Standard Webhooks secret").
			WithHint("it is base64, usually after whsec_: make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return secret, nil
}

func invalid(format string, args ...any) *diag.Error {
	return diag.Errorf(diag.Invalid, "destination.option", "webhook: "+format, args...)
}

// Check tells which endpoint is configured. A webhook has no read that is safe to make, so none is made.
func (w *webhook) Check(context.Context) (destination.Account, error) {
	return destination.Account{ID: w.account, Name: w.account}, nil
}

// TakesJSON says that all values only pass through.
func (w *webhook) TakesJSON(string) bool { return true }

// Close has nothing to let go: connections are the client's.
func (w *webhook) Close() error { return nil }
