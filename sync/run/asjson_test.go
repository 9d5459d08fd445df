package run_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
)

// given is a connector whose destinations are given rows as JSON or, although they would take that, their values; it counts the former.
type given struct {
	destination.Connector
	values bool
	json   *atomic.Int64
}

func (g given) Open(ctx context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	d, err := g.Connector.Open(ctx, cfg, env)
	return &giving{d, g}, err
}

type giving struct {
	destination.Destination
	given given
}

func (g *giving) TakesJSON(string) bool { return !g.given.values }

func (g *giving) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	for _, c := range b.Changes {
		if c.JSON != nil {
			g.given.json.Add(1)
		}
	}
	return g.Destination.Write(ctx, b)
}

// A destination that takes rows as JSON is sent what one that makes them of values is sent, byte by byte: adds, updates and removes
// of every kind, of several columns of key, with fields that are left out where they are NULL.
func TestRowsAsJSONAreTheirValues(t *testing.T) {
	t.Parallel()
	if server != "" || conformance.Carried() != "" {
		t.Skip("only DuckDB gives rows as JSON")
	}
	for name, sync := range map[string]string{
		"delete":            "mode: mirror\nkey: {id: id}\non_remove: delete",
		"set":               "mode: mirror\nkey: {id: id}\non_remove: {set: {name: gone}}",
		"an action":         "mode: mirror\nkey: {id: id}\non_remove: {action: archive}",
		"a key of two":      "mode: mirror\nkey: {id: id, mail: email}\non_remove: delete",
		"one of two":        "mode: mirror\nkey: [{email: email}, {id: id}]\non_remove: delete",
		"nulls left out":    "mode: upsert\nkey: {id: id}\nnulls: omit",
		"insert":            "mode: insert\nkey: {id: id, mail: email}",
		"all that is there": "mode: upsert\nkey: {id: id}\nsend: all",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent [2][]string
			for i := range sent {
				sent[i] = history(t, sync, i == 1)
			}
			if len(sent[0]) < 10 {
				t.Errorf("%d changes were sent", len(sent[0]))
			}
			if diff := cmp.Diff(sent[1], sent[0]); diff != "" {
				t.Errorf("values -, JSON +:\n%s", diff)
			}
		})
	}
}

// history is what three runs of a sync send, a change a line.
func history(t *testing.T, sync string, values bool) []string {
	bodies := newBodies(t)
	p := hookProject(t, &receiver{Server: bodies.Server}, sync)
	webhook, _ := registry.Destination("webhook")
	var asJSON atomic.Int64
	p.connectors = map[string]destination.Connector{"webhook": given{webhook, values, &asJSON}}
	p.remap("{name: name, n: n, address.city: city, address.geo: {column: geo, trigger: true}, seen: seen, price: price, ratio: ratio, always: {value: dray}}")
	p.exec("ALTER TABLE raw.people ADD COLUMN city VARCHAR", "ALTER TABLE raw.people ADD COLUMN geo DOUBLE[]", "ALTER TABLE raw.people ADD COLUMN seen TIMESTAMP",
		"ALTER TABLE raw.people ADD COLUMN price DECIMAL(12,2)", "ALTER TABLE raw.people ADD COLUMN ratio DOUBLE",
		`INSERT INTO raw.people SELECT i, CASE WHEN i <> 3 THEN 'E' || i || '@x.dk' END, CASE WHEN i % 3 > 0 THEN 'n"' || i || chr(10) END, i, 'Århus', [i / 3, NULL],
			TIMESTAMP '2026-01-01' + INTERVAL 1 MICROSECOND * i, i / 8, CASE i WHEN 4 THEN 'nan'::DOUBLE WHEN 5 THEN NULL ELSE 1 / i END FROM range(1, 12) t(i)`)
	for _, change := range []string{
		"SELECT 1",
		"UPDATE raw.people SET n = 100, name = NULL WHERE id IN (2, 6, 7)",
		"DELETE FROM raw.people WHERE id IN (1, 8)",
	} {
		p.exec(change)
		if _, err := p.run(); err != nil {
			t.Fatal(err)
		}
	}
	if n := asJSON.Load(); (n == 0) != (values || strings.Contains(sync, "key: [")) { // of several identities one is NULL: that takes values
		t.Errorf("%d rows were given as JSON", n)
	}
	slices.Sort(bodies.changes)
	return bodies.changes
}

// bodies keeps the changes of all bodies as they were written.
type bodies struct {
	*httptest.Server
	mu      sync.Mutex
	changes []string
}

func newBodies(t *testing.T) *bodies {
	b := &bodies{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var body struct{ Changes []json.RawMessage }
		if err == nil {
			err = json.Unmarshal(raw, &body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range body.Changes {
			b.changes = append(b.changes, string(c))
		}
	}))
	t.Cleanup(b.Close)
	return b
}
