package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// requestTimeout is long for a stand-in in the same process, and short to wait for.
const requestTimeout = 400 * time.Millisecond

// rig is one destination with its stand-in, for one case.
type rig struct {
	*testing.T
	object    destination.Object
	sample    standin.Sample
	standIn   standin.StandIn
	server    *httptest.Server // nil where the destination is not reached over HTTP
	dest      destination.Destination
	http      *httpx.Client
	container string
	schema    *destination.Schema
	logged    *lockedBuffer
	mode      destination.Mode
	spec      destination.Spec
	size      int // rows of a full batch
	runs      int
	unknowns  map[string]bool
}

func (s *suite) newRig(t *testing.T, object destination.Object, name string) *rig {
	t.Helper()
	r := &rig{
		T: t, object: object, standIn: s.standIn(), logged: &lockedBuffer{}, mode: destination.Upsert,
		unknowns: map[string]bool{},
	}
	if !contains(object.Modes, r.mode) {
		r.mode = object.Modes[0]
	}
	for _, sample := range r.standIn.Samples() {
		if sample.Object == name {
			r.sample = sample
		}
	}
	base := t.TempDir()
	if h := r.standIn.Handler(); h != nil {
		r.standIn.Core().Limit(standin.Limit{}, nil) // pacing is the engine's
		r.server = httptest.NewUnstartedServer(h)
		r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		r.server.Start()
		t.Cleanup(r.server.Close)
		base = r.server.URL
	}
	config := r.standIn.Config(base)
	r.dest, r.http = s.open(t, config, r.logged)
	r.spec = s.connector.Spec()
	r.size = r.spec.BatchSize(object, configOf(t, r.spec.Config, config))
	r.schema = r.newSchema()
	if c, ok := r.dest.(destination.Containers); ok && len(object.Container) > 0 {
		var err error
		if r.container, err = c.Container(t.Context(), name, r.options()); err != nil {
			t.Fatalf("the container: %v", err)
		}
	}
	t.Cleanup(r.checkLog)
	return r
}

// open opens the connector with defaults filled in, as the engine does.
func (s *suite) open(t *testing.T, given map[string]any, logged *lockedBuffer) (destination.Destination, *httpx.Client) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client := httpx.New(httpx.Options{Log: log, Timeout: requestTimeout, MinWait: time.Millisecond, Retries: 1})
	dest, err := s.connector.Open(t.Context(), configOf(t, s.connector.Spec().Config, given), destination.Env{
		HTTP: client, Log: log, Now: time.Now, Dir: t.TempDir(), Project: "conformance",
	})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(func() {
		if err := dest.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		client.Close()
	})
	return dest, client
}

func configOf(t *testing.T, options []destination.Option, given map[string]any) destination.Config {
	t.Helper()
	cfg := destination.Config{}
	for _, o := range options {
		if v, ok := given[o.Name]; ok {
			cfg[o.Name] = v
		} else if o.Default != "" {
			cfg[o.Name] = typed(t, o)
		}
	}
	return cfg
}

// typed is an option's default as its type says.
func typed(t *testing.T, o destination.Option) any {
	t.Helper()
	var v any = o.Default
	var err error
	switch o.Type {
	case "int":
		v, err = strconv.ParseInt(o.Default, 10, 64)
	case "bool":
		v, err = strconv.ParseBool(o.Default)
	case "duration":
		v, err = time.ParseDuration(o.Default)
	}
	if err != nil {
		t.Errorf("the default of %s is no %s: %v", o.Name, o.Type, err)
	}
	return v
}

func (r *rig) options() destination.Config { return configOf(r.T, r.object.Options, r.sample.Options) }

func (r *rig) newSchema() *destination.Schema {
	s := &destination.Schema{Key: []destination.Column{{Name: r.sample.Key, Path: []string{r.sample.Key}}}}
	if r.sample.Text != "" {
		s.Fields = append(s.Fields, destination.Column{Name: r.sample.Text, Path: []string{r.sample.Text}})
	}
	if r.sample.Number != "" {
		s.Fields = append(s.Fields, destination.Column{Name: r.sample.Number, Path: []string{r.sample.Number}, Kind: warehouse.Int})
	}
	return s
}

// change makes the change of the n-th key. text and the key's number are its fields, where the object has fields.
func (r *rig) change(op destination.Operation, n int, text any) destination.Change {
	c := destination.Change{
		Operation: op, Key: []any{r.sample.KeyOf(n)}, DedupeID: fmt.Sprintf("dedupe-%d-%s", n, op),
	}
	if r.sample.Text != "" {
		c.Fields = append(c.Fields, text)
	}
	if r.sample.Number != "" {
		c.Fields = append(c.Fields, int64(n))
	}
	return c
}

func (r *rig) changes(op destination.Operation, from, to int, text string) []destination.Change {
	var out []destination.Change
	for n := from; n < to; n++ {
		out = append(out, r.change(op, n, fmt.Sprintf("%s %d", text, n)))
	}
	return out
}

// batch makes a batch of a run of its own; members get their record ids.
func (r *rig) batch(changes []destination.Change) *destination.Batch {
	r.Helper()
	r.runs++
	b := &destination.Batch{
		Run: destination.Run{
			ID: fmt.Sprintf("run-%04d", r.runs), Sync: "conformance_sync", Object: r.sample.Object, Mode: r.mode, Started: time.Now(),
		},
		Object: r.sample.Object, Options: r.options(), Container: r.container, Schema: r.schema, Changes: changes, Attempt: 1,
	}
	if r.sample.Seed != nil {
		for i := range changes {
			r.sample.Seed(changes[i].Key[0].(string))
		}
	}
	if resolver, ok := r.dest.(destination.Resolver); ok && r.object.MembersByID {
		ids, err := resolver.Resolve(r.Context(), b)
		if err != nil {
			r.Fatalf("resolving: %v", err)
		}
		for i := range changes {
			changes[i].RemoteID = ids[i]
		}
	}
	return b
}

// write sends a batch once, as it is, and holds the answer against what the stand-in has.
func (r *rig) write(b *destination.Batch) ([]destination.Outcome, *destination.Error) {
	r.Helper()
	return r.writeIn(r.Context(), b)
}

func (r *rig) writeIn(ctx context.Context, b *destination.Batch) ([]destination.Outcome, *destination.Error) {
	r.Helper()
	before := r.standIn.Records(r.sample.Object, r.container)
	outcomes, err := r.dest.Write(ctx, b)
	var failed *destination.Error
	if err != nil && !errors.As(err, &failed) {
		r.Fatalf("Write failed with %v, which is no *destination.Error", err)
	}
	if failed == nil {
		r.finish(b)
	}
	r.verify(b, before, outcomes, failed)
	return outcomes, failed
}

// settled delivers a batch to its end, by the engine, and returns one outcome a change.
func (r *rig) settled(b *destination.Batch) []destination.Outcome {
	r.Helper()
	got := r.run(r.Context(), b.Changes, r.object)
	if got.err != nil {
		r.Fatalf("delivering: %v", got.err)
	}
	return got.outcomes()
}

func (r *rig) finish(b *destination.Batch) {
	r.Helper()
	if f, ok := r.dest.(destination.Finisher); ok {
		if err := f.Finish(r.Context(), b.Run); err != nil {
			r.Fatalf("finishing: %v", err)
		}
	}
}

// verify is I1: no outcome contradicts what is there.
func (r *rig) verify(b *destination.Batch, before standin.Records, outcomes []destination.Outcome, failed *destination.Error) {
	r.Helper()
	if failed != nil {
		if outcomes != nil {
			r.Errorf("outcomes came with an error")
		}
		if failed.Class == destination.Delivered || failed.Class == destination.Accepted || failed.Class == destination.NotFound {
			r.Errorf("a whole batch cannot fail as %s", failed.Class)
		}
		outcomes = make([]destination.Outcome, len(b.Changes))
		for i := range outcomes {
			outcomes[i].Class = failed.Class
		}
	}
	if len(outcomes) != len(b.Changes) {
		r.Fatalf("%d outcomes for %d changes", len(outcomes), len(b.Changes))
	}
	after := r.standIn.Records(r.sample.Object, r.container)
	for i := range outcomes {
		c, o := &b.Changes[i], outcomes[i]
		switch o.Class {
		case destination.Delivered:
			if problem := r.differs(c, after); problem != "" {
				r.Errorf("row %d is called delivered, but %s", i, problem)
			}
		case destination.Unknown:
			r.unknowns[r.keyOf(c)] = true
		default:
			key := r.keyOf(c)
			if !r.unknowns[key] && fmt.Sprint(before[key]) != fmt.Sprint(after[key]) {
				r.Errorf("row %d is called %s, but was applied", i, o.Class)
			}
		}
	}
}

func (r *rig) keyOf(c *destination.Change) string { return fmt.Sprint(c.Key[0]) }

// differs says how what is there differs from what the change asked for.
func (r *rig) differs(c *destination.Change, records standin.Records) string {
	if len(c.Key) != 1 {
		return "" // the case looks itself
	}
	record, there := records[r.keyOf(c)]
	if c.Operation == destination.OpRemove && (c.Remove == "delete" || r.connectorOwns()) {
		if there {
			return "its record is still there"
		}
		return ""
	}
	if !there {
		return "there is no record"
	}
	for i, f := range r.schema.Fields {
		if i >= len(c.Fields) || !c.Sends(i) {
			continue
		}
		want := c.Fields[i]
		if c.Remove == "clear" {
			want = nil
		}
		if got := record[f.Name]; !same(got, want) {
			return fmt.Sprintf("its %s differs (%d characters against %d)", f.Name, len(fmt.Sprint(got)), len(fmt.Sprint(want)))
		}
	}
	return ""
}

// connectorOwns: every act but ignore is a remove there.
func (r *rig) connectorOwns() bool { return r.object.AnyRemove }

// same compares values of whatever types a vendor keeps; its empty text is NULL.
func same(got, want any) bool {
	if want == nil {
		return got == nil || got == ""
	}
	return got != nil && fmt.Sprint(got) == fmt.Sprint(want) || want == "" && got == nil
}

// expect asserts the class of every outcome.
func (r *rig) expect(outcomes []destination.Outcome, failed *destination.Error, want destination.Class) {
	r.Helper()
	if failed != nil {
		r.Fatalf("the batch failed as %s (%v), want %s", failed.Class, failed, want)
	}
	for i, o := range outcomes {
		if o.Class != want {
			r.Fatalf("row %d is %s (%s %s), want %s", i, o.Class, o.Code, o.Message, want)
		}
	}
}

// add delivers rows that later steps of a case need.
func (r *rig) add(from, to int) {
	r.Helper()
	outcomes, failed := r.write(r.batch(r.changes(destination.OpAdd, from, to, "first")))
	r.expect(outcomes, failed, destination.Delivered)
}

// checkLog is I6: neither credentials nor values may be logged.
func (r *rig) checkLog() {
	text := r.logged.String()
	forbidden := []string{"sandbox-token", "@example.com", "first 1", "Bearer"}
	if strings.Contains(r.Name(), "log") {
		forbidden = append(forbidden, "s3cret")
	}
	for _, f := range forbidden {
		if strings.Contains(text, f) {
			r.Errorf("the log holds %q:\n%s", f, text)
		}
	}
}

func contains[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// lockedBuffer takes a log from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
