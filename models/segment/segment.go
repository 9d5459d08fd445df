// Package segment turns conditions into SQL and keeps who is in each segment since when: segment_<name> and segment_history
// (DESIGN §4, YAML.md §4). It reads what models/profile and models/identity wrote; syncs read what it writes.
package segment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/profile"
)

// Spec is everything Build needs. Prior is the last real build's table (it may not exist): entered_at is kept from it.
type Spec struct {
	Segment  *config.Segment
	Entity   *config.Entity
	Inputs   []identity.Input
	Identity warehouse.Table
	Profiles warehouse.Table
	Members  func(segment string) warehouse.Table // of the segments that `in:` and `exclusive:` name
	Sent     func(sync string) (string, error)    // see Scope
	// Relations are the entity's, as they were built.
	Relations []profile.Related
	Before    []string // segments of which nobody is taken: those that come first in `exclusive:`

	Target, Prior warehouse.Table
	History       warehouse.Table // appended to; the zero Table = not written

	AsOf time.Time
	// Render renders Jinja in values and expressions; nil leaves them as they are.
	Render func(sql string, pos diag.Pos) (string, error)
}

// Result counts what a build found.
type Result struct{ Size, Entered, Left int64 }

// Build writes Target and appends a row to History, in one transaction.
func Build(ctx context.Context, w warehouse.Warehouse, spec Spec) (Result, error) {
	b := &builder{w: w, d: w.Dialect(), spec: spec}
	result, err := b.build(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("segment %s: %w", spec.Segment.Name, err)
	}
	return result, nil
}

type builder struct {
	w    warehouse.Warehouse
	d    warehouse.Dialect
	spec Spec
}

func (b *builder) build(ctx context.Context) (Result, error) {
	members, err := b.members(ctx)
	if err != nil {
		return Result{}, err
	}
	work := b.work("__new")
	defer b.drop(ctx, work)
	if s := b.spec.Segment; s.Top != nil {
		all := b.work("__all")
		defer b.drop(ctx, all)
		if members, err = b.top(ctx, members, all); err != nil {
			return Result{}, err
		}
	}
	if _, err := b.w.Exec(ctx, b.d.CreateTableAs(work, members)); err != nil {
		return Result{}, b.blame(ctx, err)
	}
	prior, err := b.w.Exists(ctx, b.spec.Prior)
	if err != nil {
		return Result{}, err
	}
	result, err := b.count(ctx, work, prior)
	if err != nil {
		return Result{}, err
	}
	return result, b.swap(ctx, work, prior, result)
}

// work is a table that is needed during this build only.
func (b *builder) work(suffix string) warehouse.Table {
	t := b.spec.Target
	t.Name += suffix
	return b.d.Work(t)
}

func (b *builder) drop(ctx context.Context, t warehouse.Table) {
	_, _ = b.w.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+b.d.Table(t))
}

// members is the query of who is in now, before `top:`: profile_id, each once, and where there is a top, what it goes by.
func (b *builder) members(ctx context.Context) (string, error) {
	s, d := b.spec.Segment, b.d
	where, err := b.where(ctx)
	if err != nil {
		return "", err
	}
	where += b.notShared()
	for _, name := range b.spec.Before {
		where += fmt.Sprintf(" AND p.profile_id NOT IN (SELECT profile_id FROM %s)", d.Table(b.spec.Members(name)))
	}
	columns := "p.profile_id"
	switch {
	case s.Top != nil:
		columns += ", p." + d.Quote(s.Top.By) + " AS ranked_by"
	case s.Sample != nil:
		where += " AND " + sampled(d, s, "p.profile_id")
	}
	return fmt.Sprintf("SELECT %s FROM %s AS p\nWHERE %s", columns, d.Table(b.spec.Profiles), where), nil
}

// where is the segment's own condition over the profiles p.
func (b *builder) where(ctx context.Context) (string, error) {
	s := b.spec.Segment
	if s.SQL != "" {
		query, err := b.render(s.SQL, s.Node.At("sql"))
		if err != nil {
			return "", err
		}
		if err := b.checkQuery(ctx, query); err != nil {
			return "", err
		}
		return fmt.Sprintf("p.profile_id IN (SELECT %s FROM (%s\n) AS q)", b.d.Cast("q.profile_id", warehouse.Text), query), nil
	}
	scope, err := b.scope(ctx)
	if err != nil || s.Where == nil {
		return "TRUE", err
	}
	return Where(b.d, s.Where, scope)
}

// notShared keeps out the profiles made of refused values only, unless the segment asks for them.
func (b *builder) notShared() string {
	if !identity.Limited(b.spec.Entity) || b.spec.Segment.Shared {
		return ""
	}
	return " AND NOT p.shared"
}

// checkQuery makes sure that a segment's own SQL gives profile_id.
func (b *builder) checkQuery(ctx context.Context, query string) error {
	s := b.spec.Segment
	columns, err := b.w.Columns(ctx, query)
	if err != nil {
		return b.refused(err, s.Node.At("sql"))
	}
	for _, c := range columns {
		if strings.EqualFold(c.Name, "profile_id") {
			return nil
		}
	}
	return diag.At(s.Node.At("sql"), "segment.profile_id", "the SQL of segment %s gives no column profile_id", s.Name).
		WithHint("select profile_id from {{ profiles('%s') }}", b.spec.Entity.Name)
}

// scope is what the segment's conditions may speak of: the profiles' columns and the entity's inputs.
func (b *builder) scope(ctx context.Context) (Scope, error) {
	columns, err := b.w.Columns(ctx, "SELECT * FROM "+b.d.Table(b.spec.Profiles))
	if err != nil {
		return Scope{}, err
	}
	return Scope{
		Alias: "p", Columns: columns, Profiles: true, AsOf: b.spec.AsOf, Render: b.spec.Render, Members: b.spec.Members, Sent: b.spec.Sent,
		Input: func(name string) (Input, error) { return b.input(ctx, name) },
		Own:   b.d.Table(b.spec.Profiles), Relation: func(name string) (Relation, error) { return b.relation(ctx, name) },
	}, nil
}

// relation is what a relation leads to, with the columns of its profiles.
func (b *builder) relation(ctx context.Context, name string) (Relation, error) {
	for _, r := range b.spec.Relations {
		if strings.EqualFold(r.Name, name) {
			columns, err := b.w.Columns(ctx, "SELECT * FROM "+b.d.Table(r.Profiles))
			return Relation{r, columns}, err
		}
	}
	return Relation{}, NoRelation(b.spec.Entity, name)
}

// input is an input's rows with their profiles.
func (b *builder) input(ctx context.Context, name string) (Input, error) {
	for _, in := range b.spec.Inputs {
		if in.Name == name {
			return Read(ctx, b.w, b.spec.Entity, in, b.spec.Identity)
		}
	}
	return Input{}, NoInput(b.spec.Entity, name)
}

// Read asks the warehouse how to read an input's rows with their profiles, of the built identity table.
func Read(ctx context.Context, w warehouse.Warehouse, e *config.Entity, in identity.Input, table warehouse.Table) (Input, error) {
	relation, err := identity.Describe(ctx, w, in)
	if err != nil {
		return Input{}, err
	}
	rows, err := relation.Rows(e, table)
	if err != nil {
		return Input{}, err
	}
	seen, err := relation.Time(ctx, w)
	return Input{Rows: rows, Seen: seen}, err
}

// NoInput is the error of a `did:` whose input the entity does not have; without a position.
func NoInput(e *config.Entity, name string) error {
	err := &diag.Error{Code: "segment.input", Msg: fmt.Sprintf("entity %s has no input %q", e.Name, name)}
	names := make([]string, len(e.Inputs))
	for i, in := range e.Inputs {
		names[i] = in.Name
	}
	if s := config.Suggest(name, names); s != "" {
		return err.WithHint("did you mean %s?", s)
	}
	return err.WithHint("add to its inputs: - {name: %s, from: ref('%[1]s'), identifiers: {…}}", name)
}

func (b *builder) count(ctx context.Context, work warehouse.Table, prior bool) (Result, error) {
	now := b.d.Table(work)
	query := "SELECT count(*), count(*), 0 FROM " + now
	if prior {
		was := b.d.Table(b.spec.Prior)
		query = fmt.Sprintf(`SELECT count(n.profile_id), count(CASE WHEN o.profile_id IS NULL THEN 1 END), count(CASE WHEN n.profile_id IS NULL THEN 1 END)
FROM %s AS n FULL OUTER JOIN %s AS o ON o.profile_id = n.profile_id`, now, was)
	}
	rows, err := b.w.Query(ctx, query)
	if err != nil {
		return Result{}, err
	}
	defer rows.Close()
	if !rows.Next() {
		return Result{}, errors.Join(errors.New("a count gave no row"), rows.Err())
	}
	values, err := rows.Values()
	if err != nil {
		return Result{}, err
	}
	n := [3]int64{}
	for i := range n {
		n[i], _ = values[i].(int64)
	}
	return Result{Size: n[0], Entered: n[1], Left: n[2]}, rows.Err()
}

// swap puts the members in place: those that stay keep their entered_at.
func (b *builder) swap(ctx context.Context, work warehouse.Table, prior bool, r Result) error {
	d, now := b.d, b.d.Time(b.spec.AsOf)
	split := ""
	if b.spec.Segment.Split != nil {
		split = ", " + part(d, b.spec.Segment, "n.profile_id") + " AS split"
	}
	query := fmt.Sprintf("SELECT n.profile_id, %s AS entered_at%s FROM %s AS n", now, split, d.Table(work))
	if prior {
		query = fmt.Sprintf("SELECT n.profile_id, coalesce(o.entered_at, %s) AS entered_at%s FROM %s AS n LEFT JOIN %s AS o ON o.profile_id = n.profile_id",
			now, split, d.Table(work), d.Table(b.spec.Prior))
	}
	there, err := b.w.Exists(ctx, b.spec.Target)
	if err != nil {
		return err
	}
	before, statements := d.Swap(b.spec.Target, there, query)
	if there && !d.DDL() { // its columns would stay as they are
		columns, err := b.w.Columns(ctx, "SELECT * FROM "+d.Table(b.spec.Target))
		if err != nil {
			return err
		}
		if len(columns) != 2+strings.Count(split, " AS split") {
			before, statements = []string{d.CreateTableAs(b.spec.Target, query)}, nil
		}
	}
	if b.spec.History != (warehouse.Table{}) {
		num := " " + d.Type(warehouse.Int)
		before = append(before, d.CreateTable(b.spec.History, []string{
			"segment " + d.Type(warehouse.Text), d.Quote("at") + " " + d.Type(warehouse.Timestamp), "size" + num, "entered" + num, d.Quote("left") + num,
		}, ""))
		statements = append(statements, fmt.Sprintf("INSERT INTO %s (segment, %s, size, entered, %s) VALUES (%s, %s, %d, %d, %d)", d.Table(b.spec.History),
			d.Quote("at"), d.Quote("left"), d.Text(b.spec.Segment.Name), now, r.Size, r.Entered, r.Left))
	}
	for _, s := range before {
		if _, err := b.w.Exec(ctx, s); err != nil {
			return err
		}
	}
	if len(statements) == 0 {
		return nil
	}
	return b.w.Atomic(ctx, statements...)
}

// blame finds the leaf of the tree whose SQL the engine refuses, so that the error names its place.
func (b *builder) blame(ctx context.Context, err error) error {
	scope, serr := b.scope(ctx)
	if serr != nil || b.spec.Segment.Where == nil {
		return err
	}
	for _, c := range leaves(b.spec.Segment.Where) {
		where, werr := Where(b.d, c, scope)
		if werr != nil {
			return werr
		}
		_, qerr := b.w.Columns(ctx, fmt.Sprintf("SELECT p.profile_id FROM %s AS p WHERE %s", b.d.Table(b.spec.Profiles), where))
		if qerr == nil {
			continue
		}
		pos := c.Pos
		for _, key := range []string{"where", "sql"} {
			if c.Has(key) {
				pos = c.Node.At(key)
			}
		}
		return b.refused(qerr, pos)
	}
	return b.refused(err, b.spec.Segment.Node.At("where"))
}

// leaves are the conditions of a tree that hold no others by all, any or not.
func leaves(c *config.Condition) []*config.Condition {
	inner := append(append([]*config.Condition{}, c.All...), c.Any...)
	if c.Not != nil {
		inner = append(inner, c.Not)
	}
	if len(inner) == 0 {
		return []*config.Condition{c}
	}
	var out []*config.Condition
	for _, i := range inner {
		out = append(out, leaves(i)...)
	}
	return out
}

func (b *builder) refused(err error, pos diag.Pos) error {
	var refused *warehouse.QueryError
	if !errors.As(err, &refused) {
		return err
	}
	words := *refused
	words.Line = 0 // of a statement that the user has not written
	return &diag.Error{Pos: pos, Code: "segment.sql", Msg: "segment " + b.spec.Segment.Name, Err: &words}
}

func (b *builder) render(sql string, pos diag.Pos) (string, error) {
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \n")
	if b.spec.Render == nil {
		return sql, nil
	}
	return b.spec.Render(sql, pos)
}
