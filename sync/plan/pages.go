package plan

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// Page is a part of the changes to send, small enough to hold. What it holds is valid until Release.
type Page struct {
	Number  int64
	Changes []destination.Change
	// KeyHash is aligned with Changes: how journal and outcomes name a row.
	KeyHash []int64
	// Uncertain is aligned with Changes: until when an acknowledged send does not settle the row; zero = it is not uncertain.
	Uncertain []time.Time
	// Refreshed are the key hashes of rows that are sent for their age alone.
	Refreshed []int64

	rowHash []int64 // of a job's page
	text    blocks  // what the JSON of Changes lies in
	of      *Pager  // takes its memory back; nil = nobody does
}

// Release gives the memory of a page back, for another page of the same plan: without it, clearing new memory and collecting the old
// took a tenth of a delivery. Nothing of the page may be used afterwards.
func (p *Page) Release() {
	if p.of == nil {
		return
	}
	clear(p.Changes) // they point to the values
	p.Changes, p.KeyHash, p.Uncertain, p.Refreshed = p.Changes[:0], p.KeyHash[:0], p.Uncertain[:0], p.Refreshed[:0]
	p.text.reuse()
	of := p.of
	p.of = nil
	of.mu.Lock()
	defer of.mu.Unlock()
	of.empty = append(of.empty, p)
}

// Pager reads the changes of a plan in pages. It holds none of them but the memory of those that were released, which are as many as
// there were at once. It is safe for concurrent use.
type Pager struct {
	w      Querier
	c      *Changes
	query  string
	pages  int64
	keys   int
	width  int // keys and fields
	kinds  []warehouse.Kind
	theirs int             // the column that tells which fields the destination has values of its own in; -1 = not read
	reason int             // the column that tells why; -1 = not read
	rows   *encode.Encoder // of a destination that takes rows as JSON
	dedupe func(op destination.Operation, keyHash, rowHash int64) string

	mu    sync.Mutex
	empty []*Page // released ones
}

// PageRows is how many planned rows a page holds at most: of 12 fields about 20 MB.
const PageRows = 16384

// Pages is into how many pages a plan is cut, chosen after counting:
// rows a page; 0 = PageRows.
func Pages(highest, rows int64) int64 {
	if rows <= 0 {
		rows = PageRows
	}
	return highest/rows + 1
}

// Schema describes the changes to a destination. Where a record is looked up, what is sent is its id, a text.
func (l *Layout) Schema() *destination.Schema {
	s := &destination.Schema{}
	for _, c := range l.SentKeys() {
		s.Key = append(s.Key, destination.Column{Name: c.Name, Path: []string{c.Name}, Kind: c.Kind, Type: c.Type})
	}
	for i, c := range l.Fields {
		f := destination.Column{Name: c.Name, Path: l.Sync.Fields[i].Path, Kind: c.Kind, Type: c.Type}
		if l.Sync.Fields[i].Lookup != nil {
			f.Kind, f.Type = warehouse.Text, ""
		}
		s.Fields = append(s.Fields, f)
	}
	return s
}

// NewPager prepares to read what a run sends: rows in state send, without the operations that are held.
// dedupe makes a change's dedupe id of its operation, its key hash and its row hash. asJSON: the destination takes rows as JSON
// where they can be had so (destination.TakesJSON).
func NewPager(w Querier, c *Changes, held []destination.Operation, asJSON bool, dedupe func(op destination.Operation, keyHash, rowHash int64) string) *Pager {
	l, d := c.Layout, c.Layout.Dialect
	p := &Pager{w: w, c: c, dedupe: dedupe, pages: Pages(c.Highest, c.PageRows)}
	if asJSON && len(l.IfEmpty())+len(l.Lookups()) == 0 { // what is sent is not known before the destination was asked
		p.rows, _ = encode.New(l.Schema()) // names that contradict each other are the connector's to tell
	}
	var cols []string
	wire := func(c Column) {
		p.kinds = append(p.kinds, c.Kind)
		cols = append(cols, d.Wire(d.Quote(c.Column), warehouse.Column{Name: c.Column, Type: c.Type, Kind: c.Kind}))
	}
	for _, c := range l.SentKeys() {
		wire(c)
	}
	for _, c := range l.Fields {
		wire(c)
	}
	p.keys, p.width = len(l.SentKeys()), len(cols)
	old := l.DestKey
	cols = append(cols, "key_hash", "coalesce("+d.Quote("hash")+", 0)", "operation", "remote_id", "changed", "was_uncertain",
		d.Wire("old_dest_key", warehouse.Column{Type: old.Type, Kind: old.Kind}))
	p.theirs, p.reason = -1, -1
	if len(l.IfEmpty()) > 0 {
		p.theirs = len(cols)
		cols = append(cols, "theirs")
	}
	if l.Sync.Withheld != "" || l.Sync.Refresh > 0 {
		p.reason = len(cols)
		cols = append(cols, "reason")
	}
	// In a CASE, so that an engine looks at the page's rows first: DuckDB would hold each row of a row group, seven pages, against it.
	p.query = "SELECT " + strings.Join(cols, ", ") + " FROM " + d.Table(l.Plan) + " p WHERE CASE WHEN " + Sending(held) + " THEN TRUE ELSE FALSE END AND "
	return p
}

// Sending is the condition on plan_<sync> of the rows that a run sends.
func Sending(held []destination.Operation) string {
	out := "state = 'send' AND operation <> '" + string(Forget) + "'"
	for _, op := range held {
		out += " AND (operation <> '" + string(op) + "' OR reason = '" + Consent + "')"
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
	page := p.page(k)
	if in, ok := rows.(warehouse.InPlace); ok {
		if cells, ok := in.Cells(); ok {
			p.inPlace(page, cells)
			return page, p.failed(k, rows.Err())
		}
	}
	return page, p.failed(k, p.values(page, rows))
}

func (p *Pager) failed(k int64, err error) error {
	if err != nil {
		return fmt.Errorf("reading page %d of the plan: %w", k, err)
	}
	return nil
}

// values reads the rows as Go values.
func (p *Pager) values(page *Page, rows warehouse.Rows) error {
	a := arena{width: p.width}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return err
		}
		data := a.row()
		copy(data, v)
		tail := v[p.width:]
		t := engine{}
		t.keyHash, _ = tail[0].(int64)
		t.rowHash, _ = tail[1].(int64)
		t.operation, _ = tail[2].(string)
		t.remoteID, _ = tail[3].(string)
		t.changed, t.known = tail[4].(string)
		t.uncertain, _ = tail[5].(time.Time)
		t.oldKey = tail[6]
		if p.theirs >= 0 {
			t.theirs, _ = v[p.theirs].(string)
		}
		if p.reason >= 0 {
			t.reason, _ = v[p.reason].(string)
		}
		p.add(page, p.change(t, data), t)
	}
	return rows.Err()
}

// inPlace reads the rows where the warehouse has them: as JSON where the destination takes that and the change is of a whole row,
// else the values that are needed.
func (p *Pager) inPlace(page *Page, cells warehouse.Cells) {
	a := arena{width: p.width}
	for cells.Next() {
		t := p.engine(cells)
		if p.rows != nil && p.whole(t) {
			if row, ok := p.rows.Row(page.text.room(), cells); ok {
				p.add(page, destination.Change{
					Operation: destination.Operation(t.operation), Remove: p.removal(t), RemoteID: t.remoteID, JSON: page.text.take(row),
				}, t)
				continue
			}
		}
		data := a.row()
		for i, k := range p.kinds {
			data[i] = warehouse.Value(cells, i, k)
		}
		p.add(page, p.change(t, data), t)
	}
}

// engine reads the engine's columns of a row in place.
func (p *Pager) engine(cells warehouse.Cells) engine {
	n := p.width
	t := engine{keyHash: cells.Int(n), rowHash: cells.Int(n + 1), operation: operation(cells.Text(n + 2))}
	if !cells.Null(n + 3) {
		t.remoteID = strings.Clone(cells.Text(n + 3))
	}
	if t.known = !cells.Null(n + 4); t.known {
		t.changed = cells.Text(n + 4) // used before the next row is read
	}
	if !cells.Null(n + 5) {
		t.uncertain = cells.Time(n + 5)
	}
	if t.operation == string(destination.OpRekey) {
		t.oldKey = warehouse.Value(cells, n+6, p.c.Layout.DestKey.Kind)
	}
	if p.theirs >= 0 && !cells.Null(p.theirs) {
		t.theirs = cells.Text(p.theirs)
	}
	if p.reason >= 0 && !cells.Null(p.reason) {
		t.reason = cells.Text(p.reason)
	}
	return t
}

// operation is the constant of that name, so that a row holds no text of its own for it.
func operation(name string) string {
	for _, op := range []destination.Operation{destination.OpAdd, destination.OpUpdate, destination.OpRemove, destination.OpRekey} {
		if name == string(op) {
			return string(op)
		}
	}
	return strings.Clone(name)
}

// whole tells whether a change is of all fields of its row: always where the destination replaces records, but for removes that
// write values of their own.
func (p *Pager) whole(t engine) bool {
	s := p.c.Layout.Sync
	return s.Object.Replaces && t.operation != string(destination.OpRekey) && (t.operation != string(destination.OpRemove) || s.OnRemove.Act != "set")
}

func (p *Pager) add(page *Page, c destination.Change, t engine) {
	c.DedupeID = p.dedupe(c.Operation, t.keyHash, t.rowHash)
	page.Changes = append(page.Changes, c)
	page.KeyHash = append(page.KeyHash, t.keyHash)
	page.Uncertain = append(page.Uncertain, t.uncertain)
	if t.reason == Refresh {
		page.Refreshed = append(page.Refreshed, t.keyHash)
	}
}

// arena gives rows of values out of one slice: an allocation a thousand rows, not one a row.
type arena struct {
	width int
	free  []any
}

func (a *arena) row() []any {
	if len(a.free) < a.width {
		a.free = make([]any, a.width*1024)
	}
	row := a.free[:a.width:a.width]
	a.free = a.free[a.width:]
	return row
}

// blocks are the bytes of a page's rows, in pieces that are never moved once a row is in them.
type blocks struct {
	free []byte   // the rest of the last one
	all  [][]byte // those before used are in use
	used int
}

const blockSize = 256 << 10

// room is where the next row may be appended; it grows out of its block if the row is larger.
func (b *blocks) room() []byte {
	if cap(b.free) < blockSize/64 {
		if b.used == len(b.all) {
			b.all = append(b.all, make([]byte, 0, blockSize))
		}
		b.free = b.all[b.used]
		b.used++
	}
	return b.free
}

// reuse forgets the rows.
func (b *blocks) reuse() { b.free, b.used = nil, 0 }

// take keeps a row that was appended to room.
func (b *blocks) take(row []byte) []byte {
	if cap(row) != cap(b.free) { // append moved it; the block is still good for shorter rows
		return row
	}
	b.free = row[len(row):]
	return row[:len(row):len(row)]
}

// page is an empty page: one that was released, or a new one.
func (p *Pager) page(k int64) *Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.empty); n > 0 {
		page := p.empty[n-1]
		p.empty = p.empty[:n-1]
		page.Number, page.of = k, p
		return page
	}
	page := &Page{Number: k, of: p}
	page.room(p.expected())
	return page
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

// engine is what a row of the plan says beside its data.
type engine struct {
	keyHash, rowHash            int64
	operation, remoteID, theirs string
	reason                      string
	changed                     string // the mask, where known
	known                       bool
	uncertain                   time.Time
	oldKey                      any
}

// change is a row with its values; data are those of the key, then those of the fields.
func (p *Pager) change(t engine, data []any) destination.Change {
	nKeys := p.keys
	s := p.c.Layout.Sync
	c := destination.Change{Operation: destination.Operation(t.operation), RemoteID: t.remoteID, Key: data[:nKeys:nKeys], Fields: data[nKeys:]}
	switch c.Operation {
	case destination.OpRemove:
		c.Remove = p.removal(t)
		c.Send = p.ours(t.theirs)
	case destination.OpRekey, destination.OpUpdate:
		if c.Operation == destination.OpRekey {
			c.OldKey = []any{t.oldKey}
		}
		some := s.Config.Send != "all" || p.c.backfill && p.c.only
		if t.known && t.uncertain.IsZero() && some && !s.Object.Replaces {
			c.Send = make([]bool, len(c.Fields))
			for i := range c.Send {
				c.Send[i] = i < len(t.changed) && t.changed[i] == '1'
			}
		}
	}
	if c.Operation != destination.OpRemove {
		p.spare(&c, t.changed)
	}
	return c
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
func (p *Pager) ours(names string) []bool {
	if names == "" {
		return nil
	}
	mask := make([]bool, len(p.c.Layout.Fields))
	for i, f := range p.c.Layout.Fields {
		mask[i] = !strings.Contains(names, Theirs(f))
	}
	return mask
}

// removal is how a row is removed; "" for another operation.
func (p *Pager) removal(t engine) string {
	s := p.c.Layout.Sync
	switch {
	case t.operation != string(destination.OpRemove):
		return ""
	case t.reason == Consent:
		return s.Object.Withdraw
	case s.OnRemove.Act == "action":
		return s.OnRemove.Action
	case s.OnRemove.Act == "":
		return "delete"
	}
	return s.OnRemove.Act
}
