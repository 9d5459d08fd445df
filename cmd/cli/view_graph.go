package cli

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/dray-dev/dray/models/graph"
)

// kinds in the order data flows, with the plural a heading uses.
func kinds() []struct {
	kind   graph.Kind
	plural string
} {
	return []struct {
		kind   graph.Kind
		plural string
	}{
		{graph.Source, "sources"},
		{graph.Model, "models"},
		{graph.Entity, "entities"},
		{graph.Segment, "segments"},
		{graph.Sync, "syncs"},
		{graph.Destination, "destinations"},
	}
}

// graphNode is a node as JSON shows it.
type graphNode struct {
	ID      graph.ID   `json:"id"`
	Kind    graph.Kind `json:"kind"`
	Name    string     `json:"name"`
	At      string     `json:"at,omitempty"`
	Tags    []string   `json:"tags,omitempty"`
	Parents []graph.ID `json:"parents"`
}

func graphDocument(nodes []*graph.Node) any {
	list := make([]graphNode, len(nodes))
	for i, n := range nodes {
		list[i] = graphNode{n.ID, n.Kind, n.Name, n.Pos.String(), n.Tags, append([]graph.ID{}, n.Parents...)}
	}
	return map[string]any{"nodes": list}
}

// drawGraph lists the nodes by kind with what each reads.
func drawGraph(s screen, nodes []*graph.Node) {
	var rows [][]string
	for _, k := range kinds() {
		title := k.plural
		for _, n := range nodes {
			if n.Kind != k.kind {
				continue
			}
			rows = append(rows, []string{s.dim(title), s.bold(n.Name), reads(n)})
			title = ""
		}
	}
	if len(rows) == 0 {
		s.line("the project is empty: dray init writes one to start from")
		return
	}
	s.table([]column{left(""), left(""), left("")}, rows)
}

// reads names a node's parents, without their kind.
func reads(n *graph.Node) string {
	if len(n.Parents) == 0 {
		return ""
	}
	names := make([]string, len(n.Parents))
	for i, p := range n.Parents {
		_, name, _ := strings.Cut(string(p), ".")
		names[i] = name
	}
	return "← " + strings.Join(names, ", ")
}

// drawMermaid writes a flowchart that GitHub and most editors render.
func drawMermaid(s screen, nodes []*graph.Node) {
	s.line("flowchart LR")
	number := numbered(nodes)
	for i, n := range nodes {
		opening, closing := mermaidShape(n.Kind)
		s.line(`  n%d%s"%s"%s`, i, opening, strings.ReplaceAll(n.Name, `"`, "#quot;"), closing)
	}
	for i, n := range nodes {
		for _, p := range n.Parents {
			if from, ok := number[p]; ok {
				s.line("  n%d --> n%d", from, i)
			}
		}
	}
}

func mermaidShape(k graph.Kind) (opening, closing string) {
	switch k {
	case graph.Source:
		return "[(", ")]"
	case graph.Entity:
		return "([", "])"
	case graph.Segment:
		return "{{", "}}"
	case graph.Sync:
		return ">", "]"
	case graph.Destination:
		return "[[", "]]"
	default:
		return "[", "]"
	}
}

func numbered(nodes []*graph.Node) map[graph.ID]int {
	number := make(map[graph.ID]int, len(nodes))
	for i, n := range nodes {
		number[n.ID] = i
	}
	return number
}

// Sizes of the SVG, in pixels.
const (
	svgChar   = 7.5 // width of a character of the 12 px monospaced font, with some air
	svgHeight = 28
	svgGapX   = 70
	svgGapY   = 14
	svgMargin = 20
)

// box is a node's place in the SVG.
type box struct{ x, y, w float64 }

// drawSVG lays the nodes out in columns: a node stands one column to the right of the last of its parents.
func drawSVG(s screen, nodes []*graph.Node) {
	boxes, width, height := layout(nodes)
	s.line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, monospace" font-size="12">`, width, height)
	s.line(`<rect width="100%%" height="100%%" fill="white"/>`)
	for _, n := range nodes {
		to := boxes[n.ID]
		for _, p := range n.Parents {
			from, ok := boxes[p]
			if !ok {
				continue
			}
			x1, y1, x2, y2 := from.x+from.w, from.y+svgHeight/2, to.x, to.y+svgHeight/2
			mid := (x1 + x2) / 2
			s.line(`<path d="M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f" fill="none" stroke="#9aa5b1"/>`, x1, y1, mid, y1, mid, y2, x2, y2)
		}
	}
	for _, n := range nodes {
		b := boxes[n.ID]
		s.line(`<g><title>%s</title><rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="5" fill="%s" stroke="#52606d"/><text x="%.1f" y="%.1f">%s</text></g>`,
			escaped(string(n.ID)), b.x, b.y, b.w, svgHeight, svgFill(n.Kind), b.x+8, b.y+18, escaped(n.Name))
	}
	s.line("</svg>")
}

// layout gives every node its box, and the size of the whole.
func layout(nodes []*graph.Node) (boxes map[graph.ID]box, width, height float64) {
	columns := byColumn(nodes)
	boxes = make(map[graph.ID]box, len(nodes))
	x := float64(svgMargin)
	for _, nodes := range columns {
		widest := 0.0
		for i, n := range nodes {
			b := box{x: x, y: svgMargin + float64(i)*(svgHeight+svgGapY), w: float64(len([]rune(n.Name)))*svgChar + 16}
			boxes[n.ID] = b
			widest = max(widest, b.w)
			height = max(height, b.y+svgHeight+svgMargin)
		}
		x += widest + svgGapX
	}
	return boxes, max(x-svgGapX+svgMargin, 2*svgMargin), max(height, 2*svgMargin)
}

// byColumn sorts nodes (parents first) into columns; those without parents among the nodes stand in the first.
func byColumn(nodes []*graph.Node) [][]*graph.Node {
	at := make(map[graph.ID]int, len(nodes))
	var columns [][]*graph.Node
	for _, n := range nodes {
		c := 0
		for _, p := range n.Parents {
			if parent, ok := at[p]; ok {
				c = max(c, parent+1)
			}
		}
		at[n.ID] = c
		columns = append(columns, make([][]*graph.Node, max(0, c+1-len(columns)))...)
		columns[c] = append(columns[c], n)
	}
	for _, column := range columns {
		slices.SortStableFunc(column, func(a, b *graph.Node) int { return flow(a.Kind) - flow(b.Kind) })
	}
	return columns
}

func flow(k graph.Kind) int {
	for i, known := range kinds() {
		if known.kind == k {
			return i
		}
	}
	return len(kinds())
}

func svgFill(k graph.Kind) string {
	switch k {
	case graph.Source:
		return "#e4e7eb"
	case graph.Model:
		return "#dbeafe"
	case graph.Entity:
		return "#fef3c7"
	case graph.Segment:
		return "#fce7f3"
	case graph.Sync:
		return "#dcfce7"
	default:
		return "#ede9fe"
	}
}

func escaped(t string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(t)); err != nil {
		return fmt.Sprintf("%q", t)
	}
	return b.String()
}
