package ledger

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Current refuses tables that an older Dray made: they are brought up to date by `dray upgrade`, or by `dray serve` when it starts.
func (m Meta) Current() error {
	if !m.Exists || m.Version >= SchemaVersion {
		return nil
	}
	return diag.Errorf(diag.Invalid, "upgrade.needed", "the tables of %s were made by an older Dray (version %d, this one's are %d)", m.Sync, m.Version, SchemaVersion).
		WithHint("dray upgrade brings them up to date; nothing is sent")
}

// Upgrade brings a sync's tables from their version to this one: columns are added and nothing is taken away, then a mark says so. What
// is done already is left out, so that it may be repeated after it was interrupted. The caller holds the sync's lock.
func (l *Ledger) Upgrade(ctx context.Context, m Meta) error {
	d := l.W.Dialect()
	for _, add := range []struct {
		to     int64
		table  warehouse.Table
		column string
		kind   warehouse.Kind
	}{
		{2, l.Names.Snapshot(m.Sync), "theirs", warehouse.Text},
	} {
		if m.Version >= add.to {
			continue
		}
		there, err := l.W.Exists(ctx, add.table)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		columns, err := l.W.Columns(ctx, "SELECT * FROM "+d.Table(add.table))
		if err != nil {
			return err
		}
		has := false
		for _, c := range columns {
			has = has || strings.EqualFold(c.Name, add.column)
		}
		if has {
			continue
		}
		if _, err := l.W.Exec(ctx, "ALTER TABLE "+d.Table(add.table)+" ADD COLUMN "+add.column+" "+d.Type(add.kind)); err != nil {
			return err
		}
	}
	_, err := l.W.Exec(ctx, fmt.Sprintf("UPDATE %s SET schema_version = %d, min_reader = %d WHERE sync = %s", d.Table(l.Names.Meta()),
		SchemaVersion, MinReader, d.Text(m.Sync)))
	return err
}

// UpgradeShared brings what all syncs share up to date.
func (l *Ledger) UpgradeShared(ctx context.Context) error {
	there, err := l.W.Exists(ctx, l.Names.Meta())
	if err != nil || !there {
		return err
	}
	return l.makeViews(ctx)
}
