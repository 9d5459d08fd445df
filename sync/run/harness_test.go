package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// receiver is a webhook destination that keeps what it was sent, as a strict store: rows by key. It is written from the
// webhook's contract (DESIGN §10), not from the connector.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	store    map[string]map[string]any
	requests int
	changes  int
	ids      map[string]int // dedupe ids seen
	// answer decides about a request before (apply false) it is taken; nil = take all.
	answer func(n int, body *hookBody) verdict
}

type hookBody struct {
	Sync    string       `json:"sync"`
	RunID   string       `json:"run_id"`
	Object  string       `json:"object"`
	Changes []hookChange `json:"changes"`
}

type hookChange struct {
	Operation string         `json:"operation"`
	Key       map[string]any `json:"key"`
	Fields    map[string]any `json:"fields"`
	DedupeID  string         `json:"dedupe_id"`
}

// verdict: Apply none, all, or those rows; then Status with Body, or a dropped connection.
type verdict struct {
	apply  func(i int) bool
	status int
	body   string
	drop   bool
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{store: map[string]map[string]any{}, ids: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var b hookBody
	if err := json.Unmarshal(raw, &b); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	v := verdict{status: 200}
	if r.answer != nil {
		v = r.answer(r.requests, &b)
	}
	for i, c := range b.Changes {
		if v.apply != nil && !v.apply(i) {
			continue
		}
		r.apply(c)
	}
	if v.drop {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
		return
	}
	w.WriteHeader(v.status)
	_, _ = io.WriteString(w, v.body)
}

func (r *receiver) apply(c hookChange) {
	r.changes++
	r.ids[c.DedupeID]++
	key := canonical(c.Key)
	if c.Operation == "remove" {
		delete(r.store, key)
		return
	}
	r.store[key] = c.Fields
}

func canonical(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// state is what the destination holds, and how many requests and changes it took since the last call.
func (r *receiver) state() (store map[string]map[string]any, requests, changes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, changes = r.requests, r.changes
	r.requests, r.changes = 0, 0
	return maps.Clone(r.store), requests, changes
}

// project is a Dray project in a folder of its own.
type project struct {
	t   testing.TB
	dir string
	now func() time.Time
	env map[string]string
	// connectors are destination types of the test's own.
	connectors map[string]destination.Connector
}

func newProject(t testing.TB, yaml string, files map[string]string) *project {
	p := &project{t: t, dir: t.TempDir(), now: time.Now, env: map[string]string{}}
	p.write("dray.yaml", yaml)
	for name, text := range files {
		p.write(name, text)
	}
	return p
}

func (p *project) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) open() *run.Session {
	p.t.Helper()
	s, err := run.Open(context.Background(), p.deps(), p.options())
	if err != nil {
		p.t.Fatalf("opening the project: %v", err)
	}
	return s
}

func (p *project) deps() run.Deps {
	connector := func(typ string) (destination.Connector, bool) {
		if c, ok := p.connectors[typ]; ok {
			return c, true
		}
		return registry.Destination(typ)
	}
	return run.Deps{Connector: connector, OpenWarehouse: openWarehouse, Now: func() time.Time { return p.now() }}
}

// server, where it is set, is a PostgreSQL server on which the same tests run instead of DuckDB.
var server = conformance.Postgres()

func openWarehouse(ctx context.Context, _ string, options map[string]any, dir string) (warehouse.Warehouse, error) {
	file, ok := options["path"].(string)
	if !ok {
		file = ":memory:"
	}
	return conformance.OpenAt(ctx, dir, file)
}

// backup keeps the warehouse as it is; what it returns puts it back.
func (p *project) backup() (restore func()) {
	if server == "" {
		kept := p.read("w.duckdb")
		return func() { p.write("w.duckdb", kept) }
	}
	name := conformance.Database(p.dir)
	root := func(statements ...string) {
		w, err := registry.OpenWarehouse(context.Background(), "postgres", map[string]any{"url": server}, p.dir)
		if err != nil {
			p.t.Fatal(err)
		}
		defer w.Close()
		for _, q := range statements {
			if _, err := w.Exec(context.Background(), q); err != nil {
				p.t.Fatalf("%s: %v", q, err)
			}
		}
	}
	root("CREATE DATABASE " + name + "_kept TEMPLATE " + name)
	return func() { root("DROP DATABASE "+name, "CREATE DATABASE "+name+" TEMPLATE "+name+"_kept") }
}

// leaseEnds lets the time of a dead run's lock pass, which on DuckDB nobody waits for: it has the file alone.
func (p *project) leaseEnds() {
	if server != "" || conformance.Carried() != "" {
		p.exec("UPDATE dray.lock_people SET until = TIMESTAMP '2000-01-01 00:00:00'")
	}
}

func (p *project) options() run.Options {
	return run.Options{Dir: p.dir, Env: func(k string) (string, bool) { v, ok := p.env[k]; return v, ok }}
}

// run opens the project, runs syncs and closes it: one process's life.
func (p *project) run(allow ...string) ([]report.Run, error) {
	p.t.Helper()
	s := p.open()
	defer s.Close()
	return s.Run(context.Background(), nil, run.RunOptions{Allow: allow})
}

// must runs one sync and wants an exit code.
func (p *project) must(code int, allow ...string) report.Run {
	p.t.Helper()
	reports, err := p.run(allow...)
	if len(reports) != 1 {
		p.t.Fatalf("%d reports, error %v", len(reports), err)
	}
	if reports[0].ExitCode != code {
		p.t.Fatalf("exit code %d, want %d; error %v; report %s", reports[0].ExitCode, code, err, canonical(reports[0]))
	}
	return reports[0]
}

// exec changes the warehouse between runs.
func (p *project) exec(statements ...string) {
	p.t.Helper()
	w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"path": "w.duckdb"}, p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Close()
	for _, q := range statements {
		if server != "" && strings.HasPrefix(q, "ALTER TABLE raw.") { // PostgreSQL keeps what a view reads from being altered
			if _, err := w.Exec(context.Background(), "DROP VIEW IF EXISTS dray.people CASCADE"); err != nil {
				p.t.Fatal(err)
			}
		}
		if _, err := w.Exec(context.Background(), q); err != nil {
			p.t.Fatalf("%s: %v", q, err)
		}
	}
}

// query reads rows as text.
func (p *project) query(q string) []string {
	p.t.Helper()
	w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"path": "w.duckdb"}, p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Close()
	rows, err := w.Query(context.Background(), q)
	if err != nil {
		p.t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			p.t.Fatal(err)
		}
		out = append(out, strings.Trim(fmt.Sprint(v...), "[]"))
	}
	return out
}

// hookProject is a table raw.people(id, email, name, n) delivered to a receiver.
func hookProject(t testing.TB, r *receiver, sync string) *project {
	yaml := fmt.Sprintf(`
name: test
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources:
  - {name: raw, schema: raw, tables: [{name: people}]}
models:
  - {name: people, primary_key: id, sql: "select * from {{ source('raw', 'people') }}"}
destinations:
  - {name: hook, type: webhook, url: "%s", batch_size: 3, settle: 0s}
syncs:
  - name: people
    model: people
    destination: hook
    object: people
    retry: {attempts: 2}
    fields: {email: email, name: name, n: n}
    %s
`, r.URL, strings.ReplaceAll(strings.TrimSpace(sync), "\n", "\n    "))
	p := newProject(t, yaml, nil)
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.people (id BIGINT, email VARCHAR, name VARCHAR, n INTEGER)")
	return p
}

func (p *project) read(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}
