package graph

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Sizes of the SVG, in pixels.
const (
	boxHeight  = 34.0
	boxGap     = 16.0  // between boxes of a column
	gapHeight  = 4.0   // of a gap that an edge passes through
	columnGap  = 96.0  // room for the curves
	letter     = 7.4   // width of a letter at 13 px
	maxLetters = 36    // a longer name is cut; its whole stands in the tooltip
	margin     = 28.0  // around everything
	heading    = 34.0  // the columns' titles
	minWidth   = 110.0 // of a box
)

// look is how a kind is drawn.
type look struct{ title, fill, line, text string }

func looks(k Kind) look {
	switch k {
	case Source:
		return look{"Sources", "#f1f5f9", "#64748b", "#1e293b"}
	case Model:
		return look{"Models", "#dbeafe", "#2563eb", "#1e3a8a"}
	case Entity:
		return look{"Entities", "#fef3c7", "#d97706", "#78350f"}
	case Segment:
		return look{"Segments", "#fce7f3", "#db2777", "#831843"}
	case Sync:
		return look{"Syncs", "#dcfce7", "#16a34a", "#14532d"}
	default:
		return look{"Destinations", "#ede9fe", "#7c3aed", "#4c1d95"}
	}
}

// box is a node's place, or the gap through which an edge passes a column.
type box struct {
	node       *Node // nil for a gap
	label      string
	column     int
	x, y, w, h float64
	near       []*box // those that edges lead to, on both sides
}

func (b *box) middle() float64 { return b.y + b.h/2 }

// edge is a way from a box over gaps to another.
type edge []*box

// drawing is the layout: columns from left to right in the order data flows, a kind in as many as its nodes read each other.
type drawing struct {
	boxes         map[ID]*box
	columns       [][]*box
	edges         []edge
	width, height float64
}

// SVG draws nodes, with the edges among them.
func SVG(nodes []*Node) string {
	d := &drawing{boxes: map[ID]*box{}}
	d.fill(nodes)
	d.connect(nodes)
	d.arrange()
	d.place()
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %[1]g %[2]g" font-family="Inter, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13">`+"\n", math.Ceil(d.width), math.Ceil(d.height))
	out.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	d.headings(&out)
	for _, e := range d.edges {
		e.draw(&out)
	}
	for _, column := range d.columns {
		for _, b := range column {
			b.draw(&out)
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// fill makes the boxes and gives each its column.
func (d *drawing) fill(nodes []*Node) {
	for _, k := range Kinds() {
		first := len(d.columns)
		for _, n := range nodes { // parents first
			if n.Kind != k {
				continue
			}
			b := &box{node: n, label: n.Name, column: first, h: boxHeight}
			if letters := []rune(n.Name); len(letters) > maxLetters {
				b.label = string(letters[:maxLetters-1]) + "…"
			}
			b.w = max(minWidth, float64(len([]rune(b.label)))*letter+34)
			d.boxes[n.ID] = b
			for _, id := range n.Parents {
				if parent := d.boxes[id]; parent != nil && parent.node.Kind == k {
					b.column = max(b.column, parent.column+1)
				}
			}
			for len(d.columns) <= b.column {
				d.columns = append(d.columns, nil)
			}
			d.columns[b.column] = append(d.columns[b.column], b)
		}
	}
}

// connect leads the edges, each over a gap in every column it passes. That a segment's sync sends profiles of its entity goes
// without saying.
func (d *drawing) connect(nodes []*Node) {
	for _, n := range nodes {
		b := d.boxes[n.ID]
		for _, id := range n.Parents {
			parent := d.boxes[id]
			if parent == nil || n.Sync != nil && n.Sync.Segment != "" && parent.node.Kind == Entity {
				continue
			}
			way := edge{parent}
			for c := parent.column + 1; c < b.column; c++ {
				gap := &box{column: c, h: gapHeight}
				d.columns[c] = append(d.columns[c], gap)
				way = append(way, gap)
			}
			way = append(way, b)
			for i := 1; i < len(way); i++ {
				way[i].near = append(way[i].near, way[i-1])
				way[i-1].near = append(way[i-1].near, way[i])
			}
			d.edges = append(d.edges, way)
		}
	}
}

// arrange orders the boxes of each column by where their neighbours stand, back and forth, so that few curves cross.
func (d *drawing) arrange() {
	d.stack()
	for sweep := range 8 {
		for i := range d.columns {
			column := d.columns[i]
			if sweep%2 == 1 {
				column = d.columns[len(d.columns)-1-i]
			}
			slices.SortStableFunc(column, func(a, b *box) int { return cmp.Compare(a.wish(), b.wish()) })
			stack(column)
		}
	}
}

func (d *drawing) stack() {
	for _, column := range d.columns {
		stack(column)
	}
}

// stack puts boxes below each other around the line 0.
func stack(column []*box) {
	height := 0.0
	for _, b := range column {
		height += b.h + boxGap
	}
	y := -height / 2
	for _, b := range column {
		b.y = y
		y += b.h + boxGap
	}
}

// wish is where a box would like to stand: in the middle of its neighbours.
func (b *box) wish() float64 {
	if len(b.near) == 0 {
		return b.middle()
	}
	sum := 0.0
	for _, n := range b.near {
		sum += n.middle()
	}
	return sum / float64(len(b.near))
}

// place lets every box drift to its wish without passing its neighbours, and then sets the whole on the sheet.
func (d *drawing) place() {
	for range 24 {
		for _, column := range d.columns {
			settle(column)
		}
	}
	top := math.Inf(1)
	for _, column := range d.columns {
		for _, b := range column {
			top = min(top, b.y)
		}
	}
	x := margin
	for _, column := range d.columns {
		widest := 0.0
		for _, b := range column {
			widest = max(widest, b.w)
		}
		for _, b := range column {
			b.x, b.w = x, widest
			b.y += margin + heading - top
			d.height = max(d.height, b.y+b.h+margin)
		}
		x += widest + columnGap
	}
	d.width = max(x-columnGap+margin, 2*margin)
	d.height = max(d.height, 2*margin)
}

// settle moves the boxes of a column towards their wishes; of those in each other's way, the group stands at its mean.
func settle(column []*box) {
	type group struct {
		boxes       []*box
		top, height float64
	}
	var groups []group
	for _, b := range column {
		groups = append(groups, group{[]*box{b}, b.wish() - b.h/2, b.h + boxGap})
		for len(groups) > 1 {
			above, below := groups[len(groups)-2], groups[len(groups)-1]
			if above.top+above.height <= below.top {
				break
			}
			n, m := float64(len(above.boxes)), float64(len(below.boxes))
			top := (above.top*n + (below.top-above.height)*m) / (n + m)
			merged := group{append(slices.Clone(above.boxes), below.boxes...), top, above.height + below.height}
			groups = append(groups[:len(groups)-2], merged)
		}
	}
	for _, g := range groups {
		y := g.top
		for _, b := range g.boxes {
			b.y = y
			y += b.h + boxGap
		}
	}
}

// headings writes each kind above its first column.
func (d *drawing) headings(out *strings.Builder) {
	var before Kind
	for _, column := range d.columns {
		i := slices.IndexFunc(column, func(b *box) bool { return b.node != nil })
		b := column[i] // no column is without
		if b.node.Kind == before {
			continue
		}
		before = b.node.Kind
		l := looks(before)
		fmt.Fprintf(out, `<text x="%.1f" y="%.1f" fill="%s" font-size="11" font-weight="600" letter-spacing="0.08em">%s</text>`+"\n",
			b.x+2, margin+8, l.line, strings.ToUpper(l.title))
	}
}

func (e edge) draw(out *strings.Builder) {
	from, to := e[0], e[len(e)-1]
	dash := ""
	if to.column <= from.column { // a model that reads profiles
		dash = ` stroke-dasharray="5 4"`
	}
	x, y := from.x+from.w, from.middle()
	fmt.Fprintf(out, `<path d="M%.1f %.1f`, x, y)
	for _, b := range e[1:] {
		bend := max(math.Abs(b.x-x)*0.5, columnGap/2)
		fmt.Fprintf(out, "C%.1f %.1f %.1f %.1f %.1f %.1f", x+bend, y, b.x-bend, b.middle(), b.x, b.middle())
		if b.node == nil {
			fmt.Fprintf(out, "H%.1f", b.x+b.w)
		}
		x, y = b.x+b.w, b.middle()
	}
	fmt.Fprintf(out, `" fill="none" stroke="%s" stroke-opacity="0.5" stroke-width="1.5"%s/>`+"\n", looks(from.node.Kind).line, dash)
}

func (b *box) draw(out *strings.Builder) {
	if b.node == nil {
		return
	}
	l := looks(b.node.Kind)
	fmt.Fprintf(out, `<g><title>%s</title><rect x="%.1f" y="%.1f" width="%.1f" height="%g" rx="9" fill="%s" stroke="%s" stroke-width="1.2"/>`,
		escape(string(b.node.ID)), b.x, b.y, b.w, boxHeight, l.fill, l.line)
	fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/><text x="%.1f" y="%.1f" fill="%s">%s</text></g>`+"\n",
		b.x+14, b.middle(), l.line, b.x+25, b.middle()+4.5, l.text, escape(b.label))
}

func escape(s string) string {
	var out strings.Builder
	if err := xml.EscapeText(&out, []byte(s)); err != nil {
		return "" // a strings.Builder does not fail
	}
	return out.String()
}
