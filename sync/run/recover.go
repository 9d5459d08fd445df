package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dray-dev/dray/sync/commit"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/state"
)

// recover closes a plan that a killed run left open (I3, DESIGN §6.2), and takes over what one that lost its lock left behind: what was acknowledged is committed, what was meant to be
// sent and not answered is uncertain. Where the journal is lost, everything that was not committed is uncertain. A sync whose tables
// are older than this Dray is refused.
func (r *one) recover(ctx context.Context) error {
	m, err := r.ledger.Read(ctx, r.sync.Name)
	if err == nil {
		err = m.Current()
	}
	if err != nil {
		return err
	}
	if r.found = &m; m.OpenRun != "" {
		r.found = nil
		if err := r.closeOpen(ctx, m); err != nil {
			return err
		}
	}
	t := r.ledger.Names.Uncertain(r.sync.Name)
	late, err := r.Warehouse.Exists(ctx, t)
	if err != nil || !late {
		return err
	}
	if n, err := r.number(ctx, "SELECT count(*) FROM "+r.table(t)); err != nil || n == 0 { // an engine may only have emptied it
		return err
	}
	return r.committerOf(m, r.holder.RunID, r.sync.Mode, nil, 0).TakeLate(ctx)
}

// closeOpen closes the plan of the run that meta names.
func (r *one) closeOpen(ctx context.Context, m ledger.Meta) error {
	mode, held := parseOpenMode(m.OpenMode)
	highest, err := r.highest(ctx)
	if err != nil {
		return err
	}
	j, err := r.State.Journal(ctx, m.OpenRun)
	if err != nil {
		return err
	}
	done, err := commit.CommittedPages(ctx, r.Warehouse, r.ledger.Names, m.OpenRun)
	if err != nil {
		return fmt.Errorf("reading what run %s committed: %w", m.OpenRun, err)
	}
	c := r.committerOf(m, m.OpenRun, mode, held, highest)
	set := r.unanswered(j, done, c.Pages)
	m.OpenRun, m.OpenMode = "", ""
	m.Revision++
	statements, err := r.ledger.WriteSQL(m, r.deps.now())
	if err != nil {
		return err
	}
	statements = append(append(closing(c), statements...), r.ledger.RecoveredSQL(r.sync.Name, c.RunID, r.deps.now()))
	if err := c.Commit(ctx, set, statements...); err != nil {
		return fmt.Errorf("recovering: %w", err)
	}
	r.log.Info("recovered a run that was killed", "sync", r.sync.Name, "run", c.RunID, "journal", j.Known, "rows", len(set.Rows), "pages", len(set.Pages))
	if err := r.State.Learn(ctx, r.Project.Schema, r.sync.Name, m.Generation, m.Revision); err != nil {
		return err
	}
	return r.State.Committed(ctx, c.RunID, nil, true)
}

// closing are the statements that end a killed run's plan: like a run's own, but rows that left are not forgotten, because
// the guards of that run are not known to have let them go, and the retry entries stay.
func closing(c *commit.Committer) []string {
	ended := *c
	ended.Held = append(slices.Clone(c.Held), plan.Forget)
	return ended.Close(false)
}

// settleGuess is how long the destination's requests may still be applied; it is not connected yet, so the spec decides.
func (r *one) settleGuess() time.Duration {
	return r.settle(r.sync.Destination, &connection{spec: r.sync.Spec})
}

// highest is what the pages of the open plan were cut by.
func (r *one) highest(ctx context.Context) (int64, error) {
	d := r.Warehouse.Dialect()
	n, err := r.number(ctx, "SELECT "+d.Highest()+" FROM "+d.Table(r.ledger.Names.Plan(r.sync.Name)))
	if err != nil {
		return 0, fmt.Errorf("reading the plan left open: %w", err)
	}
	return n, nil
}

// unanswered turns a journal into the set to commit.
func (r *one) unanswered(j state.Journal, done map[int64]bool, pages int64) commit.Set {
	now := r.deps.now()
	set := commit.Set{Default: deliver.Uncertain, Until: now.Add(r.settleGuess())}
	if !j.Known {
		for k := range pages {
			if !done[k] {
				set.Pages = append(set.Pages, k)
			}
		}
		return set
	}
	for _, k := range j.Doubtful {
		if !done[k] {
			set.Pages = append(set.Pages, k)
		}
	}
	for _, b := range j.Batches {
		if done[b.Page] {
			continue
		}
		rows := make([]deliver.Row, len(b.Keys))
		for i, k := range b.Keys {
			rows[i] = deliver.Row{KeyHash: k, Class: deliver.Delivered, Attempt: 1, SentAt: b.SentAt}
			if !b.Answered {
				rows[i].Class, rows[i].Code, rows[i].Until = deliver.Uncertain, "killed", b.SentAt.Add(r.settleGuess())
			}
		}
		for _, x := range b.Exceptions {
			if x.Row < len(rows) {
				rows[x.Row] = deliver.Row{
					KeyHash: b.Keys[x.Row], Class: x.Class, Code: x.Code, Message: x.Message, RemoteID: x.RemoteID, Origin: x.Origin,
					Attempt: x.Attempt, SentAt: b.SentAt, Until: x.Until, Theirs: x.Theirs, Job: x.Job, Seq: x.Seq,
				}
			}
		}
		set.Rows = append(set.Rows, rows...)
	}
	return set
}
