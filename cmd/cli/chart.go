package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/models/segment"
)

const (
	chartRows   = 5  // of the size
	chartWidth  = 60 // columns at most, without the axis
	chartMinBar = 24 // few builds get wider bars, up to this width
)

// drawBuilds draws a segment's size, build by build, and who entered and left.
func drawBuilds(s screen, builds []segment.Built) {
	if len(builds) < 2 {
		return
	}
	sizes, entered, gone, per := joined(builds, s.chartRoom())
	low, high := slices.Min(sizes), slices.Max(sizes)
	came, went := slices.Max(entered[1:]), slices.Max(gone)
	first := ""
	if entered[0] > came { // all that were there at first: beside them, those who came later would not be seen
		first = ", " + count(entered[0]) + " in the first column"
	}
	floor := int64(0)
	if low > high/2 { // what changes is what is looked for; the axis says where it begins
		floor = low - max((high-low)/4, 1)
	}
	axis := 0
	for _, label := range []string{count(high), count(floor), "+" + count(came), "−" + count(went)} {
		axis = max(axis, len([]rune(label)))
	}
	wide := max(1, min(3, chartMinBar/len(sizes)))
	s.line("")
	s.line("  %s", s.dim("size by build"))
	for row := chartRows - 1; row >= 0; row-- {
		label := ""
		switch row {
		case chartRows - 1:
			label = count(high)
		case 0:
			label = count(floor)
		}
		s.chartRow(axis, label, s.cyan(bars(sizes, floor, high, row, chartRows, wide)))
	}
	s.chartRow(axis, "+"+count(came), s.green(bars(entered, 0, came, 0, 1, wide))+s.dim("  entered"+first))
	s.chartRow(axis, "−"+count(went), s.red(bars(gone, 0, went, 0, 1, wide))+s.dim("  left"))
	s.line("  %s  %s", strings.Repeat(" ", axis), s.dim(span(builds, len(sizes)*wide, per)))
}

// chartRoom is how many columns a chart may have.
func (s screen) chartRoom() int {
	if s.width > 0 {
		return max(10, min(chartWidth, s.width-24))
	}
	return chartWidth
}

func (s screen) chartRow(axis int, label, row string) {
	tick := "│"
	if label != "" {
		tick = "┤"
	}
	s.line("  %s", strings.TrimRight(strings.Repeat(" ", axis-len([]rune(label)))+label+" "+s.dim(tick)+row, " "))
}

// joined makes the columns of builds, of several each where they are many: the last size, all who entered and left. per is how many are joined.
func joined(builds []segment.Built, room int) (sizes, entered, gone []int64, per int) {
	per = (len(builds) + room - 1) / room
	for chunk := range slices.Chunk(builds, per) {
		var in, out int64
		for _, b := range chunk {
			in, out = in+b.Entered, out+b.Left
		}
		sizes, entered, gone = append(sizes, chunk[len(chunk)-1].Size), append(entered, in), append(gone, out)
	}
	return sizes, entered, gone, per
}

// bars is one row, counted from the bottom, of bars from low to high. What is more than low is seen.
func bars(values []int64, low, high int64, row, rows, wide int) string {
	blocks := []rune(" ▁▂▃▄▅▆▇█")
	var out strings.Builder
	for _, v := range values {
		height := 0
		if high > low {
			height = int(float64(min(v, high)-low) / float64(high-low) * float64(rows*8))
		}
		if high > low && v > low && height == 0 {
			height = 1
		}
		out.WriteString(strings.Repeat(string(blocks[min(8, max(0, height-row*8))]), wide))
	}
	return out.String()
}

// span is the first and the last build's time below the chart's ends, and what a column is.
func span(builds []segment.Built, width, per int) string {
	layout := time.DateOnly
	from, to := builds[0].At, builds[len(builds)-1].At
	if to.Sub(from) < 72*time.Hour {
		layout = "2006-01-02 15:04"
	}
	begin, end := from.UTC().Format(layout), to.UTC().Format(layout)
	gap := " … "
	if room := width - len(begin) - len(end); room > 3 {
		gap = strings.Repeat(" ", room)
	}
	out := begin + gap + end + "  " + plural(int64(len(builds)), "build")
	if per > 1 {
		out += fmt.Sprintf(", %d a column", per)
	}
	return out
}
