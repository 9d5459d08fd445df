package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/plan"
)

// Late appends rows to uncertain_<sync>: those that a run sent, or may have sent, after its lock went to another. It needs no lock,
// for it writes nothing that the other does; whichever run has the lock next takes the rows over (DESIGN §6.1). A row's identity
// comes from the plan, as far as that still has it; a row of the snapshot is found by its key's hash alone.
func (c *Committer) Late(ctx context.Context, keys []int64, until time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	d, t := c.W.Dialect(), c.Names.Uncertain(c.Sync)
	columns := []string{"key_hash " + d.HashType(), "until " + d.Type(warehouse.Timestamp)}
	var set, names []string
	for _, col := range c.identity() {
		q := d.Quote(col.Column)
		columns = append(columns, q+" "+col.Type)
		names = append(names, q)
		set = append(set, q+" = p."+q)
	}
	if _, err := c.W.Exec(ctx, d.CreateTable(t, columns, "")); err != nil {
		return fmt.Errorf("marking what %s had in flight: %w", c.Sync, err)
	}
	i := 0
	if _, err := c.W.Load(ctx, t, []string{"key_hash", "until"}, func() ([]any, error) {
		if i == len(keys) {
			return nil, nil
		}
		i++
		return []any{keys[i-1], until.UTC()}, nil
	}); err != nil {
		return fmt.Errorf("marking what %s had in flight: %w", c.Sync, err)
	}
	if _, err := c.W.Exec(ctx, fmt.Sprintf("UPDATE %s AS u SET %s FROM (SELECT key_hash, %s FROM %s) p WHERE u.key_hash = p.key_hash",
		d.Table(t), strings.Join(set, ", "), strings.Join(names, ", "), c.table(c.Plan))); err != nil {
		return fmt.Errorf("marking what %s had in flight: %w", c.Sync, err)
	}
	return nil
}

// identity are the columns by which a row is known at the destination.
func (c *Committer) identity() []plan.Column {
	return append([]plan.Column{c.Columns.PrimaryKey, c.Columns.DestKey}, c.Columns.Keys...)
}

// TakeLate marks the rows of uncertain_<sync> in the snapshot, adds those that it does not have, and drops the table. An insert is
// sent again under the same dedupe id by itself, so in that mode there is nothing to mark.
func (c *Committer) TakeLate(ctx context.Context) error {
	there, err := c.W.Exists(ctx, c.Names.Snapshot(c.Sync))
	if err != nil {
		return err
	}
	var statements []string
	if there && c.Mode != destination.Insert {
		if statements, err = c.takeLate(ctx); err != nil {
			return err
		}
	}
	if err := c.W.Atomic(ctx, append(statements, c.W.Dialect().Discard(c.Names.Uncertain(c.Sync)))...); err != nil {
		return fmt.Errorf("taking over what an earlier run of %s had in flight: %w", c.Sync, err)
	}
	return nil
}

func (c *Committer) takeLate(ctx context.Context) ([]string, error) {
	d, t, snapshot := c.W.Dialect(), c.table(c.Names.Uncertain(c.Sync)), c.table(c.Names.Snapshot(c.Sync))
	x := "(SELECT key_hash, max(until) AS until FROM " + t + " GROUP BY key_hash)"
	out := []string{fmt.Sprintf("UPDATE %s AS s SET %s = %d, uncertain_until = greatest(coalesce(s.uncertain_until, x.until), x.until) FROM %s x WHERE s.key_hash = x.key_hash",
		snapshot, d.Quote("hash"), plan.HashUncertain, x)}
	have, err := c.W.Columns(ctx, "SELECT * FROM "+t)
	if err != nil {
		return nil, err
	}
	var names, values []string
	for _, col := range c.identity() {
		if !slices.ContainsFunc(have, func(h warehouse.Column) bool { return h.Name == col.Column && h.Type == col.Type }) {
			return out, nil // the key is another now, and with it what a row is known by
		}
		q := d.Quote(col.Column)
		names = append(names, q)
		values = append(values, "max("+q+")")
	}
	return append(out, fmt.Sprintf("INSERT INTO %s (%s, key_hash, %s, origin, uncertain_until) SELECT %s, key_hash, %d, %s, max(until) FROM %s u WHERE dest_key IS NOT NULL AND key_hash NOT IN (SELECT key_hash FROM %[1]s) GROUP BY key_hash",
		snapshot, strings.Join(names, ", "), d.Quote("hash"), strings.Join(values, ", "), plan.HashUncertain, d.Text(c.origin()), t)), nil
}

// origin is that of a row of which the vendor told nothing.
func (c *Committer) origin() string {
	if c.Own {
		return "created"
	}
	return "unknown"
}
