package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/plan"
)

// jobPage is the page that deliveries name for rows of a job: it belongs to no page of the run's own plan.
const jobPage = -1

// submit moves rows that an asynchronous vendor took into pending_<sync>, with their values and the job's id.
func (c *Committer) submit(x string) string {
	d := c.W.Dialect()
	var names, values []string
	for _, col := range c.data() {
		names = append(names, d.Quote(col.Column))
		values = append(values, "x."+d.Quote(col.Column))
	}
	for _, col := range plan.TailColumns() {
		names = append(names, d.Quote(col))
		values = append(values, "x."+col)
	}
	names = append(names, "since", "uncertain_until", "job", "seq")
	values = append(values, "x.o_sent", "x.until", "x.o_job", "x.o_seq")
	return "INSERT INTO " + c.table(c.Names.Pending(c.Sync)) + " (" + strings.Join(names, ", ") + ") SELECT " + strings.Join(values, ", ") +
		" FROM " + x + " x WHERE class = 'submitted'"
}

// Ended commits the outcomes of a job's rows, all of them, and takes them out of pending_<sync>, in one transaction: they are moved
// into a table of the plan's shape for that. have are the columns of the table of pending rows.
func (c *Committer) Ended(ctx context.Context, job string, have []string, rows []deliver.Row) error {
	e := *c
	e.ended, e.Held, e.Has, e.NoRetries = true, nil, nil, false
	e.Plan = c.Names.Ended(c.Sync)
	if err := e.load(ctx, rows); err != nil {
		return fmt.Errorf("loading outcomes of %s: %w", c.Sync, err)
	}
	d := c.W.Dialect()
	pending, where := c.table(c.Names.Pending(c.Sync)), " WHERE job = "+d.Text(job)
	var cols []string
	for _, col := range c.data() {
		q := d.Quote(col.Column)
		if !slices.Contains(have, d.Kept(col.Column)) {
			q = "CAST(NULL AS " + col.Type + ") AS " + q
		}
		cols = append(cols, q)
	}
	for _, col := range plan.TailColumns() {
		cols = append(cols, d.Quote(col))
	}
	there, err := c.W.Exists(ctx, e.Plan)
	if err != nil {
		return err
	}
	before, statements := d.Swap(e.Plan, there, "SELECT "+strings.Join(cols, ", ")+" FROM "+pending+where)
	for _, s := range before {
		if _, err := c.W.Exec(ctx, s); err != nil {
			return fmt.Errorf("committing a job of %s: %w", c.Sync, err)
		}
	}
	statements = append(statements, "DELETE FROM "+pending+where)
	statements = append(statements, e.statements(Set{Default: deliver.Uncertain, Rows: rows})...)
	statements = append(statements, "DELETE FROM "+c.table(c.Names.Outcomes(c.Sync))+" WHERE true", d.Discard(e.Plan))
	if err := c.W.Atomic(ctx, statements...); err != nil {
		return fmt.Errorf("committing a job of %s: %w", c.Sync, err)
	}
	return nil
}
