//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/registry"
)

const (
	netRows  = 120
	netBatch = 10
	// netTries are those of one batch; the breaker lets two more have one each before it takes the vendor to be down.
	netTries = 2
)

// endpoint is a webhook on an address that stays the same, behind which things go wrong and are mended.
type endpoint struct {
	t        *testing.T
	address  string
	listener net.Listener
	server   *http.Server

	certificate atomic.Pointer[tls.Certificate]

	mu       sync.Mutex
	fault    func(w http.ResponseWriter, r *http.Request, apply func() []string)
	requests int
	sent     map[string]int // key → how often it came
	store    map[string]string
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{t: t, sent: map[string]int{}, store: map[string]string{}}
	e.listen()
	e.address = e.listener.Addr().String()
	t.Cleanup(e.stop)
	return e
}

func (e *endpoint) listen() {
	address := e.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	for range 100 { // of a port that another test's connection has for a moment
		l, err := (&net.ListenConfig{}).Listen(e.t.Context(), "tcp", address)
		if err == nil {
			e.listener = l
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.t.Fatalf("%s cannot be listened on again", address)
}

// serve begins to answer, with TLS where there is a certificate.
func (e *endpoint) serve(certificate *tls.Certificate) {
	l := e.listener
	if certificate != nil {
		e.certificate.Store(certificate)
		get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.certificate.Load(), nil }
		l = tls.NewListener(l, &tls.Config{GetCertificate: get})
	}
	e.server = &http.Server{Handler: e, ErrorLog: log.New(io.Discard, "", 0)}
	go e.server.Serve(l) //nolint:errcheck // it always ends with ErrServerClosed
}

func (e *endpoint) stop() {
	if e.server != nil {
		_ = e.server.Close()
		e.server = nil
	}
	_ = e.listener.Close()
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.requests++
	fault := e.fault
	e.mu.Unlock()
	apply := func() []string { return e.apply(r) }
	if fault != nil {
		fault(w, r, apply)
		return
	}
	apply()
	w.WriteHeader(http.StatusNoContent)
}

// apply takes a request's rows, as an upsert would, and returns their keys.
func (e *endpoint) apply(r *http.Request) []string {
	var d delivery
	decoder := json.NewDecoder(r.Body)
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var keys []string
	for _, c := range d.Changes {
		key := text(c.Key)
		e.sent[key]++
		e.store[key] = text(c.Fields)
		keys = append(keys, key)
	}
	return keys
}

// reset counts anew and returns what was counted.
func (e *endpoint) reset() (requests int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	requests, e.requests = e.requests, 0
	return requests
}

func (e *endpoint) become(fault func(http.ResponseWriter, *http.Request, func() []string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = fault
}

// twice is how many rows came more than once, and the most often that one did.
func (e *endpoint) twice() (rows, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.sent {
		if n > 1 {
			rows++
		}
		most = max(most, n)
	}
	return rows, most
}

// netCase is something that goes wrong on the way to a vendor, and what the run says of it.
type netCase struct {
	scheme string // http if empty
	host   string // 127.0.0.1 if empty
	// before the faulty run: how the endpoint stands there. nil = it serves with fault.
	start func(e *endpoint, ca *authority)
	fault func(w http.ResponseWriter, r *http.Request, apply func() []string)
	// mend makes the endpoint well and returns variables that the next runs need.
	mend func(e *endpoint, ca *authority) []string
	// trusts: the faulty run trusts the authority too.
	trusts bool

	code                           int
	status                         string
	delivered, uncertain, rejected int64 // −1 = any; what is left is deferred
	requests                       int   // at most
	resent                         int   // rows that came more than once in the end, at most
	retry                          bool  // `dray retry` before the next run
	errorCode                      string
	neverHeard                     bool // the faulty run's rows were not applied, so none may come twice
}

// What the network and what is behind it can do to a delivery. Each ends the run with the right status and sums, shows nobody's data and
// no secret, and is made good by the following runs; rows come twice only where nobody could know, and no more than were under way.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("short")
	}
	type writer = http.ResponseWriter
	type request = *http.Request
	hold := func(r request) { // until the client is gone
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	hijacked := func(w writer, say string) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_, _ = io.WriteString(conn, say)
			_ = conn.Close()
		}
	}
	const silent = (netTries + 2) // requests of a vendor that never answers
	const inFlight = 3 * netBatch // rows of the batches that those are
	failed := func(c netCase) netCase { c.code, c.status = 1, "failed"; return c }
	cases := map[string]netCase{
		"the name does not resolve": failed(netCase{host: "dray-test.invalid", errorCode: "destination.down", neverHeard: true, mend: func(e *endpoint, _ *authority) []string {
			e.serve(nil)
			return []string{"http_proxy=http://" + e.address} // who does resolve it
		}, start: func(*endpoint, *authority) {}}),
		"the connection is refused": failed(netCase{errorCode: "destination.down", neverHeard: true, start: func(e *endpoint, _ *authority) { e.stop() }, mend: func(e *endpoint, _ *authority) []string {
			e.listen()
			e.serve(nil)
			return nil
		}}),
		"a certificate of nobody's":     failed(wrong(false, func(*x509.Certificate) {})),
		"a certificate that has ended":  failed(wrong(true, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })),
		"a certificate of another host": failed(wrong(true, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"elsewhere.example"} })),
		"no TLS where it should be":     failed(netCase{scheme: "https", errorCode: "destination.down", neverHeard: true, start: func(e *endpoint, _ *authority) { e.serve(nil) }, mend: secured}),
		"it takes and never answers": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(_ writer, r request, apply func() []string) { apply(); hold(r) },
		}),
		"it neither takes nor answers": failed(netCase{
			uncertain: inFlight, requests: silent, neverHeard: true, errorCode: "destination.down",
			fault: func(_ writer, r request, _ func() []string) { hold(r) },
		}),
		"it hangs up after taking": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, _ request, apply func() []string) { apply(); hijacked(w, "") },
		}),
		"it hangs up in the middle of the request": failed(netCase{
			uncertain: inFlight, requests: silent, neverHeard: true, errorCode: "destination.down",
			fault: func(w writer, r request, _ func() []string) { _, _ = r.Body.Read(make([]byte, 10)); hijacked(w, "") },
		}),
		"it answers what is no HTTP": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, _ request, apply func() []string) { apply(); hijacked(w, "\x16\x03garbage\r\n\r\n") },
		}),
		"its answer is cut short": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, _ request, apply func() []string) {
				apply()
				hijacked(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"results\":[")
			},
		}),
		"its answer drips": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, r request, apply func() []string) {
				apply()
				w.Header().Set("Content-Length", "100000")
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, " ")
					_ = http.NewResponseController(w).Flush()
					time.Sleep(20 * time.Millisecond)
				}
			},
		}),
		"its answer does not end": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, _ request, apply func() []string) {
				apply()
				for block := make([]byte, 1<<20); ; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			},
		}),
		"it fails after taking": failed(netCase{
			uncertain: inFlight, requests: silent, resent: inFlight, errorCode: "destination.down",
			fault: func(w writer, _ request, apply func() []string) {
				apply()
				http.Error(w, "no", http.StatusInternalServerError)
			},
		}),
		"it redirects": failed(netCase{
			requests: 1, neverHeard: true, errorCode: "destination.refused",
			fault: func(w writer, r request, _ func() []string) {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			},
		}),
		"it wants other credentials": failed(netCase{
			requests: 1, neverHeard: true, errorCode: "destination.refused",
			fault: func(w writer, r request, _ func() []string) {
				http.Error(w, "not "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			},
		}),
		"it wants to be left alone": failed(netCase{
			requests: 1, neverHeard: true, errorCode: "destination.limited",
			fault: func(w writer, _ request, _ func() []string) {
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
			},
		}),
		"its answers cannot be read": {
			code: 3, status: "partial", uncertain: netRows, requests: netRows / netBatch, resent: netRows,
			fault: func(w writer, _ request, apply func() []string) {
				apply()
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"results": [{"stat`)
			},
		},
		"its answers hold errors": {
			code: 3, status: "partial", rejected: netRows / netBatch, delivered: netRows - netRows/netBatch, requests: netRows / netBatch,
			resent: netRows / netBatch, retry: true,
			fault: func(w writer, _ request, apply func() []string) {
				keys := apply()
				results := make([]map[string]string, len(keys))
				for i := range results {
					results[i] = map[string]string{"status": "delivered"}
				}
				results[0] = map[string]string{"status": "rejected", "code": "bad", "message": "no Zoë Secretname here"}
				_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

// wrong is an endpoint with a certificate that is not right; trusted tells whether its authority is trusted.
func wrong(trusted bool, how func(*x509.Certificate)) netCase {
	return netCase{
		scheme: "https", errorCode: "destination.down", neverHeard: true, trusts: trusted,
		mend: func(e *endpoint, ca *authority) []string {
			e.certificate.Store(ca.issue(func(*x509.Certificate) {}))
			return nil
		},
		start: func(e *endpoint, ca *authority) { e.serve(ca.issue(how)) },
	}
}

// secured is the endpoint with a certificate that is right.
func secured(e *endpoint, ca *authority) []string {
	e.stop()
	e.listen()
	e.serve(ca.issue(func(*x509.Certificate) {}))
	return nil
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key = a.newKey()
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) issue(change func(*x509.Certificate)) *tls.Certificate {
	key := a.newKey()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

const netYAML = `
name: net
version: 1
warehouse: {type: duckdb, path: w.duckdb, threads: 1}
sources: [{name: raw, schema: raw, tables: [{name: people}]}]
models:
  - {name: people, primary_key: id, sql: "select * from {{ source('raw', 'people') }}"}
destinations:
  - {name: hook, type: webhook, url: "${HOOK}", headers: {Authorization: "Bearer ${TOKEN}"}, batch_size: 10, timeout: 1500ms, settle: 0s}
syncs:
  - name: people
    model: people
    destination: hook
    object: people
    mode: mirror
    key: {email: email}
    on_remove: delete
    fields: {name: name, n: n}
    retry: {attempts: 2}
`

// report is what of `dray run --output json` is looked at.
type netReport struct {
	Status    string `json:"status"`
	ExitCode  int    `json:"exit_code"`
	Requests  int    `json:"requests"`
	Delivered struct{ Add, Update int64 }
	Uncertain struct{ Add, Update int64 }
	Rejected  struct{ Add, Update int64 }
	Deferred  struct{ Add, Update int64 }
	Error     *struct {
		Code, Message string
	} `json:"error"`
}

func (c netCase) check(t *testing.T) {
	e, ca, dir := newEndpoint(t), newAuthority(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dray.yaml"), []byte(netYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	model := fillPeople(t, dir)
	host := e.address
	if c.host != "" {
		_, port, _ := net.SplitHostPort(e.address)
		host = net.JoinHostPort(c.host, port)
	}
	scheme := c.scheme
	if scheme == "" {
		scheme = "http"
	}
	env := []string{"HOOK=" + scheme + "://" + host + "/in?key=s3cretquery", "TOKEN=s3cretbearer", "NO_PROXY=", "no_proxy="}
	if c.start != nil {
		c.start(e, ca)
	} else {
		e.become(c.fault)
		e.serve(nil)
	}
	if c.trusts {
		env = append(env, "SSL_CERT_FILE="+ca.file)
	}

	rep, said := dray(t, dir, env, c.code, "run", "people", "--output", "json", "--log-format", "json")
	t.Logf("the run: %+v, %+v", rep, rep.Error)
	if rep.Status != c.status || rep.ExitCode != c.code {
		t.Errorf("status %s with exit code %d, want %s with %d", rep.Status, rep.ExitCode, c.status, c.code)
	}
	if c.errorCode != "" && (rep.Error == nil || rep.Error.Code != c.errorCode) {
		t.Errorf("the error is %+v, want %s", rep.Error, c.errorCode)
	}
	left := netRows - rep.Delivered.Add - rep.Uncertain.Add - rep.Rejected.Add
	if rep.Delivered.Add != c.delivered || rep.Uncertain.Add > c.uncertain || (rep.Uncertain.Add > 0) != (c.uncertain > 0) ||
		rep.Rejected.Add != c.rejected || rep.Deferred.Add != left {
		t.Errorf("delivered %d, uncertain %d, rejected %d, deferred %d; want %d, at most %d, %d and the rest",
			rep.Delivered.Add, rep.Uncertain.Add, rep.Rejected.Add, rep.Deferred.Add, c.delivered, c.uncertain, c.rejected)
	}
	if n := e.reset(); n > c.requests {
		t.Errorf("%d requests came, want at most %d", n, c.requests)
	}

	// The vendor is well again.
	e.become(nil)
	if c.mend != nil {
		env = append(env, c.mend(e, ca)...)
	}
	if scheme == "https" && !c.trusts {
		env = append(env, "SSL_CERT_FILE="+ca.file)
	}
	if c.retry {
		_, more := dray(t, dir, env, 0, "retry", "people", "--output", "json")
		said += more
	}
	rep, more := dray(t, dir, env, 0, "run", "people", "--output", "json")
	said += more
	if rep.Status != "succeeded" {
		t.Errorf("mended, the run ended %s", rep.Status)
	}
	e.reset()
	if rep, _ := dray(t, dir, env, 0, "run", "people", "--output", "json"); rep.Requests != 0 || e.reset() != 0 {
		t.Errorf("there was still something to send: %+v", rep)
	}
	e.mu.Lock()
	store := maps.Clone(e.store)
	e.mu.Unlock()
	if !maps.Equal(store, model) {
		t.Errorf("the vendor holds %d rows, want the model's %d", len(store), len(model))
	}
	rows, most := e.twice()
	t.Logf("%d rows came more than once, one %d times", rows, most)
	if rows > c.resent || c.neverHeard && rows > 0 || most > netTries+1 {
		t.Errorf("%d rows came more than once, want at most %d; one came %d times", rows, c.resent, most)
	}
	shown(t, dir, said)
}

// shown fails where a secret or somebody's data stands in what was said, or in the state.
func shown(t *testing.T, dir, said string) {
	t.Helper()
	private := []string{"s3cret", "Secretname", "secret-person"}
	for _, word := range private {
		if strings.Contains(said, word) {
			t.Errorf("%q stands in the output:\n%s", word, said)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, ".dray"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, word := range private {
			if bytes.Contains(raw, []byte(word)) {
				t.Errorf("%q stands in %s", word, d.Name())
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// fillPeople makes the source and tells what a vendor must hold in the end.
func fillPeople(t *testing.T, dir string) map[string]string {
	w, err := registry.OpenWarehouse(t.Context(), "duckdb", map[string]any{"path": "w.duckdb"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, q := range []string{
		"CREATE SCHEMA raw",
		fmt.Sprintf("CREATE TABLE raw.people AS SELECT i AS id, 'secret-person' || i || '@example.com' AS email, 'Zoë Secretname' AS name, i AS n FROM range(%d) t(i)", netRows),
	} {
		if _, err := w.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	model := map[string]string{}
	for i := range netRows {
		model[text(map[string]any{"email": fmt.Sprintf("secret-person%d@example.com", i)})] = text(map[string]any{"name": "Zoë Secretname", "n": json.Number(fmt.Sprint(i))})
	}
	return model
}

// dray runs the binary, which must exit with code.
func dray(t *testing.T, dir string, env []string, code int, args ...string) (rep netReport, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dray", args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &stdout, &stderr, append(slices.DeleteFunc(os.Environ(), isProxy), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	said = stdout.String() + stderr.String()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("dray %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, said)
	}
	if args[0] == "run" {
		if err := json.Unmarshal(stdout.Bytes(), &rep); err != nil {
			t.Fatalf("%v in\n%s", err, stdout.String())
		}
	}
	return rep, said
}

func isProxy(variable string) bool {
	name, _, _ := strings.Cut(strings.ToLower(variable), "=")
	return strings.HasSuffix(name, "_proxy")
}
