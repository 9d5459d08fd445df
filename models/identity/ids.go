package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// nodes puts all values into one table, each with its component: (level, h, value, first_seen_at, last_seen_at, born, comp).
// born is first_seen_at. A value whose inputs tell no time was first seen when a build first met it: so it is older than what came
// later, as a person would say.
func (b *builder) nodes(ctx context.Context, labels string) (string, error) {
	const born = "first_seen_at AS born"
	var parts, lower []string
	levels := len(b.levels)
	for level := 1; level <= levels; level++ {
		from, comp := b.component(level, labels, lower)
		parts = append(parts, fmt.Sprintf("SELECT %d AS level, x.h, value, first_seen_at, last_seen_at, %s, %s AS comp FROM %s", level, born, comp, from))
		if level == 1 || level == levels {
			continue // those of level 1 stand in labels or are their own; nobody asks for the last
		}
		table, err := b.create(ctx, fmt.Sprintf("comp%d", level), fmt.Sprintf("SELECT x.h, %s AS comp FROM %s", comp, from))
		if err != nil {
			return "", err
		}
		lower = append(lower, table)
	}
	nodes, err := b.create(ctx, "nodes", strings.Join(parts, "\nUNION ALL "))
	if err != nil {
		return "", err
	}
	timeless, err := b.ints(ctx, "SELECT count(*) FROM "+nodes+" WHERE first_seen_at IS NULL")
	if err != nil || timeless[0] == 0 {
		return nodes, err
	}
	return b.datedNodes(ctx, nodes)
}

// datedNodes gives the values without a time the one at which a build first met them.
func (b *builder) datedNodes(ctx context.Context, nodes string) (string, error) {
	prior, err := b.prior(ctx)
	if err != nil {
		return "", err
	}
	seen, from := "coalesce(n.first_seen_at, "+b.d.Time(b.spec.AsOf)+")", nodes+" AS n"
	if prior != "" {
		seen = "coalesce(n.first_seen_at, p.first_seen_at, " + b.d.Time(b.spec.AsOf) + ")"
		from += fmt.Sprintf(` LEFT JOIN (SELECT %s AS level, value, first_seen_at FROM %s) AS p
ON n.first_seen_at IS NULL AND p.level = n.level AND p.value = n.value`, b.levelOf("identifier"), prior)
	}
	return b.create(ctx, "dated", fmt.Sprintf("SELECT n.level, n.h, n.value, %[1]s AS first_seen_at, n.last_seen_at, %[1]s AS born, n.comp FROM %[2]s", seen, from))
}

// prior is the table of what the build before has left: all of it or, in an incremental build, that of the region. "" = there is none.
func (b *builder) prior(ctx context.Context) (string, error) {
	if b.region != nil {
		return b.region.was, nil
	}
	there, err := b.w.Exists(ctx, b.spec.Prior)
	if err != nil || !there {
		return "", err
	}
	return b.d.Table(b.spec.Prior), nil
}

// component is the FROM item and the expression that give the component of a level's values x. lower are the components of the
// levels between the first and this one.
func (b *builder) component(level int, labels string, lower []string) (from, comp string) {
	from = b.values[level] + " AS x"
	comps := make([]string, 0, len(lower)+3)
	for i, table := range lower {
		from += fmt.Sprintf(" LEFT JOIN %s AS c%d ON c%[2]d.h = x.lo", table, i)
		comps = append(comps, fmt.Sprintf("c%d.comp", i))
	}
	from += fmt.Sprintf(" LEFT JOIN %s AS l ON l.v = coalesce(x.lo, x.h)", labels)
	comps = append(comps, "l.label", "x.lo", "x.h")
	return from, "coalesce(" + strings.Join(comps, ", ") + ")"
}

// oldest is the place of a value in the order of age within its born: trust first, then the value.
func (b *builder) oldest(alias string) string {
	return fmt.Sprintf("CAST(10 + %[1]s.level AS %[2]s) || ':' || %[1]s.value", alias, b.d.Type(warehouse.Text))
}

// write gives every component its profile id and puts the tables in place.
func (b *builder) write(ctx context.Context, nodes, refused string) error {
	used, err := b.usedIDs(ctx)
	if err != nil {
		return err
	}
	kept, moves, err := b.keep(ctx, nodes)
	if err != nil {
		return err
	}
	if err := b.guard(ctx, nodes, moves); err != nil {
		return err
	}
	born, err := b.bear(ctx, nodes, kept, used)
	if err != nil {
		return err
	}
	ids := born
	if kept != "" {
		ids, err = b.create(ctx, "ids", "SELECT comp, profile_id FROM "+kept+" UNION ALL SELECT comp, profile_id FROM "+born)
		if err != nil {
			return err
		}
	}
	if err := b.swap(ctx, nodes, refused, ids, moves); err != nil {
		return err
	}
	return b.count(ctx, ids, born, refused, moves)
}

// usedIDs is a query of every id ever used; "" at the first build.
func (b *builder) usedIDs(ctx context.Context) (string, error) {
	var parts []string
	for _, t := range []struct {
		table   warehouse.Table
		columns []string
	}{{b.spec.Prior, []string{"profile_id"}}, {b.spec.PriorMerges, []string{"from_id", "into_id"}}} {
		there, err := b.w.Exists(ctx, t.table)
		if err != nil {
			return "", err
		}
		for _, column := range t.columns {
			if there {
				parts = append(parts, fmt.Sprintf("SELECT %s AS id FROM %s", column, b.d.Table(t.table)))
			}
		}
	}
	return strings.Join(parts, " UNION ALL "), nil
}

// keep finds the components that keep the id of a profile of the prior build: (comp, profile_id), and what moved: (from_id, comp,
// rule, edge, into_edge). Both are "" where there was no prior build.
//
// A profile's home is the component that holds its oldest value. A component takes the id of the oldest profile at home in it;
// the others at home there are merged into it, and parts of profiles at home elsewhere were split off.
func (b *builder) keep(ctx context.Context, nodes string) (kept, moves string, err error) {
	prior, err := b.prior(ctx)
	if err != nil || prior == "" {
		return "", "", err
	}
	pairs, err := b.create(ctx, "pairs", fmt.Sprintf(`SELECT n.comp, p.profile_id
FROM (SELECT value, profile_id, %s AS level FROM %s WHERE profile_id IS NOT NULL AND refused IS NULL) AS p JOIN %s AS n ON n.level = p.level AND n.value = p.value
GROUP BY n.comp, p.profile_id`, b.levelOf("identifier"), prior, nodes))
	if err != nil {
		return "", "", err
	}
	tangled, err := b.create(ctx, "tangled", fmt.Sprintf(`SELECT comp, profile_id FROM %[1]s
WHERE comp IN (SELECT comp FROM %[1]s GROUP BY comp HAVING count(*) > 1)
	OR profile_id IN (SELECT profile_id FROM %[1]s GROUP BY profile_id HAVING count(*) > 1)`, pairs))
	if err != nil {
		return "", "", err
	}
	homes, err := b.create(ctx, "homes", b.homesQuery(prior, nodes, tangled))
	if err != nil {
		return "", "", err
	}
	kept, err = b.create(ctx, "kept", fmt.Sprintf(`SELECT comp, profile_id FROM %[1]s AS p
WHERE NOT EXISTS (SELECT 1 FROM %[2]s AS t WHERE t.comp = p.comp AND t.profile_id = p.profile_id)
UNION ALL SELECT comp, profile_id FROM %[3]s WHERE survives = 1`, pairs, tangled, homes))
	if err != nil {
		return "", "", err
	}
	moves, err = b.create(ctx, "moves", fmt.Sprintf(`SELECT m.profile_id AS from_id, m.comp, CASE WHEN m.home = 1 THEN 'merge' ELSE 'split' END AS rule, m.oldest AS edge, s.oldest AS into_edge
FROM %[1]s AS m LEFT JOIN %[1]s AS s ON s.comp = m.comp AND s.survives = 1
WHERE m.survives = 0`, homes))
	return kept, moves, err
}

// homesQuery ranks the pairs that are not one to one: home = 1 for the component with the profile's oldest value; survives = 1 for the
// oldest profile at home in a component, 0 for all others.
func (b *builder) homesQuery(prior, nodes, tangled string) string {
	age := fmt.Sprintf(`SELECT t.comp, t.profile_id, n.born, %s AS oldest,
	row_number() OVER (PARTITION BY t.comp, t.profile_id ORDER BY n.born, n.level, n.value) AS nth
	FROM %s AS t JOIN (SELECT value, profile_id, %s AS level FROM %s WHERE refused IS NULL) AS p ON p.profile_id = t.profile_id
	JOIN %s AS n ON n.level = p.level AND n.value = p.value AND n.comp = t.comp`,
		b.oldest("n"), tangled, b.levelOf("identifier"), prior, nodes)
	return fmt.Sprintf(`SELECT comp, profile_id, oldest, home,
	CASE WHEN home = 1 AND row_number() OVER (PARTITION BY comp, home ORDER BY born, oldest) = 1 THEN 1 ELSE 0 END AS survives
FROM (SELECT comp, profile_id, born, oldest,
	CASE WHEN row_number() OVER (PARTITION BY profile_id ORDER BY born, oldest) = 1 THEN 1 ELSE 0 END AS home
	FROM (%s) AS a WHERE nth = 1) AS h`, age)
}

// levelOf turns an identifier's name into its level; NULL for one that is configured no more.
func (b *builder) levelOf(column string) string {
	s := "CASE " + column
	for i, id := range b.levels {
		s += fmt.Sprintf(" WHEN %s THEN %d", b.d.Text(id.Name), i+1)
	}
	return s + " END"
}

// bear gives the components that keep no id a new one, made of their oldest value: (comp, profile_id).
func (b *builder) bear(ctx context.Context, nodes, kept, used string) (string, error) {
	fresh := nodes
	if kept != "" {
		fresh = fmt.Sprintf("(SELECT * FROM %s AS n WHERE NOT EXISTS (SELECT 1 FROM %s AS k WHERE k.comp = n.comp))", nodes, kept)
	}
	oldest, err := b.create(ctx, "oldest", fmt.Sprintf(`SELECT n.comp, min(%s) AS oldest
FROM %s AS n JOIN (SELECT comp, min(born) AS born FROM %[2]s AS f GROUP BY comp) AS c ON c.comp = n.comp AND c.born = n.born
GROUP BY n.comp`, b.oldest("n"), fresh))
	if err != nil {
		return "", err
	}
	born, err := b.create(ctx, "born0", fmt.Sprintf("SELECT comp, oldest, %s AS profile_id FROM %s", b.id("oldest", 0), oldest))
	if err != nil {
		return "", err
	}
	for try := 1; try <= maxTries; try++ {
		query := takenQuery(born, used)
		n, err := b.ints(ctx, "SELECT count(*) FROM ("+query+") AS t")
		if err != nil || n[0] == 0 {
			return born, err
		}
		taken, err := b.create(ctx, fmt.Sprintf("taken%d", try), query)
		if err != nil {
			return "", err
		}
		born, err = b.create(ctx, fmt.Sprintf("born%d", try), fmt.Sprintf(`SELECT x.comp, x.oldest, CASE WHEN t.comp IS NULL THEN x.profile_id ELSE %s END AS profile_id
FROM %s AS x LEFT JOIN %s AS t ON t.comp = x.comp`, b.id("x.oldest", try), born, taken))
		if err != nil {
			return "", err
		}
	}
	return "", diag.Errorf(diag.Failed, "identity.ids", "no unused profile id was found for some profiles of %s", b.spec.Entity.Name)
}

// maxTries bounds how often one value's profile can have split off it and be born again.
const maxTries = 1000

// takenQuery finds the components whose new id was used before, or twice now (then all but the one with the least value).
func takenQuery(born, used string) string {
	q := fmt.Sprintf(`SELECT x.comp FROM %[1]s AS x JOIN (SELECT profile_id, min(oldest) AS first FROM %[1]s GROUP BY profile_id HAVING count(*) > 1) AS d
ON d.profile_id = x.profile_id AND d.first <> x.oldest`, born)
	if used != "" {
		q += fmt.Sprintf("\nUNION DISTINCT SELECT x.comp FROM %s AS x WHERE x.profile_id IN (SELECT id FROM (%s) AS u WHERE id IS NOT NULL)", born, used)
	}
	return q
}

// id is 20 hexadecimal digits (80 bits) of project, entity, oldest value and the number of earlier tries.
func (b *builder) id(oldest string, try int) string {
	salt := fmt.Sprintf("%s\n%s\n%d\n", b.spec.Salt, b.spec.Entity.Name, try)
	identifier := "CASE substr(" + oldest + ", 1, 2)"
	for i, id := range b.levels {
		identifier += fmt.Sprintf(" WHEN '%d' THEN %s", 11+i, b.d.Text(id.Name))
	}
	identifier += " END"
	return fmt.Sprintf("substr(%s, 1, 20)", b.d.Digest(fmt.Sprintf("%s || %s || substr(%s, 3)", b.d.Text(salt), identifier, oldest)))
}

// swap puts the new table in the place of the old one and records what moved, in one transaction.
func (b *builder) swap(ctx context.Context, nodes, refused, ids, moves string) error {
	if b.region != nil {
		return b.change(ctx, nodes, refused, ids, moves)
	}
	before, statements, err := b.swapTable(ctx, b.spec.Target, b.rowsQuery(nodes, refused, ids))
	if err != nil {
		return err
	}
	if b.writesKept() {
		more, within, err := b.keepAll(ctx, nodes, refused, ids)
		if err != nil {
			return err
		}
		before, statements = append(before, more...), append(statements, within...)
	} else {
		forget, err := b.forget(ctx)
		if err != nil {
			return err
		}
		statements = append(statements, forget...)
	}
	return b.commit(ctx, before, statements, ids, moves)
}

func (b *builder) swapTable(ctx context.Context, t warehouse.Table, query string) (before, within []string, err error) {
	there, err := b.w.Exists(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	before, within = b.d.Swap(t, there, query)
	return before, within, nil
}

// rowsQuery is the rows of identity_<entity>: the values of profiles, and those that are refused.
func (b *builder) rowsQuery(nodes, refused, ids string) string {
	d := b.d
	name := "CASE n.level"
	for i, id := range b.levels {
		name += fmt.Sprintf(" WHEN %d THEN %s", i+1, d.Text(id.Name))
	}
	nothing := d.Cast("NULL", warehouse.Text)
	values := fmt.Sprintf(`SELECT %s END AS identifier, n.value, i.profile_id, %s AS refused, n.first_seen_at, n.last_seen_at
FROM %s AS n JOIN %s AS i ON i.comp = n.comp`, name, nothing, nodes, ids)
	if refused != "" {
		values += fmt.Sprintf("\nUNION ALL SELECT %s END, n.value, i.profile_id, n.refused, n.first_seen_at, n.last_seen_at FROM %s AS n LEFT JOIN %s AS i ON i.comp = n.comp",
			name, refused, ids)
	}
	return values
}

// commit runs what a build has come to in one transaction, what moved included.
func (b *builder) commit(ctx context.Context, before, statements []string, ids, moves string) error {
	d := b.d
	text := d.Type(warehouse.Text)
	before = append(before, d.CreateTable(b.spec.Merges, []string{
		"from_id " + text, "into_id " + text, d.Quote("at") + " " + d.Type(warehouse.Timestamp), "rule " + text, "edge " + text,
	}, ""))
	first, then, err := b.pairTables(ctx)
	if err != nil {
		return err
	}
	before, statements = append(before, first...), append(statements, then...)
	for _, s := range before {
		if _, err := b.w.Exec(ctx, s); err != nil {
			return err
		}
	}
	if moves != "" {
		statements = append(statements, fmt.Sprintf(`INSERT INTO %s (from_id, into_id, %s, rule, edge)
SELECT m.from_id, i.profile_id, %s, m.rule, %s FROM %s AS m JOIN %s AS i ON i.comp = m.comp`,
			d.Table(b.spec.Merges), d.Quote("at"), d.Time(b.spec.AsOf), b.edge(), moves, ids))
	}
	return b.w.Atomic(ctx, statements...)
}

// edge says in words what moved: the oldest value that moved, and the oldest of the profile that it is part of now.
func (b *builder) edge() string {
	named := func(oldest string) string {
		s := "CASE substr(" + oldest + ", 1, 2)"
		for i, id := range b.levels {
			s += fmt.Sprintf(" WHEN '%d' THEN %s", 11+i, b.d.Text(id.Name))
		}
		return s + " END || substr(" + oldest + ", 3)"
	}
	return named("m.edge") + " || coalesce(' - ' || " + named("m.into_edge") + ", '')"
}

func (b *builder) count(ctx context.Context, ids, born, refused, moves string) error {
	turned := "0"
	if refused != "" {
		turned = "(SELECT count(*) FROM " + refused + ")"
	}
	query := fmt.Sprintf("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s), (SELECT count(*) FROM %s), CAST(%s AS %s)",
		b.d.Table(b.spec.Target), ids, born, turned, b.bigint())
	if moves != "" {
		query += fmt.Sprintf(", (SELECT count(*) FROM %[1]s WHERE rule = 'merge'), (SELECT count(*) FROM %[1]s WHERE rule = 'split')", moves)
	}
	n, err := b.ints(ctx, query)
	if err != nil {
		return err
	}
	b.result.Values, b.result.Profiles, b.result.Born, b.result.Refused = n[0], n[1], n[2], n[3]
	if b.region != nil { // of the others nothing has changed
		b.result.Profiles, b.result.Refused = n[1]+b.region.otherProfiles, n[3]+b.region.otherRefused
	}
	if moves != "" {
		b.result.Merged, b.result.Split = n[4], n[5]
	}
	return nil
}
