// Package examples runs every example with the real binary against servers of the test, and compares what arrives with an
// independent computation in Go.
package examples

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/sync/report"
)

// binary is dray, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dray-examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "dray")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/dray").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building dray: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// project is a copy of an example that a test may change, with the environment its commands get.
type project struct {
	dir string
	env []string
}

// open copies examples/name without what earlier runs left there.
func open(t *testing.T, name string, env ...string) *project {
	t.Helper()
	p := &project{dir: filepath.Join(t.TempDir(), name), env: env}
	if err := os.CopyFS(p.dir, os.DirFS(name)); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{".dray", "out", name + ".duckdb", name + ".duckdb.wal"} {
		if err := os.RemoveAll(filepath.Join(p.dir, left)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// dray runs one command and returns stdout; an exit code other than want fails the test.
func (p *project) dray(t *testing.T, want int, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append(args, "--project", p.dir)...)
	cmd.Env = append(clean(os.Environ()), p.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("dray %s: %v", strings.Join(args, " "), err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("dray %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

// clean is the environment without what would point an example at a real account.
func clean(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "HUBSPOT_") && !strings.HasPrefix(e, "CAMPAIGNS_") && !strings.HasPrefix(e, "CDNOW_") && !strings.HasPrefix(e, "DRAY_") {
			out = append(out, e)
		}
	}
	return out
}

// run is `dray run`, whose syncs must all succeed; reports by sync.
func (p *project) run(t *testing.T) map[string]report.Run {
	t.Helper()
	out := p.dray(t, 0, "run", "--output", "json")
	var runs []report.Run
	if err := json.Unmarshal(out, &runs); err != nil {
		var one report.Run
		if err := json.Unmarshal(out, &one); err != nil {
			t.Fatalf("the output of run is no report: %v\n%s", err, out)
		}
		runs = []report.Run{one}
	}
	bySync := map[string]report.Run{}
	for _, r := range runs {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		if r.Status != report.Succeeded {
			t.Errorf("%s: status %s, want succeeded", r.Sync, r.Status)
		}
		bySync[r.Sync] = r
	}
	return bySync
}

// plan is `dray plan`: what each sync would send. It looks at values, too, because that reads more.
func (p *project) plan(t *testing.T) map[string]report.Counts {
	t.Helper()
	var plans []report.Plan
	if err := json.Unmarshal(p.dray(t, 0, "plan", "--output", "json", "--show-values"), &plans); err != nil {
		t.Fatalf("the output of plan is no list of plans: %v", err)
	}
	bySync := map[string]report.Counts{}
	for _, one := range plans {
		bySync[one.Sync] = report.Counts{Add: one.Add, Update: one.Update, Remove: one.Remove}
	}
	return bySync
}

// table is a CSV file: header and rows. Column finds a column's index.
type table struct {
	path   string
	header []string
	rows   [][]string
}

func (p *project) table(t *testing.T, name string) *table {
	t.Helper()
	path := filepath.Join(p.dir, "data", name)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return &table{path: path, header: all[0], rows: all[1:]}
}

func (tb *table) save(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	if err := csv.NewWriter(&b).WriteAll(append([][]string{tb.header}, tb.rows...)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tb.path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// each calls f with every row as a map.
func (tb *table) each(f func(row map[string]string)) {
	for _, r := range tb.rows {
		row := map[string]string{}
		for i, name := range tb.header {
			row[name] = r[i]
		}
		f(row)
	}
}

// set changes a column in the rows for which pick is true, and tells how many those were.
func (tb *table) set(column, value string, pick func(row map[string]string) bool) int {
	n, i := 0, 0
	tb.each(func(row map[string]string) {
		if pick(row) {
			for c, name := range tb.header {
				if name == column {
					tb.rows[i][c] = value
				}
			}
			n++
		}
		i++
	})
	return n
}

// missing tells whether a file is not there.
func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

func set(keys []string) map[string]bool {
	out := map[string]bool{}
	for _, k := range keys {
		out[k] = true
	}
	return out
}
