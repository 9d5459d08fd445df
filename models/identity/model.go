package identity

import (
	"math"
	"slices"
)

// model is how likely records are one, fitted to counts of patterns.
type model struct {
	records     int64
	prior       float64 // the probability that two records at random are one
	comparisons []*comparison
	sessions    []*session
	random      []pattern // of pairs at random
	blocked     []pattern // of pairs that share a key
}

// comparison is one column of the model. Its levels go from none up to equality.
type comparison struct {
	column  string
	names   []string
	m, u    []float64 // of each level, among pairs that are one and among others, where both have a value
	random  []float64 // among pairs at random, which are nearly all of others
	trained bool      // m was estimated, and is not what is assumed of a column that is in every key
}

// pattern is a way to agree, and how many pairs do so.
type pattern struct {
	levels []int // of each comparison; -1 = one of the two has nothing
	blocks int64 // a bit for each block whose key the pairs share
	pairs  float64
}

// session is the pairs of one block, and the comparisons that its key says nothing of.
type session struct {
	bit     int64
	free    []int
	m       [][]float64 // of the free comparisons
	share   float64     // of the pairs that are one
	matches []float64   // of the free comparisons: pairs that are one and have both values
}

const (
	assumedEqual = 0.95 // m of equality before anything is known
	pseudo       = 0.5  // pairs added for each level, so that what was never met is improbable and not impossible
	converged    = 1e-7
	maxRounds    = 1000
	corrections  = 3 // of u by what m and the prior say of it
	goodShare    = 0.01
)

func newModel(records int64) *model { return &model{records: records} }

func (m *model) compare(column string, names []string) {
	c := &comparison{column: column, names: names, u: make([]float64, len(names)), random: make([]float64, len(names))}
	c.m = assumed(len(names))
	m.comparisons = append(m.comparisons, c)
}

func (m *model) session(bit int64, free []int) {
	m.sessions = append(m.sessions, &session{bit: bit, free: free})
}

// fit estimates u from pairs at random, m block by block with u as it is, and the prior from all pairs of blocks. Among the random
// pairs are some that are one; what they add to u is taken off by m and the prior, and all is done again.
func (m *model) fit() {
	for i, c := range m.comparisons {
		counts := make([]float64, len(c.names))
		for _, x := range m.random {
			if level := x.levels[i]; level >= 0 {
				counts[level] += x.pairs
			}
		}
		c.random = shares(counts, even(len(counts)))
		c.u = slices.Clone(c.random)
	}
	for range corrections {
		m.maximise()
		m.findPrior()
		m.correct()
	}
	m.maximise()
	m.findPrior()
}

// assumed is m before anything is known.
func assumed(levels int) []float64 {
	out := make([]float64, levels)
	for i := range out {
		out[i] = (1 - assumedEqual) / float64(levels-1)
	}
	out[levels-1] = assumedEqual
	return out
}

// shares are counts as shares, none of them 0: some pairs are added that are spread as before was.
func shares(counts, before []float64) []float64 {
	added := pseudo * float64(len(counts))
	total := added
	for _, n := range counts {
		total += n
	}
	out := make([]float64, len(counts))
	for i, n := range counts {
		out[i] = (n + added*before[i]) / total
	}
	return out
}

func even(levels int) []float64 {
	out := make([]float64, levels)
	for i := range out {
		out[i] = 1 / float64(levels)
	}
	return out
}

// correct takes from u what pairs that are one have added to it.
func (m *model) correct() {
	pairs := 0.0
	for _, x := range m.random {
		pairs += x.pairs
	}
	least := pseudo / (pairs + 1)
	for _, c := range m.comparisons {
		total := 0.0
		for level := range c.u {
			c.u[level] = max(c.random[level]-m.prior*c.m[level], least)
			total += c.u[level]
		}
		for level := range c.u {
			c.u[level] /= total
		}
	}
}

// maximise estimates m in each block and puts the estimates together, each with the weight of the pairs it is from. A block in which
// hardly a pair is one says little of those that are, and counts only where there is no better.
func (m *model) maximise() {
	good := false
	for _, s := range m.sessions {
		m.expect(s)
		good = good || s.share >= goodShare
	}
	for i, c := range m.comparisons {
		sum, weight := make([]float64, len(c.names)), 0.0
		for _, s := range m.sessions {
			at := slices.Index(s.free, i)
			if at < 0 || s.m == nil || good && s.share < goodShare {
				continue
			}
			weight += s.matches[at]
			for level, v := range s.m[at] {
				sum[level] += v * s.matches[at]
			}
		}
		if c.trained = weight > 0; !c.trained {
			continue
		}
		for level := range sum {
			c.m[level] = sum[level] / weight
		}
	}
}

// expect is expectation–maximisation over the pairs of one block: whether a pair is one by the m so far, then m by that. Two free
// comparisons at least are needed to tell m from the share of pairs that are one.
func (m *model) expect(s *session) {
	s.m, s.share = nil, 0
	total := 0.0
	var patterns []pattern
	for _, x := range m.blocked {
		if x.blocks&s.bit != 0 {
			patterns = append(patterns, x)
			total += x.pairs
		}
	}
	if len(s.free) < 2 || total == 0 {
		return
	}
	s.share = 0.1
	for _, i := range s.free {
		s.m = append(s.m, assumed(len(m.comparisons[i].names)))
	}
	for range maxRounds {
		counts := make([][]float64, len(s.free))
		s.matches = make([]float64, len(s.free))
		for at, i := range s.free {
			counts[at] = make([]float64, len(m.comparisons[i].names))
		}
		one := 0.0
		for _, x := range patterns {
			odds := logit(s.share)
			for at, i := range s.free {
				if level := x.levels[i]; level >= 0 {
					odds += math.Log(s.m[at][level] / m.comparisons[i].u[level])
				}
			}
			p := x.pairs * logistic(odds)
			one += p
			for at, i := range s.free {
				if level := x.levels[i]; level >= 0 {
					counts[at][level] += p
					s.matches[at] += p
				}
			}
		}
		moved := 0.0
		share := between(one/total, 1e-9, 1-1e-9)
		moved, s.share = math.Abs(share-s.share), share
		for at := range s.free {
			next := shares(counts[at], assumed(len(counts[at])))
			for level, v := range next {
				moved = max(moved, math.Abs(v-s.m[at][level]))
			}
			s.m[at] = next
		}
		if moved < converged {
			return
		}
	}
}

// findPrior finds the probability that two records at random are one, by which as many pairs of blocks are one as it says there are:
// pairs that share no key count as two.
func (m *model) findPrior() {
	all := float64(m.records) * float64(m.records-1) / 2
	least := 1 / max(all, 2)
	m.prior = max(least, 1e-4)
	for range maxRounds {
		one := 0.0
		for _, x := range m.blocked {
			odds := logit(m.prior)
			for i, level := range x.levels {
				if level >= 0 {
					odds += m.comparisons[i].weight(level)
				}
			}
			one += x.pairs * logistic(odds)
		}
		next := between(one/max(all, 1), least, 0.5)
		done := math.Abs(next-m.prior) < converged*m.prior
		m.prior = next
		if done {
			return
		}
	}
}

// weight is the natural logarithm of by how much a level raises the odds.
func (c *comparison) weight(level int) float64 { return math.Log(c.m[level] / c.u[level]) }

func logit(p float64) float64 { return math.Log(p / (1 - p)) }

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func between(x, least, most float64) float64 { return min(max(x, least), most) }
