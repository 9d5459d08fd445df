package plan

import (
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// AdoptQuery is the snapshot that says that the destination holds today's rows (`dray adopt`): what is known of records already stays.
func (l *Layout) AdoptQuery(o Options) string {
	d := l.Dialect
	var names []string
	for _, c := range l.Kept() {
		names = append(names, "m."+d.Quote(c.Column))
	}
	hash := l.rowHash("m")
	if l.Sync.Mode == destination.Insert {
		hash = "CAST(0 AS " + d.HashType() + ")"
	}
	none := "CAST(NULL AS " + d.Type(warehouse.Text) + ")"
	remote, origin, theirs, known := none+" AS remote_id", "'adopted' AS origin", none+" AS theirs", ""
	if o.Standing.Exists { // otherwise no join, which would also bring the rows out of their order
		remote, origin, theirs = "s.remote_id", "coalesce(s.origin, 'adopted') AS origin", "s.theirs"
		known = " LEFT JOIN " + l.snapshotFrom(o.Standing, o.Now) + " s ON s.dest_key = m.dest_key"
	}
	names = append(names, l.keyHash("m.dest_key")+" AS key_hash", hash+" AS "+l.hash(), remote, origin,
		d.Time(o.Now)+" AS acknowledged_at", d.Cast("NULL", warehouse.Timestamp)+" AS uncertain_until", theirs)
	first := ""
	if l.dedupes() {
		first = " AND m.rn = 1"
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM (" + l.mapped(&o) + ") m" + known + " WHERE m.dest_key IS NOT NULL" + first
}
