package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
)

// The defaults of destination.Async.
const (
	jobEvery  = 2 * time.Second
	jobWait   = 2 * time.Minute
	jobLife   = 7 * 24 * time.Hour
	jobSlower = 16 // times Every is the longest wait between two looks
)

func asyncOf(s destination.Spec) destination.Async {
	var a destination.Async
	if s.Async != nil {
		a = *s.Async
	}
	if a.Every <= 0 {
		a.Every = jobEvery
	}
	if a.Wait <= 0 {
		a.Wait = jobWait
	}
	if a.Life <= 0 {
		a.Life = jobLife
	}
	return a
}

// poll asks once for every job that earlier runs handed over, before anything is planned (DESIGN §6.2): their rows are in the
// snapshot then, or come again by themselves.
func (r *one) poll(ctx context.Context) error {
	if r.sync.Spec.Async == nil {
		return nil
	}
	_, err := r.settleJobs(ctx, nil)
	return err
}

// await waits a while for the jobs that this run handed over. What does not end by then stays pending for a later run.
func (r *one) await(ctx context.Context, counts *counted) error {
	a := asyncOf(r.sync.Spec)
	until := r.deps.now().Add(a.Wait)
	settling := context.WithoutCancel(ctx) // what the vendor tells is written whatever ends the run (I1)
	if r.deps.Progress != nil {
		r.deps.Progress.Start("waiting for "+r.sync.Destination.Name, 0, nil)
		defer r.deps.Progress.Done()
	}
	for wait := a.Every; ; wait = min(2*wait, jobSlower*a.Every) {
		pending, err := r.settleJobs(settling, counts)
		if err != nil || pending == 0 || !r.deps.now().Add(wait).Before(until) || !r.sleep(ctx, wait) {
			return err
		}
	}
}

func (r *one) sleep(ctx context.Context, wait time.Duration) bool {
	after := r.deps.After
	if after == nil {
		after = time.After
	}
	select {
	case <-after(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// settleJobs asks for each pending job of the sync and commits those that ended. counts are those of the run that handed rows over,
// in which accepted ones become what they are; nil = they belong to earlier runs. It returns how many jobs are still pending.
func (r *one) settleJobs(ctx context.Context, counts *counted) (pending int, err error) {
	d, t := r.Warehouse.Dialect(), r.ledger.Names.Pending(r.sync.Name)
	have, err := plan.PendingColumns(ctx, r.Warehouse, d, t)
	if err != nil {
		return 0, fmt.Errorf("reading the pending rows of %s: %w", r.sync.Name, err)
	}
	jobs, err := plan.Jobs(ctx, r.Warehouse, d, t, have)
	if err != nil {
		return 0, fmt.Errorf("reading the pending rows of %s: %w", r.sync.Name, err)
	}
	if len(jobs) == 0 {
		return 0, nil
	}
	asker := deliver.NewJobs(r.deliveryBase())
	if asker == nil {
		return len(jobs), nil
	}
	defer func() {
		r.stats.Requests += asker.Stats().Requests
	}()
	if r.report.Jobs == nil {
		r.report.Jobs = &report.Jobs{}
	}
	told := r.report.Jobs
	told.Pending, told.PendingRows = 0, 0
	var problem error // one job's trouble leaves the others to be asked for
	for _, j := range jobs {
		rows, err := r.ended(ctx, asker, j, have)
		if err != nil && problem == nil {
			problem = err
		}
		if rows == nil {
			pending++
			told.Pending++
			told.PendingRows += j.Rows
			continue
		}
		if err := r.committerOf(r.meta, r.holder.RunID, r.sync.Mode, nil, 0).Ended(ctx, j.ID, have, rows); err != nil {
			return pending, err
		}
		told.Ended++
		r.tell(told, counts, rows)
	}
	if problem != nil { // the rows stay pending, which is no failure of this run's own
		r.log.Warn("a job could not be asked for", "sync", r.sync.Name, "error", problem)
	}
	return pending, nil
}

// ended is what became of a job's rows; nil while it is under way, or where nobody can tell now.
func (r *one) ended(ctx context.Context, asker *deliver.Jobs, j plan.Job, have []string) ([]deliver.Row, error) {
	if r.deps.now().Sub(j.Since) > asyncOf(r.sync.Spec).Life {
		return r.lostJob(ctx, asker, j, have, "job_expired")
	}
	ended, unknown, err := asker.Ended(ctx, j.ID)
	switch {
	case unknown:
		return r.lostJob(ctx, asker, j, have, "job_unknown")
	case err != nil || !ended:
		return nil, err
	}
	page, schema, err := r.jobPage(ctx, j, have)
	if err != nil {
		return nil, err
	}
	rows, err := asker.Results(ctx, j.ID, page, schema, j.Since)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (r *one) lostJob(ctx context.Context, asker *deliver.Jobs, j plan.Job, have []string, code string) ([]deliver.Row, error) {
	page, _, err := r.jobPage(ctx, j, have)
	if err != nil {
		return nil, err
	}
	return asker.Lost(page, code, j.Since), nil
}

// jobPage reads a job's rows; the table has the columns of the last run, and what the sync maps now is not asked.
func (r *one) jobPage(ctx context.Context, j plan.Job, have []string) (*plan.Page, *destination.Schema, error) {
	keys, fields := jobColumns(r.Warehouse.Dialect(), r.meta.Standing, have)
	page, schema, err := plan.JobPage(ctx, r.Warehouse, r.Warehouse.Dialect(), r.ledger.Names.Pending(r.sync.Name), keys, fields, j.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the pending rows of %s: %w", r.sync.Name, err)
	}
	page.Identify(r.dedupeID)
	return page, schema, nil
}

// tell counts a job's rows: in the run that handed them over they stop being accepted.
func (r *one) tell(told *report.Jobs, counts *counted, rows []deliver.Row) {
	for _, row := range rows {
		if counts != nil {
			counts.add(deliver.Submitted, row.Operation, -1)
			counts.add(row.Class, row.Operation, 1)
			continue
		}
		switch row.Class {
		case deliver.Delivered, deliver.Accepted:
			put(&told.Delivered, row.Operation, 1)
		case deliver.Uncertain:
			put(&told.Uncertain, row.Operation, 1)
		default:
			put(&told.Rejected, row.Operation, 1)
		}
	}
}

// jobColumns are the identity and the fields that a sync's pending rows have.
func jobColumns(d warehouse.Dialect, st ledger.Standing, have []string) (keys, fields []plan.Column) {
	keys = st.Keys
	if len(keys) == 0 {
		keys = []plan.Column{st.DestKey}
	}
	for _, f := range st.Fields {
		if f.Gone == "" && slices.Contains(have, d.Kept(f.Column)) {
			fields = append(fields, f)
		}
	}
	return keys, fields
}
