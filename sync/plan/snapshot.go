package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// Standing is what is known of a snapshot before the plan: the meta row's part of it.
type Standing struct {
	Exists         bool
	Columns        []Column // fields as the snapshot has them
	PrimaryKey     Column
	DestKey        Column
	Keys           []Column
	HashVersion    string
	KeySalt        int64
	UncertainUntil time.Time // not zero: every row is to be treated as uncertain
}

// keepDropped is how long the column of a field that is mapped no more is kept.
const keepDropped = 30 * 24 * time.Hour

// Carried tells whether the snapshot must be carried over to the layout: fields or types changed, or the hash.
func (l *Layout) Carried(st Standing) bool {
	if !st.Exists {
		return false
	}
	return st.HashVersion != l.HashVersion() || st.DestKey.Type != l.DestKey.Type || st.PrimaryKey.Type != l.PrimaryKey.Type ||
		(l.Sync.Mode != destination.Insert && (!sameColumns(st.Keys, l.Keys) || !sameFields(st.Columns, l.Fields))) || !st.UncertainUntil.IsZero() || st.KeySalt != l.Salt
}

func sameColumns(a, b []Column) bool {
	return slices.EqualFunc(a, b, func(x, y Column) bool { return x.Column == y.Column && x.Type == y.Type })
}

func sameFields(have, want []Column) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h Column) bool { return h.Column == w.Column && h.Type == w.Type && h.Gone == "" }) {
			return false
		}
	}
	return true
}

// snapshotColumns are the engine's own columns behind the data.
func (l *Layout) snapshotTail() [][2]string {
	d := l.Dialect
	text, ts := d.Type(warehouse.Text), d.Type(warehouse.Timestamp)
	return [][2]string{
		{"key_hash", d.HashType()},
		{"hash", d.HashType()},
		{"remote_id", text},
		{"origin", text},
		{"acknowledged_at", ts},
		{"uncertain_until", ts},
		{"theirs", text},
	}
}

// Kept are the data columns a snapshot holds: in insert mode the event id alone.
func (l *Layout) Kept() []Column {
	if l.Sync.Mode == destination.Insert {
		return []Column{l.PrimaryKey, l.DestKey}
	}
	return l.columns()
}

func (l *Layout) snapshotHash(alias string) string {
	if l.Sync.Mode == destination.Insert {
		return "0"
	}
	return l.rowHash(alias)
}

// emptySnapshot is a query of no rows with the snapshot's columns.
func (l *Layout) emptySnapshot() string {
	d := l.Dialect
	var cols []string
	for _, c := range l.Kept() {
		cols = append(cols, "CAST(NULL AS "+c.Type+") AS "+d.Quote(c.Column))
	}
	for _, c := range l.snapshotTail() {
		cols = append(cols, "CAST(NULL AS "+c[1]+") AS "+d.Quote(c[0]))
	}
	return "SELECT " + strings.Join(cols, ", ") + " LIMIT 0"
}

// carriedSnapshot is the snapshot with its stored values cast to the layout's types and hashed again. Nothing is sent for it: a
// row differs afterwards only where its values do. Dropped fields are kept for keepDropped.
func (l *Layout) carriedSnapshot(st Standing, now time.Time) string {
	d := l.Dialect
	var inner, failed []string
	cast := func(c Column, have []Column) {
		q := d.Quote(c.Column)
		i := slices.IndexFunc(have, func(h Column) bool { return h.Column == c.Column })
		switch {
		case i < 0:
			inner = append(inner, "CAST(NULL AS "+c.Type+") AS "+q)
		case have[i].Type == c.Type:
			inner = append(inner, "o."+q)
		default:
			tried := d.TryCast("o."+q, c.Type)
			inner = append(inner, tried+" AS "+q)
			failed = append(failed, "(o."+q+" IS NOT NULL AND "+tried+" IS NULL)")
		}
	}
	cast(l.PrimaryKey, []Column{st.PrimaryKey})
	if keys := l.recastKeys(st); keys != nil { // made of its columns, whose text may be another in their new types
		inner = append(inner, d.JSONArray(keys...)+" AS dest_key")
	} else {
		cast(l.DestKey, []Column{st.DestKey})
	}
	if l.Sync.Mode != destination.Insert {
		for _, c := range l.Keys {
			cast(c, st.Keys)
		}
		for _, c := range l.Fields {
			cast(c, st.Columns)
		}
	}
	for _, c := range l.kept(st, now) {
		inner = append(inner, "o."+d.Quote(c.Column))
	}
	failedAny := "false"
	if len(failed) > 0 {
		failedAny = strings.Join(failed, " OR ")
	}
	until := "o.uncertain_until"
	hash := fmt.Sprintf("CASE WHEN o.hash = %d THEN o.hash WHEN %s THEN %d END", HashUncertain, failedAny, hashCastFailed)
	if !st.UncertainUntil.IsZero() {
		hash, until = fmt.Sprint(HashUncertain), "coalesce(o.uncertain_until, "+d.Time(st.UncertainUntil)+")"
	}
	var outer []string
	for _, c := range append(l.Kept(), l.kept(st, now)...) {
		outer = append(outer, "c."+d.Quote(c.Column))
	}
	outer = append(outer, l.keyHash("c.dest_key")+" AS key_hash", "CAST(coalesce(c.hash, "+l.snapshotHash("c")+") AS "+d.HashType()+") AS "+l.hash(),
		"c.remote_id", "c.origin", "c.acknowledged_at", "c.uncertain_until", "c.theirs")
	return "SELECT " + strings.Join(outer, ", ") + " FROM (SELECT " + strings.Join(inner, ", ") + ", " + hash +
		" AS " + l.hash() + ", o.remote_id, o.origin, o.acknowledged_at, " + until + " AS uncertain_until, o.theirs FROM " +
		d.Table(l.Names.Snapshot(l.Sync.Name)) + " o) c"
}

// recastKeys are the columns of a composite identity in their new types; nil where they did not change.
func (l *Layout) recastKeys(st Standing) []string {
	if l.Sync.Mode == destination.Insert || len(l.Sync.Keys) != 1 || len(l.Keys) != len(st.Keys) || sameColumns(st.Keys, l.Keys) {
		return nil
	}
	var out []string
	for i, c := range l.Keys {
		q := "o." + l.Dialect.Quote(c.Column)
		if st.Keys[i].Type != c.Type {
			q = l.Dialect.TryCast(q, c.Type)
		}
		out = append(out, q)
	}
	return out
}

// Misfits counts the rows of the snapshot whose identity cannot be carried over to the type that it has now.
func (l *Layout) Misfits(ctx context.Context, w Querier, st Standing) (int64, error) {
	if !st.Exists || l.DestKey.Type == st.DestKey.Type && sameColumns(st.Keys, l.Keys) {
		return 0, nil
	}
	d := l.Dialect
	lost := []string{"false"}
	fits := func(was, is Column) {
		if was.Type != is.Type {
			q := "o." + d.Quote(is.Column)
			lost = append(lost, "("+q+" IS NOT NULL AND "+d.TryCast(q, is.Type)+" IS NULL)")
		}
	}
	fits(st.DestKey, l.DestKey)
	for i, c := range l.Keys {
		if i < len(st.Keys) && l.Sync.Mode != destination.Insert {
			fits(st.Keys[i], c)
		}
	}
	return warehouse.Number(ctx, w, "SELECT count(*) FROM "+d.Table(l.Names.Snapshot(l.Sync.Name))+" o WHERE "+strings.Join(lost, " OR "))
}

// kept are the columns of dropped fields that are not old enough to go.
func (l *Layout) kept(st Standing, now time.Time) []Column {
	var out []Column
	for _, h := range st.Columns {
		if slices.ContainsFunc(l.Fields, func(f Column) bool { return strings.EqualFold(f.Column, h.Column) }) {
			continue
		}
		if h.Gone == "" {
			h.Gone = now.UTC().Format(time.RFC3339)
		}
		if gone, err := time.Parse(time.RFC3339, h.Gone); err == nil && now.Sub(gone) > keepDropped {
			continue
		}
		out = append(out, h)
	}
	return out
}

// StandingColumns are the fields to write into meta: those of the layout and the dropped ones still kept.
func (l *Layout) StandingColumns(st Standing, now time.Time) []Column {
	return append(slices.Clone(l.Fields), l.kept(st, now)...)
}

// snapshotFrom is the FROM item of the snapshot as the layout sees it, without changing it.
func (l *Layout) snapshotFrom(st Standing, now time.Time) string {
	switch {
	case !st.Exists:
		return "(" + l.emptySnapshot() + ")"
	case l.Carried(st):
		return "(" + l.carriedSnapshot(st, now) + ")"
	default:
		return l.Dialect.Table(l.Names.Snapshot(l.Sync.Name))
	}
}

// keyHashColumn is what plans and snapshots are joined and paged by.
const keyHashColumn = "key_hash"

// Prepare makes or carries over the sync's tables before a run's plan: at most one statement for the snapshot.
func (l *Layout) Prepare(ctx context.Context, w Querier, st Standing, now time.Time) error {
	d := l.Dialect
	snapshot := l.Names.Snapshot(l.Sync.Name)
	switch {
	case !st.Exists:
		if _, err := w.Exec(ctx, d.CreateTableAs(snapshot, l.emptySnapshot(), keyHashColumn)); err != nil {
			return fmt.Errorf("making the snapshot of %s: %w", l.Sync.Name, err)
		}
	case l.Carried(st):
		if _, err := w.Exec(ctx, d.CreateTableAs(snapshot, l.carriedSnapshot(st, now), keyHashColumn)); err != nil {
			return fmt.Errorf("carrying the snapshot of %s over to its new columns: %w", l.Sync.Name, err)
		}
	}
	return nil
}
