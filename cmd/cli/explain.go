package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain SYNC KEY",
		Short: "Say why one row is, or is not, at its destination",
		Long: `Follows one row, named by its primary key or its destination key, from the source to the destination: its values now and as
acknowledged, the segment it is judged by, the profile behind it, and what became of it in the last runs. What is asked
for is shown: this command prints customers' values.`,
		Example:           "  dray explain vips_to_crm anna.holm@example.com",
		GroupID:           groupLook,
		ValidArgsFunction: a.completeNames(graph.Sync),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return diag.Errorf(diag.Invalid, "cli.arguments", "dray explain takes a sync and a key").WithHint("usage: dray explain SYNC KEY")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				e, err := s.Explain(cmd.Context(), args[0], args[1])
				a.progress.stop()
				if err != nil {
					return err
				}
				a.show(e, func(out screen) { drawExplanation(out, e, about(s.Graph)(e.Sync)) })
				return nil
			})
		},
	}
	a.projectFlags(cmd)
	return cmd
}

func drawExplanation(s screen, e run.Explanation, about string) {
	drawHeader(s, e.Sync, about, "")
	s.line("  %s", s.bold(e.Verdict))
	s.line("")
	facts := [][]string{
		{"destination key", e.DestKey},
		{"primary key", e.PrimaryKey},
		{"in the sync now", yesNo(e.InSync)},
		{"acknowledged", acknowledged(e)},
		{"the next run", next(e)},
	}
	if r := e.Retry; r != nil {
		facts = append(facts, []string{"refused", refusal(r)})
	}
	if c := e.Condition; c != nil {
		facts = append(facts, []string{"segment " + c.Name, membership(c)})
	}
	s.table([]column{left(""), left("")}, facts)
	drawExplainedFields(s, e.Fields)
	drawOutcomes(s, e.Outcomes)
	if e.Profile != nil {
		s.line("")
		drawProfile(s, *e.Profile)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// acknowledged says whether and when the destination confirmed the row, and what it calls it.
func acknowledged(e run.Explanation) string {
	parts := []string{yesNo(e.Acknowledged)}
	if e.AckAt != nil {
		parts = append(parts, "at "+moment(*e.AckAt))
	}
	if e.RemoteID != "" {
		parts = append(parts, "record "+e.RemoteID)
	}
	if e.Origin != "" {
		parts = append(parts, "origin "+e.Origin)
	}
	if e.Uncertain != nil {
		parts = append(parts, "uncertain until "+moment(*e.Uncertain))
	}
	return strings.Join(parts, ", ")
}

// next is what a run would do with the row: "update (held: guard)".
func next(e run.Explanation) string {
	text := e.Planned
	if e.State != "" && e.State != "send" {
		text += fmt.Sprintf(" (%s)", strings.TrimSuffix(e.State+": "+e.Reason, ": "))
	}
	return text
}

// refusal is the last answer to a row that waits or is parked.
func refusal(r *run.ErrorGroup) string {
	text := fmt.Sprintf("%s, %s since %s", strings.TrimSpace(r.Code+" "+r.Message), plural(r.Attempts, "attempt"), moment(r.FirstAt))
	if r.NextAttempt != nil {
		return text + ", next " + moment(*r.NextAttempt)
	}
	return text + ", parked"
}

func membership(c *run.ExplainedSegment) string {
	text := "a member"
	if !c.Member {
		text = "not a member"
	}
	if c.EnteredAt != nil {
		text += " since " + moment(*c.EnteredAt)
	}
	return text + ", by the condition at " + c.At
}

func drawExplainedFields(s screen, fields []run.ExplainedField) {
	if len(fields) == 0 {
		return
	}
	rows := make([][]string, len(fields))
	for i, f := range fields {
		mark := ""
		if f.Changed {
			mark = s.yellow("~")
		}
		rows[i] = []string{f.Name, shown(f.Now), shown(f.Acknowledged), mark}
	}
	s.line("")
	s.table([]column{left("field"), left("now"), left("acknowledged"), left("")}, rows)
}

func drawOutcomes(s screen, outcomes []run.ExplainedOutcome) {
	if len(outcomes) == 0 {
		return
	}
	rows := make([][]string, len(outcomes))
	for i, o := range outcomes {
		answer := strings.TrimSpace(o.Code + " " + o.Message)
		rows[i] = []string{moment(o.At), o.Operation, o.Outcome, count(o.Attempt), answer, o.RunID}
	}
	s.line("")
	s.table([]column{left("at"), left("operation"), left("outcome"), right("tries"), left("answer"), left("run")}, rows)
}
