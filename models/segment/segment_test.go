package segment

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/conformance"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

var asOf = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func open(t testing.TB) warehouse.Warehouse { t.Helper(); return conformance.Open(t) }

func exec(t testing.TB, w warehouse.Warehouse, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := w.Exec(context.Background(), s); err != nil {
			t.Fatalf("%v\n%s", err, s)
		}
	}
}

func query(t testing.TB, w warehouse.Warehouse, sql string) []string {
	t.Helper()
	rows, err := w.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	defer rows.Close()
	out := []string{}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		parts := make([]string, len(values))
		for i, v := range values {
			if when, ok := v.(time.Time); ok {
				parts[i] = when.Format("2006-01-02")
			} else {
				parts[i] = fmt.Sprint(v)
			}
		}
		out = append(out, strings.Join(parts, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return out
}

// people are profiles p1 … p4, whose user_id is 1 … 4, with events(uid, kind, ts).
func people(t testing.TB) warehouse.Warehouse {
	w := open(t)
	exec(t, w,
		`CREATE TABLE profiles AS SELECT * FROM (VALUES
			('p1', 10, 1.5, 'Ann', '007', true, DATE '2025-12-31', TIMESTAMP '2025-06-01 10:00:00'),
			('p2', 20, 2.5, 'Bo', '7', false, DATE '2025-10-03', TIMESTAMP '2026-01-05 00:00:00'),
			('p3', 30, NULL, '50% off_x', NULL, NULL, NULL, NULL),
			('p4', NULL, 4.0, NULL, 'x', true, DATE '2026-01-01', TIMESTAMP '2025-12-02 00:00:00')) v(profile_id, n, amount, name, code, vip, born, seen)`,
		`CREATE TABLE ids AS SELECT 'user_id' AS identifier, CAST(i AS VARCHAR) AS value, 'p' || i AS profile_id FROM range(1, 5) r(i)`,
		`CREATE TABLE events AS SELECT * FROM (VALUES
			(1, 'view', TIMESTAMP '2025-12-01'), (1, 'view', TIMESTAMP '2025-12-20'), (1, 'buy', TIMESTAMP '2025-12-21'),
			(2, 'buy', TIMESTAMP '2025-11-01'), (2, 'view', TIMESTAMP '2025-12-30'),
			(3, 'view', NULL), (9, 'view', TIMESTAMP '2025-12-30')) v(uid, kind, ts)`,
		`CREATE TABLE plain AS SELECT 1 AS uid`,
		`CREATE TABLE segment_other AS SELECT 'p2' AS profile_id`)
	return w
}

func spec(c *config.Condition) Spec {
	e := &config.Entity{Name: "person", Identifiers: []*config.Identifier{{Name: "user_id"}}}
	events := &config.Input{Name: "events", Identifiers: map[string]string{"user_id": "uid"}, At: "ts"}
	plain := &config.Input{Name: "plain", Identifiers: map[string]string{"user_id": "uid"}}
	return Spec{
		Segment: &config.Segment{Name: "s", Entity: "person", Where: c}, Entity: e,
		Inputs:   []identity.Input{{Input: events, Source: "events"}, {Input: plain, Source: "plain"}},
		Identity: warehouse.Table{Name: "ids"}, Profiles: warehouse.Table{Name: "profiles"},
		Members: func(name string) warehouse.Table { return warehouse.Table{Name: "segment_" + name} },
		Target:  warehouse.Table{Name: "segment_s"}, Prior: warehouse.Table{Name: "segment_s"}, History: warehouse.Table{Name: "segment_history"},
		AsOf: asOf,
		Render: func(sql string, _ diag.Pos) (string, error) {
			return strings.ReplaceAll(sql, "{{ var('n') }}", "20"), nil
		},
	}
}

func trait(name, op string, value any) *config.Condition {
	return &config.Condition{Trait: name, Op: op, Value: value}
}

func days(n int) config.Duration { return config.Duration{Duration: time.Duration(n) * 24 * time.Hour} }

func not(c *config.Condition) *config.Condition { return &config.Condition{Not: c} }

func count(n int) *int { return &n }

func TestConditions(t *testing.T) {
	t.Parallel()
	views := func(c config.Condition) *config.Condition {
		c.Did, c.Where = "events", "kind = 'view'"
		return &c
	}
	buys := &config.Condition{Did: "events", Where: "kind = 'buy'"}
	for _, c := range []struct {
		name string
		c    *config.Condition
		want string
	}{
		{"eq", trait("n", "eq", 20), "p2"},
		{"eq as text beside a number", trait("n", "eq", "20"), "p2"},
		{"gte rendered", trait("n", "gte", "{{ var('n') }}"), "p2 p3"},
		{"gt a fraction", trait("n", "gt", 19.5), "p2 p3"},
		{"lt", trait("n", "lt", "20"), "p1"},
		{"lte of decimals", trait("amount", "lte", 2.5), "p1 p2"},
		{"a number beside a text is text", trait("code", "eq", 7), "p2"},
		{"text keeps its zeros", trait("code", "eq", "007"), "p1"},
		{"ne is not eq", trait("code", "ne", "007"), "p2 p3 p4"},
		{"one_of", trait("n", "one_of", []any{10, "30"}), "p1 p3"},
		{"none_of", trait("n", "none_of", []any{10, "30"}), "p2 p4"},
		{"one_of rendered", trait("n", "one_of", "[10, {{ var('n') }}]"), "p1 p2"},
		{"between", trait("n", "between", []any{10, 20}), "p1 p2"},
		{"contains", trait("name", "contains", "n"), "p1"},
		{"contains is literal", trait("name", "contains", "% off_"), "p3"},
		{"starts_with", trait("name", "starts_with", "50%"), "p3"},
		{"is_null", trait("amount", "is_null", true), "p3"},
		{"is not null", trait("amount", "is_null", false), "p1 p2 p4"},
		{"boolean", trait("vip", "eq", true), "p1 p4"},
		{"date", trait("born", "gte", "2025-12-31"), "p1 p4"},
		{"older_than is <", trait("born", "older_than", days(1)), "p2"},
		{"within is >=", trait("born", "within", days(1)), "p1 p4"},
		{"within a day less", trait("seen", "within", days(30)), "p2 p4"},
		{"older_than a day less", trait("seen", "older_than", days(30)), "p1"},
		{"within_next", trait("seen", "within_next", days(4)), "p2"},
		{"not", not(trait("n", "gte", 20)), "p1 p4"},
		{"not not", not(not(trait("n", "gte", 20))), "p2 p3"},
		{"all", &config.Condition{All: []*config.Condition{trait("n", "gte", 20), trait("vip", "eq", false)}}, "p2"},
		{"any", &config.Condition{Any: []*config.Condition{trait("n", "gte", 30), trait("vip", "eq", false)}}, "p2 p3"},
		{"sql", &config.Condition{SQL: "n > {{ var('n') }}"}, "p3"},
		{"sql with a comment", &config.Condition{Any: []*config.Condition{{SQL: "n > 20 -- the most"}, {Did: "events", Where: "kind = 'buy' -- at all"}}}, "p1 p2 p3"},
		{"not sql", not(&config.Condition{SQL: "n > 20"}), "p1 p2 p4"},
		{"in", &config.Condition{In: "other"}, "p2"},
		{"not in", not(&config.Condition{In: "other"}), "p1 p3 p4"},
		{"did", views(config.Condition{}), "p1 p2 p3"},
		{"not did", not(views(config.Condition{})), "p4"},
		{"did at least 2", views(config.Condition{AtLeast: count(2)}), "p1"},
		{"did at most 1", views(config.Condition{AtMost: count(1)}), "p2 p3 p4"},
		{"did exactly 1", views(config.Condition{Exactly: count(1)}), "p2 p3"},
		{"did exactly 0", views(config.Condition{Exactly: count(0)}), "p4"},
		{"did within", views(config.Condition{Within: days(12)}), "p1 p2"},
		{"did and not since", views(config.Condition{AndNotSince: buys}), "p2 p3"},
		{"did then", views(config.Condition{Then: buys}), "p1"},
		{"did then within", views(config.Condition{Then: &config.Condition{Did: "events", Where: "kind = 'buy'", Within: days(1)}}), "p1"},
		{"did then within less", views(config.Condition{Then: &config.Condition{Did: "events", Where: "kind = 'buy'", Within: config.Duration{Duration: time.Hour}}}), ""},
		{"buy then view", &config.Condition{Did: "events", Where: "kind = 'buy'", Then: views(config.Condition{})}, "p2"},
		{"an input without a time", &config.Condition{Did: "plain"}, "p1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := people(t)
			if _, err := Build(context.Background(), w, spec(c.c)); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(query(t, w, "SELECT profile_id FROM segment_s"), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNarrowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		set  func(s *Spec)
		want string
	}{
		{"top", func(s *Spec) { s.Segment.Top = &config.Top{Count: 2, By: "n"} }, "p2 p3"},
		{"top of those in where", func(s *Spec) {
			s.Segment.Where, s.Segment.Top = trait("n", "lt", 30), &config.Top{Count: 1, By: "n"}
		}, "p2"},
		{"top has no NULL", func(s *Spec) { s.Segment.Top = &config.Top{Count: 9, By: "n"} }, "p1 p2 p3"},
		{"top share is rounded up", func(s *Spec) { s.Segment.Top = &config.Top{Share: 0.26, By: "n"} }, "p2 p3"},
		{"top share that is whole", func(s *Spec) { s.Segment.Top = &config.Top{Share: 0.25, By: "n"} }, "p3"},
		{"top by time", func(s *Spec) { s.Segment.Top = &config.Top{Count: 1, By: "seen"} }, "p2"},
		{"top of equals goes by profile_id", func(s *Spec) {
			s.Segment.Where, s.Segment.Top = trait("vip", "eq", true), &config.Top{Count: 1, By: "n"}
		}, "p1"},
		{"a sample of all", func(s *Spec) { s.Segment.Sample = &config.Sample{Share: 1} }, "p1 p2 p3 p4"},
		{"others come first", func(s *Spec) { s.Before = []string{"other"} }, "p1 p3 p4"},
		{"top of those that are left", func(s *Spec) {
			s.Before, s.Segment.Top = []string{"other"}, &config.Top{Count: 2, By: "n"}
		}, "p1 p3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := people(t)
			s := spec(nil)
			c.set(&s)
			if _, err := Build(context.Background(), w, s); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(query(t, w, "SELECT profile_id FROM segment_s"), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTopByText(t *testing.T) {
	t.Parallel()
	s := spec(nil)
	s.Segment.Top = &config.Top{Count: 2, By: "name"}
	if _, err := Build(context.Background(), people(t), s); err == nil || !strings.Contains(err.Error(), "top goes by a number or a time, and name is text") {
		t.Errorf("got %v", err)
	}
}

func TestShareOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n     int64
		share config.Percent
		want  int64
	}{
		{30, 0.1, 3}, {31, 0.1, 4}, {0, 0.5, 0}, {1, 0.0001, 1}, {7, 1, 7}, {3_000_000_000, 0.333333, 999_999_000}, {1_000_001, 0.5, 500_001},
	} {
		if got := shareOf(c.n, c.share); got != c.want {
			t.Errorf("%v of %d is %d, want %d", c.share, c.n, got, c.want)
		}
	}
}

// crowd is a warehouse with n profiles.
func crowd(t testing.TB, n int) warehouse.Warehouse {
	w := open(t)
	exec(t, w, fmt.Sprintf("CREATE TABLE profiles AS SELECT 'p' || CAST(i AS VARCHAR) AS profile_id FROM range(0, %d) r(i)", n))
	return w
}

// members are who is in, with the part where there is one.
func members(t testing.TB, w warehouse.Warehouse, s *config.Segment) map[string]string {
	t.Helper()
	spec := spec(nil)
	s.Entity, spec.Segment = "person", s
	if _, err := Build(context.Background(), w, spec); err != nil {
		t.Fatal(err)
	}
	columns := "profile_id"
	if s.Split != nil {
		columns += ", split"
	}
	out := map[string]string{}
	for _, row := range query(t, w, "SELECT "+columns+" FROM segment_s") {
		id, part, _ := strings.Cut(row, "|")
		out[id] = part
	}
	return out
}

// A sample is stable: a larger share has the same and more, another seed has others, and who is drawn does not depend on who else is.
func TestSample(t *testing.T) {
	t.Parallel()
	const n = 4000
	w := crowd(t, n)
	sample := func(share config.Percent, seed string) map[string]string {
		return members(t, w, &config.Segment{Name: "s", Sample: &config.Sample{Share: share, Seed: seed}})
	}
	tenth, fifth, other := sample(0.1, "x"), sample(0.2, "x"), sample(0.1, "y")
	if len(tenth) < 300 || len(tenth) > 500 || len(fifth) < 700 || len(fifth) > 900 {
		t.Errorf("10 %% and 20 %% of %d are %d and %d", n, len(tenth), len(fifth))
	}
	both := 0
	for id := range tenth {
		if _, in := fifth[id]; !in {
			t.Errorf("%s is in 10 %% and not in 20 %%", id)
		}
		if _, in := other[id]; in {
			both++
		}
	}
	if both > 80 { // a tenth of a tenth is 40
		t.Errorf("%d of %d are in the sample of another seed too", both, len(tenth))
	}
	exec(t, w, "DELETE FROM profiles WHERE profile_id <> 'p1' AND profile_id LIKE 'p1%'")
	left := sample(0.1, "x")
	for id := range left {
		if _, in := tenth[id]; !in {
			t.Errorf("%s was drawn when others left", id)
		}
	}
	if len(left) == 0 {
		t.Error("nobody is left")
	}
}

// A split is stable: changed shares move nobody between parts that did not have to.
func TestSplit(t *testing.T) {
	t.Parallel()
	const n = 4000
	w := crowd(t, n)
	split := func(parts ...config.SplitPart) map[string]string {
		return members(t, w, &config.Segment{Name: "s", Split: &config.Split{Parts: parts, Seed: "x"}})
	}
	part := func(name string, share config.Percent) config.SplitPart {
		return config.SplitPart{Name: name, Share: share}
	}
	size := func(of map[string]string) map[string]int {
		out := map[string]int{}
		for _, p := range of {
			out[p]++
		}
		return out
	}
	moved := func(from, to map[string]string) map[string]int {
		out := map[string]int{}
		for id, p := range from {
			if to[id] != p {
				out[p+">"+to[id]]++
			}
		}
		return out
	}
	half := split(part("a", 0.5), part("b", 0.5))
	if got := size(half); got["a"]+got["b"] != n || got["a"] < 1850 || got["a"] > 2150 {
		t.Errorf("two halves are %v", got)
	}
	more := split(part("a", 0.6), part("b", 0.4))
	if got := moved(half, more); len(got) != 1 || got["b>a"] < 300 || got["b>a"] > 500 {
		t.Errorf("from 50 %% to 60 %% of a moved %v", got)
	}
	thirds := split(part("a", 0.34), part("b", 0.33), part("c", 0.33))
	fewer := split(part("a", 0.2), part("b", 0.4), part("c", 0.4))
	if got := moved(thirds, fewer); got["b>c"]+got["c>b"]+got["b>a"]+got["c>a"] != 0 || got["a>b"] == 0 || got["a>c"] == 0 {
		t.Errorf("when a became smaller moved %v", got)
	}
	if got := size(split(part("a", 1), part("b", 0))); got["a"] != n {
		t.Errorf("all of a are %v", got)
	}
	if got := size(split(part("a", 0), part("b", 1))); got["b"] != n {
		t.Errorf("all of b are %v", got)
	}
	// A segment that is no longer split, and was, keeps who is in since when.
	if got := members(t, w, &config.Segment{Name: "s", Sample: &config.Sample{Share: 1}}); len(got) != n {
		t.Errorf("%d members, want %d", len(got), n)
	}
}

func TestSent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		c    *config.Condition
		want string
	}{
		{"ever", &config.Condition{Sent: "mails"}, "p1 p2"},
		{"within is >=", &config.Condition{Sent: "mails", Within: days(7)}, "p1"},
		{"not within", not(&config.Condition{Sent: "mails", Within: days(7)}), "p2 p3 p4"},
		{"nothing yet", not(&config.Condition{Sent: "never"}), "p1 p2 p3 p4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := people(t)
			s := spec(c.c)
			s.Sent = func(sync string) (string, error) {
				if sync == "never" {
					return "", nil
				}
				at := func(text string) string { return w.Dialect().Cast("'"+text+"'", warehouse.Timestamp) }
				return "SELECT 'p1' AS profile_id, " + at("2025-12-25") + " AS sent_at UNION ALL SELECT 'p2', " + at("2025-12-24 23:59:59"), nil
			}
			if _, err := Build(context.Background(), w, s); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(query(t, w, "SELECT profile_id FROM segment_s"), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
