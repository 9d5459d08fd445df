package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dray-dev/dray/connectors/registry"
)

// patience is how long a test waits for something that comes, on a machine that is busy with others.
const patience = 2 * time.Minute

func until(ts *testscript.TestScript, what string, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not come", what)
		}
	}
}

// cmdAppears waits until files are there.
func cmdAppears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: appears FILE…")
	}
	for _, file := range args {
		until(ts, file, func() bool { _, err := os.Stat(ts.MkAbs(file)); return err == nil })
	}
}

// cmdRuns waits until a sync has ended N runs more than when it was called.
func cmdRuns(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: runs DIR SYNC N")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	first := -1
	until(ts, "a run of "+args[1], func() bool {
		ts.Check(ts.Exec("dray", "runs", args[1], "--project", args[0], "--limit", "100000", "--output", "json"))
		var runs []struct{ Status string }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &runs))
		if first < 0 {
			first = len(runs)
		}
		return len(runs) >= first+n
	})
}

// cmdSignal sends a signal to what runs in the background.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL")
	}
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(signals[args[0]]))
	}
}

// cmdMetric waits until a metric of the serve on $LISTEN has a value; or, for +N, one that much higher than when it was called.
func cmdMetric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: metric NAME VALUE|+N")
	}
	want := args[1]
	until(ts, args[0]+" "+args[1], func() bool {
		got := metric(ts, args[0])
		if by, ok := strings.CutPrefix(want, "+"); ok && got != "" {
			more, err := strconv.Atoi(by)
			ts.Check(err)
			now, err := strconv.Atoi(got)
			ts.Check(err)
			args[1], want = fmt.Sprintf("of %d at least", now+more), fmt.Sprintf("≥%d", now+more)
		}
		if least, ok := strings.CutPrefix(want, "≥"); ok {
			n, _ := strconv.Atoi(got)
			m, _ := strconv.Atoi(least)
			return n >= m
		}
		return got == want
	})
}

// metric is its value now; "" where it is not there.
func metric(ts *testscript.TestScript, name string) string {
	r, err := http.Get("http://" + ts.Getenv("LISTEN") + "/metrics")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// cmdGet waits until the serve on $LISTEN answers a path with a status, and keeps the answer.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: get STATUS PATH FILE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	until(ts, args[1]+" "+args[0], func() bool {
		r, err := http.Get("http://" + ts.Getenv("LISTEN") + args[1])
		if err != nil {
			return false
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != want {
			return false
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o600))
		return true
	})
}

// cmdOlder takes from a sync's tables what newer versions of Dray added to them. The file is this process's until serve listens.
func cmdOlder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: older FILE SYNC")
	}
	ctx := context.Background()
	w, err := registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": args[0]}, ts.MkAbs("."))
	ts.Check(err)
	for _, q := range []string{
		"ALTER TABLE dray.snapshot_" + args[1] + " DROP COLUMN theirs",
		"UPDATE dray.meta SET schema_version = 1 WHERE sync = '" + args[1] + "'",
	} {
		_, err := w.Exec(ctx, q)
		ts.Check(err)
	}
	socket := filepath.Join(ts.MkAbs("."), ".dray", "state.db.sock")
	go func() {
		defer w.Close()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if _, err := os.Stat(socket); err == nil {
				return
			}
		}
	}()
}

// freeAddress is a port of this machine that nobody has just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
