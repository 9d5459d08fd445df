package bigquery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

func connect(t *testing.T, s *server, options map[string]any) *Warehouse {
	t.Helper()
	w, err := opened(t, s, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func opened(t *testing.T, s *server, options map[string]any, transport http.RoundTripper) (*Warehouse, error) {
	t.Helper()
	all := map[string]any{"project": "shop-project", "location": s.location, "api_endpoint": s.URL}
	maps.Copy(all, options)
	o, err := parse(all, t.TempDir())
	if err != nil {
		return nil, err
	}
	w, err := open(t.Context(), o, transport)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = w.Close() })
	w.patience, w.pause = 20*time.Second, time.Millisecond
	return w, w.probe(t.Context())
}

func field(name, typ string) map[string]any { return map[string]any{"name": name, "type": typ} }

func always(a answer) func(string) answer {
	return func(sql string) answer {
		if sql == "SELECT 1" {
			return answer{}
		}
		return a
	}
}

func hint(err error) string {
	var q *warehouse.QueryError
	if errors.As(err, &q) {
		return q.Hint
	}
	var d *diag.Error
	if errors.As(err, &d) {
		return d.Hint
	}
	return ""
}

func TestStatementBearsItsSettings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{typ: "UPDATE", affected: 7, polls: 3})
	w := connect(t, s, map[string]any{
		"dataset": "dray", "execution_project": "pays-for-it", "priority": "batch", "maximum_bytes_billed": 1000, "job_execution_timeout_seconds": 60,
		"labels": map[string]any{"team": "growth"},
	})
	ctx := warehouse.Label(warehouse.Label(t.Context(), "command", "run"), "sync", "Customers to CRM")
	n, err := w.Exec(ctx, "UPDATE x SET a = 1 WHERE true")
	if err != nil || n != 7 {
		t.Fatalf("got %d, %v", n, err)
	}
	var insert call
	for _, c := range s.calls {
		if c.method == "jobs.insert" {
			insert = c
		}
	}
	got, err := json.Marshal(insert.body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"jobId":"dray_`, `"location":"EU"`, `"projectId":"pays-for-it"`, `"priority":"BATCH"`, `"maximumBytesBilled":"1000"`, `"jobTimeoutMs":"60000"`,
		`"defaultDataset":{"datasetId":"dray","projectId":"shop-project"}`, `"connectionProperties":[{"key":"dataset_project_id","value":"shop-project"}]`,
		`"labels":{"dray":"true","dray_command":"run","dray_sync":"customers_to_crm","team":"growth"}`, `"useLegacySql":false`,
	} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("the job has no %s: %s", want, got)
		}
	}
}

// A statement runs once, whatever becomes of the answers.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	unavailable := &apiError{503, "backendError", "Error encountered during execution. Retrying may solve the problem."}
	for name, faults := range map[string][]*fault{
		"the answer is lost":            {{method: "jobs.insert", lost: true, times: 1}},
		"the answer is lost twice":      {{method: "jobs.insert", lost: true, times: 1}, {method: "jobs.get", cut: true, times: 1}},
		"the request is lost":           {{method: "jobs.insert", cut: true, times: 1}},
		"503, and then it is taken":     {{method: "jobs.insert", err: unavailable, times: 1}},
		"503 while polling":             {{method: "jobs.get", err: unavailable, times: 1}},
		"a connection broke at polling": {{method: "jobs.get", cut: true, times: 1}},
		"lost, 503 when looked up":      {{method: "jobs.insert", lost: true, times: 1}, {method: "jobs.get", err: unavailable, times: 1}},
		"too fast":                      {{method: "jobs.insert", err: &apiError{403, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method"}, times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{typ: "INSERT", affected: 1, polls: 2})
			w := connect(t, s, nil)
			s.faults = faults
			n, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1")
			if err != nil || n != 1 {
				t.Errorf("got %d, %v", n, err)
			}
			if len(s.ran) != 1 {
				t.Errorf("it ran %d times", len(s.ran))
			}
		})
	}
}

// A job of a single region is found again only where its location is known.
func TestLostAnswerWithoutLocation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.location = "europe-west1"
	s.answer = always(answer{typ: "INSERT"})
	w := connect(t, s, map[string]any{"location": ""})
	s.faults = []*fault{{method: "jobs.insert", lost: true, times: 1}}
	_, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1")
	if !errors.Is(err, warehouse.ErrEngine) || !strings.Contains(hint(err), "set location") || len(s.ran) != 1 {
		t.Errorf("got %v (%s), ran %d times", err, hint(err), len(s.ran))
	}

	s.datasets["shop-project.dray"] = "europe-west1"
	w = connect(t, s, map[string]any{"location": "", "dataset": "dray"}) // which tells it
	s.faults = []*fault{{method: "jobs.insert", lost: true, times: 1}}
	if _, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1"); err != nil || len(s.ran) != 2 {
		t.Errorf("got %v, ran %d times", err, len(s.ran))
	}
}

// What failed for certain, for a reason that passes, is run again; anything else is not.
func TestFailedJobs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  map[string]any
		runs int
	}{
		"backendError":    {map[string]any{"reason": "backendError", "message": "An internal error occurred and the request could not be completed."}, 3},
		"a conflict":      {map[string]any{"reason": "invalidQuery", "message": "Transaction is aborted due to concurrent update against table shop-project:dray.lock_a. Transaction ID: 1"}, 3},
		"a serialisation": {map[string]any{"reason": "invalidQuery", "message": "Could not serialize access to table shop-project:dray.lock_a due to concurrent update"}, 3},
		"quotaExceeded":   {map[string]any{"reason": "quotaExceeded", "message": "Quota exceeded: Your table exceeded quota for imports or query appends per table."}, 1},
		"a wrong cast":    {map[string]any{"reason": "invalidQuery", "message": "Bad int64 value: secret"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			runs := 0
			s.answer = func(sql string) answer {
				if sql == "SELECT 1" {
					return answer{}
				}
				if runs++; runs < 3 {
					return answer{err: tt.err}
				}
				return answer{typ: "UPDATE", affected: 5}
			}
			w := connect(t, s, nil)
			_, err := w.Exec(t.Context(), "UPDATE a SET b = 1 WHERE true")
			if runs != tt.runs || (err == nil) != (tt.runs == 3) {
				t.Errorf("ran %d times, want %d: %v", runs, tt.runs, err)
			}
			ids := map[any]bool{}
			for _, c := range s.calls {
				if c.method == "jobs.insert" && c.body["configuration"].(map[string]any)["dryRun"] == nil {
					ids[c.body["jobReference"].(map[string]any)["jobId"]] = true
				}
			}
			if len(ids) != runs {
				t.Errorf("%d ids for %d jobs: one that failed cannot be run again", len(ids), runs)
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		is        answer
		wants     error
		msg, hint string
	}{
		"no permission on a table": {
			answer{refused: &apiError{403, "accessDenied", "Access Denied: Table shop-project:raw.orders: Permission bigquery.tables.getData denied on table shop-project:raw.orders (or it may not exist)."}},
			warehouse.ErrDenied, "permission bigquery.tables.getData is missing: Access Denied: Table shop-project:raw.orders", "grant roles/bigquery.dataViewer on the dataset",
		},
		"no permission to run jobs": {
			answer{refused: &apiError{403, "accessDenied", "Access Denied: Project shop-project: User does not have bigquery.jobs.create permission in project shop-project."}},
			warehouse.ErrDenied, "permission bigquery.jobs.create is missing", "roles/bigquery.jobUser",
		},
		"a table is gone": {
			answer{err: map[string]any{"reason": "notFound", "message": "Not found: Table shop-project:raw.orders was not found in location EU"}},
			warehouse.ErrNotFound, "Not found: Table shop-project:raw.orders", "set location",
		},
		"cancelled by somebody": {
			answer{err: map[string]any{"reason": "stopped", "message": "Job execution was cancelled: User requested cancellation"}},
			warehouse.ErrEngine, "User requested cancellation", "somebody cancelled job dray_",
		},
		"too long": {
			answer{err: map[string]any{"reason": "stopped", "message": "Job execution was cancelled: Job timed out after 1m"}},
			warehouse.ErrEngine, "Job timed out", "job_execution_timeout_seconds",
		},
		"a quota": {
			answer{refused: &apiError{403, "quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned."}},
			warehouse.ErrEngine, "Quota exceeded", "Quotas of the project",
		},
		"too dear": {
			answer{bytes: 5000},
			warehouse.ErrEngine, "Query exceeded limit for bytes billed: 1000. 5000 or higher required.", "raise maximum_bytes_billed",
		},
		"no billing": {
			answer{refused: &apiError{403, "billingNotEnabled", "Billing has not been enabled for this project. DML queries are not allowed in the free tier."}},
			warehouse.ErrEngine, "Billing has not been enabled", "enable billing",
		},
		"two regions": {
			answer{err: map[string]any{"reason": "invalid", "message": "Cannot read and write in different locations: source: EU, destination: US"}},
			warehouse.ErrEngine, "different locations", "set location",
		},
		"wrong credentials": {
			answer{refused: &apiError{401, "authError", "Request had invalid authentication credentials."}},
			warehouse.ErrDenied, "does not accept the credentials", "keyfile",
		},
		"out of memory": {
			answer{err: map[string]any{"reason": "resourcesExceeded", "message": "Resources exceeded during query execution: The query could not be executed in the allotted memory."}},
			warehouse.ErrEngine, "Resources exceeded", "memory or slots",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(tt.is)
			w := connect(t, s, map[string]any{"maximum_bytes_billed": "1_000"})
			_, err := w.Exec(t.Context(), "SELECT 2")
			if !errors.Is(err, tt.wants) || !strings.Contains(err.Error(), tt.msg) || !strings.Contains(hint(err), tt.hint) {
				t.Errorf("got %v (%s)", err, hint(err))
			}
		})
	}
}

// No error quotes what a statement or a table holds.
func TestErrorsWithoutValues(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"Bad int64 value: anna@example.com":                                          "Bad int64 value: ***",
		"Could not cast literal 'anna@example.com' to type INT64 at [3:8]":           "line 3: Could not cast literal '***' to type INT64",
		`Failed to parse JSON: syntax error near "anna@example.com"`:                 "Failed to parse JSON: ***",
		"Syntax error: Unexpected string literal 'anna@example.com' at [2:7]":        "line 2: Syntax error: Unexpected string literal '***'",
		`Syntax error: Unexpected identifier "orders" at [1:5]`:                      `line 1: Syntax error: Unexpected identifier "orders"`,
		"Unrecognized name: emial; Did you mean email? at [1:8]":                     "line 1: Unrecognized name: emial; Did you mean email?",
		"Invalid timestamp: 'anna@example.com'":                                      "Invalid timestamp: ***",
		"division by zero: 4711 / 0":                                                 "division by zero: ***",
		"int64 overflow: 9223372036854775807 + 4711":                                 "int64 overflow: ***",
		"Syntax error: Unexpected integer literal 4711 at [1:1]":                     "line 1: Syntax error: Unexpected integer literal ***",
		"Could not convert value to integer. Field: n; Value: anna@example.com 4711": "Could not convert value to integer. Field: n; Value: ***",
	} {
		s := newServer(t)
		s.answer = always(answer{err: map[string]any{"reason": "invalidQuery", "message": message}})
		w := connect(t, s, nil)
		_, err := w.Exec(t.Context(), "SELECT 'anna@example.com'")
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// A context that ends takes its job with it.
func TestCancellation(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fault{
		"while it runs":         {method: "jobs.get", times: 0},
		"while it is handed in": {method: "jobs.insert", times: 1, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{polls: 1 << 30})
			w := connect(t, s, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if f.times == 0 {
				s.faults = []*fault{{method: "jobs.get", times: 1, before: cancel}}
			} else {
				f.before = nil
				s.faults = []*fault{f, {method: "jobs.get", times: 1, before: cancel, stall: true}}
			}
			_, err := w.Exec(ctx, "SELECT 2")
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for id, j := range s.jobs {
				if !j.cancelled {
					t.Errorf("job %s runs on", id)
				}
			}
			if len(s.jobs) != 1 {
				t.Errorf("%d jobs", len(s.jobs))
			}
		})
	}
}

// A server that is away fails a statement after a while; one that is away for good does not hang it.
func TestPatience(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fault{
		"503":                 {method: "jobs.insert", times: 1 << 30, err: &apiError{503, "backendError", "unavailable"}},
		"rate limit":          {method: "jobs.insert", times: 1 << 30, err: &apiError{403, "rateLimitExceeded", "Exceeded rate limits"}},
		"no answer":           {method: "jobs.insert", times: 1 << 30, stall: true},
		"503 at the results":  {method: "jobs.getQueryResults", times: 1 << 30, err: &apiError{503, "backendError", "unavailable"}},
		"silence at results":  {method: "jobs.getQueryResults", times: 1 << 30, stall: true},
		"silence when polled": {method: "jobs.get", times: 1 << 30, stall: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{polls: 1})
			w := connect(t, s, nil)
			w.patience = 300 * time.Millisecond
			s.faults = []*fault{f}
			_, err := w.Query(t.Context(), "SELECT 2")
			if !errors.Is(err, warehouse.ErrEngine) || hint(err) == "" {
				t.Errorf("got %v (%s)", err, hint(err))
			}
		})
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.page = 2
	nested := map[string]any{"name": "s", "type": "RECORD", "fields": []map[string]any{field("a", "INTEGER"), {"name": "b", "type": "STRING", "mode": "REPEATED"}}}
	row := []any{
		"9223372036854775807", "1.5", "true", "æ 'q'\n", "99999999999999999999999999999.999999999", "0.00000000000000000000000000000000000001",
		"2024-02-29", "1709251199123456", "2024-02-29T23:59:59.123456", "23:59:59.5", "aGVq", `{"a": [1, null]}`,
		map[string]any{"f": []any{map[string]any{"v": "1"}, map[string]any{"v": []any{map[string]any{"v": "x"}, map[string]any{"v": "y"}}}}},
		[]any{map[string]any{"v": "1"}, map[string]any{"v": "2"}},
	}
	var rows [][]any
	for range 5 {
		rows = append(rows, row)
	}
	rows = append(rows, make([]any, len(row)))
	rows[5][13] = []any{} // an array is never NULL
	s.answer = always(answer{
		schema: []map[string]any{
			field("i", "INTEGER"), field("f", "FLOAT"), field("b", "BOOLEAN"), field("t", "STRING"), field("n", "NUMERIC"), field("bn", "BIGNUMERIC"), field("d", "DATE"), field("ts", "TIMESTAMP"),
			field("dt", "DATETIME"), field("tm", "TIME"), field("by", "BYTES"), field("j", "JSON"), nested,
			{"name": "l", "type": "INTEGER", "mode": "REPEATED"},
		},
		rows: rows,
	})
	w := connect(t, s, nil)
	r, err := w.Query(t.Context(), "SELECT *")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := []any{
		int64(9223372036854775807), 1.5, true, "æ 'q'\n", "99999999999999999999999999999.999999999", "0.00000000000000000000000000000000000001",
		time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC),
		time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC), "23:59:59.500000", "aGVq", `{"a": [1, null]}`, `{"a":1,"b":["x","y"]}`, "[1,2]",
	}
	types := []string{"INT64", "FLOAT64", "BOOL", "STRING", "NUMERIC", "BIGNUMERIC", "DATE", "TIMESTAMP", "DATETIME", "TIME", "BYTES", "JSON", "STRUCT<`a` INT64, `b` ARRAY<STRING>>", "ARRAY<INT64>"}
	for i, c := range r.Columns() {
		if c.Type != types[i] || c.Kind != w.dialect.KindOf(types[i]) {
			t.Errorf("column %s is %s (%s), want %s", c.Name, c.Type, c.Kind, types[i])
		}
	}
	n := 0
	for ; r.Next(); n++ {
		got, err := r.Values()
		if err != nil {
			t.Fatal(err)
		}
		if n == 5 {
			want = make([]any, len(row))
			want[13] = "[]"
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("row %d, %s: got %#v, want %#v", n, types[i], got[i], want[i])
			}
		}
	}
	if r.Err() != nil || n != 6 {
		t.Errorf("%d rows, %v", n, r.Err())
	}
}

func TestManyPages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const all = 2345
	is := answer{schema: []map[string]any{field("i", "INTEGER")}}
	for i := range all {
		is.rows = append(is.rows, []any{fmt.Sprint(i)})
	}
	s.answer = always(is)
	w := connect(t, s, nil)
	s.faults = []*fault{
		{method: "jobs.getQueryResults", err: &apiError{503, "backendError", "unavailable"}, times: 1},
	}
	r, err := w.Query(t.Context(), "SELECT i")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range all {
		if !r.Next() {
			t.Fatalf("row %d is missing: %v", i, r.Err())
		}
		if v, err := r.Values(); err != nil || v[0] != int64(i) {
			t.Fatalf("row %d is %v, %v", i, v, err)
		}
	}
	if r.Next() || r.Err() != nil {
		t.Errorf("more rows, or %v", r.Err())
	}
	pages := 0
	for _, c := range s.calls {
		if c.method == "jobs.getQueryResults" && c.query["pageToken"] != nil {
			pages++
		}
	}
	if pages != all/100 {
		t.Errorf("%d pages by token", pages)
	}
}

func TestDryRuns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{schema: []map[string]any{field("id", "INTEGER"), {"name": "price", "type": "NUMERIC", "precision": "10", "scale": "2"}}, bytes: 123456789})
	w := connect(t, s, map[string]any{"maximum_bytes_billed": 1000000000})
	columns, err := w.Columns(t.Context(), "SELECT id, price FROM raw.orders")
	if err != nil || !slices.Equal(columns, []warehouse.Column{{Name: "id", Type: "INT64", Kind: warehouse.Int}, {Name: "price", Type: "NUMERIC(10, 2)", Kind: warehouse.Decimal}}) {
		t.Errorf("got %v, %v", columns, err)
	}
	n, err := w.Estimate(t.Context(), "SELECT id, price FROM raw.orders")
	if err != nil || n != 123456789 {
		t.Errorf("got %d, %v", n, err)
	}
	if len(s.ran) > 0 {
		t.Errorf("ran %v", s.ran)
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.tables["shop-project.dray.here"], s.tables["other-project.raw.here"] = &serverTable{}, &serverTable{}
	w := connect(t, s, map[string]any{"dataset": "dray", "execution_project": "pays-for-it"})
	for _, tt := range []struct {
		table warehouse.Table
		want  bool
	}{
		{warehouse.Table{Name: "here"}, true},
		{warehouse.Table{Schema: "dray", Name: "here"}, true},
		{warehouse.Table{Schema: "dray", Name: "gone"}, false},
		{warehouse.Table{Schema: "nowhere", Name: "here"}, false},
		{warehouse.Table{Database: "other-project", Schema: "raw", Name: "here"}, true},
	} {
		if got, err := w.Exists(t.Context(), tt.table); err != nil || got != tt.want {
			t.Errorf("%v: got %v, %v", tt.table, got, err)
		}
	}
	s.faults = []*fault{{method: "tables.get", times: 1, err: &apiError{403, "accessDenied", "Access Denied: Table x: Permission bigquery.tables.get denied on table x"}}}
	if _, err := w.Exists(t.Context(), warehouse.Table{Name: "here"}); !errors.Is(err, warehouse.ErrDenied) {
		t.Errorf("got %v", err)
	}
	w = connect(t, s, nil)
	if _, err := w.Exists(t.Context(), warehouse.Table{Name: "here"}); err == nil || !strings.Contains(hint(err), "dataset") {
		t.Errorf("got %v", err)
	}
}

func TestAtomic(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		statements []string
		want       string
	}{
		"nothing": {nil, ""},
		"one":     {[]string{"UPDATE a SET b = 1 WHERE true"}, "UPDATE a SET b = 1 WHERE true"},
		"rows":    {[]string{"INSERT INTO a SELECT 1 -- one", "DELETE FROM b WHERE true"}, "BEGIN TRANSACTION\n;\nINSERT INTO a SELECT 1 -- one\n;\nDELETE FROM b WHERE true\n;\nCOMMIT TRANSACTION"},
		"a table between, and one dropped": {
			[]string{"-- the fence\nUPDATE `d`.`lock` SET a = 1 WHERE true", "CREATE OR REPLACE TABLE `d`.`ended` AS SELECT 1", "DELETE FROM `d`.`pending` WHERE true", "DROP TABLE `d`.`ended`"},
			"CREATE OR REPLACE TABLE `d`.`ended` AS SELECT 1\n;\nBEGIN TRANSACTION\n;\n-- the fence\nUPDATE `d`.`lock` SET a = 1 WHERE true\n;\nDELETE FROM `d`.`pending` WHERE true\n;\nCOMMIT TRANSACTION\n;\nDROP TABLE `d`.`ended`",
		},
		"tables alone": {[]string{"DROP VIEW v", "CREATE TABLE v AS SELECT 1"}, "DROP VIEW v\n;\nCREATE TABLE v AS SELECT 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{typ: "SCRIPT"})
			if err := connect(t, s, nil).Atomic(t.Context(), tt.statements...); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.ran, "|"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
	if _, err := script([]string{"DELETE FROM `d`.`a` WHERE true", "CREATE TABLE b AS SELECT * FROM `d`.`a`"}); err == nil {
		t.Error("a table is made of rows before they are deleted")
	}
}

func TestScriptCountsItsStatements(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{typ: "SCRIPT", children: []int64{3, 0, 39}})
	n, err := connect(t, s, nil).Exec(t.Context(), "BEGIN TRANSACTION; …")
	if err != nil || n != 42 {
		t.Errorf("got %d, %v", n, err)
	}
}

func loaded(list ...[]any) func() ([]any, error) {
	return func() ([]any, error) {
		if len(list) == 0 {
			return nil, nil
		}
		row := list[0]
		list = list[1:]
		return row, nil
	}
}

func loadTable(s *server) *serverTable {
	t := &serverTable{schema: []map[string]any{
		field("n", "INTEGER"), field("f", "FLOAT"), field("b", "BOOLEAN"), field("t", "STRING"), field("m", "NUMERIC"), field("d", "DATE"), field("ts", "TIMESTAMP"), field("dt", "DATETIME"),
		field("j", "JSON"), field("not_loaded", "STRING"),
		{"name": "l", "type": "STRING", "mode": "REPEATED"},
	}}
	s.tables["shop-project.dray.outcomes"] = t
	return t
}

func TestLoad(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	into := loadTable(s)
	w := connect(t, s, nil)
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	table := warehouse.Table{Schema: "dray", Name: "outcomes"}
	columns := []string{"n", "f", "b", "t", "m", "d", "ts", "dt", "j", "l"}
	n, err := w.Load(t.Context(), table, columns, loaded(
		[]any{int64(9223372036854775807), 1.5, true, "a \"q\"\n\u2028ø", "1.10", at, at, at, "{\n\"a\": [1]}", `["x"]`},
		make([]any, 10),
	))
	if err != nil || n != 2 {
		t.Fatalf("got %d, %v", n, err)
	}
	want := `[{"b":true,"d":"2024-02-29","dt":"2024-02-29T23:59:59.123456","f":1.5,"j":{"a":[1]},"l":["x"],"m":"1.10","n":"9223372036854775807","t":"a \"q\"\n\u2028ø","ts":"2024-02-29T23:59:59.123456Z"},{}]`
	if got, err := json.Marshal(into.rows); err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n, err := w.Load(t.Context(), table, columns, loaded()); n != 0 || err != nil || len(s.ran) != 1 {
		t.Errorf("nothing: %d, %v, %v", n, err, s.ran)
	}
	wrong := errors.New("of the caller")
	first := true
	_, err = w.Load(t.Context(), table, columns, func() ([]any, error) {
		if first {
			first = false
			return make([]any, 10), nil
		}
		return nil, wrong
	})
	if !errors.Is(err, wrong) || len(into.rows) != 2 {
		t.Errorf("got %v, %d rows", err, len(into.rows))
	}
	if _, err := w.Load(t.Context(), table, []string{"t"}, loaded([]any{struct{}{}})); err == nil {
		t.Error("took a value that is none")
	}
	if _, err := w.Load(t.Context(), table, []string{"other"}, loaded([]any{"x"})); err == nil || !strings.Contains(err.Error(), "no column other") {
		t.Errorf("got %v", err)
	}
	if _, err := w.Load(t.Context(), table, []string{"n"}, loaded([]any{"anna@example.com"})); err == nil || strings.Contains(err.Error(), "anna") || len(into.rows) != 2 {
		t.Errorf("got %v, %d rows", err, len(into.rows))
	}
	if _, err := w.Load(t.Context(), warehouse.Table{Schema: "dray", Name: "gone"}, []string{"n"}, loaded([]any{int64(1)})); !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Rows are loaded once, whatever becomes of the answers.
func TestLoadWithLostAnswers(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]*fault{
		"the answer is lost":  {{method: "jobs.insert", lost: true, times: 1}},
		"the request is lost": {{method: "jobs.insert", cut: true, times: 1}},
		"503":                 {{method: "jobs.insert", err: &apiError{503, "backendError", "unavailable"}, times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			into := loadTable(s)
			w := connect(t, s, nil)
			s.faults = faults
			n, err := w.Load(t.Context(), warehouse.Table{Schema: "dray", Name: "outcomes"}, []string{"n"}, loaded([]any{int64(1)}, []any{int64(2)}))
			if err != nil || n != 2 || len(into.rows) != 2 {
				t.Errorf("got %d, %v: %v", n, err, into.rows)
			}
		})
	}
}

// What is too much to be kept goes up in chunks, while it is read.
func TestLargeLoad(t *testing.T) {
	t.Parallel()
	const n = 300_000
	text := strings.Repeat("x", 100)
	rows := func() func() ([]any, error) {
		i := 0
		return func() ([]any, error) {
			if i++; i > n {
				return nil, nil
			}
			return []any{int64(i), text}, nil
		}
	}
	table := warehouse.Table{Schema: "dray", Name: "outcomes"}
	for name, f := range map[string]*fault{
		"all is well":         nil,
		"the answer is lost":  {method: "upload", times: 1, lost: true},
		"the request is lost": {method: "upload", times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			into := loadTable(s)
			w := connect(t, s, nil)
			w.patience = 10 * time.Minute // the server reads all of it, on a machine that may be slow
			if f != nil {
				s.faults = []*fault{f}
			}
			got, err := w.Load(t.Context(), table, []string{"n", "t"}, rows())
			switch {
			case name == "the request is lost" && err != nil:
				if !errors.Is(err, warehouse.ErrEngine) || len(into.rows) != 0 {
					t.Errorf("got %v, %d rows", err, len(into.rows))
				}
			case err != nil || got != n || len(into.rows) != n:
				t.Errorf("got %d, %v: %d rows", got, err, len(into.rows))
			}
		})
	}
}

// Rows that fail while they are sent leave nothing behind.
func TestLargeLoadOfFailingRows(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	into := loadTable(s)
	w := connect(t, s, nil)
	wrong := errors.New("of the caller")
	i := 0
	_, err := w.Load(t.Context(), warehouse.Table{Schema: "dray", Name: "outcomes"}, []string{"n", "t"}, func() ([]any, error) {
		if i++; i > 200_000 {
			return nil, wrong
		}
		return []any{int64(i), strings.Repeat("x", 100)}, nil
	})
	if !errors.Is(err, wrong) || len(into.rows) > 0 || len(s.ran) > 0 {
		t.Errorf("got %v, %d rows, ran %v", err, len(into.rows), s.ran)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	account := s.serviceAccount()
	text, err := json.Marshal(account)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := account["private_key"].(string)

	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]map[string]any{"file": {"keyfile": file}, "text": {"keyfile_json": string(text)}} {
		if w, err := opened(t, s, options, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, err := w.Exec(t.Context(), "SELECT 2"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.tokens["token-of-dray"] != "dray@shop-project.iam.gserviceaccount.com" {
		t.Errorf("the token is %q's", s.tokens["token-of-dray"])
	}

	if _, err := opened(t, s, nil, nil); err == nil || !strings.Contains(err.Error(), "does not accept the credentials") || hint(err) == "" {
		t.Errorf("without a key: %v", err)
	}

	other := newServer(t)
	account = other.serviceAccount()
	account["token_uri"] = s.URL + "/token" // which knows another key
	if text, err = json.Marshal(account); err != nil {
		t.Fatal(err)
	}
	_, err = opened(t, s, map[string]any{"keyfile_json": string(text)}, nil)
	if err == nil || !strings.Contains(err.Error(), "invalid_grant") || strings.Contains(err.Error(), "Invalid JWT") {
		t.Errorf("a key that was revoked: %v", err)
	}
	var d *diag.Error
	if !errors.As(err, &d) || d.Hint == "" {
		t.Errorf("without a way out: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret[40:80]) {
		t.Error("the key is in the error")
	}
}

// Google's service for tokens of other accounts is asked with the key's own token.
func TestImpersonation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	text, err := json.Marshal(s.serviceAccount())
	if err != nil {
		t.Fatal(err)
	}
	asked := ""
	google := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "iamcredentials.googleapis.com" {
			return http.DefaultTransport.RoundTrip(r)
		}
		asked = r.URL.Path + " " + r.Header.Get("Authorization")
		s.mu.Lock()
		s.tokens = map[string]string{"token-of-robot": "robot"}
		s.mu.Unlock()
		return &http.Response{
			StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
			Body: nopCloser{strings.NewReader(`{"accessToken": "token-of-robot", "expireTime": "2099-01-01T00:00:00Z"}`)},
		}, nil
	})
	w, err := opened(t, s, map[string]any{"keyfile_json": string(text), "impersonate_service_account": "robot@shop-project.iam.gserviceaccount.com"}, google)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Exec(t.Context(), "SELECT 2"); err != nil {
		t.Error(err)
	}
	if asked != "/v1/projects/-/serviceAccounts/robot@shop-project.iam.gserviceaccount.com:generateAccessToken Bearer token-of-dray" {
		t.Errorf("asked %s", asked)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options   map[string]any
		key, want string
	}{
		"unknown":        {map[string]any{"projekt": "x"}, "projekt", `no option "projekt"`},
		"no project":     {map[string]any{"dataset": "x"}, "project", "needs a project"},
		"a name":         {map[string]any{"project": "My Project"}, "project", "is not a project's id"},
		"two keys":       {map[string]any{"project": "shop-project", "keyfile": "a", "keyfile_json": "b"}, "keyfile_json", "both"},
		"no file":        {map[string]any{"project": "shop-project", "keyfile": "gone.json"}, "keyfile", "cannot be read"},
		"no key":         {map[string]any{"project": "shop-project", "keyfile_json": "s3cret"}, "keyfile_json", "is no key"},
		"a strange key":  {map[string]any{"project": "shop-project", "keyfile_json": `{"type": "s3cret"}`}, "keyfile_json", "not known here"},
		"priority":       {map[string]any{"project": "shop-project", "priority": "high"}, "priority", "interactive or batch"},
		"bytes":          {map[string]any{"project": "shop-project", "maximum_bytes_billed": "10GB"}, "maximum_bytes_billed", "whole number of bytes"},
		"seconds":        {map[string]any{"project": "shop-project", "job_execution_timeout_seconds": "5m"}, "job_execution_timeout_seconds", "seconds"},
		"labels":         {map[string]any{"project": "shop-project", "labels": map[string]any{"Team": "x"}}, "labels", `label "Team"`},
		"an open door":   {map[string]any{"project": "shop-project", "api_endpoint": "http://bigquery.example.com"}, "api_endpoint", "not encrypted"},
		"storage":        {map[string]any{"project": "shop-project", "storage_api_endpoint": "example.com"}, "storage_api_endpoint", "host with its port"},
		"storage switch": {map[string]any{"project": "shop-project", "storage_read_api": "off"}, "storage_read_api", "true or false"},
		"dataset":        {map[string]any{"project": "shop-project", "dataset": "a.b"}, "dataset", "dataset's id"},
		"impersonation":  {map[string]any{"project": "shop-project", "impersonate_service_account": "robot"}, "impersonate_service_account", "not a service account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.options, t.TempDir())
			var o *warehouse.OptionError
			if !errors.As(err, &o) || o.Key != tt.key || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Each permission that is missing is named, all at once, and nothing is run.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = func(sql string) answer {
		refuse := func(permission, table string) answer {
			return answer{refused: &apiError{403, "accessDenied", fmt.Sprintf("Access Denied: Table shop-project:%s: Permission %s denied on table shop-project:%[1]s (or it may not exist).", table, permission)}}
		}
		switch {
		case strings.HasPrefix(sql, "CREATE SCHEMA"):
			return answer{refused: &apiError{403, "accessDenied", "Access Denied: Project shop-project: User does not have bigquery.datasets.create permission in project shop-project."}}
		case strings.HasPrefix(sql, "CREATE"):
			return refuse("bigquery.tables.create", "dray.dray_check")
		case strings.HasPrefix(sql, "DELETE"):
			return refuse("bigquery.tables.updateData", "dray.meta")
		case strings.Contains(sql, "`orders`"):
			return refuse("bigquery.tables.getData", "raw.orders")
		}
		return answer{}
	}
	w := connect(t, s, nil)
	account, err := w.Check(t.Context(), "dray", []warehouse.Table{{Schema: "dray", Name: "meta"}}, []warehouse.Table{{Schema: "raw", Name: "customers"}, {Schema: "raw", Name: "orders"}})
	if err == nil || account != "shop-project" {
		t.Fatalf("got %s, %v", account, err)
	}
	for _, want := range []string{
		"permission bigquery.datasets.create is missing", "permission bigquery.tables.create is missing", "permission bigquery.tables.updateData is missing", "permission bigquery.tables.getData is missing",
		"grant roles/bigquery.dataEditor on Dray's own dataset", "grant roles/bigquery.dataViewer on the dataset",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "customers") || len(s.ran) > 0 {
		t.Errorf("got %v, ran %v", err, s.ran)
	}

	s.answer = func(string) answer { return answer{} }
	if _, err := w.Check(t.Context(), "dray", nil, []warehouse.Table{{Schema: "raw", Name: "orders"}}); err != nil {
		t.Errorf("all is allowed: %v", err)
	}
	if _, err := w.Check(t.Context(), "not_there_yet", nil, nil); err != nil {
		t.Errorf("a dataset that the first run makes: %v", err)
	}
	s.datasets["shop-project.dray"] = "US"
	if _, err := w.Check(t.Context(), "dray", nil, nil); err == nil || !strings.Contains(err.Error(), "dataset dray is in US, and location of warehouse: is EU (location: US)") {
		t.Errorf("got %v", err)
	}
}
