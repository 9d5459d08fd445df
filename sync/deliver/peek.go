package deliver

import (
	"context"
	"slices"

	"github.com/dray-dev/dray/connectors/destination"
)

// peek takes out of a batch's changes the fields that are written only where the destination has nothing and where it has
// something (write: if_empty). Somebody may fill a field between this look and the write: no vendor offers both in one call.
func (d *delivery) peek(ctx context.Context, b *batch, all []int, outcomes []Row) []part {
	var ask, rest []int
	for _, i := range all {
		c := &b.page.Changes[b.rows[i]]
		if c.Operation != destination.OpRemove && slices.ContainsFunc(d.IfEmpty, c.Sends) {
			ask = append(ask, i)
		} else {
			rest = append(rest, i)
		}
	}
	reader, ok := d.Destination.(destination.Reader)
	if !ok || len(ask) == 0 {
		return parts(all)
	}
	lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	var filled [][]bool
	err := d.lookUp(lctx, b, func(ctx context.Context) (err error) {
		filled, err = reader.Filled(ctx, d.request(b, ask, 1), d.IfEmpty)
		return err
	})
	if err != nil || len(filled) != len(ask) {
		d.lookupFailed(spokenOf(err, b))
		for _, i := range ask {
			d.giveUp(b, part{rows: []int{i}}, outcomes, "lookup_failed", "")
		}
		return parts(rest)
	}
	for k, i := range ask {
		c := &b.page.Changes[b.rows[i]]
		for n, field := range d.IfEmpty {
			if !filled[k][n] || !c.Sends(field) {
				continue
			}
			c.Send = without(c, field)
			outcomes[i].Theirs += d.Theirs(field)
		}
		if c.Operation == destination.OpUpdate && !slices.Contains(c.Send, true) && c.Send != nil && b.page.Uncertain[b.rows[i]].IsZero() {
			d.close(&outcomes[i], Delivered, "", "") // nothing is left to write
			continue
		}
		rest = append(rest, i)
	}
	slices.Sort(rest)
	return parts(rest)
}

// without is the change's mask less one field; masks are shared between changes.
func without(c *destination.Change, field int) []bool {
	mask := slices.Clone(c.Send)
	if mask == nil {
		mask = make([]bool, len(c.Fields))
		for i := range mask {
			mask[i] = true
		}
	}
	mask[field] = false
	return mask
}
