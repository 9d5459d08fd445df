package cli

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/models/identity"
	"github.com/dray-dev/dray/sync/report"
)

// drawn is what draw writes to a screen that is no terminal.
func drawn(draw func(screen)) string {
	var b strings.Builder
	draw(screen{w: &b})
	return b.String()
}

func noCaption(string) string { return "" }

func TestDrawPlans(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		plans []report.Plan
		want  string
	}{
		{
			name: "changes held by a guard",
			plans: []report.Plan{{
				Sync: "vips", Rows: 46451, Add: 1204, Update: 37, Remove: 12, Unchanged: 45210, Held: 12,
				Guard:         report.Guard{Status: "held", Reasons: []string{"12 removes are 40 % of 30 rows (max_removes 5 %)"}, Fingerprint: "ab12", Allow: "removes=ab12"},
				ChangedFields: map[string]int64{"firstname": 6, "ltv": 31},
				Estimate:      report.Estimate{Requests: 13, Minutes: 0.2},
				Samples: []report.Sample{
					{Operation: "add", Key: "3f9a0c12", Fields: []report.SampleField{{Name: "ltv"}, {Name: "firstname"}}},
					{Operation: "update", Key: "9bb2d001", Fields: []report.SampleField{{Name: "ltv", Old: 120.5, New: 140}}},
					{Operation: "remove", Key: "77aa0000"},
				},
			}},
			want: `vips
  + 1,204 add   ~ 37 change   - 12 remove   45,210 unchanged of 46,451 rows
  12 held by a guard

  changed field  rows
  ltv              31  ████████████████████████
  firstname         6  ████

     sample    fields
  +  3f9a0c12  ltv, firstname
  ~  9bb2d001  ltv: 120.5 → 140
  -  77aa0000

  ≈ 13 requests, ≈ 0.2 min

  guard: held
    12 removes are 40 % of 30 rows (max_removes 5 %)
  to let exactly these through:  dray run vips --allow removes=ab12

Plan: 1,204 to add, 37 to change, 12 to remove. Nothing was sent.
`,
		},
		{
			name:  "nothing to do",
			plans: []report.Plan{{Sync: "vips", Rows: 3, Unchanged: 3, Guard: report.Guard{Status: "ok"}}},
			want: `vips
  no changes: 3 rows are there as they should be

No changes. Every destination has what its model says.
`,
		},
		{
			name:  "only rows that left",
			plans: []report.Plan{{Sync: "vips", Rows: 3, Unchanged: 3, Forgotten: 1, Guard: report.Guard{Status: "ok"}}},
			want: `vips
  + 0 add   ~ 0 change   - 0 remove   3 unchanged of 3 rows
  1 to forget (they left the model)

Plan: 0 to add, 0 to change, 0 to remove, 1 to forget. Nothing was sent.
`,
		},
		{
			name:  "one that failed",
			plans: []report.Plan{{Sync: "vips", Error: &report.Problem{Code: "warehouse.query", Message: "no such table", At: "models/a.sql:3:1", Hint: "run dray build"}}},
			want: `vips
  could not be planned

`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := drawn(func(s screen) { drawPlans(s, tt.plans, noCaption) })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDrawRuns(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	partial := report.Run{
		Sync: "vips", Status: report.Partial, ExitCode: 3, Rows: 46451, Unchanged: 45210,
		Delivered: report.Counts{Add: 1200, Update: 37, Remove: 12},
		Rejected:  report.Counts{Add: 2},
		Skipped:   report.Skipped{Counts: report.Counts{Add: 2}, Reasons: map[string]int64{"null_key": 2}},
		Requests:  14, Retries: 1, StartedAt: start, FinishedAt: start.Add(500 * time.Millisecond),
	}
	stopped := report.Run{
		Sync: "ads", Status: report.Stopped, ExitCode: 4, Rows: 10, Unchanged: 10, Held: report.Counts{Remove: 30},
		Reasons: []string{"30 removes are 75 % of 40 rows (max_removes 5 %)"}, Allow: "removes=ff00",
		StartedAt: start, FinishedAt: start.Add(20 * time.Second),
	}
	failed := report.Run{Sync: "mail", Status: report.Failed, ExitCode: 2, Error: &report.Problem{Code: "sync.duplicate_key", Message: "said on stderr"}}
	if got, want := drawn(func(s screen) { drawRuns(s, []report.Run{failed}, noCaption, nextSteps) }), "mail  failed\n"; got != want {
		t.Errorf("a run that failed before it counted: %q, want %q", got, want)
	}
	got := drawn(func(s screen) {
		drawRuns(s, []report.Run{partial, stopped}, func(sync string) string { return "about " + sync }, nextSteps)
	})
	want := `vips  about vips  partial
               add  change  remove
  delivered  1,200      37      12
  rejected       2       0       0
  skipped        2       0       0  null_key 2
  46,451 rows, 45,210 unchanged · 14 requests (1 retry) · 2,498 rows/s · 0.50 s
  → dray errors vips  shows what the destination refused, and why

ads  about ads  stopped
        add  change  remove
  held    0       0      30  by a guard
  10 rows, 10 unchanged · 0 requests · 20.0 s
  ! 30 removes are 75 % of 40 rows (max_removes 5 %)
  to let exactly these through:  dray run ads --allow removes=ff00

2 syncs: 1 partial, 1 stopped · 1,249 rows delivered · 14 requests · 62 rows/s · 20.0 s
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A narrow terminal cuts rows instead of breaking the columns.
func TestTableFitsTheTerminal(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	s := screen{w: &b, terminal: true, color: true, width: 30}
	s.table([]column{left("name"), right("rows"), left("note")}, [][]string{
		{s.green("orders"), "1,204", strings.Repeat("long ", 20)},
		{"x", "7", ""},
	})
	for line := range strings.Lines(b.String()) {
		plain := stripColor(strings.TrimSuffix(line, "\n"))
		if n := len([]rune(plain)); n > s.width {
			t.Errorf("%d columns on a terminal of %d: %q", n, s.width, plain)
		}
	}
}

func TestColorOnlyWhereItCanBeSeen(t *testing.T) {
	t.Parallel()
	if got := (screen{}).red("x"); got != "x" {
		t.Errorf("without colour: %q", got)
	}
	if got := (screen{color: true}).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("with colour: %q", got)
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		420 * time.Millisecond:      "0.42 s",
		31 * time.Second:            "31.0 s",
		250 * time.Second:           "4m10s",
		2*time.Hour + 5*time.Minute: "2h05m",
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %q, want %q", d, got, want)
		}
	}
}

// stripColor takes the escape sequences out.
func stripColor(line string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(line, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, line, _ = strings.Cut(rest, "m")
	}
}

func TestDrawBuild(t *testing.T) {
	t.Parallel()
	result := build.Result{Nodes: []build.NodeResult{
		{Name: "orders_clean", Kind: graph.Model, Status: build.OK, Rows: 12345, Seconds: 0.5, Tests: []build.TestResult{{Name: "unique(order_id)"}}},
		{Name: "recent", Kind: graph.Model, Status: build.Failed, Rows: -1, Seconds: 12, Tests: []build.TestResult{{Name: "not_null(id)", Failures: 3}, {Name: "unique(id)"}}},
		{Name: "vips", Kind: graph.Segment, Status: build.Skipped, Rows: -1, SkippedBy: "model.recent"},
		{Name: "person", Kind: graph.Entity, Status: build.OK, Rows: 7, Seconds: 1, Identity: &identity.Result{
			Merged: 3, Split: 1, Ignored: map[string]int64{"phone": 1200, "email": 1}, Unlinked: 2, Incremental: true, Read: 1500,
		}},
	}}
	want := `  node          kind       rows    time  status
  orders_clean  model    12,345  0.50 s  ok, 1 test passed
  recent        model         –  12.0 s  failed, 1 of 2 tests failed
  vips          segment       –  0.00 s  skipped because of model.recent
  person        entity        7  1.00 s  ok, 3 merged into others, 1 split off, ignored: 1 email, 1,200 phone, 2 rows without identifier, 1,500 changed rows read

2 nodes built, 1 failed, 1 skipped in 13.5 s
`
	if diff := cmp.Diff(want, drawn(func(s screen) { drawBuild(s, result) })); diff != "" {
		t.Errorf("build: -want +got:\n%s", diff)
	}
	want = `  of            test              status
  orders_clean  unique(order_id)  passed
  recent        not_null(id)      failed  3 rows
  recent        unique(id)        passed

2 passed, 1 failed
`
	if diff := cmp.Diff(want, drawn(func(s screen) { drawTests(s, result, false) })); diff != "" {
		t.Errorf("tests: -want +got:\n%s", diff)
	}
}

// someNodes is a small project's graph, parents first.
func someNodes() []*graph.Node {
	return []*graph.Node{
		{ID: "source.shop.orders", Kind: graph.Source, Name: "shop.orders"},
		{ID: "model.orders_clean", Kind: graph.Model, Name: "orders_clean", Parents: []graph.ID{"source.shop.orders"}},
		{ID: "entity.customer", Kind: graph.Entity, Name: "customer", Parents: []graph.ID{"model.orders_clean", "source.shop.orders"}},
		{ID: "sync.to_crm", Kind: graph.Sync, Name: "to_crm", Parents: []graph.ID{"entity.customer"}},
		{ID: "destination.crm", Kind: graph.Destination, Name: `a<b>&"c"`, Parents: []graph.ID{"sync.to_crm"}},
	}
}

func TestDrawGraph(t *testing.T) {
	t.Parallel()
	want := `  sources       shop.orders
  models        orders_clean  ← shop.orders
  entities      customer      ← orders_clean, shop.orders
  syncs         to_crm        ← customer
  destinations  a<b>&"c"      ← to_crm
`
	if diff := cmp.Diff(want, drawn(func(s screen) { drawGraph(s, someNodes()) })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDrawMermaid(t *testing.T) {
	t.Parallel()
	want := `flowchart LR
  n0[("shop.orders")]
  n1["orders_clean"]
  n2(["customer"])
  n3>"to_crm"]
  n4[["a<b>&#quot;c#quot;"]]
  n0 --> n1
  n1 --> n2
  n0 --> n2
  n2 --> n3
  n3 --> n4
`
	if diff := cmp.Diff(want, drawn(func(s screen) { drawMermaid(s, someNodes()) })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The SVG is XML with one titled box a node, no two of which overlap, and one line an edge.
func TestDrawSVG(t *testing.T) {
	t.Parallel()
	nodes := someNodes()
	var doc struct {
		Titles []string `xml:"g>title"`
		Paths  []struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal([]byte(drawn(func(s screen) { drawSVG(s, nodes) })), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Titles) != len(nodes) || len(doc.Paths) != 5 {
		t.Errorf("%d boxes and %d lines, want %d and 5", len(doc.Titles), len(doc.Paths), len(nodes))
	}
	boxes, width, height := layout(nodes)
	for i, a := range nodes {
		p := boxes[a.ID]
		if p.x < 0 || p.y < 0 || p.x+p.w > width || p.y+svgHeight > height {
			t.Errorf("%s lies outside: %+v of %.0f × %.0f", a.ID, p, width, height)
		}
		for _, b := range nodes[:i] {
			q := boxes[b.ID]
			if p.x < q.x+q.w && q.x < p.x+p.w && p.y < q.y+svgHeight && q.y < p.y+svgHeight {
				t.Errorf("%s and %s overlap", a.ID, b.ID)
			}
		}
	}
}

func TestProseIsWrappedIntoWhatRoomThereIs(t *testing.T) {
	t.Parallel()
	columns := []column{left("name"), prose("meaning")}
	rows := [][]string{{"settle", "How long an unanswered request may still be applied behind the endpoint."}}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, `  name    meaning
  settle  How long an unanswered request may still be applied behind the endpoint.
`},
		{50, `  name    meaning
  settle  How long an unanswered request may
          still be applied behind the endpoint.
`},
		{30, `  name    meaning            …
  settle  How long an unanswe…
`},
	} {
		var b strings.Builder
		s := screen{w: &b, width: tt.width}
		s.table(columns, rows)
		if diff := cmp.Diff(tt.want, b.String()); diff != "" {
			t.Errorf("width %d: -want +got:\n%s", tt.width, diff)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); tt.width > 0 && n > tt.width {
				t.Errorf("width %d: a line of %d: %q", tt.width, n, line)
			}
		}
	}
}
