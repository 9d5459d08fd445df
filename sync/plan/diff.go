// Package plan computes, in the warehouse, what a run has to do: the difference between a sync's rows and its snapshot.
//
// It is the step between build and guard. One statement reads the model once, joins it with the snapshot by destination
// identity, compares hashes, and writes the changed rows alone, with all values to send, into plan_<sync> (I2, DESIGN §4, §5).
// Counts come from that table; no row enters the process here but a sample. Sums of I7 start here.
package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Forget is the operation of a row that left where nothing is to be removed: its snapshot row goes, nothing is sent.
const Forget destination.Operation = "forget"

// Reasons that are looked at by name.
const (
	Consent = "consent" // of a remove: its person does not consent any more; no guard holds it (DESIGN §7)
	Refresh = "refresh" // of an update: nothing changed, but it was acknowledged long ago
)

// The states of a planned row.
const (
	Send     = "send"
	Deferred = "deferred" // waits for its retry
	Parked   = "parked"
	Held     = "held"
	Skipped  = "skipped"
	HeldOut  = "held_out" // at the destination, and in the control group since: it stays there as it is
	Rejected = "rejected" // cannot be sent: no key, a key that others have
	// Same rows are those of another primary key than the snapshot remembers, and otherwise as acknowledged. They are no difference, and in
	// no group; the snapshot learns the new one, so that no later change of key is taken for that of the row that had it before.
	Same = "same"
)

// Options are what one run asks of its plan.
type Options struct {
	Now      time.Time // of the process; uncertain rows and retries are judged by it
	AsOf     time.Time // of the run: event.max_age
	LastRun  time.Time // when the sync's last run ended; zero = not known
	Standing Standing
	HasRetry bool     // the retry table is there
	Pending  []string // columns of pending_<sync>; nil = no such table
	Backfill *Backfill
	ViaReady bool // the snapshot of the sync named in via is there
	// Others are the snapshots of other syncs on the same destination and object: a delete looks into them first.
	Others []warehouse.Table
}

// Backfill sends rows again whatever the difference says.
type Backfill struct {
	Where   string   // SQL over the sync's rows; "" = all
	Limit   int64    // 0 = none
	Except  []string // runs whose delivered rows are left out: --resume
	Tried   []string // runs whose rows are left out unless they were not tried: the backfill's own, before it gave way to another run
	Resend  bool     // insert mode: also what was sent
	Removes bool     // --full in mirror mode: also what left
	Fields  []string // --fields: of rows that are known, these alone; nil = all
}

// Changes is a computed plan. It stands in Layout.Plan until the run closes.
type Changes struct {
	Layout   *Layout
	Rows     int64 // of the model, counted on their own; the control group among them
	Model    int64 // rows of the whole model, of which a backfill that removes what left picks Rows; 0 for all other plans
	HeldOut  int64 // the control group
	Snapshot int64 // rows of the snapshot
	Groups   []Group
	Same     int64 // rows whose primary key alone is another
	Highest  int64 // for Dialect.Slice
	PageRows int64 // planned rows a page; 0 = the usual number
	backfill bool
	only     bool // a backfill of some fields
}

// Group counts planned rows that share what the guards and the report look at.
type Group struct {
	Operation destination.Operation
	State     string
	Reason    string
	Known     bool // a difference from an acknowledged value: counts for max_changes
	Uncertain bool // sent before and never answered
	FromModel bool // a row of the model (or an owed insert), as against one that left
	Matched   bool // has a row in the snapshot
	Rows      int64
}

// Count sums the groups that pass.
func (c *Changes) Count(pass func(Group) bool) int64 {
	var n int64
	for _, g := range c.Groups {
		if pass(g) {
			n += g.Rows
		}
	}
	return n
}

// Unchanged is the rows of the snapshot that the plan does not touch: counted from the snapshot's side, so that the sum of I7,
// whose other side counts the model, is a check and not a definition.
//
// In insert mode the snapshot also remembers rows that left, so there it is the model's rows less the planned ones; a backfill
// looks at no others than those it sends.
func (c *Changes) Unchanged() int64 {
	switch {
	case c.backfill:
		return 0
	case c.Layout.Sync.Mode == destination.Insert:
		return c.Rows - c.HeldOut - c.Count(func(g Group) bool { return g.FromModel })
	}
	return c.Snapshot - c.Count(func(g Group) bool { return g.Matched })
}

// Reads is the query that makes the plan, so that what it reads can be estimated.
func (l *Layout) Reads(o Options) string { return l.diffSQL(o) }

// Diff computes the plan. Duplicate keys are an error before anything is sent, with their numbers (DESIGN §13).
func Diff(ctx context.Context, w Querier, l *Layout, o Options) (*Changes, error) {
	c, collided, err := diff(ctx, w, l, o)
	if err == nil && collided {
		return nil, errCollision
	}
	return c, err
}

var errCollision = &diag.Error{Kind: diag.Failed, Code: "plan.collision", Msg: "two destination keys have the same hash"}

// IsCollision tells whether Diff failed because two keys share a hash: the caller takes another Salt and plans again.
func IsCollision(err error) bool { return err == errCollision } //nolint:errorlint // the very value is returned unwrapped

func diff(ctx context.Context, w Querier, l *Layout, o Options) (c *Changes, collided bool, err error) {
	if _, err := w.Exec(ctx, l.Dialect.CreateTableAs(l.Plan, l.diffSQL(o), keyHashColumn)); err != nil {
		return nil, false, fmt.Errorf("planning %s: %w", l.Sync.Name, err)
	}
	c = &Changes{Layout: l, backfill: o.Backfill != nil, only: o.Backfill != nil && o.Backfill.Fields != nil}
	check, err := c.count(ctx, w, o)
	if err != nil {
		return nil, false, fmt.Errorf("counting the plan of %s: %w", l.Sync.Name, err)
	}
	if check.collisions > 0 {
		return nil, true, nil
	}
	if err := c.duplicates(ctx, w, check, o); err != nil {
		return nil, false, err
	}
	if (l.Sync.Object.Rekey || l.Sync.Object.MembersByID) && l.Sync.Mode != destination.Insert && l.Sync.Mode != destination.Update {
		if err := c.rekey(ctx, w, o, check); err != nil {
			return nil, false, fmt.Errorf("looking for changed keys of %s: %w", l.Sync.Name, err)
		}
	}
	if l.Sync.Object.MembersByID {
		if err := c.moved(ctx, w, o); err != nil {
			return nil, false, fmt.Errorf("looking for members of %s that have another key: %w", l.Sync.Name, err)
		}
	}
	return c, false, nil
}

// diffSQL is the one statement. n: the rows as they are sent, with their hash. j: those that differ from the snapshot, joined
// narrowly. s: the snapshot's wide rows of those alone. The outer query says what each row is.
func (l *Layout) diffSQL(o Options) string {
	if l.Sync.Mode == destination.Insert {
		return l.insertSQL(o)
	}
	snapshot := l.snapshotFrom(o.Standing, o.Now)
	join := "dest_key"
	n := "SELECT m.*, " + l.rowHash("m") + " AS " + l.hash()
	if !l.IntKey() {
		join = "key_hash"
		n += ", " + l.keyHash("m.dest_key") + " AS key_hash"
	}
	n += " FROM (" + l.mapped(&o) + ") m"
	nKey := "n." + join
	if !l.IntKey() { // a NULL key has a hash, and must meet nothing
		nKey = "CASE WHEN n.dest_key IS NOT NULL THEN n.key_hash END"
	}
	pass := "n.hash IS DISTINCT FROM s.hash"
	narrow := join + ", " + l.hash()
	if l.Sync.Refresh > 0 {
		pass += " OR " + l.due("s", o.Now)
		if narrow += ", acknowledged_at"; l.IntKey() {
			narrow += ", key_hash"
		}
	}
	from := "n"
	if l.dedupes() {
		from = "(SELECT * FROM n WHERE rn = 1 OR dest_key IS NULL) n"
		if l.Sync.Config.OnDuplicateKey.Act == "reject" { // also the first of a key is refused, whatever the snapshot has
			pass += " OR n.dup > 1"
		}
	}
	if l.follows(o) {
		pass += " OR n.primary_key IS DISTINCT FROM s.primary_key"
		narrow += ", primary_key"
	}
	if o.Backfill != nil {
		pass = "n.picked"
		if o.Backfill.Removes {
			pass += " OR n.hash IS NULL"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "WITH n AS (%s)%s,\nj AS %s(SELECT n.*, s.%s AS sk FROM %s FULL OUTER JOIN (SELECT %s FROM %s x) s ON %s = s.%[4]s WHERE %[9]s)",
		n, l.leftOut(), l.Dialect.Materialized(), join, from, narrow, snapshot, nKey, pass)
	fmt.Fprintf(&b, ",\nc AS (SELECT %s FROM j LEFT JOIN %s s ON j.sk = s.%s%s%s)", l.changeColumns(o), snapshot, join, l.retryJoin(o), l.viaJoin(o))
	b.WriteString("\nSELECT " + l.planColumns("c") + " FROM (" + l.judged(o) + ") c")
	if l.special() && o.Backfill == nil { // an update without an effective change is not planned
		b.WriteString(" WHERE NOT (c.operation = 'update' AND c.state = 'send' AND c.reason IS DISTINCT FROM '" + Refresh + "' AND c.was_uncertain IS NULL AND c.acknowledged AND " + l.quiet("c.changed") + ")")
	}
	if l.dedupes() {
		b.WriteString("\nUNION ALL\n" + l.duplicateRows())
		if o.Backfill != nil {
			b.WriteString(" AND n.picked")
		}
	}
	return b.String()
}

// follows tells whether the snapshot must know which row of the model has a record: where a record's key can be changed.
func (l *Layout) follows(o Options) bool {
	return l.Sync.Object.Rekey && l.Sync.Mode != destination.Insert && o.Backfill == nil
}

// leftOut are the relations by which rows that left are told apart: h, the keys of the control group, and w, those of rows that do
// not consent. In mirror mode a row that entered the control group has left like any other.
func (l *Layout) leftOut() string {
	var out string
	if l.Sync.HeldOut != "" && l.Sync.Mode != destination.Mirror {
		out += ",\nh AS (SELECT dest_key FROM (" + l.controls(l.DestKey) + ") k WHERE dest_key IS NOT NULL)"
	}
	if l.Sync.Withheld != "" {
		columns := []Column{l.PrimaryKey, l.DestKey}
		if l.Sync.Mode == destination.Insert {
			columns = l.columns()
		}
		out += ",\nw AS " + l.Dialect.Materialized() + "(" + l.withheld(columns...) + ")"
	}
	return out
}

// withdrawn is the condition on a row s of the snapshot that is not in the model: that it does not consent any more. Its person is known by either key, for profiles merge and records change hands.
func (l *Layout) withdrawn() string {
	return "(coalesce(s.primary_key IN (SELECT primary_key FROM w WHERE primary_key IS NOT NULL), false) OR coalesce(s.dest_key IN (SELECT dest_key FROM w WHERE dest_key IS NOT NULL), false))"
}

// due is the condition on a row of the snapshot that it was acknowledged long enough ago to be sent again: in the last third of
// `refresh`, spread by its key's hash, so that what was sent in one run does not all come back in one.
func (l *Layout) due(alias string, now time.Time) string {
	all := int64(l.Sync.Refresh / time.Second)
	spread := all / 3
	after := l.Dialect.Cast(fmt.Sprintf("%d + %s", all-spread, l.Dialect.Bucket(alias+".key_hash", spread+1)), warehouse.Int)
	return fmt.Sprintf("(%[1]s.hash >= 0 AND %s <= %s)", alias, l.Dialect.AddSeconds(alias+".acknowledged_at", after), l.Dialect.Time(now))
}

// quiet is the condition on a mask of changed fields under which none of them causes an update.
func (l *Layout) quiet(mask string) string {
	var parts []string
	for i := range l.Fields {
		if l.hashed(i) {
			parts = append(parts, fmt.Sprintf("substr(%s, %d, 1) = '0'", mask, i+1))
		}
	}
	if len(parts) == 0 {
		return "true"
	}
	return "(" + strings.Join(parts, " AND ") + ")"
}

// planColumns are the columns of plan_<sync>, in order.
func (l *Layout) planColumns(alias string) string {
	var cols []string
	for _, c := range l.columns() {
		cols = append(cols, alias+"."+l.Dialect.Quote(c.Column))
	}
	for _, c := range TailColumns() {
		cols = append(cols, alias+"."+c)
	}
	return strings.Join(cols, ", ")
}

// planRow are the columns of plan_<sync>, in order, with the given expressions; the others are NULL.
func (l *Layout) planRow(values map[string]string) string {
	d := l.Dialect
	var cols []string
	add := func(column, typ string) {
		value, ok := values[column]
		if !ok {
			value = "CAST(NULL AS " + typ + ")"
		}
		cols = append(cols, value+" AS "+d.Quote(column))
	}
	for _, c := range l.columns() {
		add(c.Column, c.Type)
	}
	for _, c := range l.tailTypes() {
		add(c[0], c[1])
	}
	return strings.Join(cols, ", ")
}

// TailColumns are a plan's own columns, behind the data.
func TailColumns() []string {
	return []string{
		"key_hash", "hash", "operation", "state", "reason", "changed", "remote_id", "origin", "acknowledged",
		"was_uncertain", "from_model", "matched", "attempts", "first_failed_at", "old_dest_key", "theirs",
	}
}

// tailTypes are the tail's columns with their types.
func (l *Layout) tailTypes() [][2]string {
	d := l.Dialect
	text, ts, flag := d.Type(warehouse.Text), d.Type(warehouse.Timestamp), d.Type(warehouse.Bool)
	types := map[string]string{
		"key_hash": d.HashType(), "hash": d.HashType(), "acknowledged": flag, "from_model": flag, "matched": flag,
		"was_uncertain": ts, "first_failed_at": ts, "attempts": d.Type(warehouse.Int), "old_dest_key": l.DestKey.Type,
	}
	out := make([][2]string, 0, len(TailColumns()))
	for _, name := range TailColumns() {
		typ, ok := types[name]
		if !ok {
			typ = text
		}
		out = append(out, [2]string{name, typ})
	}
	return out
}

// changeColumns joins both sides of a change into one row: new values as they take effect, or those acknowledged for a row that left.
func (l *Layout) changeColumns(o Options) string {
	d := l.Dialect
	left := "j.hash IS NULL" // only the snapshot has the row
	var cols []string
	both := func(c Column) {
		q := d.Quote(c.Column)
		cols = append(cols, "CASE WHEN "+left+" THEN s."+q+" ELSE j."+q+" END AS "+q)
	}
	both(l.PrimaryKey)
	both(l.DestKey)
	for _, c := range l.Keys {
		both(c)
	}
	mask := make([]string, 0, len(l.Fields))
	hashed := []string{"CASE WHEN " + left + " THEN s.dest_key ELSE j.dest_key END"}
	for i, c := range l.Fields {
		q := d.Quote(c.Column)
		effective := l.effective(i)
		if b := o.Backfill; b != nil && b.Fields != nil && !slices.Contains(b.Fields, c.Name) { // not sent, so not acknowledged (I1)
			effective = "CASE WHEN s.hash >= 0 THEN s." + q + " ELSE " + effective + " END"
		}
		value := "CASE WHEN " + left + " THEN s." + q + " ELSE " + effective + " END"
		cols = append(cols, value+" AS "+q)
		if l.hashed(i) {
			hashed = append(hashed, l.comparable("("+value+")", c))
		}
		mask = append(mask, l.differs(i, effective, o.Backfill))
	}
	if len(mask) == 0 {
		mask = append(mask, "''")
	}
	hash := "coalesce(j.hash, s.hash)" // a row that left has the hash it was acknowledged with
	if l.special() || o.Backfill != nil && o.Backfill.Fields != nil {
		hash = "CASE WHEN " + left + " THEN s.hash ELSE " + d.Hash(hashed...) + " END"
	}
	keyHash := l.keyHash("coalesce(j.dest_key, s.dest_key)")
	if !l.IntKey() {
		keyHash = "coalesce(j.key_hash, s.key_hash)"
	}
	cols = append(cols, keyHash+" AS key_hash", hash+" AS "+l.hash(), "s.hash AS s_hash",
		"CASE WHEN "+left+" THEN "+l.leaving()+" WHEN j.sk IS NOT NULL THEN 'update' ELSE 'add' END AS operation",
		"j.dest_key IS NULL AND NOT ("+left+") AS null_key", left+" AS gone", "j.sk IS NOT NULL AS matched",
		"CASE WHEN "+left+" OR j.sk IS NULL THEN NULL ELSE "+strings.Join(mask, " || ")+" END AS mask",
		"s.origin", "s.theirs", "s.uncertain_until AS was_uncertain", "coalesce(s.hash >= 0, false) AS acknowledged",
		"j.sk IS NOT NULL AND NOT ("+left+") AND j.dest_key <> s.dest_key AS collided")
	if l.Sync.HeldOut != "" && l.Sync.Mode != destination.Mirror {
		cols = append(cols, "coalesce("+left+" AND s.dest_key IN (SELECT dest_key FROM h), false) AS held_out")
	}
	if l.Sync.Withheld != "" {
		cols = append(cols, left+" AND "+l.withdrawn()+" AS withdrawn")
	}
	if l.Sync.Refresh > 0 {
		due := "false"
		if o.Backfill == nil {
			due = "coalesce(NOT (" + left + ") AND " + l.due("s", o.Now) + ", false)"
		}
		cols = append(cols, due+" AS due")
	}
	if l.follows(o) {
		cols = append(cols, "j.sk IS NOT NULL AND NOT ("+left+") AND j.primary_key IS DISTINCT FROM s.primary_key AS another")
	}
	if l.dedupes() {
		cols = append(cols, "coalesce(j.dup, 1) AS dup")
	} else {
		cols = append(cols, "1 AS dup")
	}
	return strings.Join(append(cols, l.remoteColumn(o), l.retryColumns(o)), ", ")
}

// differs is the mark of field i in the column changed: whether its effective value is another than the acknowledged one. A
// backfill sends what it was asked to send, whatever the difference says.
func (l *Layout) differs(i int, effective string, b *Backfill) string {
	c := l.Fields[i]
	switch {
	case b != nil && b.Fields != nil:
		if slices.Contains(b.Fields, c.Name) {
			return "'1'"
		}
		return "CASE WHEN s.hash >= 0 THEN '0' ELSE '1' END"
	case b != nil && l.Sync.Fields[i].Write != "on_add":
		return "'1'"
	}
	return "CASE WHEN " + l.comparable(effective, c) + " IS DISTINCT FROM " + l.comparable("s."+l.Dialect.Quote(c.Column), c) + " THEN '1' ELSE '0' END"
}

func (l *Layout) remoteColumn(o Options) string {
	if l.Sync.Via != "" && o.ViaReady {
		return "coalesce(s.remote_id, v.remote_id) AS remote_id"
	}
	return "s.remote_id"
}

func (l *Layout) viaJoin(o Options) string {
	if l.Sync.Via == "" || !o.ViaReady {
		return ""
	}
	d := l.Dialect
	return fmt.Sprintf(" LEFT JOIN %s v ON %s = %s AND v.remote_id IS NOT NULL", d.Table(l.Names.Snapshot(l.Sync.Via)),
		d.Cast("v.dest_key", warehouse.Text), d.Cast("coalesce(j.dest_key, s.dest_key)", warehouse.Text))
}

func (l *Layout) retryJoin(o Options) string {
	if !o.HasRetry {
		return ""
	}
	keyHash := l.keyHash("coalesce(j.dest_key, s.dest_key)")
	if !l.IntKey() {
		keyHash = "coalesce(j.key_hash, s.key_hash)"
	}
	return " LEFT JOIN " + l.Dialect.Table(l.Names.Retry(l.Sync.Name)) + " r ON r.key_hash = " + keyHash
}

func (l *Layout) retryColumns(o Options) string {
	if !o.HasRetry {
		d := l.Dialect
		none := func(k warehouse.Kind) string { return d.Cast("NULL", k) }
		return "CAST(NULL AS " + d.HashType() + ") AS r_hash, " + none(warehouse.Text) + " AS r_operation, " + none(warehouse.Text) + " AS r_reason, " + none(warehouse.Int) + " AS r_attempts, " +
			none(warehouse.Timestamp) + " AS r_first_at, " + none(warehouse.Timestamp) + " AS next_attempt_at, false AS parked"
	}
	return "r.row_hash AS r_hash, r.operation AS r_operation, r.reason AS r_reason, r.attempts AS r_attempts, r.first_at AS r_first_at, r.next_attempt_at, r.parked"
}

// judged says what becomes of each joined row.
func (l *Layout) judged(o Options) string {
	d := l.Dialect
	// A rejected row waits only while it is the same row (DESIGN §6.7); an uncertain one never waits.
	waits := "c.was_uncertain IS NULL AND c.r_operation = c.operation AND coalesce(c.r_hash, -3) = coalesce(c.hash, -3)"
	due := "c.next_attempt_at > " + d.Time(o.Now)
	var v verdicts
	if l.Sync.Mode != destination.Insert {
		v.when("c.collided", "collided", "collision") // two keys, one hash: the plan is made again with another salt
	}
	if at := l.atVendor(o); at != "" {
		v.when(at, Pending, "pending")
		if l.Sync.Object.MembersByID { // the record's last change, under another key, is not known to be over
			v.when("c.gone AND c.remote_id IN (SELECT remote_id FROM "+d.Table(l.Names.Pending(l.Sync.Name))+" WHERE job IS NOT NULL AND remote_id IS NOT NULL)", Deferred, "moved")
		}
	}
	if l.Sync.Config.NullKey == "skip" {
		v.when("c.null_key", Skipped, "null_key")
	} else {
		v.when("c.null_key", Rejected, "null_key")
	}
	if l.dedupes() && l.Sync.Config.OnDuplicateKey.Act == "reject" {
		v.when("c.dup > 1 AND NOT c.gone", Rejected, "duplicate_key")
	}
	if l.maxAge() {
		v.when("c.event_at < "+d.Time(o.AsOf.Add(-l.Sync.Config.Event.MaxAge.Duration)), Skipped, "too_old")
	}
	if l.Sync.Mode == destination.Insert && l.Sync.Config.OnExpired == "drop" {
		v.when("c.expired", Skipped, "expired")
	}
	if l.Sync.HeldOut != "" && (l.Sync.Mode == destination.Upsert || l.Sync.Mode == destination.Update) {
		condition := "c.held_out"
		if l.Sync.Withheld != "" {
			condition += " AND NOT c.withdrawn"
		}
		v.when(condition, HeldOut, HeldOut)
	}
	if l.Sync.Withheld != "" && l.Sync.Mode == destination.Insert { // owed, and not to be sent any more
		v.when("c.withdrawn", Skipped, Consent)
	}
	if l.leaves() == destination.OpRemove {
		for _, h := range l.heldRemoves(o) {
			condition := "c.gone AND " + h[0]
			if l.Sync.Withheld != "" {
				condition = "NOT c.withdrawn AND " + condition
			}
			v.when(condition, h[1], h[2])
		}
	}
	if o.Backfill == nil {
		v.when(waits+" AND c.parked", Parked, "parked")
		v.when(waits+" AND c.r_reason = 'not_found' AND "+due, Skipped, "not_found")
		v.when(waits+" AND "+due, Deferred, "retry")
	}
	// Another row under the same key starts its attempts anew.
	same := "CASE WHEN " + waits + " THEN c."
	changed := "c.mask"
	if l.Sync.Withheld != "" && l.Sync.Mode != destination.Insert {
		v.when("c.withdrawn", Send, Consent)
	}
	if l.Sync.Refresh > 0 {
		// All of its fields are sent: none is known to differ.
		refreshed := "c.due AND c.was_uncertain IS NULL AND " + l.quiet("c.mask")
		v.when(refreshed, Send, Refresh)
		changed = "CASE WHEN NOT (" + refreshed + ") THEN c.mask END"
	}
	if l.follows(o) {
		v.when("c.another AND c.acknowledged AND c.was_uncertain IS NULL AND "+l.quiet("c.mask"), Same, "")
	}
	return fmt.Sprintf("SELECT c.*, "+changed+" AS changed, "+same+"r_attempts END AS attempts, "+same+"r_first_at END AS first_failed_at, CASE%s ELSE 'send' END AS state, CASE%s END AS reason, NOT c.gone AS from_model, CAST(NULL AS %s) AS old_dest_key FROM c",
		v.state.String(), v.reason.String(), l.DestKey.Type)
}

// verdicts builds the two CASE expressions of state and reason from one list of rules.
type verdicts struct{ state, reason strings.Builder }

func (v *verdicts) when(condition, state, reason string) {
	fmt.Fprintf(&v.state, " WHEN %s THEN '%s'", condition, state)
	fmt.Fprintf(&v.reason, " WHEN %s THEN '%s'", condition, reason)
}

// leaves is what is planned for a row that the model does not have any more.
func (l *Layout) leaves() destination.Operation {
	if l.Sync.Mode == destination.Mirror {
		return destination.OpRemove
	}
	return Forget
}

// leaving is the operation of a row that left, as SQL: one that does not consent any more is removed in every mode.
func (l *Layout) leaving() string {
	op := l.Dialect.Text(string(l.leaves()))
	if l.Sync.Withheld == "" || l.leaves() == destination.OpRemove {
		return op
	}
	return "CASE WHEN " + l.withdrawn() + " THEN 'remove' ELSE " + op + " END"
}

// heldRemoves are the removes that are not sent, with the reason: on_remove: ignore, records that Dray did not create, records
// that another sync delivers too (DESIGN §5, Origin).
func (l *Layout) heldRemoves(o Options) [][3]string {
	var out [][3]string
	act := l.Sync.OnRemove
	if act.Act == "ignore" {
		return [][3]string{{"true", Skipped, "ignored_on_remove"}}
	}
	if act.Act == "delete" && !act.Matched && !l.Sync.Spec.OwnsObjects && !l.Sync.Object.Membership {
		out = append(out, [3]string{"c.origin IS DISTINCT FROM 'created'", Held, "not_ours"})
	}
	if act.Act == "delete" && !l.Sync.Object.Membership {
		d := l.Dialect
		for _, t := range o.Others {
			out = append(out, [3]string{"EXISTS (SELECT 1 FROM " + d.Table(t) + " x WHERE " + d.Cast("x.dest_key", warehouse.Text) + " = " +
				d.Cast("c.dest_key", warehouse.Text) + ")", Held, "other_sync"})
		}
	}
	return out
}

// duplicateRows are the rows that on_duplicate_key leaves out beside the first of their key.
func (l *Layout) duplicateRows() string {
	d := l.Dialect
	st, why := Skipped, "duplicate_key"
	if l.Sync.Config.OnDuplicateKey.Act == "reject" {
		st = Rejected
	}
	values := map[string]string{
		"key_hash": l.keyHash("n.dest_key"), "hash": "n.hash", "operation": "'add'", "state": "'" + st + "'", "reason": "'" + why + "'",
		"acknowledged": "false", "from_model": "true", "matched": "false",
	}
	for _, c := range l.columns() {
		values[c.Column] = "n." + d.Quote(c.Column)
	}
	return "SELECT " + l.planRow(values) + " FROM n WHERE n.rn > 1 AND n.dest_key IS NOT NULL"
}
