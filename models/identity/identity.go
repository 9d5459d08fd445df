// Package identity resolves who is who: it reads the inputs of an entity, links the identifier values that stand in one row,
// and writes identity_<entity>, one row a value with the profile it belongs to (DESIGN §4 and §12).
//
// It stands between the built models and models/profile. All work that grows with the data is SQL in the warehouse (I2):
// connected components by randomised contraction, in a number of statements that grows with the logarithm of the nodes; only
// surrogate ids of at most a million remaining edges are finished in the process, never values.
//
// A row links its most trusted value with each of its others. A value is known by a 63-bit surrogate from the moment an input
// is read until the table is written, so that nothing between joins on text.
package identity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Spec is everything Build needs. Prior and PriorMerges are what the last real build left (they may not exist); Target and
// Merges are written. They are the same tables but in scratch builds, which write beside.
type Spec struct {
	Entity  *config.Entity
	Inputs  []Input
	Exclude map[string]string // identifier → FROM item of its exclude.from
	// Decisions is the FROM item of decisions.from; "" = there is none.
	Decisions string

	Target, Merges     warehouse.Table
	Prior, PriorMerges warehouse.Table
	// Kept is what an incremental build needs of the one before; the zero value keeps nothing, and every build is a full one. It
	// belongs to Prior: a build whose Target is another table reads it and leaves it as it is.
	Kept        Kept
	FullRefresh bool // everything is read, whatever is kept

	AsOf time.Time // the run's one clock
	Salt string    // the project's name: profile ids of two projects differ
	// Render renders Jinja in expressions; nil leaves them as they are.
	Render func(sql string, pos diag.Pos) (string, error)
}

// Result counts what a build found.
type Result struct {
	Values   int64            `json:"values"` // rows of identity_<entity>
	Profiles int64            `json:"profiles"`
	Born     int64            `json:"born"`     // profiles with a new id
	Merged   int64            `json:"merged"`   // ids that ended in another profile
	Split    int64            `json:"split"`    // parts that left a profile
	Refused  int64            `json:"refused"`  // values that a limit refused
	Unlinked int64            `json:"unlinked"` // rows of linking inputs without any usable value: they belong to no profile
	Ignored  map[string]int64 `json:"ignored"`  // identifier → values that identify nobody: empty, junk, excluded or not normalisable
	Rounds   int              `json:"rounds"`   // of contraction in the warehouse

	// Incremental tells that only what changed was read: Read rows of inputs that are new or gone, and Touched values that may have
	// moved for them. Otherwise Why says why everything was read.
	Incremental bool   `json:"incremental"`
	Read        int64  `json:"read"`
	Touched     int64  `json:"touched"`
	Why         string `json:"why,omitempty"`
}

// finishBelow is the number of edges that are finished in the process (DESIGN §12). An edge costs some 100 bytes there.
const finishBelow = 1_000_000

// Build writes Target and appends to Merges. It is safe to repeat after any failure: both change in one transaction at the end.
func Build(ctx context.Context, w warehouse.Warehouse, spec Spec) (Result, error) {
	b := newBuilder(w, spec)
	defer b.drop(ctx)
	if err := b.run(ctx); err != nil {
		return Result{}, fmt.Errorf("identity of %s: %w", spec.Entity.Name, err)
	}
	return b.result, nil
}

// builder is one build under way. Levels count from 1, the most trusted identifier.
type builder struct {
	w      warehouse.Warehouse
	d      warehouse.Dialect
	spec   Spec
	finish int64   // edges
	atOnce int64   // disputed values
	most   float64 // share of the values; where more may have moved, and more than few, everything is built
	few    int64
	seed   int // of the surrogates; raised when two values share one

	levels []Level
	stages []stage
	values map[int]string // level → table
	pairs  []*pairing     // of the rules about pairs, in the order of trust
	linked string         // the nodes before those were taken out that are no values of profiles
	work   []warehouse.Table
	result Result

	raw    string  // the table of all values (h, comp) before a limit took any out
	basis  string  // the fingerprint of what the build goes by
	region *region // what an incremental build changes; nil = everything
}

func newBuilder(w warehouse.Warehouse, spec Spec) *builder {
	levels := Levels(spec.Entity)
	if d := spec.Entity.Decisions; d != nil && (len(d.Always) > 0 || spec.Decisions != "") {
		levels = append([]Level{{Name: decidedLevel, decided: true}}, levels...)
	}
	levels = withPairs(levels)
	return &builder{
		w: w, d: w.Dialect(), spec: spec, levels: levels, finish: finishBelow, atOnce: decideAtOnce, most: fullAbove, few: fewValues,
		values: map[int]string{}, result: Result{Ignored: map[string]int64{}},
	}
}

// build reads everything and makes everything anew.
func (b *builder) build(ctx context.Context) error {
	if err := b.read(ctx); err != nil {
		return err
	}
	return b.resolve(ctx)
}

// resolve makes profiles of the staged rows and puts them in place.
func (b *builder) resolve(ctx context.Context) error {
	if err := b.countIgnored(ctx); err != nil {
		return err
	}
	edges, err := b.pool(ctx)
	if err != nil {
		return err
	}
	labels, err := b.components(ctx, edges)
	if err != nil {
		return err
	}
	nodes, err := b.nodes(ctx, labels)
	if err != nil {
		return err
	}
	b.raw = nodes
	nodes, refused, err := b.limit(ctx, nodes)
	if err != nil {
		return err
	}
	if nodes, err = b.visible(ctx, nodes); err != nil {
		return err
	}
	return b.write(ctx, nodes, refused)
}

// maxSeeds bounds the search for surrogates without a clash: at 10^8 values one seed in a thousand has one.
const maxSeeds = 20

// read stages the linking inputs and makes the tables of values.
func (b *builder) read(ctx context.Context) error {
	for ; b.seed < maxSeeds; b.seed++ {
		unique, err := b.readOnce(ctx)
		if err != nil || unique {
			return err
		}
	}
	return diag.Errorf(diag.Failed, "identity.surrogates", "no surrogates without a clash were found for %d levels", len(b.levels))
}

func (b *builder) readOnce(ctx context.Context) (unique bool, err error) {
	if err := b.checkExclusions(ctx); err != nil {
		return false, err
	}
	if err := b.checkFunctions(ctx); err != nil {
		return false, err
	}
	var problems diag.List
	b.stages = nil
	var readings []reading
	for i, in := range b.spec.Inputs {
		if !in.Links() {
			continue
		}
		r, s, err := b.stageInput(ctx, i, in)
		readings = append(readings, r)
		if err != nil {
			problems.Add(err)
			continue
		}
		b.stages = append(b.stages, s)
	}
	if len(problems) == 0 {
		problems.Add(checkLevels(b.levels, relationsOf(readings)))
	}
	if err := problems.Err(); err != nil {
		return false, err
	}
	if b.keeps() {
		if b.basis, err = b.fingerprint(ctx, readings); err != nil {
			return false, err
		}
	}
	if err := b.stageDecisions(ctx); err != nil {
		return false, err
	}
	if err := b.stagePairs(ctx); err != nil {
		return false, err
	}
	return b.loadAll(ctx)
}

// loadAll makes the tables of values of all levels. unique tells that no two values share a surrogate.
func (b *builder) loadAll(ctx context.Context) (unique bool, err error) {
	var clashes []string
	for level := range b.levels {
		if err := b.loadValues(ctx, level+1); err != nil {
			return false, err
		}
		clashes = append(clashes, "SELECT count(*) AS n FROM "+b.values[level+1]+" WHERE clash")
	}
	n, err := b.ints(ctx, "SELECT CAST(sum(n) AS "+b.bigint()+") FROM ("+strings.Join(clashes, " UNION ALL ")+") AS c")
	return err == nil && n[0] == 0, err
}
