package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

// prepare makes the schema and reads what stands in it.
func (r *runner) prepare(ctx context.Context) error {
	w, d := r.deps.Warehouse, r.prog.Dialect
	if _, err := w.Exec(ctx, d.CreateSchema(r.prog.Target.Schema)); err != nil {
		return failed("making schema "+r.prog.Target.Schema, err)
	}
	rows, err := w.Query(ctx, d.Relations(r.prog.Target.Schema))
	if err != nil {
		return failed("listing schema "+r.prog.Target.Schema, err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return failed("listing schema "+r.prog.Target.Schema, err)
		}
		r.relations[strings.ToLower(fmt.Sprint(v[0]))] = fmt.Sprint(v[1])
	}
	if err := rows.Err(); err != nil {
		return failed("listing schema "+r.prog.Target.Schema, err)
	}
	return nil
}

// build makes one node's relation.
func (r *runner) build(ctx context.Context, n *compile.Node, result *NodeResult) error {
	result.Rows = -1
	switch {
	case n.Kind == graph.Entity:
		return r.entity(ctx, n, result)
	case n.Kind == graph.Segment:
		return r.segment(ctx, n, result)
	case n.Materialized == "": // a relation as it is
		_, err := r.deps.Warehouse.Columns(ctx, "SELECT * FROM "+r.prog.From(n.ID))
		return r.unreadable(ctx, n, r.refused(n, err))
	}
	if err := r.materialize(ctx, n); err != nil {
		return r.unreadable(ctx, n, r.refused(n, err))
	}
	if n.Materialized == "view" || r.explain {
		return nil
	}
	count, err := warehouse.Number(ctx, r.deps.Warehouse, "SELECT count(*) FROM "+r.prog.From(n.ID))
	if err != nil {
		return r.unreadable(ctx, n, r.refused(n, err))
	}
	result.Rows = count
	return nil
}

func (r *runner) materialize(ctx context.Context, n *compile.Node) error {
	d := r.prog.Dialect
	switch {
	case r.explain:
		// The line break ends a last comment; the query stands on its own lines, so that errors keep theirs.
		return r.replace(ctx, n.Relation, "VIEW", d.CreateView(n.Relation, "SELECT * FROM ("+n.Query+"\n) q LIMIT 0"))
	case n.Materialized == "view":
		return r.replace(ctx, n.Relation, "VIEW", d.CreateView(n.Relation, n.Query))
	case n.Materialized == "incremental" && n.Incremental:
		return r.increment(ctx, n)
	default:
		return r.replace(ctx, n.Relation, "TABLE", d.CreateTableAs(n.Relation, n.Query))
	}
}

// replace runs the statement that makes a relation. Where a view stands in a table's place, or the other way round, it goes
// in the same transaction.
func (r *runner) replace(ctx context.Context, t warehouse.Table, kind, statement string) error {
	there := r.relations[strings.ToLower(r.prog.Dialect.Kept(t.Name))]
	isView := strings.Contains(there, "VIEW")
	switch {
	case there != "" && isView && kind == "TABLE":
		return r.deps.Warehouse.Atomic(ctx, "DROP VIEW "+r.prog.Dialect.Table(t), statement)
	case there != "" && !isView && kind == "VIEW":
		return r.deps.Warehouse.Atomic(ctx, "DROP TABLE "+r.prog.Dialect.Table(t), statement)
	}
	_, err := r.deps.Warehouse.Exec(ctx, statement)
	return err
}

// increment puts what an incremental model's query gives into its relation: rows with the same primary key are replaced, all
// others added; without a primary key all are added. A column that is new to the relation is added to it, one that the query
// no longer gives stays and is NULL for the new rows.
func (r *runner) increment(ctx context.Context, n *compile.Node) error {
	w, d := r.deps.Warehouse, r.prog.Dialect
	fresh := n.Relation
	fresh.Name += "__new"
	prior := r.prog.Names.Model(n.Name)
	old, err := w.Columns(ctx, "SELECT * FROM "+d.Table(prior))
	if err != nil {
		return err
	}
	since, err := r.window(n, prior, old)
	if err != nil {
		return err
	}
	query := n.Query
	if since != nil {
		// The query stands on its own lines, so that errors keep theirs.
		query = "SELECT * FROM (" + n.Query + "\n) q WHERE (" + since("q") + " OR " + since("") + " IS NULL)"
	}
	if _, err := w.Exec(ctx, d.CreateTableAs(fresh, query)); err != nil {
		return err
	}
	added, err := w.Columns(ctx, "SELECT * FROM "+d.Table(fresh))
	if err != nil {
		return err
	}
	if r.prog.Options.Scratch {
		// fresh stays: the view reads it.
		return r.replace(ctx, n.Relation, "VIEW", d.CreateView(n.Relation, r.union(n, prior, fresh, old, added, since)))
	}
	if err := r.widen(ctx, n, old, added); err != nil {
		return err
	}
	err = w.Atomic(ctx, r.merge(n, fresh, added, since)...)
	_, mismatch := theirs(err)
	if err == nil || mismatch {
		_, _ = w.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+d.Table(fresh)) // the next build would replace it anyway
	}
	if mismatch {
		var e *diag.Error
		if errors.As(r.refused(n, err), &e) {
			return e.WithHint("where a column's type has changed, build the model anew: dray build %s --full-refresh", n.Name)
		}
	}
	return err
}

// since is the condition that a relation's row is in the window that an incremental model reads again; of "" it is the window's
// beginning itself, NULL where the model holds no time yet.
type since func(alias string) string

// window is what lookback: means where the query does not say itself, by is_incremental, what is new: the rows younger than the
// newest that is there, less lookback. What was in it is replaced as a whole, so that rows that are gone go. nil = no window.
func (r *runner) window(n *compile.Node, prior warehouse.Table, columns []warehouse.Column) (since, error) {
	lookback := n.Model.Lookback.Duration
	if lookback <= 0 || strings.Contains(n.Model.SQL, "is_incremental") {
		return nil, nil
	}
	d := r.prog.Dialect
	column, typ, ok := timeColumn(n.Model, columns)
	if !ok {
		return nil, diag.At(n.Model.At("lookback"), "model.lookback", "lookback of model %s needs to know when: it has no loaded_at, and no column of its primary key is a date or a time", n.Name).
			WithHint("add loaded_at: COLUMN, or say {%% if is_incremental() %%} in the query, where {{ this.lookback }} is the interval")
	}
	begin := fmt.Sprintf("(SELECT CAST(max(%s) AS %s) - %s FROM %s)", d.Quote(column), d.Type(warehouse.Timestamp), d.Interval(lookback), d.Table(prior))
	return func(alias string) string {
		if alias == "" {
			return begin
		}
		value := alias + "." + d.Quote(column)
		if !strings.EqualFold(typ, d.Type(warehouse.Timestamp)) { // not every engine compares a day with a time
			value = d.Cast(value, warehouse.Timestamp)
		}
		return value + " >= " + begin
	}, nil
}

// timeColumn is the column that says how old a row of a model is, and its type.
func timeColumn(m *config.Model, columns []warehouse.Column) (name, typ string, ok bool) {
	if m.LoadedAt != "" {
		for _, c := range columns {
			if strings.EqualFold(c.Name, m.LoadedAt) {
				typ = c.Type
			}
		}
		return m.LoadedAt, typ, true
	}
	for _, key := range m.PrimaryKey {
		for _, c := range columns {
			if strings.EqualFold(c.Name, key) && (c.Kind == warehouse.Date || c.Kind == warehouse.Timestamp) {
				return c.Name, c.Type, true
			}
		}
	}
	return "", "", false
}

// widen adds the columns that are new. It comes before the transaction, for engines that have no such statements in one: a column
// that was added and not filled is NULL, as it is for the rows that were there.
func (r *runner) widen(ctx context.Context, n *compile.Node, old, added []warehouse.Column) error {
	d := r.prog.Dialect
	for _, c := range added {
		if has(old, c.Name) {
			continue
		}
		if _, err := r.deps.Warehouse.Exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", d.Table(n.Relation), d.Quote(c.Name), c.Type)); err != nil {
			return err
		}
	}
	return nil
}

// merge is the transaction that takes fresh into the relation.
func (r *runner) merge(n *compile.Node, fresh warehouse.Table, added []warehouse.Column, window since) []string {
	d := r.prog.Dialect
	var statements, columns []string
	for _, c := range added {
		columns = append(columns, d.Quote(c.Name))
	}
	if window != nil {
		statements = append(statements, fmt.Sprintf("DELETE FROM %s WHERE %s", d.Table(n.Relation), window(d.Quote(n.Relation.Name))))
	}
	if len(n.Model.PrimaryKey) > 0 {
		statements = append(statements, fmt.Sprintf("DELETE FROM %s WHERE EXISTS (SELECT 1 FROM %s f WHERE %s)",
			d.Table(n.Relation), d.Table(fresh), r.sameKey(n, "f", d.Quote(n.Relation.Name))))
	}
	list := strings.Join(columns, ", ")
	return append(statements,
		fmt.Sprintf("INSERT INTO %s (%s) SELECT %[2]s FROM %s", d.Table(n.Relation), list, d.Table(fresh)))
}

// union is what merge would leave, as a query: a scratch build may not touch the relation, and should not copy it.
func (r *runner) union(n *compile.Node, prior, fresh warehouse.Table, old, added []warehouse.Column, window since) string {
	d := r.prog.Dialect
	var fromOld, fromNew []string
	for _, c := range old {
		fromOld = append(fromOld, "o."+d.Quote(c.Name))
		if has(added, c.Name) {
			fromNew = append(fromNew, "f."+d.Quote(c.Name))
		} else {
			fromNew = append(fromNew, "NULL AS "+d.Quote(c.Name))
		}
	}
	for _, c := range added {
		if !has(old, c.Name) {
			fromOld = append(fromOld, "NULL AS "+d.Quote(c.Name))
			fromNew = append(fromNew, "f."+d.Quote(c.Name))
		}
	}
	kept := fmt.Sprintf("SELECT %s FROM %s o WHERE TRUE", strings.Join(fromOld, ", "), d.Table(prior))
	if window != nil {
		kept += " AND NOT coalesce(" + window("o") + ", FALSE)"
	}
	if len(n.Model.PrimaryKey) > 0 {
		kept += fmt.Sprintf(" AND NOT EXISTS (SELECT 1 FROM %s f WHERE %s)", d.Table(fresh), r.sameKey(n, "f", "o"))
	}
	return fmt.Sprintf("%s UNION ALL SELECT %s FROM %s f", kept, strings.Join(fromNew, ", "), d.Table(fresh))
}

func (r *runner) sameKey(n *compile.Node, a, b string) string {
	d := r.prog.Dialect
	var parts []string
	for _, c := range n.Model.PrimaryKey {
		parts = append(parts, a+"."+d.Quote(c)+" IS NOT DISTINCT FROM "+b+"."+d.Quote(c)) // a NULL must not be added anew each time
	}
	return strings.Join(parts, " AND ")
}

func has(columns []warehouse.Column, name string) bool {
	return slices.ContainsFunc(columns, func(c warehouse.Column) bool { return strings.EqualFold(c.Name, name) })
}
