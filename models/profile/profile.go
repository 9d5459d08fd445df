// Package profile makes the golden records: profiles_<entity>, one row a profile with its identifiers and traits (DESIGN §4,
// YAML.md §3). It follows models/identity, which says what row belongs to whom, and is read by models/segment and syncs.
//
// An input is read once for all traits that look at the same rows of it: picks and aggregates of one pass are columns of one
// grouped query. All relative dates are of the run's as_of, never of the engine's clock.
package profile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

// Spec is everything Build needs. Prior is the last real build's table (it may not exist): updated_at is kept from it.
type Spec struct {
	Entity    *config.Entity
	Inputs    []identity.Input
	Identity  warehouse.Table // as identity.Build wrote it
	Relations []Related       // of the entity, as they were built
	// Decisions is the FROM item of decisions.from; "" = there is none.
	Decisions string

	Target, Prior warehouse.Table
	History       warehouse.Table // of traits with history; the zero Table = not written

	AsOf time.Time
	// Render renders Jinja in expressions; nil leaves them as they are.
	Render func(sql string, pos diag.Pos) (string, error)
}

// Result counts what a build found.
type Result struct {
	Profiles int64
	Changed  int64 // profiles that are new or whose traits or identifiers changed
}

// Build writes Target, in one statement or transaction at the end; it is safe to repeat after any failure.
func Build(ctx context.Context, w warehouse.Warehouse, spec Spec) (Result, error) {
	b := &builder{w: w, d: w.Dialect(), spec: spec, inputs: map[string]*input{}}
	defer b.drop(ctx)
	result, err := b.build(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("profiles of %s: %w", spec.Entity.Name, err)
	}
	return result, nil
}

// builder is one build under way.
type builder struct {
	w      warehouse.Warehouse
	d      warehouse.Dialect
	spec   Spec
	inputs map[string]*input
	passes []*pass
	shared []*input // whose rows may be profiles of their own
	work   []warehouse.Table
}

func (b *builder) build(ctx context.Context) (Result, error) {
	traits, err := b.plan(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := b.findShared(ctx); err != nil {
		return Result{}, err
	}
	if err := b.runPasses(ctx); err != nil {
		return Result{}, b.blame(ctx, traits, err)
	}
	record, err := b.table(ctx, "new", b.recordQuery(traits))
	if err != nil {
		return Result{}, b.blame(ctx, traits, err)
	}
	columns, err := b.w.Columns(ctx, "SELECT * FROM "+record)
	if err != nil {
		return Result{}, err
	}
	if err := b.checkQuintiles(traits, columns); err != nil {
		return Result{}, err
	}
	return b.finish(ctx, record, columns)
}

// identifierColumns are the identifiers that are columns: all but those said to be none and those a trait replaces.
func (b *builder) identifierColumns() []*config.Identifier {
	replaced := map[string]bool{}
	for _, t := range b.spec.Entity.Traits {
		for _, name := range namesOf(t) {
			replaced[strings.ToLower(name)] = true
		}
	}
	var out []*config.Identifier
	for _, id := range b.spec.Entity.Identifiers {
		if id.Column != "none" && !replaced[strings.ToLower(id.Name)] {
			out = append(out, id)
		}
	}
	return out
}

func namesOf(t *config.Trait) []string {
	if len(t.Names) > 0 {
		return t.Names
	}
	return []string{t.Name}
}

// baseQuery is one row a profile: profile_id, its identifiers, first_seen_at.
func (b *builder) baseQuery() string {
	columns := []string{"profile_id"}
	for _, id := range b.identifierColumns() {
		columns = append(columns, b.d.First("value", b.d.Type(warehouse.Text), b.d.Order("last_seen_at", true, false)+", value", "identifier = "+b.d.Text(id.Name))+" AS "+b.d.Quote(id.Name))
	}
	columns = append(columns, "min(first_seen_at) AS first_seen_at")
	if identity.Limited(b.spec.Entity) {
		columns = append(columns, "FALSE AS "+sharedColumn)
	}
	query := fmt.Sprintf("SELECT %s\nFROM %s WHERE profile_id IS NOT NULL AND refused IS NULL\nGROUP BY profile_id", strings.Join(columns, ", "), b.d.Table(b.spec.Identity))
	for _, in := range b.shared {
		query += "\nUNION ALL " + b.sharedQuery(in)
	}
	return query
}

// sharedColumn marks the profiles that are rows with refused values only; entities without limits have none.
const sharedColumn = "shared"

// sharedQuery is the profiles made of an input's rows that have refused values only, without any identifier.
func (b *builder) sharedQuery(in *input) string {
	columns := []string{owner}
	for range b.identifierColumns() {
		columns = append(columns, b.d.Cast("NULL", warehouse.Text))
	}
	seen := in.seen
	if seen == "" {
		seen = b.d.Cast("NULL", warehouse.Timestamp)
	}
	return fmt.Sprintf("SELECT %s, min(%s), TRUE FROM %s AS r WHERE %s GROUP BY %s", strings.Join(columns, ", "), seen, in.rows, identity.SharedColumn, owner)
}

// findShared lists the inputs whose rows may be left with refused values only.
func (b *builder) findShared(ctx context.Context) error {
	if !identity.Limited(b.spec.Entity) {
		return nil
	}
	n, err := b.ints(ctx, "SELECT count(*) FROM "+b.d.Table(b.spec.Identity)+" WHERE refused IS NOT NULL")
	if err != nil || n[0] == 0 {
		return err
	}
	for _, in := range b.spec.Inputs {
		if !in.Links() {
			continue
		}
		read, err := b.input(ctx, in.Name, in.Pos)
		if err != nil {
			return err
		}
		b.shared = append(b.shared, read)
	}
	return nil
}

// recordQuery joins what the passes found to the base, and adds the scalar traits in the order of their dependencies.
func (b *builder) recordQuery(traits []*trait) string {
	columns := []string{"base.*"}
	for _, t := range traits {
		for _, c := range t.columns {
			if c.expr != "" {
				columns = append(columns, c.expr+" AS "+b.d.Quote(c.name))
			}
		}
	}
	var from strings.Builder
	fmt.Fprintf(&from, "(%s) AS base", b.baseQuery())
	for _, p := range b.passes {
		fmt.Fprintf(&from, "\nLEFT JOIN %s AS %s ON %[2]s.%s = base.profile_id", p.table, p.name, owner)
	}
	query := "SELECT " + strings.Join(columns, ", ") + "\nFROM " + from.String()
	joined := map[string]bool{}
	for _, layer := range layers(traits) {
		query = b.ranks(b.withRelations(query, layer, traits, joined), layer)
		scalars := []string{"*"}
		for _, t := range layer {
			scalar := t.scalar
			if t.Quintile != "" {
				scalar = b.quintile(t)
			}
			scalars = append(scalars, b.withDefault(scalar, t.Default)+" AS "+b.d.Quote(t.Name))
		}
		query = "SELECT " + strings.Join(scalars, ", ") + "\nFROM (" + query + ") AS t"
	}
	return query
}

// finish puts the profiles in place: those that did not change keep their updated_at.
func (b *builder) finish(ctx context.Context, record string, columns []warehouse.Column) (Result, error) {
	d := b.d
	names := b.columnNames()
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "n." + d.Quote(name)
	}
	now := d.Time(b.spec.AsOf)
	prior, err := b.priorColumns(ctx)
	if err != nil {
		return Result{}, err
	}
	first, updated, from := "coalesce(n.first_seen_at, "+now+")", now, record+" AS n"
	if prior != nil {
		first = "coalesce(n.first_seen_at, p.first_seen_at, " + now + ")"
		updated = fmt.Sprintf("CASE WHEN p.profile_id IS NOT NULL AND %s THEN p.updated_at ELSE %s END", b.unchanged(columns, names, prior), now)
		from += fmt.Sprintf(" LEFT JOIN %s AS p ON p.profile_id = n.profile_id", d.Table(b.spec.Prior))
	}
	if identity.Limited(b.spec.Entity) {
		quoted = append(quoted, "n."+sharedColumn)
	}
	query := fmt.Sprintf("SELECT %s, %s AS first_seen_at, %s AS updated_at\nFROM %s",
		strings.Join(append([]string{"n.profile_id"}, quoted...), ", "), first, updated, from)
	kept, err := b.history(ctx, record, columns)
	if err != nil {
		return Result{}, err
	}
	if err := b.put(ctx, query, kept); err != nil {
		return Result{}, err
	}
	n, err := b.ints(ctx, fmt.Sprintf("SELECT count(*), count(CASE WHEN updated_at = %s THEN 1 END) FROM %s", now, d.Table(b.spec.Target)))
	if err != nil {
		return Result{}, err
	}
	return Result{Profiles: n[0], Changed: n[1]}, nil
}

func (b *builder) columnNames() []string {
	var names []string
	for _, id := range b.identifierColumns() {
		names = append(names, id.Name)
	}
	for _, t := range b.spec.Entity.Traits {
		names = append(names, namesOf(t)...)
	}
	return names
}

// priorColumns describes the last build's table; nil where there is none, or one that Dray did not make.
func (b *builder) priorColumns(ctx context.Context) (map[string]warehouse.Column, error) {
	there, err := b.w.Exists(ctx, b.spec.Prior)
	if err != nil || !there {
		return nil, err
	}
	columns, err := b.w.Columns(ctx, "SELECT * FROM "+b.d.Table(b.spec.Prior))
	if err != nil {
		return nil, err
	}
	out := map[string]warehouse.Column{}
	for _, c := range columns {
		out[strings.ToLower(c.Name)] = c
	}
	for _, needed := range []string{"profile_id", "first_seen_at", "updated_at"} {
		if _, ok := out[needed]; !ok {
			return nil, nil
		}
	}
	return out, nil
}

// unchanged compares every column with the prior build's; one that is new there changes the profiles for which it is not NULL. Lists are
// compared without their order: an aggregate need not keep it.
func (b *builder) unchanged(record []warehouse.Column, names []string, prior map[string]warehouse.Column) string {
	columns := map[string]warehouse.Column{}
	for _, c := range record {
		columns[strings.ToLower(c.Name)] = c
	}
	same := []string{"TRUE"}
	for _, name := range names {
		now, was := "n."+b.d.Quote(name), "p."+b.d.Quote(name)
		column := columns[strings.ToLower(name)]
		old, ok := prior[strings.ToLower(name)]
		switch {
		case !ok:
			same = append(same, now+" IS NULL")
		case old.Type == column.Type && column.Kind == warehouse.JSON:
			value := func(expr string) string { return b.d.Comparable(b.d.SortArray(expr, column), column) }
			same = append(same, value(now)+" IS NOT DISTINCT FROM "+value(was))
		case old.Type == column.Type:
			same = append(same, now+" IS NOT DISTINCT FROM "+was)
		default: // of another type: the same when it reads the same
			text := func(expr string, c warehouse.Column) string {
				if c.Kind == warehouse.JSON {
					expr = b.d.Wire(expr, c)
				}
				return b.d.Cast(expr, warehouse.Text)
			}
			same = append(same, text(now, column)+" IS NOT DISTINCT FROM "+text(was, old))
		}
	}
	return strings.Join(same, " AND ")
}
