package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// MatchTables are how the names of the tables end that an entity with rules about pairs has beside identity_<entity>: the pairs that
// matched, those to be reviewed, the sizes of blocks, the models.
func MatchTables() []string { return []string{"_matches", "_review", "_blocks", "_models"} }

// maxBlocks bounds the keys of one rule.
const maxBlocks = 20

// DefaultReview is where pairs begin to be worth a person's look.
const DefaultReview Percent = 0.7

// ReviewFrom is the probability from which pairs are listed.
func (p *Probability) ReviewFrom() Percent {
	if p.Review != nil {
		return *p.Review
	}
	return min(DefaultReview, p.Threshold)
}

// Terms tells whether a value's frequency counts.
func (p *Probability) Terms() bool { return p.TermFrequency == nil || *p.TermFrequency }

func decodeNumbers(d *decoder, t *tree, key string) (Numbers, bool) {
	var out Numbers
	whole := each(t, func(item *tree) bool {
		var n float64
		ok := d.scalar(item, reflect.ValueOf(&n).Elem(), key)
		out = append(out, n)
		return ok
	})
	return out, whole && len(out) > 0
}

// each calls decode with a value, or with all of a list.
func each(t *tree, decode func(*tree) bool) bool {
	items := []*tree{t}
	if t.shape == sequence {
		items = t.items
	}
	whole := true
	for _, item := range items {
		whole = decode(item) && whole
	}
	return whole
}

func decodeWithin(d *decoder, t *tree, key string) ([]Within, bool) {
	var out []Within
	whole := each(t, func(item *tree) bool {
		r, ok := d.text(item, key, "a number, or days")
		if !ok || d.refs.blind && r.from {
			return false
		}
		var w Within
		switch {
		case setFloat(reflect.ValueOf(&w.Number).Elem(), strings.TrimSpace(r.text)):
		default:
			long, err := ParseDuration(r.text)
			if err != nil || long.Duration <= 0 || long.Duration%(24*time.Hour) != 0 {
				d.wants(item, key, "a number, or whole days").WithHint("within: 5, or within: 1 day")
				return false
			}
			w.Days = int(long.Duration / (24 * time.Hour))
		}
		out = append(out, w)
		return true
	})
	return out, whole && len(out) > 0
}

// matches holds the rules of an entity; their names stand beside those of its identifiers.
func (c *checker) matches(e *Entity, identifiers *scope) {
	for _, m := range e.Match {
		c.named(identifiers, m.Node, m.Name)
		c.known(e, m.Node, "after", m.After)
		c.match(m)
	}
}

func (c *checker) match(m *Match) {
	var said []string
	for _, key := range []string{"on", "compare", "probability"} {
		if m.Has(key) {
			said = append(said, key)
		}
	}
	name := m.shown("name", m.Name)
	switch {
	case len(said) == 0:
		c.problem(m.Pos, "config.match", "match %s does not say what it compares", name).WithHint("on: equal columns; compare: alike ones; probability: a model")
		return
	case len(said) > 1:
		c.problem(m.At(said[1]), "config.match", "match %s has both %s and %s", name, said[0], said[1]).WithHint("make two rules of them")
		return
	}
	if said[0] == "on" {
		if len(m.On) == 0 && m.good("on") {
			c.problem(m.At("on"), "config.match", "match %s compares nothing", name).WithHint("on: [normalize(last_name), birth_date]")
		}
		for _, key := range []string{"block", "max_block"} {
			if m.Has(key) {
				c.problem(m.At(key), "config.match", "match %s: on needs no %s: equal columns find each other", name, key).WithHint("take it away, or use compare")
			}
		}
		return
	}
	c.blocks(m, name)
	if p := m.Probability; p != nil {
		c.probability(p, name)
	} else if len(m.Compare) == 0 && m.good("compare") {
		c.problem(m.At("compare"), "config.match", "match %s compares nothing", name).WithHint("compare: [{column: last_name, edit_distance: 1}]")
	}
	seen := map[string]bool{}
	for _, x := range m.Comparisons() {
		c.comparison(x, name, m.Probability != nil)
		if column := strings.ToLower(strings.TrimSpace(x.Column)); seen[column] {
			c.problem(x.At("column"), "config.match", "match %s compares %s twice", name, x.shown("column", x.Column)).WithHint("one comparison a column")
		} else {
			seen[column] = column != ""
		}
	}
}

func (c *checker) blocks(m *Match, name string) {
	if !m.Has("block") {
		c.problem(m.Pos, "config.match", "match %s has no block: it would compare every row with every other", name).
			WithHint("block: [birth_date, [postcode, soundex(last_name)]]: keys, of which two rows must share one")
		return
	}
	if m.good("block") && (len(m.Block) == 0 || slices.ContainsFunc(m.Block, func(key Strings) bool { return len(key) == 0 })) {
		c.problem(m.At("block"), "config.match", "match %s has a block of no column", name).WithHint("block: [birth_date, [postcode, soundex(last_name)]]")
	}
	if len(m.Block) > maxBlocks {
		c.problem(m.At("block"), "config.match", "match %s has %d blocks; there may be %d", name, len(m.Block), maxBlocks).WithHint("each makes pairs of its own: keep those that find most")
	}
	if m.good("max_block") && m.MaxBlock < 2 {
		c.problem(m.At("max_block"), "config.match", "match %s: max_block wants a number from 2", name)
	}
}

func (c *checker) probability(p *Probability, name string) {
	if len(p.Compare) == 0 && p.good("compare") {
		c.problem(p.At("compare"), "config.match", "match %s compares nothing", name).WithHint("compare: [{column: last_name}, {column: birth_date}]")
	}
	if len(p.Compare) == 1 {
		c.problem(p.At("compare"), "config.match", "match %s: one column says little of how likely two rows are one", name).WithHint("compare two columns at least, better four")
	}
	inside := func(key string, v Percent) bool {
		if p.good(key) && (v <= 0 || v >= 1) {
			c.problem(p.At(key), "config.match", "match %s: %s wants a probability above 0 and below 1", name, key).WithHint("%s: 0.95", key)
			return false
		}
		return !p.spoilt(key)
	}
	ok := inside("threshold", p.Threshold)
	if p.Review != nil && inside("review", *p.Review) && ok && *p.Review > p.Threshold {
		c.problem(p.At("review"), "config.match", "match %s: review is above threshold: no pair would be listed", name).WithHint("pairs from review up to threshold are listed")
	}
}

// comparison holds that a comparison says one thing, or in a probability that its levels can be told apart.
func (c *checker) comparison(x *Comparison, name string, levels bool) {
	column := x.shown("column", x.Column)
	var said []string
	for _, key := range []string{"equal", "edit_distance", "jaro_winkler", "soundex", "within"} {
		if x.Has(key) {
			said = append(said, key)
		}
	}
	if !levels {
		switch {
		case len(said) == 0:
			c.problem(x.Pos, "config.match", "match %s does not say when %s is alike", name, column).
				WithHint("equal, edit_distance, jaro_winkler, soundex or within")
		case len(said) > 1:
			c.problem(x.At(said[1]), "config.match", "match %s compares %s by both %s and %s", name, column, said[0], said[1]).WithHint("keep one of them")
		}
		for key, n := range map[string]int{"edit_distance": len(x.EditDistance), "jaro_winkler": len(x.JaroWinkler), "within": len(x.Within)} {
			if n > 1 {
				c.problem(x.At(key), "config.match", "match %s: %s of %s wants one bound", name, key, column).WithHint("several are levels of a probability")
			}
		}
	}
	for _, key := range []string{"equal", "soundex"} {
		if on := map[string]bool{"equal": x.Equal, "soundex": x.Soundex}[key]; x.good(key) && !on {
			c.problem(x.At(key), "config.match", "match %s: %s: false says nothing of %s", name, key, column).WithHint("take it away")
		}
	}
	for _, n := range x.EditDistance {
		if n < 1 || n != float64(int(n)) || n > 20 {
			c.problem(x.At("edit_distance"), "config.match", "match %s: edit_distance of %s wants a whole number from 1 to 20", name, column).WithHint("none is equal: true")
		}
	}
	for _, n := range x.JaroWinkler {
		if n <= 0 || n >= 1 {
			c.problem(x.At("jaro_winkler"), "config.match", "match %s: jaro_winkler of %s wants a similarity above 0 and below 1", name, column).WithHint("jaro_winkler: 0.92")
		}
	}
	dates := slices.ContainsFunc(x.Within, func(w Within) bool { return w.Days > 0 })
	numbers := slices.ContainsFunc(x.Within, func(w Within) bool { return w.Days == 0 })
	if dates && numbers {
		c.problem(x.At("within"), "config.match", "match %s: within of %s has both days and a number", name, column).WithHint("a column is a date or a number")
	}
	if numbers && (len(x.EditDistance) > 0 || len(x.JaroWinkler) > 0 || x.Soundex) {
		c.problem(x.At("within"), "config.match", "match %s compares %s both as a number and as a text", name, column).WithHint("keep one of them")
	}
}
