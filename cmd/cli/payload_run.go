package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/sandbox"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// payloadClock is `now` in a payload test where neither the project nor --as-of fixes it: what is sent must not change by itself.
const payloadClock = "2026-01-01T00:00:00Z"

// rehearse runs a case through the real path: its rows in a warehouse of its own, the sync as the project has it, and the
// stand-in of the destination in this process instead of a network. It gives what a run sends.
func (a *app) rehearse(ctx context.Context, p *run.Prepared, n *graph.Node, c payloadCase) (sent []sentRequest, err error) {
	dir, err := os.MkdirTemp("", "dray-test-")
	if err != nil {
		return nil, diag.Errorf(diag.Failed, "test.scratch", "cannot make a folder for the test: %s", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := newRehearsal(p, n, dir)
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	lines := newPipes()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sandbox.New(r.entries).Serve(serving, lines, io.Discard) // ends with `serving`; a broken pipe fails the request that has it
	}()
	defer func() {
		stop()
		_ = lines.Close()
		<-ended
	}()
	transport := httpx.NewTransport()
	transport.Proxy, transport.DialContext = nil, lines.dial
	defer transport.CloseIdleConnections()
	deps := a.deps()
	deps.Transport, deps.Connector, deps.Progress, deps.Built = transport, oneByOne(deps.Connector), nil, nil
	r.declareFields(ctx, httpx.New(httpx.Options{Transport: transport, Retries: -1}))

	if c.before != "" {
		if err := r.write(c.before); err != nil {
			return nil, err
		}
		if _, err := a.rehearseRun(ctx, deps, r); err != nil {
			return nil, fmt.Errorf("delivering %s: %w", c.before, err)
		}
		r.forget()
	}
	if err := r.write(c.rows); err != nil {
		return nil, err
	}
	rep, err := a.rehearseRun(ctx, deps, r)
	if err != nil {
		return nil, err
	}
	return r.sent(rep)
}

// serial is a connector whose requests follow each other, so that their order is always the same.
type serial struct{ destination.Connector }

// Spec is the connector's own but for that.
func (s serial) Spec() destination.Spec {
	spec := s.Connector.Spec()
	spec.Concurrency = 1
	return spec
}

func oneByOne(find func(string) (destination.Connector, bool)) func(string) (destination.Connector, bool) {
	return func(typ string) (destination.Connector, bool) {
		c, ok := find(typ)
		if !ok {
			return nil, false
		}
		return serial{c}, true
	}
}

// declareFields gives HubSpot's stand-in the properties that the sync maps: an account has custom ones, the stand-in is new. What
// it has already it refuses to make again.
func (r *rehearsal) declareFields(ctx context.Context, client *httpx.Client) {
	defer client.Close()
	if r.standIn == nil || r.entries[0].Type != "hubspot" || r.node.Sync.Object != "contacts" {
		return
	}
	declare := func(name string, unique bool) {
		body, _ := json.Marshal(map[string]any{
			"name": name, "label": name, "type": "string", "fieldType": "text", "groupName": "contactinformation", "hasUniqueValue": unique,
		})
		header := map[string][]string{"Authorization": {"Bearer any"}, "Content-Type": {"application/json"}}
		_, _ = client.Write(ctx, httpx.Request{URL: "http://" + rehearsalHost + "/hubspot/crm/v3/properties/contacts", Header: header, Body: body})
	}
	for _, key := range r.node.Sync.Key {
		for _, c := range key.Columns {
			declare(c.Name, true)
		}
	}
	for _, f := range r.node.Sync.Fields {
		declare(f.Name, false)
	}
	r.skip = len(r.standIn.Core().Requests())
}

// rehearseRun is one run of the rehearsal's project. Rows that the stand-in refuses are no error: the requests are what counts.
func (a *app) rehearseRun(ctx context.Context, deps run.Deps, r *rehearsal) (rep report.Run, err error) {
	o := run.Options{Dir: r.dir, AsOf: r.asOf, Env: a.env}
	s, err := run.Open(ctx, deps, o)
	if err != nil {
		return rep, err
	}
	defer func() {
		if closing := s.Close(); err == nil {
			err = closing
		}
	}()
	if err := r.seed(ctx, s); err != nil {
		return rep, err
	}
	runs, err := s.Run(ctx, []string{r.sync}, run.RunOptions{})
	if len(runs) > 0 {
		rep = runs[0]
	}
	if rep.Error != nil && err == nil {
		err = diag.Errorf(diag.Invalid, rep.Error.Code, "%s", rep.Error.Message).WithHint("%s", rep.Error.Hint)
	}
	return rep, err
}

// rehearsal is the project of one case, in a folder of its own.
type rehearsal struct {
	dir, sync, asOf string
	project         *run.Prepared
	node            *graph.Node
	format          string          // of a destination that writes files: jsonl, csv
	standIn         standin.StandIn // nil where the destination is no vendor's API
	entries         []sandbox.Entry
	skip            int // requests that came in before those that count
}

func newRehearsal(p *run.Prepared, n *graph.Node, dir string) (*rehearsal, error) {
	r := &rehearsal{dir: dir, sync: n.Name, project: p, node: n, asOf: payloadClock}
	if p.Project.AsOf != "" && p.Project.AsOf != "now" {
		r.asOf = p.AsOf.UTC().Format(time.RFC3339Nano)
	}
	return r, r.writeProject()
}

// forget leaves out of account what was sent so far; what the stand-in holds stays.
func (r *rehearsal) forget() {
	if r.standIn != nil {
		r.skip = len(r.standIn.Core().Requests())
		return
	}
	_ = os.RemoveAll(filepath.Join(r.dir, rehearsalOut))
}

// seed makes the records that members of a list must be before they can be members.
func (r *rehearsal) seed(ctx context.Context, s *run.Session) error {
	if r.standIn == nil {
		return nil
	}
	for _, sample := range r.standIn.Samples() {
		if sample.Object != r.node.Sync.Object || sample.Seed == nil {
			continue
		}
		for _, key := range r.node.Sync.Key {
			for _, column := range key.Columns {
				values, err := rowValues(ctx, s, column.Column)
				if err != nil {
					return err
				}
				sample.Seed(values...)
			}
		}
	}
	return nil
}

// rowValues are the texts of one column of the case's rows.
func rowValues(ctx context.Context, s *run.Session, column string) (values []string, err error) {
	p, err := s.Program(ctx, true, false)
	if err != nil {
		return nil, err
	}
	model := p.Node(graph.MakeID(graph.Model, rehearsalRows))
	rows, err := s.Warehouse.Query(ctx, fmt.Sprintf("SELECT DISTINCT CAST(%s AS VARCHAR) FROM (%s) r ORDER BY 1", p.Dialect.Quote(column), model.Query))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if text, ok := row[0].(string); ok {
			values = append(values, text)
		}
	}
	return values, rows.Err()
}

// sent is what the run delivered.
func (r *rehearsal) sent(rep report.Run) ([]sentRequest, error) {
	if r.standIn == nil {
		return r.sentFile(rep)
	}
	var sent []sentRequest
	for _, req := range r.standIn.Core().Requests()[r.skip:] {
		if req.Method == "GET" { // reads of the connector, such as the connection check
			continue
		}
		body, err := sentBody(marked(req.Body, rep))
		if err != nil {
			return nil, err
		}
		sent = append(sent, sentRequest{Method: req.Method, Path: req.Path, Body: body})
	}
	return sent, nil
}

// runIDMark and dedupeIDMark stand in expectations where what was sent is another in each run, or under each release of the
// warehouse's engine, whose row hash is part of the dedupe id of upserts. That of an insert is made to stay, and is compared.
const (
	runIDMark    = "<run_id>"
	dedupeIDMark = "<dedupe_id>"
)

var rowDedupeID = regexp.MustCompile(`\b[0-9a-f]{16}-[0-9a-f]{16}-(add|update|remove|rekey)\b`)

func marked(text string, rep report.Run) string {
	return rowDedupeID.ReplaceAllString(strings.ReplaceAll(text, rep.RunID, runIDMark), dedupeIDMark)
}

// sentBody keeps JSON as JSON, digit by digit.
func sentBody(text string) (any, error) {
	switch {
	case text == "":
		return nil, nil
	case json.Valid([]byte(text)):
		return json.RawMessage(text), nil
	default:
		return text, nil
	}
}

// sentFile is what a destination that writes files wrote in the run; nothing where there was nothing to write.
func (r *rehearsal) sentFile(rep report.Run) ([]sentRequest, error) {
	name := rep.RunID + "." + r.format
	text, err := os.ReadFile(filepath.Join(r.dir, rehearsalOut, r.sync, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file := sentRequest{File: r.sync + "/" + runIDMark + "." + r.format}
	var lines []any
	for line := range strings.Lines(marked(string(text), rep)) {
		body, err := sentBody(strings.TrimRight(line, "\r\n"))
		if err != nil {
			return nil, err
		}
		lines = append(lines, body)
	}
	file.Body = lines
	return []sentRequest{file}, nil
}

// pipes is a listener within the process: what dials it is its next connection.
type pipes struct {
	next   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{next: make(chan net.Conn), closed: make(chan struct{})} }

// dial connects to whoever accepts, whatever the address.
func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.next <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.next:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it may be called twice.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: rehearsalHost, Net: "pipe"} }
