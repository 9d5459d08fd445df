package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// screen is where text for people goes. Colour and a known width exist on a terminal only.
type screen struct {
	w        io.Writer
	terminal bool
	color    bool
	width    int // columns; 0 = no limit
}

// newScreen finds out what w can show. NO_COLOR (https://no-color.org) and TERM=dumb are honoured.
func newScreen(w io.Writer, env func(string) (string, bool)) screen {
	s := screen{w: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.terminal = true
	if width, _, err := term.GetSize(int(file.Fd())); err == nil {
		s.width = width
	}
	noColor, _ := env("NO_COLOR")
	kind, _ := env("TERM")
	s.color = noColor == "" && kind != "dumb"
	return s
}

// line writes one line. A reader that is gone (a closed pipe) is no failure of the command.
func (s screen) line(format string, args ...any) { _, _ = fmt.Fprintf(s.w, format+"\n", args...) }

func (s screen) paint(code, t string) string {
	if !s.color || t == "" {
		return t
	}
	return "\x1b[" + code + "m" + t + "\x1b[0m"
}

func (s screen) bold(t string) string   { return s.paint("1", t) }
func (s screen) dim(t string) string    { return s.paint("2", t) }
func (s screen) red(t string) string    { return s.paint("31", t) }
func (s screen) green(t string) string  { return s.paint("32", t) }
func (s screen) yellow(t string) string { return s.paint("33", t) }
func (s screen) cyan(t string) string   { return s.paint("36", t) }

// column is one of a table: numbers stand to the right, and sentences are wrapped into what room the others leave.
type column struct {
	title       string
	right, wrap bool
}

func left(title string) column  { return column{title: title} }
func right(title string) column { return column{title: title, right: true} }
func prose(title string) column { return column{title: title, wrap: true} }

// proseWidth is how wide text is where no terminal sets a limit, and the least a wrapped column gets.
const (
	proseWidth    = 120
	minProseWidth = 24
)

// room is how many columns the wrapped column of a table has.
func (s screen) room(columns []column, rows [][]string) int {
	room := proseWidth - 2
	if s.width > 0 {
		room = min(s.width, proseWidth) - 2
	}
	for i, c := range columns {
		if c.wrap {
			continue
		}
		widest := text.StringWidthWithoutEscSequences(c.title)
		for _, row := range rows {
			widest = max(widest, text.StringWidthWithoutEscSequences(row[i]))
		}
		room -= widest + 2
	}
	return room - 2 // what stands right of the last column too
}

// paragraph writes a sentence or more, wrapped and indented.
func (s screen) paragraph(indent, t string) {
	width := max(s.room(nil, nil)+2-len(indent), minProseWidth)
	for line := range strings.Lines(text.WrapSoft(t, width) + "\n") {
		s.line("%s%s", indent, strings.TrimRight(line, " \n"))
	}
}

// table writes aligned columns, indented by two; rows longer than the terminal are cut, never wrapped.
func (s screen) table(columns []column, rows [][]string) {
	t := table.NewWriter()
	t.SetStyle(plainTable())
	t.SuppressTrailingSpaces()
	if s.width > 0 {
		t.SetAllowedRowLength(max(s.width-2, 20))
	}
	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	titled := false
	for i, c := range columns {
		header[i] = s.dim(c.title)
		titled = titled || c.title != ""
		align := text.AlignLeft
		if c.right {
			align = text.AlignRight
		}
		configs[i] = table.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align}
		if room := s.room(columns, rows); c.wrap && room >= minProseWidth { // where there is less, it is cut
			configs[i].WidthMax, configs[i].WidthMaxEnforcer = room, text.WrapSoft
		}
	}
	if titled {
		t.AppendHeader(header)
	}
	t.SetColumnConfigs(configs)
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		t.AppendRow(cells)
	}
	for line := range strings.Lines(t.Render() + "\n") {
		s.line("  %s", strings.TrimRight(line, " \n"))
	}
}

// plainTable has no lines: columns are held apart by two spaces.
func plainTable() table.Style {
	style := table.StyleDefault
	style.Options = table.Options{}
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	style.Box.UnfinishedRow = "…"
	return style
}

// count writes 1234567 as 1,234,567.
func count(n int64) string { return humanize.Comma(n) }

// plural writes "1 row", "2 rows".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

// bytesOf writes 1234567890 as 1.2 GB, in the decimal units of bills.
func bytesOf(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// seconds writes a length of time as people say it: 0.42 s, 31.0 s, 4m10s, 2h05m.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// rate writes rows a second; "" where the time is too short to tell.
func rate(n int64, d time.Duration) string {
	if d <= 0 || n <= 0 {
		return ""
	}
	return count(int64(float64(n)/d.Seconds())) + " rows/s"
}

// moment writes an instant in UTC to the second; "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// printJSON writes the command's one document.
func (a *app) printJSON(v any) {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // a reader that is gone is no failure of the command
}

// say writes a line for people; nothing with --quiet or in JSON.
func (a *app) say(format string, args ...any) {
	if !a.flags.quiet && !a.json() {
		a.out.line(format, args...)
	}
}

// show writes a result: the document in JSON, otherwise what text draws. --quiet drops text, never the document.
func (a *app) show(document any, draw func(screen)) {
	switch {
	case a.json():
		a.printJSON(document)
	case !a.flags.quiet:
		draw(a.out)
	}
}
