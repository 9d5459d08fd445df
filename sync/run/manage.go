package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/report"
)

// Change is what a command did to a sync's memory.
type Change struct {
	Sync   string `json:"sync"`
	Action string `json:"action"` // adopted, reset, moved, retired
	Rows   int64  `json:"rows"`   // of the snapshot concerned
	// Run is the removal that `retire --remove` made.
	Run *report.Run `json:"run,omitempty"`
}

// ready builds what a sync reads and takes its lock, recovered and connected, for commands that change its memory.
func (s *Session) ready(ctx context.Context, name string, buildIt bool) (*one, error) {
	names, err := s.Syncs([]string{name})
	if err != nil {
		return nil, err
	}
	if err := s.move(ctx); err != nil {
		return nil, err
	}
	var prog *compile.Program
	if buildIt {
		p, built, err := s.built(ctx, names, false, false)
		if err == nil {
			err = blocked(built, s.Graph, name)
		}
		if err != nil {
			return nil, err
		}
		prog = p
	} else if prog, err = s.Program(ctx, false, false); err != nil {
		return nil, err
	}
	r := s.begin(prog.Syncs[name], RunOptions{})
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	if err := r.recover(ctx); err != nil {
		return nil, r.done(ctx, err)
	}
	return r, nil
}

func (r *one) done(ctx context.Context, err error) error {
	return errors.Join(err, r.unlock(context.WithoutCancel(ctx)))
}

// Adopt takes today's rows as what the destination has already, sending nothing.
func (s *Session) Adopt(ctx context.Context, name string) (Change, error) {
	out := Change{Sync: name, Action: "adopted"}
	r, err := s.ready(ctx, name, true)
	if err != nil {
		return out, err
	}
	err = r.adopt(ctx)
	if err == nil {
		out.Rows, err = s.snapshotRows(ctx, name)
	}
	return out, r.done(ctx, err)
}

func (r *one) adopt(ctx context.Context) error {
	if err := r.connectAndDescribe(ctx); err != nil {
		return err
	}
	m, err := r.ledger.Read(ctx, r.sync.Name)
	if err != nil {
		return err
	}
	r.meta = m
	if m.AccountID != r.bound.AccountID || m.Object != r.bound.Object || m.Container != r.bound.Container {
		r.meta.Exists = false // another place: what is known of its records does not hold there
	}
	r.bound.Generation, r.bound.Revision, r.bound.KeySalt = m.Generation+1, m.Revision, m.KeySalt
	l, err := r.describe(ctx, r.sync, r.ledger.Names.Plan(r.sync.Name))
	if err != nil {
		return err
	}
	l.Salt, r.layout = m.KeySalt, l
	if err := l.Unique(ctx, r.Warehouse); err != nil {
		return sqlError(r.sync, err)
	}
	o, err := r.planOptions(ctx, l)
	if err != nil {
		return err
	}
	if _, err := l.PreparePending(ctx, r.Warehouse, o.Standing, o.Pending); err != nil {
		return err
	}
	now := r.deps.now()
	r.meta.Revision++
	r.meta.Generation = max(r.meta.Generation, r.bound.Generation)
	m = r.standing(r.layout, o.Standing, now)
	m.Revision, m.Generation = r.meta.Revision, r.meta.Generation
	statements, err := r.ledger.WriteSQL(m, now)
	if err != nil {
		return err
	}
	d, snapshot := r.Warehouse.Dialect(), r.ledger.Names.Snapshot(r.sync.Name)
	if !d.DDL() && (!o.Standing.Exists || l.Carried(o.Standing)) { // its columns come first, as those of a run do
		if err := l.Prepare(ctx, r.Warehouse, o.Standing, now); err != nil {
			return err
		}
		o.Standing = standingOf(m, true)
	}
	_, adopt := d.Swap(snapshot, true, l.AdoptQuery(o))
	statements = append(append(adopt, "DELETE FROM "+r.table(r.ledger.Names.Retry(r.sync.Name))+" WHERE true"), statements...)
	if l.Pends() {
		statements = append(statements, "DELETE FROM "+r.table(r.ledger.Names.Pending(r.sync.Name))+" WHERE true")
	}
	if err := r.Warehouse.Atomic(ctx, statements...); err != nil {
		return sqlError(r.sync, fmt.Errorf("adopting %s: %w", r.sync.Name, err))
	}
	return r.State.Learn(ctx, r.Project.Schema, r.sync.Name, m.Generation, m.Revision)
}

func (s *Session) table(t warehouse.Table) string { return s.Warehouse.Dialect().Table(t) }

// Move binds a sync's snapshot to where the project points now: the records were carried over there.
func (s *Session) Move(ctx context.Context, name string) (Change, error) {
	out := Change{Sync: name, Action: "moved"}
	r, err := s.ready(ctx, name, false)
	if err != nil {
		return out, err
	}
	return out, r.done(ctx, func() error {
		m, err := r.ledger.Read(ctx, name)
		if err != nil {
			return err
		}
		if !m.Exists {
			return diag.Errorf(diag.Invalid, "sync.no_snapshot", "%s has no snapshot to move: it has never run", name)
		}
		if err := r.connectAndDescribe(ctx); err != nil {
			return err
		}
		b := r.bound
		b.Generation, b.Revision, b.KeySalt, b.HashVersion, b.Standing = m.Generation+1, m.Revision+1, m.KeySalt, m.HashVersion, m.Standing
		b.Mapping = m.Mapping // a changed key or mode is approved on its own
		statements, err := r.ledger.WriteSQL(b, s.deps.now())
		if err != nil {
			return err
		}
		there, err := s.Warehouse.Exists(ctx, s.ledger.Names.Snapshot(name))
		if err != nil {
			return err
		}
		if there && (m.AccountID != b.AccountID || m.BaseURL != b.BaseURL) { // an id there names another record
			statements = append(statements, "UPDATE "+s.table(s.ledger.Names.Snapshot(name))+" SET remote_id = NULL WHERE true")
		}
		if err := r.Warehouse.Atomic(ctx, statements...); err != nil {
			return fmt.Errorf("moving %s: %w", name, err)
		}
		if out.Rows, err = s.snapshotRows(ctx, name); err != nil {
			return err
		}
		return s.State.Learn(ctx, s.Project.Schema, name, b.Generation, b.Revision)
	}())
}

// Reset forgets a sync's snapshot: the next run takes everything for new.
func (s *Session) Reset(ctx context.Context, name string) (Change, error) {
	out := Change{Sync: name, Action: "reset"}
	if err := s.moveNamed(ctx, name); err != nil {
		return out, err
	}
	m, err := s.ledger.Read(ctx, name)
	if err != nil {
		return out, err
	}
	if !m.Exists {
		if s.Graph.Nodes[syncID(name)] == nil {
			_, err := s.Syncs([]string{name})
			return out, err
		}
		return out, s.State.Unlearn(ctx, s.Project.Schema, name)
	}
	if out.Rows, err = s.snapshotRows(ctx, name); err != nil {
		return out, err
	}
	m = resetMeta(m)
	return out, s.forget(ctx, name, func(now time.Time) ([]string, error) { return s.ledger.WriteSQL(m, now) })
}

// forget drops a sync's tables under its lock, with what becomes of its meta row.
func (s *Session) forget(ctx context.Context, name string, meta func(now time.Time) ([]string, error)) error {
	r := s.begin(&compile.Sync{Name: name}, RunOptions{})
	if err := r.lock(ctx); err != nil {
		return err
	}
	statements, err := meta(s.deps.now())
	if err != nil {
		return r.done(ctx, err)
	}
	n := s.ledger.Names
	var drops []string
	for _, t := range []warehouse.Table{n.Snapshot(name), n.Plan(name), n.Pending(name), n.Retry(name), n.Outcomes(name), n.Ended(name), n.Uncertain(name)} {
		drops = append(drops, "DROP TABLE IF EXISTS "+s.table(t))
	}
	lock := "DROP TABLE IF EXISTS " + s.table(n.Lock(name))
	if s.Warehouse.Dialect().DDL() {
		err = r.Warehouse.Atomic(ctx, append(append(statements, drops...), lock)...)
	} else { // the tables go first: without its snapshot a sync is never taken for one that has just begun
		err = s.Warehouse.Atomic(ctx, drops...)
		if err == nil {
			err = r.Warehouse.Atomic(ctx, statements...)
		}
		if err == nil {
			_, err = s.Warehouse.Exec(ctx, lock)
		}
	}
	if err != nil {
		return r.done(ctx, fmt.Errorf("forgetting %s: %w", name, err))
	}
	defer r.release()
	if err := r.unlocked(ctx); err != nil { // the lock in the warehouse went with the tables
		return err
	}
	return s.State.Unlearn(ctx, s.Project.Schema, name)
}

// Retire ends a sync: its tables go; with remove, first the records it delivered, as far as their origin allows. A sync that is
// not in the project any more can be retired without remove.
func (s *Session) Retire(ctx context.Context, name string, remove bool) (Change, error) {
	out := Change{Sync: name, Action: "retired"}
	if err := s.moveNamed(ctx, name); err != nil {
		return out, err
	}
	m, err := s.ledger.Read(ctx, name)
	if err != nil {
		return out, err
	}
	if !m.Exists {
		if _, err := s.Syncs([]string{name}); err != nil {
			return out, err
		}
	} else if out.Rows, err = s.snapshotRows(ctx, name); err != nil {
		return out, err
	}
	if remove && m.Exists {
		rep, err := s.removeAll(ctx, name)
		out.Run = &rep
		if err == nil {
			err = notAll(name, rep)
		}
		if err != nil {
			return out, err
		}
	}
	return out, s.forget(ctx, name, func(time.Time) ([]string, error) {
		d := s.Warehouse.Dialect()
		return []string{"DELETE FROM " + s.table(s.ledger.Names.Meta()) + " WHERE sync = " + d.Text(name)}, nil
	})
}

// notAll is the error of a removal that is not through. What is held stays: it is not Dray's to remove.
func notAll(name string, r report.Run) error {
	if r.Jobs != nil && r.Jobs.Pending > 0 {
		return diag.Errorf(diag.Failed, "retire.pending", "%s was not retired: %d rows are with the vendor, which has not told what became of them", name, r.Jobs.PendingRows).
			WithHint("run retire again later")
	}
	if r.Delivered.Remove+r.Accepted.Remove+r.Held.Remove == r.Planned.Remove {
		return nil
	}
	return diag.Errorf(diag.Failed, "retire.incomplete", "%s was not retired: %d of %d rows were removed", name, r.Delivered.Remove+r.Accepted.Remove, r.Planned.Remove).
		WithHint("dray errors %s tells why; run retire again, or without --remove to leave the rest there", name)
}

// removeAll runs the sync as if its model were empty.
func (s *Session) removeAll(ctx context.Context, name string) (report.Run, error) {
	if s.Graph.Nodes[syncID(name)] == nil {
		return report.Run{}, diag.Errorf(diag.Invalid, "retire.orphan", "%s is not in the project any more, so its destination is not known", name).
			WithHint("put it back to remove its records, or retire it without --remove")
	}
	prog, built, err := s.built(ctx, []string{name}, false, false)
	if err == nil {
		err = blocked(built, s.Graph, name)
	}
	if err != nil {
		return report.Run{}, err
	}
	c := *prog.Syncs[name]
	if err := c.Bind(ctx, s.Warehouse); err != nil {
		return report.Run{}, err
	}
	if c.Mode == destination.Insert {
		return report.Run{}, diag.At(c.Config.At("mode"), "retire.insert", "%s inserts: what was sent cannot be taken back", name)
	}
	cfg := *c.Config
	cfg.Guard.AllowEmpty, cfg.Guard.MaxRemoves, cfg.Guard.MinModelRows = true, config.Percent(1), 0
	cfg.Guard.Window = config.Duration{}
	c.Config = &cfg
	c.Input = "SELECT * FROM (" + c.Input + ") gone WHERE false"
	c.Mode = destination.Mirror
	if c.OnRemove.Act == "" || c.OnRemove.Act == "ignore" {
		c.OnRemove = config.OnRemove{Act: "delete"}
	}
	r := s.begin(&c, RunOptions{})
	r.retiring = true
	err = r.path(ctx)
	return r.finish(ctx, err)
}

func (s *Session) snapshotRows(ctx context.Context, name string) (int64, error) {
	return s.rowsOf(ctx, s.ledger.Names.Snapshot(name))
}

// rowsOf counts a table of Dray's; 0 where it is not there.
func (s *Session) rowsOf(ctx context.Context, t warehouse.Table) (int64, error) {
	there, err := s.Warehouse.Exists(ctx, t)
	if err != nil || !there {
		return 0, err
	}
	return s.number(ctx, "SELECT count(*) FROM "+s.table(t))
}

func (s *Session) number(ctx context.Context, query string) (int64, error) {
	return warehouse.Number(ctx, s.Warehouse, query)
}
