package dbt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// Ref finds what ref('name'), ref('package', 'name') or ref('name', v=2) means in the dbt project: its own before those of its
// packages, and of a model with versions the latest. nil without an error: dbt has no such name. Errors are *diag.Error without a place.
func (m *Manifest) Ref(pkg, name, version string) (*Relation, error) {
	all := m.models[name]
	found := slices.DeleteFunc(slices.Clone(all), func(r *Relation) bool {
		return pkg != "" && r.Package != pkg || version != "" && r.Version != version || version == "" && !r.Latest
	})
	if own := in(found, m.Project); pkg == "" && len(own) > 0 {
		found = own
	}
	switch {
	case len(found) == 1:
		return found[0].readable()
	case len(found) > 1:
		return nil, diag.Errorf(diag.Invalid, "dbt.ambiguous", "dbt has %q in several packages", name).
			WithHint("write ref('%s', '%s')", found[0].Package, name)
	case version != "" && len(all) > 0:
		return nil, missing(fmt.Sprintf("dbt's %s has no version %s", name, version), versions(all))
	case pkg != "" && len(all) > 0:
		return nil, missing(fmt.Sprintf("dbt has no %q in package %q", name, pkg), packages(all))
	case m.disabled[name] != "":
		return nil, disabled(m.disabled[name], name)
	case len(all) > 0:
		return nil, missing(fmt.Sprintf("dbt's %s has versions, and none of them is the latest", name), versions(all))
	}
	return nil, nil
}

// Source finds what source('source', 'table') means in the dbt project; nil without an error: dbt has no such table.
func (m *Manifest) Source(source, table string) (*Relation, error) {
	name := source + "." + table
	found := m.sources[name]
	if own := in(found, m.Project); len(own) > 0 {
		found = own
	}
	switch {
	case len(found) > 1:
		return nil, diag.Errorf(diag.Invalid, "dbt.ambiguous", "dbt has source %q in several packages", name).
			WithHint("declare it under sources:, with a name of its own")
	case len(found) == 1:
		return found[0].readable()
	case m.disabled[name] == "source":
		return nil, disabled("source", name)
	}
	return nil, nil
}

// Models are the names that ref() finds, sorted.
func (m *Manifest) Models() []string { return slices.Sorted(maps.Keys(m.models)) }

// Sources are the names source.table that source() finds, sorted.
func (m *Manifest) Sources() []string { return slices.Sorted(maps.Keys(m.sources)) }

// Relations are all that ref() and source() find, sorted by their ids.
func (m *Manifest) Relations() []*Relation {
	return slices.SortedFunc(maps.Values(m.byID), func(a, b *Relation) int { return strings.Compare(a.UniqueID, b.UniqueID) })
}

// Shadowed tells whether ref() with the name alone means another model than r: one of another package.
func (m *Manifest) Shadowed(r *Relation) bool {
	same := m.models[r.Name]
	if r.Kind == "source" {
		same = m.sources[r.Full()]
	}
	return r.Package != m.Project && len(packages(same)) > 1
}

// Full is the relation's name as dbt's selectors have it: customers, customers.v2, raw.orders.
func (r *Relation) Full() string {
	switch {
	case r.Source != "":
		return r.Source + "." + r.Name
	case r.Version != "":
		return r.Name + ".v" + r.Version
	}
	return r.Name
}

// Call is the call that finds the relation in the SQL and YAML of the dbt project named so.
func (r *Relation) Call(project string) string {
	var args []string
	switch {
	case r.Source != "":
		return fmt.Sprintf("source('%s', '%s')", r.Source, r.Name)
	case r.Package != project && project != "":
		args = []string{"'" + r.Package + "'"}
	}
	args = append(args, "'"+r.Name+"'")
	if r.Version != "" {
		args = append(args, "v="+quotedVersion(r.Version))
	}
	return "ref(" + strings.Join(args, ", ") + ")"
}

func quotedVersion(v string) string {
	if strings.Trim(v, "0123456789.") == "" {
		return v
	}
	return "'" + v + "'"
}

// readable is r, or the error of what no other process can read.
func (r *Relation) readable() (*Relation, error) {
	if r.Materialized != "ephemeral" {
		return r, nil
	}
	return nil, diag.Errorf(diag.Invalid, "dbt.ephemeral", "dbt's model %q is ephemeral: there is no relation of it in the warehouse", r.Name).
		WithHint("in dbt: materialized: view or table; or read what it reads")
}

func disabled(kind, name string) error {
	return diag.Errorf(diag.Invalid, "dbt.disabled", "dbt's %s %q is disabled", kind, name).WithHint("in dbt: enabled: true, and dbt parse")
}

func missing(msg string, known []string) error {
	return diag.Errorf(diag.Invalid, "dbt.unknown", "%s", msg).WithHint("there are %s", strings.Join(known, ", "))
}

func in(relations []*Relation, pkg string) []*Relation {
	return slices.DeleteFunc(slices.Clone(relations), func(r *Relation) bool { return r.Package != pkg })
}

func versions(relations []*Relation) []string {
	var out []string
	for _, r := range relations {
		if r.Version == "" {
			return []string{"no versions of it"}
		}
		out = append(out, r.Version)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func packages(relations []*Relation) []string {
	var out []string
	for _, r := range relations {
		out = append(out, r.Package)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
