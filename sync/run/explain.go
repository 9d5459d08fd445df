package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/profile"
	"github.com/dray-dev/dray/sync/plan"
)

// Explanation is why a row is, or is not, at a destination.
type Explanation struct {
	Sync       string `json:"sync"`
	PrimaryKey string `json:"primary_key"`
	DestKey    string `json:"dest_key"`
	KeyHash    string `json:"key_hash"`
	// Verdict is the answer in one sentence; the rest is what it rests on.
	Verdict string `json:"verdict"`
	// InSync: the row is one of the sync's rows now; Acknowledged: the destination confirmed it.
	InSync       bool               `json:"in_sync"`
	Acknowledged bool               `json:"acknowledged"`
	Planned      string             `json:"planned"` // what a run would do now: add, update, remove, forget, none
	State        string             `json:"state,omitempty"`
	Reason       string             `json:"reason,omitempty"`
	RemoteID     string             `json:"remote_id,omitempty"`
	Origin       string             `json:"origin,omitempty"`
	AckAt        *time.Time         `json:"acknowledged_at,omitempty"`
	Uncertain    *time.Time         `json:"uncertain_until,omitempty"`
	Fields       []ExplainedField   `json:"fields"`
	Condition    *ExplainedSegment  `json:"segment,omitempty"`
	Profile      *profile.Found     `json:"profile,omitempty"`
	Retry        *ErrorGroup        `json:"retry,omitempty"`
	Where        string             `json:"where,omitempty"` // the place of the condition that leaves the row out
	Outcomes     []ExplainedOutcome `json:"outcomes"`        // newest first; every one within the retention, up to a thousand
}

// ExplainedField is a field's value now and as acknowledged.
type ExplainedField struct {
	Name         string `json:"name"`
	Now          any    `json:"now"`
	Acknowledged any    `json:"acknowledged"`
	Changed      bool   `json:"changed"`
}

// ExplainedSegment is the condition that the row's profile is judged by.
type ExplainedSegment struct {
	Name      string     `json:"name"`
	At        string     `json:"at"` // the place of its condition in the project
	Member    bool       `json:"member"`
	EnteredAt *time.Time `json:"entered_at,omitempty"`
}

// ExplainedOutcome is one delivery of the row.
type ExplainedOutcome struct {
	RunID     string    `json:"run_id"`
	At        time.Time `json:"at"`
	Operation string    `json:"operation"`
	Outcome   string    `json:"outcome"`
	Code      string    `json:"code,omitempty"`
	Message   string    `json:"message,omitempty"`
	Attempt   int64     `json:"attempt"`
}

// Explain builds and plans in scratch and says what becomes of one row, and why. key is its primary or destination key.
func (s *Session) Explain(ctx context.Context, name, key string) (Explanation, error) {
	var out Explanation
	names, err := s.Syncs([]string{name})
	if err != nil {
		return out, err
	}
	err = s.inScratch(ctx, names, func(prog *compile.Program, built build.Result) error {
		if err := blocked(built, s.Graph, name); err != nil {
			return err
		}
		c := prog.Syncs[name]
		changes, o, _, err := s.diff(ctx, prog, c, nil)
		if err != nil {
			return err
		}
		rows, err := changes.Lookup(ctx, s.Warehouse, o, key)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			out, err = s.absent(ctx, prog, changes, o, key)
			return err
		}
		out = explanation(name, c, rows[0])
		return s.life(ctx, prog, c, &out)
	})
	return out, err
}

// life adds what is known of a row beside the plan: its outcomes, its retry, the profile behind it.
func (s *Session) life(ctx context.Context, prog *compile.Program, c *compile.Sync, out *Explanation) error {
	var err error
	if out.Outcomes, err = s.outcomesOf(ctx, c.Name, out.PrimaryKey, out.KeyHash); err != nil {
		return err
	}
	there, err := s.Warehouse.Exists(ctx, s.ledger.Names.Retry(c.Name))
	if err != nil {
		return err
	}
	if there && out.KeyHash != "" {
		d := s.Warehouse.Dialect()
		_, groups, err := s.errorGroups(ctx, c.Name, d.HashText("r.key_hash")+" = "+d.Text(out.KeyHash))
		if err != nil {
			return err
		}
		if len(groups) > 0 {
			out.Retry = &groups[0]
		}
	}
	if out.Verdict == "" {
		out.Verdict = verdict(*out)
	}
	return s.behind(ctx, prog, c, out)
}

// absent explains a row that is neither one of the sync's rows nor in its snapshot: where leaves it out, its profile is in another
// segment, it left, or there is none.
func (s *Session) absent(ctx context.Context, prog *compile.Program, changes *plan.Changes, o plan.Options, key string) (Explanation, error) {
	c := changes.Layout.Sync
	out := Explanation{Sync: c.Name, Planned: "none", Fields: []ExplainedField{}, Outcomes: []ExplainedOutcome{}}
	if c.Config.Where != nil || c.Consent != "" {
		rows, err := changes.Without().Lookup(ctx, s.Warehouse, o, key)
		if err != nil {
			return out, err
		}
		if len(rows) > 0 {
			out = explanation(c.Name, c, rows[0])
			out.InSync = false
			switch {
			case c.Config.Where == nil:
				out.Verdict = "not there: the row does not consent: " + c.Consent + " is not true"
			default:
				out.Where = c.Config.At("where").String()
				out.Verdict = "not there: where: of the sync leaves the row out, at " + out.Where
				if c.Consent != "" {
					out.Verdict += ", or it does not consent"
				}
			}
			return out, s.life(ctx, prog, c, &out)
		}
	}
	there, err := s.Warehouse.Exists(ctx, s.ledger.Names.Deliveries())
	if err != nil {
		return out, err
	}
	if there {
		rows, err := changes.Layout.Gone(ctx, s.Warehouse, c.Name, key)
		if err != nil {
			return out, err
		}
		if len(rows) > 0 {
			out.PrimaryKey, out.KeyHash = rows[0].PrimaryKey, rows[0].KeyHash
			if err := s.life(ctx, prog, c, &out); err != nil {
				return out, err
			}
			out.Verdict = "not there: it left the sync's rows; " + left(out.Outcomes)
			return out, nil
		}
	}
	if found, err := s.outsider(ctx, prog, c, key, &out); found || err != nil {
		return out, err
	}
	return out, s.nowhere(c)
}

// left says what became of a row that left and is not in the snapshot any more.
func left(outcomes []ExplainedOutcome) string {
	if len(outcomes) == 0 {
		return "what was sent is older than what is kept"
	}
	last := outcomes[0]
	return fmt.Sprintf("last: %s %s at %s", last.Operation, last.Outcome, last.At.UTC().Format(time.RFC3339))
}

// outsider explains a profile that exists and is none of the sync's rows.
func (s *Session) outsider(ctx context.Context, prog *compile.Program, c *compile.Sync, key string, out *Explanation) (bool, error) {
	entity := s.entityOf(c)
	if entity == "" {
		return false, nil
	}
	e := s.Graph.Nodes[graph.ID("entity."+entity)].Entity
	found, err := s.find(ctx, prog, e, key, "")
	var d *diag.Error
	if errors.As(err, &d) && d.Code == "profile.not_found" {
		byID, err := s.findByID(ctx, prog, e, key)
		if byID == nil || err != nil {
			return false, err
		}
		found = *byID
	} else if err != nil {
		return false, err
	}
	out.PrimaryKey = found.ProfileID
	if err := s.behind(ctx, prog, c, out); err != nil {
		return false, err
	}
	out.Profile = &found
	switch {
	case out.Condition != nil && !out.Condition.Member:
		out.Verdict = fmt.Sprintf("not there: the profile is not in segment %s, by the condition at %s", out.Condition.Name, out.Condition.At)
	default:
		out.Verdict = "not there: the profile exists, and none of the sync's rows has this key; its own key is among its identifiers below"
	}
	return true, nil
}

func (s *Session) entityOf(c *compile.Sync) string {
	if name := c.Config.Segment; name != "" {
		return s.Graph.Nodes[graph.ID("segment."+name)].Segment.Entity
	}
	return c.Config.Entity
}

// nowhere is the error of a key that nothing has.
func (s *Session) nowhere(c *compile.Sync) error {
	e := diag.Errorf(diag.Invalid, "explain.not_found", "no row of %s has this key, now or as acknowledged, and none was ever delivered", c.Name)
	hint := "%s has no such row; keys are primary keys or destination keys, as they are written there; of several columns with commas between them"
	if s.entityOf(c) != "" {
		hint = "%s has no such profile; keys are profile ids, identifiers or destination keys"
	}
	return e.WithHint(hint, string(c.Source))
}

func explanation(name string, c *compile.Sync, r plan.Row) Explanation {
	out := Explanation{
		Sync: name, PrimaryKey: r.PrimaryKey, DestKey: r.DestKey, KeyHash: r.KeyHash, InSync: r.Now != nil,
		Acknowledged: r.Acknowledged != nil && r.UncertainUntil == nil, Planned: r.Operation, State: r.State, Reason: r.Reason,
		RemoteID: r.RemoteID, Origin: r.Origin, AckAt: r.AcknowledgedAt, Uncertain: r.UncertainUntil, Fields: []ExplainedField{}, Outcomes: []ExplainedOutcome{},
	}
	if out.Planned == "" {
		out.Planned = "none"
	}
	if out.InSync && r.Acknowledged == nil && out.Planned == "none" && c.HeldOut != "" {
		out.State = plan.HeldOut // never planned: it is not sent
	}
	for _, f := range c.Fields {
		x := ExplainedField{Name: f.Name, Now: r.Now[f.Name], Acknowledged: r.Acknowledged[f.Name]}
		x.Changed = r.Now != nil && fmt.Sprint(x.Now) != fmt.Sprint(x.Acknowledged)
		out.Fields = append(out.Fields, x)
	}
	return out
}

// verdict is the one sentence.
func verdict(e Explanation) string {
	switch {
	case e.State == plan.Parked:
		return "not delivered: the destination refused the row too often; dray errors tells why, dray retry frees it"
	case e.State == plan.Deferred && e.Retry != nil && e.Retry.NextAttempt != nil:
		return "not delivered: the destination refused the row, and it waits for its retry at " + e.Retry.NextAttempt.UTC().Format(time.RFC3339) + "; it goes at once when it changes"
	case e.State == plan.Deferred:
		return "not delivered: the destination refused the row, and it waits for its retry; it goes at once when it changes"
	case e.State == plan.HeldOut:
		return "held out: the row is in the control group, which is not sent"
	case e.State == plan.Pending:
		return "accepted: the destination took it and has not told what became of it; a later run asks"
	case e.State == plan.Rejected:
		return "not delivered: the row cannot be sent: " + e.Reason
	case e.State == plan.Skipped:
		return "skipped: " + e.Reason
	case e.State == plan.HeldOut:
		return "in the control group (holdout), and there from before: it stays there as it is"
	case e.Reason == plan.Consent:
		return "there, and its consent was withdrawn: the next run takes it back"
	case e.Reason == plan.Refresh:
		return "there, as it is in the model, for so long that the next run sends it again"
	case e.State == plan.Held:
		return "there, and held there: " + e.Reason
	case e.Uncertain != nil:
		return "uncertain: it was sent and not answered; the next run sends it again"
	case e.Planned == "none":
		return "there, as it is in the model"
	case e.Planned == "add":
		return "not there yet: the next run adds it"
	case e.Planned == "remove":
		return "there, and no row of the sync any more: the next run removes it"
	case e.Planned == string(plan.Forget):
		return "there, and no row of the sync any more: it stays there and is forgotten"
	default:
		return "there with older values: the next run updates it"
	}
}

// outcomesOf reads the last deliveries of a row.
func (s *Session) outcomesOf(ctx context.Context, name, primaryKey, keyHash string) ([]ExplainedOutcome, error) {
	out := []ExplainedOutcome{}
	there, err := s.Warehouse.Exists(ctx, s.ledger.Names.Deliveries())
	if err != nil || !there {
		return out, err
	}
	d := s.Warehouse.Dialect()
	at := d.Quote("at")
	rows, err := s.Warehouse.Query(ctx, fmt.Sprintf("SELECT run_id, %s, operation, outcome, coalesce(code, ''), coalesce(message, ''), attempt FROM %s WHERE sync = %s AND (key_hash = %s OR primary_key = %s) ORDER BY %[1]s DESC, run_id DESC LIMIT 1000",
		at, d.Table(s.ledger.Names.Deliveries()), d.Text(name), d.Text(keyHash), d.Text(primaryKey)))
	if err != nil {
		return out, fmt.Errorf("reading deliveries: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return out, err
		}
		var o ExplainedOutcome
		o.RunID, _ = v[0].(string)
		o.At, _ = v[1].(time.Time)
		o.Operation, _ = v[2].(string)
		o.Outcome, _ = v[3].(string)
		o.Code, _ = v[4].(string)
		o.Message, _ = v[5].(string)
		o.Attempt, _ = v[6].(int64)
		out = append(out, o)
	}
	return out, rows.Err()
}

// behind adds, for syncs of profiles, the segment's condition and the profile with its links and source rows.
func (s *Session) behind(ctx context.Context, prog *compile.Program, c *compile.Sync, out *Explanation) error {
	entity := s.entityOf(c)
	if name := c.Config.Segment; name != "" {
		seg := s.Graph.Nodes[graph.ID("segment."+name)].Segment
		at := seg.At("where")
		if seg.Where == nil {
			at = seg.At("sql")
		}
		out.Condition = &ExplainedSegment{Name: name, At: at.String()}
		if err := s.member(ctx, prog, name, out); err != nil {
			return err
		}
	}
	if entity == "" {
		return nil
	}
	found, err := s.findByID(ctx, prog, s.Graph.Nodes[graph.ID("entity."+entity)].Entity, out.PrimaryKey)
	if err != nil {
		return err
	}
	out.Profile = found
	return nil
}

func (s *Session) member(ctx context.Context, prog *compile.Program, segment string, out *Explanation) error {
	d := s.Warehouse.Dialect()
	rows, err := s.Warehouse.Query(ctx, "SELECT entered_at FROM "+d.Table(prog.Target.Segment(segment))+" WHERE profile_id = "+d.Text(out.PrimaryKey))
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return err
		}
		out.Condition.Member = true
		if t, ok := v[0].(time.Time); ok {
			out.Condition.EnteredAt = &t
		}
	}
	return rows.Err()
}

// findByID finds a profile by one of its values.
func (s *Session) findByID(ctx context.Context, prog *compile.Program, e *config.Entity, id string) (*profile.Found, error) {
	d := s.Warehouse.Dialect()
	rows, err := s.Warehouse.Query(ctx, "SELECT identifier, value FROM "+d.Table(prog.Target.Identity(e.Name))+" WHERE profile_id = "+d.Text(id)+" ORDER BY identifier, value LIMIT 1")
	if err != nil {
		return nil, err
	}
	identifier := ""
	if rows.Next() {
		v, err := rows.Values()
		if err == nil {
			identifier = fmt.Sprint(v[0]) + ":" + fmt.Sprint(v[1])
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || identifier == "" {
		return nil, err
	}
	found, err := s.find(ctx, prog, e, identifier, "")
	return &found, err
}

func (s *Session) find(ctx context.Context, prog *compile.Program, e *config.Entity, identifier, to string) (profile.Found, error) {
	inputs, err := prog.Inputs(e)
	if err != nil {
		return profile.Found{}, err
	}
	spec := build.Profile(prog, e, inputs)
	if spec.Decisions, err = build.Decisions(prog, e); err != nil {
		return profile.Found{}, err
	}
	if to != "" {
		return profile.Between(ctx, s.Warehouse, spec, identifier, to)
	}
	return profile.Find(ctx, s.Warehouse, spec, identifier)
}

// Profile finds who holds an identifier, in every entity: from what was built last; from scratch where nothing was. With to it also
// finds why the two identifiers are of one profile.
func (s *Session) Profile(ctx context.Context, identifier, to string) ([]profile.Found, error) {
	prog, err := s.Program(ctx, false, false)
	if err != nil {
		return nil, err
	}
	out := []profile.Found{}
	var missing error
	entities := 0
	for _, n := range s.Graph.Order() {
		if n.Kind != graph.Entity {
			continue
		}
		entities++
		if err := s.builtOnce(ctx, prog, n); err != nil {
			return nil, err
		}
		found, err := s.find(ctx, prog, n.Entity, identifier, to)
		var d *diag.Error
		switch {
		case errors.As(err, &d) && d.Code == "profile.not_found":
			missing = err
		case err != nil:
			return nil, err
		default:
			out = append(out, found)
		}
	}
	if entities == 0 {
		return nil, diag.Errorf(diag.Invalid, "profile.no_entity", "the project has no entity").WithHint("declare one under entities:")
	}
	if len(out) == 0 {
		return nil, missing
	}
	return out, nil
}

// IdentityReport is the health of the identity graph of one entity, or of all of them, as built last.
func (s *Session) IdentityReport(ctx context.Context, entity string) ([]*identity.Report, error) {
	prog, err := s.Program(ctx, false, false)
	if err != nil {
		return nil, err
	}
	out, names := []*identity.Report{}, []string{}
	for _, n := range s.Graph.Order() {
		if n.Kind != graph.Entity || len(n.Entity.Identifiers) == 0 {
			continue
		}
		names = append(names, n.Name)
		if entity != "" && n.Name != entity {
			continue
		}
		if err := s.builtOnce(ctx, prog, n); err != nil {
			return nil, err
		}
		r, err := identity.Health(ctx, s.Warehouse, n.Entity, prog.Target.Identity(n.Name), prog.Target.Merges(n.Name))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(names) == 0:
		return nil, diag.Errorf(diag.Invalid, "profile.no_entity", "the project has no entity").WithHint("declare one under entities:")
	default:
		return nil, diag.Errorf(diag.Invalid, "identity.unknown_entity", "there is no entity %q", entity).WithHint("it has %s", strings.Join(names, ", "))
	}
}

// builtOnce builds an entity that was never built.
func (s *Session) builtOnce(ctx context.Context, prog *compile.Program, n *graph.Node) error {
	for _, t := range []warehouse.Table{prog.Target.Identity(n.Name), prog.Target.Profiles(n.Name)} {
		there, err := s.Warehouse.Exists(ctx, t)
		if err != nil {
			return err
		}
		if !there {
			_, err := build.Run(ctx, s.buildDeps(), prog, []graph.ID{n.ID})
			return err
		}
	}
	return nil
}
