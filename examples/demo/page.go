package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/mattn/go-isatty"
)

// page prints the showing; it is coloured on a terminal alone.
type page struct {
	out    io.Writer
	colour bool
}

func newPage(f *os.File) page {
	return page{out: f, colour: isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == ""}
}

func (p page) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p page) title(text string) { fmt.Fprintf(p.out, "\n%s\n", p.paint("1;36", text)) }

func (p page) section(text string) {
	fmt.Fprintf(p.out, "\n%s\n%s\n", p.paint("1", text), strings.Repeat("─", min(len([]rune(text)), 100)))
}

func (p page) say(text string) { fmt.Fprintf(p.out, "\n%s\n", text) }

func (p page) command(text string) { fmt.Fprintf(p.out, "\n%s\n\n", p.paint("1;33", "$ "+text)) }

// output indents what a command printed.
func (p page) output(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(p.out, "  ", line)
	}
}

func (p page) lines(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(p.out, "  "+line)
	}
}

func (p page) table(header table.Row, rows []table.Row) {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(header)
	t.AppendRows(rows)
	p.output(t.Render() + "\n")
}
