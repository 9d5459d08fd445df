package compile

import (
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Names gives Dray's own tables in one schema (DESIGN §4). Names in a project are identifiers already (config checks them).
type Names struct {
	Database, Schema string
	// Moved maps a table to the name it still has, of what was renamed in the project and not moved yet.
	Moved map[string]string
}

// Was is the name under which a sync is still known.
func (n Names) Was(sync string) string {
	if old, ok := n.Moved["snapshot_"+sync]; ok {
		return strings.TrimPrefix(old, "snapshot_")
	}
	return sync
}

func (n Names) table(name string) warehouse.Table {
	if old, ok := n.Moved[name]; ok {
		name = old
	}
	return warehouse.Table{Database: n.Database, Schema: n.Schema, Name: name}
}

// Model is where a model is built.
func (n Names) Model(name string) warehouse.Table { return n.table(name) }

// Identity holds an entity's identifiers; it belongs to an entity like Merges and Profiles.
func (n Names) Identity(entity string) warehouse.Table { return n.table("identity_" + entity) }

// Merges records merges and splits.
func (n Names) Merges(entity string) warehouse.Table {
	return n.table("identity_" + entity + "_merges")
}

// IdentityRows holds, with IdentityComponents and IdentityState, what the build of an entity's identities has read, for the next one.
func (n Names) IdentityRows(entity string) warehouse.Table {
	return n.table("identity_" + entity + "_rows")
}

// IdentityComponents belongs to IdentityRows.
func (n Names) IdentityComponents(entity string) warehouse.Table {
	return n.table("identity_" + entity + "_components")
}

// IdentityState belongs to IdentityRows.
func (n Names) IdentityState(entity string) warehouse.Table {
	return n.table("identity_" + entity + "_state")
}

// Profiles holds the golden records.
func (n Names) Profiles(entity string) warehouse.Table { return n.table("profiles_" + entity) }

// ProfileHistory holds which values an entity's traits had from when to when.
func (n Names) ProfileHistory(entity string) warehouse.Table {
	return n.table("profiles_" + entity + "_history")
}

// Segment holds the members.
func (n Names) Segment(name string) warehouse.Table { return n.table("segment_" + name) }

// SegmentHistory holds one row a build and segment.
func (n Names) SegmentHistory() warehouse.Table { return n.table("segment_history") }

// Snapshot is what the destination acknowledged; it belongs to a sync, as what follows does.
func (n Names) Snapshot(sync string) warehouse.Table { return n.table("snapshot_" + sync) }

// Plan is this run's changes.
func (n Names) Plan(sync string) warehouse.Table { return n.table("plan_" + sync) }

// Pending holds inserts still owed, and rows that an asynchronous vendor has.
func (n Names) Pending(sync string) warehouse.Table { return n.table("pending_" + sync) }

// Retry holds rejected rows and when they are due.
func (n Names) Retry(sync string) warehouse.Table { return n.table("retry_" + sync) }

// Holdout records a sync's control group.
func (n Names) Holdout(sync string) warehouse.Table { return n.table("holdout_" + sync) }

// OfSync are all tables of one sync.
func (n Names) OfSync(sync string) []warehouse.Table {
	return []warehouse.Table{
		n.Snapshot(sync), n.Plan(sync), n.Pending(sync), n.Retry(sync), n.Outcomes(sync), n.Ended(sync), n.Holdout(sync), n.Lock(sync),
	}
}

// Lock is the sync's one lock row.
func (n Names) Lock(sync string) warehouse.Table { return n.table("lock_" + sync) }

// Deliveries is the append-only record of outcomes.
func (n Names) Deliveries() warehouse.Table { return n.table("deliveries") }

// Runs is the append-only record of runs.
func (n Names) Runs() warehouse.Table { return n.table("runs") }

// Meta says per sync what its snapshot is about.
func (n Names) Meta() warehouse.Table { return n.table("meta") }

// Approvals holds what `--allow` granted.
func (n Names) Approvals() warehouse.Table { return n.table("approvals") }

// Outcomes is where a commit loads the outcomes that are not plain deliveries; empty between commits.
func (n Names) Outcomes(sync string) warehouse.Table { return n.table("outcomes_" + sync) }

// Ended is where the rows of a job that ended stand while their outcomes are committed; it is not there otherwise.
func (n Names) Ended(sync string) warehouse.Table { return n.table("ended_" + sync) }

// Uncertain is where a run that lost its lock leaves the rows it had in flight, for the next one; mostly it is not there.
func (n Names) Uncertain(sync string) warehouse.Table { return n.table("uncertain_" + sync) }
