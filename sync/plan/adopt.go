package plan

import (
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
)

// AdoptSQL makes the snapshot say that the destination holds today's rows (`dray adopt`): what is known of records already stays.
func (l *Layout) AdoptSQL(o Options) string {
	d := l.Dialect
	var names []string
	for _, c := range l.Kept() {
		names = append(names, "m."+d.Quote(c.Column))
	}
	hash := l.rowHash("m")
	if l.Sync.Mode == destination.Insert {
		hash = "CAST(0 AS " + d.HashType() + ")"
	}
	names = append(names, l.keyHash("m.dest_key")+" AS key_hash", hash+" AS hash", "s.remote_id", "coalesce(s.origin, 'adopted') AS origin",
		d.Time(o.Now)+" AS acknowledged_at", "CAST(NULL AS TIMESTAMP) AS uncertain_until", "s.theirs")
	first := ""
	if l.dedupes() {
		first = " AND m.rn = 1"
	}
	return d.CreateTableAs(l.Names.Snapshot(l.Sync.Name), "SELECT "+strings.Join(names, ", ")+" FROM ("+l.mapped(&o)+") m LEFT JOIN "+
		l.snapshotFrom(o.Standing, o.Now)+" s ON s.dest_key = m.dest_key WHERE m.dest_key IS NOT NULL"+first)
}
