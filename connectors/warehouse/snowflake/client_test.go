package snowflake

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/youmark/pkcs8"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Check(m.Run())) }

func given(t *testing.T, address string, options map[string]any) map[string]any {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{
		"account": "myorg-myaccount", "user": "DRAY", "password": "open sesame", "database": "shop", "warehouse": "wh", "role": "dray_role",
		"host": u.Hostname(), "port": u.Port(), "protocol": u.Scheme,
	}
	maps.Copy(all, options)
	return all
}

func opened(t *testing.T, s *server, options map[string]any) (*Warehouse, error) {
	t.Helper()
	w, err := Open(t.Context(), given(t, s.URL, options), t.TempDir())
	if err == nil {
		t.Cleanup(func() { _ = w.Close() })
	}
	return w, err
}

func connect(t *testing.T, s *server, options map[string]any) *Warehouse {
	t.Helper()
	w, err := opened(t, s, options)
	if err != nil {
		t.Fatal(err)
	}
	return w
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

func always(a answer) func(string) answer { return func(string) answer { return a } }

func inserted(n int64) answer {
	return answer{dml: map[string]int64{"number of rows inserted": n}}
}

// What an account, a user or a role is set to makes no difference.
func TestSessionIsFixed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := connect(t, s, map[string]any{"statement_timeout": "10m", "query_tag": "growth", "client_session_keep_alive": false})
	ctx := warehouse.Label(warehouse.Label(t.Context(), "command", "run"), "sync", "vips")
	if _, err := w.Exec(ctx, "DELETE FROM x"); err != nil {
		t.Fatal(err)
	}
	got := s.logins[0]
	for name, want := range map[string]string{"databaseName": "shop", "warehouse": "wh", "roleName": "dray_role"} {
		if v := got.query[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s is %v", name, v)
		}
	}
	params, _ := got.data["SESSION_PARAMETERS"].(map[string]any)
	for name, want := range map[string]string{
		"TIMEZONE": "UTC", "WEEK_START": "1", "WEEK_OF_YEAR_POLICY": "0", "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ", "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
		"QUOTED_IDENTIFIERS_IGNORE_CASE": "false", "JSON_INDENT": "0", "BINARY_OUTPUT_FORMAT": "HEX", "STATEMENT_TIMEOUT_IN_SECONDS": "600",
		"DEFAULT_DDL_COLLATION": "", "ROWS_PER_RESULTSET": "0", "AUTOCOMMIT": "true", "ABORT_DETACHED_QUERY": "true",
	} {
		if v, ok := params[name]; !ok || v != want {
			t.Errorf("%s is %v, want %q", name, v, want)
		}
	}
	if got.data["CLIENT_APP_ID"] != "Go" || got.data["ACCOUNT_NAME"] != "myorg-myaccount" {
		t.Errorf("the client says it is %v of %v", got.data["CLIENT_APP_ID"], got.data["ACCOUNT_NAME"])
	}
	last := s.requests[len(s.requests)-1]
	tag, _ := last.body["parameters"].(map[string]any)["QUERY_TAG"].(string)
	if tag != `{"app":"dray","command":"run","sync":"vips","tag":"growth"}` {
		t.Errorf("the tag is %s", tag)
	}
}

func keyFiles(t *testing.T) (key *rsa.PrivateKey, clear, encrypted string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := pkcs8.ConvertPrivateKeyToPKCS8(key, []byte("a phrase"))
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: closed}))
}

func TestSigningIn(t *testing.T) {
	t.Parallel()
	key, clear, encrypted := keyFiles(t)
	_, other, _ := keyFiles(t)
	body := strings.Join(strings.Split(strings.TrimSpace(clear), "\n")[1:len(strings.Split(strings.TrimSpace(clear), "\n"))-1], "\n")
	file := filepath.Join(t.TempDir(), "dray.p8")
	if err := os.WriteFile(file, []byte(encrypted), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		options map[string]any
		refusal *failure
		fails   string // a part of the error; "" = it works
		hint    string
	}{
		"a password":         {options: map[string]any{}},
		"a wrong password":   {options: map[string]any{"password": "hunter2 is wrong"}, fails: "Incorrect username or password", hint: "user and password"},
		"a key":              {options: map[string]any{"password": nil, "private_key": clear}},
		"a key without ends": {options: map[string]any{"password": nil, "private_key": body}},
		"a key on one line":  {options: map[string]any{"password": nil, "private_key": strings.ReplaceAll(clear, "\n", `\n`)}},
		"a key in a file":    {options: map[string]any{"password": nil, "private_key_path": file, "private_key_passphrase": "a phrase"}},
		"another's key":      {options: map[string]any{"password": nil, "private_key": other}, fails: "does not accept the private key", hint: "RSA_PUBLIC_KEY_FP"},
		"OAuth":              {options: map[string]any{"password": nil, "user": nil, "token": "an-access-token"}},
		"a wrong token":      {options: map[string]any{"password": nil, "token": "hunter2 is wrong"}, fails: "Invalid OAuth access token", hint: "new token"},
		"a role that is not": {refusal: &failure{code: "390189", message: "Role 'DRAY_ROLE' specified in the connect string is not granted to this user. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC."}, fails: "role dray_role is not there", hint: "GRANT ROLE dray_role TO USER DRAY"},
		"no such database":   {refusal: &failure{code: "390201", message: "The requested database does not exist or not authorized."}, fails: "The requested database does not exist", hint: "is it there"},
		"a network policy":   {refusal: &failure{code: "390422", message: "Incoming request with IP/Token 10.1.2.3 is not allowed to access Snowflake. Contact your account administrator."}, fails: "not allowed", hint: "network policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.key, s.oauth, s.refusal = &key.PublicKey, "an-access-token", tt.refusal
			w, err := opened(t, s, tt.options)
			if tt.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Exec(t.Context(), "SELECT 1"); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it was let in")
			}
			if !errors.Is(err, warehouse.ErrDenied) || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(hint(err), tt.hint) {
				t.Errorf("got %v (%s)", err, hint(err))
			}
			if strings.Contains(err.Error()+hint(err), "hunter2") || strings.Contains(err.Error(), "MII") {
				t.Errorf("the error has a secret: %v", err)
			}
			if n := len(s.logins); n != 1 && s.logins[0].data["AUTHENTICATOR"] != "OAUTH" {
				t.Errorf("it tried %d times: some accounts lock users out", n)
			}
		})
	}
}

// A host that is not Snowflake's stays so: nobody waits for it.
func TestWrongAccount(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		through http.RoundTripper
		status  int
		msg     string
	}{
		"no such host":          {through: failing{&net.DNSError{Err: "no such host", Name: "myorg-typo.snowflakecomputing.com", IsNotFound: true}}, msg: "is not known"},
		"no such account":       {status: http.StatusForbidden, msg: "no such account"},
		"no such account (404)": {status: http.StatusNotFound, msg: "no such account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.faults = []*fault{{path: "/session/v1/login-request", status: tt.status, times: 1}}
			o, err := parse(given(t, s.URL, nil), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			through := newTransport()
			if tt.through != nil {
				through.next = tt.through
			}
			_, err = open(t.Context(), o, through)
			if err == nil || !strings.Contains(err.Error(), tt.msg) || !strings.Contains(hint(err), "check account") {
				t.Errorf("got %v (%s)", err, hint(err))
			}
		})
	}
	t.Run("another's certificate", func(t *testing.T) {
		t.Parallel()
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		_, err := Open(t.Context(), given(t, s.URL, nil), t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "certificate") || !strings.Contains(hint(err), "check account") {
			t.Errorf("got %v (%s)", err, hint(err))
		}
	})
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// A statement runs once, whatever becomes of the answers.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	const path, result = "/queries/v1/query-request", "/queries/01b2c3d4"
	for name, faults := range map[string][]*fault{
		"the answer is lost":               {{path: path, lost: true, times: 1}},
		"the answer breaks off":            {{path: path, broken: true, times: 1}},
		"the request is lost":              {{path: path, cut: true, times: 1}},
		"lost, and then 503":               {{path: path, lost: true, times: 1}, {path: path, status: 503, times: 1}},
		"503":                              {{path: path, status: 503, times: 1}},
		"429":                              {{path: path, status: 429, times: 1}},
		"503 while it runs":                {{path: result, status: 503, times: 1}},
		"the answer breaks off afterwards": {{path: result, broken: true, times: 1, skip: 1}},
		"the session expires":              {{path: path, code: "390112", times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a := inserted(1)
			a.polls = 2
			s.answer = always(a)
			w := connect(t, s, nil)
			s.faults = faults
			n, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1")
			if err != nil || n != 1 {
				t.Errorf("got %d, %v", n, err)
			}
			if len(s.ran) != 1 {
				t.Errorf("it ran %d times", len(s.ran))
			}
			for _, f := range faults {
				if f.times != 0 {
					t.Error("the fault did not come to pass")
				}
			}
		})
	}
}

// A session that is over is replaced, unless it may have taken the statement.
func TestSessionsThatEnd(t *testing.T) {
	t.Parallel()
	end := func(s *server, expired bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, se := range s.sessions {
			se.gone, se.expired = !expired, expired
		}
	}
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.answer = always(inserted(1))
		w := connect(t, s, nil)
		end(s, true)
		if n, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1"); err != nil || n != 1 || len(s.logins) != 1 {
			t.Errorf("got %d, %v, after %d logins: the token was to be renewed", n, err, len(s.logins))
		}
	})
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.answer = always(inserted(1))
		w := connect(t, s, nil)
		end(s, false)
		if n, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1"); err != nil || n != 1 || len(s.logins) != 2 || len(s.ran) != 1 {
			t.Errorf("got %d, %v, after %d logins, ran %d times", n, err, len(s.logins), len(s.ran))
		}
		end(s, false)
		if err := w.Atomic(t.Context(), "INSERT INTO a SELECT 1", "DELETE FROM b"); err != nil {
			t.Error(err)
		}
	})
	t.Run("gone while the statement runs", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		a := inserted(1)
		a.polls = 2
		s.answer = always(a)
		w := connect(t, s, nil)
		s.faults = []*fault{{path: "/queries/01b2c3d4", times: 1, before: func() { end(s, false) }, code: "390111"}}
		_, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1")
		if !errors.Is(err, warehouse.ErrEngine) || len(s.ran) != 1 || !strings.Contains(hint(err), "query 01b2c3d4") {
			t.Errorf("got %v (%s), ran %d times", err, hint(err), len(s.ran))
		}
	})
	t.Run("gone when it is asked again", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.answer = always(inserted(1))
		w := connect(t, s, nil)
		s.faults = []*fault{{path: "/queries/v1/query-request", lost: true, times: 1}, {path: "/queries/v1/query-request", code: "390111", times: 1}}
		_, err := w.Exec(t.Context(), "INSERT INTO a SELECT 1")
		if !errors.Is(err, warehouse.ErrEngine) || len(s.ran) != 1 {
			t.Errorf("got %v, ran %d times", err, len(s.ran))
		}
	})
}

// Each error says what to do, with what Snowflake itself says of it.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  failure
		is   error
		says string
		hint string
		line int
	}{
		"a privilege on a schema":     {failure{"003001", "42501", "SQL access control error:\nInsufficient privileges to operate on schema 'DRAY'"}, warehouse.ErrDenied, "Insufficient privileges", "CREATE TABLE, CREATE VIEW ON SCHEMA DRAY TO ROLE dray_role", 0},
		"a privilege on a table":      {failure{"003001", "42501", "SQL access control error:\nInsufficient privileges to operate on table 'ORDERS'"}, warehouse.ErrDenied, "'ORDERS'", "ON TABLE ORDERS TO ROLE dray_role", 0},
		"a privilege on a database":   {failure{"003001", "42501", "SQL access control error:\nInsufficient privileges to operate on database 'SHOP'"}, warehouse.ErrDenied, "'SHOP'", "CREATE SCHEMA ON DATABASE SHOP", 0},
		"a table that is gone":        {failure{"002003", "42S02", "SQL compilation error:\nObject 'SHOP.RAW.ORDERS' does not exist or not authorized."}, warehouse.ErrNotFound, "'SHOP.RAW.ORDERS'", "GRANT SELECT ON TABLE SHOP.RAW.ORDERS TO ROLE dray_role", 0},
		"a schema that is gone":       {failure{"002003", "02000", "SQL compilation error:\nSchema 'SHOP.RAW' does not exist or not authorized."}, warehouse.ErrNotFound, "'SHOP.RAW'", "GRANT USAGE ON SCHEMA SHOP.RAW", 0},
		"no warehouse":                {failure{"000606", "57P03", "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' command."}, warehouse.ErrDenied, "No active warehouse", "GRANT USAGE ON WAREHOUSE wh TO ROLE dray_role", 0},
		"a monitor":                   {failure{"090073", "22000", "Warehouse 'WH' cannot be resumed because resource monitor 'MONTHLY' has exceeded its quota."}, warehouse.ErrEngine, "'MONTHLY'", "raises the quota", 0},
		"the time is over":            {failure{"000630", "57014", "Statement reached its statement or warehouse timeout of 600 second(s) and was canceled."}, warehouse.ErrEngine, "timeout of 600", "raise statement_timeout", 0},
		"an administrator":            {failure{"000604", "57014", "SQL execution canceled"}, warehouse.ErrEngine, "canceled", "somebody cancelled query 01b2c3d4", 0},
		"a lock":                      {failure{"000625", "57014", "Statement '01b' has locked table 'LOCK_A' in transaction 1700 and this lock has not yet been released."}, warehouse.ErrEngine, "locked table", "SHOW LOCKS", 0},
		"an error within Snowflake":   {failure{"300002", "XX000", "Internal error: Processing aborted by error 300010:391167117; incident 4711."}, warehouse.ErrEngine, "Internal error", "query history", 0},
		"a name that is not":          {failure{"000904", "42000", "SQL compilation error: error line 3 at position 7\ninvalid identifier 'EMIAL'"}, nil, "invalid identifier 'EMIAL'", "", 3},
		"what does not read":          {failure{"001003", "42000", "SQL compilation error:\nsyntax error line 2 at position 10 unexpected 'FORM'."}, nil, "syntax error unexpected 'FORM'", "", 2},
		"a warehouse that is not any": {failure{"002043", "02000", "SQL compilation error:\nObject does not exist, or operation cannot be performed."}, warehouse.ErrNotFound, "does not exist", "is it there", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{err: &tt.err, polls: 1})
			w := connect(t, s, nil)
			_, err := w.Exec(t.Context(), "SELECT 1")
			var q *warehouse.QueryError
			if !errors.As(err, &q) {
				t.Fatalf("got %v", err)
			}
			if q.Err != tt.is || !strings.Contains(q.Msg, tt.says) || !strings.Contains(q.Hint, tt.hint) || q.Line != tt.line { //nolint:errorlint // the sentinel itself
				t.Errorf("got %q (%v), line %d, %s", q.Msg, q.Err, q.Line, q.Hint)
			}
		})
	}
}

// Snowflake quotes what it could not read, and rows that come twice: no error has them.
func TestErrorsWithoutValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []failure{
		{"100038", "22018", "Numeric value 'kim@example.com' is not recognized"},
		{"100040", "22007", "Date 'kim@example.com' is not recognized"},
		{"100035", "22007", "Timestamp 'kim@example.com' is not recognized"},
		{"100078", "22000", "String 'kim@example.com' is too long and would be truncated"},
		{"100090", "42P18", "Duplicate row detected during DML action\nRow Values: [12, \"kim@example.com\"]"},
		{"100069", "22P02", "Error parsing JSON: unknown keyword \"kim@example.com\", pos 4"},
		{"001003", "42000", "SQL compilation error:\nsyntax error line 1 at position 7 unexpected ''kim@example.com''."},
		{"002057", "42601", "something else about 'kim@example.com'"},
	} {
		s := newServer(t)
		s.answer = always(answer{err: &tt})
		w := connect(t, s, nil)
		_, err := w.Exec(t.Context(), "SELECT 1")
		if err == nil || strings.Contains(err.Error()+hint(err), "kim@") {
			t.Errorf("got %v", err)
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for status, is := range map[int]error{http.StatusUnauthorized: warehouse.ErrDenied, http.StatusForbidden: warehouse.ErrDenied, http.StatusNotFound: warehouse.ErrEngine} {
		s := newServer(t)
		w := connect(t, s, nil)
		s.faults = []*fault{{path: "/queries/v1/query-request", status: status, times: 1}}
		_, err := w.Exec(t.Context(), "SELECT 1")
		if !errors.Is(err, is) || !strings.Contains(err.Error(), fmt.Sprint(status)) || strings.Contains(err.Error(), "requestId") {
			t.Errorf("status %d: got %v", status, err)
		}
	}
}

// A statement that nobody waits for any more is stopped in Snowflake.
func TestCancellation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{hangs: true})
	w := connect(t, s, nil)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	s.faults = []*fault{{path: "/queries/01b2c3d4", times: 1, before: func() { close(started) }}}
	go func() { <-started; cancel() }()
	if _, err := w.Exec(ctx, "DELETE FROM everything"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.aborted, []string{"DELETE FROM everything"}) {
		t.Errorf("stopped: %v", s.aborted)
	}
}

func column(name, typ string, more ...int) map[string]any {
	c := map[string]any{"name": name, "type": typ, "precision": nil, "scale": nil, "length": nil, "nullable": true}
	if len(more) > 0 {
		c["scale"] = more[len(more)-1]
	}
	if len(more) > 1 {
		c["precision"] = more[0]
	}
	return c
}

func build[B array.Builder](typ arrow.DataType, fill func(b B)) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, typ)
	defer b.Release()
	fill(b.(B))
	return b.NewArray()
}

func batch(types []map[string]any, columns ...arrow.Array) arrow.RecordBatch {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: fmt.Sprint(types[i]["name"]), Type: c.DataType(), Nullable: true}
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(columns[0].Len()))
}

func seconds(typ arrow.DataType, rows ...[]int64) arrow.Array {
	return build(typ, func(b *array.StructBuilder) {
		for _, r := range rows {
			if r == nil {
				b.AppendNull()
				continue
			}
			b.Append(true)
			for i, v := range r {
				switch f := b.FieldBuilder(i).(type) {
				case *array.Int64Builder:
					f.Append(v)
				case *array.Int32Builder:
					f.Append(int32(v)) //nolint:gosec // small
				}
			}
		}
	})
}

// Values come in the smallest types that hold them; what they mean is in the description.
func TestRows(t *testing.T) {
	t.Parallel()
	types := []map[string]any{
		column("ID", "fixed", 19, 0), column("SMALL", "fixed", 5, 0), column("HUGE", "fixed", 38, 0), column("PRICE", "fixed", 10, 2), column("RATIO", "real"),
		column("firstName", "text"), column("OK", "boolean"), column("DAY", "date"), column("NTZ", "timestamp_ntz", 6), column("NTZ9", "timestamp_ntz", 9),
		column("LTZ", "timestamp_ltz", 9), column("TZ", "timestamp_tz", 3), column("TZ9", "timestamp_tz", 9), column("DOC", "variant"), column("LIST", "array"),
		column("RAW", "binary"), column("CLOCK", "time", 9),
	}
	epoch := arrow.StructOf(arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "fraction", Type: arrow.PrimitiveTypes.Int32})
	short := arrow.StructOf(arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "timezone", Type: arrow.PrimitiveTypes.Int32})
	long := arrow.StructOf(arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "fraction", Type: arrow.PrimitiveTypes.Int32}, arrow.Field{Name: "timezone", Type: arrow.PrimitiveTypes.Int32})
	texts := func(v ...string) arrow.Array {
		return build(arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.AppendValues(v, nil); b.AppendNull() })
	}
	huge, _ := new(big.Int).SetString("-99999999999999999999999999999999999999", 10)
	rec := batch(types,
		build(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) { b.AppendValues([]int64{9223372036854775807, -1}, nil); b.AppendNull() }),
		build(arrow.PrimitiveTypes.Int8, func(b *array.Int8Builder) { b.AppendValues([]int8{-128, 127}, nil); b.AppendNull() }),
		build(&arrow.Decimal128Type{Precision: 38}, func(b *array.Decimal128Builder) {
			b.Append(decimal128.FromBigInt(huge))
			b.Append(decimal128.FromI64(7))
			b.AppendNull()
		}),
		build(arrow.PrimitiveTypes.Int16, func(b *array.Int16Builder) { b.AppendValues([]int16{-5, 1999}, nil); b.AppendNull() }),
		build(arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) { b.AppendValues([]float64{0.1, -2.5e300}, nil); b.AppendNull() }),
		texts("Søren\n'\"", ""),
		build(arrow.FixedWidthTypes.Boolean, func(b *array.BooleanBuilder) { b.AppendValues([]bool{true, false}, nil); b.AppendNull() }),
		build(arrow.FixedWidthTypes.Date32, func(b *array.Date32Builder) { b.AppendValues([]arrow.Date32{-719162, 2932896}, nil); b.AppendNull() }),
		build(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) { b.AppendValues([]int64{-1, 1700000000123456}, nil); b.AppendNull() }),
		seconds(epoch, []int64{-62135596800, 0}, []int64{253402300799, 999999999}, nil),
		seconds(epoch, []int64{1700000000, 5}, []int64{0, 0}, nil),
		seconds(short, []int64{1700000000123, 1440 + 60}, []int64{-1, 1440 - 300}, nil),
		seconds(long, []int64{1700000000, 7, 1440 + 60}, []int64{-1, 500000000, 1440}, nil),
		texts(`{"a":1}`, `null`), texts(`[1,"x"]`, `[]`),
		build(arrow.BinaryTypes.Binary, func(b *array.BinaryBuilder) { b.Append([]byte{0, 255}); b.Append(nil); b.AppendNull() }),
		build(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) {
			b.AppendValues([]int64{3661000000000, 86399999999999}, nil)
			b.AppendNull()
		}),
	)
	s := newServer(t)
	s.answer = always(answer{types: types, arrow: []arrow.RecordBatch{rec}})
	w := connect(t, s, nil)
	rows, err := w.Query(t.Context(), "SELECT * FROM all_types")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	wantTypes := []warehouse.Column{
		{Name: "id", Type: "NUMBER(19,0)", Kind: warehouse.Int},
		{Name: "small", Type: "NUMBER(5,0)", Kind: warehouse.Int},
		{Name: "huge", Type: "NUMBER(38,0)", Kind: warehouse.Decimal},
		{Name: "price", Type: "NUMBER(10,2)", Kind: warehouse.Decimal},
		{Name: "ratio", Type: "FLOAT", Kind: warehouse.Float},
		{Name: "firstName", Type: "VARCHAR"},
		{Name: "ok", Type: "BOOLEAN", Kind: warehouse.Bool},
		{Name: "day", Type: "DATE", Kind: warehouse.Date},
		{Name: "ntz", Type: "TIMESTAMP_NTZ(6)", Kind: warehouse.Timestamp},
		{Name: "ntz9", Type: "TIMESTAMP_NTZ(9)", Kind: warehouse.Timestamp},
		{Name: "ltz", Type: "TIMESTAMP_LTZ(9)", Kind: warehouse.Timestamp},
		{Name: "tz", Type: "TIMESTAMP_TZ(3)", Kind: warehouse.Timestamp},
		{Name: "tz9", Type: "TIMESTAMP_TZ(9)", Kind: warehouse.Timestamp},
		{Name: "doc", Type: "VARIANT", Kind: warehouse.JSON},
		{Name: "list", Type: "ARRAY", Kind: warehouse.JSON},
		{Name: "raw", Type: "BINARY"},
		{Name: "clock", Type: "TIME"},
	}
	if !slices.Equal(rows.Columns(), wantTypes) {
		t.Errorf("got %v", rows.Columns())
	}
	want := [][]any{
		{
			int64(9223372036854775807), int64(-128), "-99999999999999999999999999999999999999", "-0.05", 0.1, "Søren\n'\"", true, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1700000000, 5).UTC(),
			time.Unix(1700000000, 123e6).UTC(), time.Unix(1700000000, 7).UTC(), `{"a":1}`, `[1,"x"]`, "AP8=", "01:01:01",
		},
		{
			int64(-1), int64(127), "7", "19.99", -2.5e300, "", false, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
			time.Unix(1700000000, 123456000).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Unix(0, 0).UTC(),
			time.Unix(-1, 999e6).UTC(), time.Unix(-1, 500e6).UTC(), `null`, `[]`, "", "23:59:59.999999999",
		},
		make([]any, len(types)),
	}
	for i := 0; rows.Next(); i++ {
		got, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		for c := range got {
			if !reflect.DeepEqual(got[c], want[i][c]) {
				t.Errorf("row %d, %s: got %#v, want %#v", i, wantTypes[c].Name, got[c], want[i][c])
			}
		}
		if i == 2 {
			want = want[:3]
		}
	}
	if rows.Err() != nil {
		t.Error(rows.Err())
	}
}

func TestWholeNumbersOver64Bits(t *testing.T) {
	t.Parallel()
	types := []map[string]any{column("N", "fixed", 19, 0)}
	s := newServer(t)
	s.answer = always(answer{types: types, arrow: []arrow.RecordBatch{batch(types, build(&arrow.Decimal128Type{Precision: 19}, func(b *array.Decimal128Builder) {
		n, _ := new(big.Int).SetString("9999999999999999999", 10)
		b.Append(decimal128.FromBigInt(n))
	}))}})
	w := connect(t, s, nil)
	rows, err := w.Query(t.Context(), "SELECT n FROM x")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if v, err := rows.Values(); err == nil || strings.Contains(err.Error(), "99999") {
		t.Errorf("got %v, %v", v, err)
	}
}

// numbered are records of whole numbers, n each, one after the other.
func numbered(types []map[string]any, sizes ...int) []arrow.RecordBatch {
	var out []arrow.RecordBatch
	next := int64(0)
	for _, n := range sizes {
		out = append(out, batch(types, build(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) {
			for range n {
				b.Append(next)
				next++
			}
		})))
	}
	return out
}

func TestManyFiles(t *testing.T) {
	t.Parallel()
	types := []map[string]any{column("N", "fixed", 19, 0)}
	for name, faults := range map[string][]*fault{
		"whole":                 nil,
		"a file breaks off":     {{path: "/files/", broken: true, times: 1, skip: 1}},
		"a file is not there":   {{path: "/files/", status: 503, times: 1}},
		"more than once":        {{path: "/files/", broken: true, times: 2}},
		"the connection breaks": {{path: "/files/", cut: true, times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = always(answer{types: types, arrow: numbered(types, 10, 5000, 1, 3000), zipped: name != "whole"})
			w := connect(t, s, nil)
			s.faults = faults
			rows, err := w.Query(t.Context(), "SELECT n FROM x")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			if len(s.fetched) != 0 {
				t.Error("files are fetched before they are read")
			}
			want := int64(0)
			for rows.Next() {
				v, err := rows.Values()
				if err != nil {
					t.Fatal(err)
				}
				if v[0] != want {
					t.Fatalf("got %v, want %d", v[0], want)
				}
				want++
			}
			if rows.Err() != nil || want != 8011 {
				t.Errorf("got %d rows, %v", want, rows.Err())
			}
		})
	}
	t.Run("a link that is too old", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.answer = always(answer{types: types, arrow: numbered(types, 1, 10)})
		w := connect(t, s, nil)
		rows, err := w.Query(t.Context(), "SELECT n FROM x")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		clear(s.files)
		n := 0
		for rows.Next() {
			n++
		}
		if n != 1 || !errors.Is(rows.Err(), warehouse.ErrEngine) || !strings.Contains(hint(rows.Err()), "run again") {
			t.Errorf("got %d rows, %v", n, rows.Err())
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.answer = always(answer{types: types, arrow: numbered(types, 1, 10)})
		w := connect(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rows, err := w.Query(ctx, "SELECT n FROM x")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		rows.Next()
		cancel()
		if rows.Next() || !errors.Is(rows.Err(), context.Canceled) {
			t.Errorf("got %v", rows.Err())
		}
	})
}

// SHOW and EXPLAIN give JSON.
func TestResultsInJSON(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{
		types: []map[string]any{column("n", "fixed", 10, 0), column("day", "date"), column("at", "timestamp_ltz", 3), column("zoned", "timestamp_tz", 9), column("ok", "boolean"), column("raw", "binary"), column("t", "text")},
		json:  [][]any{{"5", "19675", "1700000000.123000000", "1700000000.000000005 1500", "true", "00ff", "x"}, {nil, "-1", "-1.500", "0.0 1440", "0", nil, ""}},
	})
	w := connect(t, s, nil)
	rows, err := w.Query(t.Context(), "SHOW SOMETHING")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got [][]any
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, slices.Clone(v))
	}
	want := [][]any{
		{int64(5), time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC), time.Unix(1700000000, 123e6).UTC(), time.Unix(1700000000, 5).UTC(), true, "AP8=", "x"},
		{nil, time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), time.Unix(-2, 500e6).UTC(), time.Unix(0, 0).UTC(), false, nil, ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRowsThatChanged(t *testing.T) {
	t.Parallel()
	for want, dml := range map[int64]map[string]int64{
		7: {"number of rows updated": 7, "number of multi-joined rows updated": 3},
		6: {"number of rows inserted": 1, "number of rows updated": 2, "number of rows deleted": 3},
	} {
		s := newServer(t)
		s.answer = always(answer{dml: dml})
		if n, err := connect(t, s, nil).Exec(t.Context(), "MERGE"); err != nil || n != want {
			t.Errorf("got %d, %v, want %d", n, err, want)
		}
	}
}

func TestAtomic(t *testing.T) {
	t.Parallel()
	failed := answer{err: &failure{"100038", "22018", "Numeric value 'x' is not recognized"}}
	for name, tt := range map[string]struct {
		statements, events []string
		fails              string
	}{
		"none":         {},
		"one":          {statements: []string{"DELETE FROM a"}, events: []string{"1: DELETE FROM a"}},
		"two":          {statements: []string{"DELETE FROM a", "INSERT INTO a SELECT 1"}, events: []string{"1: BEGIN TRANSACTION", "1: DELETE FROM a", "1: INSERT INTO a SELECT 1", "1: COMMIT"}},
		"one fails":    {statements: []string{"DELETE FROM a", "FAILS", "DELETE FROM b"}, events: []string{"1: BEGIN TRANSACTION", "1: DELETE FROM a", "1: FAILS", "1: ROLLBACK"}, fails: "not recognized"},
		"relations":    {statements: []string{"DROP TABLE a", "-- b\nALTER TABLE b RENAME TO a"}, events: []string{"1: DROP TABLE a", "1: -- b\nALTER TABLE b RENAME TO a"}},
		"one and each": {statements: []string{"DELETE FROM a", "DROP TABLE a"}, fails: "cannot make, alter or drop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = func(sql string) answer {
				if sql == "FAILS" {
					return failed
				}
				return inserted(1)
			}
			w := connect(t, s, nil)
			err := w.Atomic(t.Context(), tt.statements...)
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(s.events, tt.events) {
				t.Errorf("got %q, want %q", s.events, tt.events)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.answer = func(sql string) answer {
			if sql == "HANGS" {
				cancel()
				return answer{hangs: true}
			}
			return inserted(1)
		}
		w := connect(t, s, nil)
		if err := w.Atomic(ctx, "DELETE FROM a", "HANGS"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if last := s.events[len(s.events)-1]; last != "1: ROLLBACK" {
			t.Errorf("the transaction ends with %s", last)
		}
	})
	t.Run("the answer to COMMIT is lost", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		w := connect(t, s, nil)
		s.faults = []*fault{{path: "/queries/v1/query-request", sql: "COMMIT", lost: true, times: 1}}
		if err := w.Atomic(t.Context(), "DELETE FROM a", "DELETE FROM b"); err != nil || len(s.ran) != 4 {
			t.Errorf("got %v, ran %q", err, s.ran)
		}
	})
}

func loadTable() answer {
	return answer{types: []map[string]any{
		column("KEY", "text"), column("N", "fixed", 19, 0), column("X", "real"), column("OK", "boolean"), column("DAY", "date"), column("AT", "timestamp_ntz", 6),
		column("TZ", "timestamp_tz", 9), column("DOC", "variant"), column("LIST", "array"), column("RAW", "binary"), column("firstName", "text"),
	}}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = func(sql string) answer {
		if strings.HasPrefix(sql, "SELECT") {
			return loadTable()
		}
		return inserted(2)
	}
	w := connect(t, s, nil)
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	rows := [][]any{
		{"Søren\n\"'\\\x00", int64(-9223372036854775808), 0.1, true, at, at, at, `{"a": [1, null]}`, `[1]`, "AP8=", "é"},
		{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, ""},
	}
	n, err := w.Load(t.Context(), warehouse.Table{Schema: "dray", Name: "rejected"}, []string{"key", "n", "x", "ok", "day", "at", "tz", "doc", "list", "raw", "firstName"}, func() ([]any, error) {
		if len(rows) == 0 {
			return nil, nil
		}
		r := rows[0]
		rows = rows[1:]
		return r, nil
	})
	if err != nil || n != 2 {
		t.Fatalf("got %d, %v", n, err)
	}
	last := s.requests[len(s.requests)-1]
	want := `INSERT INTO "DRAY"."REJECTED" ("KEY", "N", "X", "OK", "DAY", "AT", "TZ", "DOC", "LIST", "RAW", "firstName") SELECT CAST(CAST(GET(r.value, 0) AS VARCHAR) AS VARCHAR), ` +
		`CAST(CAST(GET(r.value, 1) AS VARCHAR) AS NUMBER(19,0)), CAST(CAST(GET(r.value, 2) AS VARCHAR) AS FLOAT), CAST(CAST(GET(r.value, 3) AS VARCHAR) AS BOOLEAN), ` +
		`CAST(CAST(GET(r.value, 4) AS VARCHAR) AS DATE), CAST(CAST(GET(r.value, 5) AS VARCHAR) AS TIMESTAMP_NTZ(6)), CAST(CAST(GET(r.value, 6) AS VARCHAR) AS TIMESTAMP_TZ(9)), ` +
		`PARSE_JSON(CAST(GET(r.value, 7) AS VARCHAR)), CAST(PARSE_JSON(CAST(GET(r.value, 8) AS VARCHAR)) AS ARRAY), BASE64_DECODE_BINARY(CAST(GET(r.value, 9) AS VARCHAR)), ` +
		`CAST(CAST(GET(r.value, 10) AS VARCHAR) AS VARCHAR) FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS r`
	if last.body["sqlText"] != want {
		t.Errorf("got %s", last.body["sqlText"])
	}
	bind, _ := last.body["bindings"].(map[string]any)["1"].(map[string]any)
	var sent [][]any
	if err := json.Unmarshal([]byte(fmt.Sprint(bind["value"])), &sent); err != nil || bind["type"] != "TEXT" {
		t.Fatalf("bound as %v: %v", bind["type"], err)
	}
	if want := [][]any{
		{"Søren\n\"'\\\x00", "-9223372036854775808", "0.1", "true", "2024-02-29", "2024-02-29 23:59:59.123456", "2024-02-29 23:59:59.123456 +0000", `{"a": [1, null]}`, `[1]`, "AP8=", "é"},
		{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, ""},
	}; !reflect.DeepEqual(sent, want) {
		t.Errorf("sent %q", sent)
	}
}

// What is too much for one statement is loaded by several, and all of it or none.
func TestLargeLoad(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		s := newServer(t)
		inserts := 0
		s.answer = func(sql string) answer {
			if strings.HasPrefix(sql, "SELECT") {
				return answer{types: []map[string]any{column("V", "text")}}
			}
			if inserts++; fails && inserts == 2 {
				return answer{err: &failure{"100078", "22000", "String 'secret' is too long and would be truncated"}}
			}
			return inserted(100)
		}
		w := connect(t, s, nil)
		left := 10
		n, err := w.Load(t.Context(), warehouse.Table{Schema: "dray", Name: "t"}, []string{"v"}, func() ([]any, error) {
			if left--; left < 0 {
				return nil, nil
			}
			return []any{strings.Repeat("x", 1<<20)}, nil
		})
		verbs := make([]string, len(s.ran))
		for i, sql := range s.ran {
			verbs[i], _, _ = strings.Cut(sql, " ")
		}
		want := []string{"BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"}
		if fails {
			want = []string{"BEGIN", "INSERT", "INSERT", "ROLLBACK"}
		}
		if (err != nil) != fails || !fails && n != 300 || !slices.Equal(verbs, want) {
			t.Errorf("fails %v: got %d, %v, ran %q", fails, n, err, verbs)
		}
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = func(sql string) answer {
		if strings.Contains(sql, "quoted") {
			return answer{types: []map[string]any{column("email", "text")}}
		}
		return answer{types: []map[string]any{column("EMAIL", "text"), column("Total Price", "fixed", 12, 2), column("PLACE", "geography")}}
	}
	w := connect(t, s, nil)
	got, err := w.Columns(t.Context(), "SELECT * FROM t")
	if want := []warehouse.Column{{Name: "email", Type: "VARCHAR"}, {Name: "Total Price", Type: "NUMBER(12,2)", Kind: warehouse.Decimal}, {Name: "place", Type: "GEOGRAPHY"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if len(s.ran) != 0 {
		t.Errorf("it ran %q", s.ran)
	}
	if _, err := w.Columns(t.Context(), "SELECT * FROM quoted"); err == nil || !strings.Contains(hint(err), `SELECT "email" AS email`) {
		t.Errorf("got %v (%s)", err, hint(err))
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = func(sql string) answer {
		switch sql {
		case `SELECT 1 FROM "RAW"."ORDERS"`:
			return answer{types: []map[string]any{column("1", "fixed", 1, 0)}}
		case `SELECT 1 FROM "RAW"."BROKEN"`:
			return answer{err: &failure{"300002", "XX000", "Internal error"}}
		}
		return answer{err: &failure{"002003", "42S02", "SQL compilation error:\nObject 'X' does not exist or not authorized."}}
	}
	w := connect(t, s, nil)
	for name, want := range map[string]bool{"orders": true, "gone": false} {
		if got, err := w.Exists(t.Context(), warehouse.Table{Schema: "raw", Name: name}); err != nil || got != want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if _, err := w.Exists(t.Context(), warehouse.Table{Schema: "raw", Name: "broken"}); !errors.Is(err, warehouse.ErrEngine) {
		t.Errorf("got %v", err)
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer = always(answer{
		types: []map[string]any{column("step", "fixed", 38, 0), column("operation", "text"), column("bytesAssigned", "fixed", 38, 0)},
		json:  [][]any{{nil, "GlobalStats", "123456"}, {"1", "Result", nil}},
	})
	if n, err := connect(t, s, nil).Estimate(t.Context(), "SELECT * FROM t"); err != nil || n != 123456 || s.ran[0] != "EXPLAIN USING TABULAR SELECT * FROM t" {
		t.Errorf("got %d, %v, ran %q", n, err, s.ran)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	grants := []map[string]any{column("created_on", "timestamp_ltz", 3), column("privilege", "text"), column("granted_on", "text"), column("name", "text"), column("granted_to", "text"), column("grantee_name", "text")}
	grant := func(privilege, role string) []any {
		return []any{"1700000000.000000000", privilege, "SCHEMA", "SHOP.DRAY", "ROLE", role}
	}
	const me, schema = "SELECT CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE()", "SELECT schema_name"
	type answers map[string]answer
	text := func(v ...any) answer {
		types := make([]map[string]any, len(v))
		for i := range v {
			types[i] = column(fmt.Sprint("C", i), "text")
		}
		return answer{types: types, json: [][]any{v}}
	}
	good := answers{
		me: text("DRAY_ROLE", "WH", "SHOP"), schema: text("DRAY"),
		"SHOW GRANTS ON SCHEMA": {types: grants, json: [][]any{grant("CREATE TABLE", "DRAY_ROLE"), grant("CREATE VIEW", "PARENT"), grant("USAGE", "OTHER")}},
		"SELECT IFF":            text("yes", "yes"),
	}
	with := func(more answers) answers {
		all := maps.Clone(good)
		maps.Copy(all, more)
		return all
	}
	for name, tt := range map[string]struct {
		answers answers
		says    string
		hint    string
	}{
		"all is there": {answers: good},
		"owned":        {answers: with(answers{"SHOW GRANTS ON SCHEMA": {types: grants, json: [][]any{grant("OWNERSHIP", "DRAY_ROLE")}}, "SELECT IFF": text("yes")})},
		"no warehouse": {answers: with(answers{me: text("DRAY_ROLE", nil, "SHOP")}), says: "no warehouse", hint: "GRANT USAGE ON WAREHOUSE"},
		"no views":     {answers: with(answers{"SELECT IFF": text("yes", "")}), says: "role DRAY_ROLE has no CREATE VIEW on schema", hint: `GRANT CREATE VIEW ON SCHEMA "DRAY" TO ROLE DRAY_ROLE`},
		"no schema, and it may be made": {answers: with(answers{
			schema: {types: []map[string]any{column("SCHEMA_NAME", "text")}}, "SHOW GRANTS ON DATABASE": {types: grants, json: [][]any{grant("CREATE SCHEMA", "DRAY_ROLE")}}, "SELECT IFF": text("yes"),
		})},
		"no schema, and it may not": {answers: with(answers{
			schema: {types: []map[string]any{column("SCHEMA_NAME", "text")}}, "SHOW GRANTS ON DATABASE": {types: grants, json: [][]any{grant("USAGE", "DRAY_ROLE")}},
		}), says: "no CREATE SCHEMA on database", hint: `GRANT CREATE SCHEMA ON DATABASE "SHOP" TO ROLE DRAY_ROLE`},
		"a table that may not be read": {answers: with(answers{
			`EXPLAIN USING TABULAR SELECT * FROM "RAW"."ORDERS"`: {err: &failure{"002003", "42S02", "SQL compilation error:\nObject 'SHOP.RAW.ORDERS' does not exist or not authorized."}},
		}), says: "'SHOP.RAW.ORDERS' does not exist or not authorized", hint: "GRANT SELECT ON TABLE SHOP.RAW.ORDERS TO ROLE dray_role"},
		"a table that may not be changed": {answers: with(answers{
			`EXPLAIN USING TABULAR DELETE FROM "DRAY"."SNAPSHOT"`: {err: &failure{"003001", "42501", "SQL access control error:\nInsufficient privileges to operate on table 'SNAPSHOT'"}},
		}), says: "Insufficient privileges", hint: "ON TABLE SNAPSHOT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answer = func(sql string) answer {
				for prefix, a := range tt.answers {
					if strings.HasPrefix(sql, prefix) {
						return a
					}
				}
				return text("x")
			}
			account, err := connect(t, s, nil).Check(t.Context(), "dray", []warehouse.Table{{Schema: "dray", Name: "snapshot"}}, []warehouse.Table{{Schema: "raw", Name: "orders"}})
			if account != "myorg-myaccount, as DRAY_ROLE" {
				t.Errorf("the account is %s", account)
			}
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var d *diag.Error
			if !errors.As(err, &d) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(d.Hint, tt.hint) || d.Code != "warehouse.denied" {
				t.Errorf("got %v (%s)", err, hint(err))
			}
			for _, sql := range s.ran {
				if verb, _, _ := strings.Cut(sql, " "); !slices.Contains([]string{"SELECT", "SHOW", "EXPLAIN"}, verb) {
					t.Errorf("the check runs %s", sql)
				}
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options map[string]any
		key     string
	}{
		"unknown":             {map[string]any{"acount": "x"}, "acount"},
		"no account":          {map[string]any{"account": ""}, "account"},
		"a URL":               {map[string]any{"account": "https://x.snowflakecomputing.com"}, "account"},
		"no database":         {map[string]any{"database": ""}, "database"},
		"no user":             {map[string]any{"user": ""}, "user"},
		"no credentials":      {map[string]any{"password": ""}, "password"},
		"no token":            {map[string]any{"authenticator": "oauth"}, "token"},
		"no key":              {map[string]any{"authenticator": "snowflake_jwt"}, "private_key"},
		"a browser":           {map[string]any{"authenticator": "externalbrowser"}, "authenticator"},
		"not a key":           {map[string]any{"private_key": "hunter2"}, "private_key"},
		"a file that is not":  {map[string]any{"private_key_path": "nowhere.p8"}, "private_key_path"},
		"a timeout of what":   {map[string]any{"statement_timeout": "10"}, "statement_timeout"},
		"one connection":      {map[string]any{"connections": 1}, "connections"},
		"a host with a port":  {map[string]any{"host": "localhost:80"}, "host"},
		"a port that is none": {map[string]any{"port": "99999"}, "port"},
		"not encrypted":       {map[string]any{"protocol": "http", "host": "snowflake.example.com"}, "protocol"},
		"a long tag":          {map[string]any{"query_tag": strings.Repeat("x", 1001)}, "query_tag"},
		"keep alive":          {map[string]any{"client_session_keep_alive": "perhaps"}, "client_session_keep_alive"},
	} {
		all := map[string]any{"account": "myorg-myaccount", "user": "DRAY", "password": "hunter2", "database": "shop"}
		maps.Copy(all, tt.options)
		_, err := parse(all, t.TempDir())
		var o *warehouse.OptionError
		if !errors.As(err, &o) || o.Key != tt.key || strings.Contains(err.Error()+o.Err.Hint, "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	o, err := parse(map[string]any{"account": "My_Org-My_Account", "user": "DRAY", "password": "x", "database": "shop"}, "")
	if err != nil || o.host != "my-org-my-account.snowflakecomputing.com" {
		t.Errorf("got %v, %v", o, err)
	}
}
