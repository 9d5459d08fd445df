// Package commit writes outcomes into the warehouse: the snapshot, deliveries, retries and owed inserts (I1).
//
// It is the step after deliver. Delivered rows are committed by pages, with a few set-based statements in one transaction; only
// rows with another outcome are loaded. A page is committed once: deliveries name run and page, and recovery skips those.
package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/deliver"
	"github.com/dray-dev/dray/sync/ledger"
	"github.com/dray-dev/dray/sync/plan"
)

// Committer commits the outcomes of one plan. Not safe for concurrent use.
type Committer struct {
	W       warehouse.Warehouse
	Names   compile.Names
	Plan    warehouse.Table
	Sync    string
	RunID   string
	Mode    destination.Mode
	Columns ledger.Standing // of plan and snapshot
	Held    []destination.Operation
	Pages   int64 // of the plan
	Highest int64
	// Own: rows sent are Dray's own, so that their origin is created although the vendor does not tell (DESIGN §5).
	Own bool
	// IfEmpty are the columns of fields that are written only where the destination has nothing.
	IfEmpty     []string
	GiveUpAfter time.Duration
	OnUncertain string
	Now         func() time.Time
	// Has tells which operations the plan has; statements for others are left out. nil = all.
	Has func(destination.Operation) bool
	// NoRetries: the table of rejected rows is known to be empty.
	NoRetries bool

	ended bool // Plan holds the rows of a job that ended
}

// Set is what one commit takes.
type Set struct {
	// Pages whose rows all have an outcome: Default for those that Rows does not list.
	Pages   []int64
	Default string    // delivered, or in recovery uncertain
	Until   time.Time // of Default uncertain
	Rows    []deliver.Row
}

// Empty tells whether there is nothing to commit.
func (s Set) Empty() bool { return len(s.Pages) == 0 && len(s.Rows) == 0 }

// Commit writes a set in one transaction, together with more statements (those that close a run).
func (c *Committer) Commit(ctx context.Context, s Set, more ...string) error {
	if s.Empty() && len(more) == 0 {
		return nil
	}
	if err := c.load(ctx, s.Rows); err != nil {
		return fmt.Errorf("loading outcomes of %s: %w", c.Sync, err)
	}
	var statements []string
	if !s.Empty() {
		statements = c.statements(s)
	}
	if len(s.Rows) > 0 {
		statements = append(statements, "DELETE FROM "+c.table(c.Names.Outcomes(c.Sync))+" WHERE true")
	}
	if err := c.W.Atomic(ctx, append(statements, more...)...); err != nil {
		return fmt.Errorf("committing %s: %w", c.Sync, err)
	}
	return nil
}

func (c *Committer) table(t warehouse.Table) string { return c.W.Dialect().Table(t) }

// load puts the exceptional rows where the statements join them: the table is made for that, and empty between commits.
func (c *Committer) load(ctx context.Context, rows []deliver.Row) error {
	if len(rows) == 0 {
		return nil
	}
	d, t := c.W.Dialect(), c.Names.Outcomes(c.Sync)
	text, num, ts := d.Type(warehouse.Text), d.Type(warehouse.Int), d.Type(warehouse.Timestamp)
	types := []string{num, text, text, text, text, text, num, ts, ts, text, text, num}
	names := []string{"key_hash", "class", "code", "message", "remote_id", "origin", "attempt", "sent_at", "until", "theirs", "job", "seq"}
	cols := make([]string, len(names))
	for i, name := range names {
		cols[i] = "CAST(NULL AS " + types[i] + ") AS " + name
	}
	if _, err := c.W.Exec(ctx, d.CreateTableAs(t, "SELECT "+strings.Join(cols, ", ")+" LIMIT 0")); err != nil {
		return err
	}
	i := 0
	_, err := c.W.Load(ctx, t, names, func() ([]any, error) {
		if i == len(rows) {
			return nil, nil
		}
		r := rows[i]
		i++
		return []any{r.KeyHash, r.Class, null(r.Code), null(r.Message), null(r.RemoteID), null(r.Origin), int64(r.Attempt), instant(r.SentAt), instant(r.Until), null(r.Theirs), null(r.Job), int64(r.Seq)}, nil
	})
	return err
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func instant(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

// outcomes is the FROM item of the set's rows: the plan's columns with class, code, message, attempt, until, o_remote and o_origin.
func (c *Committer) outcomes(s Set) string {
	d := c.W.Dialect()
	inPages := "false"
	if len(s.Pages) > 0 {
		inPages = c.slices(s.Pages)
	}
	class := d.Text(s.Default)
	page := d.SliceNumber("p", c.Pages, c.Highest)
	if c.ended {
		page = fmt.Sprint(jobPage)
	}
	if len(s.Rows) == 0 {
		ts := "CAST(" + untilLiteral(d, s.Until) + " AS " + d.Type(warehouse.Timestamp) + ")"
		text := "CAST(NULL AS " + d.Type(warehouse.Text) + ")"
		return fmt.Sprintf("(SELECT p.*, %s AS page_, %s AS class, %s AS o_code, %[3]s AS o_message, %[3]s AS o_remote, %[3]s AS o_origin, %[3]s AS o_theirs, 1 AS o_attempt, %s AS until FROM %s p WHERE %s AND %s)",
			page, class, text, ts, c.table(c.Plan), plan.Sending(c.Held), inPages)
	}
	return fmt.Sprintf("(SELECT p.*, %s AS page_, coalesce(o.class, %s) AS class, o.code AS o_code, o.message AS o_message, o.remote_id AS o_remote, o.origin AS o_origin, o.theirs AS o_theirs, coalesce(o.attempt, 1) AS o_attempt, o.sent_at AS o_sent, o.job AS o_job, o.seq AS o_seq, CASE WHEN o.class IS NULL THEN CAST(%s AS %s) ELSE o.until END AS until FROM %s p LEFT JOIN %s o ON o.key_hash = p.key_hash WHERE %s AND (o.class IS NOT NULL OR %s))",
		page, class, untilLiteral(d, s.Until), d.Type(warehouse.Timestamp), c.table(c.Plan), c.table(c.Names.Outcomes(c.Sync)),
		plan.Sending(c.Held), inPages)
}

func untilLiteral(d warehouse.Dialect, t time.Time) string {
	if t.IsZero() {
		return "NULL"
	}
	return d.Time(t)
}

// slices joins neighbouring pages into ranges.
func (c *Committer) slices(pages []int64) string {
	if int64(len(pages)) == c.Pages {
		return "true"
	}
	pages = slices.Clone(pages)
	slices.Sort(pages)
	var parts []string
	for i := 0; i < len(pages); {
		k := i
		for k+1 < len(pages) && pages[k+1] == pages[k]+1 {
			k++
		}
		parts = append(parts, c.W.Dialect().Slice("p", pages[i], pages[k]+1, c.Pages, c.Highest))
		i = k + 1
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

const (
	acknowledged = "class IN ('delivered', 'accepted')" // a row that is submitted enters the snapshot when its job ends
	settled      = acknowledged + " AND until IS NULL"
)

func (c *Committer) has(ops ...destination.Operation) bool {
	return c.Has == nil || slices.ContainsFunc(ops, c.Has)
}

// statements are those of one set, in order.
func (c *Committer) statements(s Set) []string {
	x := c.outcomes(s)
	plain := len(s.Rows) == 0 && s.Default == deliver.Delivered
	var out []string
	if c.Mode == destination.Insert {
		out = c.inserted(x, plain)
	} else {
		out = c.merged(x, plain)
	}
	out = append(out, c.retries(x, plain)...)
	if slices.ContainsFunc(s.Rows, func(r deliver.Row) bool { return r.Class == deliver.Submitted }) {
		out = append(out, c.submit(x))
	}
	return append(out, c.deliveries(x))
}

// merged brings the outcomes of adds, updates, removes and rekeys into the snapshot.
func (c *Committer) merged(x string, plain bool) []string {
	snapshot := c.table(c.Names.Snapshot(c.Sync))
	now := c.W.Dialect().Time(c.Now())
	var out []string
	if c.has(destination.OpUpdate, destination.OpRemove) {
		// Rewritten below, gone, or not there: the record was deleted at the vendor, so that the next plan adds it.
		out = append(out, "DELETE FROM "+snapshot+" WHERE dest_key IN (SELECT dest_key FROM "+x+" x WHERE (operation = 'update' AND ("+acknowledged+
			" OR class = 'not_found')) OR (operation = 'remove' AND "+settled+"))")
	}
	if c.has(destination.OpRekey) {
		out = append(out, "DELETE FROM "+snapshot+" WHERE dest_key IN (SELECT old_dest_key FROM "+x+" x WHERE operation = 'rekey' AND ("+acknowledged+" OR class = 'not_found'))")
		if !plain {
			out = append(out, c.markUncertain(snapshot, x, "old_dest_key", "operation = 'rekey' AND class = 'uncertain'"))
		}
	}
	if !plain && c.has(destination.OpUpdate, destination.OpRemove) {
		out = append(out, c.markUncertain(snapshot, x, "dest_key", "(operation IN ('update', 'remove') AND class = 'uncertain') OR (operation = 'remove' AND "+acknowledged+" AND until IS NOT NULL)"))
	}
	if plain {
		return append(out, c.write(snapshot, x, "operation <> 'remove'", now, true))
	}
	return append(out,
		c.write(snapshot, x, "operation <> 'remove' AND "+acknowledged, now, true),
		c.write(snapshot, x, "operation = 'add' AND class = 'uncertain'", now, false))
}

// markUncertain gives rows the term that delivery found: no shorter than an earlier one, unless the clock was set back since.
func (c *Committer) markUncertain(snapshot, x, key, where string) string {
	return fmt.Sprintf("UPDATE %s AS s SET %s = %d, uncertain_until = x.until FROM %s x WHERE s.dest_key = x.%s AND (%s)",
		snapshot, c.W.Dialect().Quote("hash"), plan.HashUncertain, x, key, where)
}

// write inserts snapshot rows: with the values that were acknowledged, or, for an add that was not answered, with none.
func (c *Committer) write(snapshot, x, where, now string, known bool) string {
	d := c.W.Dialect()
	var names, values []string
	for i, col := range c.columns() {
		q := d.Quote(col.Column)
		names = append(names, q)
		if !known && i >= 2+len(c.Columns.Keys) {
			values = append(values, "NULL")
			continue
		}
		value := "x." + q
		if i >= 2+len(c.Columns.Keys) && slices.Contains(c.IfEmpty, col.Column) { // theirs is not read, so it is not known
			value = "CASE WHEN NOT " + d.Contains("coalesce(x.o_theirs, '')", d.Text(plan.Theirs(col))) + " THEN " + value + " END"
		}
		values = append(values, value)
	}
	// A record that Dray created stays so although a later upsert matches it.
	origin := "CASE WHEN x.operation = 'add' THEN coalesce(x.o_origin, x.origin, 'unknown') ELSE coalesce(nullif(x.origin, 'unknown'), x.o_origin, 'unknown') END"
	if c.Own {
		origin = "'created'"
	}
	hash, at := fmt.Sprintf("CASE WHEN x.until IS NULL THEN x.hash ELSE %d END", plan.HashUncertain), now
	if !known {
		hash, at = fmt.Sprint(plan.HashUncertain), "NULL"
	}
	names = append(names, "key_hash", d.Quote("hash"), "remote_id", "origin", "acknowledged_at", "uncertain_until", "theirs")
	values = append(values, "x.key_hash", hash, "coalesce(x.o_remote, x.remote_id)", origin, "CAST("+at+" AS "+d.Type(warehouse.Timestamp)+")", "x.until",
		"CASE WHEN "+d.Contains("coalesce(x.theirs, '')", "x.o_theirs")+" THEN x.theirs ELSE nullif(coalesce(x.theirs, '') || coalesce(x.o_theirs, ''), '') END")
	return "INSERT INTO " + snapshot + " (" + strings.Join(names, ", ") + ") SELECT " + strings.Join(values, ", ") + " FROM " + x + " x WHERE " + where
}

func (c *Committer) columns() []plan.Column {
	out := []plan.Column{c.Columns.PrimaryKey, c.Columns.DestKey}
	if c.Mode == destination.Insert {
		return out
	}
	out = append(out, c.Columns.Keys...)
	for _, f := range c.Columns.Fields {
		if f.Gone == "" {
			out = append(out, f)
		}
	}
	return out
}

// inserted remembers acknowledged inserts by their key alone, and keeps the payload of those still owed.
func (c *Committer) inserted(x string, plain bool) []string {
	d := c.W.Dialect()
	snapshot, pending := c.table(c.Names.Snapshot(c.Sync)), c.table(c.Names.Pending(c.Sync))
	done := acknowledged
	if c.OnUncertain == "skip" {
		done = "(" + acknowledged + " OR class = 'uncertain')"
	}
	out := []string{
		fmt.Sprintf("INSERT INTO %s (primary_key, dest_key, key_hash, %s, remote_id, origin, acknowledged_at) SELECT x.primary_key, x.dest_key, x.key_hash, 0, x.o_remote, coalesce(x.o_origin, 'created'), CAST(%s AS %s) FROM %s x WHERE operation = 'add' AND %s AND NOT coalesce(matched, false)",
			snapshot, d.Quote("hash"), d.Time(c.Now()), d.Type(warehouse.Timestamp), x, done),
		"DELETE FROM " + pending + " WHERE dest_key IN (SELECT dest_key FROM " + x + " x WHERE class <> 'deferred')",
	}
	if c.has(destination.OpRemove) { // of rows that do not consent any more
		out = append(out, "DELETE FROM "+snapshot+" WHERE dest_key IN (SELECT dest_key FROM "+x+" x WHERE operation = 'remove' AND "+settled+")")
	}
	if !plain {
		owed := "operation = 'add' AND NOT " + done + " AND class <> 'submitted'"
		if !c.ended { // a row that was not tried is owed already, or will be when the plan closes
			owed += " AND class <> 'deferred'"
		}
		out = append(out, c.owe(x, owed, "CASE WHEN class = 'uncertain' THEN x.until END"))
	}
	return out
}

// data are the columns of all that a plan sends.
func (c *Committer) data() []plan.Column {
	cols := []plan.Column{c.Columns.PrimaryKey, c.Columns.DestKey}
	cols = append(cols, c.Columns.Keys...)
	for _, f := range c.Columns.Fields {
		if f.Gone == "" {
			cols = append(cols, f)
		}
	}
	return cols
}

// owe keeps the payload of inserts that were planned and not acknowledged.
func (c *Committer) owe(x, where, until string) string {
	d := c.W.Dialect()
	var names, values []string
	for _, col := range c.data() {
		names = append(names, d.Quote(col.Column))
		values = append(values, "x."+d.Quote(col.Column))
	}
	ts := d.Type(warehouse.Timestamp)
	return fmt.Sprintf("INSERT INTO %s (%s, key_hash, since, uncertain_until) SELECT %s, x.key_hash, CAST(%s AS %s), CAST(%s AS %[5]s) FROM %[7]s x WHERE %[8]s",
		c.table(c.Names.Pending(c.Sync)), strings.Join(names, ", "), strings.Join(values, ", "), d.Time(c.Now()), ts, until, x, where)
}

// retries drops the entries of rows that have an outcome now and writes those of rows that were refused: wait doubles from five
// minutes to a day; a row that is refused for longer than give_up_after is parked.
func (c *Committer) retries(x string, plain bool) []string {
	d := c.W.Dialect()
	t := c.table(c.Names.Retry(c.Sync))
	if plain && c.NoRetries {
		return nil
	}
	out := []string{"DELETE FROM " + t + " WHERE key_hash IN (SELECT key_hash FROM " + x + " x WHERE class <> 'deferred')"}
	if plain {
		return out
	}
	now := d.Time(c.Now())
	ts := d.Type(warehouse.Timestamp)
	wait := "CASE WHEN class = 'not_found' THEN 86400 ELSE least(300 * pow(2, least(coalesce(x.attempts, 0), 12)), 86400) END"
	return append(out, fmt.Sprintf("INSERT INTO %s (key_hash, row_hash, operation, reason, attempts, first_at, last_at, next_attempt_at, code, message, parked) SELECT x.key_hash, x.hash, x.operation, x.class, coalesce(x.attempts, 0) + 1, coalesce(x.first_failed_at, CAST(%[2]s AS %[3]s)), CAST(%[2]s AS %[3]s), %[4]s, x.o_code, x.o_message, coalesce(x.first_failed_at, CAST(%[2]s AS %[3]s)) < %[5]s FROM %[6]s x WHERE class = 'rejected'%[7]s",
		t, now, ts, d.AddSeconds("CAST("+now+" AS "+ts+")", d.Cast(wait, warehouse.Int)), d.Time(c.Now().Add(-c.GiveUpAfter)), x, c.alsoNotFound()))
}

// alsoNotFound: in update mode a record that is not there is looked for again within a day; in the other modes an add follows.
func (c *Committer) alsoNotFound() string {
	if c.Mode == destination.Update {
		return " OR class = 'not_found'"
	}
	return ""
}

func (c *Committer) deliveries(x string) string {
	d := c.W.Dialect()
	return fmt.Sprintf("INSERT INTO %s (run_id, page, sync, primary_key, key_hash, operation, outcome, code, message, attempt, %s) SELECT %s, x.page_, %s, %s, %s, x.operation, CASE x.class WHEN 'submitted' THEN 'accepted' ELSE x.class END, coalesce(x.o_code, CASE WHEN x.operation = 'remove' AND x.reason = 'consent' THEN x.reason END), x.o_message, x.o_attempt, CAST(%s AS %s) FROM %s x",
		c.table(c.Names.Deliveries()), d.Quote("at"), d.Text(c.RunID), d.Text(c.Sync), d.Cast("x.primary_key", warehouse.Text), d.HashText("x.key_hash"), d.Time(c.Now()), d.Type(warehouse.Timestamp), x)
}

// Close are the statements that end a plan: rows that left where nothing is removed are forgotten, inserts that were not
// acknowledged stay owed, entries of rows that are not refused any more go, and the plan is emptied of its values.
func (c *Committer) Close(full bool) []string {
	snapshot, p := c.table(c.Names.Snapshot(c.Sync)), c.table(c.Plan)
	var out []string
	if c.has(plan.Forget) && !slices.Contains(c.Held, plan.Forget) {
		out = append(out, "DELETE FROM "+snapshot+" WHERE dest_key IN (SELECT dest_key FROM "+p+" WHERE operation = 'forget' AND state = 'send')")
	}
	if c.Mode == destination.Insert {
		pending := c.table(c.Names.Pending(c.Sync))
		x := "(SELECT p.* FROM " + p + " p LEFT JOIN " + snapshot + " s ON s.dest_key = p.dest_key LEFT JOIN " + pending +
			" o ON o.dest_key = p.dest_key WHERE p.operation = 'add' AND p.state IN ('send', 'deferred', 'parked') AND p.dest_key IS NOT NULL AND s.dest_key IS NULL AND o.dest_key IS NULL)"
		out = append(out, c.owe(x, "true", "x.was_uncertain"))
		out = append(out, "DELETE FROM "+pending+" WHERE dest_key IN (SELECT dest_key FROM "+p+" WHERE operation = 'add' AND reason IN ('expired', 'consent'))")
	}
	if full && !c.NoRetries {
		out = append(out, "DELETE FROM "+c.table(c.Names.Retry(c.Sync))+" WHERE key_hash NOT IN (SELECT key_hash FROM "+p+")")
	}
	return append(out, c.W.Dialect().Empty(c.Plan))
}

// CommittedPages are the pages of a run that an earlier commit took.
func CommittedPages(ctx context.Context, w warehouse.Warehouse, names compile.Names, runID string) (map[int64]bool, error) {
	d := w.Dialect()
	rows, err := w.Query(ctx, "SELECT DISTINCT page FROM "+d.Table(names.Deliveries())+" WHERE run_id = "+d.Text(runID))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]bool{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if n, ok := v[0].(int64); ok {
			out[n] = true
		}
	}
	return out, rows.Err()
}
