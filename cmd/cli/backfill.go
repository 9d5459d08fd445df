package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) backfillCommand() *cobra.Command {
	var b run.Backfill
	var o run.RunOptions
	cmd := &cobra.Command{
		Use:   "backfill SYNC",
		Short: "Send rows again, whatever the difference says",
		Long: `Sends rows of a sync again although their destination acknowledged them: all of them, or those that a condition, a file
of keys, a time or a set of fields chooses. Insert mode needs --resend, and keeps the dedupe ids.

--resume RUN goes on with a backfill that was interrupted: the same rows but those that RUN delivered. What it was started with
stands in the warehouse, beside its run; a file of keys is read again.

A scheduled run need not wait for a backfill to end: it gives way between two batches, and goes on afterwards with rows planned anew.`,
		Example: `  dray backfill vips_to_crm --full
  dray backfill vips_to_crm --where "country = 'DK'" --dry-run
  dray backfill vips_to_crm --keys wrong.csv
  dray backfill vips_to_crm --fields ltv,tier
  dray backfill events_to_ads --since 2026-03-01 --resend
  dray backfill vips_to_crm --resume 01890a5d-ac96-774b-bcce-b302099a8057`,
		GroupID:           groupDeliver,
		Args:              syncArgument("backfill SYNC [flags]"),
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkBackfill(b); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(s *run.Session) error {
				b.Keys = a.path(b.Keys)
				return a.backfill(cmd.Context(), s, args[0], b, o)
			})
		},
	}
	a.projectFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&b.Full, "full", false, "every row of the sync")
	f.StringVar(&b.Where, "where", "", "rows for which a condition in `SQL` holds")
	f.StringVar(&b.Keys, "keys", "", "rows whose keys stand in a `FILE`: primary keys, one a line, or a CSV with a header")
	f.StringSliceVar(&b.Fields, "fields", nil, "send only these fields (`a,b`)")
	f.StringVar(&b.Since, "since", "", "rows at or after a `TIME`")
	f.Int64Var(&b.Limit, "limit", 0, "at most `N` rows")
	f.BoolVar(&b.DryRun, "dry-run", false, "count, send nothing")
	f.BoolVar(&b.Resend, "resend", false, "insert mode: send again what was sent, under the same dedupe ids")
	f.StringVar(&b.Resume, "resume", "", "go on with the backfill of a `RUN`")
	f.StringArrayVar(&o.Allow, "allow", nil, "let through what a guard holds: `WHAT=FINGERPRINT`; may be repeated")
	return cmd
}

// backfill sends; what it was asked for stands in the warehouse, so that --resume can go on with it.
func (a *app) backfill(ctx context.Context, s *run.Session, sync string, b run.Backfill, o run.RunOptions) error {
	a.sayRateLimit(s, sync)
	rep, err := s.Backfill(ctx, sync, b, o)
	a.progress.stop()
	if rep.Sync == "" {
		return err
	}
	a.alert(ctx, s, rep)
	return a.showRuns(ctx, s.Graph, chosen{one: true, backfill: true}, []report.Run{rep}, err)
}

// checkBackfill wants the user to say which rows.
func checkBackfill(b run.Backfill) error {
	narrows := b.Since != "" || len(b.Fields) > 0 || b.Limit > 0
	chooses := narrows || b.Where != "" || b.Keys != ""
	switch {
	case b.Limit < 0:
		return diag.Errorf(diag.Invalid, "backfill.limit", "--limit must not be negative")
	case b.Resume != "" && (b.Full || chooses):
		return diag.Errorf(diag.Invalid, "backfill.resume", "--resume goes on with the rows its run had chosen; it takes no other choice")
	case b.Resume == "" && !b.Full && !chooses:
		return diag.Errorf(diag.Invalid, "backfill.rows", "say which rows to send again").
			WithHint("--full, or --where, --keys, --since, --fields, --limit; or --resume RUN")
	}
	return nil
}

// sayRateLimit tells how fast the destination lets a backfill be.
func (a *app) sayRateLimit(s *run.Session, sync string) {
	n := s.Graph.Node(graph.Sync, sync)
	if n == nil {
		return
	}
	d := s.Graph.Node(graph.Destination, n.Sync.Destination)
	if d == nil {
		return
	}
	for _, spec := range destinationSpecs() {
		if spec.Type != d.Destination.Type {
			continue
		}
		limit := rateLimit(spec.Rate)
		if limit == "" {
			limit = "none"
		}
		a.say("rate limit of %s: %s", d.Name, limit)
	}
}
