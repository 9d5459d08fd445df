package segment

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/identity"
)

// owner is the column of an input's rows that says whose they are.
const owner = identity.ProfileColumn

// events is a query of (owner, seen): the rows of a did: that count. Its time is NULL where the input has none.
type events struct {
	query string
	timed bool
}

// did is true of a profile whose rows of an input are as many as asked for; a bare one asks for one.
func (t *translator) did(c *config.Condition) string {
	if !t.s.Profiles {
		return t.fail(notOfProfiles(c, "did"))
	}
	first := t.events(c, t.s.AsOf)
	if len(t.problems) > 0 {
		return "FALSE"
	}
	return t.fulfilled(c, first)
}

// fulfilled is true of the profiles that have as many of the rows as the condition asks for, and what it says of what comes after them.
func (t *translator) fulfilled(c *config.Condition, rows events) string {
	parts := []string{t.counted(c, rows.query)}
	if c.Then != nil {
		parts = append(parts, t.then(c.Then, rows, c.Node.At("then")))
	}
	if c.AndNotSince != nil {
		parts = append(parts, "NOT "+t.since(c.AndNotSince, rows, c.Node.At("and_not_since")))
	}
	return "(" + strings.Join(parts, " AND ") + ")"
}

// events finds the rows that a did: looks at, within its own time before asOf (the zero time: any).
func (t *translator) events(c *config.Condition, asOf time.Time) events {
	in, err := t.s.Input(c.Did)
	if err != nil {
		t.fail(placed(err, c.Node.At("did")))
		return events{}
	}
	var where []string
	if c.Where != "" {
		sql, err := t.render(c.Where, c.Node.At("where"))
		if err != nil {
			t.fail(err)
			return events{}
		}
		where = append(where, "("+sql+"\n)")
	}
	seen := in.Seen
	if c.Within.Duration > 0 && !asOf.IsZero() {
		if seen == "" {
			t.fail(noTime(c, c.Node.At("within")))
			return events{}
		}
		where = append(where, seen+" >= "+t.d.Time(asOf.Add(-c.Within.Duration)))
	}
	if seen == "" {
		seen = t.d.Cast("NULL", warehouse.Timestamp)
	}
	query := fmt.Sprintf("SELECT %s, %s AS seen FROM %s AS r", owner, seen, in.Rows)
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	return events{query: query, timed: in.Seen != ""}
}

// placed gives an error without a position this one.
func placed(err error, pos diag.Pos) error {
	var e *diag.Error
	if errors.As(err, &e) && e.Pos.IsZero() {
		at := *e
		at.Pos = pos
		return &at
	}
	return err
}

func noTime(c *config.Condition, pos diag.Pos) error {
	return diag.At(pos, "condition.at", "input %s has no at:, and this needs to know when", c.Did).
		WithHint("add at: with the column that says when to input %s", c.Did)
}

// counted is true of the profiles that have as many of these rows as the condition asks for.
func (t *translator) counted(c *config.Condition, query string) string {
	least, most := 1, -1
	switch {
	case c.Exactly != nil:
		least, most = *c.Exactly, *c.Exactly
	case c.AtLeast != nil && c.AtMost != nil:
		least, most = *c.AtLeast, *c.AtMost
	case c.AtLeast != nil:
		least = *c.AtLeast
	case c.AtMost != nil:
		least, most = 0, *c.AtMost
	}
	var parts []string
	if least > 0 {
		parts = append(parts, t.moreThan(least-1, query))
	}
	if most >= 0 {
		parts = append(parts, "NOT "+t.moreThan(most, query))
	}
	if len(parts) == 0 {
		return "TRUE"
	}
	return "(" + strings.Join(parts, " AND ") + ")"
}

// moreThan is true of the profiles that own more than n of the rows. Neither side can be NULL.
func (t *translator) moreThan(n int, query string) string {
	having := ""
	if n > 0 {
		having = fmt.Sprintf(" GROUP BY %s HAVING count(*) > %d", owner, n)
	}
	return fmt.Sprintf("%s IN (SELECT %s FROM (%s) AS e%s)", t.profile(), owner, query, having)
}

// then counts the rows that come after one of the rows before, within the condition's time if it says one. Rows at the very
// same time do not come after each other.
func (t *translator) then(c *config.Condition, before events, pos diag.Pos) string {
	next := t.events(c, time.Time{})
	if len(t.problems) > 0 {
		return "FALSE"
	}
	if !before.timed || !next.timed {
		return t.fail(noTime(c, pos))
	}
	within := "before IS NOT NULL"
	if c.Within.Duration > 0 {
		within = fmt.Sprintf("before >= %s", t.d.AddSeconds("seen", seconds(-c.Within.Duration)))
	}
	// The latest earlier row of each later one is enough to look at: no pair of rows is ever joined.
	step := events{timed: true, query: fmt.Sprintf(`SELECT %[1]s, seen FROM (
	SELECT %[1]s, seen, later, max(CASE WHEN later = 0 THEN seen END) OVER (PARTITION BY %[1]s ORDER BY seen, later DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
	FROM (SELECT %[1]s, seen, 0 AS later FROM (%[2]s) AS a WHERE seen IS NOT NULL UNION ALL SELECT %[1]s, seen, 1 FROM (%[3]s) AS b WHERE seen IS NOT NULL) AS u) AS w
WHERE later = 1 AND %[4]s`, owner, before.query, next.query, within)}
	return t.fulfilled(c, step)
}

// since counts the rows at or after the last of the rows before.
func (t *translator) since(c *config.Condition, before events, pos diag.Pos) string {
	next := t.events(c, t.s.AsOf)
	if len(t.problems) > 0 {
		return "FALSE"
	}
	if !before.timed || !next.timed {
		return t.fail(noTime(c, pos))
	}
	step := events{timed: true, query: fmt.Sprintf(`SELECT b.%[1]s, b.seen FROM (%[2]s) AS b
	JOIN (SELECT %[1]s, max(seen) AS seen FROM (%[3]s) AS a GROUP BY %[1]s) AS l ON l.%[1]s = b.%[1]s AND b.seen >= l.seen`, owner, next.query, before.query)}
	return t.fulfilled(c, step)
}

// seconds writes a duration as SQL; AddSeconds takes whole and broken ones.
func seconds(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d", int64(d/time.Second))
	}
	return fmt.Sprintf("%.6f", d.Seconds())
}
