package snowflake

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// server speaks the part of Snowflake's protocol that its drivers use: signing in, statements, their results in Arrow and JSON, files of
// large results, statements that take longer than an answer may, renewal, cancellation. It runs no SQL: what a statement does is said
// by the test. What it holds requests against is what Snowflake's drivers (Go, Python, JDBC) send: an id of each statement that stays
// the same over repetitions, which are called so, the token of the session, nothing of telemetry.
type server struct {
	*httptest.Server
	t      *testing.T
	answer func(sql string) answer

	mu         sync.Mutex
	user       string
	password   string
	key        *rsa.PublicKey
	oauth      string
	refusal    *failure // of signing in
	logins     []login
	sessions   map[string]*session // by token
	masters    map[string]*session
	statements map[string]*statement // by requestId
	byID       map[string]*statement
	ran        []string // each as often as it was
	events     []string // BEGIN TRANSACTION, statements, COMMIT … with the session's number
	files      map[string][]byte
	fetched    map[string]int
	faults     []*fault
	aborted    []string
	requests   []request
	blocked    chan struct{} // statements that hang wait for it
}

type session struct {
	number  int
	token   string
	master  string
	expired bool
	gone    bool
	open    bool // a transaction is
}

type login struct {
	query map[string][]string
	data  map[string]any
}

type request struct {
	path  string
	query map[string][]string
	body  map[string]any
}

type statement struct {
	id, sql string
	is      answer
	polls   int
	stopped bool
	of      *session
}

// answer is what a statement does.
type answer struct {
	types  []map[string]any
	arrow  []arrow.RecordBatch // the first comes with the answer, the others in files
	json   [][]any
	dml    map[string]int64 // number of rows inserted → n
	polls  int              // how often it is said to be still running
	err    *failure
	hangs  bool
	zipped bool
}

type failure struct {
	code, state, message string
}

// fault is what goes wrong with the next requests to a path.
type fault struct {
	path   string
	times  int
	sql    string // only for statements that contain it
	status int
	lost   bool // done, and the connection cut before the answer
	broken bool // done, and the connection cut in the midst of the answer
	cut    bool // the connection cut before it is done
	code   string
	skip   int // so many requests are let through before
	before func()
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		t: t, user: "DRAY", password: "open sesame", sessions: map[string]*session{}, masters: map[string]*session{}, statements: map[string]*statement{},
		byID: map[string]*statement{}, files: map[string][]byte{}, fetched: map[string]int{}, blocked: make(chan struct{}),
		answer: func(string) answer { return answer{} },
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() { close(s.blocked); s.Close() })
	return s
}

var uuidText = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := map[string]any{}
	if text, err := io.ReadAll(r.Body); err == nil && len(text) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			s.t.Errorf("%s: the body is not JSON: %v", r.URL.Path, err)
		}
	}
	s.mu.Lock()
	s.requests = append(s.requests, request{r.URL.Path, r.URL.Query(), body})
	text, _ := body["sqlText"].(string)
	var f *fault
	for _, x := range s.faults {
		if strings.HasPrefix(r.URL.Path, x.path) && x.times > 0 && strings.Contains(text, x.sql) {
			if x.skip > 0 {
				x.skip--
				continue
			}
			x.times--
			f = x
			break
		}
	}
	s.mu.Unlock()
	if f != nil {
		if f.before != nil {
			f.before()
		}
		switch {
		case f.status != 0:
			w.WriteHeader(f.status)
			_, _ = w.Write([]byte("<html>a proxy's page</html>"))
			return
		case f.code != "":
			s.reply(w, false, f.code, "", nil)
			return
		case f.cut:
			cut(w)
			return
		case f.lost:
			s.do(httptest.NewRecorder(), r, body)
			cut(w)
			return
		case f.broken:
			rec := httptest.NewRecorder()
			s.do(rec, r, body)
			w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			w.(http.Flusher).Flush()
			cut(w)
			return
		}
	}
	s.do(w, r, body)
}

func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func (s *server) do(w http.ResponseWriter, r *http.Request, body map[string]any) {
	switch path := r.URL.Path; {
	case path == "/session/v1/login-request":
		s.login(w, r, body)
	case path == "/session/token-request":
		s.renew(w, r, body)
	case path == "/session":
		if s.of(w, r) != nil {
			s.reply(w, true, "", "", nil)
		}
	case path == "/queries/v1/query-request":
		s.query(w, r, body)
	case path == "/queries/v1/abort-request":
		s.abort(w, r, body)
	case strings.HasPrefix(path, "/queries/") && strings.HasSuffix(path, "/result"):
		s.mu.Lock()
		st := s.byID[strings.TrimSuffix(strings.TrimPrefix(path, "/queries/"), "/result")]
		s.mu.Unlock()
		if s.of(w, r) == nil {
			return
		}
		if st == nil {
			s.reply(w, false, "000709", "Statement not found", nil)
			return
		}
		s.outcome(w, st)
	case strings.HasPrefix(path, "/files/"):
		s.mu.Lock()
		file, ok := s.files[path]
		s.fetched[path]++
		s.mu.Unlock()
		if r.Header.Get("Authorization") != "" {
			s.t.Error("a file of the cloud's storage is asked for with the session's token")
		}
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(file)
	default:
		s.t.Errorf("%s %s is not of the protocol, or not wanted", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	}
}

// reply writes the envelope that all answers have.
func (s *server) reply(w http.ResponseWriter, success bool, code, message string, data map[string]any) {
	if data == nil {
		data = map[string]any{}
	}
	answer := map[string]any{"success": success, "data": data, "code": nil, "message": nil}
	if code != "" {
		answer["code"], answer["message"] = code, message
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *server) login(w http.ResponseWriter, r *http.Request, body map[string]any) {
	data, _ := body["data"].(map[string]any)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, login{r.URL.Query(), data})
	if s.refusal != nil {
		s.reply(w, false, s.refusal.code, s.refusal.message, nil)
		return
	}
	var problem *failure
	switch data["AUTHENTICATOR"] {
	case "SNOWFLAKE_JWT":
		if err := s.jwt(fmt.Sprint(data["TOKEN"])); err != nil {
			s.t.Logf("the token is not good: %v", err)
			problem = &failure{code: "390144", message: "JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]"}
		}
	case "OAUTH":
		if s.oauth == "" || data["TOKEN"] != s.oauth {
			problem = &failure{code: "390303", message: "Invalid OAuth access token. [8be5a2ac-0f6f-4b4e-8c6d-0a3a7ba7b6a5]"}
		}
	default:
		if data["LOGIN_NAME"] != s.user || data["PASSWORD"] != s.password {
			problem = &failure{code: "390100", message: "Incorrect username or password was specified."}
		}
	}
	if problem != nil {
		s.reply(w, false, problem.code, problem.message, nil)
		return
	}
	n := len(s.logins)
	se := &session{number: n, token: fmt.Sprintf("token-%d", n), master: fmt.Sprintf("master-%d", n)}
	s.sessions[se.token], s.masters[se.master] = se, se
	s.reply(w, true, "", "", map[string]any{
		"token": se.token, "masterToken": se.master, "validityInSeconds": 3600, "masterValidityInSeconds": 14400, "sessionId": n,
		"parameters":  []map[string]any{{"name": "TIMEZONE", "value": "UTC"}, {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 65280}},
		"sessionInfo": map[string]any{"databaseName": "SHOP", "schemaName": nil, "warehouseName": "WH", "roleName": "DRAY"},
	})
}

// jwt checks a token as Snowflake's documentation of key pairs says: who signs is the account and the user with the fingerprint of the
// public key, for at most an hour.
func (s *server) jwt(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || s.key == nil {
		return fmt.Errorf("%d parts", len(parts))
	}
	var claims struct {
		Iss, Sub string
		Iat, Exp int64
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(s.key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	subject := "MYORG-MYACCOUNT." + s.user
	if want := subject + ".SHA256:" + base64.StdEncoding.EncodeToString(sum[:]); claims.Iss != want || claims.Sub != subject {
		return fmt.Errorf("it is of %s for %s, not of %s", claims.Iss, claims.Sub, want)
	}
	if now := time.Now().Unix(); claims.Iat > now+5 || claims.Exp <= now || claims.Exp-claims.Iat > 3600 {
		return fmt.Errorf("it holds from %d to %d", claims.Iat, claims.Exp)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	return rsa.VerifyPKCS1v15(s.key, crypto.SHA256, hash[:], signature)
}

func tokenOf(r *http.Request) string {
	return strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Authorization"), `Snowflake Token="`), `"`)
}

// of is the session that a request comes from; nil where it has been answered.
func (s *server) of(w http.ResponseWriter, r *http.Request) *session {
	s.mu.Lock()
	se := s.sessions[tokenOf(r)]
	s.mu.Unlock()
	switch {
	case se == nil || se.gone:
		s.reply(w, false, "390111", "Session no longer exists. New login required to access the service.", nil)
	case se.expired:
		s.reply(w, false, "390112", "Your session has expired. Please login again.", nil)
	default:
		return se
	}
	return nil
}

func (s *server) renew(w http.ResponseWriter, r *http.Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.masters[tokenOf(r)]
	if body["requestType"] != "RENEW" {
		s.t.Errorf("the renewal asks for %v", body["requestType"])
	}
	if se == nil || se.gone {
		s.reply(w, false, "390114", "Authentication token has expired. The user must authenticate again.", nil)
		return
	}
	if body["oldSessionToken"] != se.token {
		s.t.Errorf("the old token is %v", body["oldSessionToken"])
	}
	delete(s.sessions, se.token)
	se.token += "-renewed"
	se.expired = false
	s.sessions[se.token] = se
	s.reply(w, true, "", "", map[string]any{"sessionToken": se.token, "masterToken": se.master, "validityInSecondsST": 3600, "validityInSecondsMT": 14400, "sessionId": se.number})
}

func (s *server) query(w http.ResponseWriter, r *http.Request, body map[string]any) {
	se := s.of(w, r)
	if se == nil {
		return
	}
	id := r.URL.Query().Get("requestId")
	if !uuidText.MatchString(id) || r.URL.Query().Get("request_guid") == "" {
		s.t.Errorf("a statement has requestId %q, request_guid %q", id, r.URL.Query().Get("request_guid"))
	}
	text, _ := body["sqlText"].(string)
	describe, _ := body["describeOnly"].(bool)
	s.mu.Lock()
	st, again := s.statements[id]
	switch {
	case again && st.sql != text:
		s.t.Errorf("requestId %s is used for %q and %q", id, st.sql, text)
	case again && r.URL.Query().Get("retry") != "true":
		s.t.Errorf("requestId %s comes again without being called a retry", id)
	case !again:
		st = &statement{id: fmt.Sprintf("01b2c3d4-0000-%04d-0000-000000000001", len(s.statements)), sql: text, of: se}
		s.statements[id], s.byID[st.id] = st, st
		if describe {
			st.is = s.answer(text)
			st.is.arrow, st.is.json, st.is.polls, st.is.hangs = nil, nil, 0, false
			break
		}
		s.ran = append(s.ran, text)
		s.events = append(s.events, fmt.Sprintf("%d: %s", se.number, text))
		switch {
		case text == "BEGIN TRANSACTION":
			if se.open {
				s.t.Error("a transaction begins in another")
			}
			se.open = true
		case text == "COMMIT", text == "ROLLBACK":
			se.open = false
		default:
			if definition(text) && se.open {
				s.t.Errorf("%s commits the transaction that is open", text)
			}
			st.is = s.answer(text)
		}
		st.polls = st.is.polls
	}
	s.mu.Unlock()
	s.outcome(w, st)
}

// outcome is what has become of a statement.
func (s *server) outcome(w http.ResponseWriter, st *statement) {
	if st.is.hangs {
		s.mu.Lock()
		stopped := st.stopped
		s.mu.Unlock()
		if !stopped {
			select {
			case <-s.blocked:
			case <-time.After(50 * time.Millisecond):
			}
			s.running(w, st, "333333")
			return
		}
		st.is.err = &failure{"000604", "57014", "SQL execution canceled"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.polls > 0 {
		st.polls--
		code := "333333"
		if st.polls%2 == 0 {
			code = "333334"
		}
		s.running(w, st, code)
		return
	}
	a := st.is
	if a.err != nil {
		s.reply(w, false, a.err.code, a.err.message, map[string]any{"queryId": st.id, "sqlState": a.err.state, "errorCode": a.err.code, "internalError": false, "type": "COMPILATION"})
		return
	}
	data := map[string]any{"queryId": st.id, "parameters": []any{}, "sqlState": nil, "rowtype": []any{}, "rowset": []any{}, "queryResultFormat": "json", "statementTypeId": 0x1000}
	switch {
	case a.dml != nil:
		var types []map[string]any
		var row []any
		for _, name := range []string{"number of rows inserted", "number of rows updated", "number of multi-joined rows updated", "number of rows deleted"} {
			if n, ok := a.dml[name]; ok {
				types = append(types, map[string]any{"name": name, "type": "fixed", "precision": 19, "scale": 0})
				row = append(row, fmt.Sprint(n))
			}
		}
		data["rowtype"], data["rowset"], data["total"], data["statementTypeId"] = types, [][]any{row}, 1, 0x3100
	case a.json != nil:
		data["rowtype"], data["rowset"], data["total"] = a.types, a.json, len(a.json)
	default:
		data["rowtype"], data["queryResultFormat"] = a.types, "arrow"
		delete(data, "rowset")
		s.results(data, st, a)
	}
	s.reply(w, true, "", "", data)
}

func (s *server) running(w http.ResponseWriter, st *statement, code string) {
	s.reply(w, false, code, "Query execution in progress. Use provided query ID to perform query monitoring and management.", map[string]any{
		"queryId": st.id, "getResultUrl": "/queries/" + st.id + "/result", "queryAbortsAfterSecs": 300, "progressDesc": nil,
	})
}

// results puts the first record into the answer, and each further one into a file.
func (s *server) results(data map[string]any, st *statement, a answer) {
	total := int64(0)
	var chunks []map[string]any
	for i, record := range a.arrow {
		total += record.NumRows()
		text := stream(s.t, record)
		if i == 0 {
			data["rowsetBase64"] = base64.StdEncoding.EncodeToString(text)
			continue
		}
		if a.zipped {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(text)
			_ = z.Close()
			text = b.Bytes()
		}
		path := fmt.Sprintf("/files/%s/%d", st.id, i)
		s.files[path] = text
		chunks = append(chunks, map[string]any{"url": s.URL + path, "rowCount": record.NumRows(), "uncompressedSize": len(text), "compressedSize": len(text)})
	}
	data["total"], data["returned"], data["chunks"] = total, total, chunks
	data["chunkHeaders"] = map[string]string{"x-amz-server-side-encryption-customer-algorithm": "AES256"}
}

// stream is a record as Snowflake's files have them, in two parts where it can be.
func stream(t *testing.T, record arrow.RecordBatch) []byte {
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(record.Schema()))
	half := record.NumRows() / 2
	for _, part := range []arrow.RecordBatch{record.NewSlice(0, half), record.NewSlice(half, record.NumRows())} {
		if err := w.Write(part); err != nil {
			t.Error(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return b.Bytes()
}

func (s *server) abort(w http.ResponseWriter, r *http.Request, body map[string]any) {
	if s.of(w, r) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := body["requestId"].(string)
	st := s.statements[id]
	if st == nil {
		s.reply(w, false, "000605", "Identified SQL statement is not currently executing.", nil)
		return
	}
	st.stopped = true
	s.aborted = append(s.aborted, st.sql)
	s.reply(w, true, "", "", nil)
}
