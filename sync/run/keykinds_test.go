package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// keyed is a project of one sync for each kind of key, to a store that knows its rows by key.
type keyed struct {
	*project
	fields []conformance.Field // the key of sync k<i>
	values [][]any             // those that differ, without NULL

	mu      sync.Mutex
	store   map[string]map[string]string // sync → key → v
	changes int
	refuses func(key string) bool
}

func newKeyed(t *testing.T) *keyed {
	k := &keyed{store: map[string]map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { k.serve(t, w, req) }))
	t.Cleanup(server.Close)
	k.project = newProject(t, "", nil)
	var models, syncs strings.Builder
	k.with(func(w warehouse.Warehouse) {
		for _, f := range conformance.Fields(w.Dialect()) {
			if f.Kind == warehouse.JSON {
				continue // is no key
			}
			var values []any
			for _, v := range f.Values {
				if conformance.Carried() == "snowflake" && v == "-0.000000001" {
					continue // DuckDB's hash stands in, which takes it for 0
				}
				if v != nil && !(v == 0.0 && slices.Contains(values, any(0.0))) && v != "" { // -0 is 0, and an empty text is no key
					values = append(values, v)
				}
			}
			n := len(k.fields)
			k.fields, k.values = append(k.fields, f), append(k.values, values)
			column, err := json.Marshal(f.Name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&models, "  - {name: k%d, primary_key: id, sql: \"select * from raw.k%[1]d\"}\n", n)
			fmt.Fprintf(&syncs, "  - {name: k%d, model: k%[1]d, destination: hook, object: o%[1]d, mode: mirror, key: {key: %s}, fields: {v: v}, on_remove: delete, null_key: skip, guard: {max_changes: 100%%, max_removes: 100%%}}\n",
				n, column)
		}
	})
	k.write("dray.yaml", fmt.Sprintf("name: test\nversion: 1\nwarehouse: {type: duckdb, path: w.duckdb}\nmodels:\n%sdestinations:\n  - {name: hook, type: webhook, url: \"%s\", settle: 0s}\nsyncs:\n%s",
		&models, server.URL, &syncs))
	return k
}

func (k *keyed) serve(t *testing.T, w http.ResponseWriter, req *http.Request) {
	var body struct {
		Sync    string
		Changes []hookChange
	}
	decoder := json.NewDecoder(req.Body)
	decoder.UseNumber() // digits as they were sent
	if err := decoder.Decode(&body); err != nil {
		t.Error(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var n int
	if _, err := fmt.Sscanf(body.Sync, "k%d", &n); err != nil {
		t.Error(err)
	}
	if k.store[body.Sync] == nil {
		k.store[body.Sync] = map[string]string{}
	}
	results := make([]map[string]string, len(body.Changes))
	for i, c := range body.Changes {
		key := received(t, k.fields[n], c.Key["key"])
		if k.refuses != nil && k.refuses(key) {
			results[i] = map[string]string{"status": "rejected", "code": "no"}
			continue
		}
		results[i] = map[string]string{"status": "delivered"}
		k.changes++
		if c.Operation == "remove" {
			delete(k.store[body.Sync], key)
			continue
		}
		k.store[body.Sync][key] = fmt.Sprint(c.Fields["v"])
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"results": results}); err != nil {
		t.Error(err)
	}
}

func (k *keyed) with(do func(w warehouse.Warehouse)) {
	k.t.Helper()
	w, err := openWarehouse(context.Background(), "duckdb", map[string]any{"path": "w.duckdb"}, k.dir)
	if err != nil {
		k.t.Fatal(err)
	}
	defer w.Close()
	do(w)
}

// have fills the sources: v says what stands beside value number i of n, "" = there is no such row; twice adds a row with a key that
// another has. What it gives is how the destination should stand, and how many rows each sync has.
func (k *keyed) have(v func(i, n int) string, twice bool) (want map[string]map[string]string, rows []int) {
	k.t.Helper()
	want = map[string]map[string]string{}
	k.with(func(w warehouse.Warehouse) {
		for n, f := range k.fields {
			fields := []conformance.Field{conformance.ID(), f, {Name: "v", Kind: warehouse.Text}}
			data := [][]any{{int64(1000), nil, "no key"}}
			sync := fmt.Sprintf("k%d", n)
			want[sync] = map[string]string{}
			for i, value := range k.values[n] {
				if text := v(i, len(k.values[n])); text != "" {
					data = append(data, []any{int64(i), value, text})
					want[sync][conformance.Canon(f.Kind, value)] = text
				}
			}
			if twice {
				data = append(data, []any{int64(2000), data[1][1], "once more"})
			}
			rows = append(rows, len(data)-1)
			conformance.Table(k.t, w, warehouse.Table{Schema: "raw", Name: sync}, fields, data)
		}
	})
	return want, rows
}

// goes runs all syncs, which must end with a code.
func (k *keyed) goes(code int) []report.Run {
	k.t.Helper()
	s := k.open()
	defer s.Close()
	reports, err := s.Run(context.Background(), nil, run.RunOptions{})
	if len(reports) != len(k.fields) {
		k.t.Fatalf("%d reports, %v", len(reports), err)
	}
	for _, rep := range reports {
		if rep.ExitCode != code {
			k.t.Errorf("%s: exit code %d, want %d: %s", rep.Sync, rep.ExitCode, code, canonical(rep))
		}
		if cerr := rep.Check(); cerr != nil {
			k.t.Error(cerr)
		}
	}
	slices.SortFunc(reports, func(a, b report.Run) int { return index(a.Sync) - index(b.Sync) })
	return reports
}

func index(sync string) (n int) {
	_, _ = fmt.Sscanf(sync, "k%d", &n)
	return n
}

func (k *keyed) stands(what string, want map[string]map[string]string) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if diff := cmp.Diff(want, k.store); diff != "" {
		k.t.Errorf("%s: want -, got +:\n%.3000s", what, diff)
	}
}

// A row is known by a key of any kind: what is new, changed and gone, what has no key or one that another has, what was refused, and
// what a run that was cut off left open.
func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	want, rows := k.have(func(int, int) string { return "old" }, false)
	for n, rep := range k.goes(0) {
		if rep.Delivered.Add != int64(rows[n]) || rep.Skipped.Reasons["null_key"] != 1 {
			t.Errorf("the first run: %s", canonical(rep))
		}
	}
	k.stands("the first run", want)
	for n, rep := range k.goes(0) {
		if rep.Requests != 0 || rep.Unchanged != int64(rows[n]) {
			t.Errorf("nothing changed: %s", canonical(rep))
		}
	}

	// Every other value is changed, the last is gone.
	change := func(i, n int) string {
		switch {
		case i == n-1:
			return ""
		case i%2 == 0:
			return "new"
		}
		return "old"
	}
	k.have(change, true)
	k.changes = 0
	k.goes(2)
	if k.changes != 0 {
		t.Errorf("%d changes were sent although a key is doubled", k.changes)
	}
	changed, rows := k.have(change, false)
	k.refuses = func(key string) bool { return len(key)%2 == 0 }
	refused := make([]report.Run, 0, len(k.fields))
	s := k.open()
	reports, _ := s.Run(context.Background(), nil, run.RunOptions{})
	_ = s.Close()
	for _, rep := range reports {
		if err := rep.Check(); err != nil {
			t.Error(err)
		}
		refused = append(refused, rep)
	}
	slices.SortFunc(refused, func(a, b report.Run) int { return index(a.Sync) - index(b.Sync) })
	for n, rep := range refused {
		sync := fmt.Sprintf("k%d", n)
		no := counts(t, changed[sync], want[sync], k.refuses)
		if rep.Rejected != no || rep.Planned.Update-no.Update != rep.Delivered.Update || rep.Planned.Remove != 1 {
			t.Errorf("%d of %s were to be refused: %s", no, sync, canonical(rep))
		}
	}
	k.refuses = nil
	s = k.open()
	for n := range k.fields {
		if freed, err := s.Retry(context.Background(), fmt.Sprintf("k%d", n)); err != nil || freed != refused[n].Rejected.Total() {
			t.Errorf("k%d: %d rows are freed, %v", n, freed, err)
		}
	}
	_ = s.Close()
	for n, rep := range k.goes(0) {
		if rep.Delivered.Total() != refused[n].Rejected.Total() || rep.Unchanged+rep.Delivered.Update != int64(rows[n]) {
			t.Errorf("refused rows go again: %s", canonical(rep))
		}
	}
	k.stands("changed", changed)
	k.changes = 0
	k.goes(0)
	if k.changes != 0 {
		t.Errorf("%d changes were sent at the end", k.changes)
	}
}

// counts says how many changes from one state to the other are refused.
func counts(t *testing.T, now, was map[string]string, refuses func(key string) bool) (out report.Counts) {
	t.Helper()
	for key, v := range was {
		switch is, there := now[key]; {
		case !refuses(key):
		case !there:
			out.Remove++
		case is != v:
			out.Update++
		}
	}
	return out
}
