package segment

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/profile"
)

// View is what Look reads: built tables. Others are the entity's other segments that are built.
type View struct {
	Segment, Entity           string
	Members, Profiles, Ledger warehouse.Table // Ledger is segment_history
	Others                    map[string]warehouse.Table
	// Values: the sample shows what profiles hold (I6); otherwise their ids alone, which are hashes.
	Values bool
	Sample int
}

// Seen is a segment as it was built last, as `dray segment` shows it. Shares are from 0 to 1.
type Seen struct {
	Segment  string           `json:"segment"`
	Entity   string           `json:"entity"`
	Size     int64            `json:"size"`
	Profiles int64            `json:"profiles"` // of the entity
	Share    float64          `json:"share"`    // of the profiles
	BuiltAt  *time.Time       `json:"built_at"` // the run's as_of
	Split    map[string]int64 `json:"split,omitempty"`
	Overlap  []Overlap        `json:"overlap"` // the largest first
	History  []Built          `json:"history"` // the oldest first; the last MaxHistory builds
	Sample   []Member         `json:"sample"`  // those who entered last
}

// Overlap is who is in another segment too.
type Overlap struct {
	Segment      string  `json:"segment"`
	Size         int64   `json:"size"`
	Both         int64   `json:"both"`
	Share        float64 `json:"share"`          // of this segment's members
	ShareOfOther float64 `json:"share_of_other"` // of the other's
}

// Built is one build.
type Built struct {
	At      time.Time `json:"at"`
	Size    int64     `json:"size"`
	Entered int64     `json:"entered"`
	Left    int64     `json:"left"`
}

// Member is one profile of the sample. Columns are the names of Values in the order of the profile's table.
type Member struct {
	ProfileID string         `json:"profile_id"`
	EnteredAt *time.Time     `json:"entered_at"`
	Split     string         `json:"split,omitempty"`
	Values    map[string]any `json:"values,omitempty"`
	Columns   []string       `json:"-"`
}

// MaxHistory bounds the builds that Look reads.
const MaxHistory = 10_000

// Look reads a built segment: a constant number of statements.
func Look(ctx context.Context, w warehouse.Warehouse, v View) (Seen, error) {
	l := &looker{w: w, d: w.Dialect(), view: v, seen: Seen{Segment: v.Segment, Entity: v.Entity, Overlap: []Overlap{}, History: []Built{}, Sample: []Member{}}}
	for _, step := range []func(context.Context) error{l.size, l.split, l.overlap, l.history, l.sample} {
		if err := step(ctx); err != nil {
			return Seen{}, fmt.Errorf("looking at segment %s: %w", v.Segment, err)
		}
	}
	return l.seen, nil
}

type looker struct {
	w       warehouse.Warehouse
	d       warehouse.Dialect
	view    View
	members []warehouse.Column
	seen    Seen
}

func (l *looker) size(ctx context.Context) error {
	members := l.d.Table(l.view.Members)
	var err error
	if l.members, err = l.w.Columns(ctx, "SELECT * FROM "+members); err != nil {
		return err
	}
	return l.each(ctx, fmt.Sprintf("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s)", members, l.d.Table(l.view.Profiles)), func(v []any) {
		l.seen.Size, l.seen.Profiles = whole(v[0]), whole(v[1])
		l.seen.Share = ratio(l.seen.Size, l.seen.Profiles)
	})
}

// isSplit tells whether the members, as they were built, are.
func (l *looker) isSplit() bool {
	return slices.ContainsFunc(l.members, func(c warehouse.Column) bool { return strings.EqualFold(c.Name, "split") })
}

func (l *looker) split(ctx context.Context) error {
	if !l.isSplit() {
		return nil
	}
	l.seen.Split = map[string]int64{}
	return l.each(ctx, "SELECT split, count(*) FROM "+l.d.Table(l.view.Members)+" GROUP BY split", func(v []any) {
		name, _ := v[0].(string)
		l.seen.Split[name] = whole(v[1])
	})
}

func (l *looker) overlap(ctx context.Context) error {
	var parts []string
	for name, other := range l.view.Others {
		parts = append(parts, fmt.Sprintf("SELECT %s AS segment, count(*) AS size, count(m.profile_id) AS n FROM %s AS o LEFT JOIN %s AS m ON m.profile_id = o.profile_id",
			l.d.Text(name), l.d.Table(other), l.d.Table(l.view.Members)))
	}
	if len(parts) == 0 {
		return nil
	}
	err := l.each(ctx, strings.Join(parts, " UNION ALL "), func(v []any) {
		o := Overlap{Size: whole(v[1]), Both: whole(v[2])}
		o.Segment, _ = v[0].(string)
		o.Share, o.ShareOfOther = ratio(o.Both, l.seen.Size), ratio(o.Both, o.Size)
		l.seen.Overlap = append(l.seen.Overlap, o)
	})
	slices.SortFunc(l.seen.Overlap, func(a, b Overlap) int {
		return cmp.Or(-cmp.Compare(a.Both, b.Both), cmp.Compare(a.Segment, b.Segment))
	})
	return err
}

func (l *looker) history(ctx context.Context) error {
	there, err := l.w.Exists(ctx, l.view.Ledger)
	if err != nil || !there {
		return err
	}
	at, left := l.d.Quote("at"), l.d.Quote("left")
	// Of builds with one as_of the later ones found nothing new, unless the data changed.
	err = l.each(ctx, fmt.Sprintf("SELECT %s, size, entered, %s FROM %s WHERE segment = %s ORDER BY %[1]s DESC, entered + %[2]s LIMIT %[5]d", at, left, l.d.Table(l.view.Ledger), l.d.Text(l.view.Segment), MaxHistory),
		func(v []any) {
			b := Built{Size: whole(v[1]), Entered: whole(v[2]), Left: whole(v[3])}
			b.At, _ = v[0].(time.Time)
			l.seen.History = append(l.seen.History, b)
		})
	slices.Reverse(l.seen.History)
	if n := len(l.seen.History); n > 0 {
		l.seen.BuiltAt = &l.seen.History[n-1].At
	}
	return err
}

func (l *looker) sample(ctx context.Context) error {
	columns := []string{"m.profile_id", "m.entered_at"}
	if l.isSplit() {
		columns = append(columns, "m.split")
	}
	first := len(columns)
	var shown []warehouse.Column
	if l.view.Values {
		all, err := l.w.Columns(ctx, "SELECT * FROM "+l.d.Table(l.view.Profiles))
		if err != nil {
			return err
		}
		for _, c := range all {
			if !slices.Contains([]string{"profile_id", "first_seen_at", "updated_at", "shared"}, strings.ToLower(c.Name)) {
				shown = append(shown, c)
				columns = append(columns, l.d.Wire("p."+l.d.Quote(c.Name), c)+" AS "+l.d.Quote(c.Name))
			}
		}
	}
	names := make([]string, len(shown))
	for i, c := range shown {
		names[i] = c.Name
	}
	query := fmt.Sprintf("SELECT %s FROM %s AS m JOIN %s AS p ON p.profile_id = m.profile_id ORDER BY m.entered_at DESC, m.profile_id LIMIT %d",
		strings.Join(columns, ", "), l.d.Table(l.view.Members), l.d.Table(l.view.Profiles), l.view.Sample)
	return l.each(ctx, query, func(v []any) {
		m := Member{Columns: names}
		m.ProfileID, _ = v[0].(string)
		if at, ok := v[1].(time.Time); ok {
			m.EnteredAt = &at
		}
		if first == 3 {
			m.Split, _ = v[2].(string)
		}
		if l.view.Values {
			m.Values = map[string]any{}
		}
		for i, c := range shown {
			m.Values[c.Name] = profile.Plain(v[first+i], c.Kind)
		}
		l.seen.Sample = append(l.seen.Sample, m)
	})
}

func (l *looker) each(ctx context.Context, query string, take func(v []any)) error {
	rows, err := l.w.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return err
		}
		take(v)
	}
	return rows.Err()
}

func whole(v any) int64 {
	n, _ := v.(int64)
	return n
}

func ratio(part, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}
