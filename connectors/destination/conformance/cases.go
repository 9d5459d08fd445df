package conformance

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/standin"
)

// checkSpec holds a declaration to what the engine, the checks of a project and the documentation need.
func checkSpec(t *testing.T, s destination.Spec) {
	if s.Type == "" || s.Title == "" || s.Summary == "" || len(s.Objects) == 0 {
		t.Errorf("type, title, summary or objects are missing")
	}
	checkOptions(t, s.Config)
	for _, o := range s.Objects {
		checkOptions(t, o.Options)
		if o.Doc == "" || len(o.Modes) == 0 || len(o.Keys) == 0 && !o.AnyKey {
			t.Errorf("%s: doc, modes or keys are missing", o.Name)
		}
		if contains(o.Modes, destination.Mirror) && len(o.Removes) == 0 {
			t.Errorf("%s: it mirrors but declares no removes", o.Name)
		}
		if o.Withdraw != "" && !contains(o.Removes, o.Withdraw) {
			t.Errorf("%s: the act of withdrawn consent, %q, is not among its removes", o.Name, o.Withdraw)
		}
		if o.DefaultRemove != "" && !contains(o.Removes, o.DefaultRemove) {
			t.Errorf("%s: the default remove %q is not among its removes", o.Name, o.DefaultRemove)
		}
		if o.Membership && len(o.Container) == 0 {
			t.Errorf("%s: a membership must say which options choose its container", o.Name)
		}
		for _, c := range o.Container {
			if !hasOption(o.Options, c) {
				t.Errorf("%s: the container's option %q is not declared", o.Name, c)
			}
		}
		for _, k := range o.Keys {
			if k.Name == "" || k.Doc == "" {
				t.Errorf("%s: a key lacks its name or doc", o.Name)
			}
		}
	}
}

func checkOptions(t *testing.T, options []destination.Option) {
	t.Helper()
	for _, o := range options {
		if o.Doc == "" || !contains([]string{"string", "int", "bool", "duration", "map"}, o.Type) {
			t.Errorf("option %s: doc or type are missing or wrong", o.Name)
		}
		if o.Default != "" {
			typed(t, o)
			if len(o.Enum) > 0 && !contains(o.Enum, o.Default) {
				t.Errorf("option %s: its default is not among its values", o.Name)
			}
		}
		if o.Required && o.Default != "" {
			t.Errorf("option %s: required, and yet a default", o.Name)
		}
	}
}

func hasOption(options []destination.Option, name string) bool {
	for _, o := range options {
		if o.Name == name {
			return true
		}
	}
	return false
}

// checkSizes: an object with a limit of bytes needs a destination that tells how large a request would be.
func (s *suite) checkSizes(t *testing.T) {
	in := s.standIn()
	base := t.TempDir()
	if h := in.Handler(); h != nil {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		base = server.URL
	}
	dest, _ := s.open(t, in.Config(base), &lockedBuffer{})
	spec := s.connector.Spec()
	_, ok := dest.(destination.Sizer)
	for _, o := range spec.Objects {
		if (o.MaxBytes > 0 || hasOption(spec.Config, "max_bytes")) && !ok {
			t.Errorf("%s: a request has at most so many bytes, but the destination does not tell its size", o.Name)
		}
	}
}

// checkAccount: the connection check tells an account, the same each time, and shows no secret.
func (s *suite) checkAccount(t *testing.T) {
	in := s.standIn()
	base := t.TempDir()
	if h := in.Handler(); h != nil {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		base = server.URL
	}
	config := in.Config(base)
	dest, _ := s.open(t, config, &lockedBuffer{})
	first, err := dest.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := dest.Check(t.Context())
	if err != nil || first != second || first.ID == "" {
		t.Errorf("checked twice: %+v, then %+v, %v", first, second, err)
	}
	for _, o := range s.connector.Spec().Config {
		if secret, ok := config[o.Name].(string); ok && o.Secret && strings.Contains(fmt.Sprint(first), secret) {
			t.Errorf("the account shows %s", o.Name)
		}
	}
	if in.Core() == nil || in.Core().Total() == 0 {
		return // the check makes no request
	}
	in.Core().Script(standin.Fault{Times: -1, Status: 401, Body: `{"message":"no"}`})
	if _, err := dest.Check(t.Context()); err == nil || destination.FromHTTP(err).Class != destination.Stop {
		t.Errorf("a revoked token: %v, want a Stop", err)
	}
}

func addsAndUpdates(r *rig) {
	r.add(0, 5)
	if got := len(r.standIn.Records(r.sample.Object, r.container)); got != 5 {
		r.Errorf("%d records, want 5", got)
	}
	if r.sample.Text == "" {
		return
	}
	updates := r.changes(destination.OpUpdate, 1, 3, "second")
	for i := range updates {
		updates[i].Send = []bool{true, false} // the number did not change
	}
	if r.object.Replaces {
		for i := range updates {
			updates[i].Send = nil
		}
	}
	outcomes, failed := r.write(r.batch(updates))
	r.expect(outcomes, failed, destination.Delivered)
	records := r.standIn.Records(r.sample.Object, r.container)
	for n, want := range []string{"first 0", "second 1", "second 2", "first 3"} {
		record := records[r.sample.KeyOf(n)]
		if !same(record[r.sample.Text], want) || !same(record[r.sample.Number], n) {
			r.Errorf("record %d is %v, want %q and %d", n, record, want, n)
		}
	}
	if r.object.TellsCreated {
		tellsCreated(r)
	}
}

// tellsCreated: an add says whether the record was there already.
func tellsCreated(r *rig) {
	outcomes, failed := r.write(r.batch([]destination.Change{r.change(destination.OpAdd, 1, "x"), r.change(destination.OpAdd, 99, "x")}))
	r.expect(outcomes, failed, destination.Delivered)
	if outcomes[0].Origin != destination.Matched || outcomes[1].Origin != destination.Created {
		r.Errorf("origins are %q and %q, want matched and created", outcomes[0].Origin, outcomes[1].Origin)
	}
	for i, o := range outcomes {
		if o.RemoteID == "" {
			r.Errorf("row %d came without a remote id", i)
		}
	}
}

func eachMode(r *rig, mode destination.Mode) {
	r.mode = mode
	if mode != destination.Update || r.connectorOwns() {
		r.add(0, 3)
		return
	}
	r.mode = destination.Upsert
	r.add(0, 2)
	r.mode = destination.Update
	changes := append(r.changes(destination.OpUpdate, 0, 2, "second"), r.change(destination.OpUpdate, 7, "never"))
	outcomes, failed := r.write(r.batch(changes))
	r.expect(outcomes[:2], failed, destination.Delivered)
	r.expect(outcomes[2:], failed, destination.NotFound)
	if _, there := r.standIn.Records(r.sample.Object, r.container)[r.sample.KeyOf(7)]; there {
		r.Errorf("mode update created a record")
	}
}

func eachRemove(r *rig, act string) {
	if act == "ignore" {
		return // nothing is sent
	}
	if contains(r.object.Modes, destination.Mirror) {
		r.mode = destination.Mirror
	}
	r.add(0, 4)
	changes := r.changes(destination.OpRemove, 1, 3, "left")
	for i := range changes {
		changes[i].Remove = act
		switch {
		case act == "delete":
			changes[i].Fields = nil
		case act == "clear":
			for n := range changes[i].Fields {
				changes[i].Fields[n] = nil
			}
		case len(changes[i].Fields) > 0:
			changes[i].Send = make([]bool, len(changes[i].Fields))
			changes[i].Send[0] = true
		}
	}
	b := r.batch(changes)
	outcomes, failed := r.write(b)
	r.expect(outcomes, failed, destination.Delivered)
	want := 4
	if act == "delete" || r.connectorOwns() {
		want = 2
	}
	if got := len(r.standIn.Records(r.sample.Object, r.container)); got != want {
		r.Errorf("%d records are there after two were removed by %s, want %d", got, act, want)
	}
	outcomes, failed = r.write(b)
	if failed != nil {
		r.Fatalf("removing what is removed: %v", failed)
	}
	for i, o := range outcomes {
		if o.Class != destination.Delivered && o.Class != destination.NotFound {
			r.Errorf("removing what is removed: row %d is %s", i, o.Class)
		}
	}
}

func rekeys(r *rig) {
	outcomes, failed := r.write(r.batch(r.changes(destination.OpAdd, 0, 2, "first")))
	r.expect(outcomes, failed, destination.Delivered)
	c := r.change(destination.OpRekey, 50, "moved 50")
	c.OldKey, c.RemoteID, c.Send = []any{r.sample.KeyOf(0)}, outcomes[0].RemoteID, []bool{true, true}
	moved, failed := r.write(r.batch([]destination.Change{c}))
	r.expect(moved, failed, destination.Delivered)
	records := r.standIn.Records(r.sample.Object, r.container)
	if _, old := records[r.sample.KeyOf(0)]; old || len(records) != 2 {
		r.Errorf("after the key moved there are %d records, the old key: %v", len(records), old)
	}
}

// filled: a Reader tells values from nothing, by key and by record id, and nothing of records that do not exist.
func filled(r *rig) {
	reader, ok := r.dest.(destination.Reader)
	if !ok {
		r.Fatal("the spec says that the object can be read, and the destination is no Reader")
	}
	changes := r.changes(destination.OpAdd, 0, 3, "text")
	changes[1].Fields[0] = nil
	outcomes, failed := r.write(r.batch(changes))
	r.expect(outcomes, failed, destination.Delivered)
	changes[2].RemoteID = outcomes[2].RemoteID
	changes = append(changes, r.change(destination.OpAdd, 99, "text"))
	got, err := reader.Filled(r.Context(), r.batch(changes), []int{0})
	if err != nil || len(got) != 4 || !got[0][0] || got[1][0] || !got[2][0] || got[3][0] {
		r.Errorf("filled are %v, want the first and the third; error %v", got, err)
	}
}

func twoColumns(r *rig) {
	r.schema.Key = append(r.schema.Key, destination.Column{Name: "shop", Path: []string{"shop"}})
	c := r.change(destination.OpAdd, 1, "x")
	c.Key = append(c.Key, "north")
	other := r.change(destination.OpAdd, 1, "y")
	other.Key = append(other.Key, "south")
	outcomes, failed := r.write(r.batch([]destination.Change{c, other}))
	r.expect(outcomes, failed, destination.Delivered)
}

func fullBatch(r *rig) {
	n := r.size
	r.add(0, n)
	if got := len(r.standIn.Records(r.sample.Object, r.container)); got != n {
		r.Errorf("%d records, want %d", got, n)
	}
}

func hardValues(r *rig) {
	values := []string{
		"Ærlig Åse Øst", "日本語テキスト", "👩‍👩‍👧‍👦 families", "quote \" and \\ back", "tab\tline\nreturn\r", "<script>&amp;</script>", "{\"json\": true}",
		"comma, semicolon; end", "' or 1=1 --", "  blanks  ", "\u2028 and \u00a0", "0", "null", strings.Repeat("long ", 12_000),
	}
	var changes []destination.Change
	for n, v := range values {
		changes = append(changes, r.change(destination.OpAdd, n, v))
	}
	outcomes, failed := r.write(r.batch(changes))
	r.expect(outcomes, failed, destination.Delivered)
}

func nulls(r *rig) {
	r.add(0, 2)
	if r.sample.Text == "" {
		return
	}
	c := r.change(destination.OpUpdate, 1, nil)
	c.Fields[1] = nil
	outcomes, failed := r.write(r.batch([]destination.Change{c}))
	r.expect(outcomes, failed, destination.Delivered)
}

func repeated(r *rig) {
	if r.mode == destination.Insert {
		return
	}
	b := r.batch(r.changes(destination.OpAdd, 0, 3, "same"))
	for range 2 {
		outcomes, failed := r.write(b)
		r.expect(outcomes, failed, destination.Delivered)
	}
	if got := len(r.standIn.Records(r.sample.Object, r.container)); got != 3 {
		r.Errorf("%d records after the same batch twice, want 3", got)
	}
}

func cancelledBefore(r *rig) {
	b := r.batch(r.changes(destination.OpAdd, 0, 2, "first"))
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	if _, failed := r.writeIn(ctx, b); failed == nil || failed.Class != destination.Retry {
		r.Errorf("cancelled before it was sent: %v, want a Retry", failed)
	}
}

func cancelledUnderWay(r *rig) {
	b := r.batch(r.changes(destination.OpAdd, 0, 2, "first"))
	r.standIn.Core().Script(standin.Fault{Apply: true, Hang: true})
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout/4)
	defer cancel()
	if _, failed := r.writeIn(ctx, b); failed == nil || failed.Class != destination.Unknown || !failed.Settles {
		r.Errorf("cancelled after it was sent: %v, want an Unknown that may be applied later", failed)
	}
}

// nothingLogged: the rig looks into the log at the end of every case; this one has secrets in the values and in the failure.
func nothingLogged(r *rig) {
	if r.server != nil {
		r.standIn.Core().Script(standin.Fault{Skip: 1, Status: 500, Body: "s3cret"})
	}
	for range 3 {
		_, _ = r.write(r.batch([]destination.Change{r.change(destination.OpAdd, 1, "s3cret")}))
	}
	if r.server != nil && !strings.Contains(r.logged.String(), "status=500") {
		r.Errorf("the failed request is not in the log, so this case proves nothing:\n%s", r.logged.String())
	}
}

// closedTwice: the engine closes what it opened, also after a failure; the rig closes once more.
func closedTwice(r *rig) {
	if err := r.dest.Close(); err != nil {
		r.Error(err)
	}
}

// badRow: a row that the vendor refuses does not take the others with it.
func badRow(r *rig) {
	if r.sample.Text == "" {
		return
	}
	r.standIn.Core().Refuse("unwanted")
	changes := r.changes(destination.OpAdd, 0, 9, "fine")
	changes[4].Fields[0] = "unwanted"
	outcomes := r.settled(r.batch(changes))
	for i, o := range outcomes {
		want := destination.Delivered
		if i == 4 {
			want = destination.Rejected
		}
		if o.Class != want || want == destination.Rejected && o.Code == "" {
			r.Errorf("row %d is %s (%s), want %s", i, o.Class, o.Code, want)
		}
	}
}

// batchRefused: where the vendor refuses the whole request for one row, the batch is split until that row is alone.
func batchRefused(r *rig) {
	if r.sample.Text == "" {
		return
	}
	r.standIn.Core().RefuseBatch("unwanted")
	changes := r.changes(destination.OpAdd, 0, 9, "fine")
	changes[6].Fields[0] = "unwanted"
	b := r.batch(changes)
	if _, failed := r.write(b); failed == nil || failed.Class != destination.Split {
		r.Fatalf("the refused batch: %v, want a Split", failed)
	}
	for i, o := range r.settled(b) {
		want := destination.Delivered
		if i == 6 {
			want = destination.Rejected
		}
		if o.Class != want {
			r.Errorf("row %d is %s, want %s", i, o.Class, want)
		}
	}
}

func notMentioned(r *rig) {
	b := r.batch(r.changes(destination.OpAdd, 0, 4, "first"))
	r.standIn.Core().Script(standin.Fault{Omit: true})
	outcomes, failed := r.write(b)
	if failed != nil {
		r.Fatalf("the batch failed: %v", failed)
	}
	unknown := 0
	for _, o := range outcomes {
		if o.Class == destination.Unknown {
			unknown++
		} else if o.Class != destination.Delivered {
			r.Errorf("a row is %s", o.Class)
		}
	}
	if want := 1; unknown != want && !r.sample.Proves {
		r.Errorf("%d rows are unknown, want %d: the answer left one out", unknown, want)
	}
}

func nobodyListens(r *rig) {
	b := r.batch(r.changes(destination.OpAdd, 0, 2, "first"))
	r.server.CloseClientConnections()
	_ = r.server.Listener.Close()
	r.http.Close() // the pool
	if _, failed := r.write(b); failed == nil || failed.Class != destination.Retry {
		r.Errorf("nobody listens: %v, want a Retry", failed)
	}
}

func atOnce(r *rig) {
	var batches []*destination.Batch
	for i := range 4 {
		batches = append(batches, r.batch(r.changes(destination.OpAdd, i*10, i*10+10, "first")))
	}
	var wait sync.WaitGroup
	for _, b := range batches {
		wait.Go(func() {
			outcomes, err := r.dest.Write(r.Context(), b)
			if err != nil {
				r.Errorf("one of several: %v", err)
			}
			for i, o := range outcomes {
				if o.Class != destination.Delivered {
					r.Errorf("one of several: row %d is %s", i, o.Class)
				}
			}
		})
	}
	wait.Wait()
	if got := len(r.standIn.Records(r.sample.Object, r.container)); got != 40 {
		r.Errorf("%d records, want 40", got)
	}
}

// resolving: a container is found again, a record that exists is resolved and one that does not is not.
func resolving(r *rig) {
	if c, ok := r.dest.(destination.Containers); ok && len(r.object.Container) > 0 {
		again, err := c.Container(r.Context(), r.sample.Object, r.options())
		if err != nil || again != r.container || again == "" {
			r.Errorf("the container is %q, then %q, %v", r.container, again, err)
		}
	}
	resolver, ok := r.dest.(destination.Resolver)
	if !ok {
		return
	}
	r.add(0, 2)
	b := r.batch(r.changes(destination.OpAdd, 0, 2, "first"))
	b.Changes = append(b.Changes, r.change(destination.OpAdd, 900, "nobody"))
	for i := range b.Changes {
		b.Changes[i].RemoteID = ""
	}
	ids, err := resolver.Resolve(r.Context(), b)
	if err != nil || len(ids) != 3 || ids[0] == "" || ids[1] == "" || ids[0] == ids[1] || ids[2] != "" {
		r.Errorf("resolved to %q, %v", ids, err)
	}
}

// fault is a way in which a request can fail, and what it means for the batch.
type fault struct {
	name    string
	fault   standin.Fault
	class   destination.Class
	after   time.Duration // Retry-After
	settles bool
	// orOutcomes: instead of failing, the batch may have outcomes that are true.
	orOutcomes bool
}

func faults() []fault {
	status := func(code int, apply bool, headers map[string]string) standin.Fault {
		return standin.Fault{Status: code, Apply: apply, Headers: headers, Body: `{"message":"no"}`}
	}
	return []fault{
		{name: "429", fault: status(429, false, nil), class: destination.Retry},
		{name: "429 with Retry-After", fault: status(429, false, map[string]string{"Retry-After": "2"}), class: destination.Retry, after: 2 * time.Second},
		{name: "503 with Retry-After", fault: status(503, false, map[string]string{"Retry-After": "1"}), class: destination.Retry, after: time.Second},
		{name: "500 before applying", fault: status(500, false, nil), class: destination.Unknown},
		{name: "500 after applying", fault: status(500, true, nil), class: destination.Unknown},
		{name: "503 after applying", fault: status(503, true, nil), class: destination.Unknown},
		{name: "502 after applying", fault: status(502, true, nil), class: destination.Unknown, settles: true},
		{name: "504", fault: status(504, false, nil), class: destination.Unknown, settles: true},
		{name: "408", fault: status(408, false, nil), class: destination.Unknown, settles: true},
		{name: "401", fault: status(401, false, nil), class: destination.Stop},
		{name: "403", fault: status(403, false, nil), class: destination.Stop},
		{name: "400", fault: status(400, false, nil), class: destination.Split},
		{name: "a redirect", fault: status(307, false, map[string]string{"Location": "http://elsewhere.test/"}), class: destination.Stop},
		{name: "no answer before applying", fault: standin.Fault{Hang: true}, class: destination.Unknown, settles: true},
		{name: "no answer after applying", fault: standin.Fault{Hang: true, Apply: true}, class: destination.Unknown, settles: true},
		{name: "connection dropped before applying", fault: standin.Fault{Drop: true}, class: destination.Unknown, settles: true},
		{name: "connection dropped after applying", fault: standin.Fault{Drop: true, Apply: true}, class: destination.Unknown, settles: true},
		{name: "an answer cut off", fault: standin.Fault{Cut: true}, class: destination.Unknown, settles: true},
		{
			name: "an answer that is no JSON", orOutcomes: true, class: destination.Unknown,
			fault: standin.Fault{Apply: true, Status: 200, Headers: map[string]string{"Content-Type": "text/html"}, Body: "<html>thanks</html>"},
		},
		{
			name: "an answer of broken JSON", orOutcomes: true, class: destination.Unknown,
			fault: standin.Fault{Apply: true, Status: 200, Headers: map[string]string{"Content-Type": "application/json"}, Body: `{"results":[{"sta`},
		},
	}
}

// befallen: one request fails, once; the connector says so after one attempt, and the same batch is delivered afterwards.
func befallen(r *rig, f fault) {
	b := r.batch(r.changes(destination.OpAdd, 0, 3, "first"))
	requests := r.standIn.Core().Total()
	r.standIn.Core().Script(f.fault)
	outcomes, failed := r.write(b)
	switch {
	case failed == nil && !f.orOutcomes:
		r.Fatalf("the batch has outcomes, %+v; want %s", outcomes, f.class)
	case failed == nil:
		for i, o := range outcomes {
			if o.Class != destination.Unknown && o.Class != destination.Delivered {
				r.Errorf("row %d is %s (%s)", i, o.Class, o.Code)
			}
		}
	case failed.Class != f.class || failed.Settles != f.settles || f.after > 0 && failed.RetryAfter != f.after:
		r.Errorf("got %s (%v), settles %v, after %v; want %s, %v, %v", failed.Class, failed, failed.Settles, failed.RetryAfter, f.class, f.settles, f.after)
	case failed.Code == "":
		r.Errorf("the failure has no code")
	}
	time.Sleep(time.Millisecond) // a request without an answer is recorded when its handler ends
	if sent := r.standIn.Core().Total() - requests; sent > 1 && failed != nil {
		r.Errorf("%d requests for one attempt: retrying is the engine's", sent)
	}
	if b.Attempt = 2; r.mode != destination.Insert {
		outcomes, failed = r.write(b)
		r.expect(outcomes, failed, destination.Delivered)
	}
}
