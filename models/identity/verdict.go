package identity

// verdict decides the values of components in which some may be refused. Values are numbered in the order of their decision; groups
// are a forest over them, rooted in the value decided first.
type verdict struct {
	unionFind
	levels  []Level
	level   []int     // of each value
	rows    [][]int32 // values of each row, most trusted first
	in      [][]int32 // rows of each value
	counts  [][]int   // of a root: used values of each level
	refused []int     // of each value: why, as limitName numbers it; 0 = it is not
	never   map[int32][]int32
	held    map[int32][]int32 // of a root: its values that never has
}

func newVerdict(levels []Level) *verdict {
	return &verdict{unionFind: unionFind{index: map[int64]int32{}}, levels: levels, never: map[int32][]int32{}, held: map[int32][]int32{}}
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

// apart adds two surrogates that never belong to one profile.
func (v *verdict) apart(pair []any) {
	x, _ := pair[0].(int64)
	y, _ := pair[1].(int64)
	a, ok := v.index[x]
	b, ok2 := v.index[y]
	if ok && ok2 && a != b {
		v.never[a], v.never[b] = append(v.never[a], b), append(v.never[b], a)
	}
}

// decide uses or refuses each value in turn. The groups it would join are those of the more trusted used values of its rows.
func (v *verdict) decide() {
	for i := range v.ids {
		if i == 0 || v.level[i] != v.level[i-1] {
			v.share(i)
		}
		if v.refused[i] == 0 {
			v.one(int32(i))
		}
	}
}

// share refuses the values of a level, the first of which is given, that stand beside too many profiles: those that the levels above
// have made, whatever this one makes of them.
func (v *verdict) share(first int) {
	level := v.level[first]
	above := v.levels[level-1].sharedAbove()
	if above == 0 {
		return
	}
	for i := first; i < len(v.ids) && v.level[i] == level; i++ {
		if len(v.touched(int32(i))) > above && !v.forced(int32(i)) {
			v.refused[i] = len(v.levels) + level
		}
	}
}

func (v *verdict) one(i int32) {
	groups := v.touched(i)
	counts := make([]int, len(v.levels))
	counts[v.level[i]-1] = 1
	before := make([]int, len(v.levels)) // the most that one of the groups has already
	for _, g := range groups {
		for l, n := range v.counts[g] {
			counts[l] += n
			before[l] = max(before[l], n)
		}
	}
	if !v.forced(i) {
		if v.refused[i] = v.over(counts, before); v.refused[i] == 0 && v.parted(i, groups) {
			v.refused[i] = 2*len(v.levels) + 1
		}
		if v.refused[i] > 0 {
			return
		}
	}
	root := i
	for _, g := range groups {
		root = min(root, g)
	}
	var held []int32
	if len(v.never[i]) > 0 {
		held = []int32{i}
	}
	for _, g := range append(groups, i) {
		v.parent[g] = root
		v.counts[g] = nil
		held = append(held, v.held[g]...)
		delete(v.held, g)
	}
	v.counts[root] = counts
	if len(held) > 0 {
		v.held[root] = held
	}
}

// forced tells whether a pair that is always one has the value: then nothing refuses it.
func (v *verdict) forced(i int32) bool {
	if !v.levels[0].decided {
		return false
	}
	for _, r := range v.in[i] {
		if v.level[v.rows[r][0]] == 1 {
			return true
		}
	}
	return false
}

// parted tells whether value i would bring two together that are never one.
func (v *verdict) parted(i int32, groups []int32) bool {
	if len(v.never) == 0 {
		return false
	}
	of := map[int32]int{i: -1} // value that never has → its group
	for n, g := range groups {
		for _, x := range v.held[g] {
			of[x] = n
		}
	}
	for x, n := range of {
		for _, y := range v.never[x] {
			if m, ok := of[y]; ok && m != n {
				return true
			}
		}
	}
	return false
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

// over is the first level whose limit the counts exceed, and which no group had exceeded as far before (only decisions do); 0 = none.
func (v *verdict) over(counts, before []int) int {
	for l, n := range counts {
		if limit := v.levels[l].limit(); limit > 0 && n > limit && n > before[l] {
			return l + 1
		}
	}
	return 0
}
