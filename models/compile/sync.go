package compile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/dbt"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/models/segment"
)

// Sync is all that plan, guard, deliver and commit need to know of one sync.
type Sync struct {
	Name        string
	Source      graph.ID // the model, segment, entity or source it reads
	Config      *config.Sync
	Destination *config.Destination
	Spec        destination.Spec
	Object      destination.Object
	Mode        destination.Mode
	OnRemove    config.OnRemove
	Input       string   // SELECT of the rows of the sync, with the source's columns; those held out are among them
	HeldOut     string   // condition over Input, of the alias src: the control group, which is not sent; "" = none
	Seed        string   // what the control group is cut by, and recorded under
	Consent     string   // the column that must be true of each row; "" = the destination has no purpose
	Unfiltered  string   // Input without where and consent
	Withheld    string   // like Input, but all rows that do not consent, whatever else they are; "" = no Consent
	PrimaryKey  []string // columns of Input
	// Moves are the tables that record merges and splits of the profiles its rows are, where a row is one profile; one of them may not exist.
	Moves   []warehouse.Table
	EventID []string // insert mode: columns of Input
	// Keys are the destination's identities in order of preference; each is used where all its columns are not NULL.
	Keys     [][]KeyColumn
	Fields   []Field
	Fresh    []Freshness   // what must be fresh before anything is sent
	DBT      []dbt.Demand  // what dbt must have found before anything is sent
	Via      string        // the sync whose snapshot holds the record ids
	LoadedAt string        // the column `backfill --since` compares; "" = none
	Refresh  time.Duration // what was acknowledged longer ago is sent again; 0 = never
	Remember time.Duration // insert mode: how long keys that left are remembered; 0 = for ever

	// late writes Input anew where its conditions count rows of inputs, or what was sent; nil where they do not, or where it was done.
	late func(ctx context.Context, w warehouse.Warehouse, s *Sync) error
}

// Bind completes Input, Unfiltered and Withheld once what the sync reads was built: a `did:` needs the columns of an input, which
// the warehouse alone knows. Before that they are for people to read. A second call does nothing. Not safe for concurrent use.
func (s *Sync) Bind(ctx context.Context, w warehouse.Warehouse) error {
	if s.late == nil {
		return nil
	}
	if err := s.late(ctx, w, s); err != nil {
		return err
	}
	s.late = nil
	return nil
}

// Freshness is a source or a model whose newest row may not be older than Within.
type Freshness struct {
	Name   string
	Query  string // one value: when its newest row was loaded; NULL = never
	Within time.Duration
	Pos    diag.Pos
}

// KeyColumn is one column of an identity.
type KeyColumn struct {
	Name        string // at the destination
	Expr        string // SQL over Input, normalised as the destination compares
	Insensitive bool
}

// Field is one mapped field.
type Field struct {
	Name      string
	Path      []string // Name split at the dots that nest
	Column    string   // in the snapshot and the plan
	Expr      string   // SQL over Input
	Omit      bool     // nulls: omit
	Write     string   // always, if_empty, on_add
	Tolerance float64
	Trigger   bool           // a difference alone causes an update
	Ordered   bool           // arrays keep their order
	Lookup    *config.Lookup // the value of Expr is that of another record, whose id is sent; nil = the value itself is
}

// newSync compiles one sync. Mappings were checked by graph.
func newSync(p *Program, n *graph.Node) (*Sync, error) {
	c := n.Sync
	dest := p.Graph.Nodes[graph.ID("destination."+c.Destination)]
	if dest == nil {
		return nil, diag.At(c.At("destination"), "sync.destination", "there is no destination %q", c.Destination)
	}
	spec, ok := p.Options.Specs(dest.Destination.Type)
	if !ok {
		return nil, diag.At(dest.Destination.At("type"), "destination.type", "there is no destination type %q", dest.Destination.Type)
	}
	s := &Sync{Name: c.Name, Config: c, Destination: dest.Destination, Spec: spec, Mode: destination.Mode(c.Mode), Via: c.Via}
	s.Object, ok = spec.FindObject(c.Object)
	if !ok {
		return nil, diag.At(c.At("object"), "sync.object", "%s has no object %q", spec.Type, c.Object)
	}
	if c.OnRemove != nil {
		s.OnRemove = *c.OnRemove
	} else {
		s.OnRemove.Act = s.Object.DefaultRemove
	}
	counts := false
	err := s.input(p, n, reader{
		input: func(_ *config.Entity, in identity.Input) (segment.Input, error) {
			counts = true
			out := segment.Input{Rows: "(the rows of " + in.Name + " with their profiles)"}
			if in.At != "" {
				out.Seen = "(" + in.At + ")"
			}
			return out, nil
		},
		sent: func(sync string) (string, error) {
			counts = true
			return p.sent(sync), nil
		},
	})
	if err != nil {
		return nil, err
	}
	if counts {
		s.late = func(ctx context.Context, w warehouse.Warehouse, s *Sync) error {
			return s.input(p, n, reader{
				input: func(e *config.Entity, in identity.Input) (segment.Input, error) {
					return segment.Read(ctx, w, e, in, p.Target.Identity(e.Name))
				},
				sent: func(sync string) (string, error) { return p.Sent(ctx, w, sync) },
			})
		}
	}
	s.heldOut(p)
	s.fresh(p, n)
	s.keys(p)
	if err := s.fields(p); err != nil {
		return nil, err
	}
	s.EventID = s.PrimaryKey
	if c.Event != nil && len(c.Event.ID) > 0 {
		s.EventID = c.Event.ID
	}
	if r := c.Remember; r != "" && r != "forever" {
		d, err := config.ParseDuration(r)
		if err != nil {
			return nil, diag.At(c.At("remember"), "sync.remember", "remember is neither forever nor a duration such as 90d")
		}
		s.Remember = d.Duration
	}
	if s.Mode != destination.Insert {
		if s.Refresh = c.Refresh.Duration; s.Refresh == 0 {
			s.Refresh = s.Object.MembershipLife * 2 / 3
		}
	}
	if c.Event != nil && c.Event.At != "" {
		s.LoadedAt = c.Event.At
	}
	return s, nil
}

// input writes the query of the sync's rows: the model, or the profiles, with `where` and consent applied and one flag a segment
// that a field lists; and, where consent is asked for, the query of all rows without it.
func (s *Sync) input(p *Program, n *graph.Node, read reader) error {
	c, d := s.Config, p.Dialect
	var from, all string // all: also profiles that are not in the segment
	entity := c.Entity
	switch {
	case c.Segment != "":
		s.Source = graph.ID("segment." + c.Segment)
		seg := p.Graph.Nodes[s.Source]
		if seg == nil {
			return diag.At(c.At("segment"), "sync.segment", "there is no segment %q", c.Segment)
		}
		entity = seg.Segment.Entity
		profiles, at := p.From(graph.ID("entity."+entity)), d.Quote("entered_at")
		members, nobody := "m."+at, d.Cast("NULL", warehouse.Timestamp)+" AS "+at
		if seg.Segment.Split != nil {
			split := d.Quote("split")
			members, nobody = members+", m."+split, nobody+", "+d.Cast("NULL", warehouse.Text)+" AS "+split
		}
		from = fmt.Sprintf("SELECT p.*, %s FROM %s p JOIN %s m ON p.%[4]s = m.%[4]s", members, profiles, p.From(s.Source), d.Quote("profile_id"))
		all = "SELECT p.*, " + nobody + " FROM " + profiles + " p"
	case c.Entity != "":
		s.Source = graph.ID("entity." + c.Entity)
		from = "SELECT p.* FROM " + p.From(s.Source) + " p"
	default:
		if err := s.model(p); err != nil {
			return err
		}
		from = "SELECT p.* FROM " + p.From(s.Source) + " p"
	}
	if all == "" {
		all = from
	}
	if entity != "" {
		s.PrimaryKey = []string{"profile_id"}
		from, all = s.expand(p, entity, from), s.expand(p, entity, all)
		if len(s.PrimaryKey) == 1 {
			s.Moves = []warehouse.Table{p.Names.Merges(entity)}
			if scratch := p.Target.Merges(entity); scratch != s.Moves[0] {
				s.Moves = append(s.Moves, scratch)
			}
		}
	}
	s.consent(p, entity)
	var conditions []string
	if c.Where != nil {
		where, err := p.where(c.Where, entity, "r", read)
		if err != nil {
			return err
		}
		conditions = append(conditions, where)
	}
	if s.Consent != "" {
		consents := "coalesce(" + d.TryCast("r."+d.Quote(s.Consent), d.Type(warehouse.Bool)) + ", false)"
		conditions = append(conditions, consents)
		s.Withheld = "SELECT r.* FROM (" + s.withSegmentFlags(p, all) + ") r WHERE NOT " + consents
	}
	s.Unfiltered = s.withSegmentFlags(p, from)
	s.Input = s.Unfiltered
	if len(conditions) > 0 {
		s.Input = "SELECT r.* FROM (" + s.Input + ") r WHERE " + strings.Join(conditions, " AND ")
	}
	return nil
}

// expand makes one row a value of an identifier, under whose name the value stands.
func (s *Sync) expand(p *Program, entity, from string) string {
	name := s.Config.Expand
	if name == "" {
		return from
	}
	d := p.Dialect
	s.PrimaryKey = []string{"profile_id", name}
	e := p.Graph.Nodes[graph.ID("entity."+entity)].Entity
	columns := graph.ProfileColumns(e)
	if identity.Limited(e) {
		columns = append(columns, "shared")
	}
	if name := s.Config.Segment; name != "" {
		columns = append(columns, "entered_at")
		if p.Graph.Node(graph.Segment, name).Segment.Split != nil {
			columns = append(columns, "split")
		}
	}
	var list []string
	for _, c := range columns {
		if !strings.EqualFold(c, name) {
			list = append(list, "q."+d.Quote(c))
		}
	}
	return fmt.Sprintf("SELECT %s, e.%s AS %s FROM (%s) q JOIN %s e ON e.%s = q.%[6]s AND e.identifier = %[7]s", strings.Join(list, ", "),
		d.Quote("value"), d.Quote(name), from, d.Table(p.Target.Identity(entity)), d.Quote("profile_id"), d.Text(name))
}

// consent finds the column that a row's consent stands in. Mappings were checked by graph.
func (s *Sync) consent(p *Program, entity string) {
	switch {
	case entity == "":
		s.Consent = s.Config.Consent
	case s.Destination.Purpose != "":
		s.Consent = p.Graph.Nodes[graph.ID("entity."+entity)].Entity.Consent[s.Destination.Purpose]
	}
}

// fresh lists what must be fresh: what the sources it reads say of themselves, and what it says instead or besides.
func (s *Sync) fresh(p *Program, n *graph.Node) {
	d := p.Dialect
	add := func(n *graph.Node, within time.Duration, pos diag.Pos) {
		s.Fresh = append(s.Fresh, Freshness{
			Name: n.Name, Within: within, Pos: pos,
			Query: "SELECT max(" + d.Cast(d.Quote(n.LoadedAt()), warehouse.Timestamp) + ") FROM " + p.From(n.ID) + " src",
		})
	}
	own := map[string]config.Duration{}
	if s.Config.Requires != nil {
		own = s.Config.Requires.Fresh
	}
	for _, id := range sources(p.Graph, n) {
		source := p.Graph.Nodes[id]
		if _, instead := own[source.Name]; source.Fresh() > 0 && !instead {
			add(source, source.Fresh(), source.Pos)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		required, ofDBT := p.Graph.Required(name)
		if ofDBT != nil {
			s.DBT = append(s.DBT, dbt.Demand{Relation: ofDBT, Within: own[name].Duration})
			continue
		}
		add(required, own[name].Duration, s.Config.Requires.At("fresh."+name))
	}
	if s.Config.Requires == nil {
		return
	}
	for _, name := range s.Config.Requires.Tests {
		if _, ofDBT := p.Graph.Required(name); ofDBT != nil {
			s.DBT = append(s.DBT, dbt.Demand{Relation: ofDBT})
		}
	}
}

// sources are those that a sync reads, itself or through what is built for it; not those of syncs that it comes after.
func sources(g *graph.Graph, n *graph.Node) []graph.ID {
	var built []graph.ID
	for _, id := range n.Parents {
		if g.Nodes[id].Kind != graph.Sync {
			built = append(built, id)
		}
	}
	return slices.DeleteFunc(g.Ancestors(built...), func(id graph.ID) bool { return g.Nodes[id].Kind != graph.Source })
}

// heldOut is the condition of the control group. A share is cut by the first half of an MD5, which is the same on every engine: who
// is held out does not depend on where the data lies. A larger share of the same seed holds out the same, and more.
func (s *Sync) heldOut(p *Program) {
	h, d := s.Config.Holdout, p.Dialect
	switch {
	case h == nil:
		return
	case h.Column != "":
		s.Seed = "column " + h.Column
		s.HeldOut = "coalesce(" + d.TryCast("src."+d.Quote(h.Column), d.Type(warehouse.Bool)) + ", false)"
		return
	}
	by := s.PrimaryKey
	if h.By != "" {
		by = []string{h.By}
	} else if slices.Contains(by, "profile_id") && s.Config.Model == "" {
		by = []string{"profile_id"} // of several rows of a profile all or none
	}
	if s.Seed = h.Seed; s.Seed == "" { // a sync that was renamed holds out the same
		s.Seed = s.Name
		if s.Config.MovedFrom != "" {
			s.Seed = s.Config.MovedFrom
		}
	}
	text := d.Text(s.Seed)
	for _, column := range by {
		text += " || '/' || " + d.Cast("src."+d.Quote(column), warehouse.Text)
	}
	cut := fmt.Sprintf("%08x", uint64(math.Round(float64(h.Share)*(1<<32))))
	s.HeldOut = "coalesce(substr(" + d.Digest(text) + ", 1, 8) < " + d.Text(cut) + ", false)"
}

// model finds which model or source a sync of `model:` reads, and its key.
func (s *Sync) model(p *Program) error {
	id, err := p.Graph.Reference(s.Config.Model)
	if err != nil {
		err.Pos = s.Config.At("model")
		return err
	}
	s.Source = id
	switch read := p.Graph.Nodes[id]; {
	case read.Kind != graph.Model && read.Kind != graph.Source:
		return diag.At(s.Config.At("model"), "sync.model", "there is no model %q", s.Config.Model)
	case read.Model != nil:
		s.PrimaryKey, s.LoadedAt = read.Model.PrimaryKey, read.Model.LoadedAt
	case read.SourceTable != nil:
		s.LoadedAt = read.SourceTable.LoadedAt
	}
	if len(s.PrimaryKey) == 0 && len(s.Config.Key) > 0 {
		// A source has no declared key: its rows are known by the destination's.
		for _, k := range s.Config.Key[0].Columns {
			s.PrimaryKey = append(s.PrimaryKey, k.Column)
		}
	}
	return nil
}

// withSegmentFlags joins each segment that a field lists, once.
func (s *Sync) withSegmentFlags(p *Program, from string) string {
	var names []string
	for _, f := range s.Config.Fields {
		names = append(names, f.Segments...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return from
	}
	d := p.Dialect
	var flags, joins strings.Builder
	for i, name := range names {
		fmt.Fprintf(&flags, ", x%d.%s IS NOT NULL AS %s", i, d.Quote("profile_id"), d.Quote(flagColumn(name)))
		fmt.Fprintf(&joins, " LEFT JOIN %s x%d ON x%[2]d.%[3]s = q.%[3]s", p.From(graph.ID("segment."+name)), i, d.Quote("profile_id"))
	}
	return "SELECT q.*" + flags.String() + " FROM (" + from + ") q" + joins.String()
}

func flagColumn(segment string) string { return "__in_" + segment }

func (s *Sync) keys(p *Program) {
	equality := map[string]destination.Equality{}
	for _, k := range s.Object.Keys {
		equality[k.Name] = k.Equality
	}
	for _, alternative := range s.Config.Key {
		var columns []KeyColumn
		for _, c := range alternative.Columns {
			k := KeyColumn{Name: c.Name, Expr: p.Dialect.Quote(c.Column)}
			if equality[c.Name] == destination.CaseInsensitive {
				k.Expr, k.Insensitive = p.Dialect.NormalizeText(k.Expr), true
			}
			columns = append(columns, k)
		}
		s.Keys = append(s.Keys, columns)
	}
}

func (s *Sync) fields(p *Program) error {
	d := p.Dialect
	for _, c := range s.Config.Fields {
		if s.yields(p, c.Name) {
			continue
		}
		if c.Write == "if_empty" && !s.Object.Reads {
			return diag.At(c.At("write"), "sync.if_empty", "write: if_empty asks what stands at the destination, and %s %s cannot be read",
				s.Spec.Type, s.Object.Name).WithHint("use write: on_add, or leave write out")
		}
		f := Field{
			Name: c.Name, Path: config.SplitPath(c.Name), Column: FieldColumn(c.Name), Tolerance: c.Tolerance, Write: c.Write,
			Ordered: c.Ordered, Trigger: c.Trigger == nil || *c.Trigger, Omit: s.Config.Nulls == "omit",
		}
		if c.Nulls != "" {
			f.Omit = c.Nulls == "omit"
		}
		f.Omit = f.Omit || f.Write == "if_empty" // nothing is no reason to write where nothing is
		switch {
		case c.Column != "":
			f.Expr = d.Quote(c.Column)
		case c.HasValue:
			expr, err := literal(p, c.Value)
			if err != nil {
				return diag.At(c.At("value"), "sync.value", "the value of field %q cannot be sent: %v", c.Name, err)
			}
			f.Expr = expr
		case c.Lookup != nil:
			f.Expr, f.Lookup = d.Quote(c.Lookup.Value), c.Lookup
		case len(c.Segments) > 0:
			f.Expr, f.Ordered = segmentList(p, c.Segments), true
		default:
			f.Expr = "(" + c.SQL + ")"
		}
		s.Fields = append(s.Fields, f)
	}
	return nil
}

// yields tells whether a field belongs to a sync that this one names under owner: of a field that both map, the owner's value is
// sent and this sync's is not.
func (s *Sync) yields(p *Program, field string) bool {
	for _, owner := range s.Config.Owner {
		n := p.Graph.Nodes[graph.ID("sync."+owner)]
		if n == nil || n.Sync.Destination != s.Config.Destination || n.Sync.Object != s.Config.Object {
			continue
		}
		if slices.ContainsFunc(n.Sync.Fields, func(f *config.Field) bool { return f.Name == field }) {
			return true
		}
	}
	return false
}

func literal(p *Program, v any) (string, error) {
	switch v.(type) {
	case nil, bool, int, int64, float64, string:
		return p.Dialect.Value(v), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return "CAST(" + p.Dialect.Text(string(b)) + " AS JSON)", nil
}

// segmentList is the sorted list of the segments a row is in, as JSON made of text, which every warehouse can.
func segmentList(p *Program, names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	var items []string
	for _, name := range slices.Compact(names) {
		item := p.Dialect.Text("," + strconv.Quote(name))
		items = append(items, "CASE WHEN "+p.Dialect.Quote(flagColumn(name))+" THEN "+item+" ELSE "+p.Dialect.Text("")+" END")
	}
	return p.Dialect.Cast("'[' || substr("+strings.Join(items, " || ")+", 2) || ']'", warehouse.JSON)
}

// FieldColumn is a field's column in snapshot and plan: its own name unless that is one of the engine's.
func FieldColumn(name string) string {
	lower := strings.ToLower(name)
	if slices.Contains(engineColumns(), lower) || strings.HasPrefix(lower, "key_") || strings.HasPrefix(lower, "field_") ||
		strings.HasPrefix(lower, "old_") {
		return "field_" + name
	}
	return name
}

// engineColumns are the names that snapshot, plan, pending and retry tables use themselves.
func engineColumns() []string {
	return []string{
		"primary_key", "dest_key", "key_hash", "hash", "remote_id", "origin", "acknowledged_at", "uncertain_until", "theirs",
		"page", "operation", "state", "reason", "changed", "attempts", "since", "rowid", "rn", "code", "message", "run_id",
	}
}

// reader finds what a `did:` counts of an input, and what a `sent:` looks at.
type reader struct {
	input func(e *config.Entity, in identity.Input) (segment.Input, error)
	sent  func(sync string) (string, error)
}

// Sent is the query of what a sync of profiles has sent, as segment.Scope wants it: "" where Dray has sent nothing at all yet. What was
// sent to a profile that was merged into another since then was sent to that one.
func (p *Program) Sent(ctx context.Context, w warehouse.Warehouse, sync string) (string, error) {
	there, err := w.Exists(ctx, p.Names.Deliveries())
	if err != nil || !there {
		return "", err
	}
	moves, err := p.merged(ctx, w, sync)
	if err != nil || moves == "" {
		return p.sent(sync), err
	}
	return fmt.Sprintf("SELECT coalesce(m.into_id, s.profile_id) AS profile_id, s.sent_at FROM (%s) AS s LEFT JOIN (%s) AS m ON m.from_id = s.profile_id", p.sent(sync), moves), nil
}

// mergeSteps is over how many merges, one after the other, a profile is followed.
const mergeSteps = 8

// merged is a query of the profiles of a sync's entity that are part of another one (from_id) and of which (into_id); "" = none ever was.
func (p *Program) merged(ctx context.Context, w warehouse.Warehouse, sync string) (string, error) {
	s, d := p.Graph.Node(graph.Sync, sync).Sync, p.Dialect
	entity := s.Entity
	if of := p.Graph.Node(graph.Segment, s.Segment); of != nil {
		entity = of.Segment.Entity
	}
	tables := []warehouse.Table{p.Names.Merges(entity), p.Target.Merges(entity)}
	var parts []string
	for _, t := range slices.Compact(tables) {
		there, err := w.Exists(ctx, t)
		if err != nil {
			return "", err
		}
		if there {
			parts = append(parts, "SELECT from_id, into_id FROM "+d.Table(t)+" WHERE rule = 'merge'")
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	merges := "(SELECT DISTINCT from_id, into_id FROM (" + strings.Join(parts, " UNION ALL ") + ") AS u)"
	ids, joins := "m0.into_id", ""
	for i := 1; i < mergeSteps; i++ {
		ids = fmt.Sprintf("m%d.into_id, %s", i, ids)
		joins += fmt.Sprintf(" LEFT JOIN %s AS m%d ON m%[2]d.from_id = m%d.into_id", merges, i, i-1)
	}
	return fmt.Sprintf("SELECT m0.from_id, coalesce(%s) AS into_id FROM %s AS m0%s", ids, merges, joins), nil
}

// sent looks at the real deliveries, also in scratch. What was not answered may have arrived, and counts. Several rows of a profile
// are known by a JSON list that begins with its id, of 20 characters.
func (p *Program) sent(sync string) string {
	d := p.Dialect
	id := "primary_key"
	if p.Graph.Node(graph.Sync, sync).Sync.Expand != "" {
		id = "substr(primary_key, 3, 20)"
	}
	return fmt.Sprintf("SELECT %s AS profile_id, %s AS sent_at FROM %s WHERE sync = %s AND operation <> 'remove' AND outcome IN ('delivered', 'accepted', 'uncertain') AND primary_key IS NOT NULL",
		id, d.Quote("at"), d.Table(p.Names.Deliveries()), d.Text(p.Names.Was(sync)))
}

// where is a sync's own condition over its rows; entity is "" where they are no profiles.
func (p *Program) where(c *config.Condition, entity, alias string, read reader) (string, error) {
	return segment.Where(p.Dialect, c, segment.Scope{
		Own: p.From(graph.MakeID(graph.Entity, entity)),
		Relation: func(name string) (segment.Relation, error) {
			e := p.Graph.Nodes[graph.MakeID(graph.Entity, entity)].Entity
			for _, r := range p.Relations(e) {
				if strings.EqualFold(r.Name, name) {
					return segment.Relation{Related: r}, nil
				}
			}
			return segment.Relation{}, segment.NoRelation(e, name)
		},
		Alias: alias, Profiles: entity != "", Members: p.Target.Segment, AsOf: p.Options.AsOf, Render: p.Render, Sent: read.sent,
		Input: func(name string) (segment.Input, error) {
			e := p.Graph.Nodes[graph.MakeID(graph.Entity, entity)].Entity
			inputs, err := p.Inputs(e)
			if err != nil {
				return segment.Input{}, err
			}
			for _, in := range inputs {
				if in.Name == name {
					return read.input(e, in)
				}
			}
			return segment.Input{}, segment.NoInput(e, name)
		},
	})
}
