// Package report is what a plan and a run say about themselves: one type for text, JSON and history, with the two sums of I7.
package report

import (
	"fmt"
	"maps"
	"time"
)

// Counts are rows by operation (DESIGN §9: OUT). A rekey counts as update.
type Counts struct {
	Add    int64 `json:"add"`
	Update int64 `json:"update"`
	Remove int64 `json:"remove"`
}

// Total is the sum of the three.
func (c Counts) Total() int64 { return c.Add + c.Update + c.Remove }

// Skipped are rows left out, by reason.
type Skipped struct {
	Counts
	Reasons map[string]int64 `json:"reasons"`
}

// Status is how a run ended.
type Status string

// The statuses; ExitCode maps them.
const (
	Succeeded   Status = "succeeded"
	Partial     Status = "partial"
	Failed      Status = "failed"
	Stopped     Status = "stopped"
	Interrupted Status = "interrupted"
	Locked      Status = "locked"
)

// Enough tells whether a run that ended so is what `after:` asks for: succeeded (also where rows were left), clean, or finished.
func (s Status) Enough(when string) bool {
	switch when {
	case "clean":
		return s == Succeeded
	case "finished":
		return s != Locked
	default:
		return s == Succeeded || s == Partial
	}
}

// Words are how a run that was not enough ended, as the end of a sentence about its sync.
func (s Status) Words() string {
	switch s {
	case Partial:
		return "left rows that were not delivered"
	case Stopped:
		return "was stopped"
	case Interrupted:
		return "was interrupted"
	case Locked:
		return "is locked by another run"
	default:
		return "failed"
	}
}

// Run is one sync's run. It is complete on every path.
type Run struct {
	RunID     string  `json:"run_id"`
	Sync      string  `json:"sync"`
	Status    Status  `json:"status"`
	ExitCode  int     `json:"exit_code"`
	Rows      int64   `json:"rows"`
	Unchanged int64   `json:"unchanged"`
	Planned   Counts  `json:"planned"`
	Delivered Counts  `json:"delivered"`
	Accepted  Counts  `json:"accepted"`
	Rejected  Counts  `json:"rejected"`
	Uncertain Counts  `json:"uncertain"`
	Parked    Counts  `json:"parked"`
	Held      Counts  `json:"held"`
	Skipped   Skipped `json:"skipped"`
	Deferred  Counts  `json:"deferred"`
	HeldOut   int64   `json:"held_out"`
	Forgotten int64   `json:"forgotten"`
	Refreshed int64   `json:"refreshed"`
	Requests  int64   `json:"requests"`
	Retries   int64   `json:"retries"`

	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`

	PlanSeconds     float64 `json:"plan_seconds,omitempty"`     // to compute what changed
	DeliverySeconds float64 `json:"delivery_seconds,omitempty"` // to send and commit it

	// Refused are rejected rows that were not sent, by reason: null_key, duplicate_key. They are part of Rejected.
	Refused map[string]int64 `json:"refused,omitempty"`

	// Jobs is what an asynchronous vendor told in this run; nil where there was no job.
	Jobs *Jobs `json:"jobs,omitempty"`

	// ChangedTypes are columns of another type than when the snapshot was written; it was carried over to these.
	ChangedTypes []ChangedType `json:"changed_types,omitempty"`

	// Keys is how many of the keys of a file a backfill found; nil where it had none.
	Keys *Keys `json:"keys,omitempty"`

	// Error is why the run did not finish or was stopped; Reasons are the guard's or the binding's words.
	Error   *Problem `json:"error,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
	Allow   string   `json:"allow,omitempty"` // the --allow value that would let it through
	DryRun  bool     `json:"dry_run,omitempty"`

	// HookErrors are hooks after the run that failed; they change nothing of it.
	HookErrors []string `json:"hook_errors,omitempty"`
}

// ChangedType is a field or key whose column changed its type since the last run.
type ChangedType struct {
	Field string `json:"field"`
	From  string `json:"from"` // the engine's types
	To    string `json:"to"`
	Unfit int64  `json:"unfit"` // acknowledged values that do not fit the new type: rows that are sent again
}

// Keys are those of the file of `backfill --keys`: how many different ones it has, and how many of them are in the model.
type Keys struct {
	Given int64 `json:"given"`
	Found int64 `json:"found"`
}

// Jobs are batches that an asynchronous vendor took. The rows of jobs that this run handed over are in the run's own counts; those of
// earlier runs are counted here, and whatever is still to do about them is in this run's plan.
type Jobs struct {
	Ended       int64  `json:"ended"`
	Pending     int64  `json:"pending"`
	PendingRows int64  `json:"pending_rows"`
	Delivered   Counts `json:"delivered"`
	Rejected    Counts `json:"rejected"`
	Uncertain   Counts `json:"uncertain"`
}

// Problem is an error as JSON shows it (DESIGN §9).
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	At      string `json:"at,omitempty"`
}

// Plan is what a run would do.
type Plan struct {
	Sync          string           `json:"sync"`
	Rows          int64            `json:"rows"`
	Add           int64            `json:"add"`
	Update        int64            `json:"update"`
	Remove        int64            `json:"remove"`
	Unchanged     int64            `json:"unchanged"`
	Forgotten     int64            `json:"forgotten"`
	Parked        int64            `json:"parked"`
	Held          int64            `json:"held"`
	Skipped       int64            `json:"skipped,omitempty"`
	Rejected      int64            `json:"rejected,omitempty"`
	Deferred      int64            `json:"deferred,omitempty"`
	Pending       int64            `json:"pending,omitempty"`   // with an asynchronous vendor: left out
	Uncertain     int64            `json:"uncertain,omitempty"` // of add, update and remove: sent before and never answered
	HeldOut       int64            `json:"held_out,omitempty"`  // the control group
	Refreshed     int64            `json:"refreshed,omitempty"` // of update: sent again for their age alone
	Consent       *Consent         `json:"consent,omitempty"`   // what Dray asks of each row by itself; nil = nothing
	Guard         Guard            `json:"guard"`
	ChangedFields map[string]int64 `json:"changed_fields"`
	ChangedTypes  []ChangedType    `json:"changed_types,omitempty"`
	Estimate      Estimate         `json:"estimate"`
	Samples       []Sample         `json:"samples"`
	Identity      *Identity        `json:"identity,omitempty"` // nil: it does not deliver profiles, or they could not be built
	Error         *Problem         `json:"error,omitempty"`
}

// Identity is what the build of the profiles that a sync delivers would do to their ids.
type Identity struct {
	Entity   string    `json:"entity"`
	Profiles int64     `json:"profiles"` // afterwards
	Born     int64     `json:"born"`     // of them: with a new id
	Merged   int64     `json:"merged"`   // ids that would end in another profile
	Split    int64     `json:"split"`    // parts that would leave a profile
	Members  Members   `json:"members"`
	Largest  []Profile `json:"largest"`
}

// Members counts rows of the sync, as the destination has them, whose profile would go on under another id, or would be split. A sync
// with `expand` has no such count: its rows are values.
type Members struct {
	Merged int64 `json:"merged"`
	Split  int64 `json:"split"`
}

// Profile is one of the largest.
type Profile struct {
	ProfileID string `json:"profile_id"`
	Values    int64  `json:"values"`
}

// Consent is the condition that a destination's purpose adds to a sync.
type Consent struct {
	Purpose   string `json:"purpose"`
	Condition string `json:"condition"`
	Act       string `json:"act"`       // how a row is taken back
	Withdrawn int64  `json:"withdrawn"` // of remove: rows that are taken back
}

// HasChanges tells whether a run would send or forget anything.
func (p Plan) HasChanges() bool { return p.Add+p.Update+p.Remove+p.Forgotten > 0 }

// Guard is what the guards say of a plan.
type Guard struct {
	Status      string   `json:"status"` // ok, held, stopped
	Reasons     []string `json:"reasons"`
	Fingerprint string   `json:"fingerprint"` // for --allow; "" when ok
	Allow       string   `json:"allow,omitempty"`
}

// Estimate is what a run would cost; every number is an estimate.
type Estimate struct {
	Requests     int64   `json:"requests"`
	Minutes      float64 `json:"minutes"`
	BytesScanned int64   `json:"bytes_scanned"`
	QuotaShare   float64 `json:"quota_share"`
}

// Sample is one change. Key is the destination key's hash, and Fields have no values, unless values were asked for (I6).
type Sample struct {
	Operation string        `json:"operation"`
	Key       string        `json:"key"`
	Fields    []SampleField `json:"fields,omitempty"`
}

// SampleField is one changed field of a sample.
type SampleField struct {
	Name string `json:"name"`
	Old  any    `json:"old,omitempty"`
	New  any    `json:"new,omitempty"`
}

// Continue is the report of a run in parts: r is the last one, and what former says was not tried was planned by it again.
func (r Run) Continue(former Run) Run {
	add := func(to *Counts, more Counts) {
		to.Add, to.Update, to.Remove = to.Add+more.Add, to.Update+more.Update, to.Remove+more.Remove
	}
	add(&r.Planned, former.Planned)
	add(&r.Planned, Counts{-former.Deferred.Add, -former.Deferred.Update, -former.Deferred.Remove})
	add(&r.Delivered, former.Delivered)
	add(&r.Accepted, former.Accepted)
	add(&r.Rejected, former.Rejected)
	add(&r.Uncertain, former.Uncertain)
	add(&r.Parked, former.Parked)
	add(&r.Held, former.Held)
	add(&r.Skipped.Counts, former.Skipped.Counts)
	reasons := maps.Clone(r.Skipped.Reasons)
	for reason, n := range former.Skipped.Reasons {
		if reasons == nil {
			reasons = map[string]int64{}
		}
		reasons[reason] += n
	}
	r.Skipped.Reasons = reasons
	r.Rows += former.Rows - former.Deferred.Add - former.Deferred.Update
	r.Unchanged, r.HeldOut = r.Unchanged+former.Unchanged, r.HeldOut+former.HeldOut
	r.Forgotten, r.Refreshed = r.Forgotten+former.Forgotten, r.Refreshed+former.Refreshed
	r.Requests, r.Retries = r.Requests+former.Requests, r.Retries+former.Retries
	r.StartedAt = former.StartedAt
	if r.Status == Succeeded && r.Rejected.Total()+r.Uncertain.Total() > 0 {
		r.Status, r.ExitCode = Partial, 3
	}
	return r
}

// Check asserts the two sums of I7; a run for which they do not hold fails.
func (r Run) Check() error {
	addsUpdates := func(c Counts) int64 { return c.Add + c.Update }
	got := r.Unchanged + addsUpdates(r.Delivered) + addsUpdates(r.Accepted) + addsUpdates(r.Rejected) + addsUpdates(r.Uncertain) +
		addsUpdates(r.Parked) + addsUpdates(r.Held) + addsUpdates(r.Skipped.Counts) + addsUpdates(r.Deferred) + r.HeldOut
	if got != r.Rows {
		return fmt.Errorf("the counts of %s do not add up: %d rows, %d accounted for", r.Sync, r.Rows, got)
	}
	got = r.Delivered.Remove + r.Accepted.Remove + r.Rejected.Remove + r.Uncertain.Remove + r.Parked.Remove + r.Held.Remove +
		r.Skipped.Remove + r.Deferred.Remove
	if got != r.Planned.Remove {
		return fmt.Errorf("the removes of %s do not add up: %d planned, %d accounted for", r.Sync, r.Planned.Remove, got)
	}
	return nil
}
