package graph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines without a zone database: a name must mean the same everywhere

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/timetable"
)

// checkMappings checks destinations and syncs against what the connectors declare.
func (r *resolver) checkMappings(specs Specs) {
	known := map[string]destination.Spec{}
	for _, d := range r.g.Project.Destinations {
		spec, ok := specs(d.Type)
		if !ok {
			r.fail(diag.At(d.At("type"), "destination.unknown_type", "there is no destination type %q", d.Type).
				WithHint("`dray destinations` lists them"))
			continue
		}
		known[d.Name] = spec
		_, problems := DestinationConfig(d, spec)
		r.problems.Add(problems.Err())
	}
	for _, s := range r.g.Project.Syncs {
		r.checkSchedule(s)
		if !r.mustExist(Destination, s.Destination, s.At("destination"), "sync.unknown_destination") {
			continue
		}
		if spec, ok := known[s.Destination]; ok {
			r.checkSync(s, spec)
		}
	}
	r.checkOwners()
}

// mapping is one sync with what its destination declares.
type mapping struct {
	*resolver
	sync   *config.Sync
	spec   destination.Spec
	object destination.Object
}

func (r *resolver) checkSync(s *config.Sync, spec destination.Spec) {
	if len(spec.Objects) == 0 {
		r.fail(diag.At(s.At("destination"), "sync.no_objects", "%s takes messages for alerts:, not rows of syncs", spec.Title))
		return
	}
	object, ok := spec.FindObject(s.Object)
	if !ok {
		var names []string
		for _, o := range spec.Objects {
			names = append(names, o.Name)
		}
		r.fail(unknown(s.At("object"), "sync.unknown_object", fmt.Sprintf("%s has no object %q", spec.Type, s.Object), s.Object, names))
		return
	}
	m := &mapping{resolver: r, sync: s, spec: spec, object: object}
	m.checkMode()
	_, problems := ObjectOptions(s, object)
	r.problems.Add(problems.Err())
	m.checkKey()
	m.checkFields()
	m.checkRemove()
	m.checkVia()
	m.checkColumns()
	m.checkConsent(r.g.Node(Destination, s.Destination).Destination)
}

func (m *mapping) name() string { return m.spec.Type + " " + m.object.Name }

func (m *mapping) checkMode() {
	mode := destination.Mode(m.sync.Mode)
	if mode == "" || slices.Contains(m.object.Modes, mode) {
		return
	}
	var modes []string
	for _, known := range m.object.Modes {
		modes = append(modes, string(known))
	}
	m.fail(diag.At(m.sync.At("mode"), "sync.mode", "%s cannot be written in mode %s", m.name(), mode).
		WithHint("it takes %s", strings.Join(modes, ", ")))
}

func (m *mapping) checkKey() {
	if m.object.AnyKey {
		return
	}
	var names []string
	for _, k := range m.object.Keys {
		names = append(names, k.Name)
	}
	for _, k := range m.sync.Key {
		for _, c := range k.Columns {
			if !slices.Contains(names, c.Name) {
				m.fail(unknown(place(c.Node, m.sync.At("key")), "sync.unknown_key", fmt.Sprintf("%s cannot be found by %q", m.name(), c.Name), c.Name, names))
			}
		}
	}
}

func (m *mapping) checkFields() {
	fields := map[string]destination.Field{}
	var names []string
	for _, f := range m.object.Fields {
		fields[f.Name] = f
		names = append(names, f.Name)
	}
	for _, f := range m.sync.Fields {
		pos := place(f.Node, m.sync.At("fields"))
		declared, ok := fields[f.Name]
		switch {
		case ok && declared.ReadOnly:
			m.fail(diag.At(pos, "sync.read_only_field", "field %q of %s is read-only: the vendor sets it", f.Name, m.name()))
		case !ok && !m.object.OpenFields:
			m.fail(unknown(pos, "sync.unknown_field", fmt.Sprintf("%s has no field %q", m.name(), f.Name), f.Name, names))
		}
		if f.Segments != nil {
			m.checkSegmentField(f)
		}
		if f.Lookup != nil && !m.spec.Finds {
			m.fail(diag.At(f.At("lookup"), "sync.lookup", "field %q looks up a record, and a destination of type %s cannot be asked for one", f.Name, m.spec.Type).
				WithHint("send a column that holds the id"))
		}
	}
	m.checkPaths()
}

// checkPaths: a dot in a field's name nests, so each part needs a name, and a value cannot hold another.
func (m *mapping) checkPaths() {
	for _, f := range m.sync.Fields {
		pos, path := place(f.Node, m.sync.At("fields")), config.SplitPath(f.Name)
		if slices.Contains(path, "") {
			m.fail(diag.At(pos, "sync.field_path", "field %q: a dot nests, and a part beside it is empty", f.Name).WithHint(`a dot that belongs to the name is written \.`))
			continue
		}
		for _, other := range m.sync.Fields {
			if inner := config.SplitPath(other.Name); len(inner) > len(path) && slices.Equal(inner[:len(path)], path) {
				m.fail(diag.At(pos, "sync.field_path", "field %q cannot be a value and hold %q", f.Name, other.Name).WithHint(`a dot that belongs to the name is written \.`))
			}
		}
	}
}

// checkSegmentField: the segments of a field must be of the entity whose profiles are sent.
func (m *mapping) checkSegmentField(f *config.Field) {
	entity := m.entity()
	if entity == nil {
		m.fail(diag.At(f.At("segments"), "field.segments", "field %q lists segments, but the rows of a model are no profiles", f.Name).
			WithHint("sync a segment: or an entity:"))
		return
	}
	for _, name := range f.Segments {
		if s := m.g.Node(Segment, name); s != nil && s.Segment.Entity != entity.Name {
			m.fail(diag.At(f.At("segments"), "field.segments", "segment %q is of entity %q, not of %q", name, s.Segment.Entity, entity.Name))
		}
	}
}

// entity is the one whose profiles the sync sends; nil for a model.
func (m *mapping) entity() *config.Entity {
	name := m.sync.Entity
	if s := m.g.Node(Segment, m.sync.Segment); s != nil {
		name = s.Segment.Entity
	}
	if n := m.g.Node(Entity, name); n != nil {
		return n.Entity
	}
	return nil
}

func (m *mapping) checkRemove() {
	act := m.sync.OnRemove
	mirror := destination.Mode(m.sync.Mode) == destination.Mirror
	if act == nil {
		if mirror && m.object.DefaultRemove == "" {
			m.fail(diag.At(m.sync.At("mode"), "sync.on_remove_missing", "sync %q mirrors %s and must say what becomes of rows that left", m.sync.Name, m.name()).
				WithHint("add on_remove: %s", strings.Join(m.object.Removes, " | ")))
		}
		return
	}
	pos := place(act.Node, m.sync.At("on_remove"))
	name, known := act.Act, m.object.AnyRemove || act.Act == "ignore"
	if act.Act == "action" {
		name = act.Action
	}
	if !known && !slices.Contains(m.object.Removes, name) {
		m.fail(diag.At(pos, "sync.on_remove", "%s cannot do on_remove: %s", m.name(), name).
			WithHint("it can %s", strings.Join(m.object.Removes, ", ")))
	}
}

func (m *mapping) checkVia() {
	s := m.sync
	if s.Via == "" {
		return
	}
	pos := s.At("via")
	if s.Via == s.Name {
		m.fail(diag.At(pos, "sync.via", "via cannot name the sync itself"))
		return
	}
	if !m.mustExist(Sync, s.Via, pos, "sync.via") {
		return
	}
	other := m.g.Node(Sync, s.Via).Sync
	switch {
	case other.Destination != s.Destination:
		m.fail(diag.At(pos, "sync.via", "via must name a sync to the same destination: %q delivers to %q, this one to %q", s.Via, other.Destination, s.Destination))
	case !m.object.MembersByID:
		m.fail(diag.At(pos, "sync.via", "%s is not written by record id, so via has no meaning", m.name()))
	case other.Mode == string(destination.Insert):
		m.fail(diag.At(pos, "sync.via", "via must name a sync that keeps its records' ids: %q is in mode insert", s.Via))
	}
}

// checkColumns checks the columns that are known without the warehouse: those of profiles, and that a model has a key.
func (m *mapping) checkColumns() {
	s := m.sync
	if id, err := m.g.Reference(s.Model); s.Model != "" && err == nil {
		model, ofDBT := m.g.Nodes[id].Model, m.g.Nodes[id].DBT
		hasEvent := s.Event != nil && len(s.Event.ID) > 0
		switch {
		case model == nil || len(model.PrimaryKey) > 0 || hasEvent:
		case ofDBT != nil:
			m.fail(diag.At(s.At("model"), "sync.primary_key", "dbt's %s %q has no primary key, so its rows cannot be told apart", ofDBT.Kind, ofDBT.Full()).
				WithHint("in dbt, a unique and a not_null test of the column; or here a model {name: …, table: \"%s\", primary_key: …}", ofDBT.Call("")))
		default:
			m.fail(diag.At(s.At("model"), "sync.primary_key", "model %q has no primary_key, so its rows cannot be told apart", model.Name).
				WithHint("add primary_key: to the model"))
		}
	}
	e := m.entity()
	if e == nil {
		return
	}
	known := ProfileColumns(e)
	known = append(known, memberColumns(m.g.Node(Segment, s.Segment))...)
	if s.Expand != "" {
		known = append(known, s.Expand)
	}
	check := func(column string, pos diag.Pos) {
		if column == "" || slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, column) }) {
			return
		}
		m.fail(unknown(pos, "sync.unknown_column", fmt.Sprintf("profiles of %q have no column %q", e.Name, column), column, known))
	}
	for _, k := range s.Key {
		for _, c := range k.Columns {
			check(c.Column, place(c.Node, s.At("key")))
		}
	}
	for _, f := range s.Fields {
		check(f.Column, f.At("column"))
		if f.Lookup != nil {
			check(f.Lookup.Value, f.Lookup.At("value"))
		}
	}
	if h := s.Holdout; h != nil {
		check(h.Column, h.At("column"))
		check(h.By, h.At("by"))
	}
	if s.Expand != "" {
		var names []string
		for _, i := range e.Identifiers {
			names = append(names, i.Name)
		}
		if !slices.Contains(names, s.Expand) {
			m.fail(unknown(s.At("expand"), "sync.expand", fmt.Sprintf("entity %q has no identifier %q", e.Name, s.Expand), s.Expand, names))
		}
	}
}

// checkConsent: a destination with a purpose takes only rows that say whether they consent to it, and must be able to give back those
// that do not any more (DESIGN §7).
func (m *mapping) checkConsent(d *config.Destination) {
	s := m.sync
	pos := s.At("destination")
	e := m.entity()
	switch {
	case d.Purpose == "" && s.Consent == "":
		return
	case e != nil && e.Consent[d.Purpose] == "":
		m.fail(diag.At(pos, "sync.consent", "destination %q is for %s, and entity %q does not say which of its profiles consent to that", d.Name, d.Purpose, e.Name).
			WithHint("on the entity: consent: {%s: a boolean trait}", d.Purpose))
	case e == nil && s.Consent == "":
		m.fail(diag.At(pos, "sync.consent", "destination %q is for %s, and sync %q does not say which of its rows consent to that", d.Name, d.Purpose, s.Name).
			WithHint("on the sync: consent: a boolean column of what it reads"))
	}
	if m.object.Withdraw == "" {
		m.fail(diag.At(pos, "sync.consent", "%s cannot take back what was sent when consent is withdrawn", m.name()).
			WithHint("another object of the destination, or a destination without purpose"))
	}
}

func (r *resolver) checkSchedule(s *config.Sync) {
	if s.Schedule != "" {
		if _, err := timetable.Parse(s.Schedule, ""); err != nil {
			r.fail(diag.At(s.At("schedule"), "sync.schedule", "the schedule %q does not parse: %s", s.Schedule, err).
				WithHint("five fields as in cron, or @hourly, @daily, @every 10m"))
		}
	}
	r.mustBeZone(s.Timezone, s.At("timezone"), "sync.timezone")
}

// checkAlerts holds that whom an alert names can take messages, and that its selectors mean something.
func (r *resolver) checkAlerts(specs Specs) {
	for _, a := range r.g.Project.Alerts {
		if !r.mustExist(Destination, a.To, a.At("to"), "alert.to") {
			continue
		}
		d := r.g.Node(Destination, a.To).Destination
		if spec, ok := specs(d.Type); ok && !spec.Notifies {
			r.fail(diag.At(a.At("to"), "alert.to", "%q is a destination of type %s, which takes no messages", a.To, d.Type).
				WithHint("alerts go to slack, smtp and webhook"))
		}
		if len(a.Syncs) == 0 {
			continue
		}
		if _, err := r.g.Select(a.Syncs, nil, Sync); err != nil {
			var list diag.List
			list.Add(err)
			for _, e := range list {
				e.Pos = a.At("syncs")
				r.fail(e)
			}
		}
	}
}

// mustBeZone checks the name of a time zone. Local is Go's word for whatever this machine has, which no warehouse knows.
func (r *resolver) mustBeZone(name string, pos diag.Pos, code string) {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		r.fail(diag.At(pos, code, "there is no time zone %q", name).WithHint("as in Europe/Copenhagen"))
	}
}

// checkOwners refuses two syncs that would overwrite each other's field, unless owner: orders them. Inserts overwrite nothing.
func (r *resolver) checkOwners() {
	type slot struct{ destination, object, options, field string }
	holders := map[slot][]*config.Sync{}
	for _, s := range r.g.Project.Syncs {
		for _, name := range s.Owner {
			r.mustExist(Sync, name, s.At("owner"), "sync.owner")
		}
		if s.Mode == string(destination.Insert) || (s.Enabled != nil && !*s.Enabled) {
			continue
		}
		options, err := json.Marshal(s.Options)
		if err != nil {
			continue // reported with the options themselves
		}
		for _, f := range s.Fields {
			key := slot{s.Destination, s.Object, string(options), f.Name}
			for _, other := range holders[key] {
				if slices.Contains(s.Owner, other.Name) || slices.Contains(other.Owner, s.Name) {
					continue
				}
				r.fail(diag.At(place(f.Node, s.At("fields")), "sync.field_conflict", "syncs %q and %q both map field %q of %s %s",
					other.Name, s.Name, f.Name, s.Destination, s.Object).
					WithHint("say which one yields: owner: [%s] in %q", other.Name, s.Name))
			}
			holders[key] = append(holders[key], s)
		}
	}
}

// place is a node's own position, or another where it has none.
func place(n config.Node, otherwise diag.Pos) diag.Pos {
	if n.Pos.IsZero() {
		return otherwise
	}
	return n.Pos
}

// unknown is an error with the nearest known word, or with all of a few.
func unknown(pos diag.Pos, code, msg, word string, known []string) *diag.Error {
	err := diag.At(pos, code, "%s", msg)
	if near := config.Suggest(word, known); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	if len(known) > 0 && len(known) <= 12 {
		return err.WithHint("there are %s", strings.Join(known, ", "))
	}
	return err
}
