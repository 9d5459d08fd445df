package plan

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// Page is a part of the changes to send, small enough to hold.
type Page struct {
	Number  int64
	Changes []destination.Change
	// KeyHash is aligned with Changes: how journal and outcomes name a row.
	KeyHash []int64
	// Uncertain is aligned with Changes: until when an acknowledged send does not settle the row; zero = it is not uncertain.
	Uncertain []time.Time

	rowHash []int64 // of a job's page
}

// Pager reads the changes of a plan in pages. It holds none of them. Not safe for concurrent use.
type Pager struct {
	w      Querier
	c      *Changes
	query  string
	pages  int64
	width  int
	filter string
	dedupe func(destination.Change, int64, int64) string
}

// pageRows is how many planned rows a page holds at most: of 12 fields about 20 MB.
const pageRows = 16384

// Pages is into how many pages a plan is cut, chosen after counting.
func Pages(highest int64) int64 { return highest/pageRows + 1 }

// Schema describes the changes to a destination.
func (l *Layout) Schema() *destination.Schema {
	s := &destination.Schema{}
	for _, c := range l.SentKeys() {
		s.Key = append(s.Key, destination.Column{Name: c.Name, Path: []string{c.Name}, Kind: c.Kind, Type: c.Type})
	}
	for i, c := range l.Fields {
		s.Fields = append(s.Fields, destination.Column{Name: c.Name, Path: l.Sync.Fields[i].Path, Kind: c.Kind, Type: c.Type})
	}
	return s
}

// NewPager prepares to read what a run sends: rows in state send, without the operations that are held.
// dedupe makes a change's dedupe id of it, its key hash and its row hash.
func NewPager(w Querier, c *Changes, held []destination.Operation, dedupe func(destination.Change, int64, int64) string) *Pager {
	l, d := c.Layout, c.Layout.Dialect
	p := &Pager{w: w, c: c, dedupe: dedupe, pages: Pages(c.Highest)}
	var cols []string
	wire := func(c Column) {
		cols = append(cols, d.Wire(d.Quote(c.Column), warehouse.Column{Name: c.Column, Type: c.Type, Kind: c.Kind}))
	}
	for _, c := range l.SentKeys() {
		wire(c)
	}
	for _, c := range l.Fields {
		wire(c)
	}
	p.width = len(cols)
	old := l.DestKey
	cols = append(cols, "key_hash", "coalesce(hash, 0)", "operation", "remote_id", "changed", "was_uncertain",
		d.Wire("old_dest_key", warehouse.Column{Type: old.Type, Kind: old.Kind}))
	if len(l.IfEmpty()) > 0 {
		cols = append(cols, "theirs")
	}
	p.filter = Sending(held)
	p.query = "SELECT " + strings.Join(cols, ", ") + " FROM " + d.Table(l.Plan) + " p WHERE " + p.filter + " AND "
	return p
}

// Sending is the condition on plan_<sync> of the rows that a run sends.
func Sending(held []destination.Operation) string {
	out := "state = 'send' AND operation <> '" + string(Forget) + "'"
	for _, op := range held {
		out += " AND operation <> '" + string(op) + "'"
	}
	return out
}

// Pages is how many pages there are.
func (p *Pager) Pages() int64 { return p.pages }

// Read reads page k (0 … Pages-1).
func (p *Pager) Read(ctx context.Context, k int64) (*Page, error) {
	rows, err := p.w.Query(ctx, p.query+p.c.Layout.Dialect.Slice("p", k, k+1, p.pages, p.c.Highest))
	if err != nil {
		return nil, fmt.Errorf("reading page %d of the plan: %w", k, err)
	}
	defer rows.Close()
	page := &Page{Number: k}
	page.room(p.expected())
	l := p.c.Layout
	nKeys := len(l.SentKeys())
	// Values of many rows stand in one slice: an allocation a thousand rows, not one a row.
	var arena []any
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, fmt.Errorf("reading page %d of the plan: %w", k, err)
		}
		if len(arena) < p.width {
			arena = make([]any, p.width*1024)
		}
		data := arena[:p.width:p.width]
		arena = arena[p.width:]
		copy(data, v)
		c := destination.Change{Key: data[:nKeys:nKeys], Fields: data[nKeys:]}
		p.tail(&c, page, v[p.width:])
		page.Changes = append(page.Changes, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading page %d of the plan: %w", k, err)
	}
	return page, nil
}

// expected is about how many rows a page holds.
func (p *Pager) expected() int {
	n := p.c.Count(func(g Group) bool { return g.State == Send })
	return int(n/p.pages + n/p.pages/16 + 16) // rows are spread by hash
}

func (p *Page) room(n int) {
	p.Changes = make([]destination.Change, 0, n)
	p.KeyHash = make([]int64, 0, n)
	p.Uncertain = make([]time.Time, 0, n)
}

// tail reads the engine's columns of one row: key_hash, hash, operation, remote_id, changed, was_uncertain, old_dest_key and, where
// fields are written if empty, theirs.
func (p *Pager) tail(c *destination.Change, page *Page, v []any) {
	keyHash, _ := v[0].(int64)
	rowHash, _ := v[1].(int64)
	op, _ := v[2].(string)
	c.Operation = destination.Operation(op)
	c.RemoteID, _ = v[3].(string)
	uncertain, _ := v[5].(time.Time)
	s := p.c.Layout.Sync
	switch c.Operation {
	case destination.OpRemove:
		c.Remove = removal(s.OnRemove.Act, s.OnRemove.Action)
		if len(v) > 7 {
			c.Send = p.ours(v[7])
		}
	case destination.OpRekey, destination.OpUpdate:
		if c.Operation == destination.OpRekey {
			c.OldKey = []any{v[6]}
		}
		mask, ok := v[4].(string)
		some := s.Config.Send != "all" || p.c.backfill && p.c.only
		if ok && uncertain.IsZero() && some && !s.Object.Replaces {
			c.Send = make([]bool, len(c.Fields))
			for i := range c.Send {
				c.Send[i] = i < len(mask) && mask[i] == '1'
			}
		}
	}
	if c.Operation != destination.OpRemove {
		changed, _ := v[4].(string)
		p.spare(c, changed)
	}
	c.DedupeID = p.dedupe(*c, keyHash, rowHash)
	page.KeyHash = append(page.KeyHash, keyHash)
	page.Uncertain = append(page.Uncertain, uncertain)
}

// spare takes out of what is sent: fields with nulls: omit and no value, and in an update those with write: on_add, for what was
// written there once is the destination's since. changed is the mask of an update.
func (p *Pager) spare(c *destination.Change, changed string) {
	object := p.c.Layout.Sync.Object
	for i, f := range p.c.Layout.Sync.Fields {
		switch {
		case f.Omit && c.Fields[i] == nil:
		case f.Write == "on_add" && c.Operation != destination.OpAdd && !object.Replaces && (i >= len(changed) || changed[i] != '1'):
		default:
			continue
		}
		if c.Send == nil {
			c.Send = make([]bool, len(c.Fields))
			for k := range c.Send {
				c.Send[k] = true
			}
		}
		c.Send[i] = false
	}
}

// ours is the mask of a remove without the fields in which the destination had values of its own; nil where it had none.
func (p *Pager) ours(theirs any) []bool {
	names, _ := theirs.(string)
	if names == "" {
		return nil
	}
	mask := make([]bool, len(p.c.Layout.Fields))
	for i, f := range p.c.Layout.Fields {
		mask[i] = !strings.Contains(names, Theirs(f))
	}
	return mask
}

func removal(act, action string) string {
	if act == "action" {
		return action
	}
	if act == "" {
		return "delete"
	}
	return act
}
