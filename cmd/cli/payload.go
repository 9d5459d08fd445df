package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

// Payload tests of syncs lie in tests/<sync>/ of the project: <case>.rows.csv (or .jsonl, .sql) holds the rows of the sync,
// <case>.requests.json the exact requests that deliver them, and <case>.before.… the rows that were delivered before, where
// updates and removes are what is tested.
const (
	payloadDir      = "tests"
	payloadRows     = ".rows"
	payloadBefore   = ".before"
	payloadRequests = ".requests.json"
)

// payloadCase is one payload test. Paths are relative to the project, with slashes; before is "" where there is none.
type payloadCase struct {
	sync, name             string
	rows, before, requests string
}

// payloadFormats are the kinds of files that rows may stand in.
func payloadFormats() []string { return []string{".csv", ".jsonl", ".sql"} }

// payloadCases finds a project's payload tests, sorted. Only files named <case>.rows.<format> in a folder below tests/ count, so
// that whatever else lies there is left alone.
func payloadCases(projectDir string) ([]payloadCase, error) {
	found, err := filepath.Glob(filepath.Join(projectDir, payloadDir, "*", "*"+payloadRows+".*"))
	if err != nil {
		return nil, err
	}
	var cases []payloadCase
	for _, path := range found {
		format := filepath.Ext(path)
		if !slices.Contains(payloadFormats(), format) {
			continue
		}
		base := strings.TrimSuffix(path, payloadRows+format)
		c := payloadCase{sync: filepath.Base(filepath.Dir(path)), name: filepath.Base(base)}
		for _, f := range payloadFormats() {
			if _, err := os.Stat(base + payloadBefore + f); err == nil {
				c.before = relative(projectDir, base+payloadBefore+f)
			}
		}
		c.rows, c.requests = relative(projectDir, path), relative(projectDir, base+payloadRequests)
		cases = append(cases, c)
	}
	slices.SortFunc(cases, func(a, b payloadCase) int { return strings.Compare(a.rows, b.rows) })
	return cases, nil
}

func relative(dir, path string) string {
	if short, err := filepath.Rel(dir, path); err == nil {
		return filepath.ToSlash(short)
	}
	return path
}

// strayCases are tests of syncs that the project does not have: a test that nothing runs is worse than none.
func strayCases(g *graph.Graph, cases []payloadCase) error {
	var names []string
	for _, n := range g.Order() {
		if n.Kind == graph.Sync {
			names = append(names, n.Name)
		}
	}
	var problems diag.List
	for _, c := range cases {
		if slices.Contains(names, c.sync) {
			continue
		}
		e := &diag.Error{Kind: diag.Invalid, Pos: diag.Pos{File: c.rows}, Code: "test.unknown_sync", Msg: fmt.Sprintf("a payload test of %q, which is no sync of the project", c.sync)}
		if near := config.Suggest(c.sync, names); near != "" {
			e.Hint = "did you mean " + near + "?"
		}
		problems.Add(e)
	}
	return problems.Err()
}

// testPayloads runs the payload tests of the syncs among nodes; the error joins what failed. update writes what is sent as
// what is expected.
func (a *app) testPayloads(ctx context.Context, p *run.Prepared, nodes []*graph.Node, cases []payloadCase, update bool) (build.Result, error) {
	var result build.Result
	var failed []error
	for _, n := range nodes {
		if n.Kind != graph.Sync {
			continue
		}
		started, before := time.Now(), len(failed)
		node := build.NodeResult{ID: n.ID, Kind: n.Kind, Name: n.Name, Status: build.Tested, Rows: -1}
		for _, c := range cases {
			if c.sync != n.Name {
				continue
			}
			err := a.testPayload(ctx, p, n, c, update)
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			test := build.TestResult{Name: "payload(" + c.name + ")", Err: err}
			if err != nil {
				node.Status = build.Failed
				failed = append(failed, err)
				var differs *diag.Error
				if errors.As(err, &differs) && differs.Code == "test.payload" {
					test.Failures = 1
				}
			}
			node.Tests = append(node.Tests, test)
		}
		if len(node.Tests) == 0 {
			continue
		}
		if node.Status == build.Failed {
			node.Err = errors.Join(failed[before:]...)
		}
		node.Seconds = time.Since(started).Seconds()
		result.Nodes = append(result.Nodes, node)
		if node.Status == build.Failed && a.flags.failFast {
			break
		}
	}
	return result, errors.Join(failed...)
}

// testPayload sends one case's rows to a stand-in and compares the requests with those expected.
func (a *app) testPayload(ctx context.Context, p *run.Prepared, n *graph.Node, c payloadCase, update bool) error {
	sent, err := a.rehearse(ctx, p, n, c)
	if err != nil {
		return inCase(c, err)
	}
	got, err := requestsDocument(sent)
	if err != nil {
		return err
	}
	file := filepath.Join(p.Project.Dir, filepath.FromSlash(c.requests))
	if update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			return diag.Errorf(diag.Failed, "test.write", "cannot write %s: %s", c.requests, err)
		}
		return nil
	}
	again := fmt.Sprintf("dray test %s --update", c.sync)
	expected, err := os.ReadFile(file)
	if err != nil {
		return diag.Errorf(diag.Invalid, "test.no_requests", "%s says no requests: %s cannot be read", c.rows, c.requests).
			WithHint("%s writes what is sent now; read it before you keep it", again)
	}
	want, line, err := canonical(expected)
	if err != nil {
		return &diag.Error{Kind: diag.Invalid, Pos: diag.Pos{File: c.requests, Line: line}, Code: "test.requests", Msg: "is not a JSON list of requests", Err: err}
	}
	if bytes.Equal(want, got) {
		return nil
	}
	hint := "if what is sent now is right: " + again
	if !a.flags.showValues {
		hint = "--show-values shows both; " + hint
	}
	return &diag.Error{
		Kind: diag.Stopped, Code: "test.payload", Pos: diag.Pos{File: c.requests},
		Msg:  fmt.Sprintf("%s: payload(%s) %s", c.sync, c.name, difference(want, got, a.flags.showValues)),
		Hint: hint,
	}
}

// inCase says in which test something went wrong.
func inCase(c payloadCase, err error) error {
	var e *diag.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", c.rows, err)
	}
	told := *e
	if told.Pos.File == "" || told.Pos.File == "dray.yaml" || told.Pos.File == "rows.yaml" { // of the rehearsal, not the user's
		told.Pos = diag.Pos{File: c.rows}
	}
	if told.Code != "test.rows" && told.Code != "test.no_requests" {
		told.Hint = fmt.Sprintf("the rows need every column that %s maps", c.sync)
	}
	return &told
}

// sentRequest is a request as a payload test keeps it: without host and headers, which differ from place to place and hold
// credentials. For destinations that write files, File is the file's name and Body what it holds.
type sentRequest struct {
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	File   string `json:"file,omitempty"`
	Body   any    `json:"body,omitempty"`
}

// requestsDocument is the file of requests, as --update writes it.
func requestsDocument(sent []sentRequest) ([]byte, error) {
	if sent == nil {
		sent = []sentRequest{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(sent); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// canonical indents a document as requestsDocument does, so that layout is no difference; digits and the order of keys stay. line
// is where it does not parse.
func canonical(text []byte) (out []byte, line int, err error) {
	var sent []json.RawMessage
	if err := json.Unmarshal(text, &sent); err != nil {
		var syntax *json.SyntaxError
		at := int64(0)
		if errors.As(err, &syntax) {
			at = min(syntax.Offset, int64(len(text)))
		}
		return nil, 1 + bytes.Count(text[:at], []byte("\n")), err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
		return nil, 1, err
	}
	b.WriteByte('\n')
	return b.Bytes(), 0, nil
}

// difference names the first place in which two lists of requests differ; the values only where they were asked for (I6).
func difference(want, got []byte, showValues bool) string {
	w, g := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	at := 0
	for at < len(w) && at < len(g) && bytes.Equal(w[at], g[at]) {
		at++
	}
	place := placeOf(g[:min(at+1, len(g))])
	if n, m := requestCount(want), requestCount(got); n != m && isPrefix(w, g, at) {
		return fmt.Sprintf("differs after request %d: expected %s, sent %s", min(n, m), plural(int64(n), "request"), count(int64(m)))
	}
	said := fmt.Sprintf("differs in line %d, at %s", at+1, strings.Join(place, "."))
	if !showValues {
		return said
	}
	line := func(lines [][]byte) string {
		if at >= len(lines) || len(bytes.TrimSpace(lines[at])) == 0 {
			return "nothing"
		}
		return strings.TrimSuffix(string(bytes.TrimSpace(lines[at])), ",")
	}
	return fmt.Sprintf("%s: expected %s, sent %s", said, line(w), line(g))
}

func requestCount(document []byte) int {
	var list []json.RawMessage
	_ = json.Unmarshal(document, &list) // both were made by json.Indent
	return len(list)
}

// isPrefix tells whether the lists are equal up to the end of the shorter one: the first different line is that of its end.
func isPrefix(w, g [][]byte, at int) bool {
	ends := func(lines [][]byte) bool { return at >= len(lines)-3 }
	return ends(w) || ends(g)
}

// placeOf is the path to the last of the lines of an indented document: request 1, body, changes 2, fields, city.
func placeOf(lines [][]byte) []string {
	type level struct {
		key   string
		index int // in a list, from 1; 0 = a map
	}
	var levels []level
	for i, line := range lines {
		last := i == len(lines)-1
		text := strings.TrimSuffix(strings.TrimSpace(string(line)), ",")
		closes := text == "]" || text == "}"
		if closes && len(levels) > 0 {
			levels = levels[:len(levels)-1]
			if !last {
				continue
			}
			break
		}
		key := ""
		if k, _, ok := strings.Cut(text, `": `); ok && strings.HasPrefix(k, `"`) {
			key = strings.TrimPrefix(k, `"`)
		}
		if len(levels) > 0 {
			top := &levels[len(levels)-1]
			if top.index >= 0 && key == "" {
				top.index++
			} else {
				top.key = key
			}
		}
		switch {
		case last:
		case strings.HasSuffix(text, "["):
			levels = append(levels, level{})
		case strings.HasSuffix(text, "{"):
			levels = append(levels, level{index: -1})
		}
	}
	var out []string
	for i, l := range levels {
		switch {
		case l.index > 0 && i == 0:
			out = append(out, fmt.Sprintf("request %d", l.index))
		case l.index > 0:
			out[len(out)-1] += fmt.Sprintf("[%d]", l.index-1)
		case l.key != "":
			out = append(out, l.key)
		}
	}
	if len(out) == 0 {
		return []string{"the end"}
	}
	return out
}
