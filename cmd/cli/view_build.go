package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/sync/report"
)

// nodeDocument is a node's result in JSON, with its error.
type nodeDocument struct {
	build.NodeResult
	Rows  *int64          `json:"rows"` // null: not counted
	Error *report.Problem `json:"error,omitempty"`
}

func buildDocument(result build.Result) any {
	nodes := make([]nodeDocument, len(result.Nodes))
	for i, n := range result.Nodes {
		nodes[i] = nodeDocument{NodeResult: n}
		if n.Rows >= 0 {
			nodes[i].Rows = &n.Rows
		}
		if n.Err != nil {
			p := problem(problems(context.Background(), n.Err)[0])
			nodes[i].Error = &p
		}
	}
	return map[string]any{"nodes": nodes}
}

// drawBuild is one line a node in the order they were built, and the sum.
func drawBuild(s screen, result build.Result) {
	rows := make([][]string, len(result.Nodes))
	counts := map[build.Status]int{}
	var total time.Duration
	for i, n := range result.Nodes {
		took := time.Duration(n.Seconds * float64(time.Second))
		rows[i] = []string{n.Name, string(n.Kind), rowCount(n.Rows), seconds(took), nodeStatus(s, n)}
		counts[n.Status]++
		total += took
	}
	if len(rows) == 0 {
		s.line("nothing to build")
		return
	}
	s.table([]column{left("node"), left("kind"), right("rows"), right("time"), left("status")}, rows)
	s.line("")
	line := fmt.Sprintf("%s built", plural(int64(counts[build.OK]), "node"))
	if n := counts[build.Failed]; n > 0 {
		line += fmt.Sprintf(", %d failed", n)
	}
	if n := counts[build.Skipped]; n > 0 {
		line += fmt.Sprintf(", %d skipped", n)
	}
	s.line("%s in %s", line, seconds(total))
}

// rowCount is "–" where the rows were not counted.
func rowCount(n int64) string {
	if n < 0 {
		return "–"
	}
	return count(n)
}

// peopleSum tells of an entity how much of its inputs was read, how many profiles merged or were split, and what identifies nobody.
func peopleSum(n build.NodeResult) string {
	i := n.Identity
	if i == nil {
		return ""
	}
	var out string
	if i.Merged+i.Split > 0 {
		out = fmt.Sprintf(", %s merged into others, %s split off", count(i.Merged), count(i.Split))
	}
	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(i.Ignored)) {
		ignored = append(ignored, count(i.Ignored[name])+" "+name)
	}
	if len(ignored) > 0 {
		out += ", ignored: " + strings.Join(ignored, ", ")
	}
	if i.Unlinked > 0 {
		out += ", " + plural(i.Unlinked, "row") + " without identifier"
	}
	switch {
	case i.Incremental && i.Read == 0:
		out += ", nothing new"
	case i.Incremental:
		out += ", " + plural(i.Read, "changed row") + " read"
	case i.Why != "" && i.Why != identity.FirstBuild:
		out += ", everything read: " + i.Why
	}
	return out
}

func nodeStatus(s screen, n build.NodeResult) string {
	switch n.Status {
	case build.OK:
		return s.green("ok") + testSum(n) + s.dim(peopleSum(n))
	case build.Tested:
		return s.green("tested")
	case build.Skipped:
		return s.yellow("skipped") + s.dim(" because of "+string(n.SkippedBy))
	case build.Failed:
		return s.red("failed") + testSum(n)
	default:
		return string(n.Status)
	}
}

// testSum is ", 3 tests passed", "" where there are none.
func testSum(n build.NodeResult) string {
	failed := 0
	for _, t := range n.Tests {
		if t.Failures > 0 || t.Err != nil {
			failed++
		}
	}
	switch {
	case len(n.Tests) == 0:
		return ""
	case failed > 0:
		return fmt.Sprintf(", %d of %s failed", failed, plural(int64(len(n.Tests)), "test"))
	default:
		return fmt.Sprintf(", %s passed", plural(int64(len(n.Tests)), "test"))
	}
}

// drawTests is one line a test, and the sum. updated: expectations were written, not compared.
func drawTests(s screen, result build.Result, updated bool) {
	var rows [][]string
	passed, failed := 0, 0
	for _, n := range result.Nodes {
		for _, t := range n.Tests {
			status, note := s.green("passed"), ""
			switch {
			case t.Failures > 0 && n.Kind == graph.Sync:
				status, note = s.red("failed"), "other requests"
			case t.Failures > 0:
				status, note = s.red("failed"), plural(t.Failures, "row")
			case t.Err != nil:
				status, note = s.red("error"), "could not be run"
			case updated:
				status = s.green("written")
			}
			if t.Err != nil || t.Failures > 0 {
				failed++
			} else {
				passed++
			}
			rows = append(rows, []string{n.Name, t.Name, status, note})
		}
	}
	if len(rows) == 0 {
		s.line("nothing to test: give a model tests: {unique: […], not_null: […]},")
		s.line("or put rows of a sync into tests/SYNC/CASE.rows.csv and say dray test SYNC --update")
		return
	}
	s.table([]column{left("of"), left("test"), left("status"), left("")}, rows)
	s.line("")
	if updated {
		s.line("%d written, %d failed", passed, failed)
		return
	}
	s.line("%d passed, %d failed", passed, failed)
}
