package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// keeping lets a spec's builds be incremental.
func keeping(spec Spec) Spec {
	name := spec.Target.Name
	spec.Kept = Kept{Rows: warehouse.Table{Name: name + "_rows"}, Components: warehouse.Table{Name: name + "_components"}, State: warehouse.Table{Name: name + "_state"}}
	return spec
}

// beside is the same spec, built fully each time into other tables.
func beside(spec Spec) Spec {
	spec.Target, spec.Merges = warehouse.Table{Name: "full_customer"}, warehouse.Table{Name: "full_customer_merges"}
	spec.Prior, spec.PriorMerges, spec.Kept = spec.Target, spec.Merges, Kept{}
	return spec
}

func dropAll(t testing.TB, w warehouse.Warehouse) {
	for _, table := range []string{"identity_customer", "full_customer"} {
		for _, suffix := range []string{"", "_merges", "_rows", "_components", "_state"} {
			exec(t, w, "DROP TABLE IF EXISTS "+table+suffix)
		}
	}
}

// incrementally builds however much of the graph a change touches, as a small test's changes touch most of it.
func incrementally(t testing.TB, w warehouse.Warehouse, spec Spec, finish int64) Result {
	b := newBuilder(w, spec)
	b.finish = finish
	defer b.drop(context.Background())
	if err := b.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return b.result
}

// visitor is a row with a family name, by which a match rule joins.
type visitor struct {
	row
	family string
}

func drawVisitor(t *rapid.T, name string, newest int) visitor {
	value := rapid.SampledFrom([]string{"", "", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"})
	return rapid.Custom(func(t *rapid.T) visitor {
		return visitor{
			row:    row{values: [3]string{value.Draw(t, "user"), value.Draw(t, "email"), value.Draw(t, "anon")}, day: rapid.IntRange(0, newest).Draw(t, "day")},
			family: rapid.SampledFrom([]string{"", "", "", "Holm", "Lund", "lund"}).Draw(t, "family"),
		}
	}).Draw(t, name)
}

func loadVisitors(t testing.TB, w warehouse.Warehouse, table string, visitors []visitor) {
	values := []string{"(NULL, NULL, NULL, NULL, NULL)"}
	for _, p := range visitors {
		day, family := "NULL", "NULL"
		if p.day > 0 {
			day = fmt.Sprintf("TIMESTAMP '2025-01-%02d 10:00:00'", p.day)
		}
		if p.family != "" {
			family = "'" + p.family + "'"
		}
		values = append(values, fmt.Sprintf("(%s, %s, %s, %s, %s)", p.text(0), p.text(1), p.text(2), family, day))
	}
	exec(t, w, w.Dialect().CreateTableAs(warehouse.Table{Name: table}, fmt.Sprintf(`SELECT CAST(uid AS VARCHAR) AS uid, CAST(mail AS VARCHAR) AS mail, CAST(anon AS VARCHAR) AS anon,
		CAST(family AS VARCHAR) AS family, CAST(ts AS TIMESTAMP) AS ts FROM (VALUES %s) v(uid, mail, anon, family, ts)`, strings.Join(values, ", "))))
}

// history is what stands in the inputs of an entity, as days go by: t1 has times, t2 has none, and t3 links nobody.
type history struct {
	*testing.T
	w        warehouse.Warehouse
	spec     Spec
	tables   [3][]visitor
	day      int
	lookback int // days; 0 = a row of any age may be corrected
	bad      []string
}

func newHistory(t *testing.T, rt *rapid.T, w warehouse.Warehouse) *history {
	h := &history{T: t, w: w, day: 3, lookback: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "lookback")}
	dropAll(t, w)
	one, two, three := allColumns("t1"), allColumns("t2"), allColumns("t3")
	one.Lookback.Duration = time.Duration(h.lookback) * 24 * time.Hour
	two.At = ""
	no := false
	three.Link = &no
	h.spec = customer(one, two, three)
	e := h.spec.Entity
	if rapid.Bool().Draw(rt, "match") {
		e.Match = []*config.Match{{Name: "family", On: []string{"normalize(family)", "uid"}}, {Name: "kin", On: []string{"family"}, After: "email"}}
	}
	drawRules(rt).on(t, w, &h.spec)
	e.Identifiers[1].Exclude = &config.Exclude{Values: []string{"b@x.dk"}, From: "bad", Column: "mail"}
	h.spec.Exclude = map[string]string{"email": "bad"}
	h.spec = keeping(h.spec)
	for i := range h.tables {
		for range rapid.IntRange(0, 10).Draw(rt, "rows") {
			h.tables[i] = append(h.tables[i], drawVisitor(rt, "row", h.day))
		}
	}
	h.load()
	return h
}

func (h *history) load() {
	for i, rows := range h.tables {
		loadVisitors(h, h.w, fmt.Sprintf("t%d", i+1), rows)
	}
	bad := []string{"SELECT 'nobody@x.dk' AS mail"}
	for _, v := range h.bad {
		bad = append(bad, "SELECT '"+v+"@x.dk'")
	}
	exec(h, h.w, h.w.Dialect().CreateTableAs(warehouse.Table{Name: "bad"}, strings.Join(bad, " UNION ALL ")))
}

// old tells whether a row of t1 is one that the lookback leaves out.
func (h *history) old(table int, p visitor) bool {
	if table != 0 || h.lookback == 0 || p.day == 0 {
		return false
	}
	newest := 0
	for _, other := range h.tables[0] {
		newest = max(newest, other.day)
	}
	return p.day < newest-h.lookback
}

// pass lets a day go by: rows come (late ones too), go, or are corrected. It tells whether the rules themselves have changed.
func (h *history) pass(rt *rapid.T) (ruled bool) {
	h.day++
	before := [3][]visitor{}
	for i := range h.tables {
		before[i] = slices.Clone(h.tables[i])
	}
	for range rapid.IntRange(0, 4).Draw(rt, "changes") {
		i := rapid.IntRange(0, 2).Draw(rt, "table")
		rows := h.tables[i]
		kind := rapid.SampledFrom([]string{"come", "come", "late", "go", "correct"}).Draw(rt, "kind")
		switch {
		case kind == "come":
			p := drawVisitor(rt, "row", h.day)
			p.day = h.day
			h.tables[i] = append(rows, p)
		case kind == "late":
			h.tables[i] = append(rows, drawVisitor(rt, "row", h.day))
		case len(rows) == 0:
		case kind == "go":
			n := rapid.IntRange(0, len(rows)-1).Draw(rt, "row")
			h.tables[i] = slices.Delete(slices.Clone(rows), n, n+1)
		default:
			n := rapid.IntRange(0, len(rows)-1).Draw(rt, "row")
			p := drawVisitor(rt, "row", h.day)
			if h.lookback > 0 {
				p.day = rows[n].day
			}
			h.tables[i] = slices.Clone(rows)
			h.tables[i][n] = p
		}
	}
	if h.lookback > 0 {
		h.tables[0] = h.countable(before[0], h.tables[0])
	}
	if rapid.IntRange(0, 9).Draw(rt, "rules") == 0 {
		h.bad = append(h.bad, rapid.SampledFrom([]string{"a", "c", "d"}).Draw(rt, "bad"))
		ruled = true
	}
	h.load()
	return ruled
}

// countable takes back what a lookback does not see: a change of rows older than it that leaves their number as it was.
func (h *history) countable(before, after []visitor) []visitor {
	now := h.tables[0]
	h.tables[0] = before
	defer func() { h.tables[0] = now }()
	of := func(rows []visitor, day int) (out []visitor) {
		for _, p := range rows {
			if p.day == day {
				out = append(out, p)
			}
		}
		return out
	}
	var out []visitor
	for day := 0; day <= h.day; day++ {
		was, is := of(before, day), of(after, day)
		if h.old(0, visitor{row: row{day: day}}) && len(was) == len(is) {
			is = was
		}
		out = append(out, is...)
	}
	return out
}

// tables is all that stands in the tables of a build.
func (h *history) result(name string) []string {
	return append(query(h, h.w, "SELECT identifier, value, profile_id, refused, first_seen_at, last_seen_at FROM "+name),
		query(h, h.w, `SELECT from_id, into_id, "at", rule, edge FROM `+name+"_merges")...)
}

// TestIncrementalEqualsFull lives through random histories, once building what changed and once building everything each day: ids,
// profiles, refused values, merges and splits are the same on every day.
func TestIncrementalEqualsFull(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t, rt, w)
		finish := rapid.SampledFrom([]int64{0, finishBelow}).Draw(rt, "finish")
		for step := range rapid.IntRange(2, 5).Draw(rt, "days") {
			ruled := false
			if step > 0 {
				ruled = h.pass(rt)
			}
			h.spec.AsOf = asOf.AddDate(0, 0, step)
			got := incrementally(t, w, h.spec, finish)
			want := buildWith(t, w, beside(h.spec), finish, decideAtOnce)
			if got.Incremental != (step > 0 && !ruled) {
				rt.Fatalf("step %d: incremental %v, rules changed %v: %s", step, got.Incremental, ruled, got.Why)
			}
			if is, should := h.result("identity_customer"), h.result("full_customer"); !slices.Equal(is, should) {
				rt.Fatalf("step %d (%+v)\ngot\n%s\nwant\n%s", step, got, strings.Join(is, "\n"), strings.Join(should, "\n"))
			}
			if got.Values != want.Values || got.Profiles != want.Profiles || got.Born != want.Born || got.Merged != want.Merged || got.Split != want.Split || got.Refused != want.Refused ||
				got.Unlinked != want.Unlinked || !maps.Equal(got.Ignored, want.Ignored) {
				rt.Fatalf("step %d: counted %+v, want %+v", step, got, want)
			}
		}
	})
}

// failing lets so many statements through, and no more.
type failing struct {
	warehouse.Warehouse
	left int
}

var errCut = errors.New("cut off")

func (f *failing) cut() error {
	f.left--
	if f.left < 0 {
		return errCut
	}
	return nil
}

func (f *failing) Exec(ctx context.Context, s string) (int64, error) {
	if err := f.cut(); err != nil {
		return 0, err
	}
	return f.Warehouse.Exec(ctx, s)
}

func (f *failing) Query(ctx context.Context, s string) (warehouse.Rows, error) {
	if err := f.cut(); err != nil {
		return nil, err
	}
	return f.Warehouse.Query(ctx, s)
}

func (f *failing) Atomic(ctx context.Context, s ...string) error {
	if err := f.cut(); err != nil {
		return err
	}
	return f.Warehouse.Atomic(ctx, s...)
}

// TestIncrementalAfterAFailure cuts builds off after any statement: the next build makes of it what a full one would.
func TestIncrementalAfterAFailure(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t, rt, w)
		for step := range 2 {
			if step > 0 {
				h.pass(rt)
			}
			h.spec.AsOf = asOf.AddDate(0, 0, step)
			b := newBuilder(&failing{w, rapid.IntRange(0, 60).Draw(rt, "statements")}, h.spec)
			err := b.run(context.Background())
			b.w = w
			b.drop(context.Background())
			if err != nil && !errors.Is(err, errCut) {
				rt.Fatal(err)
			}
			if err != nil {
				incrementally(t, w, h.spec, finishBelow)
			}
			buildWith(t, w, beside(h.spec), finishBelow, decideAtOnce)
			if is, should := h.result("identity_customer"), h.result("full_customer"); !slices.Equal(is, should) {
				rt.Fatalf("step %d\ngot\n%s\nwant\n%s", step, strings.Join(is, "\n"), strings.Join(should, "\n"))
			}
		}
	})
}

// TestScratchBuildKeepsNothing: a build beside gives what the real one will, and leaves what is kept as it is.
func TestScratchBuildKeepsNothing(t *testing.T) {
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t, rt, w)
		incrementally(t, w, h.spec, finishBelow)
		buildWith(t, w, beside(h.spec), finishBelow, decideAtOnce)
		h.pass(rt)
		h.spec.AsOf = asOf.AddDate(0, 0, 1)
		kept := func() []string {
			var all []string
			for _, suffix := range []string{"", "_merges", "_rows", "_components", "_state"} {
				all = append(all, query(t, w, "SELECT * FROM identity_customer"+suffix)...)
			}
			return all
		}
		before := kept()
		scratch, full := h.spec, beside(h.spec)
		for _, s := range []*Spec{&scratch, &full} { // both beside, from the tables of their own
			s.Target.Name, s.Merges.Name = "scratch_"+s.Target.Name, "scratch_"+s.Merges.Name
			exec(t, w, "DROP TABLE IF EXISTS "+s.Target.Name, "DROP TABLE IF EXISTS "+s.Merges.Name)
		}
		incrementally(t, w, scratch, finishBelow)
		buildWith(t, w, full, finishBelow, decideAtOnce)
		if is, should := h.result("scratch_identity_customer"), h.result("scratch_full_customer"); !slices.Equal(is, should) {
			rt.Fatalf("got\n%s\nwant\n%s", strings.Join(is, "\n"), strings.Join(should, "\n"))
		}
		if after := kept(); !slices.Equal(after, before) {
			rt.Fatalf("was\n%s\nis\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
}

// TestWhyEverythingIsRead names what an incremental build would not see.
func TestWhyEverythingIsRead(t *testing.T) {
	t.Parallel()
	w := open(t)
	load(t, w, "t1", []row{{values: [3]string{"1", "a", "x"}, day: 1}, {values: [3]string{"2", "b", "y"}, day: 2}})
	spec := keeping(customer(allColumns("t1")))
	expect := func(what, why string) {
		t.Helper()
		b := newBuilder(w, spec)
		b.few = 1
		defer b.drop(context.Background())
		err := b.run(context.Background())
		r := b.result
		if err != nil || r.Why != why || r.Incremental != (why == "") {
			t.Errorf("%s: %+v, %v, want %q", what, r, err, why)
		}
	}
	expect("at first", FirstBuild)
	expect("again", "")
	spec.FullRefresh = true
	expect("asked for", "a full refresh was asked for")
	spec.FullRefresh = false
	spec.Entity.Identifiers[2].Limit = 1
	expect("another limit", "what the entity declares, excludes or decides is not as it was")
	expect("again", "")
	exec(t, w, "DELETE FROM identity_customer WHERE value = '2'")
	expect("a value is gone", "identity_customer is not as the build before left it")
	expect("again", "")
	load(t, w, "t1", []row{{values: [3]string{"1", "a", "x"}, day: 1}, {values: [3]string{"3", "a", "z"}, day: 2}})
	expect("most of it", "6 of 6 values may have moved")
	exec(t, w, "DROP TABLE identity_customer_state")
	expect("no state", "no earlier build has kept what it read")
	expect("again", "")
	pairs := &config.Match{Name: "alike", Block: []config.Strings{{"mail"}}, Compare: []*config.Comparison{{Column: "anon", EditDistance: config.Numbers{1}}}}
	spec.Entity.Match = []*config.Match{pairs}
	expect("pairs", "rules about pairs of rows reach all of them")
	spec.Entity.Match = nil
	expect("no pairs any more", "no earlier build has kept what it read")
	spec.Kept = Kept{}
	expect("nothing kept", "nothing of earlier builds is kept")
}
