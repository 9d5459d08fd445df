package identity

import "github.com/dray-dev/dray/config"

// verdict decides the values of components over a limit. Values are numbered in the order of their decision; groups are a
// forest over them, rooted in the value decided first.
type verdict struct {
	unionFind
	limits  []int     // by level-1; 0 = none
	level   []int     // of each value
	rows    [][]int32 // values of each row, most trusted first
	in      [][]int32 // rows of each value
	counts  [][]int   // of a root: used values of each level
	refused []int     // of each value: the level whose limit it met; 0 = none
}

func newVerdict(identifiers []*config.Identifier) *verdict {
	v := &verdict{unionFind: unionFind{index: map[int64]int32{}}}
	for _, id := range identifiers {
		v.limits = append(v.limits, id.Limit)
	}
	return v
}

// value adds the next value in the order of decision.
func (v *verdict) value(h int64, level int) {
	v.node(h)
	v.level = append(v.level, level)
	v.in = append(v.in, nil)
	v.counts = append(v.counts, nil)
	v.refused = append(v.refused, 0)
}

// row adds the surrogates that stand in one row, most trusted first; NULL for those it has not.
func (v *verdict) row(surrogates []any) {
	var row []int32
	for _, s := range surrogates {
		if h, ok := s.(int64); ok {
			row = append(row, v.index[h])
		}
	}
	for _, i := range row {
		v.in[i] = append(v.in[i], int32(len(v.rows)))
	}
	v.rows = append(v.rows, row)
}

// decide uses or refuses each value in turn. The groups it would join are those of the more trusted used values of its rows.
func (v *verdict) decide() {
	for i := range v.ids {
		groups := v.touched(int32(i))
		counts := make([]int, len(v.limits))
		counts[v.level[i]-1] = 1
		for _, g := range groups {
			for l, n := range v.counts[g] {
				counts[l] += n
			}
		}
		if v.refused[i] = v.over(counts); v.refused[i] > 0 {
			continue
		}
		root := int32(i)
		for _, g := range groups {
			root = min(root, g)
		}
		for _, g := range append(groups, int32(i)) {
			v.parent[g] = root
			v.counts[g] = nil
		}
		v.counts[root] = counts
	}
}

// touched lists the groups, each once, of the used values that stand before value i in its rows.
func (v *verdict) touched(i int32) []int32 {
	var groups []int32
	seen := map[int32]bool{}
	for _, r := range v.in[i] {
		for _, other := range v.rows[r] {
			if v.level[other] >= v.level[i] {
				break
			}
			if v.refused[other] > 0 {
				continue
			}
			if g := v.find(other); !seen[g] {
				seen[g] = true
				groups = append(groups, g)
			}
			break // all used values of one row are of one group
		}
	}
	return groups
}

// over is the first level whose limit the counts exceed; 0 = none.
func (v *verdict) over(counts []int) int {
	for l, n := range counts {
		if v.limits[l] > 0 && n > v.limits[l] {
			return l + 1
		}
	}
	return 0
}
