package identity

import (
	"context"
	"fmt"
	"math"
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
	modelsTable  = "_models" // rule, comparison, agreement, m, u, bits, assumed; the prior is the row without a comparison
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
	var matches, review, blocks, models []string
	for _, p := range b.pairs {
		of := fmt.Sprintf("SELECT %s AS rule, CASE WHEN va < vb THEN va ELSE vb END AS a, CASE WHEN va < vb THEN vb ELSE va END AS b, score, pattern FROM ", b.d.Text(p.match.Name))
		matches = append(matches, fmt.Sprintf("%s%s AS f WHERE h IN (SELECT h FROM %s AS n WHERE level = %d)", of, p.found, b.linked, p.level+1))
		if p.review != "" {
			review = append(review, of+p.review+" AS f")
		} else {
			review = append(review, of+p.found+" AS f WHERE FALSE")
		}
		models = append(models, b.modelRows(p)...)
		for _, x := range p.blocks {
			blocks = append(blocks, fmt.Sprintf("SELECT %s AS rule, %s AS block, %s AS keys, %s AS records, %s AS pairs, %s AS largest",
				b.d.Text(x.Rule), b.d.Text(x.Block), b.number(x.Keys), b.number(x.Records), b.number(x.Pairs), b.number(x.Largest)))
		}
	}
	for _, t := range []struct {
		suffix string
		parts  []string
	}{{matchesTable, matches}, {reviewTable, review}, {blocksTable, blocks}, {modelsTable, models}} {
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

// modelRows are a rule's model as queries of one row: m and u of each level, and by how many bits it raises the odds.
func (b *builder) modelRows(p *pairing) []string {
	if p.model == nil {
		return nil
	}
	row := func(comparison, agreement string, m, u any, bits float64, assumed bool) string {
		return fmt.Sprintf("SELECT %s AS rule, %s AS comparison, %s AS agreement, %s AS m, %s AS u, %s AS bits, %t AS assumed", b.d.Text(p.match.Name), b.d.Text(comparison), b.d.Text(agreement),
			b.d.Cast(b.d.Value(m), warehouse.Float), b.d.Cast(b.d.Value(u), warehouse.Float), b.d.Cast(b.d.Value(bits), warehouse.Float), assumed)
	}
	out := []string{row("", "", p.model.prior, nil, logit(p.model.prior)/math.Ln2, false)}
	for _, c := range p.model.comparisons {
		for level, name := range c.names {
			out = append(out, row(c.column, name, c.m[level], c.u[level], c.weight(level)/math.Ln2, !c.trained))
		}
	}
	return out
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
	if err := r.models(ctx, b, table); err != nil {
		return err
	}
	return b.each(ctx, "SELECT rule, block, keys, records, pairs, largest FROM "+b.d.Table(PairTable(table, blocksTable))+" AS t ORDER BY rule, pairs DESC, block", func(row []any) {
		rule, _ := row[0].(string)
		block, _ := row[1].(string)
		r.Blocks = append(r.Blocks, Block{Rule: rule, Block: block, Keys: whole(row[2]), Records: whole(row[3]), Pairs: whole(row[4]), Largest: whole(row[5])})
	})
}

// Model is a rule's, as it was fitted in the last build.
type Model struct {
	Rule   string  `json:"rule"`
	Prior  float64 `json:"prior"` // the probability that two records at random are one
	Levels []Agree `json:"levels"`
}

// Agree is a level of agreement: how probable it is among pairs that are one and among others, and by how many bits (twofold each) it
// raises the odds.
type Agree struct {
	Comparison string  `json:"comparison"`
	Agreement  string  `json:"agreement"`
	M          float64 `json:"m"`
	U          float64 `json:"u"`
	Bits       float64 `json:"bits"`
	Assumed    bool    `json:"assumed"` // m is what is assumed of any column: none of the blocks says anything of this one
}

// models reads the models, and warns of those that cannot be right.
func (r *Report) models(ctx context.Context, b *builder, table warehouse.Table) error {
	there, err := b.w.Exists(ctx, PairTable(table, modelsTable))
	if err != nil || !there {
		return err
	}
	place := map[string]int{}
	for _, m := range b.spec.Entity.Match {
		if m.Probability != nil {
			place[m.Name] = len(r.Models)
			r.Models = append(r.Models, Model{Rule: m.Name, Levels: []Agree{}})
		}
	}
	err = b.each(ctx, "SELECT rule, comparison, agreement, m, u, bits, assumed FROM "+b.d.Table(PairTable(table, modelsTable))+" AS t ORDER BY rule, comparison, bits DESC, agreement", func(row []any) {
		rule, _ := row[0].(string)
		i, ok := place[rule]
		if !ok {
			return
		}
		a := Agree{}
		a.Comparison, _ = row[1].(string)
		a.Agreement, _ = row[2].(string)
		a.M, _ = row[3].(float64)
		a.U, _ = row[4].(float64)
		a.Bits, _ = row[5].(float64)
		a.Assumed, _ = row[6].(bool)
		if a.Comparison == "" {
			r.Models[i].Prior = a.M
			return
		}
		r.Models[i].Levels = append(r.Models[i].Levels, a)
		if a.Agreement == "equal" && a.Assumed {
			r.Warnings = append(r.Warnings, fmt.Sprintf("match %s: how often %s agrees among rows that are one is assumed, not learned: add a block without it, in which two other columns are compared",
				rule, a.Comparison))
		}
		if a.Agreement == "equal" && a.Bits <= 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("match %s: that %s is equal speaks against two rows being one: the model found no pairs to learn from, or learned from the wrong ones; block by other columns",
				rule, a.Comparison))
		}
	})
	return err
}
