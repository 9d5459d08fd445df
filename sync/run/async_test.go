package run_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// bulk is an asynchronous vendor: a batch becomes a job, which is applied some runs later, in any order, and tells then.
type bulk struct {
	mu    sync.Mutex
	world *world
	rng   *rand.Rand
	jobs  map[string]*bulkJob
	n     int
	rows  int // handed over
	life  time.Duration
	slow  int // a job lasts up to so many runs
	// unanswered: now and then a batch is taken, or not, without an answer; forgetful: now and then a job is not known any more.
	unanswered, forgetful bool
}

type bulkJob struct {
	due     int // the run by which it is applied
	applied bool
	changes []hookChange
	refused []bool
}

func (b *bulk) Spec() destination.Spec {
	none := time.Duration(0)
	return destination.Spec{
		Type: "bulk", Title: "Bulk", OwnsObjects: true, Settle: &none, Async: &destination.Async{Every: time.Nanosecond, Wait: time.Nanosecond, Life: b.life},
		Objects: []destination.Object{{
			Name: "rows", Modes: []destination.Mode{destination.Upsert, destination.Update, destination.Insert, destination.Mirror},
			Removes: []string{"delete"}, AnyKey: true, OpenFields: true, MaxBatch: 3, Mixed: true,
		}},
	}
}

func (b *bulk) Open(context.Context, destination.Config, destination.Env) (destination.Destination, error) {
	return b, nil
}

func (b *bulk) Check(context.Context) (destination.Account, error) {
	return destination.Account{ID: "one"}, nil
}

func (b *bulk) Close() error { return nil }

func (b *bulk) Write(_ context.Context, batch *destination.Batch) ([]destination.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	silent := &destination.Error{Class: destination.Unknown, Code: "timeout", Settles: true}
	taken := true
	answered := !b.world.dead.Load()
	if answered && b.unanswered && b.rng.IntN(8) == 0 {
		answered, taken = false, b.rng.IntN(2) == 0
	}
	if b.world.dead.Load() || !taken {
		return nil, silent
	}
	b.n++
	id := fmt.Sprintf("job-%d", b.n)
	b.rows += len(batch.Changes)
	j := &bulkJob{due: b.world.runNo + b.rng.IntN(b.slow+1)}
	out := make([]destination.Outcome, len(batch.Changes))
	for i, c := range batch.Changes {
		h := hookChange{Operation: string(c.Operation), Key: map[string]any{"id": c.Key[0]}, Fields: map[string]any{}, DedupeID: c.DedupeID}
		for k, f := range batch.Schema.Fields {
			h.Fields[f.Name] = c.Fields[k]
		}
		j.changes = append(j.changes, h)
		j.refused = append(j.refused, b.world.refused[canonical(h.Key)])
		out[i] = destination.Outcome{Class: destination.Accepted, Job: id}
	}
	b.jobs[id] = j
	b.world.log("  %s due in run %d: %s", id, j.due, describe(&hookBody{Changes: j.changes}))
	if !answered {
		return nil, silent
	}
	return out, nil
}

// work applies the jobs that are due, in any order.
func (b *bulk) work(run int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []string
	for id, j := range b.jobs {
		if j.due <= run && !j.applied {
			due = append(due, id)
		}
	}
	slices.Sort(due)
	b.rng.Shuffle(len(due), func(i, k int) { due[i], due[k] = due[k], due[i] })
	b.world.r.mu.Lock()
	defer b.world.r.mu.Unlock()
	for _, id := range due {
		j := b.jobs[id]
		j.applied = true
		b.world.log("  %s is applied", id)
		for i, c := range j.changes {
			if !j.refused[i] {
				b.world.r.apply(c)
			}
		}
		if b.forgetful && b.rng.IntN(6) == 0 {
			b.world.log("  %s is forgotten", id)
			delete(b.jobs, id)
		}
	}
}

func (b *bulk) Poll(_ context.Context, job string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, ok := b.jobs[job]
	if !ok {
		return false, &destination.Error{Class: destination.NotFound, Code: "no_such_job"}
	}
	return j.applied, nil
}

// Results answers in another order than the batch's, so it must be told apart by dedupe id; the rows must come back as they were
// handed over, in their order.
func (b *bulk) Results(_ context.Context, job string, batch *destination.Batch) ([]destination.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.jobs[job]
	if len(batch.Changes) != len(j.changes) {
		return nil, fmt.Errorf("%s: asked for %d rows of %d", job, len(batch.Changes), len(j.changes))
	}
	out := make([]destination.Outcome, len(batch.Changes))
	for i, c := range batch.Changes {
		was := j.changes[i]
		if c.DedupeID != was.DedupeID || string(c.Operation) != was.Operation || fmt.Sprint(c.Key[0]) != fmt.Sprint(was.Key["id"]) {
			return nil, fmt.Errorf("%s: row %d came back as %s %v, was %s %v", job, i, c.Operation, c.Key, was.Operation, was.Key)
		}
		out[i].Class = destination.Delivered
		if j.refused[i] {
			out[i] = destination.Outcome{Class: destination.Rejected, Code: "bad"}
		}
	}
	return out, nil
}

func newBulk(t testing.TB, seed uint64, sync string) (*world, *bulk) {
	v := newWorld(t, seed, sync)
	b := &bulk{world: v, rng: rand.New(rand.NewPCG(seed, 11)), jobs: map[string]*bulkJob{}, slow: 3}
	yaml := v.p.read("dray.yaml")
	from := strings.Index(yaml, "{name: hook, type: webhook")
	to := from + strings.Index(yaml[from:], "}]")
	v.p.write("dray.yaml", yaml[:from]+"{name: hook, type: bulk"+yaml[to:])
	v.p.connectors = map[string]destination.Connector{"bulk": b}
	return v, b
}

// TestAsync is protocol/async_jobs.py on the real engine: jobs longer than the schedule, applied in any order, some forgotten by the
// vendor, batches taken without an answer, processes killed between handing over and asking. Afterwards the destination is the
// model, and the next run has nothing to do.
func TestAsync(t *testing.T) {
	law(t, 40, func(t testing.TB, seed uint64) {
		mode := []string{"mirror, on_remove: delete", "upsert", "mirror, on_remove: delete", "insert"}[seed%4]
		v, b := newBulk(t, seed, "mode: "+mode+", key: {id: id}, retry: {attempts: 1}")
		b.unanswered, b.forgetful = seed%2 == 0, seed%3 == 0
		v.kill = seed%5 < 2
		for range 4 + v.rng.IntN(6) {
			v.mutate()
			b.work(v.runNo + 1)
			_, _ = v.run()
			if v.kill && mode != "insert" && v.rng.IntN(6) == 0 {
				v.loseState()
			}
		}
		b.unanswered, b.forgetful = false, false
		for range 5 { // jobs last up to three runs
			b.work(v.runNo + 1)
			v.calm(1)
		}
		b.work(v.runNo + 9)
		v.calm(2)
		if mode == "insert" || mode == "upsert" {
			store, _, _ := v.r.state()
			for k, val := range v.model {
				got := store[fmt.Sprintf(`{"id":"k%d"}`, k)]
				if got == nil || mode == "upsert" && fmt.Sprint(got["v"]) != fmt.Sprint(val) {
					v.fatalf("%s: the destination holds %v, the model %v", mode, store, v.model)
				}
			}
		} else {
			v.equal()
		}
		v.quiet()
	})
}

// TestAsyncCounts: what a run says of rows that a vendor has.
func TestAsyncCounts(t *testing.T) {
	t.Parallel()
	v, b := newBulk(t, 1, "mode: mirror, key: {id: id}, on_remove: delete")
	b.slow = 0
	v.model = map[int]int{0: 1, 1: 1, 2: 1, 3: 1}
	v.refused[`{"id":"k3"}`] = true
	v.publish()
	first, err := v.run()
	if err != nil || first.ExitCode != 0 || first.Accepted.Add != 4 || first.Delivered.Total() != 0 || first.Jobs == nil || first.Jobs.PendingRows != 4 {
		t.Fatalf("handed over: %v %s", err, canonical(first))
	}
	v.model[0] = 2 // changes while the vendor has it
	v.publish()
	second, err := v.run()
	if err != nil || second.Accepted.Add != 4 || second.Planned.Add != 4 || second.Jobs.PendingRows != 4 || b.rows != 4 {
		t.Fatalf("still pending: %v %s; %d rows handed over", err, canonical(second), b.rows)
	}
	b.work(v.runNo)
	third, err := v.run()
	if err != nil || third.Jobs.Delivered.Add != 3 || third.Jobs.Rejected.Add != 1 || third.Unchanged != 2 || third.Accepted.Update != 1 || third.Deferred.Add != 1 || third.ExitCode != 3 {
		t.Fatalf("ended: %v %s", err, canonical(third))
	}
	if n, err := warehouse.Number(context.Background(), v.w, "SELECT count(*) FROM dray.retry_rows WHERE code = 'bad' AND operation = 'add'"); err != nil || n != 1 {
		t.Fatalf("the table of rejected rows has %d rows, %v", n, err)
	}
}

// TestAsyncExpires: a job older than the vendor remembers it leaves its rows uncertain, and they are sent again.
func TestAsyncExpires(t *testing.T) {
	t.Parallel()
	v, b := newBulk(t, 1, "mode: mirror, key: {id: id}, on_remove: delete")
	b.life, b.slow = 12*time.Hour, 1000
	v.model = map[int]int{0: 1}
	v.publish()
	if _, err := v.run(); err != nil {
		t.Fatal(err)
	}
	v.clock = v.clock.Add(13 * time.Hour)
	b.slow = 0
	rep, err := v.run()
	if err != nil || rep.Jobs.Uncertain.Add != 1 || rep.Accepted.Total() != 1 {
		t.Fatalf("%v %s", err, canonical(rep))
	}
	b.work(v.runNo + 2000)
	b.life = 0
	v.calm(2)
	v.equal()
	v.quiet()
}
