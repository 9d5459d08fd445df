package segment

import (
	"context"
	"crypto/md5" //nolint:gosec // what the engines draw by
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/profile"
)

// What conditions mean, said once more: an interpreter over rows in Go that shares no code with the SQL. Times are half days around
// asOf, so that windows are hit at their very ends; every column has NULLs.

type person struct {
	id     string
	values map[string]any // int, float64, string, bool, time.Time; nil = NULL
	firm   string         // the value by which a firm is found, in one of two ways of writing; "" = NULL
	ofFirm map[string]any // the values of the firm that it leads to; nil = it leads to none
	events []event
	in     bool // the other segment
	sent   []time.Time
}

type event struct {
	kind any // string or nil
	amt  any // int or nil
	ts   any // time.Time or nil
}

func halfDays(t *rapid.T, name string) any {
	k := rapid.IntRange(-4, 8).Draw(t, name)
	if k == 8 {
		return nil
	}
	return asOf.Add(time.Duration(k) * -12 * time.Hour)
}

func sometimes[T any](t *rapid.T, name string, values ...T) any {
	i := rapid.IntRange(0, len(values)).Draw(t, name)
	if i == len(values) {
		return nil
	}
	return values[i]
}

func drawPeople(t *rapid.T) []person {
	people := make([]person, rapid.IntRange(1, 5).Draw(t, "people"))
	for i := range people {
		p := &people[i]
		p.id = "p" + strconv.Itoa(i)
		p.values = map[string]any{
			"n": sometimes(t, "n", 0, 1, 2, 10), "amount": sometimes(t, "amount", 0.5, 1, 2.5), "name": sometimes(t, "name", "", "a", "ab", "b", "1%"),
			"vip": sometimes(t, "vip", true, false), "seen": halfDays(t, "seen"), "born": nil,
			"due": sometimes(t, "due", "", "soon", "2025-12-31", "2026-01-02 12:00:00"),
		}
		if k := rapid.IntRange(-2, 4).Draw(t, "born"); k < 4 {
			p.values["born"] = asOf.AddDate(0, 0, -k)
		}
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			p.events = append(p.events, event{sometimes(t, "kind", "view", "buy"), sometimes(t, "amt", 1, 2), halfDays(t, "ts")})
		}
		p.in = rapid.Bool().Draw(t, "in")
		for range rapid.IntRange(0, 2).Draw(t, "sent") {
			p.sent = append(p.sent, asOf.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "sent at"))*-12*time.Hour))
		}
	}
	firms := map[string]map[string]any{ // the third is refused, nobody's are the rest
		"a": {"n": sometimes(t, "firm n", 0, 1, 2, 10), "name": sometimes(t, "firm name", "", "a", "ab"), "seen": halfDays(t, "firm seen")},
		"b": {"n": sometimes(t, "firm n", 0, 1, 2, 10), "name": sometimes(t, "firm name", "", "a", "ab"), "seen": halfDays(t, "firm seen")},
	}
	for i := range people {
		people[i].firm = rapid.SampledFrom([]string{"", "a", " A ", "b", "c", "d"}).Draw(t, "firm")
		people[i].ofFirm = firms[strings.ToLower(strings.TrimSpace(people[i].firm))]
	}
	return people
}

var firmColumns = []string{"n BIGINT", "name VARCHAR", "seen TIMESTAMP"}

// loadFirms makes the tables of the firms that people belong to.
func loadFirms(t testing.TB, w warehouse.Warehouse, people []person) {
	t.Helper()
	ids := [][]any{{"code", "c", nil, "limit"}}
	var profiles [][]any
	for _, p := range people {
		code := strings.ToLower(strings.TrimSpace(p.firm))
		if p.ofFirm == nil || slices.ContainsFunc(ids, func(id []any) bool { return id[1] == code }) {
			continue
		}
		ids = append(ids, []any{"code", code, "firm " + code, nil})
		profiles = append(profiles, []any{"firm " + code, p.ofFirm["n"], p.ofFirm["name"], p.ofFirm["seen"]})
	}
	table(t, w, "firm_ids", []string{"identifier VARCHAR", "value VARCHAR", "profile_id VARCHAR", "refused VARCHAR"}, ids)
	table(t, w, "firms", append([]string{"profile_id VARCHAR"}, firmColumns...), profiles)
}

// firm is the relation of people to firms.
func firm() profile.Related {
	return profile.Related{
		Relation: &config.Relation{Name: "firm", Entity: "firm", On: map[string]string{"firm": "code"}},
		Other:    &config.Entity{Name: "firm", Identifiers: []*config.Identifier{{Name: "code", Limit: 1, Normalize: &config.Normalize{Kind: "text"}}}, Traits: []*config.Trait{{Name: "n"}, {Name: "name"}, {Name: "seen"}}},
		Identity: warehouse.Table{Name: "firm_ids"}, Profiles: warehouse.Table{Name: "firms"},
	}
}

// literal writes a value with its type, also NULL.
func literal(v any, typ string) string {
	switch v := v.(type) {
	case nil:
		return "CAST(NULL AS " + typ + ")"
	case string:
		return "CAST('" + v + "' AS " + typ + ")"
	case time.Time:
		return "CAST('" + v.Format("2006-01-02 15:04:05") + "' AS " + typ + ")"
	default:
		return fmt.Sprintf("CAST(%v AS %s)", v, typ)
	}
}

// table replaces a table by rows; the columns are name and type.
func table(t testing.TB, w warehouse.Warehouse, name string, columns []string, rows [][]any) {
	t.Helper()
	names := make([]string, len(columns))
	none := make([]any, len(columns))
	list := ""
	for _, row := range append([][]any{none}, rows...) {
		cells := make([]string, len(columns))
		for i, v := range row {
			column, typ, _ := strings.Cut(columns[i], " ")
			names[i], cells[i] = column, literal(v, typ)
		}
		keep := "true"
		if list == "" { // gives the types, and is no row
			keep = "false"
		} else {
			list += ", "
		}
		list += "(" + strings.Join(cells, ", ") + ", " + keep + ")"
	}
	exec(t, w, "DROP TABLE IF EXISTS "+name, fmt.Sprintf("CREATE TABLE %s AS SELECT %s FROM (VALUES %s) v(%[2]s, keep_) WHERE keep_", name, strings.Join(names, ", "), list))
}

var profileColumns = []string{"n BIGINT", "amount DOUBLE PRECISION", "name VARCHAR", "vip BOOLEAN", "born DATE", "seen TIMESTAMP", "due VARCHAR"}

func load(t testing.TB, w warehouse.Warehouse, people []person) {
	t.Helper()
	var profiles, ids, events, other, sent [][]any
	for i, p := range people {
		row := []any{p.id}
		for _, c := range profileColumns {
			name, _, _ := strings.Cut(c, " ")
			row = append(row, p.values[name])
		}
		row = append(row, any(nil))
		if p.firm != "" {
			row[len(row)-1] = p.firm
		}
		profiles = append(profiles, row)
		ids = append(ids, []any{"user_id", strconv.Itoa(i), p.id})
		for _, e := range p.events {
			events = append(events, []any{i, e.kind, e.amt, e.ts})
		}
		if p.in {
			other = append(other, []any{p.id})
		}
		for _, at := range p.sent {
			sent = append(sent, []any{p.id, at})
		}
	}
	table(t, w, "profiles", append(append([]string{"profile_id VARCHAR"}, profileColumns...), "firm VARCHAR"), profiles)
	loadFirms(t, w, people)
	table(t, w, "ids", []string{"identifier VARCHAR", "value VARCHAR", "profile_id VARCHAR"}, ids)
	table(t, w, "events", []string{"uid BIGINT", "kind VARCHAR", "amt BIGINT", "ts TIMESTAMP"}, events)
	table(t, w, "segment_other", []string{"profile_id VARCHAR"}, other)
	table(t, w, "sent", []string{"profile_id VARCHAR", "sent_at TIMESTAMP"}, sent)
}

// drawCondition draws a tree.
func drawCondition(t *rapid.T, depth int) *config.Condition {
	kinds := []string{"trait", "trait", "firm", "did", "did", "in", "sent", "sql"}
	if depth > 0 {
		kinds = append(kinds, "all", "any", "not", "not")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "condition") {
	case "all":
		return &config.Condition{All: drawConditions(t, depth)}
	case "any":
		return &config.Condition{Any: drawConditions(t, depth)}
	case "not":
		return not(drawCondition(t, depth-1))
	case "did":
		return drawDid(t, 2, true)
	case "in":
		return &config.Condition{In: "other"}
	case "sent":
		return &config.Condition{Sent: "mails", Within: drawWithin(t)}
	case "firm":
		c := drawTraitOf(t, "n", "name", "seen")
		c.Trait = "firm." + c.Trait
		return c
	case "sql":
		return &config.Condition{SQL: rapid.SampledFrom([]string{"n > 1", "n IS NULL", "n > 1 OR vip", "NOT vip"}).Draw(t, "sql")}
	default:
		return drawTrait(t)
	}
}

func drawConditions(t *rapid.T, depth int) []*config.Condition {
	var out []*config.Condition
	for range rapid.IntRange(1, 3).Draw(t, "conditions") {
		out = append(out, drawCondition(t, depth-1))
	}
	return out
}

func drawWithin(t *rapid.T) config.Duration {
	return config.Duration{Duration: time.Duration(rapid.IntRange(0, 5).Draw(t, "within")) * 12 * time.Hour}
}

func drawTrait(t *rapid.T) *config.Condition {
	return drawTraitOf(t, "n", "amount", "name", "vip", "born", "seen", "due")
}

func drawTraitOf(t *rapid.T, names ...string) *config.Condition {
	name := rapid.SampledFrom(names).Draw(t, "trait")
	ordered := []string{"eq", "ne", "gt", "gte", "lt", "lte", "one_of", "none_of", "between", "is_null"}
	ops := map[string][]string{
		"n": append([]string{"contains", "starts_with"}, ordered...), "amount": ordered, "name": append([]string{"contains", "starts_with"}, ordered...),
		"vip": {"eq", "ne", "is_null"}, "born": append([]string{"older_than", "within", "within_next"}, ordered...),
		"seen": append([]string{"older_than", "within", "within_next"}, ordered...), "due": {"older_than", "within", "within_next", "eq", "is_null"},
	}[name]
	op := rapid.SampledFrom(ops).Draw(t, "op")
	one := func() any {
		switch name {
		case "n":
			return rapid.SampledFrom([]any{0, 1, "2", 1.5, 10}).Draw(t, "value")
		case "amount":
			return rapid.SampledFrom([]any{0.5, 1, "2.5"}).Draw(t, "value")
		case "name", "due":
			return rapid.SampledFrom([]any{"", "a", "ab", "b", "%", "soon"}).Draw(t, "value")
		case "vip":
			return rapid.Bool().Draw(t, "value")
		default:
			at := asOf.Add(time.Duration(rapid.IntRange(-4, 7).Draw(t, "value")) * -12 * time.Hour)
			return at.Format([]string{"2006-01-02", time.RFC3339, "2006-01-02 15:04"}[rapid.IntRange(0, 2).Draw(t, "layout")])
		}
	}
	c := trait(name, op, nil)
	switch op {
	case "is_null":
		c.Value = rapid.Bool().Draw(t, "null")
	case "older_than", "within", "within_next":
		c.Value = drawWithin(t)
	case "one_of", "none_of":
		c.Value = []any{one(), one()}
	case "between":
		c.Value = []any{one(), one()}
	case "contains", "starts_with":
		c.Value = fmt.Sprint(rapid.SampledFrom([]any{"", "a", "b", "%", 1, 0}).Draw(t, "part"))
	default:
		c.Value = one()
	}
	return c
}

func drawDid(t *rapid.T, depth int, counts bool) *config.Condition {
	c := &config.Condition{Did: "events", Where: rapid.SampledFrom([]string{"", "kind = 'view'", "kind = 'buy'", "kind <> 'buy'", "amt > 1"}).Draw(t, "where"), Within: drawWithin(t)}
	if counts {
		n := rapid.IntRange(0, 3).Draw(t, "count")
		switch rapid.IntRange(0, 5).Draw(t, "counted") {
		case 0:
			c.AtLeast = &n
		case 1:
			c.AtMost = &n
		case 2:
			c.Exactly = &n
		}
	}
	if depth > 0 {
		switch rapid.IntRange(0, 5).Draw(t, "next") {
		case 0:
			c.Then = drawDid(t, depth-1, true)
		case 1:
			c.AndNotSince = drawDid(t, depth-1, true)
		case 2:
			c.Then, c.AndNotSince = drawDid(t, depth-1, true), drawDid(t, depth-1, true)
		}
	}
	return c
}

// holds is the interpreter.
func holds(c *config.Condition, p person) bool {
	switch {
	case c.All != nil:
		return !slices.ContainsFunc(c.All, func(c *config.Condition) bool { return !holds(c, p) })
	case c.Any != nil:
		return slices.ContainsFunc(c.Any, func(c *config.Condition) bool { return holds(c, p) })
	case c.Not != nil:
		return !holds(c.Not, p)
	case c.In != "":
		return p.in
	case c.Sent != "":
		return slices.ContainsFunc(p.sent, func(at time.Time) bool { return c.Within.Duration == 0 || !at.Before(asOf.Add(-c.Within.Duration)) })
	case c.Did != "":
		return didHolds(c, rowsOf(c, p, asOf), p)
	case c.SQL != "":
		n, nOK := p.values["n"].(int)
		vip, vipOK := p.values["vip"].(bool)
		return map[string]bool{"n > 1": nOK && n > 1, "n IS NULL": !nOK, "n > 1 OR vip": nOK && n > 1 || vipOK && vip, "NOT vip": vipOK && !vip}[c.SQL]
	default:
		if of, ok := strings.CutPrefix(c.Trait, "firm."); ok {
			return traitHolds(c, p.ofFirm[of])
		}
		return traitHolds(c, p.values[c.Trait])
	}
}

// rowsOf are the events that a did: looks at; the zero time: whenever.
func rowsOf(c *config.Condition, p person, now time.Time) []event {
	var out []event
	for _, e := range p.events {
		ts, dated := e.ts.(time.Time)
		amt, _ := e.amt.(int)
		ok := map[string]bool{"": true, "kind = 'view'": e.kind == "view", "kind = 'buy'": e.kind == "buy", "kind <> 'buy'": e.kind == "view", "amt > 1": amt > 1}[c.Where]
		if ok && (c.Within.Duration == 0 || now.IsZero() || dated && now.Sub(ts) <= c.Within.Duration) {
			out = append(out, e)
		}
	}
	return out
}

// didHolds tells whether rows are as many as c asks for, and what c says of what comes after them.
func didHolds(c *config.Condition, rows []event, p person) bool {
	n, enough := len(rows), false
	switch {
	case c.Exactly != nil:
		enough = n == *c.Exactly
	case c.AtLeast != nil:
		enough = n >= *c.AtLeast
	case c.AtMost != nil:
		enough = n <= *c.AtMost
	default:
		enough = n > 0
	}
	if !enough {
		return false
	}
	if next := c.Then; next != nil {
		var later []event
		for _, e := range rowsOf(next, p, time.Time{}) {
			at, dated := e.ts.(time.Time)
			if dated && slices.ContainsFunc(rows, func(r event) bool {
				before, ok := r.ts.(time.Time)
				return ok && before.Before(at) && (next.Within.Duration == 0 || at.Sub(before) <= next.Within.Duration)
			}) {
				later = append(later, e)
			}
		}
		if !didHolds(next, later, p) {
			return false
		}
	}
	if since := c.AndNotSince; since != nil {
		var last time.Time
		for _, r := range rows {
			if at, ok := r.ts.(time.Time); ok && at.After(last) {
				last = at
			}
		}
		var later []event
		for _, e := range rowsOf(since, p, asOf) {
			if at, dated := e.ts.(time.Time); dated && !last.IsZero() && !at.Before(last) {
				later = append(later, e)
			}
		}
		if didHolds(since, later, p) {
			return false
		}
	}
	return true
}

// compared is -1, 0 or 1; v is not NULL.
func compared(v, with any) int {
	switch v := v.(type) {
	case string:
		return strings.Compare(v, fmt.Sprint(with))
	case time.Time:
		for _, layout := range []string{"2006-01-02", time.RFC3339, "2006-01-02 15:04"} {
			if at, err := time.Parse(layout, fmt.Sprint(with)); err == nil {
				return v.Compare(at)
			}
		}
		panic("no time")
	case bool:
		if v == with.(bool) {
			return 0
		}
		return 1
	default:
		a, _ := strconv.ParseFloat(fmt.Sprint(v), 64)
		b, _ := strconv.ParseFloat(fmt.Sprint(with), 64)
		return int(math.Copysign(1, a-b)) * int(math.Ceil(math.Min(1, math.Abs(a-b))))
	}
}

func traitHolds(c *config.Condition, v any) bool {
	amongAny := func() bool {
		return v != nil && slices.ContainsFunc(c.Value.([]any), func(w any) bool { return compared(v, w) == 0 })
	}
	switch c.Op {
	case "is_null":
		return (v == nil) == c.Value.(bool)
	case "eq":
		return v != nil && compared(v, c.Value) == 0
	case "ne":
		return v == nil || compared(v, c.Value) != 0
	case "gt":
		return v != nil && compared(v, c.Value) > 0
	case "gte":
		return v != nil && compared(v, c.Value) >= 0
	case "lt":
		return v != nil && compared(v, c.Value) < 0
	case "lte":
		return v != nil && compared(v, c.Value) <= 0
	case "one_of":
		return amongAny()
	case "none_of":
		return !amongAny()
	case "between":
		ends := c.Value.([]any)
		return v != nil && compared(v, ends[0]) >= 0 && compared(v, ends[1]) <= 0
	case "contains":
		return v != nil && strings.Contains(fmt.Sprint(v), c.Value.(string))
	case "starts_with":
		return v != nil && strings.HasPrefix(fmt.Sprint(v), c.Value.(string))
	}
	at, ok := v.(time.Time)
	if s, isText := v.(string); isText { // due
		for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05"} {
			if when, err := time.Parse(layout, s); err == nil {
				at, ok = when, true
			}
		}
	}
	age, d := asOf.Sub(at), c.Value.(config.Duration).Duration
	switch c.Op {
	case "older_than":
		return ok && age > d
	case "within":
		return ok && age <= d
	default: // within_next
		return ok && age <= 0 && -age <= d
	}
}

// words show a tree where it is wrong.
func words(c *config.Condition) string {
	var strip func(v any) any
	strip = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				if inner = strip(inner); inner == nil || inner == "" || inner == float64(0) {
					delete(v, k)
				} else {
					v[k] = inner
				}
			}
			if len(v) == 0 {
				return nil
			}
		case []any:
			for i := range v {
				v[i] = strip(v[i])
			}
		}
		return v
	}
	text, _ := json.Marshal(c)
	var tree any
	_ = json.Unmarshal(text, &tree)
	text, _ = json.Marshal(strip(tree))
	return string(text)
}

// Of any tree and any rows, the SQL takes exactly those that the interpreter does.
func TestTreesMeanWhatTheInterpreterSays(t *testing.T) {
	t.Parallel()
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		people := drawPeople(rt)
		load(t, w, people)
		s := spec(nil)
		columns, err := w.Columns(context.Background(), "SELECT * FROM profiles")
		if err != nil {
			rt.Fatal(err)
		}
		s.Relations = []profile.Related{firm()}
		b := &builder{w: w, d: w.Dialect(), spec: s}
		scope := Scope{
			Own: "profiles", Relation: func(name string) (Relation, error) { return b.relation(context.Background(), name) },
			Alias: "p", Columns: columns, Profiles: true, AsOf: asOf, Members: s.Members,
			Input: func(name string) (Input, error) { return b.input(context.Background(), name) },
			Sent: func(string) (string, error) {
				return "SELECT profile_id, " + w.Dialect().Cast("sent_at", warehouse.Timestamp) + " AS sent_at FROM sent", nil
			},
		}
		var trees []*config.Condition
		var list []string
		for range 6 {
			c := drawCondition(rt, 3)
			sql, err := Where(w.Dialect(), c, scope)
			if err != nil {
				rt.Fatalf("%v\n%s", err, words(c))
			}
			trees, list = append(trees, c), append(list, "CASE WHEN "+sql+" THEN 1 ELSE 0 END")
		}
		for _, row := range query(t, w, "SELECT p.profile_id, "+strings.Join(list, ", ")+" FROM profiles AS p") {
			cells := strings.Split(row, "|")
			p := people[slices.IndexFunc(people, func(p person) bool { return p.id == cells[0] })]
			for i, c := range trees {
				if got, want := cells[i+1] == "1", holds(c, p); got != want {
					rt.Fatalf("%s is %v, want %v, of %+v", words(c), got, want, p)
				}
			}
		}
	})
}

// drawnShare is the hash of `sample:` and `split:` from 0 to below 1.
func drawnShare(text string) float64 {
	sum := md5.Sum([]byte(text)) //nolint:gosec // what the engines draw by
	n, _ := strconv.ParseUint(hex.EncodeToString(sum[:4]), 16, 64)
	return float64(n) / (1 << 32)
}

// Of any people, Build takes those who are left by exclusive, top and sample in this order, and splits them.
func TestNarrowingIsInOrder(t *testing.T) {
	t.Parallel()
	w := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		people := drawPeople(rt)
		load(t, w, people)
		exec(t, w, "DROP TABLE IF EXISTS segment_s")
		s := spec(drawTrait(rt))
		seg := s.Segment
		if rapid.Bool().Draw(rt, "exclusive") {
			s.Before = []string{"other"}
		}
		if n := rapid.IntRange(0, 6).Draw(rt, "top"); n > 0 {
			seg.Top = &config.Top{By: rapid.SampledFrom([]string{"n", "seen", "born"}).Draw(rt, "by"), Count: n}
			if n > 3 {
				seg.Top.Count, seg.Top.Share = 0, config.Percent(n*10)/100
			}
		}
		if rapid.Bool().Draw(rt, "sample") {
			seg.Sample = &config.Sample{Share: 0.6, Seed: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "seed")}
		}
		if rapid.Bool().Draw(rt, "split") {
			seg.Split = &config.Split{Seed: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "seed"), Parts: []config.SplitPart{{Name: "a", Share: 0.5}, {Name: "b", Share: 0.25}, {Name: "c", Share: 0.25}}}
		}
		if _, err := Build(context.Background(), w, s); err != nil {
			rt.Fatal(err)
		}
		columns := "profile_id"
		if seg.Split != nil {
			columns += ", split"
		}
		if got, want := query(t, w, "SELECT "+columns+" FROM segment_s"), narrowed(s, people); !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v\n%s top %+v sample %+v split %+v before %v", got, want, words(seg.Where), seg.Top, seg.Sample, seg.Split, s.Before)
		}
	})
}

func narrowed(s Spec, people []person) []string {
	seg := s.Segment
	var left []person
	for _, p := range people {
		if holds(seg.Where, p) && !(len(s.Before) > 0 && p.in) {
			left = append(left, p)
		}
	}
	if top := seg.Top; top != nil {
		n := top.Count
		if top.Share > 0 {
			n = int(math.Ceil(float64(top.Share)*float64(len(left)) - 1e-9))
		}
		left = slices.DeleteFunc(left, func(p person) bool { return p.values[top.By] == nil })
		sort.SliceStable(left, func(i, j int) bool { // people are in the order of their ids
			a, b := left[i].values[top.By], left[j].values[top.By]
			if at, ok := a.(time.Time); ok {
				return at.After(b.(time.Time))
			}
			return a.(int) > b.(int)
		})
		left = left[:min(n, len(left))]
	}
	out := []string{}
	for _, p := range left {
		if seg.Sample != nil && drawnShare("sample/"+seg.Sample.Seed+"/"+p.id) >= float64(seg.Sample.Share) {
			continue
		}
		row := p.id
		if seg.Split != nil {
			row += "|c"
			of := func(part string) float64 { return drawnShare("split/" + seg.Split.Seed + "/" + part + "/" + p.id) }
			if of("a") < 0.5 {
				row = p.id + "|a"
			} else if of("b") < 0.5 { // half of what a left
				row = p.id + "|b"
			}
		}
		out = append(out, row)
	}
	sort.Strings(out)
	return out
}
