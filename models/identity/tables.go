package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// What an entity with rules about pairs has beside its identity table, written with it: the pairs that joined (for dray profile), those
// to be reviewed, the sizes of blocks and the models (for dray identity report).
const (
	matchesTable = "_matches" // rule, a, b, score, pattern; a and b are values of the rule in identity_<entity>
	reviewTable  = "_review"  // the same
	blocksTable  = "_blocks"
)

// PairTable is one of these tables, by its suffix (config.MatchTables).
func PairTable(identity warehouse.Table, suffix string) warehouse.Table {
	identity.Name += suffix
	return identity
}

// MatchesTable is where the pairs are that joined profiles.
func MatchesTable(identity warehouse.Table) warehouse.Table {
	return PairTable(identity, matchesTable)
}

// comparesPairs tells whether an entity has rules about pairs.
func comparesPairs(e *config.Entity) bool {
	return slices.ContainsFunc(e.Match, func(m *config.Match) bool { return m.Pairs() })
}

// pairTables are the statements that write them: before, each on its own, and within the transaction.
func (b *builder) pairTables(ctx context.Context) (before, within []string, err error) {
	var matches, review, blocks []string
	for _, p := range b.pairs {
		of := fmt.Sprintf("SELECT %s AS rule, CASE WHEN va < vb THEN va ELSE vb END AS a, CASE WHEN va < vb THEN vb ELSE va END AS b, score, pattern FROM ", b.d.Text(p.match.Name))
		matches = append(matches, fmt.Sprintf("%s%s AS f WHERE h IN (SELECT h FROM %s AS n WHERE level = %d)", of, p.found, b.linked, p.level+1))
		if p.review != "" {
			review = append(review, of+p.review+" AS f")
		} else {
			review = append(review, of+p.found+" AS f WHERE FALSE")
		}
		for _, x := range p.blocks {
			blocks = append(blocks, fmt.Sprintf("SELECT %s AS rule, %s AS block, %s AS keys, %s AS records, %s AS pairs, %s AS largest",
				b.d.Text(x.Rule), b.d.Text(x.Block), b.number(x.Keys), b.number(x.Records), b.number(x.Pairs), b.number(x.Largest)))
		}
	}
	for _, t := range []struct {
		suffix string
		parts  []string
	}{{matchesTable, matches}, {reviewTable, review}, {blocksTable, blocks}} {
		if len(t.parts) == 0 {
			continue
		}
		table := PairTable(b.spec.Target, t.suffix)
		there, err := b.w.Exists(ctx, table)
		if err != nil {
			return nil, nil, err
		}
		first, then := b.d.Swap(table, there, strings.Join(t.parts, "\nUNION ALL "))
		before, within = append(before, first...), append(within, then...)
	}
	return before, within, nil
}

func (b *builder) number(n int64) string { return b.d.Cast(b.d.Value(n), warehouse.Int) }

// Matched counts the pairs of a rule of the last build.
type Matched struct {
	Rule   string `json:"rule"`
	Pairs  int64  `json:"pairs"`  // that joined
	Review int64  `json:"review"` // that are listed only, in identity_<entity>_review
}

// pairs reads what the rules about pairs have done.
func (r *Report) pairs(ctx context.Context, b *builder, table warehouse.Table) error {
	if !comparesPairs(b.spec.Entity) {
		return nil
	}
	for _, suffix := range []string{matchesTable, reviewTable, blocksTable} {
		there, err := b.w.Exists(ctx, PairTable(table, suffix))
		if err != nil || !there { // built before the rule was there
			return err
		}
	}
	counts := map[string]*Matched{}
	for _, m := range b.spec.Entity.Match {
		if m.Pairs() {
			r.Matched = append(r.Matched, Matched{Rule: m.Name})
		}
	}
	for i := range r.Matched {
		counts[r.Matched[i].Rule] = &r.Matched[i]
	}
	for suffix, count := range map[string]func(*Matched) *int64{
		matchesTable: func(m *Matched) *int64 { return &m.Pairs },
		reviewTable:  func(m *Matched) *int64 { return &m.Review },
	} {
		err := b.each(ctx, "SELECT rule, count(*) AS n FROM "+b.d.Table(PairTable(table, suffix))+" AS t GROUP BY rule", func(row []any) {
			if rule, _ := row[0].(string); counts[rule] != nil {
				*count(counts[rule]) = whole(row[1])
			}
		})
		if err != nil {
			return err
		}
	}
	return b.each(ctx, "SELECT rule, block, keys, records, pairs, largest FROM "+b.d.Table(PairTable(table, blocksTable))+" AS t ORDER BY rule, pairs DESC, block", func(row []any) {
		rule, _ := row[0].(string)
		block, _ := row[1].(string)
		r.Blocks = append(r.Blocks, Block{Rule: rule, Block: block, Keys: whole(row[2]), Records: whole(row[3]), Pairs: whole(row[4]), Largest: whole(row[5])})
	})
}
