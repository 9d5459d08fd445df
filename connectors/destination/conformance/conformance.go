// Package conformance is the one suite that every destination passes, against the stand-in of its vendor.
//
// It drives a connector with single batches, to see what it makes of each answer, and with the engine's own delivery, to see
// what becomes of the rows: every mode and removal, full and oversize batches, bad rows, each way in which a request can fail,
// values that are hard to carry, cancellation. Whatever happens, three things hold: there is one outcome a
// row, no outcome contradicts what the stand-in holds (I1), and no secret or value reaches the log (I6). A bug found in one
// connector becomes a case for all.
package conformance

import (
	"testing"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/standin"
)

// suite is what all cases share.
type suite struct {
	connector destination.Connector
	standIn   func() standin.StandIn
}

// Run runs the suite for one connector.
func Run(t *testing.T, c destination.Connector, standIn func() standin.StandIn) {
	t.Helper()
	s := &suite{connector: c, standIn: standIn}
	t.Run("spec", func(t *testing.T) { t.Parallel(); checkSpec(t, c.Spec()) })
	t.Run("sizes", func(t *testing.T) { t.Parallel(); s.checkSizes(t) })
	t.Run("check", func(t *testing.T) { t.Parallel(); s.checkAccount(t) })
	for _, sample := range standIn().Samples() {
		t.Run(sample.Object, func(t *testing.T) {
			t.Parallel()
			s.runObject(t, sample)
		})
	}
}

func (s *suite) runObject(t *testing.T, sample standin.Sample) {
	object, ok := s.connector.Spec().FindObject(sample.Object)
	if !ok {
		t.Fatalf("the stand-in's object %q is not in the spec", sample.Object)
	}
	for name, run := range map[string]func(*rig){
		"adds, updates and repeats": addsAndUpdates,
		"a full batch":              fullBatch,
		"more than a batch":         oversize,
		"adds, updates and removes": mixedOperations,
		"hard values":               hardValues,
		"NULL":                      nulls,
		"a repeated batch":          repeated,
		"cancelled before":          cancelledBefore,
		"nothing in the log":        nothingLogged,
		"closed":                    closedTwice,
	} {
		s.kase(t, name, object, sample, run)
	}
	for _, mode := range object.Modes {
		s.kase(t, "mode "+string(mode), object, sample, func(r *rig) { eachMode(r, mode) })
	}
	for _, act := range object.Removes {
		s.kase(t, "remove by "+act, object, sample, func(r *rig) { eachRemove(r, act) })
	}
	if object.Rekey {
		s.kase(t, "rekey", object, sample, rekeys)
	}
	if object.Reads {
		s.kase(t, "what is filled", object, sample, filled)
	}
	if s.connector.Spec().AnyObject {
		s.kase(t, "a key of two columns", object, sample, twoColumns)
	}
	if s.standIn().Handler() == nil {
		return
	}
	for name, run := range map[string]func(*rig){
		"one bad row":              badRow,
		"a batch refused":          batchRefused,
		"a row not mentioned":      notMentioned,
		"nobody listens":           nobodyListens,
		"cancelled under way":      cancelledUnderWay,
		"several at once":          atOnce,
		"resolving and containers": resolving,
		"a revoked token":          revoked,
		"interrupted":              drained,
	} {
		s.kase(t, name, object, sample, run)
	}
	for _, f := range faults() {
		s.kase(t, f.name, object, sample, func(r *rig) { befallen(r, f) })
		s.kase(t, f.name+", then delivered", object, sample, func(r *rig) { overcome(r, f) })
	}
}

func (s *suite) kase(t *testing.T, name string, object destination.Object, sample standin.Sample, run func(*rig)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		run(s.newRig(t, object, sample.Object))
	})
}
