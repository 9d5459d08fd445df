package graph

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkNames refuses models named like Dray's own tables (DESIGN §4). config refuses those that clash with what the project has
// now; a name like snapshot_x would overwrite the snapshot of a sync x that comes later, or that was here before.
func (r *resolver) checkNames() {
	for _, name := range r.names(Model) {
		n := r.g.Node(Model, name)
		prefix, rest, ok := ownName(name)
		if n.Model.Table != "" || n.DBT != nil || !ok || r.isNamed(rest) {
			continue
		}
		r.fail(diag.At(n.Model.At("name"), "model.reserved_name", "a model cannot be named %q: names that begin with %s are kept for Dray's own tables", name, prefix).
			WithHint("choose another name"))
	}
}

// ownName tells whether a name begins like one of Dray's own tables.
func ownName(name string) (prefix, rest string, ok bool) {
	for _, prefix := range []string{
		"identity_", "profiles_", "segment_", "snapshot_", "plan_", "pending_", "retry_", "lock_", "outcomes_", "holdout_", "dray_",
	} {
		if rest, ok := strings.CutPrefix(strings.ToLower(name), prefix); ok {
			return prefix, rest, true
		}
	}
	return "", "", false
}

// isNamed tells whether an entity, a segment or a sync bears a name: config reports what clashes with its tables.
func (r *resolver) isNamed(lower string) bool {
	for _, k := range []Kind{Entity, Segment, Sync} {
		if slices.ContainsFunc(r.names(k), func(name string) bool { return strings.ToLower(name) == lower }) {
			return true
		}
	}
	return false
}
