package examples

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	webhook "github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/sync/report"
)

// cdnowMaster is where the whole data set may lie beside the repository; CDNOW_FILE names another place.
const cdnowMaster = "../../shared/data/cdnow/CDNOW_master.txt"

func TestCDNOWExtract(t *testing.T) {
	t.Parallel()
	testCDNOW(t, "cdnow/data/cdnow_extract.txt", cdnowWant{customers: 298, drop: 5})
}

func TestCDNOWWhole(t *testing.T) {
	t.Parallel()
	path := os.Getenv("CDNOW_FILE")
	if path == "" {
		path = cdnowMaster
	}
	if missing(path) {
		t.Skip("the whole CDNOW data set is not here; CDNOW_FILE=/path/to/CDNOW_master.txt enables this test")
	}
	testCDNOW(t, path, cdnowWant{customers: 23570, drop: 100})
}

type cdnowWant struct{ customers, drop int }

// testCDNOW loads path, runs again, changes 1 % of the purchases, and drops customers; after each step the webhook must hold
// exactly what Go computes from the file, and must have been sent exactly what differs.
func testCDNOW(t *testing.T, path string, want cdnowWant) {
	lines := readLines(t, path)
	receiver := webhook.New()
	server := httptest.NewServer(receiver.Handler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "purchases.txt")
	p := open(t, "cdnow", "CDNOW_FILE="+file, "CDNOW_URL="+server.URL+"/changes")

	// step runs the sync on the lines as they are now and compares.
	held := map[string]customer{}
	step := func(name string) report.Run {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\r\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		now := customersOf(t, lines)
		planned := difference(held, now)
		before := receiver.Core().Total()
		r := p.run(t)["customers_to_crm"]
		if r.Delivered != planned {
			t.Errorf("%s: delivered %+v, want %+v", name, r.Delivered, planned)
		}
		if r.Rows != int64(len(now)) {
			t.Errorf("%s: %d rows, want %d", name, r.Rows, len(now))
		}
		if came := receiver.Core().Total() - before; r.Requests != int64(came) {
			t.Errorf("%s: %d requests reported, %d came", name, r.Requests, came)
		}
		compareCustomers(t, name, receiver.Records("customers", ""), now)
		held = now
		return r
	}

	first := step("first load")
	if got := first.Delivered.Add; got != int64(want.customers) {
		t.Errorf("first load: %d added, want %d", got, want.customers)
	}
	again := step("again")
	if again.Requests != 0 {
		t.Errorf("nothing changed, and %d requests were sent", again.Requests)
	}

	lines = changeEveryHundredth(t, lines)
	changed := step("1 % of the purchases changed")
	if changed.Delivered.Update == 0 || changed.Delivered.Add+changed.Delivered.Remove != 0 {
		t.Errorf("1 %% changed: delivered %+v, want updates alone", changed.Delivered)
	}

	lines = dropCustomers(lines, want.drop)
	dropped := step("customers dropped")
	if got := dropped.Delivered; got != (report.Counts{Remove: int64(want.drop)}) {
		t.Errorf("customers dropped: delivered %+v, want %d removes", got, want.drop)
	}
}

// customer is one row of the sync, money in cents.
type customer struct {
	purchases, cds, cents int64
	last                  string
}

func customersOf(t *testing.T, lines []string) map[string]customer {
	t.Helper()
	out := map[string]customer{}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		c := out[f[0]]
		c.purchases++
		c.cds += number(t, f[2])
		c.cents += number(t, strings.Replace(f[3], ".", "", 1))
		c.last = max(c.last, f[1])
		out[f[0]] = c
	}
	return out
}

// difference is what a mirror must send to turn one set into the other.
func difference[V comparable](before, after map[string]V) report.Counts {
	var c report.Counts
	for key, v := range after {
		switch old, ok := before[key]; {
		case !ok:
			c.Add++
		case old != v:
			c.Update++
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			c.Remove++
		}
	}
	return c
}

func compareCustomers(t *testing.T, step string, got standin.Records, want map[string]customer) {
	t.Helper()
	wrong := 0
	fail := func(id, format string, args ...any) {
		if wrong++; wrong <= 5 {
			t.Errorf("%s: customer %s: %s", step, id, fmt.Sprintf(format, args...))
		}
	}
	for id, w := range want {
		row, ok := got[id]
		if !ok {
			fail(id, "is missing")
			continue
		}
		date := w.last[:4] + "-" + w.last[4:6] + "-" + w.last[6:]
		g := customer{whole(row["purchases"]), whole(row["cds"]), cents(row["spend"]), strings.ReplaceAll(text(row["last_purchase_on"]), "-", "")}
		if g != w || text(row["last_purchase_on"]) != date {
			fail(id, "got %v, want %+v", row, w)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			fail(id, "should not be there")
		}
	}
	if wrong > 5 {
		t.Errorf("%s: and %d more", step, wrong-5)
	}
}

// whole, cents and text read values of the JSON that arrived; a value of another type gives what no test wants.
func whole(v any) int64 {
	n, ok := v.(json.Number)
	i, err := n.Int64()
	if !ok || err != nil {
		return -1
	}
	return i
}

func cents(v any) int64 {
	n, ok := v.(json.Number)
	f, err := strconv.ParseFloat(n.String(), 64)
	if !ok || err != nil {
		return -1
	}
	return int64(f*100 + 0.5)
}

func text(v any) string { s, _ := v.(string); return s }

// changeEveryHundredth adds a CD and a dollar to each hundredth purchase.
func changeEveryHundredth(t *testing.T, lines []string) []string {
	t.Helper()
	out := append([]string(nil), lines...)
	for i := 1; i < len(out); i += 100 {
		f := strings.Fields(out[i])
		c := number(t, strings.Replace(f[3], ".", "", 1)) + 100
		out[i] = fmt.Sprintf(" %s %s %2d %4d.%02d", f[0], f[1], number(t, f[2])+1, c/100, c%100)
	}
	return out
}

// dropCustomers leaves out the last n customers of the file.
func dropCustomers(lines []string, n int) []string {
	gone := map[string]bool{}
	for i := len(lines) - 1; len(gone) < n; i-- {
		gone[strings.Fields(lines[i])[0]] = true
	}
	out := lines[:1:1]
	for _, line := range lines[1:] {
		if !gone[strings.Fields(line)[0]] {
			out = append(out, line)
		}
	}
	return out
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
