package bigquery

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// server speaks the part of BigQuery's REST API that is used, as Google's own description of it says (the discovery document that
// Google's Go module brings): each request is held against that, and one that the description does not know fails the test. It
// runs no SQL: what a statement does is said by the test.
type server struct {
	*httptest.Server
	t        *testing.T
	api      *discovery
	location string // of datasets and jobs
	answer   func(sql string) answer

	mu       sync.Mutex
	jobs     map[string]*serverJob
	tables   map[string]*serverTable
	datasets map[string]string // → location
	faults   []*fault
	calls    []call
	ran      []string // the statements that were run, each as often as it was
	uploads  map[string]*upload
	key      *rsa.PrivateKey
	tokens   map[string]string // → whose
	closed   bool              // requests need a token
	page     int               // rows a page has at most
}

// answer is what a statement does.
type answer struct {
	schema   []map[string]any
	rows     [][]any // as the API writes cells: texts, nil, nested objects
	affected int64
	typ      string // of the statement; SELECT
	bytes    int64
	polls    int // how often jobs.get says RUNNING before it is done
	err      map[string]any
	refused  *apiError // by jobs.insert itself, as a statement that does not parse is
	children []int64   // of a script: rows changed by each
}

type serverJob struct {
	ref, config map[string]any
	is          answer
	polls       int
	cancelled   bool
	loaded      int64
	parent      string
}

type serverTable struct {
	schema []map[string]any
	rows   []map[string]any
}

// fault is what goes wrong with the next requests to a method.
type fault struct {
	method string // jobs.insert …
	times  int
	err    *apiError // answered instead of doing it
	lost   bool      // done, and the connection cut before the answer
	cut    bool      // the connection cut before it is done
	stall  bool      // never answered
	before func()    // called first
}

type call struct {
	method string
	query  map[string][]string
	body   map[string]any
}

type apiError struct {
	code            int
	reason, message string
}

type upload struct {
	body map[string]any
	data bytes.Buffer
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		t: t, api: discover(t), location: "EU", jobs: map[string]*serverJob{}, tables: map[string]*serverTable{},
		datasets: map[string]string{"shop-project.dray": "EU", "shop-project.raw": "EU"}, uploads: map[string]*upload{}, tokens: map[string]string{}, page: 100,
		answer: func(string) answer { return answer{} },
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// discovery is the part of a discovery document that is read here.
type discovery struct {
	Parameters map[string]any
	Schemas    map[string]*apiSchema
	Resources  map[string]struct{ Methods map[string]*apiMethod }
}

type apiMethod struct {
	ID, HTTPMethod, Path string
	Parameters           map[string]struct{ Location, Type string }
	Request              *struct {
		Ref string `json:"$ref"`
	}
	MediaUpload *struct {
		Protocols map[string]struct{ Path string }
	}
}

type apiSchema struct {
	Type                 string
	Ref                  string `json:"$ref"`
	Properties           map[string]*apiSchema
	Items                *apiSchema
	AdditionalProperties *apiSchema
}

func discover(t *testing.T) *discovery {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		t.Skipf("Google's description of the API is found by the go command: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "bigquery", "v2", "bigquery-api.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d discovery
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// find is the method that a request is for, and what its path names.
func (d *discovery) find(r *http.Request) (*apiMethod, map[string]string) {
	for _, resource := range d.Resources {
		for _, m := range resource.Methods {
			paths := []string{"/bigquery/v2/" + m.Path}
			if m.MediaUpload != nil {
				for _, p := range m.MediaUpload.Protocols {
					paths = append(paths, p.Path)
				}
			}
			for _, p := range paths {
				var names []string
				pattern := regexp.MustCompile(`\{\+(\w+)\}`).ReplaceAllStringFunc(p, func(s string) string {
					names = append(names, strings.Trim(s, "{+}"))
					return "([^/]+)"
				})
				if got := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(r.URL.Path); got != nil && r.Method == m.HTTPMethod {
					vars := map[string]string{}
					for i, name := range names {
						vars[name] = got[i+1]
					}
					return m, vars
				}
			}
		}
	}
	return nil, nil
}

// check says what of a body the description does not have.
func (d *discovery) check(at string, s *apiSchema, v any) []string {
	if s.Ref != "" {
		s = d.Schemas[s.Ref]
	}
	var problems []string
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			sub := s.Properties[name]
			if sub == nil {
				sub = s.AdditionalProperties
			}
			if sub == nil {
				problems = append(problems, at+"."+name+" is not in the API")
				continue
			}
			problems = append(problems, d.check(at+"."+name, sub, value)...)
		}
	case []any:
		if s.Type != "array" {
			return []string{at + " is a list"}
		}
		for _, e := range v {
			problems = append(problems, d.check(at+"[]", s.Items, e)...)
		}
	case string:
		if s.Type != "string" && s.Type != "any" {
			problems = append(problems, at+" is a text, not of type "+s.Type)
		}
	case float64:
		if s.Type != "integer" && s.Type != "number" && s.Type != "any" {
			problems = append(problems, at+" is a number, not of type "+s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			problems = append(problems, at+" is a boolean, not of type "+s.Type)
		}
	}
	return problems
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/resume/") {
		s.resume(w, r)
		return
	}
	m, vars := s.api.find(r)
	if m == nil {
		s.t.Errorf("%s %s is not in the API", r.Method, r.URL.Path)
		fail(w, apiError{404, "notFound", "no such method"})
		return
	}
	method := strings.TrimPrefix(m.ID, "bigquery.")
	for name := range r.URL.Query() {
		_, own := m.Parameters[name]
		_, common := s.api.Parameters[name]
		if !own && !common && name != "uploadType" && name != "upload_protocol" {
			s.t.Errorf("%s has no parameter %s", method, name)
		}
	}
	s.mu.Lock()
	needs := s.closed && s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] == ""
	s.mu.Unlock()
	if needs {
		fail(w, apiError{401, "authError", "Request had invalid authentication credentials. Expected OAuth 2 access token."})
		return
	}
	body, media, err := bodyOf(r)
	if err != nil {
		s.t.Logf("%s: reading the body: %v", method, err) // a connection that broke
		return
	}
	if body != nil && m.Request != nil {
		for _, p := range s.api.check("body", &apiSchema{Ref: m.Request.Ref}, body) {
			s.t.Errorf("%s: %s", method, p)
		}
	}
	s.mu.Lock()
	s.calls = append(s.calls, call{method, r.URL.Query(), body})
	var f *fault
	for _, x := range s.faults {
		if x.method == method && x.times > 0 {
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
		case f.err != nil:
			fail(w, *f.err)
			return
		case f.cut:
			cut(w)
			return
		case f.stall:
			<-r.Context().Done()
			return
		case f.lost:
			s.do(httptest.NewRecorder(), method, vars, r, body, media)
			cut(w)
			return
		}
	}
	s.do(w, method, vars, r, body, media)
}

// bodyOf reads what a request brings: JSON, or JSON and a file.
func bodyOf(r *http.Request) (body map[string]any, media []byte, err error) {
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(r.Body, params["boundary"])
		first, err := parts.NextPart()
		if err != nil {
			return nil, nil, err
		}
		if err := json.NewDecoder(first).Decode(&body); err != nil {
			return nil, nil, err
		}
		second, err := parts.NextPart()
		if err != nil {
			return nil, nil, err
		}
		media, err = io.ReadAll(second)
		return body, media, err
	}
	text, err := io.ReadAll(r.Body)
	if err != nil || len(text) == 0 {
		return nil, nil, err
	}
	return body, nil, json.Unmarshal(text, &body)
}

func (s *server) do(w http.ResponseWriter, method string, vars map[string]string, r *http.Request, body map[string]any, media []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch method {
	case "jobs.insert":
		if r.URL.Query().Get("uploadType") == "resumable" {
			id := fmt.Sprint(len(s.uploads) + 1)
			s.uploads[id] = &upload{body: body}
			w.Header().Set("Location", s.URL+"/resume/"+id)
			w.WriteHeader(http.StatusOK)
			return
		}
		s.insert(w, vars["projectId"], body, media)
	case "jobs.get", "jobs.cancel":
		j := s.find(w, vars, r)
		if j == nil {
			return
		}
		if method == "jobs.cancel" {
			j.cancelled = true
			give(w, map[string]any{"job": s.resource(j)})
			return
		}
		if !j.done() {
			j.polls++
		}
		give(w, s.resource(j))
	case "jobs.getQueryResults":
		s.results(w, vars, r)
	case "jobs.list":
		var list []any
		for _, j := range s.jobs {
			if j.parent != "" && j.parent == r.URL.Query().Get("parentJobId") {
				list = append(list, s.resource(j))
			}
		}
		give(w, map[string]any{"jobs": list})
	case "tables.get":
		t := s.tables[vars["projectId"]+"."+vars["datasetId"]+"."+vars["tableId"]]
		if t == nil {
			fail(w, apiError{404, "notFound", fmt.Sprintf("Not found: Table %s:%s.%s", vars["projectId"], vars["datasetId"], vars["tableId"])})
			return
		}
		give(w, map[string]any{"tableReference": vars, "schema": map[string]any{"fields": t.schema}, "type": "TABLE", "location": s.location})
	case "datasets.get":
		location := s.datasets[vars["projectId"]+"."+vars["datasetId"]]
		if location == "" {
			fail(w, apiError{404, "notFound", fmt.Sprintf("Not found: Dataset %s:%s", vars["projectId"], vars["datasetId"])})
			return
		}
		give(w, map[string]any{"datasetReference": vars, "location": location})
	default:
		s.t.Errorf("the server does not do %s", method)
		fail(w, apiError{501, "notImplemented", method})
	}
}

var jobID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (s *server) insert(w http.ResponseWriter, project string, body map[string]any, media []byte) {
	ref, _ := body["jobReference"].(map[string]any)
	config, _ := body["configuration"].(map[string]any)
	id, _ := ref["jobId"].(string)
	if ref["projectId"] != project || !jobID.MatchString(id) || config == nil {
		fail(w, apiError{400, "invalid", "the job reference or its configuration is missing"})
		return
	}
	location, _ := ref["location"].(string)
	if location == "" {
		location = s.location // as the datasets' are that it reads
	}
	if s.jobs[id] != nil {
		fail(w, apiError{409, "duplicate", fmt.Sprintf("Already Exists: Job %s:%s.%s", project, location, id)})
		return
	}
	if location != s.location {
		fail(w, apiError{404, "notFound", fmt.Sprintf("Not found: Dataset %s:dray was not found in location %s", project, location)})
		return
	}
	j := &serverJob{ref: map[string]any{"projectId": project, "jobId": id, "location": location}, config: config}
	if query, ok := config["query"].(map[string]any); ok {
		sql, _ := query["query"].(string)
		j.is = s.answer(sql)
		if j.is.refused != nil {
			fail(w, *j.is.refused)
			return
		}
		if most, ok := query["maximumBytesBilled"].(string); ok && j.is.err == nil {
			if n, _ := strconv.ParseInt(most, 10, 64); j.is.bytes > n {
				j.is.err = map[string]any{"reason": "bytesBilledLimitExceeded", "message": fmt.Sprintf("Query exceeded limit for bytes billed: %d. %d or higher required.", n, j.is.bytes)}
			}
		}
		if config["dryRun"] == true {
			j.ref = map[string]any{"projectId": project, "location": location}
			give(w, s.resource(j)) // there is no job
			return
		}
		s.ran = append(s.ran, sql)
		query["destinationTable"] = map[string]any{"projectId": project, "datasetId": "_anon", "tableId": "anon_" + strings.ReplaceAll(id, "-", "_")}
		for i, n := range j.is.children {
			child := fmt.Sprintf("script_job_%s_%d", id, i)
			s.jobs[child] = &serverJob{
				ref: map[string]any{"projectId": project, "jobId": child, "location": location}, parent: id,
				config: map[string]any{"query": map[string]any{}}, is: answer{typ: "UPDATE", affected: n},
			}
		}
	}
	if load, ok := config["load"].(map[string]any); ok {
		s.load(j, load, media)
	}
	s.jobs[id] = j
	give(w, s.resource(j))
}

// load takes all rows or none.
func (s *server) load(j *serverJob, load map[string]any, media []byte) {
	dst, _ := load["destinationTable"].(map[string]any)
	t := s.tables[fmt.Sprintf("%v.%v.%v", dst["projectId"], dst["datasetId"], dst["tableId"])]
	switch {
	case t == nil:
		j.is.err = map[string]any{"reason": "notFound", "message": fmt.Sprintf("Not found: Table %v:%v.%v", dst["projectId"], dst["datasetId"], dst["tableId"])}
		return
	case load["sourceFormat"] != "NEWLINE_DELIMITED_JSON" || load["writeDisposition"] != "WRITE_APPEND" || load["createDisposition"] != "CREATE_NEVER":
		j.is.err = map[string]any{"reason": "invalid", "message": "the load is not the one that was expected"}
		return
	}
	s.ran = append(s.ran, "LOAD")
	j.is = s.answer("LOAD")
	if j.is.err != nil {
		return
	}
	var rows []map[string]any
	for line := range bytes.Lines(media) {
		row := map[string]any{}
		if err := json.Unmarshal(line, &row); err != nil {
			j.is.err = map[string]any{"reason": "invalid", "message": "Error while reading data, error message: JSON parsing error in row starting at position 0"}
			return
		}
		for name, v := range row {
			k := slices.IndexFunc(t.schema, func(f map[string]any) bool { return f["name"] == name })
			if k < 0 {
				j.is.err = map[string]any{"reason": "invalid", "message": "Error while reading data, error message: JSON parsing error in row starting at position 0: No such field: " + name + "."}
				return
			}
			if text, ok := v.(string); ok && t.schema[k]["type"] == "INTEGER" {
				if _, err := strconv.ParseInt(text, 10, 64); err != nil {
					j.is.err = map[string]any{"reason": "invalid", "message": "Error while reading data, error message: JSON parsing error in row starting at position 0: Could not convert value to integer. Field: " + name + "; Value: " + text}
					return
				}
			}
		}
		rows = append(rows, row)
	}
	t.rows = append(t.rows, rows...)
	j.loaded = int64(len(rows))
}

// resume takes the chunks of a resumable upload.
func (s *server) resume(w http.ResponseWriter, r *http.Request) {
	chunk, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[strings.TrimPrefix(r.URL.Path, "/resume/")]
	u.data.Write(chunk)
	if strings.HasSuffix(r.Header.Get("Content-Range"), "/*") {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", u.data.Len()-1))
		w.Header().Set("X-HTTP-Status-Code-Override", "308")
		w.WriteHeader(http.StatusOK)
		return
	}
	for _, f := range s.faults {
		if f.method == "upload" && f.times > 0 {
			f.times--
			if f.lost {
				s.insert(httptest.NewRecorder(), "shop-project", u.body, u.data.Bytes())
			}
			cut(w)
			return
		}
	}
	s.insert(w, "shop-project", u.body, u.data.Bytes())
}

// find is the job that a request names. One of a single region is found only where that is said.
func (s *server) find(w http.ResponseWriter, vars map[string]string, r *http.Request) *serverJob {
	j := s.jobs[vars["jobId"]]
	asked := r.URL.Query().Get("location")
	if j == nil || asked == "" && j.ref["location"] != "US" && j.ref["location"] != "EU" || asked != "" && asked != j.ref["location"] {
		fail(w, apiError{404, "notFound", fmt.Sprintf("Not found: Job %s:%s", vars["projectId"], vars["jobId"])})
		return nil
	}
	return j
}

func (j *serverJob) done() bool { return j.cancelled || j.polls >= j.is.polls }

func (j *serverJob) failure() map[string]any {
	if j.cancelled {
		return map[string]any{"reason": "stopped", "message": "Job execution was cancelled: User requested cancellation"}
	}
	return j.is.err
}

func (s *server) resource(j *serverJob) map[string]any {
	status := map[string]any{"state": "RUNNING"}
	typ := j.is.typ
	if typ == "" {
		typ = "SELECT"
	}
	stats := map[string]any{"creationTime": "1767225600000", "totalBytesProcessed": strconv.FormatInt(j.is.bytes, 10)}
	if j.config["query"] != nil {
		stats["query"] = map[string]any{
			"statementType": typ, "totalBytesProcessed": strconv.FormatInt(j.is.bytes, 10), "numDmlAffectedRows": strconv.FormatInt(j.is.affected, 10),
			"schema": map[string]any{"fields": j.is.schema},
		}
	}
	if j.done() || j.config["dryRun"] == true {
		status["state"] = "DONE"
		if e := j.failure(); e != nil {
			status["errorResult"], status["errors"] = e, []any{e}
		}
		if j.config["load"] != nil {
			stats["load"] = map[string]any{"outputRows": strconv.FormatInt(j.loaded, 10)}
		}
	}
	return map[string]any{"kind": "bigquery#job", "jobReference": j.ref, "configuration": j.config, "status": status, "statistics": stats}
}

func (s *server) results(w http.ResponseWriter, vars map[string]string, r *http.Request) {
	j := s.find(w, vars, r)
	switch {
	case j == nil:
		return
	case !j.done():
		give(w, map[string]any{"jobReference": j.ref, "jobComplete": false})
		return
	case j.failure() != nil:
		fail(w, apiError{400, fmt.Sprint(j.failure()["reason"]), fmt.Sprint(j.failure()["message"])})
		return
	}
	q := r.URL.Query()
	from, _ := strconv.Atoi(strings.TrimPrefix(q.Get("pageToken"), "page"))
	if q.Get("pageToken") == "" {
		from, _ = strconv.Atoi(q.Get("startIndex"))
	}
	size := s.page
	if n := q.Get("maxResults"); n != "" {
		k, _ := strconv.Atoi(n)
		size = min(size, k)
	}
	to := min(from+size, len(j.is.rows))
	out := map[string]any{
		"jobReference": j.ref, "jobComplete": true, "schema": map[string]any{"fields": j.is.schema},
		"totalRows": strconv.Itoa(len(j.is.rows)), "numDmlAffectedRows": strconv.FormatInt(j.is.affected, 10),
	}
	var rows []any
	for _, cells := range j.is.rows[from:to] {
		var f []any
		for i, c := range cells {
			if c != nil && j.is.schema[i]["type"] == "TIMESTAMP" && q.Get("formatOptions.useInt64Timestamp") != "true" {
				s.t.Error("timestamps come as fractions of seconds unless they are asked for in microseconds")
			}
			f = append(f, map[string]any{"v": c})
		}
		rows = append(rows, map[string]any{"f": f})
	}
	if size > 0 {
		out["rows"] = rows
		if to < len(j.is.rows) {
			out["pageToken"] = fmt.Sprintf("page%d", to)
		}
	}
	give(w, out)
}

func give(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// fail answers as Google's APIs do.
func fail(w http.ResponseWriter, e apiError) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(e.code)
	give(w, map[string]any{"error": map[string]any{
		"code": e.code, "message": e.message, "status": http.StatusText(e.code),
		"errors": []any{map[string]any{"message": e.message, "domain": "global", "reason": e.reason}},
	}})
}

// cut ends a connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// serviceAccount is a key as Google makes it, whose tokens this server gives; and from now on it wants one with each request.
func (s *server) serviceAccount() map[string]any {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.key, s.closed = key, true
	return map[string]any{
		"type": "service_account", "project_id": "shop-project", "private_key_id": "kid", "client_email": "dray@shop-project.iam.gserviceaccount.com", "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": s.URL + "/token",
	}
}

// token is Google's token service: a signed assertion for a token (RFC 7523).
func (s *server) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		give(w, map[string]any{"error": "invalid_grant", "error_description": why + " " + r.Form.Get("assertion")})
	}
	if err := r.ParseForm(); err != nil || r.Form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		refuse("the grant type is another")
		return
	}
	parts := strings.Split(r.Form.Get("assertion"), ".")
	if len(parts) != 3 {
		refuse("no assertion")
		return
	}
	claimed, _ := base64.RawURLEncoding.DecodeString(parts[1])
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	var claims struct{ Iss, Aud, Scope string }
	_ = json.Unmarshal(claimed, &claims)
	if s.key == nil || rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], signature) != nil || claims.Aud != s.URL+"/token" ||
		!strings.Contains(claims.Scope, "https://www.googleapis.com/auth/bigquery") {
		refuse("Invalid JWT Signature.")
		return
	}
	s.mu.Lock()
	s.tokens["token-of-dray"] = claims.Iss
	s.mu.Unlock()
	give(w, map[string]any{"access_token": "token-of-dray", "expires_in": 3600, "token_type": "Bearer"})
}
