package config

import (
	"math"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/internal/diag"
)

// check holds what one file, or one thing, can be seen to break by itself. What refers to something else is checked by
// models/graph.
func check(p *Project, problems *diag.List) {
	c := &checker{problems: problems, splits: map[string]bool{}}
	for _, s := range p.Segments {
		c.splits[s.Entity] = c.splits[s.Entity] || s.Split != nil
	}
	c.project(p)
	c.names(p)
	c.relations(p)
	for _, m := range p.Models {
		c.model(m)
	}
	for _, e := range p.Entities {
		c.entity(e)
	}
	for _, s := range p.Segments {
		c.segment(s)
	}
	for _, s := range p.Syncs {
		c.sync(s)
	}
}

type checker struct {
	problems *diag.List
	splits   map[string]bool // entities of which a segment is split
}

func (c *checker) problem(at diag.Pos, code, format string, args ...any) *diag.Error {
	e := diag.At(at, code, format, args...)
	*c.problems = append(*c.problems, e)
	return e
}

var projectName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)

func (c *checker) project(p *Project) {
	if p.Name != "" && !projectName.MatchString(p.Name) {
		c.problem(p.At("name"), "config.name", "%s is no name for a project", p.shown("name", p.Name)).
			WithHint("letters, digits, _ and -, not beginning with a digit, at most 63")
	}
	if p.Version != 1 && p.good("version") {
		c.problem(p.At("version"), "config.version", "this Dray reads version 1 of the language, not %d", p.Version).WithHint("version: 1")
	}
	if _, _, err := ParseAsOf(p.AsOf); err != nil {
		const wants = "wants now, a date or a time, like 2026-01-31 or 2026-01-31T08:00:00Z"
		if p.Has("as_of") {
			c.problem(p.At("as_of"), "config.as_of", "as_of %s", wants)
		} else {
			c.problem(diag.Pos{}, "config.as_of", "--as-of %s", wants)
		}
	}
	c.identifier(p.Node, "schema", "schema", p.Schema)
	c.warehouse(p.Warehouse)
	c.catalogs(p)
	if p.DBT != nil && p.DBT.good("max_age") && p.DBT.Has("max_age") && p.DBT.MaxAge.Duration <= 0 {
		c.problem(p.DBT.At("max_age"), "config.type", "%q wants more than nothing", "max_age").WithHint("max_age: 2d")
	}
	for _, t := range p.Targets {
		if !projectName.MatchString(t.Name) {
			c.problem(t.Pos, "config.name", "%q is no name for a target", shorten(t.Name)).WithHint("letters, digits, _ and -")
		}
	}
}

// ParseAsOf reads as_of: now (then ok is false), a date (its first instant), or a time; without a zone they are UTC.
func ParseAsOf(text string) (t time.Time, ok bool, err error) {
	if text == "now" || text == "" {
		return time.Time{}, false, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err = time.Parse(layout, text); err == nil {
			return t.UTC(), true, nil
		}
	}
	return time.Time{}, false, err
}

// Clock is the time a run that begins now takes for now: every relative date counts from it.
func (p *Project) Clock(now time.Time) time.Time {
	if t, ok, err := ParseAsOf(p.AsOf); ok && err == nil {
		return t
	}
	return now.UTC()
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// identifier holds that a name can be part of a relation's or a column's name in every engine.
func (c *checker) identifier(n Node, key, what, name string) {
	if name == "" || identifier.MatchString(name) {
		return
	}
	c.problem(n.At(key), "config.name", "%s is no name for a %s", n.shown(key, shorten(name)), what).
		WithHint("letters, digits and _, not beginning with a digit, at most 63")
}

// scope is a set of names in which each may stand once; letter case does not tell names apart, as it does not in SQL.
type scope struct {
	what string
	seen map[string]diag.Pos
}

func newScope(what string) *scope { return &scope{what: what, seen: map[string]diag.Pos{}} }

func (c *checker) unique(s *scope, n Node, key, name string) {
	if name == "" {
		return
	}
	folded := strings.ToLower(name)
	if first, twice := s.seen[folded]; twice {
		c.problem(n.At(key), "config.duplicate_name", "%s %s is declared twice; first at %s", s.what, n.shown(key, name), first)
		return
	}
	s.seen[folded] = n.At(key)
}

// named checks one name: an identifier, and new in its scope.
func (c *checker) named(s *scope, n Node, name string) {
	c.identifier(n, "name", s.what, name)
	c.unique(s, n, "name", name)
}

func (c *checker) names(p *Project) {
	sources, models, entities := newScope("source"), newScope("model"), newScope("entity")
	segments, destinations, syncs := newScope("segment"), newScope("destination"), newScope("sync")
	for _, s := range p.Sources {
		c.named(sources, s.Node, s.Name)
		c.tables(s)
	}
	for _, m := range p.Models {
		c.named(models, m.Node, m.Name)
	}
	for _, e := range p.Entities {
		c.named(entities, e.Node, e.Name)
	}
	for _, s := range p.Segments {
		c.named(segments, s.Node, s.Name)
	}
	for _, d := range p.Destinations {
		c.named(destinations, d.Node, d.Name)
	}
	for _, s := range p.Syncs {
		c.named(syncs, s.Node, s.Name)
	}
}

// warehouse keeps secrets out of the file (I6).
func (c *checker) warehouse(w *Warehouse) {
	if w == nil {
		return
	}
	keys, _ := keysOf(reflect.TypeFor[Warehouse]())
	for _, k := range keys {
		if k.secret && w.Has(k.name) && !w.IsReference(k.name) {
			c.problem(w.At(k.name), "config.literal_secret", "%s is a secret and may not stand in the file", k.name).
				WithHint("write %s: \"${%s}\" and set the variable", k.name, strings.ToUpper(k.name))
		}
	}
}

// catalogs refuses DuckDB files that are called like the schema: dray.runs could then be either's.
func (c *checker) catalogs(p *Project) {
	w := p.Warehouse
	if w == nil || w.Type != "duckdb" {
		return
	}
	for name := range w.Attach {
		if strings.EqualFold(name, p.Schema) {
			c.problem(w.At("attach"), "config.warehouse", "%s is attached, and the schema is called so: DuckDB cannot tell them apart", name).WithHint("another name for it")
		}
	}
	file, _ := w.Options["path"].(string)
	if file == "" {
		file = p.Name + ".duckdb"
	}
	file = path.Base(filepath.ToSlash(file))
	if stem, _, _ := strings.Cut(file, "."); strings.EqualFold(stem, p.Schema) {
		c.problem(w.At("path"), "config.warehouse", "file %s and schema %s have one name, and DuckDB cannot tell them apart", file, p.Schema).
			WithHint("another path: of the warehouse, or schema:")
	}
}

// tables checks a source's tables and files. A table bears the warehouse's own name, which need not be an identifier.
func (c *checker) tables(s *Source) {
	tables := newScope("table")
	for _, t := range s.Tables {
		c.unique(tables, t.Node, "name", t.Name)
	}
	for _, f := range s.Files {
		c.named(tables, f.Node, f.Name)
		c.file(f)
	}
}

// file refuses keys that its format does not look at, and characters that are none.
func (c *checker) file(f *SourceFile) {
	format := f.Format
	if format == "" {
		for ending, of := range map[string]string{".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json"} {
			if strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(f.Path), ".gz"), ".zst"), ending) {
				format = of
			}
		}
	}
	if format == "parquet" || format == "json" {
		for _, k := range []string{"types", "delimiter", "header", "quote", "escape", "nulls", "encoding"} {
			if f.Has(k) {
				c.problem(f.At(k), "config.file", "%s is for CSV files; %s is %s", k, f.shown("path", f.Path), format)
			}
		}
	}
	for _, k := range []struct{ key, text string }{{"quote", f.Quote}, {"escape", f.Escape}} {
		if f.Has(k.key) && f.good(k.key) && len(k.text) > 1 {
			c.problem(f.At(k.key), "config.file", "%s wants one character", k.key)
		}
	}
	if f.Has("delimiter") && f.good("delimiter") && (f.Delimiter == "" || len(f.Delimiter) > 4) {
		c.problem(f.At("delimiter"), "config.file", "delimiter wants one to four characters").WithHint("delimiter: \";\"; a tab is \"\\t\"")
	}
}

// relations holds that no two things would be built under the same name: everything of Dray's lies in one schema.
func (c *checker) relations(p *Project) {
	taken := map[string]string{}
	for _, own := range []string{"deliveries", "runs", "meta", "approvals", "segment_history", "deliveries_v1", "runs_v1"} {
		taken[own] = "a table of Dray's own"
	}
	claim := func(n Node, what, name, relation string) {
		folded, self := strings.ToLower(relation), what+" "+strings.ToLower(name)
		owner, clash := taken[folded]
		switch {
		case name == "" || owner == self: // missing or doubled: said elsewhere
		case clash:
			c.problem(n.At("name"), "config.reserved_name", "%s %s would be built as %s, the name of %s", what, n.shown("name", name),
				n.bare("name", relation), owner).WithHint("choose another name")
		default:
			taken[folded] = self
		}
	}
	for _, e := range p.Entities {
		claim(e.Node, "entity", e.Name, "identity_"+e.Name)
		for _, suffix := range []string{"_merges", "_rows", "_components", "_state"} {
			claim(e.Node, "entity", e.Name, "identity_"+e.Name+suffix)
		}
		claim(e.Node, "entity", e.Name, "profiles_"+e.Name)
		for _, m := range e.Match {
			if m.Pairs() {
				for _, suffix := range MatchTables() {
					claim(e.Node, "entity", e.Name, "identity_"+e.Name+suffix)
				}
			}
		}
		if len(e.Historical()) > 0 {
			claim(e.Node, "entity", e.Name, "profiles_"+e.Name+"_history")
		}
	}
	for _, s := range p.Segments {
		claim(s.Node, "segment", s.Name, "segment_"+s.Name)
	}
	for _, s := range p.Syncs {
		for _, table := range []string{"snapshot_", "plan_", "pending_", "retry_", "lock_", "outcomes_", "ended_", "holdout_"} {
			claim(s.Node, "sync", s.Name, table+s.Name)
		}
	}
	for _, m := range p.Models {
		if !m.Has("table") {
			claim(m.Node, "model", m.Name, m.Name)
		}
	}
}

func (c *checker) model(m *Model) {
	if m.Has("table") && m.Has("materialized") {
		c.problem(m.At("materialized"), "config.model", "model %s is a table as it is; it is not materialized", m.shown("name", m.Name)).
			WithHint("take materialized: away")
	}
	if m.Has("lookback") && m.Materialized != "incremental" {
		c.problem(m.At("lookback"), "config.model", "lookback is for incremental models").WithHint("materialized: incremental")
	}
	if m.good("primary_key") && len(m.PrimaryKey) == 0 {
		c.problem(m.At("primary_key"), "config.empty", "primary_key names no column")
	}
	c.distinct(m.Node, "primary_key", m.PrimaryKey)
}

// distinct holds that a list of columns names each once.
func (c *checker) distinct(n Node, key string, columns []string) {
	seen := map[string]bool{}
	for _, column := range columns {
		if folded := strings.ToLower(column); seen[folded] {
			c.problem(n.At(key), "config.duplicate_column", "%s names column %s twice", key, n.shown(key, column))
		} else {
			seen[folded] = true
		}
	}
}

func (c *checker) entity(e *Entity) {
	identifiers, inputs, traits := newScope("identifier"), newScope("input"), newScope("trait")
	c.profileColumns(e)
	for _, i := range e.Identifiers {
		c.named(identifiers, i.Node, i.Name)
		c.exclude(i)
	}
	c.matches(e, identifiers)
	c.decisions(e)
	c.belongs(e)
	for _, in := range e.Inputs {
		c.lookback(in)
		if in.Name == "" && !in.Has("name") {
			continue // graph says what is wrong with its from:
		}
		key := "name"
		if !in.Has("name") {
			key = "from"
		}
		c.identifier(in.Node, key, "input", in.Name)
		c.unique(inputs, in.Node, key, in.Name)
	}
	for _, t := range e.Traits {
		c.identifier(t.Node, "name", "trait", t.Name)
		c.unique(traits, t.Node, "name", t.Name)
		for _, name := range t.Names {
			c.identifier(t.Node, "names", "trait", name)
			c.unique(traits, t.Node, "names", name)
		}
		c.trait(t)
	}
}

// lookback goes by the time of rows.
func (c *checker) lookback(in *Input) {
	switch {
	case !in.Has("lookback") || !in.good("lookback"):
	case in.Lookback.Duration <= 0:
		c.problem(in.Node.At("lookback"), "config.type", "%q wants more than nothing", "lookback").WithHint("lookback: 3 days")
	case in.At == "":
		c.problem(in.Node.At("lookback"), "config.lookback", "lookback goes by at, which the input has not").WithHint("at: the column with the time of a row")
	}
}

// profileColumns refuses identifiers and traits that would be named like a column that profiles, or the members of a segment, have
// anyway. shared is one of entities with limits.
func (c *checker) profileColumns(e *Entity) {
	own := []string{"profile_id", "first_seen_at", "updated_at", "entered_at"}
	if c.splits[e.Name] {
		own = append(own, "split")
	}
	if e.Limited() {
		own = append(own, "shared")
	}
	claim := func(n Node, key, what, name string) {
		if slices.Contains(own, strings.ToLower(name)) {
			c.problem(n.At(key), "config.reserved_name", "%s %s would be a column that profiles have anyway", what, n.shown(key, name)).
				WithHint("choose another name")
		}
	}
	for _, i := range e.Identifiers {
		claim(i.Node, "name", "identifier", i.Name)
	}
	for _, t := range e.Traits {
		claim(t.Node, "name", "trait", t.Name)
		for _, name := range t.Names {
			claim(t.Node, "names", "trait", name)
		}
	}
}

// belongs holds that each relation to another entity has a name of its own, which no column of the profiles has.
func (c *checker) belongs(e *Entity) {
	relations := newScope("relation")
	columns := map[string]bool{"profile_id": true, "first_seen_at": true, "updated_at": true, "entered_at": true, "split": true, "shared": true}
	for _, i := range e.Identifiers {
		columns[strings.ToLower(i.Name)] = true
	}
	for _, t := range e.Traits {
		for _, name := range append([]string{t.Name}, t.Names...) {
			columns[strings.ToLower(name)] = true
		}
	}
	for _, r := range e.Relations {
		c.named(relations, r.Node, r.Name)
		if r.Name != "" && columns[strings.ToLower(r.Name)] {
			c.problem(r.At("name"), "config.relation", "relation %s has the name of a column of profiles", r.shown("name", r.Name)).
				WithHint("%s.a could mean either: choose another name", r.shown("name", r.Name))
		}
		if r.good("on") && r.Has("on") && len(r.On) == 0 {
			c.problem(r.At("on"), "config.relation", "relation %s does not say how the other is found", r.shown("name", r.Name)).
				WithHint("on: {own_column: its_identifier}")
		}
	}
}

// known holds that an entity has an identifier of a name; "" is none to hold.
func (c *checker) known(e *Entity, n Node, key, name string) {
	var names []string
	for _, i := range e.Identifiers {
		if i.Name == name {
			return
		}
		names = append(names, i.Name)
	}
	if name == "" {
		return
	}
	p := c.problem(n.At(key), "config.identifier", "entity %s has no identifier %s", e.shown("name", e.Name), n.shown(key, name))
	if near := Suggest(name, names); near != "" {
		p.WithHint("did you mean %s?", near)
	} else {
		p.WithHint("it has %s", strings.Join(names, ", "))
	}
}

func (c *checker) decisions(e *Entity) {
	d := e.Decisions
	if d == nil {
		return
	}
	one := map[string]bool{}
	both := func(pair []string) string { return min(pair[0], pair[1]) + "\n" + max(pair[0], pair[1]) }
	for _, key := range []string{"always", "never"} {
		pairs := d.Always
		if key == "never" {
			pairs = d.Never
		}
		for i, pair := range pairs {
			if len(pair) != 2 || pair[0] == pair[1] {
				c.problem(d.At(key), "config.decisions", "pair %d of %s is not two values", i+1, key).WithHint("[email:a@x.dk, phone:+4512345678]")
				continue
			}
			for _, side := range pair {
				name, value, ok := strings.Cut(side, ":")
				if !ok || value == "" {
					c.problem(d.At(key), "config.decisions", "pair %d of %s has a value that names no identifier", i+1, key).WithHint("write identifier:value, as in email:a@x.dk")
					continue
				}
				c.known(e, d.Node, key, name)
			}
			if one[both(pair)] {
				c.problem(d.At(key), "config.decisions", "pair %d of %s is there twice, or both always and never one", i+1, key)
			}
			one[both(pair)] = true
		}
	}
}

func (c *checker) exclude(i *Identifier) {
	x := i.Exclude
	if x == nil {
		return
	}
	if len(x.places) == 0 {
		c.problem(x.Pos, "config.exclude", "exclude says nothing").WithHint("values, pattern, or from with column")
	}
	if x.Has("from") != x.Has("column") {
		c.problem(x.Pos, "config.exclude", "exclude needs both from and column to read values from a relation").
			WithHint("exclude: {from: ref('bad_emails'), column: email}")
	}
	if _, err := regexp.Compile(x.Pattern); err != nil {
		c.problem(x.At("pattern"), "config.pattern", "pattern is no regular expression").WithHint("%s", patternFault(err, x.IsReference("pattern")))
	}
}

func patternFault(err error, secret bool) string {
	if secret {
		return "the syntax is RE2's"
	}
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

// trait holds that it has one form: picked from inputs, aggregated over one input, or computed from other traits.
func (c *checker) trait(t *Trait) {
	name := t.shown("name", t.Name)
	if t.Has("name") == t.Has("names") {
		c.problem(t.Pos, "config.trait", "a trait needs exactly one of name and names")
		return
	}
	if t.Has("names") {
		name = "of several columns"
	}
	var said []string
	for _, k := range []string{"pick", "value", "sql", "quintile"} {
		if t.Has(k) {
			said = append(said, k)
		}
	}
	switch {
	case len(said) == 0:
		c.problem(t.Pos, "config.trait", "trait %s does not say what it is", name).
			WithHint("pick + from, value + from, sql, or quintile")
		return
	case len(said) > 1:
		c.problem(t.At(said[1]), "config.trait", "trait %s has both %s and %s", name, said[0], said[1]).WithHint("keep one of them")
		return
	}
	c.traitForm(t, said[0], name)
}

// traitForm checks what may and must stand beside pick, value, sql or quintile.
func (c *checker) traitForm(t *Trait, form, name string) {
	allowed := map[string][]string{
		"pick":     {"from", "order_by", "where", "max_age", "within", "default"},
		"value":    {"from", "where", "within", "default"},
		"sql":      {"default"},
		"quintile": {"order", "default"},
	}[form]
	for _, k := range []string{"from", "order_by", "where", "within", "max_age", "order"} {
		if t.Has(k) && !slices.Contains(allowed, k) {
			c.problem(t.At(k), "config.trait", "%s means nothing beside %s in trait %s", k, form, name)
		}
	}
	switch {
	case (form == "pick" || form == "value") && len(t.From) == 0:
		c.problem(t.Pos, "config.trait", "trait %s lacks \"from\"", name).WithHint("%s", fromHint(form))
	case form == "value" && len(t.From) > 1:
		c.problem(t.At("from"), "config.trait", "an aggregate reads one input, not %d", len(t.From))
	case form != "pick" && t.Has("names"):
		c.problem(t.At("names"), "config.trait", "names go with pick: several columns from one and the same row")
	case t.Pick == "first" && !t.Has("order_by"):
		c.problem(t.Pos, "config.trait", "trait %s picks the first by no order", name).WithHint("order_by: \"updated_at desc\"")
	case t.Pick == "most_frequent" && t.Has("order_by"):
		c.problem(t.At("order_by"), "config.trait", "order_by orders rows, and trait %s counts values", name).WithHint("of equally frequent ones the most recent is picked")
	}
}

func fromHint(form string) string {
	if form == "pick" {
		return "from: [input.column]"
	}
	return "from: input"
}

// saysWho are the keys of a segment of which one at least says who is in it.
func saysWho() []string { return []string{"where", "sql", "exclusive", "top", "sample", "split"} }

func (c *checker) segment(s *Segment) {
	name := s.shown("name", s.Name)
	switch {
	case s.Has("where") && s.Has("sql"):
		c.problem(s.At("sql"), "config.segment", "segment %s has both where and sql", name).WithHint("keep one of them")
	case !slices.ContainsFunc(saysWho(), s.Has):
		c.problem(s.Pos, "config.segment", "segment %s does not say who is in it", name).WithHint("where: a condition, or sql: a query of profile_id")
	}
	if s.Sample != nil && s.good("sample") && s.Sample.Share <= 0 {
		c.problem(s.Sample.At("share"), "config.sample", "a sample of 0 %% has nobody in it").WithHint("sample: 5%%")
	}
	if s.Split != nil && s.good("split") {
		c.split(s, name)
	}
	if s.Has("exclusive") {
		c.exclusive(s)
	}
}

// split holds that a split's shares are all of it.
func (c *checker) split(s *Segment, name string) {
	sum := 0.0
	for _, p := range s.Split.Parts {
		sum += float64(p.Share)
		if p.Name == "" {
			c.problem(p.Pos, "config.split", "a part of the split of segment %s has no name", name)
		}
	}
	switch {
	case len(s.Split.Parts) < 2:
		c.problem(s.At("split"), "config.split", "a split of segment %s needs two parts or more", name).WithHint("split: {a: 50%%, b: 50%%}")
	case math.Abs(sum-1) > 1e-6:
		c.problem(s.At("split"), "config.split", "the shares of the split of segment %s add to %s %%, not to 100 %%", name,
			strconv.FormatFloat(math.Round(sum*1e6)/1e4, 'f', -1, 64))
	}
}

func (c *checker) exclusive(s *Segment) {
	if s.good("exclusive") && len(s.Exclusive) == 0 {
		c.problem(s.At("exclusive"), "config.exclusive", "exclusive names no segment").WithHint("exclusive: [gold, silver]")
	}
	for i, name := range s.Exclusive {
		if slices.Contains(s.Exclusive[:i], name) {
			c.problem(s.At("exclusive"), "config.exclusive", "exclusive names segment %q twice", name).WithHint("a profile is in the first of them only")
		}
	}
}

var relationText = regexp.MustCompile(`^(?:\{\{)?\s*(?:ref|source|identity|profiles|segment)\s*\(\s*(?:['"][^'"]*['"]\s*,\s*)?['"]([^'"]*)['"]\s*(?:,\s*v(?:ersion)?\s*=\s*['"]?[\w.]+['"]?\s*)?\)\s*(?:\}\})?$`)

// readName is the name of what an input's from: reads; "" where that is no relation.
func readName(from string) string {
	if m := relationText.FindStringSubmatch(strings.TrimSpace(from)); m != nil {
		return m[1]
	}
	return ""
}
