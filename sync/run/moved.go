package run

import (
	"context"
	"fmt"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
)

// findMoved finds, once a session, what was renamed in the project (moved_from) and still stands in the warehouse under its former
// name; everything that only reads looks there.
func (s *Session) findMoved(ctx context.Context) error {
	if s.movedFound {
		return nil
	}
	moved := map[string]string{}
	for _, m := range s.Graph.Moved() {
		pending, err := s.isPending(ctx, m)
		if err != nil {
			return err
		}
		if !pending {
			continue
		}
		s.moves = append(s.moves, m)
		was, is := s.tablesOf(s.Graph.Nodes[m.ID].Kind, m.From), s.tablesOf(s.Graph.Nodes[m.ID].Kind, s.Graph.Nodes[m.ID].Name)
		for i := range was {
			moved[is[i].Name] = was[i].Name
		}
	}
	s.movedFound = true
	if len(moved) > 0 {
		s.ledger.Names.Moved = moved
	}
	return nil
}

// tablesOf are all tables of a thing under a name.
func (s *Session) tablesOf(kind graph.Kind, name string) []warehouse.Table {
	n := compile.Names{Database: s.ledger.Names.Database, Schema: s.ledger.Names.Schema}
	switch kind {
	case graph.Sync:
		return n.OfSync(name)
	case graph.Entity:
		out := []warehouse.Table{
			n.Identity(name), n.Merges(name), n.Profiles(name), n.ProfileHistory(name),
			n.IdentityRows(name), n.IdentityComponents(name), n.IdentityState(name),
		}
		for _, suffix := range config.MatchTables() {
			out = append(out, identity.PairTable(n.Identity(name), suffix))
		}
		return out
	case graph.Segment:
		return []warehouse.Table{n.Segment(name)}
	}
	return []warehouse.Table{n.Model(name)}
}

// isPending tells whether a thing still has its former name in the warehouse. It is an error if it has both.
func (s *Session) isPending(ctx context.Context, m graph.Moved) (bool, error) {
	n := s.Graph.Nodes[m.ID]
	there := func(name string) (bool, error) {
		if n.Kind == graph.Sync {
			meta, err := s.ledger.Read(ctx, name)
			return meta.Exists, err
		}
		return s.Warehouse.Exists(ctx, s.tablesOf(n.Kind, name)[0])
	}
	if n.Kind == graph.Model && (n.Model.Table != "" || n.Model.Materialized == "view") {
		return false, nil // nothing is kept of it
	}
	was, err := there(m.From)
	if err != nil || !was {
		return false, err
	}
	is, err := there(n.Name)
	if err != nil || !is {
		return true, err
	}
	e := diag.At(m.Node.At("moved_from"), "moved_from.both", "%s %q moved from %q, and the warehouse has both", n.Kind, n.Name, m.From)
	if n.Kind == graph.Sync {
		return false, e.WithHint("dray retire %s ends the former one; or take moved_from away", m.From)
	}
	return false, e.WithHint("drop what is not needed any more in schema %s, or take moved_from away", s.Project.Schema)
}

// move gives what was renamed its new name in the warehouse and in the control state, each thing in one transaction, a sync under its
// lock. A move that is interrupted is found again.
func (s *Session) move(ctx context.Context) error {
	if err := s.findMoved(ctx); err != nil {
		return err
	}
	s.ledger.Names.Moved = nil
	for len(s.moves) > 0 {
		m := s.moves[0]
		n := s.Graph.Nodes[m.ID]
		move := s.moveRelations
		if n.Kind == graph.Sync {
			move = s.moveSync
		}
		if err := move(ctx, n.Kind, m.From, n.Name); err != nil {
			return fmt.Errorf("moving %s %s to %s: %w", n.Kind, m.From, n.Name, err)
		}
		s.log.Info("moved", "kind", n.Kind, "from", m.From, "to", n.Name)
		s.moves = s.moves[1:]
	}
	for _, m := range s.Graph.Moved() { // the state is another database: it may have been left behind
		if n := s.Graph.Nodes[m.ID]; n.Kind == graph.Sync {
			if err := s.State.Rename(ctx, s.Project.Schema, m.From, n.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// renames are the statements that rename all tables of a thing that are there. Of the new names none is in use but for tables that a
// run made before it came to anything.
func (s *Session) renames(ctx context.Context, kind graph.Kind, from, to string) ([]string, error) {
	d := s.Warehouse.Dialect()
	var out []string
	was, is := s.tablesOf(kind, from), s.tablesOf(kind, to)
	for i, t := range was {
		there, err := s.Warehouse.Exists(ctx, t)
		if err != nil {
			return nil, err
		}
		if there {
			out = append(out, "DROP TABLE IF EXISTS "+d.Table(is[i]), d.RenameTable(t, is[i].Name))
		}
	}
	return out, nil
}

func (s *Session) moveRelations(ctx context.Context, kind graph.Kind, from, to string) error {
	renames, err := s.renames(ctx, kind, from, to)
	if err != nil {
		return err
	}
	var statements []string
	if kind == graph.Segment {
		history := s.ledger.Names.SegmentHistory()
		there, err := s.Warehouse.Exists(ctx, history)
		if err != nil {
			return err
		}
		if d := s.Warehouse.Dialect(); there {
			statements = append(statements, "UPDATE "+d.Table(history)+" SET segment = "+d.Text(to)+" WHERE segment = "+d.Text(from))
		}
	}
	return s.rename(ctx, renames, statements)
}

// rename renames tables and changes what names them. Where an engine's transactions rename none the tables come first: a move that is
// interrupted is found again by the rows that still have the former name.
func (s *Session) rename(ctx context.Context, renames, statements []string) error {
	if s.Warehouse.Dialect().DDL() {
		return s.Warehouse.Atomic(ctx, append(statements, renames...)...)
	}
	if len(renames) > 0 {
		if err := s.Warehouse.Atomic(ctx, renames...); err != nil {
			return err
		}
	}
	if len(statements) == 0 {
		return nil
	}
	return s.Warehouse.Atomic(ctx, statements...)
}

func (s *Session) moveSync(ctx context.Context, _ graph.Kind, from, to string) error {
	r := s.begin(&compile.Sync{Name: from}, RunOptions{})
	if err := r.lock(ctx); err != nil {
		return err
	}
	m, err := s.ledger.Read(ctx, from)
	if err != nil {
		return r.done(ctx, err)
	}
	if err := m.Current(); err != nil { // writing it anew would say that its tables are
		return r.done(ctx, err)
	}
	if m.Standing.Named == "" {
		m.Standing.Named = from // what was sent before is known there by ids that were made of it
	}
	statements, err := s.ledger.WriteSQL(m, s.deps.now())
	if err != nil {
		return r.done(ctx, err)
	}
	d, n := s.Warehouse.Dialect(), s.ledger.Names
	for _, t := range []warehouse.Table{n.Meta(), n.Deliveries(), n.Runs(), n.Approvals()} {
		statements = append(statements, "UPDATE "+d.Table(t)+" SET sync = "+d.Text(to)+" WHERE sync = "+d.Text(from))
	}
	renames, err := s.renames(ctx, graph.Sync, from, to)
	if err != nil {
		return r.done(ctx, err)
	}
	lock := from
	if !d.DDL() { // it has been renamed by then
		lock = to
	}
	statements = append(statements, s.ledger.UnlockSQL(lock, r.holder))
	if err := s.rename(ctx, renames, statements); err != nil {
		return r.done(ctx, err)
	}
	defer r.release()
	if err := r.unlocked(ctx); err != nil { // the lock in the warehouse is free under its new name
		return err
	}
	return s.State.Rename(ctx, s.Project.Schema, from, to)
}

// moveNamed moves what was renamed before a command changes a sync's memory. A sync that is not in the project any more is left as it
// is: ending it is the way out where two names are in each other's way.
func (s *Session) moveNamed(ctx context.Context, name string) error {
	if s.Graph.Nodes[syncID(name)] == nil {
		return nil
	}
	return s.move(ctx)
}
