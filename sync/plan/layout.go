package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/compile"
)

// Hash values that no row has: a row's own hash is never negative.
const (
	hashCastFailed = -1 // the acknowledged value could not be carried over to a new type: an ordinary difference
	HashUncertain  = -2 // sent and not answered: always in the plan (I1)
)

// Column is one column of a snapshot and a plan.
type Column struct {
	Name   string         `json:"name"`   // at the destination
	Column string         `json:"column"` // in the tables
	Type   string         `json:"type"`   // the engine's
	Kind   warehouse.Kind `json:"kind"`
	Expr   string         `json:"-"`              // over Input
	Gone   string         `json:"gone,omitempty"` // since when the field is not mapped any more (RFC 3339)
}

// Layout is how one sync stands in the warehouse: what plan, deliver and commit share. Immutable after Describe.
type Layout struct {
	Sync       *compile.Sync
	Dialect    warehouse.Dialect
	Names      compile.Names // where snapshot, retry and pending live
	PrimaryKey Column
	DestKey    Column
	// Keys are the identity's columns as sent. Where KeyIsDest, the one key is DestKey itself and no column is kept for it.
	Keys      []Column
	KeyIsDest bool
	Fields    []Column
	Salt      int64 // of key hashes; changed when two keys collide
	// Plan is where this run's changes stand: the real table, or one in scratch.
	Plan warehouse.Table
}

// IntKey tells whether rows are joined on the key itself; other keys are joined on their hash (DESIGN §4, measured).
func (l *Layout) IntKey() bool { return l.DestKey.Kind == warehouse.Int }

// Querier is all that planning asks of a warehouse.
type Querier interface {
	Exec(ctx context.Context, sql string) (int64, error)
	Query(ctx context.Context, sql string) (warehouse.Rows, error)
	Columns(ctx context.Context, query string) ([]warehouse.Column, error)
	Exists(ctx context.Context, table warehouse.Table) (bool, error)
	Atomic(ctx context.Context, statements ...string) error
}

// Describe asks the warehouse for the types of what a sync sends. One statement, nothing is read.
func Describe(ctx context.Context, w Querier, d warehouse.Dialect, s *compile.Sync, names compile.Names, planTable warehouse.Table) (*Layout, error) {
	l := &Layout{Sync: s, Dialect: d, Names: names, Plan: planTable}
	l.expressions()
	columns, err := w.Columns(ctx, l.mapped(nil))
	if err != nil {
		return nil, fmt.Errorf("reading the columns of %s: %w", s.Name, err)
	}
	i := 0
	typed := func(c *Column) {
		c.Type, c.Kind = columns[i].Type, columns[i].Kind
		if strings.EqualFold(c.Type, "NULL") || strings.EqualFold(c.Type, `"NULL"`) {
			c.Type = d.Type(warehouse.Text)
		}
		i++
	}
	typed(&l.PrimaryKey)
	typed(&l.DestKey)
	for k := range l.Keys {
		typed(&l.Keys[k])
	}
	for f := range l.Fields {
		typed(&l.Fields[f])
		if c := &l.Fields[f]; !s.Fields[f].Ordered {
			c.Expr = d.SortArray(c.Expr, warehouse.Column{Name: c.Column, Type: c.Type, Kind: c.Kind})
		}
	}
	return l, nil
}

// expressions settles what each column is computed from.
func (l *Layout) expressions() {
	s, d := l.Sync, l.Dialect
	l.PrimaryKey = Column{Name: "primary_key", Column: "primary_key", Expr: tuple(d, quoteAll(d, s.PrimaryKey))}
	l.KeyIsDest = len(s.Keys) == 1 && len(s.Keys[0]) == 1 && s.Mode != destination.Insert
	if l.KeyIsDest {
		k := s.Keys[0][0]
		l.DestKey = Column{Name: k.Name, Column: "dest_key", Expr: k.Expr}
		l.Keys = nil
	} else {
		l.DestKey = Column{Name: "dest_key", Column: "dest_key", Expr: destKeyOf(d, s)}
		for _, k := range keyColumns(d, s) {
			k.Column = fmt.Sprintf("key_%d", len(l.Keys)+1)
			l.Keys = append(l.Keys, k)
		}
	}
	for _, f := range s.Fields {
		l.Fields = append(l.Fields, Column{Name: f.Name, Column: f.Column, Expr: f.Expr})
	}
}

// destKeyOf is the identity as one value: the event id in insert mode, otherwise the first complete alternative.
func destKeyOf(d warehouse.Dialect, s *compile.Sync) string {
	if s.Mode == destination.Insert {
		return tuple(d, quoteAll(d, s.EventID))
	}
	var b strings.Builder
	b.WriteString("CASE")
	for i, alternative := range s.Keys {
		exprs := make([]string, 0, len(alternative)+1)
		if len(s.Keys) > 1 {
			exprs = append(exprs, fmt.Sprint(i))
		}
		for _, k := range alternative {
			exprs = append(exprs, k.Expr)
		}
		fmt.Fprintf(&b, " WHEN %s THEN %s", allPresent(alternative), d.JSONArray(exprs...))
	}
	b.WriteString(" END")
	return b.String()
}

// keyColumns are the columns as sent: those of the alternative that is used, the others NULL.
func keyColumns(d warehouse.Dialect, s *compile.Sync) []Column {
	var out []Column
	earlier := ""
	for _, alternative := range s.Keys {
		for _, k := range alternative {
			expr := k.Expr
			if len(s.Keys) > 1 {
				expr = "CASE WHEN " + earlier + allPresent(alternative) + " THEN " + k.Expr + " END"
			}
			if i := slices.IndexFunc(out, func(c Column) bool { return c.Name == k.Name }); i >= 0 {
				out[i].Expr = "coalesce(" + out[i].Expr + ", " + expr + ")"
				continue
			}
			out = append(out, Column{Name: k.Name, Expr: expr})
		}
		earlier += "NOT (" + allPresent(alternative) + ") AND "
	}
	return out
}

func allPresent(columns []compile.KeyColumn) string {
	parts := make([]string, len(columns))
	for i, k := range columns {
		parts[i] = k.Expr + " IS NOT NULL"
	}
	return strings.Join(parts, " AND ")
}

// tuple is one value as it is and several as a JSON text; NULL where any is NULL.
func tuple(d warehouse.Dialect, exprs []string) string {
	if len(exprs) == 1 {
		return exprs[0]
	}
	present := make([]string, len(exprs))
	for i, e := range exprs {
		present[i] = e + " IS NOT NULL"
	}
	return "CASE WHEN " + strings.Join(present, " AND ") + " THEN " + d.JSONArray(exprs...) + " END"
}

func quoteAll(d warehouse.Dialect, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = d.Quote(n)
	}
	return out
}

// columns are all data columns in the order of the tables.
func (l *Layout) columns() []Column {
	out := []Column{l.PrimaryKey, l.DestKey}
	out = append(out, l.Keys...)
	return append(out, l.Fields...)
}

// SentKeys are the columns of the identity as sent.
func (l *Layout) SentKeys() []Column {
	if l.KeyIsDest {
		return []Column{l.DestKey}
	}
	return l.Keys
}

// mapped is the query of the rows as they are sent; with what planning needs beside the data where o is set.
func (l *Layout) mapped(o *Options) string {
	extra := ""
	if o != nil {
		extra = l.extraColumns(o)
	}
	return "SELECT " + selected(l.Dialect, l.columns()) + extra + " FROM " + l.rows()
}

// rows are the FROM item and condition of the rows that may be sent: those of the sync without the control group.
func (l *Layout) rows() string {
	out := "(" + l.Sync.Input + ") src"
	if l.Sync.HeldOut != "" {
		out += " WHERE NOT " + l.Sync.HeldOut
	}
	return out
}

// controls are the keys of the control group.
func (l *Layout) controls(columns ...Column) string {
	return "SELECT " + selected(l.Dialect, columns) + " FROM (" + l.Sync.Input + ") src WHERE " + l.Sync.HeldOut
}

// withheld are the keys of all rows that do not consent.
func (l *Layout) withheld(columns ...Column) string {
	return "SELECT " + selected(l.Dialect, columns) + " FROM (" + l.Sync.Withheld + ") src"
}

func selected(d warehouse.Dialect, columns []Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = c.Expr + " AS " + d.Quote(c.Column)
	}
	return strings.Join(parts, ", ")
}

// extraColumns are what planning needs beside the data: the place among duplicates, the event's time.
func (l *Layout) extraColumns(o *Options) string {
	var b strings.Builder
	s := l.Sync
	if l.dedupes() {
		order := "1"
		if dup := s.Config.OnDuplicateKey; dup.OrderBy != "" {
			order = dup.OrderBy
		}
		fmt.Fprintf(&b, ", row_number() OVER (PARTITION BY %[1]s ORDER BY %[2]s, %[3]s) AS rn, count(*) OVER (PARTITION BY %[1]s) AS dup",
			l.DestKey.Expr, order, l.PrimaryKey.Expr)
	}
	if l.maxAge() {
		fmt.Fprintf(&b, ", %s AS event_at", l.Dialect.Cast(l.Dialect.Quote(s.Config.Event.At), warehouse.Timestamp))
	}
	if o.Backfill != nil {
		fmt.Fprintf(&b, ", %s AS picked", l.picked(o.Backfill))
	}
	return b.String()
}

// picked is the condition of the rows that a backfill sends, over the sync's rows.
func (l *Layout) picked(b *Backfill) string {
	d := l.Dialect
	where := "true"
	if b.Where != "" {
		where = "coalesce((" + b.Where + "), false)"
	}
	without := func(runs []string, outcomes string) {
		if len(runs) == 0 {
			return
		}
		quoted := make([]string, len(runs))
		for i, id := range runs {
			quoted[i] = d.Text(id)
		}
		where += fmt.Sprintf(" AND %s NOT IN (SELECT key_hash FROM %s WHERE run_id IN (%s) AND %s)",
			d.HashText(l.keyHash(l.DestKey.Expr)), d.Table(l.Names.Deliveries()), strings.Join(quoted, ", "), outcomes)
	}
	without(b.Except, "outcome IN ('delivered', 'accepted')")
	without(b.Tried, "outcome <> 'deferred'")
	if b.Limit > 0 {
		where += fmt.Sprintf(" AND row_number() OVER (PARTITION BY %s ORDER BY %s) <= %d", where, l.DestKey.Expr, b.Limit)
	}
	return where
}

func (l *Layout) dedupes() bool {
	dup := l.Sync.Config.OnDuplicateKey
	return dup != nil && (dup.Act == "reject" || dup.Act == "keep_first") && l.Sync.Mode != destination.Insert
}

func (l *Layout) maxAge() bool {
	e := l.Sync.Config.Event
	return l.Sync.Mode == destination.Insert && e != nil && e.At != "" && e.MaxAge.Duration > 0
}

// comparable is an expression that is equal exactly where the column's values are.
func (l *Layout) comparable(expr string, c Column) string {
	return l.Dialect.Comparable(expr, warehouse.Column{Name: c.Column, Type: c.Type, Kind: c.Kind})
}

// rowHash hashes the key and the fields whose change causes an update, of a relation's alias.
func (l *Layout) rowHash(alias string) string {
	d := l.Dialect
	exprs := []string{alias + ".dest_key"}
	for i, c := range l.Fields {
		if l.hashed(i) {
			exprs = append(exprs, l.comparable(alias+"."+d.Quote(c.Column), c))
		}
	}
	return d.Hash(exprs...)
}

// hash is the column of that name: a word of its own in some dialects.
func (l *Layout) hash() string { return l.Dialect.Quote("hash") }

func (l *Layout) hashed(i int) bool { f := l.Sync.Fields[i]; return f.Trigger && f.Write != "on_add" }

func (l *Layout) keyHash(destKey string) string {
	return l.Dialect.Hash(fmt.Sprint(l.Salt), l.comparable(destKey, l.DestKey)) // no salt tells apart what the engine gives one hash
}

// special tells whether some field's effective value differs from its new one.
func (l *Layout) special() bool {
	for _, f := range l.Sync.Fields {
		if f.Omit || f.Tolerance > 0 || f.Write == "on_add" {
			return true
		}
	}
	return false
}

// effective is what the destination holds after the update: the new value, or the acknowledged one where ours is not sent.
func (l *Layout) effective(i int) string { return l.effectiveOf(i, "j", "j.sk IS NOT NULL") }

// effectiveOf is effective where the new row has the alias n, and matched says that s is the snapshot's row of the same record.
func (l *Layout) effectiveOf(i int, alias, matched string) string {
	f, q := l.Sync.Fields[i], l.Dialect.Quote(l.Fields[i].Column)
	n, s := alias+"."+q, "s."+q
	value := n
	if f.Tolerance > 0 {
		d := l.Dialect
		value = fmt.Sprintf("CASE WHEN abs(%s - %s) <= %v THEN %s ELSE %s END", d.Cast(n, warehouse.Float), d.Cast(s, warehouse.Float), f.Tolerance, s, n)
	}
	if f.Write == "on_add" {
		// An add that was never acknowledged may not have been applied: then this is the add.
		value = "CASE WHEN s.acknowledged_at IS NOT NULL THEN " + s + " ELSE " + n + " END"
	}
	if f.Write == "if_empty" { // what we wrote there, or found, stays
		value = "CASE WHEN " + matched + " AND (" + s + " IS NOT NULL OR " + l.isTheirs("s", i) + ") THEN " + s + " ELSE " + n + " END"
	}
	if f.Omit && f.Write != "if_empty" {
		value = "coalesce(" + value + ", " + s + ")"
	}
	return value
}

// isTheirs tells whether the destination had a value of its own in field i, so that ours was not written.
func (l *Layout) isTheirs(alias string, i int) string {
	return l.Dialect.Contains("coalesce("+alias+".theirs, '')", l.Dialect.Text(Theirs(l.Fields[i])))
}

// Theirs is how the snapshot's column theirs names a field whose value at the destination is its own (write: if_empty).
func Theirs(c Column) string { return "," + c.Column + "," }

// IfEmpty are the fields that are written only where the destination has nothing.
func (l *Layout) IfEmpty() []int {
	var out []int
	for i, f := range l.Sync.Fields {
		if f.Write == "if_empty" && l.Sync.Mode != destination.Insert {
			out = append(out, i)
		}
	}
	return out
}

// Lookups are the fields whose value is that of another record, whose id is sent.
func (l *Layout) Lookups() []int {
	var out []int
	for i, f := range l.Sync.Fields {
		if f.Lookup != nil {
			out = append(out, i)
		}
	}
	return out
}

// HashVersion changes when the same values could hash differently: engine, expressions or column types.
func (l *Layout) HashVersion() string {
	var b strings.Builder
	b.WriteString(l.Dialect.HashVersion())
	fmt.Fprintf(&b, " %s", l.DestKey.Type)
	if l.comparable("k", l.DestKey) != "k" {
		b.WriteString(" apart")
	}
	for i, c := range l.Fields {
		if l.hashed(i) && l.Sync.Mode != destination.Insert {
			fmt.Fprintf(&b, " %q:%s", c.Column, c.Type)
		}
	}
	return b.String()
}
