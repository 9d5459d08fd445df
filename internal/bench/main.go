// Bench measures Dray against the best hand-written equivalent in the same process, and prints the ratios with their targets
// (make bench). Times alone say little, for they are the machine's; ratios travel.
//
//	go run ./internal/bench                     everything at full size: some minutes, 10 GB of disk
//	go run ./internal/bench -scale 0.01         a hundredth of the rows
//	go run ./internal/bench -only plan,commit   some of it
//
// It exits with 1 where a target is not met at full size; smaller sizes are for trying, their ratios are shown and not judged.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/dray-dev/dray/cmd/cli"
)

func main() {
	cli.TuneMemory() // as the binary does
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(measure(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// bench is one row, or a few, of the table.
type bench struct {
	name string // for -only
	what string
	run  func(ctx context.Context, l *lab) ([]result, error)
}

func benches() []bench {
	return []bench{
		{"plan", "plan of 10 M rows × 12 columns, 1 % changed", benchPlan},
		{"plan-postgres", "plan of 1 M rows × 12 columns in PostgreSQL, 1 % changed", benchPlanPostgres},
		{"unchanged", "plan and run with nothing changed", benchUnchanged},
		{"identity", "identity of 10.1 M edges, of a chain and of a hub", benchIdentity},
		{"matching", "who is who in public sets of people, by rules", benchMatching},
		{"identity-incremental", "identity of 10.1 M edges after 10,000 new ones, against all of them", benchIncremental},
		{"delivery", "delivery to a local HTTP server", benchDelivery},
		{"commit", "commit after 1 M delivered rows", benchCommit},
		{"memory", "peak memory of delivering 1 M and 10 M rows", benchMemory},
		{"scheduler", "10,000 syncs on schedules in one process", benchScheduler},
		{"workers", "two workers on PostgreSQL, one killed", benchWorkers},
		{"start", "start of the binary", benchStart},
		{"rate", "share of a vendor's sliding window, by one process and by two", benchRate},
	}
}

// lab is what benches share.
type lab struct {
	dir   string  // of this bench alone, removed after it
	scale float64 // of the rows
	log   io.Writer
}

// rows scales a number of rows, never below a thousand.
func (l *lab) rows(full int) int { return max(int(float64(full)*l.scale), min(full, 1000)) }

// say tells what is being done; the table comes at the end.
func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, "  "+format+"\n", args...)
}

// result is one row of the table.
type result struct {
	what, ours, reference, ratio, target string
	met                                  bool
}

func measure(ctx context.Context, args []string, out, log io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(log)
	scale := flags.Float64("scale", 1, "share of the rows: 0.01 for a hundredth")
	only := flags.String("only", "", "names of benches, separated by commas: "+names())
	dir := flags.String("dir", "", "where data is made (default: a temporary folder); needs up to 10 GB")
	profile := flags.String("profile", "", "file for a processor profile of all of it")
	if flags.Parse(args) != nil {
		return 2
	}
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(log, err)
		return 2
	}
	fmt.Fprintf(out, "dray bench: %d cores, %s/%s, %s, scale %g\n", runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), *scale)
	if *profile != "" {
		stop, err := startProfile(*profile)
		if err != nil {
			fmt.Fprintln(log, "bench:", err)
			return 1
		}
		defer stop()
	}
	results, err := runAll(ctx, chosen, *dir, *scale, log)
	show(out, results)
	if err != nil {
		fmt.Fprintln(log, "bench:", err)
		return 1
	}
	if *scale >= 1 && missed(results) {
		return 1
	}
	return 0
}

func startProfile(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

func names() string {
	var all []string
	for _, b := range benches() {
		all = append(all, b.name)
	}
	return strings.Join(all, ", ")
}

func choose(only string) ([]bench, error) {
	if only == "" {
		return benches(), nil
	}
	var chosen []bench
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, b := range benches() {
			if b.name == strings.TrimSpace(name) {
				chosen, found = append(chosen, b), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no bench %q; there are %s", name, names())
		}
	}
	return chosen, nil
}

// runAll returns the results so far with the first error.
func runAll(ctx context.Context, chosen []bench, dir string, scale float64, log io.Writer) ([]result, error) {
	var results []result
	for _, b := range chosen {
		fmt.Fprintf(log, "%s\n", b.what)
		began := time.Now()
		own, err := os.MkdirTemp(dir, "dray-bench-"+b.name+"-")
		if err != nil {
			return results, err
		}
		r, err := b.run(ctx, &lab{dir: own, scale: scale, log: log})
		results = append(results, r...)
		if err = errors.Join(err, os.RemoveAll(own)); err != nil {
			return results, fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(log, "  %s\n", round(time.Since(began)))
	}
	return results, nil
}

func missed(results []result) bool {
	for _, r := range results {
		if !r.met {
			return true
		}
	}
	return false
}

func show(out io.Writer, results []result) {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"what", "ours", "reference", "ratio", "target", "met"})
	for _, r := range results {
		met := "yes"
		if !r.met {
			met = "NO"
		}
		t.AppendRow(table.Row{r.what, r.ours, r.reference, r.ratio, r.target, met})
	}
	fmt.Fprintln(out, t.Render())
}

// atMost judges a time against a reference: ours may take limit times as long.
func atMost(what string, ours, reference time.Duration, limit float64) result {
	ratio := ours.Seconds() / reference.Seconds()
	return result{what, round(ours), round(reference), fmt.Sprintf("%.2f ×", ratio), fmt.Sprintf("≤ %g ×", limit), ratio <= limit}
}

// atLeast judges a rate against a reference: ours must reach share of it.
func atLeast(what string, ours, reference, share float64) result {
	ratio := ours / reference
	return result{what, perSecond(ours), perSecond(reference), fmt.Sprintf("%.2f ×", ratio), fmt.Sprintf("≥ %g ×", share), ratio >= share}
}

func perSecond(rows float64) string { return fmt.Sprintf("%.0f k rows/s", rows/1000) }

func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// best is the shortest of n tries.
func best(n int, f func() error) (time.Duration, error) {
	var shortest time.Duration
	for i := range n {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if took := time.Since(began); i == 0 || took < shortest {
			shortest = took
		}
	}
	return shortest, nil
}

// write makes a file below the lab's folder.
func (l *lab) write(name, text string) error {
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// shown is a time against a reference that no target judges.
func shown(what string, ours, reference time.Duration) result {
	return result{what, round(ours), round(reference), fmt.Sprintf("%.2f ×", ours.Seconds()/reference.Seconds()), "", true}
}

// shownRate is the same for rates.
func shownRate(what string, ours, reference float64) result {
	return result{what, perSecond(ours), perSecond(reference), fmt.Sprintf("%.2f ×", ours/reference), "", true}
}
