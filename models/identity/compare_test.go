package identity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/internal/diag"
)

// What follows are the comparisons as their definitions say them, one pair at a time.

// editDistance is the whole matrix of Levenshtein's distance.
func editDistance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
		}
	}
	return d[len(a)][len(b)]
}

// jaroWinkler is Jaro's similarity, and Winkler's bonus of a tenth a letter of the common beginning, up to four, where it is above 0.7.
func jaroWinkler(a, b string) float64 {
	if a == b {
		return 1
	}
	window := max(len(a), len(b))/2 - 1
	var left []byte
	taken := make([]bool, len(b))
	for i := range len(a) {
		for j := range len(b) {
			if j >= i-window && j <= i+window && !taken[j] && a[i] == b[j] {
				taken[j] = true
				left = append(left, a[i])
				break
			}
		}
	}
	var right []byte
	for j := range len(b) {
		if taken[j] {
			right = append(right, b[j])
		}
	}
	m := float64(len(left))
	if m == 0 {
		return 0
	}
	turned := 0
	for i := range left {
		if left[i] != right[i] {
			turned++
		}
	}
	jaro := (m/float64(len(a)) + m/float64(len(b)) + (m-math.Floor(float64(turned)/2))/m) / 3
	if jaro <= 0.7 {
		return jaro
	}
	common := 0
	for common < 4 && common < len(a) && common < len(b) && a[common] == b[common] {
		common++
	}
	return jaro + float64(common)*0.1*(1-jaro)
}

// soundex goes through the letters as the National Archives describe it.
func soundex(s string) string {
	codes := map[rune]byte{}
	for digit, letters := range map[byte]string{'1': "bfpv", '2': "cgjkqsxz", '3': "dt", '4': "l", '5': "mn", '6': "r"} {
		for _, r := range letters {
			codes[r] = digit
		}
	}
	out := []byte{}
	var last byte
	for _, r := range strings.ToLower(s) {
		if r < 'a' || r > 'z' {
			continue
		}
		code := codes[r]
		switch {
		case len(out) == 0:
			out = append(out, byte(r)-'a'+'A')
			last = code
		case r == 'h' || r == 'w':
		case code == 0:
			last = 0
		case code != last:
			out = append(out, code)
			last = code
		}
	}
	if len(out) == 0 {
		return ""
	}
	return string(append(out, "000"...)[:4])
}

// person is a row that is compared; "" = NULL.
type person struct{ first, last, born, amount, city string }

// field is a column's value by name.
func (p person) field(name string) string {
	return map[string]string{"first_name": p.first, "last_name": p.last, "born": p.born, "amount": p.amount, "city": p.city}[name]
}

func drawPeople(t *rapid.T, name string) []person {
	draw := func(values ...string) *rapid.Generator[string] { return rapid.SampledFrom(values) }
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) person {
		return person{
			first:  draw("", "ann", "anna", "anne", "hanna", "bo", "bob").Draw(t, "first"),
			last:   draw("", "smith", "smyth", "smithe", "jensen", "jonsen", "hansen", "ashcraft", "ashcroft").Draw(t, "last"),
			born:   draw("", "1980-01-01", "1980-01-02", "1980-01-31", "1981-01-01").Draw(t, "born"),
			amount: draw("", "1", "1.5", "6", "-3").Draw(t, "amount"),
			city:   draw("", "8000", "9000").Draw(t, "city"),
		}
	}), 0, 12).Draw(t, name)
}

func loadPeople(t testing.TB, w warehouse.Warehouse, people []person) {
	t.Helper()
	text := func(s string) string {
		if s == "" {
			return "NULL"
		}
		return "'" + s + "'"
	}
	values := []string{"(NULL, NULL, NULL, NULL, NULL, NULL)"}
	for i, p := range people {
		values = append(values, fmt.Sprintf("('%d', %s, %s, %s, %s, %s)", i, text(p.first), text(p.last), text(p.born), text(p.amount), text(p.city)))
	}
	exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: "t1"}, `SELECT CAST(uid AS VARCHAR) AS uid, CAST(first_name AS VARCHAR) AS first_name, CAST(last_name AS VARCHAR) AS last_name,
	CAST(born AS DATE) AS born, CAST(amount AS DOUBLE PRECISION) AS amount, CAST(city AS VARCHAR) AS city FROM (VALUES `+strings.Join(values, ", ")+`) v(uid, first_name, last_name, born, amount, city)`))
}

// alike is one comparison of two people.
func alike(c *config.Comparison, a, b person) bool {
	x, y := a.field(c.Column), b.field(c.Column)
	if x == "" || y == "" {
		return false
	}
	switch {
	case c.Equal:
		return x == y
	case len(c.EditDistance) > 0:
		return editDistance(x, y) <= int(c.EditDistance[0])
	case len(c.JaroWinkler) > 0:
		return jaroWinkler(x, y) >= c.JaroWinkler[0]
	case c.Soundex:
		return soundex(x) == soundex(y)
	case c.Within[0].Days > 0:
		p, _ := time.Parse(time.DateOnly, x)
		q, _ := time.Parse(time.DateOnly, y)
		return math.Abs(p.Sub(q).Hours()/24) <= float64(c.Within[0].Days)
	default:
		var p, q float64
		_, _ = fmt.Sscan(x, &p)
		_, _ = fmt.Sscan(y, &q)
		return math.Abs(p-q) <= c.Within[0].Number
	}
}

// sharesBlock tells whether two people have one of the keys in common.
func sharesBlock(blocks []config.Strings, a, b person) bool {
	for _, block := range blocks {
		same := true
		for _, column := range block {
			x, y := a.field(column), b.field(column)
			if in, ok := strings.CutPrefix(column, "soundex("); ok {
				in = strings.TrimSuffix(in, ")")
				x, y = soundex(a.field(in)), soundex(b.field(in))
			}
			same = same && x != "" && x == y
		}
		if same {
			return true
		}
	}
	return false
}

// jaroWinklers are the rules' columns by which similarity can be asked for where the engine knows it.
func comparisonsOf(t *rapid.T, d warehouse.Dialect) []*config.Comparison {
	kinds := []*config.Comparison{
		{Column: "last_name", EditDistance: config.Numbers{1}}, {Column: "last_name", Soundex: true}, {Column: "last_name", Equal: true}, {Column: "last_name", EditDistance: config.Numbers{2}},
	}
	if expr, _ := d.JaroWinkler("a", "b"); expr != "" && conformance.Carried() == "" {
		kinds = append(kinds, &config.Comparison{Column: "last_name", JaroWinkler: config.Numbers{0.92}}, &config.Comparison{Column: "last_name", JaroWinkler: config.Numbers{0.8}})
	}
	out := []*config.Comparison{rapid.SampledFrom(kinds).Draw(t, "last")}
	for _, c := range []*config.Comparison{
		{Column: "first_name", EditDistance: config.Numbers{1}},
		{Column: "born", Within: []config.Within{{Days: 1}}},
		{Column: "born", Within: []config.Within{{Days: 30}}},
		{Column: "amount", Within: []config.Within{{Number: 5}}},
		{Column: "city", Equal: true},
	} {
		if !slices.ContainsFunc(out, func(x *config.Comparison) bool { return x.Column == c.Column }) && rapid.IntRange(0, 2).Draw(t, "with "+c.Column) == 0 {
			out = append(out, c)
		}
	}
	return out
}

// TestCompareIsAllPairs holds rules with compare against every pair of people, compared one by one.
func TestCompareIsAllPairs(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		people := drawPeople(rt, "people")
		loadPeople(t, w, people)
		rule := &config.Match{Name: "close", Compare: comparisonsOf(rt, w.Dialect()), Block: rapid.SampledFrom([][]config.Strings{
			{{"born"}, {"city", "soundex(last_name)"}}, {{"soundex(last_name)"}}, {{"city"}}, {{"city"}, {"born"}, {"first_name"}},
		}).Draw(rt, "block")}
		exec(t, w, "DROP TABLE IF EXISTS identity_customer", "DROP TABLE IF EXISTS identity_customer_merges")
		spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
		rules := []*config.Match{rule}
		if rapid.Bool().Draw(rt, "and another rule") {
			rules = append(rules, &config.Match{Name: "other", Compare: comparisonsOf(rt, w.Dialect()), Block: []config.Strings{{"first_name"}}})
		}
		spec.Entity.Match = rules
		buildWith(t, w, spec, rapid.SampledFrom([]int64{0, finishBelow}).Draw(rt, "finish"), decideAtOnce)
		of := map[string]string{}
		for i := range people {
			of[fmt.Sprint(i)] = fmt.Sprint(i)
		}
		for i, a := range people {
			for j, b := range people[:i] {
				if !slices.ContainsFunc(rules, func(m *config.Match) bool {
					return sharesBlock(m.Block, a, b) && !slices.ContainsFunc(m.Compare, func(c *config.Comparison) bool { return !alike(c, a, b) })
				}) {
					continue
				}
				from, to := of[fmt.Sprint(i)], of[fmt.Sprint(j)]
				for k, g := range of {
					if g == from {
						of[k] = to
					}
				}
			}
		}
		got := query(t, w, "SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'user_id' GROUP BY profile_id")
		if want := grouped(of); !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v\n%v", got, want, people)
		}
		again := buildWith(t, w, spec, finishBelow, decideAtOnce)
		if again.Born+again.Merged+again.Split != 0 {
			rt.Fatalf("the same rows again: %+v", again)
		}
	})
}

func refusal(t *testing.T, err error, code, msg, hint string) {
	t.Helper()
	var d *diag.Error
	if !errors.As(err, &d) || d.Code != code || !strings.Contains(d.Msg, msg) || !strings.Contains(d.Hint, hint) {
		t.Errorf("got %v, want %s with %q and %q", err, code, msg, hint)
	}
}

func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	w := open(t)
	loadPeople(t, w, []person{{"a", "b", "1980-01-01", "1", "8000"}, {"c", "d", "1980-01-02", "2", "8000"}, {"e", "f", "", "", "8000"}, {"g", "h", "", "", "9000"}})
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
	rule := &config.Match{Name: "close", Compare: []*config.Comparison{{Column: "last_name", EditDistance: config.Numbers{1}}}, Block: []config.Strings{{"born"}, {"city"}}, MaxBlock: 2}
	spec.Entity.Match = []*config.Match{rule}
	_, err := Build(t.Context(), w, spec)
	refusal(t, err, "identity.max_block", "match close: 1 key of block city has more records than max_block, 2: the largest 3 (", "nothing was changed")
	if err != nil && strings.Contains(err.Error(), "8000") {
		t.Errorf("the key itself is in the message: %v", err)
	}
	if there, err := w.Exists(t.Context(), spec.Target); err != nil || there {
		t.Errorf("something was built: %v", err)
	}
	rule.MaxBlock = 3
	build(t, w, spec)
	rule.Compare[0].Column = "lst_name"
	_, err = Build(t.Context(), w, spec)
	refusal(t, err, "entity.match", `no input has a column "lst_name"`, "last_name")
	if w.Dialect().Name() == "postgres" {
		rule.Compare[0].Column = "last_name"
		exec(t, w, "DROP EXTENSION fuzzystrmatch")
		_, err = Build(t.Context(), w, spec)
		refusal(t, err, "entity.match", "postgres does not know the function for edit_distance", "CREATE EXTENSION fuzzystrmatch")
	}
	if expr, wayOut := w.Dialect().JaroWinkler("a", "b"); expr == "" {
		rule.Compare[0] = &config.Comparison{Column: "last_name", JaroWinkler: config.Numbers{0.9}}
		_, err = Build(t.Context(), w, spec)
		refusal(t, err, "entity.match", w.Dialect().Name()+" has no function for jaro_winkler", wayOut)
	}
}

// A rule that is tried before the least trusted identifier joins those whose devices are then theirs, and a merge is recorded as any.
func TestCompareStandsInTheOrderOfTrust(t *testing.T) {
	t.Parallel()
	w := open(t)
	table := func(last string) {
		exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: "t1"}, `SELECT CAST(uid AS VARCHAR) AS uid, CAST(mail AS VARCHAR) AS mail, CAST(anon AS VARCHAR) AS anon, CAST(last_name AS VARCHAR) AS last_name, CAST(born AS VARCHAR) AS born FROM (VALUES
	('1', 'a@x.dk', 'phone', 'Smith', '1980'), ('2', 'b@x.dk', 'laptop', '`+last+`', '1980'), (NULL, NULL, 'tablet', 'smythe', '1980'), (NULL, NULL, 'phone', NULL, NULL), ('3', NULL, 'desk', 'Holm', '1980')) v(uid, mail, anon, last_name, born)`))
	}
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid", "email": "mail", "anonymous_id": "anon"}})
	spec.Entity.Identifiers[2].Limit = 3
	spec.Entity.Match = []*config.Match{{Name: "close", After: "email", Compare: []*config.Comparison{{Column: "last_name", EditDistance: config.Numbers{1}}}, Block: []config.Strings{{"born"}}}}
	table("Jensen")
	build(t, w, spec)
	devices := func() string {
		return strings.Join(query(t, w, "SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'anonymous_id' GROUP BY profile_id"), ", ")
	}
	if got, want := devices(), "desk, laptop, phone, tablet"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	table("Smyth")
	if r := build(t, w, spec); r.Merged != 2 || r.Refused != 0 {
		t.Errorf("%+v, want two merges", r)
	}
	if got, want := devices(), "desk, laptop phone tablet"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	spec.Entity.Identifiers[2].Limit = 2
	if r := build(t, w, spec); r.Refused != 1 {
		t.Errorf("%+v, want one device refused", r)
	}
}

// A limit of a more trusted identifier, and a pair that is never one, hold apart what a rule would join; what has no identifier
// belongs to whom its record does.
func TestCompareHeedsLimits(t *testing.T) {
	t.Parallel()
	w := open(t)
	loadPeople(t, w, []person{{"ann", "smith", "1980-01-01", "", ""}, {"ann", "smyth", "1980-01-01", "", ""}, {"ann", "smitt", "1980-01-01", "", ""}})
	exec(t, w, "INSERT INTO t1 (first_name, last_name, born) VALUES ('anne', 'smith', DATE '1980-01-01'), ('bo', 'holm', DATE '1980-01-01')")
	spec := customer(&config.Input{Identifiers: map[string]string{"user_id": "uid"}})
	spec.Entity.Match = []*config.Match{{Name: "close", Compare: []*config.Comparison{{Column: "last_name", EditDistance: config.Numbers{1}}, {Column: "first_name", EditDistance: config.Numbers{1}}}, Block: []config.Strings{{"born"}}}}
	users := func() string {
		return strings.Join(query(t, w, `SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'user_id' GROUP BY profile_id`), ", ")
	}
	build(t, w, spec)
	if got := users(); got != "0 1 2" {
		t.Errorf("got %s", got)
	}
	from, err := Rows(context.Background(), w, spec.Entity, spec.Inputs[0], spec.Target)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, w, "SELECT first_name, count(*), count(DISTINCT "+ProfileColumn+") FROM "+from+" AS r GROUP BY first_name"); !slices.Equal(got, []string{"anne|1|1", "ann|3|1", "bo|1|1"}) {
		t.Errorf("rows and their profiles: %v", got)
	}
	spec.Entity.Decisions = &config.Decisions{Never: [][]string{{"user_id:0", "user_id:1"}}}
	build(t, w, spec)
	if got := users(); got != "0 2, 1" {
		t.Errorf("got %s", got)
	}
	spec.Entity.Decisions = nil
	spec.Entity.Identifiers[0].Limit = 1
	r := build(t, w, spec)
	if got := users(); got != "0, 1, 2" || r.Refused != 4 {
		t.Errorf("got %s, %d refused", got, r.Refused)
	}
	if got := query(t, w, "SELECT DISTINCT identifier, refused FROM identity_customer WHERE refused IS NOT NULL"); !slices.Equal(got, []string{"close|limit: 1 user_id"}) {
		t.Errorf("refused: %v", got)
	}
	// Whoever has no identifier follows the record that is like it.
	if got := query(t, w, "SELECT count(DISTINCT profile_id) FROM identity_customer"); got[0] != "4" {
		t.Errorf("%s profiles, want 4", got[0])
	}
}
