// Testsum runs `go test -json` with the arguments it is given, shows one line a package and the output of what failed,
// and ends with every skipped test by name and reason: a test that cannot run here is seen, not forgotten.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is `go test -json args`, summed up on out; its result is the exit code of go test.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = errOut
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(errOut, "starting go test:", err)
		return 1
	}
	var s summary
	s.read(events, out)
	err = cmd.Wait()
	s.print(out)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(errOut, "running go test:", err)
		return 1
	}
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type test struct{ pkg, name string }

// summary counts tests; the zero value is ready.
type summary struct {
	passed, failed, packages int
	skipped                  map[test]string // → reason
	output                   map[test]*strings.Builder
}

// read consumes events until they end, printing packages and failures as they come.
func (s *summary) read(events io.Reader, out io.Writer) {
	s.skipped, s.output = map[test]string{}, map[test]*strings.Builder{}
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		s.take(e, out)
	}
}

func (s *summary) take(e event, out io.Writer) {
	id := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		b := s.output[id]
		if b == nil {
			b = &strings.Builder{}
			s.output[id] = b
		}
		b.WriteString(e.Output)
	case "pass", "fail", "skip":
		s.end(e, id, out)
		delete(s.output, id)
	}
}

// end takes the last word about a test, or about a package where Test is empty.
func (s *summary) end(e event, id test, out io.Writer) {
	text := ""
	if b := s.output[id]; b != nil {
		text = b.String()
	}
	switch {
	case e.Test == "" && e.Action == "skip": // no test files
	case e.Test == "":
		s.packages++
		if e.Action == "fail" {
			fmt.Fprint(out, text)
		}
		fmt.Fprintf(out, "%-5s %-60s %6.1fs\n", e.Action, e.Package, e.Elapsed)
	case e.Action == "pass":
		s.passed++
	case e.Action == "fail":
		s.failed++
		fmt.Fprint(out, text)
	default:
		s.skipped[id] = reason(text)
	}
}

// reason is what a skipped test said: its output without the lines of the test runner and the place in the code.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, words, ok := strings.Cut(after, ": "); ok {
				line = words
			}
		}
		said = append(said, line)
	}
	return strings.Join(said, " ")
}

func (s *summary) print(out io.Writer) {
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped in %d packages\n", s.passed, s.failed, len(s.skipped), s.packages)
	ids := make([]test, 0, len(s.skipped))
	for id := range s.skipped {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool {
		return ids[i].pkg+" "+ids[i].name < ids[j].pkg+" "+ids[j].name
	})
	for _, id := range ids {
		fmt.Fprintf(out, "  skipped: %s %s: %s\n", id.pkg, id.name, s.skipped[id])
	}
}
