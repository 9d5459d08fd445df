package identity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Rules about pairs (compare, probability) look at records: what a rule sees of a row is the row's value at the rule's level, as the
// equal columns are of a rule with on. Two records that match are a value of a level of its own, right below the rule's: it stands
// beside each of the two in a stage of pairs, so that what contracts, limits and refuses values does it with pairs too. A pair is
// the youngest of the three, so no profile's id is ever made of it, and it is in no profile: it is left out again once all is decided.

// pairing is one such rule in a build.
type pairing struct {
	level   int // of its records; its pairs are one below
	match   *config.Match
	record  record
	records string // table: h, v, seen, the parts, key0 …
	blocks  []Block
	found   string // table of the pairs that matched
	review  string // of those to be looked at; "" = none
	model   *model // of a probability
}

// withPairs puts a level of pairs below that of each rule about them.
func withPairs(levels []Level) []Level {
	var out []Level
	for _, l := range levels {
		out = append(out, l)
		if l.match != nil && l.match.Pairs() {
			out = append(out, Level{Name: l.Name, match: l.match, pair: true})
		}
	}
	return out
}

// stagePairs finds the pairs of each rule and stages them beside the inputs.
func (b *builder) stagePairs(ctx context.Context) error {
	b.pairs = nil
	for i, l := range b.levels {
		if l.match == nil || l.pair || !l.match.Pairs() {
			continue
		}
		p := &pairing{level: i + 1, match: l.match, record: recordOf(l.match)}
		if err := b.pair(ctx, p); err != nil {
			return err
		}
		b.pairs = append(b.pairs, p)
	}
	return nil
}

func (b *builder) pair(ctx context.Context, p *pairing) error {
	steps := []func(context.Context, *pairing) error{b.makeRecords, b.measureBlocks}
	if p.match.Probability == nil {
		steps = append(steps, b.compare)
	} else {
		steps = append(steps, b.likely)
	}
	for _, step := range append(steps, b.stageFound) {
		if err := step(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// makeRecords makes the table of a rule's records, each once.
func (b *builder) makeRecords(ctx context.Context, p *pairing) error {
	columns := make([]string, len(p.record.parts))
	least := make([]string, len(columns))
	for i := range columns {
		columns[i] = partColumn(p.level, i)
		least[i] = "min(" + columns[i] + ") AS " + columns[i]
	}
	list := strings.Join(columns, ", ")
	var rows []string
	for _, s := range b.stages {
		if slices.Contains(s.records, p.level) {
			rows = append(rows, fmt.Sprintf("SELECT h%[1]d AS h, v%[1]d AS v, seen, %s FROM %s WHERE h%[1]d IS NOT NULL", p.level, list, s.table))
		}
	}
	each := fmt.Sprintf("SELECT h, min(v) AS v, min(seen) AS seen, %s FROM (%s) AS s GROUP BY h", strings.Join(least, ", "), strings.Join(rows, " UNION ALL "))
	there, err := b.w.Exists(ctx, b.spec.Prior)
	if err != nil {
		return err
	}
	if there { // a record without a time is as old as its value is known
		each = fmt.Sprintf("SELECT e.h, e.v, coalesce(e.seen, p.first_seen_at) AS seen, %s FROM (%s) AS e LEFT JOIN (SELECT value, first_seen_at FROM %s WHERE identifier = %s) AS p ON e.seen IS NULL AND p.value = e.v",
			"e."+strings.Join(columns, ", e."), each, b.d.Table(b.spec.Prior), b.d.Text(p.match.Name))
	}
	typed := "SELECT h, v, seen, " + list
	for _, extra := range b.derived(p) {
		typed += ", " + extra
	}
	keyed := "SELECT r.*"
	if rule := p.match.Probability; rule != nil && rule.Terms() {
		counted := map[int]bool{}
		for _, n := range p.record.compared {
			if !counted[n] {
				keyed += fmt.Sprintf(", count(*) OVER (PARTITION BY %s) AS %s", columns[n], countColumn(p.level, n))
			}
			counted[n] = true
		}
	}
	for j, block := range p.record.blocks {
		var exprs, whole []string
		for _, k := range block {
			expr := partColumn(p.level, k.part)
			if k.soundex {
				expr = soundColumn(p.level, k.part)
			}
			exprs, whole = append(exprs, expr), append(whole, expr+" IS NOT NULL")
		}
		keyed += fmt.Sprintf(", CASE WHEN %s THEN %s END AS key%d", strings.Join(whole, " AND "), b.d.Hash(exprs...), j)
	}
	p.records, err = b.create(ctx, fmt.Sprintf("records%d", p.level), keyed+"\nFROM ("+typed+"\n\tFROM ("+each+") AS e) AS r")
	return err
}

// derived are the columns that are made of parts: how they sound, and the days and numbers that they write.
func (b *builder) derived(p *pairing) []string {
	var out []string
	sounds, typed := map[int]bool{}, map[int]bool{}
	for i, c := range p.match.Comparisons() {
		n := p.record.compared[i]
		sounds[n] = sounds[n] || c.Soundex
		typed[n] = typed[n] || len(c.Within) > 0
	}
	for _, block := range p.record.blocks {
		for _, k := range block {
			sounds[k.part] = sounds[k.part] || k.soundex
		}
	}
	for n, part := range p.record.parts {
		column := partColumn(p.level, n)
		if sounds[n] {
			out = append(out, b.d.Soundex(column)+" AS "+soundColumn(p.level, n))
		}
		switch {
		case typed[n] && part.as == "date":
			out = append(out, b.d.Cast(column, warehouse.Date)+" AS "+typedColumn(p.level, n))
		case typed[n]:
			out = append(out, b.d.TryCast(column, b.d.Type(warehouse.Float))+" AS "+typedColumn(p.level, n))
		}
	}
	return out
}

// Block is how the records of a rule spread over the keys of a block.
type Block struct {
	Rule    string `json:"rule"`
	Block   string `json:"block"`   // as the project writes it
	Keys    int64  `json:"keys"`    // different ones
	Records int64  `json:"records"` // that have one; rows which are the same to the rule are one record
	Pairs   int64  `json:"pairs"`   // of records with the same key
	Largest int64  `json:"largest"` // records of one key
}

const blocksShown = 5

// measureBlocks counts how large the blocks are, and refuses those that would explode, before any pair is looked at.
func (b *builder) measureBlocks(ctx context.Context, p *pairing) error {
	most := int64(cmp.Or(p.match.MaxBlock, 1000))
	sizes := func(j int) string {
		return fmt.Sprintf("SELECT key%d AS k, count(*) AS n FROM %s WHERE key%[1]d IS NOT NULL GROUP BY key%[1]d", j, p.records)
	}
	parts := make([]string, len(p.record.blocks))
	for j := range parts {
		whole := func(expr string) string { return "coalesce(CAST(" + expr + " AS " + b.bigint() + "), 0)" }
		parts[j] = fmt.Sprintf("SELECT %d AS j, count(*) AS keys, %s AS records, %s AS pairs, %s AS largest, count(CASE WHEN n > %d THEN 1 END) AS beyond FROM (%s) AS s",
			j, whole("sum(n)"), whole("sum("+b.d.IntDiv("n * (n - 1)", 2)+")"), whole("max(n)"), most, sizes(j))
	}
	var problems diag.List
	p.blocks = make([]Block, len(parts))
	over := make([]int64, len(parts))
	err := b.each(ctx, strings.Join(parts, " UNION ALL ")+" ORDER BY j", func(row []any) {
		j := whole(row[0])
		p.blocks[j] = Block{Rule: p.match.Name, Block: strings.Join(p.match.Block[j], ", "), Keys: whole(row[1]), Records: whole(row[2]), Pairs: whole(row[3]), Largest: whole(row[4])}
		over[j] = whole(row[5])
	})
	if err != nil {
		return err
	}
	for j, n := range over {
		if n == 0 {
			continue
		}
		var largest []string
		err := b.each(ctx, fmt.Sprintf("SELECT %s AS k, n FROM (%s) AS s WHERE n > %d ORDER BY n DESC, k LIMIT %d", b.d.HashText("k"), sizes(j), most, blocksShown), func(row []any) {
			hash, _ := row[0].(string)
			largest = append(largest, fmt.Sprintf("%d (%s)", whole(row[1]), hash))
		})
		if err != nil {
			return err
		}
		problems.Add(diag.At(p.match.At("block"), "identity.max_block", "match %s: %s of block %s more records than max_block, %d: the largest %s, by the hash of the key; %d pairs in all",
			p.match.Name, count(n, "key"), p.blocks[j].Block+have(n), most, strings.Join(largest, ", "), p.blocks[j].Pairs).
			WithHint("nothing was changed. Add a column to the key, take the value that many share out in the model, or raise max_block"))
	}
	return problems.Err()
}

func have(n int64) string {
	if n == 1 {
		return " has"
	}
	return " have"
}

// candidates are the pairs of records a and b that share a key of a block, each once.
func (p *pairing) candidates(j int) string {
	return fmt.Sprintf("%s AS a JOIN %[1]s AS b ON a.key%[2]d = b.key%[2]d AND a.h < b.h", p.records, j)
}

// notBefore are the conditions that a pair shares no key of an earlier block.
func (p *pairing) notBefore(j int) []string {
	var out []string
	for i := range j {
		out = append(out, fmt.Sprintf("coalesce(a.key%[1]d <> b.key%[1]d, TRUE)", i))
	}
	return out
}

// stageFound stages the pairs that matched: two rows each, one beside either record.
func (b *builder) stageFound(ctx context.Context, p *pairing) error {
	level := p.level + 1
	var err error
	p.found, err = b.create(ctx, fmt.Sprintf("pairs%d", p.level), fmt.Sprintf("SELECT p.*, %s AS h FROM (SELECT f.*, CASE WHEN va < vb THEN %s ELSE %s END AS v FROM %s AS f) AS p",
		b.surrogate("p.v", level), b.d.JSONArray("va", "vb"), b.d.JSONArray("vb", "va"), p.found))
	if err != nil {
		return err
	}
	s := stage{levels: []int{p.level, level}, pairs: level}
	side := func(h, v string) string {
		return fmt.Sprintf("SELECT %s AS v%d, %s AS h%[2]d, FALSE AS ignored%[2]d, v AS v%[4]d, h AS h%[4]d, FALSE AS ignored%[4]d, seen FROM %[5]s", v, p.level, h, level, p.found)
	}
	s.table, err = b.create(ctx, fmt.Sprintf("beside%d", p.level), side("a", "va")+" UNION ALL "+side("b", "vb"))
	b.stages = append(b.stages, s)
	return err
}

// visible leaves the levels out that have done their work, and are in no profile: decisions and pairs.
func (b *builder) visible(ctx context.Context, nodes string) (string, error) {
	b.linked = nodes
	var hidden []string
	for i, l := range b.levels {
		if l.decided || l.pair {
			hidden = append(hidden, fmt.Sprint(i+1))
		}
	}
	if len(hidden) == 0 {
		return nodes, nil
	}
	return b.create(ctx, "people", "SELECT * FROM "+nodes+" WHERE level NOT IN ("+strings.Join(hidden, ", ")+")")
}

// distances are the bounds of a comparison by letters, the least first.
func distances(c *config.Comparison, model bool) []int {
	if model && !c.Has("equal") && len(c.EditDistance)+len(c.JaroWinkler)+len(c.Within) == 0 && !c.Equal && !c.Soundex {
		return []int{1, 2}
	}
	out := make([]int, len(c.EditDistance))
	for i, n := range c.EditDistance {
		out[i] = int(n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func descending(ns config.Numbers) []float64 {
	out := slices.Clone([]float64(ns))
	slices.SortFunc(out, func(a, b float64) int { return cmp.Compare(b, a) })
	return slices.Compact(out)
}

func nearest(within []config.Within) []config.Within {
	out := slices.Clone(within)
	slices.SortFunc(out, func(a, b config.Within) int {
		return cmp.Or(cmp.Compare(a.Days, b.Days), cmp.Compare(a.Number, b.Number))
	})
	return slices.Compact(out)
}
