package bigquery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	bq "cloud.google.com/go/bigquery"
	"github.com/google/uuid"
	"google.golang.org/api/googleapi"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// tries is how often a statement is run at most whose job failed in a way that left nothing behind and may pass.
const tries = 5

// job says in errors which one failed.
type job struct{ id, location string }

// newID names a job. It is chosen before the first request, so that every repetition of it means the same job.
func newID() string { return "dray_" + uuid.NewString() }

// query is a statement with all that the options say.
func (w *Warehouse) query(ctx context.Context, statement string) *bq.Query {
	q := w.client.Query(statement)
	q.Priority, q.MaxBytesBilled, q.JobTimeout = w.o.priority, w.o.maxBytes, w.o.timeout
	q.Labels = w.labels(ctx)
	if w.o.dataset != "" {
		q.DefaultProjectID, q.DefaultDatasetID = w.o.project, w.o.dataset
	}
	if w.o.execution != w.o.project { // a dataset without a project is one of the project where the data is, not of the one that pays
		q.ConnectionProperties = []*bq.ConnectionProperty{{Key: "dataset_project_id", Value: w.o.project}}
	}
	return q
}

var notInLabels = regexp.MustCompile(`[^a-z0-9_-]+`)

// labels are those of the options and of the context, with Dray's own.
func (w *Warehouse) labels(ctx context.Context) map[string]string {
	out := maps.Clone(w.o.labels)
	if out == nil {
		out = map[string]string{}
	}
	out["dray"] = "true"
	for k, v := range warehouse.Labels(ctx) {
		v = notInLabels.ReplaceAllString(strings.ToLower(v), "_")
		out["dray_"+k] = v[:min(len(v), 63)]
	}
	return out
}

// run runs a statement to its end. What may pass is tried again: in the job's name where it may have been taken, under a new one
// where it failed for certain.
func (w *Warehouse) run(ctx context.Context, statement string) (*bq.Job, error) {
	return w.jobs(ctx, w.patience, func(ctx context.Context, id string) (*bq.Job, error) {
		q := w.query(ctx, statement)
		q.JobID = id
		return q.Run(ctx)
	})
}

// jobs starts a job, which may take as long as limit, and waits for its end.
func (w *Warehouse) jobs(ctx context.Context, limit time.Duration, start func(ctx context.Context, id string) (*bq.Job, error)) (*bq.Job, error) {
	pause := w.pause
	for try := 1; ; try++ {
		id := newID()
		j, err := w.insert(ctx, id, limit, start)
		if err != nil {
			return nil, err
		}
		err = w.wait(ctx, j)
		if err == nil || try == tries || !passing(err) {
			return j, wrap(err, job{id, j.Location()})
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

// passing tells whether a job has failed, so that nothing of it stayed, for a reason that may be gone at the next try. That a failed
// job can be tried again without a thought is what Google says of backendError; the last two are conflicts with another
// transaction, whose loser is rolled back.
func passing(err error) bool {
	var e *bq.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Reason {
	case "backendError", "internalError", "jobBackendError", "jobInternalError", "rateLimitExceeded", "jobRateLimitExceeded", "tableUnavailable":
		return true
	}
	return strings.Contains(e.Message, "due to concurrent update") || strings.Contains(e.Message, "due to concurrent changes")
}

// insert hands a job over. An answer that is lost leaves open whether it was taken: the job is looked up by its id, and handed over
// again, under the same id, only if it is not there. BigQuery refuses an id that it has, so that a statement cannot run twice.
func (w *Warehouse) insert(ctx context.Context, id string, limit time.Duration, start func(ctx context.Context, id string) (*bq.Job, error)) (_ *bq.Job, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil { // it may have been taken
			w.abandon(ctx, id)
			err = ctx.Err()
		}
	}()
	deadline := time.Now().Add(limit)
	for ctx.Err() == nil {
		try, cancel := context.WithDeadline(ctx, deadline)
		j, err := start(try, id)
		cancel()
		switch {
		case err == nil:
			return j, nil
		case !unanswered(err) && !isConflict(err):
			return nil, wrap(err, job{id, w.o.location})
		}
		look, cancel := context.WithTimeout(ctx, w.patience/2)
		j, lost := w.client.JobFromIDLocation(look, id, w.client.Location)
		cancel()
		switch {
		case lost == nil:
			return j, nil
		case isConflict(err) && isNotFound(lost):
			return nil, &warehouse.QueryError{
				Msg: fmt.Sprintf("job %s was started, and cannot be found again", id), Err: warehouse.ErrEngine,
				Hint: "set location of warehouse: in dray.yaml to where the datasets are: without it jobs are looked for in the US and the EU only",
			}
		case time.Now().After(deadline) || !isNotFound(lost) && !unanswered(lost):
			return nil, wrap(err, job{id, w.o.location})
		}
		if err := sleep(ctx, w.pause/10); err != nil {
			return nil, err
		}
	}
	return nil, ctx.Err()
}

// wait is until a job is done; nil if it did what it was to do. A context that ends cancels the job: BigQuery would work on, and
// bill, for nobody.
func (w *Warehouse) wait(ctx context.Context, j *bq.Job) error {
	began := time.Now()
	for status := j.LastStatus(); ; {
		if status != nil && status.Done() {
			return status.Err()
		}
		// The pause is a share of the time that was waited already: short statements are answered at once, and long ones asked
		// for seldom.
		if err := sleep(ctx, min(max(time.Since(began)/8, 50*time.Millisecond), 5*time.Second)); err != nil {
			w.cancel(ctx, j)
			return err
		}
		look, cancel := context.WithTimeout(ctx, w.patience)
		s, err := j.Status(look)
		cancel()
		if ctx.Err() != nil {
			w.cancel(ctx, j)
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		status = s
	}
}

// grace is how long a request may take that is sent after the context ended.
const grace = 10 * time.Second

// cancel asks BigQuery to stop a job; it may be over by then.
func (w *Warehouse) cancel(ctx context.Context, j *bq.Job) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer stop()
	_ = j.Cancel(ctx)
}

// abandon cancels a job of which it is not known whether it was started.
func (w *Warehouse) abandon(ctx context.Context, id string) {
	look, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer stop()
	if j, err := w.client.JobFromIDLocation(look, id, w.client.Location); err == nil {
		_ = j.Cancel(look)
	}
}

// dry asks what a statement would do, without running it. There is no job, so nothing can happen twice.
func (w *Warehouse) dry(ctx context.Context, statement string) (*bq.JobStatus, error) {
	q := w.query(ctx, statement)
	q.DryRun = true
	try, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	j, err := q.Run(try)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, wrap(err, job{location: w.o.location})
	}
	status := j.LastStatus()
	return status, wrap(status.Err(), job{location: j.Location()})
}

// Atomic runs the statements as one script.
func (w *Warehouse) Atomic(ctx context.Context, statements ...string) error {
	text, err := script(statements)
	if err != nil || text == "" {
		return err
	}
	_, err = w.run(ctx, text)
	return err
}

// script is one transaction of statements that change rows. BigQuery's transactions do not take statements that make, alter or drop
// tables that last (see "Multi-statement transactions" in its documentation), so those stand around it: what makes tables before, what
// alters or drops them behind. A script that fails between the two leaves tables that the next try replaces, and no changed row. A
// transaction that is not committed is rolled back by BigQuery when its script ends, however it does.
func script(statements []string) (string, error) {
	var before, rows, after []string
	var changed []string // what the transaction's statements so far have changed
	for i, s := range statements {
		verb := keyword(s)
		switch {
		case !definition(verb):
			rows = append(rows, s)
			changed = append(changed, target(s))
		case len(rows) == 0 || verb == "CREATE":
			for _, t := range changed {
				if t != "" && strings.Contains(s, t) {
					return "", fmt.Errorf("statement %d of a transaction makes a table of what an earlier one changes, which BigQuery cannot do", i+1)
				}
			}
			before = append(before, s)
		default:
			after = append(after, s)
		}
	}
	if len(rows) > 1 {
		rows = slices.Concat([]string{"BEGIN TRANSACTION"}, rows, []string{"COMMIT TRANSACTION"})
	}
	// Each on lines of its own: a statement may end in a comment.
	return strings.Join(slices.Concat(before, rows, after), "\n;\n"), nil
}

func definition(verb string) bool { return verb == "CREATE" || verb == "DROP" || verb == "ALTER" }

var (
	leading = regexp.MustCompile(`^(?:\s+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*(?s:.*?)\*/)+`)
	word    = regexp.MustCompile(`^[A-Za-z]+`)
	changes = regexp.MustCompile("(?i)^(?:INSERT(?:\\s+INTO)?|UPDATE|DELETE(?:\\s+FROM)?|MERGE(?:\\s+INTO)?|TRUNCATE\\s+TABLE)\\s+((?:`(?:[^`\\\\]|\\\\.)*`|[\\w-]+)(?:\\.(?:`(?:[^`\\\\]|\\\\.)*`|[\\w-]+))*)")
)

// keyword is a statement's first word.
func keyword(statement string) string {
	return strings.ToUpper(word.FindString(leading.ReplaceAllString(statement, "")))
}

// target is the table that a statement changes, as it names it.
func target(statement string) string {
	if m := changes.FindStringSubmatch(leading.ReplaceAllString(statement, "")); m != nil {
		return m[1]
	}
	return ""
}

func isConflict(err error) bool { return hasCode(err, http.StatusConflict) }

func isNotFound(err error) bool { return hasCode(err, http.StatusNotFound) }

func hasCode(err error, code int) bool {
	var e *googleapi.Error
	return errors.As(err, &e) && e.Code == code
}

// unanswered tells whether a request may have been carried out although it failed: nothing came back, or what says nothing of it.
func unanswered(err error) bool {
	var e *googleapi.Error
	var known *warehouse.QueryError
	switch {
	case errors.As(err, &known): // it was not sent
		return false
	case errors.As(err, &e):
		return e.Code >= http.StatusInternalServerError
	}
	return !isCredential(err)
}

// sleep waits about that long.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d*3/4 + rand.N(d/2+1)) //nolint:gosec // only spreads requests
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
