package run

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
	"github.com/dray-dev/dray/sync/report"
)

// errRelocate says that an approved change of key, object or list makes the snapshot one of other records: in mirror mode those are
// removed where and as they were sent, and the sync begins anew (YAML.md §5).
var errRelocate = errors.New("the sync begins anew")

// renamed tells whether the snapshot's identities are not those that the sync sends now.
func renamed(c *compile.Sync, have ledger.Meta) bool {
	was, insert := have.Standing, c.Mode == destination.Insert
	if insert != have.KeepsEvents() {
		return true
	}
	if insert {
		return !slices.Equal(was.EventID, c.EventID)
	}
	var names []string
	for _, alternative := range c.Keys {
		for _, k := range alternative {
			if !slices.Contains(names, k.Name) {
				names = append(names, k.Name)
			}
		}
	}
	old := []string{was.DestKey.Name}
	if len(was.Keys) > 0 {
		old = nil
		for _, k := range was.Keys {
			old = append(old, k.Name)
		}
	}
	return !slices.Equal(names, old)
}

// begunAnew tells whether a run of the sync, approved, would begin anew; the list, which only the destination knows, is not looked at.
func begunAnew(c *compile.Sync, m ledger.Meta) bool {
	return m.Exists && m.HashVersion != "" && m.Mapping != mapping(c) && (m.Object != c.Object.Name || renamed(c, m))
}

func (r *one) leavesBehind() string {
	if r.sync.Mode == destination.Mirror {
		return ", removing what was sent before"
	}
	return ""
}

// relocate removes what a mirror left behind and forgets the snapshot, under an approval that it uses up. The lock is given up
// meanwhile; whoever takes it finds either place.
func (r *one) relocate(ctx context.Context) error {
	m, err := r.ledger.Read(ctx, r.sync.Name)
	if err != nil {
		return err
	}
	if r.meta = m; r.sync.Spec.Async != nil {
		pending, err := r.settleJobs(ctx, nil)
		if err != nil {
			return err
		}
		if pending > 0 {
			return diag.Errorf(diag.Stopped, "relocate.pending", "%s: %d rows are with the vendor, which has not told what became of them; nothing was sent", r.sync.Name, r.report.Jobs.PendingRows).
				WithHint("the approval stands: run again later")
		}
	}
	if err := r.unlock(ctx); err != nil {
		return err
	}
	if r.sync.Mode == destination.Mirror && !m.KeepsEvents() {
		rep, err := r.clear(ctx, m)
		r.earlier = &rep
		if err != nil {
			return err
		}
		if rep.Jobs != nil && rep.Jobs.Pending > 0 || rep.Delivered.Remove+rep.Accepted.Remove+rep.Held.Remove+rep.Skipped.Remove != rep.Planned.Remove {
			return diag.Errorf(diag.Failed, "relocate.incomplete", "%s: %d of %d rows were removed where they stood before; the new place waits for the rest",
				r.sync.Name, rep.Delivered.Remove, rep.Planned.Remove).WithHint("dray errors %s tells why; the approval stands: run again", r.sync.Name)
		}
	}
	used := r.ledger.UsedSQL(r.sync.Name, []string{"mapping=" + r.bound.Mapping})
	if err := r.Session.forget(ctx, r.sync.Name, func(now time.Time) ([]string, error) {
		statements, err := r.ledger.WriteSQL(resetMeta(m), now)
		return append(used, statements...), err
	}); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	return r.bind(ctx)
}

// clear is a run of its own that removes every row of the snapshot under the identity, in the object and the list it was sent to.
func (r *one) clear(ctx context.Context, m ledger.Meta) (report.Run, error) {
	old, err := r.formerly(m)
	if err != nil {
		return report.Run{}, err
	}
	c := r.begin(old, RunOptions{})
	c.part = true
	err = func() error {
		if err := c.lock(ctx); err != nil {
			return err
		}
		if err := c.recover(ctx); err != nil {
			return err
		}
		if err := c.connectAndDescribe(ctx); err != nil {
			return err
		}
		if c.meta, err = c.ledger.Read(ctx, old.Name); err != nil {
			return err
		}
		c.bound = c.meta
		if err := c.plan(ctx); err != nil {
			return err
		}
		return c.deliver(ctx) // approved with the change
	}()
	return c.finish(ctx, err)
}

// formerly is the sync as its snapshot has it, with no rows.
func (r *one) formerly(m ledger.Meta) (*compile.Sync, error) {
	old, cfg := *r.sync, *r.sync.Config
	object, ok := r.sync.Spec.FindObject(m.Object)
	if !ok {
		return nil, diag.Errorf(diag.Stopped, "relocate.object", "%s: what was sent to %s cannot be removed, for it is no object of %s", r.sync.Name, m.Object, r.sync.Spec.Type).
			WithHint("dray reset %s leaves it there", r.sync.Name)
	}
	cfg.Object, cfg.OnDuplicateKey, cfg.Event = m.Object, nil, nil
	old.Config, old.Object = &cfg, object
	old.Input = "SELECT * FROM (" + old.Input + ") gone WHERE false"
	none := func(c plan.Column) string { return "CAST(NULL AS " + c.Type + ")" }
	keys := m.Standing.Keys
	if len(keys) == 0 {
		keys = []plan.Column{m.Standing.DestKey}
	}
	old.Keys = [][]compile.KeyColumn{nil}
	for _, k := range keys {
		old.Keys[0] = append(old.Keys[0], compile.KeyColumn{Name: k.Name, Expr: none(k)})
	}
	old.Fields = nil
	for _, f := range m.Standing.Fields {
		if f.Gone == "" {
			old.Fields = append(old.Fields, compile.Field{Name: f.Name, Path: config.SplitPath(f.Name), Column: f.Column, Expr: none(f), Trigger: true})
		}
	}
	return &old, nil
}

// resetMeta is the meta row of a snapshot that was given up on purpose.
func resetMeta(m ledger.Meta) ledger.Meta {
	m.Generation++
	m.OpenRun, m.OpenMode, m.HashVersion, m.Mapping = "", "", "", ""
	return m
}
