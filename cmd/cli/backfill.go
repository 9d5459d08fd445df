package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

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
is remembered, except --where and --keys, which may hold customers' values: say them again.`,
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

// backfill remembers what it is asked for, so that --resume can go on with it, and sends.
func (a *app) backfill(ctx context.Context, s *run.Session, sync string, b run.Backfill, o run.RunOptions) error {
	memory, err := pastBackfills(s.Project.Dir)
	if err != nil {
		return err
	}
	if b.Resume != "" {
		if b, err = memory.resumed(ctx, s, sync, b); err != nil {
			return err
		}
	}
	remember := func(change error) {
		if change != nil {
			a.log.Warn("--resume will not know of this", "error", change)
		}
	}
	if !b.DryRun {
		remember(memory.add(sync, b, a.now()))
	}
	a.sayRateLimit(s, sync)
	rep, err := s.Backfill(ctx, sync, b, o)
	a.progress.stop()
	if rep.RunID == "" && !b.DryRun { // it did not come to a run
		remember(memory.drop())
	}
	if rep.Sync == "" {
		return err
	}
	return a.showRuns(ctx, s.Graph, chosen{one: true, backfill: true}, []report.Run{rep}, err)
}

// backfills remembers what backfills were started with. A run's id is not known before it runs, and a killed one cannot write it
// down: a run belongs to the last backfill of its sync that was started before it. Losing the file costs --resume.
type backfills struct {
	path string
	List []backfillChoice `json:"backfills"`
}

// backfillChoice is what --resume needs to know. The text of --where and the file of --keys are not kept (I6): only a hash, so
// that others are not taken for them.
type backfillChoice struct {
	Sync    string    `json:"sync"`
	Started time.Time `json:"started_at"`
	Full    bool      `json:"full,omitempty"`
	Fields  []string  `json:"fields,omitempty"`
	Since   string    `json:"since,omitempty"`
	Limit   int64     `json:"limit,omitempty"`
	Resend  bool      `json:"resend,omitempty"`
	Named   string    `json:"named,omitempty"` // hash of --where and --keys; "" = neither
}

// keptBackfills bounds the file.
const keptBackfills = 200

func pastBackfills(projectDir string) (*backfills, error) {
	m := &backfills{path: filepath.Join(projectDir, ".dray", "backfills.json")}
	text, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, m) != nil {
		m.List = nil // half a file is no file
	}
	return m, nil
}

func named(b run.Backfill) string {
	if b.Where == "" && b.Keys == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(b.Where + "\x00" + b.Keys))
	return hex.EncodeToString(sum[:8])
}

func (m *backfills) add(sync string, b run.Backfill, now time.Time) error {
	m.List = append(m.List, backfillChoice{sync, now.UTC(), b.Full, b.Fields, b.Since, b.Limit, b.Resend, named(b)})
	if n := len(m.List); n > keptBackfills {
		m.List = m.List[n-keptBackfills:]
	}
	return m.write()
}

// drop takes back the last add.
func (m *backfills) drop() error {
	m.List = m.List[:len(m.List)-1]
	return m.write()
}

func (m *backfills) write() error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(m.path, text, 0o600)
}

// resumed is the backfill of a run again, to be sent without what that run delivered.
func (m *backfills) resumed(ctx context.Context, s *run.Session, sync string, b run.Backfill) (run.Backfill, error) {
	if _, err := s.Syncs([]string{sync}); err != nil {
		return b, err
	}
	past, err := s.Runs(ctx, sync, maxResumable)
	if err != nil {
		return b, err
	}
	at := -1
	for i, r := range past {
		if r.RunID == b.Resume {
			at = i
		}
	}
	if at < 0 {
		return b, diag.Errorf(diag.Invalid, "backfill.unknown_run", "%s has no run %s", sync, b.Resume).WithHint("dray runs %s lists them", sync)
	}
	var choice *backfillChoice
	for i, c := range m.List { // oldest first
		if c.Sync != sync || c.Started.After(past[at].StartedAt) {
			continue
		}
		choice = &m.List[i]
	}
	if choice == nil || at+1 < len(past) && choice.Started.Before(past[at+1].StartedAt) {
		return b, diag.Errorf(diag.Invalid, "backfill.no_backfill", "run %s of %s was no backfill", b.Resume, sync).
			WithHint("dray run %s takes up an ordinary run; start a backfill with --full, --where, --keys, --since, --fields or --limit", sync)
	}
	if named(b) != choice.Named {
		return b, diag.Errorf(diag.Invalid, "backfill.resume", "run %s was started with another --where or --keys", b.Resume).
			WithHint("repeat those it was started with: they may hold customers' values, so they are not kept")
	}
	b.Full, b.Fields, b.Since, b.Limit, b.Resend = choice.Full, choice.Fields, choice.Since, choice.Limit, choice.Resend
	if b.Limit > 0 {
		b.Limit -= past[at].Delivered.Total()
		if b.Limit <= 0 {
			return b, diag.Errorf(diag.Invalid, "backfill.resume", "nothing is left of run %s: it delivered the %d rows of its --limit", b.Resume, choice.Limit)
		}
	}
	return b, nil
}

// maxResumable is how many runs back --resume looks.
const maxResumable = 10_000

// checkBackfill wants the user to say which rows.
func checkBackfill(b run.Backfill) error {
	narrows := b.Since != "" || len(b.Fields) > 0 || b.Limit > 0
	chooses := narrows || b.Where != "" || b.Keys != ""
	switch {
	case b.Limit < 0:
		return diag.Errorf(diag.Invalid, "backfill.limit", "--limit must not be negative")
	case b.Resume != "" && (b.Full || narrows):
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
