package plan

import (
	"context"
	"fmt"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// PrepareControls makes holdout_<sync>, the record of the control group: who is in it since when, so that its members can be compared
// later with those who were sent. A row is one stay: primary_key and dest_key as text, seed, entered_at, left_at (NULL: still in it) and
// contaminated_at (when it was first seen that the destination has the record nevertheless; NULL: it never had).
func (l *Layout) PrepareControls(ctx context.Context, w Querier) error {
	if l.Sync.HeldOut == "" {
		return nil
	}
	t := l.Names.Holdout(l.Sync.Name)
	there, err := w.Exists(ctx, t)
	if err != nil || there {
		return err
	}
	d := l.Dialect
	text, ts := " "+d.Type(warehouse.Text), " "+d.Type(warehouse.Timestamp)
	if _, err := w.Exec(ctx, d.CreateTable(t, []string{
		"primary_key" + text, "dest_key" + text, "seed" + text, "entered_at" + ts, "left_at" + ts, "contaminated_at" + ts,
	}, "")); err != nil {
		return fmt.Errorf("making the record of the control group of %s: %w", l.Sync.Name, err)
	}
	return nil
}

// ControlsSQL brings holdout_<sync> up to date, at the end of a run, once the snapshot is: part of its transaction. Two rows that
// share a primary key, which a table without a declared key may have, are one.
func (l *Layout) ControlsSQL(asOf time.Time, seed string) []string {
	d := l.Dialect
	t, at := d.Table(l.Names.Holdout(l.Sync.Name)), fmt.Sprintf("CAST(%s AS %s)", d.Time(asOf), d.Type(warehouse.Timestamp))
	now := "(SELECT primary_key, min(dest_key) AS dest_key FROM (SELECT " + d.Cast(l.PrimaryKey.Expr, warehouse.Text) + " AS primary_key, " +
		d.Cast(l.DestKey.Expr, warehouse.Text) + " AS dest_key FROM (" + l.Sync.Input + ") src WHERE " + l.Sync.HeldOut +
		") k WHERE primary_key IS NOT NULL GROUP BY primary_key)"
	return []string{
		fmt.Sprintf("UPDATE %s SET left_at = %s WHERE left_at IS NULL AND primary_key NOT IN (SELECT primary_key FROM %s h)", t, at, now),
		fmt.Sprintf("INSERT INTO %s (primary_key, dest_key, seed, entered_at) SELECT primary_key, dest_key, %s, %s FROM %s h WHERE primary_key NOT IN (SELECT primary_key FROM %[1]s WHERE left_at IS NULL)",
			t, d.Text(seed), at, now),
		fmt.Sprintf("UPDATE %s SET contaminated_at = %s WHERE left_at IS NULL AND contaminated_at IS NULL AND dest_key IN (SELECT %s FROM %s)",
			t, at, d.Cast("dest_key", warehouse.Text), d.Table(l.Names.Snapshot(l.Sync.Name))),
	}
}
