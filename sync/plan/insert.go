package plan

import (
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// insertSQL plans insert mode: rows whose event id was never acknowledged, and inserts still owed although they left the model.
// The event id itself is compared, not its hash alone: a collision would lose a row here.
func (l *Layout) insertSQL(o Options) string {
	d := l.Dialect
	snapshot := l.snapshotFrom(o.Standing, o.Now)
	on := func(a, b string) string {
		if l.IntKey() {
			return a + ".dest_key = " + b + ".dest_key"
		}
		return a + ".key_hash = " + b + ".key_hash AND " + a + ".dest_key = " + b + ".dest_key"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "WITH n AS (SELECT m.*, %s AS %s, %s AS key_hash FROM (%s) m)", l.rowHash("m"), l.hash(), l.keyHash("m.dest_key"), l.mapped(&o))
	never := "s.dest_key IS NULL"
	if o.Backfill != nil {
		never = "n.picked AND " + never
		if o.Backfill.Resend {
			never = "n.picked"
		}
	}
	owed, owedJoin := d.Cast("NULL", warehouse.Timestamp), ""
	if o.Pending != nil {
		owed, owedJoin = "p.uncertain_until", " LEFT JOIN "+l.owedFrom(o)+" p ON "+on("p", "n")
	}
	withdrawn, stays, not := "", "", ""
	if l.Sync.Withheld != "" {
		withdrawn, not = ", p.dest_key IN (SELECT dest_key FROM w WHERE dest_key IS NOT NULL) AS withdrawn", ", false AS withdrawn"
	}
	if l.Sync.HeldOut != "" { // it is not sent, and has not left
		stays = " AND p.dest_key NOT IN (SELECT dest_key FROM h)"
	}
	b.WriteString(l.leftOut())
	fmt.Fprintf(&b, ",\na AS (SELECT %s, n.key_hash, n.hash, %s AS event_at, %s AS was_uncertain, false AS expired, s.dest_key IS NOT NULL AS matched%s FROM n LEFT JOIN %s s ON %s%s WHERE %s)",
		l.list("n"), l.eventAt("n"), owed, not, snapshot, on("s", "n"), owedJoin, never)
	if o.Pending != nil && o.Backfill == nil {
		fmt.Fprintf(&b, ",\nb AS (SELECT %s, p.key_hash, %s AS %s, %s AS event_at, p.uncertain_until AS was_uncertain, true AS expired, false AS matched%s FROM (SELECT %s, key_hash, uncertain_until FROM %s) p LEFT JOIN n ON %s WHERE n.dest_key IS NULL%s)",
			l.list("p"), l.rowHash("p"), l.hash(), d.Cast("NULL", warehouse.Timestamp), withdrawn, l.pendingColumns(o.Pending), l.owedFrom(o)+" o", on("p", "n"), stays)
	}
	changes := "SELECT * FROM a"
	if o.Pending != nil && o.Backfill == nil {
		changes += " UNION ALL SELECT * FROM b"
	}
	fmt.Fprintf(&b, ",\nj AS (%s),\nc AS (SELECT j.*, 'add' AS operation, %s AS null_key, false AS gone, 1 AS dup, CASE WHEN j.expired THEN 'owed' END AS mask, %s AS remote_id, %[3]s AS origin, %[3]s AS theirs, false AS acknowledged, %s FROM j%s)",
		changes, l.nullKey("j"), d.Cast("NULL", warehouse.Text), l.retryColumns(o), l.insertRetryJoin(o))
	fmt.Fprintf(&b, "\nSELECT %s FROM (%s) c", l.planColumns("c"), l.judged(o))
	if forget := l.forgotten(o, snapshot, on("n", "s")); forget != "" && o.Backfill == nil {
		b.WriteString("\nUNION ALL\n" + forget)
	}
	if l.Sync.Withheld != "" && o.Backfill == nil {
		b.WriteString("\nUNION ALL\n" + l.takenBack(o, snapshot, on("w", "s")))
	}
	return b.String()
}

// takenBack are the removes of rows that were inserted and do not consent any more. The snapshot remembers keys alone, so what they
// are removed by comes from the model, where they still stand.
func (l *Layout) takenBack(o Options, snapshot, on string) string {
	values := map[string]string{
		"key_hash": "w.key_hash", "operation": "'remove'", "state": "'" + Send + "'", "reason": "'" + Consent + "'", "remote_id": "s.remote_id",
		"origin": "s.origin", "acknowledged": "true", "from_model": "false", "matched": "true",
	}
	for _, c := range l.columns() {
		values[c.Column] = "w." + l.Dialect.Quote(c.Column)
	}
	query := fmt.Sprintf("SELECT %s FROM (SELECT w.*, %s AS key_hash FROM w) w JOIN %s s ON %s", l.planRow(values), l.keyHash("w.dest_key"), snapshot, on)
	if at := l.atVendor(o); at != "" {
		query = "SELECT * FROM (" + query + ") c WHERE NOT (" + at + ")"
	}
	return query
}

func (l *Layout) list(alias string) string {
	var cols []string
	for _, c := range l.columns() {
		cols = append(cols, alias+"."+l.Dialect.Quote(c.Column))
	}
	return strings.Join(cols, ", ")
}

func (l *Layout) eventAt(alias string) string {
	if l.maxAge() {
		return alias + ".event_at"
	}
	return l.Dialect.Cast("NULL", warehouse.Timestamp)
}

// nullKey: an insert needs its event id, and one column of its key at least.
func (l *Layout) nullKey(alias string) string {
	none := make([]string, 0, len(l.Keys))
	for _, k := range l.Keys {
		none = append(none, alias+"."+k.Column+" IS NULL")
	}
	return "(" + alias + ".dest_key IS NULL OR (" + strings.Join(none, " AND ") + "))"
}

func (l *Layout) insertRetryJoin(o Options) string {
	if !o.HasRetry {
		return ""
	}
	return " LEFT JOIN " + l.Dialect.Table(l.Names.Retry(l.Sync.Name)) + " r ON r.key_hash = j.key_hash"
}

// The states of a remembered key, beside Send: it is forgotten now.
const (
	newlyLeft = "left" // from now on its time runs
	cameBack  = "back" // it is in the model again
)

// forgotten are remembered keys whose row left the model, and those whose row came back, where `remember` ends some time. In insert
// mode the snapshot's column hash has no other use: it says since when the row is away, in seconds; 0 = it is there. A row that was
// seen by the last run and is missing now left just after that, as far as anybody knows.
func (l *Layout) forgotten(o Options, snapshot, on string) string {
	keep := l.Sync.Remember
	if keep == 0 {
		return ""
	}
	left := fmt.Sprintf("CASE WHEN s.hash > 0 THEN s.hash ELSE %d END", l.leftSince(o))
	others := ""
	if l.Sync.HeldOut != "" {
		others += "s.dest_key NOT IN (SELECT dest_key FROM h) AND "
	}
	if l.Sync.Withheld != "" {
		others += "s.dest_key NOT IN (SELECT dest_key FROM w WHERE dest_key IS NOT NULL) AND "
	}
	values := map[string]string{
		"primary_key": "s.primary_key", "dest_key": "s.dest_key", "key_hash": "s.key_hash", "operation": "'" + string(Forget) + "'",
		"state":        fmt.Sprintf("CASE WHEN n.dest_key IS NOT NULL THEN '%s' WHEN %s < %d THEN '%s' ELSE '%s' END", cameBack, left, o.Now.Add(-keep).Unix(), Send, newlyLeft),
		"acknowledged": "false", "from_model": "false", "matched": "true",
	}
	return fmt.Sprintf("SELECT %s FROM %s s LEFT JOIN n ON %s WHERE %s((n.dest_key IS NULL) = (s.hash = 0) OR (s.hash > 0 AND s.hash < %d))",
		l.planRow(values), snapshot, on, others, o.Now.Add(-keep).Unix())
}

func (l *Layout) leftSince(o Options) int64 {
	if o.LastRun.IsZero() || o.LastRun.After(o.Now) {
		return o.Now.Unix()
	}
	return o.LastRun.Unix()
}

// RememberSQL keeps, at the end of a run in insert mode, since when remembered keys are away from the model.
func (l *Layout) RememberSQL(o Options) []string {
	if l.Sync.Mode != destination.Insert || l.Sync.Remember == 0 {
		return nil
	}
	d := l.Dialect
	mark := func(since int64, state string) string {
		return fmt.Sprintf("UPDATE %s SET %s = %d WHERE dest_key IN (SELECT dest_key FROM %s WHERE operation = '%s' AND state = '%s')",
			d.Table(l.Names.Snapshot(l.Sync.Name)), l.hash(), since, d.Table(l.Plan), Forget, state)
	}
	return []string{mark(l.leftSince(o), newlyLeft), mark(0, cameBack)}
}
