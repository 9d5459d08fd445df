package segment

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// top keeps candidates, a query of profile_id and ranked_by, in the work table all, and is the query of the first of them. A share is one
// of all candidates, rounded up; profiles without a value count among those, and are never in.
func (b *builder) top(ctx context.Context, candidates string, all warehouse.Table) (string, error) {
	s, d := b.spec.Segment, b.d
	if _, err := b.w.Exec(ctx, d.CreateTableAs(all, candidates)); err != nil {
		return "", b.blame(ctx, err)
	}
	columns, err := b.w.Columns(ctx, "SELECT ranked_by FROM "+d.Table(all))
	if err != nil {
		return "", err
	}
	switch kind := columns[0].Kind; kind {
	case warehouse.Int, warehouse.Float, warehouse.Decimal, warehouse.Date, warehouse.Timestamp:
	default:
		return "", diag.At(s.At("top"), "segment.top", "top goes by a number or a time, and %s is %s", s.Top.By, kind)
	}
	n := int64(s.Top.Count)
	if s.Top.Share > 0 {
		size, err := warehouse.Number(ctx, b.w, "SELECT count(*) FROM "+d.Table(all))
		if err != nil {
			return "", err
		}
		n = shareOf(size, s.Top.Share)
	}
	query := fmt.Sprintf("SELECT profile_id FROM %s WHERE ranked_by IS NOT NULL ORDER BY %s, profile_id LIMIT %d", d.Table(all), d.Order("ranked_by", true, false), n)
	if s.Sample != nil {
		query = fmt.Sprintf("SELECT p.profile_id FROM (%s) AS p WHERE %s", query, sampled(d, s, "p.profile_id"))
	}
	return query, nil
}

// shareOf is a share of n, rounded up. It is counted in millionths, for 10 % of 30 is 3 and not 4.
func shareOf(n int64, share config.Percent) int64 {
	const unit = 1_000_000
	millionths := int64(math.Round(float64(share) * unit))
	return n/unit*millionths + (n%unit*millionths+unit-1)/unit
}

// sampled is true of the profiles that a segment's sample takes.
func sampled(d warehouse.Dialect, s *config.Segment, id string) string {
	return drawn(d, "sample", first(s.Sample.Seed, seed(s)), id, float64(s.Sample.Share))
}

// part is the name of the part of a split that a profile is in. Each part but the last draws, by a hash with its own name, its share
// of what the parts before it have left. So nobody moves but from a part whose share of the rest became smaller to one that
// stands after it, or the other way.
func part(d warehouse.Dialect, s *config.Segment, id string) string {
	var out strings.Builder
	left := 1.0
	out.WriteString("CASE")
	last := len(s.Split.Parts) - 1
	for _, p := range s.Split.Parts[:last] {
		share := 0.0
		if left > 0 {
			share = float64(p.Share) / left
		}
		salt := first(s.Split.Seed, seed(s)) + "/" + p.Name
		fmt.Fprintf(&out, " WHEN %s THEN %s", drawn(d, "split", salt, id, share), d.Text(p.Name))
		left -= float64(p.Share)
	}
	fmt.Fprintf(&out, " ELSE %s END", d.Text(s.Split.Parts[last].Name))
	return out.String()
}

// drawn is true of a share of ids, the same on every engine: the first 32 bits of an MD5 say who. What is drawn for one purpose tells
// nothing of another's.
func drawn(d warehouse.Dialect, purpose, salt, id string, share float64) string {
	cut := uint64(math.Round(share * (1 << 32)))
	switch {
	case cut >= 1<<32:
		return "TRUE"
	case cut == 0:
		return "FALSE"
	}
	digest := d.Digest(d.Text(purpose+"/"+salt+"/") + " || " + id)
	return fmt.Sprintf("substr(%s, 1, 8) < %s", digest, d.Text(fmt.Sprintf("%08x", cut)))
}

// seed is what a segment draws by where it says none: its name, also after it was renamed.
func seed(s *config.Segment) string { return first(s.MovedFrom, s.Name) }

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
