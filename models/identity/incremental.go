package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// An incremental build reads the rows that are new or changed since the build before, finds the part of the graph that they may move,
// and builds that part alone as a full build would. What makes it the same as a full build:
//
//   - The rows that were read are kept (Kept.Rows), as surrogates. For each input and day a sum of its rows stands beside them, so that
//     one pass over an input, which neither normalises nor joins anything, tells on which days rows have come, gone or changed.
//   - A limit, a shared value or a decision acts within a component of the graph of all values, refused ones included. So the rows of
//     the components that a new or gone row touches, and no others, can come out differently (Kept.Components).
//   - Ids are kept from the build before, which are found by those components' values.
//
// Whatever else may change the result (what the entity declares, the lists of what it excludes and decides, the engine's hash) is part
// of a fingerprint; another one means a full build.

// FirstBuild is Result.Why where there is nothing that a build could add to.
const FirstBuild = "it is the first build"

// fullAbove is the share of the values above which a full build costs less than changing a part of the tables.
const fullAbove = 0.2

// fewValues are built alone however many there are.
const fewValues = 10_000

// region is the part of the graph that an incremental build makes anew.
type region struct {
	values string // table of its values as the build before knew them, and of those that are new: (h)
	comps  string // table of the components they were in: (comp)
	was    string // table of the rows of identity_<entity> that are theirs
	gone   string // table of the kept rows that are in no input any more, by key (k); "" = there are none
	state  string // query of Kept.State but for its first row

	otherProfiles, otherRefused int64 // of the rest of the graph
}

// run builds what changed where that can be told, else everything.
func (b *builder) run(ctx context.Context) error {
	why, err := b.incremental(ctx)
	if err != nil || why == "" {
		return err
	}
	b.drop(ctx)
	full := newBuilder(b.w, b.spec)
	full.finish, full.atOnce = b.finish, b.atOnce
	full.result.Why = why
	*b = *full
	return b.build(ctx)
}

// incremental tells why a full build is needed; "" = it is done.
func (b *builder) incremental(ctx context.Context) (why string, err error) {
	switch {
	case b.comparesPairs():
		return "rules about pairs of rows reach all of them", nil
	case !b.keeps():
		return "nothing of earlier builds is kept", nil
	case b.spec.FullRefresh:
		return "a full refresh was asked for", nil
	}
	if there, err := b.w.Exists(ctx, b.spec.Prior); err != nil || !there {
		return FirstBuild, err
	}
	was, err := b.readState(ctx)
	if err != nil || was == nil {
		return "no earlier build has kept what it read", err
	}
	b.seed = was.seed
	if err := b.checkExclusions(ctx); err != nil {
		return "", err
	}
	if err := b.checkDecisions(ctx); err != nil {
		return "", err
	}
	readings, err := b.readings(ctx)
	if err != nil {
		return "", err
	}
	if b.basis, err = b.fingerprint(ctx, readings); err != nil {
		return "", err
	}
	if b.basis != was.made {
		return "what the entity declares, excludes or decides is not as it was", nil
	}
	n, err := b.ints(ctx, "SELECT count(*) FROM "+b.d.Table(b.spec.Prior))
	if err != nil {
		return "", err
	}
	if n[0] != was.values {
		return b.spec.Prior.Name + " is not as the build before left it", nil
	}
	days, changed, err := b.changedDays(ctx, readings)
	if err != nil {
		return "", err
	}
	c, err := b.readChanges(ctx, readings, changed)
	if err != nil {
		return "", err
	}
	b.result.Incremental, b.result.Read = true, c.read
	if err := b.carryIgnored(ctx, was, c.gone); err != nil {
		return "", err
	}
	if c.read == 0 {
		return "", b.unchanged(ctx, was, days, len(changed) > 0)
	}
	return b.rebuild(ctx, was, c, days)
}

func (b *builder) readings(ctx context.Context) ([]reading, error) {
	var problems diag.List
	var out []reading
	for i, in := range b.spec.Inputs {
		if in.Links() {
			r, err := b.reading(ctx, i, in)
			problems.Add(err)
			out = append(out, r)
		}
	}
	if len(problems) == 0 {
		problems.Add(checkLevels(b.levels, relationsOf(out)))
	}
	return out, problems.Err()
}

// rebuild builds the region of what changed.
func (b *builder) rebuild(ctx context.Context, was *state, c *changes, days string) (why string, err error) {
	r, why, err := b.findRegion(ctx, c)
	if err != nil || why != "" {
		return why, err
	}
	r.state = b.nextDays(days)
	n, err := b.ints(ctx, fmt.Sprintf("SELECT count(DISTINCT profile_id), count(refused) FROM %s", r.was))
	if err != nil {
		return "", err
	}
	r.otherProfiles, r.otherRefused = was.profiles-n[0], was.refused-n[1]
	b.region = r
	b.stages = c.stages
	held, err := b.stageHeld(ctx, r)
	if err != nil {
		return "", err
	}
	b.stages = append(b.stages, held)
	if err := b.stageDecisions(ctx); err != nil {
		return "", err
	}
	unique, err := b.loadAll(ctx)
	if err != nil {
		return "", err
	}
	if !unique {
		return "two values share a surrogate", nil
	}
	return "", b.resolve(ctx)
}

// findRegion finds the components that new and gone rows touch. why tells that they are most of the graph.
func (b *builder) findRegion(ctx context.Context, c *changes) (r *region, why string, err error) {
	r = &region{gone: c.gone}
	touched, err := b.create(ctx, "touched", c.touched(b.levels))
	if err != nil {
		return nil, "", err
	}
	if b.decides("always") {
		if touched, err = b.withDecided(ctx, touched); err != nil {
			return nil, "", err
		}
	}
	components := b.d.Table(b.spec.Kept.Components)
	if r.comps, err = b.create(ctx, "comps", fmt.Sprintf("SELECT DISTINCT comp FROM %s WHERE h IN (SELECT h FROM %s)", components, touched)); err != nil {
		return nil, "", err
	}
	r.values, err = b.create(ctx, "region", fmt.Sprintf("SELECT h FROM %s WHERE comp IN (SELECT comp FROM %s)", components, r.comps))
	if err != nil {
		return nil, "", err
	}
	n, err := b.ints(ctx, fmt.Sprintf("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s)", r.values, components))
	if err != nil {
		return nil, "", err
	}
	if n[0] > b.few && float64(n[0]) > b.most*float64(n[1]) {
		return nil, fmt.Sprintf("%d of %d values may have moved", n[0], n[1]), nil
	}
	b.result.Touched = n[0]
	h := b.surrogateOf("value", "identifier")
	r.was, err = b.create(ctx, "was", fmt.Sprintf("SELECT %s AS h, identifier, value, profile_id, refused, first_seen_at, last_seen_at FROM %s WHERE %[1]s IN (SELECT h FROM %[3]s)",
		h, b.d.Table(b.spec.Prior), r.values))
	return r, "", err
}

// withDecided adds the pairs that are always one and have a touched value: such a pair joins components of which one had no value of
// it before.
func (b *builder) withDecided(ctx context.Context, touched string) (string, error) {
	pairs, err := b.create(ctx, "sides", b.sidesQuery())
	if err != nil {
		return "", err
	}
	return b.create(ctx, "touched2", fmt.Sprintf("SELECT h FROM %s UNION DISTINCT SELECT pair FROM %s WHERE h IN (SELECT h FROM %[1]s)", touched, pairs))
}

// surrogateOf is the surrogate of a value of identity_<entity>.
func (b *builder) surrogateOf(value, identifier string) string {
	if len(b.levels) == 1 {
		return b.surrogate(value, 1)
	}
	n := len(b.levels)
	s := fmt.Sprintf("(%s * %d + CASE %s", b.d.IntDiv(b.hash(value), int64(n)), n, identifier)
	for i, l := range b.levels {
		s += fmt.Sprintf(" WHEN %s THEN %d", b.d.Text(l.Name), i)
	}
	return s + " END)"
}

// stageHeld stages the kept rows of the region that are still in their inputs, with the texts of their values.
func (b *builder) stageHeld(ctx context.Context, r *region) (stage, error) {
	var s stage
	var columns, all []string
	from := "held AS r"
	for i, l := range b.levels {
		if l.decided {
			continue
		}
		level := i + 1
		s.levels = append(s.levels, level)
		all = append(all, fmt.Sprintf("h%d", level))
		columns = append(columns, fmt.Sprintf("t%d.value AS v%[1]d, r.h%[1]d, FALSE AS ignored%[1]d", level))
		from += fmt.Sprintf(" LEFT JOIN %s AS t%d ON t%[2]d.h = r.h%[2]d", r.was, level)
	}
	held := fmt.Sprintf("SELECT * FROM %s WHERE %s IN (SELECT h FROM %s)", b.d.Table(b.spec.Kept.Rows), coalesce(all), r.values)
	if r.gone != "" {
		held += " AND k NOT IN (SELECT k FROM " + r.gone + ")"
	}
	table, err := b.create(ctx, "held", held)
	if err != nil {
		return s, err
	}
	s.table, err = b.create(ctx, "heldrows", "SELECT "+strings.Join(columns, ", ")+", r.seen FROM "+strings.Replace(from, "held AS r", table+" AS r", 1))
	return s, err
}

// unchanged leaves everything as it is. A scratch build still has to have its tables.
func (b *builder) unchanged(ctx context.Context, was *state, days string, moved bool) error {
	b.result.Values, b.result.Profiles, b.result.Refused = was.values, was.profiles, was.refused
	if b.spec.Target != b.spec.Prior {
		before, statements, err := b.swapTable(ctx, b.spec.Target, "SELECT * FROM "+b.d.Table(b.spec.Prior))
		if err != nil {
			return err
		}
		return b.commit(ctx, before, statements, "", "")
	}
	if !moved {
		return nil
	}
	before, statements, err := b.swapTable(ctx, b.spec.Kept.State, b.stateQuery(fmt.Sprint(was.values), fmt.Sprint(was.profiles), fmt.Sprint(was.refused), b.nextDays(days)))
	if err != nil {
		return err
	}
	return b.commit(ctx, before, statements, "", "")
}

// change puts the region's new rows in the place of its old ones, everywhere in one transaction. The number of statements does not
// depend on what changed.
func (b *builder) change(ctx context.Context, nodes, refused, ids, moves string) error {
	d, r := b.d, b.region
	values := b.rowsQuery(nodes, refused, ids)
	h := b.surrogateOf("p.value", "p.identifier")
	if b.spec.Target != b.spec.Prior {
		before, statements, err := b.swapTable(ctx, b.spec.Target, fmt.Sprintf(`SELECT p.identifier, p.value, p.profile_id, p.refused, p.first_seen_at, p.last_seen_at
FROM %s AS p LEFT JOIN %s AS r ON r.h = %s WHERE r.h IS NULL
UNION ALL %s`, d.Table(b.spec.Prior), r.values, h, values))
		if err != nil {
			return err
		}
		return b.commit(ctx, before, statements, ids, moves)
	}
	target, rows, components := d.Table(b.spec.Target), d.Table(b.spec.Kept.Rows), d.Table(b.spec.Kept.Components)
	statements := []string{
		fmt.Sprintf("DELETE FROM %s WHERE %s IN (SELECT h FROM %s)", target, b.surrogateOf("value", "identifier"), r.values),
		fmt.Sprintf("INSERT INTO %s (identifier, value, profile_id, refused, first_seen_at, last_seen_at) %s", target, values),
		fmt.Sprintf("DELETE FROM %s WHERE comp IN (SELECT comp FROM %s)", components, r.comps),
		fmt.Sprintf("INSERT INTO %s (h, comp) SELECT h, comp FROM %s", components, b.raw),
	}
	if r.gone != "" {
		statements = append(statements, fmt.Sprintf("DELETE FROM %s WHERE k IN (SELECT k FROM %s)", rows, r.gone))
	}
	if query := b.keptRows(); query != "" {
		statements = append(statements, "INSERT INTO "+rows+" "+query)
	}
	turned := "0"
	if refused != "" {
		turned = "(SELECT count(*) FROM " + refused + ")"
	}
	before, within, err := b.swapTable(ctx, b.spec.Kept.State, b.stateQuery(
		fmt.Sprintf("(SELECT count(*) FROM %s) + %s + (SELECT count(*) FROM %s) - (SELECT count(*) FROM %s)", nodes, turned, d.Table(b.spec.Prior), r.was),
		fmt.Sprintf("(SELECT count(*) FROM %s) + %d", ids, r.otherProfiles), fmt.Sprintf("%s + %d", turned, r.otherRefused), r.state))
	if err != nil {
		return err
	}
	return b.commit(ctx, before, append(within, statements...), ids, moves)
}

// Kept are the tables in which builds keep what they have read, so that the next can tell what is new.
type Kept struct {
	Rows       warehouse.Table // a row of a linking input: input, k, h1 … hn, ignored, seen
	Components warehouse.Table // a value: h, comp
	State      warehouse.Table // an input and day: input, day, n, lo, hi, made
}
