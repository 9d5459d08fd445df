package identity

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// twin is the plain reference of the model: all pairs of people, one by one, in Go. It has no patterns and no SQL.
type twin struct {
	people  []person // different ones
	columns []*config.Comparison
	blocks  []config.Strings
	m, u, s [][]float64
	prior   float64
	pairs   []twins
}

// twins are two people, how they agree in each column, and which blocks they share.
type twins struct {
	a, b   person
	levels []int
	blocks []bool
}

// look compares all pairs, once.
func (w *twin) look() {
	for i, a := range w.people {
		for _, b := range w.people[:i] {
			x := twins{a: a, b: b}
			for k := range w.columns {
				x.levels = append(x.levels, w.level(k, a, b))
			}
			for _, block := range w.blocks {
				x.blocks = append(x.blocks, sharesBlock([]config.Strings{block}, a, b))
			}
			w.pairs = append(w.pairs, x)
		}
	}
}

func (x twins) candidate() bool { return slices.Contains(x.blocks, true) }

// level is how two people agree in a column: -1 where one has nothing, 0, or the number of the level.
func (w *twin) level(i int, a, b person) int {
	c := w.columns[i]
	x, y := a.field(c.Column), b.field(c.Column)
	if x == "" || y == "" {
		return -1
	}
	bounds := c.EditDistance
	if len(bounds) == 0 {
		bounds = config.Numbers{1, 2}
	}
	if x == y {
		return len(bounds) + 1
	}
	for k, bound := range bounds {
		if editDistance(x, y) <= int(bound) {
			return len(bounds) - k
		}
	}
	return 0
}

func (w *twin) levels(i int) int {
	if n := len(w.columns[i].EditDistance); n > 0 {
		return n + 2
	}
	return 4
}

// smooth adds half a pair for each level, spread as before is; nil = evenly.
func smooth(counts, before []float64) []float64 {
	total, half := 0.0, 0.5*float64(len(counts))
	for _, n := range counts {
		total += n
	}
	out := make([]float64, len(counts))
	for i, n := range counts {
		out[i] = (n + 0.5) / (total + half)
		if before != nil {
			out[i] = (n + half*before[i]) / (total + half)
		}
	}
	return out
}

// odds are those that two people are one, as a natural logarithm, by some columns.
func (w *twin) odds(prior float64, m [][]float64, columns []int, x twins) float64 {
	out := math.Log(prior / (1 - prior))
	for _, i := range columns {
		if l := x.levels[i]; l >= 0 {
			out += math.Log(m[i][l] / w.u[i][l])
		}
	}
	return out
}

func (w *twin) fit() {
	w.look()
	pairs := float64(len(w.pairs))
	for i := range w.columns {
		counts := make([]float64, w.levels(i))
		for _, x := range w.pairs {
			if x.levels[i] >= 0 {
				counts[x.levels[i]]++
			}
		}
		w.s = append(w.s, smooth(counts, nil))
		w.u = append(w.u, slices.Clone(w.s[i]))
		w.m = append(w.m, start(w.levels(i)))
	}
	everything := make([]int, len(w.columns))
	for i := range everything {
		everything[i] = i
	}
	for round := range 4 {
		w.estimate()
		for range 2000 {
			one := 0.0
			for _, x := range w.pairs {
				if x.candidate() {
					one += 1 / (1 + math.Exp(-w.odds(w.start(pairs), w.m, everything, x)))
				}
			}
			next := min(max(one/max(pairs, 1), 1/max(pairs, 2)), 0.5)
			done := math.Abs(next-w.prior) < 1e-9*w.prior
			w.prior = next
			if done {
				break
			}
		}
		if round == 3 {
			break
		}
		for i := range w.u {
			total := 0.0
			for l := range w.u[i] {
				w.u[i][l] = max(w.s[i][l]-w.prior*w.m[i][l], 0.5/(pairs+1))
				total += w.u[i][l]
			}
			for l := range w.u[i] {
				w.u[i][l] /= total
			}
		}
	}
}

// start is the prior so far.
func (w *twin) start(pairs float64) float64 {
	if w.prior == 0 {
		return max(1/max(pairs, 2), 1e-4)
	}
	return w.prior
}

func start(levels int) []float64 {
	out := make([]float64, levels)
	for l := range out {
		out[l] = 0.05 / float64(levels-1)
	}
	out[levels-1] = 0.95
	return out
}

// estimate is expectation–maximisation over the pairs of each block, and the mean of what the blocks say by their matches.
func (w *twin) estimate() {
	type said struct {
		m       [][]float64
		share   float64
		matches []float64
		free    []int
	}
	var blocks []said
	good := false
	for j, block := range w.blocks {
		var b said
		for i, c := range w.columns {
			if !slices.ContainsFunc(block, func(s string) bool { return s == c.Column || s == "soundex("+c.Column+")" }) {
				b.free = append(b.free, i)
			}
		}
		n := 0.0
		for _, x := range w.pairs {
			if x.blocks[j] {
				n++
			}
		}
		if len(b.free) < 2 || n == 0 {
			continue
		}
		b.share = 0.1
		for i := range w.columns {
			b.m = append(b.m, start(w.levels(i)))
		}
		for range 3000 {
			counts := make([][]float64, len(w.columns))
			for i := range counts {
				counts[i] = make([]float64, w.levels(i))
			}
			b.matches = make([]float64, len(w.columns))
			one := 0.0
			for _, x := range w.pairs {
				if !x.blocks[j] {
					continue
				}
				p := 1 / (1 + math.Exp(-w.odds(b.share, b.m, b.free, x)))
				one += p
				for _, i := range b.free {
					if l := x.levels[i]; l >= 0 {
						counts[i][l] += p
						b.matches[i] += p
					}
				}
			}
			moved := math.Abs(one/n - b.share)
			b.share = min(max(one/n, 1e-9), 1-1e-9)
			for _, i := range b.free {
				next := smooth(counts[i], start(w.levels(i)))
				for l := range next {
					moved = max(moved, math.Abs(next[l]-b.m[i][l]))
				}
				b.m[i] = next
			}
			if moved < 1e-7 {
				break
			}
		}
		good = good || b.share >= 0.01
		blocks = append(blocks, b)
	}
	for i := range w.columns {
		sum, weight := make([]float64, w.levels(i)), 0.0
		for _, b := range blocks {
			if !slices.Contains(b.free, i) || good && b.share < 0.01 {
				continue
			}
			weight += b.matches[i]
			for l := range sum {
				sum[l] += b.m[i][l] * b.matches[i]
			}
		}
		if weight > 0 {
			for l := range sum {
				w.m[i][l] = sum[l] / weight
			}
		}
	}
}

// score is the odds of a pair, with the frequency of what is equal.
func (w *twin) score(a, b person) float64 {
	out := math.Log(w.prior / (1 - w.prior))
	for i, c := range w.columns {
		l := w.level(i, a, b)
		if l < 0 {
			continue
		}
		out += math.Log(w.m[i][l] / w.u[i][l])
		if l == w.levels(i)-1 {
			n := 0.0
			for _, p := range w.people {
				if p.field(c.Column) == a.field(c.Column) {
					n++
				}
			}
			out += math.Log(w.s[i][l] / (n / float64(len(w.people))))
		}
	}
	return out
}

// TestLikelyIsThePlainModel holds model, scores and profiles against the reference, over people drawn at random.
func TestLikelyIsThePlainModel(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		people := drawPeople(rt, "people")
		for range rapid.IntRange(1, 3).Draw(rt, "more") {
			people = append(people, drawPeople(rt, "more people")...)
		}
		loadPeople(t, w, people)
		columns := []*config.Comparison{{Column: "first_name"}, {Column: "last_name", EditDistance: config.Numbers{1}}, {Column: "city"}}
		if rapid.Bool().Draw(rt, "and born") {
			columns = append(columns, &config.Comparison{Column: "born"})
		}
		review := config.Percent(0.3)
		rule := &config.Match{
			Name: "likely", Block: rapid.SampledFrom([][]config.Strings{{{"last_name"}, {"first_name"}}, {{"city", "first_name"}, {"last_name"}}, {{"city"}}}).Draw(rt, "block"),
			Probability: &config.Probability{Compare: columns, Threshold: config.Percent(rapid.SampledFrom([]float64{0.6, 0.9}).Draw(rt, "threshold")), Review: &review},
		}
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
		spec.Entity.Match = []*config.Match{rule}
		b := newBuilder(w, spec)
		defer b.drop(context.Background())
		if err := b.build(context.Background()); err != nil {
			rt.Fatal(err)
		}

		plain := &twin{columns: columns, blocks: rule.Block}
		seen := map[string]bool{}
		key := func(p person) string {
			parts := []string{}
			for _, c := range columns {
				parts = append(parts, p.field(c.Column))
			}
			return strings.Join(parts, "|")
		}
		for _, p := range people {
			if k := key(p); !seen[k] && sharesBlock(rule.Block, p, p) {
				seen[k] = true
				plain.people = append(plain.people, p)
			}
		}
		if len(plain.people) < 2 {
			return
		}
		plain.fit()
		model := b.pairs[0].model
		near := func(what string, got, want float64) {
			if math.Abs(got-want) > 1e-4 && math.Abs(got-want) > 1e-3*math.Abs(want) {
				rt.Fatalf("%s is %v, want %v\n%v", what, got, want, plain.people)
			}
		}
		near("the prior", model.prior, plain.prior)
		for i, c := range model.comparisons {
			for l := range c.names {
				near(fmt.Sprintf("m of %s %s", c.column, c.names[l]), c.m[l], plain.m[i][l])
				near(fmt.Sprintf("u of %s %s", c.column, c.names[l]), c.u[l], plain.u[i][l])
			}
		}
		checkLikely(rt, t, w, plain, rule, people, key)
	})
}

// checkLikely holds the pairs that joined, those to be reviewed and the profiles against the reference's scores.
func checkLikely(rt *rapid.T, t *testing.T, w warehouse.Warehouse, plain *twin, rule *config.Match, people []person, key func(person) string) {
	join, look := math.Log(float64(rule.Probability.Threshold)/(1-float64(rule.Probability.Threshold))), math.Log(0.3/0.7)
	close := func(odds float64) bool { return math.Abs(odds-join) < 0.01 || math.Abs(odds-look) < 0.01 }
	of := map[string]string{}
	for i := range people {
		of[fmt.Sprint(i)] = fmt.Sprint(i)
	}
	merge := func(i, j int) {
		from, to := of[fmt.Sprint(i)], of[fmt.Sprint(j)]
		for k, g := range of {
			if g == from {
				of[k] = to
			}
		}
	}
	joined, listed := 0, 0
	matched := map[string]bool{}
	edge := false
	for _, x := range plain.pairs {
		if !x.candidate() {
			continue
		}
		a, b := x.a, x.b
		odds := plain.score(a, b)
		edge = edge || close(odds)
		switch {
		case odds >= join:
			joined++
			matched[key(a)], matched[key(b)] = true, true
		case odds >= look:
			listed++
		}
	}
	for i, a := range people {
		for j, b := range people[:i] {
			if !sharesBlock(rule.Block, a, b) {
				continue
			}
			odds := plain.score(a, b)
			edge = edge || close(odds)
			if odds >= join || key(a) == key(b) && matched[key(a)] {
				merge(i, j)
			}
		}
	}
	if edge {
		return // too near to a bound to be told
	}
	if got := query(t, w, "SELECT count(*) FROM identity_customer_matches"); got[0] != fmt.Sprint(joined) {
		rt.Fatalf("%s pairs joined, want %d", got[0], joined)
	}
	if got := query(t, w, "SELECT count(*) FROM identity_customer_review"); got[0] != fmt.Sprint(listed) {
		rt.Fatalf("%s pairs are to be reviewed, want %d", got[0], listed)
	}
	got := query(t, w, "SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'user_id' GROUP BY profile_id")
	if want := grouped(of); !slices.Equal(got, want) {
		rt.Fatalf("got %v, want %v\n%v", got, want, people)
	}
}

// makePeople makes n people with one to three records each, in which single letters are wrong and values are missing.
func makePeople(n int, seed uint64) (people []person, truth []int) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same people every time
	syllables := strings.Fields("an ber ka mo li to ra sun den vik hol fre gu pa es tri no wil ja rik")
	name := func(least, most int) string {
		s := ""
		for range least + r.IntN(most-least+1) {
			s += syllables[int(r.ExpFloat64()*5)%len(syllables)]
		}
		return s
	}
	wrong := func(s string, share float64) string {
		switch x := r.Float64(); {
		case s == "" || x < share/4:
			return ""
		case x < share:
			i := r.IntN(len(s))
			return s[:i] + string(rune('a'+r.IntN(26))) + s[i+1:]
		}
		return s
	}
	for i := range n {
		p := person{
			first: name(2, 3), last: name(2, 4), born: fmt.Sprintf("%04d-%02d-%02d", 1940+r.IntN(60), 1+r.IntN(12), 1+r.IntN(28)),
			city: fmt.Sprint(1000 + 100*r.IntN(40)),
		}
		for range 1 + r.IntN(3) {
			x := p
			x.amount = fmt.Sprint(10000 + r.IntN(90000)) // of no one else, so that no two records are the same
			x.first, x.last, x.city = wrong(p.first, 0.2), wrong(p.last, 0.15), wrong(p.city, 0.1)
			if r.Float64() < 0.1 {
				x.born = ""
			}
			people, truth = append(people, x), append(truth, i)
		}
	}
	return people, truth
}

// The model finds how often the columns of one person's records really agree, without being told who is who, and joins them.
func TestLikelyLearnsTheTruth(t *testing.T) {
	t.Parallel()
	w := open(t)
	people, truth := makePeople(400, 7)
	loadPeople(t, w, people)
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
	columns := []*config.Comparison{{Column: "first_name"}, {Column: "last_name"}, {Column: "born"}, {Column: "city"}, {Column: "amount", Within: []config.Within{{Number: 100}}}}
	spec.Entity.Match = []*config.Match{{
		Name: "likely", Block: []config.Strings{{"born"}, {"last_name"}, {"first_name", "city"}},
		Probability: &config.Probability{Compare: columns, Threshold: 0.95},
	}}
	b := newBuilder(w, spec)
	defer b.drop(t.Context())
	if err := b.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain := &twin{columns: columns}
	type record struct {
		person
		of int
	}
	seen := map[record]bool{}
	var records []record
	for i, p := range people {
		if x := (record{p, truth[i]}); !seen[x] {
			seen[x] = true
			records = append(records, x)
		}
	}
	for i, c := range b.pairs[0].model.comparisons[:4] {
		counts, n := make([]float64, len(c.names)), 0.0
		for j, x := range records {
			for _, y := range records[:j] {
				if l := plain.level(i, x.person, y.person); x.of == y.of && l >= 0 {
					counts[l]++
					n++
				}
			}
		}
		for l, name := range c.names {
			if math.Abs(c.m[l]-counts[l]/n) > 0.04 {
				t.Errorf("m of %s %s is %.3f, and %.3f of the pairs are so", c.column, name, c.m[l], counts[l]/n)
			}
		}
	}
	profile := map[string]string{}
	for _, line := range query(t, w, "SELECT value, profile_id FROM identity_customer WHERE identifier = 'user_id'") {
		id, p, _ := strings.Cut(line, "|")
		profile[id] = p
	}
	var found, there, right float64
	for i := range people {
		for j := range i {
			same, one := profile[fmt.Sprint(i)] == profile[fmt.Sprint(j)], truth[i] == truth[j]
			if same {
				found++
			}
			if one {
				there++
			}
			if same && one {
				right++
			}
		}
	}
	if precision, recall := right/found, right/there; precision < 0.98 || recall < 0.9 {
		t.Errorf("precision %.3f, recall %.3f", precision, recall)
	}
	// The same rows in another order, and again, give the same model and the same profiles.
	tables := func() []string {
		out := query(t, w, "SELECT value, profile_id FROM identity_customer")
		out = append(out, query(t, w, "SELECT comparison, agreement, m, u FROM identity_customer_models")...)
		return append(out, query(t, w, "SELECT a, b, score, pattern FROM identity_customer_matches")...)
	}
	before := tables()
	exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: "t1"}, "SELECT * FROM t1 ORDER BY first_name"))
	if r := build(t, w, spec); r.Born+r.Merged+r.Split != 0 {
		t.Errorf("the same rows again: %+v", r)
	}
	if after := tables(); !slices.Equal(before, after) {
		t.Error("the same rows in another order give another model")
	}
	report, err := Health(t.Context(), w, spec.Entity, spec.Target, spec.Merges)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Models) != 1 || len(report.Models[0].Levels) != 19 || report.Models[0].Prior <= 0 || len(report.Blocks) != 3 || report.Matched[0].Pairs == 0 || len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
}

// A column that is in every key cannot be learned, and the report says so.
func TestLikelyTellsWhatItAssumes(t *testing.T) {
	t.Parallel()
	w := open(t)
	people, _ := makePeople(100, 5)
	loadPeople(t, w, people)
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
	spec.Entity.Match = []*config.Match{{
		Name: "likely", Block: []config.Strings{{"soundex(last_name)", "born"}, {"last_name", "city"}},
		Probability: &config.Probability{Compare: []*config.Comparison{{Column: "first_name"}, {Column: "last_name"}, {Column: "born"}, {Column: "city"}}, Threshold: 0.95},
	}}
	build(t, w, spec)
	report, err := Health(t.Context(), w, spec.Entity, spec.Target, spec.Merges)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "how often last_name agrees among rows that are one is assumed") {
		t.Errorf("warnings: %v", report.Warnings)
	}
	for _, l := range report.Models[0].Levels {
		if l.Assumed != (l.Comparison == "last_name") || l.Assumed && l.Agreement == "equal" && math.Abs(l.M-0.95) > 1e-9 {
			t.Errorf("%+v", l)
		}
	}
}

// Two rows that say the same, but next to nothing, are not one: the rule has no value for them.
func TestLikelyIgnoresPoorRecords(t *testing.T) {
	t.Parallel()
	w := open(t)
	people, _ := makePeople(300, 3)
	people = append(people, person{city: "1000"}, person{city: "1000"}, person{first: "ka", city: "1000"})
	loadPeople(t, w, people)
	exec(t, w, "INSERT INTO t1 (city) VALUES ('1000')") // known by nothing
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
	spec.Entity.Match = []*config.Match{{
		Name: "likely", Block: []config.Strings{{"born"}, {"city"}},
		Probability: &config.Probability{Compare: []*config.Comparison{{Column: "first_name"}, {Column: "last_name"}, {Column: "born"}, {Column: "city"}}, Threshold: 0.95},
	}}
	r := build(t, w, spec)
	n := len(people)
	got := query(t, w, fmt.Sprintf("SELECT count(DISTINCT profile_id) FROM identity_customer WHERE identifier = 'user_id' AND value IN ('%d', '%d', '%d')", n-1, n-2, n-3))
	if got[0] != "3" {
		t.Errorf("they are %s profiles, want 3", got[0])
	}
	if r.Ignored["likely"] < 4 || r.Unlinked < 2 { // one of those that are unlinked has nothing at all
		t.Errorf("ignored: %v, unlinked: %d", r.Ignored, r.Unlinked)
	}
}
