package duckdb

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// TestHolder is no test: another process runs it to hold a file until its standard input ends.
func TestHolder(t *testing.T) {
	file := os.Getenv("DRAY_TEST_HOLDS")
	if file == "" {
		t.Skip("run by TestHeldByAnotherProcess, which sets DRAY_TEST_HOLDS")
	}
	w, err := Open(t.Context(), map[string]any{"path": file}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	_, _ = os.Stdout.WriteString("holding\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// A file that another process has open is a clear error, which names that process; it opens once the other is gone.
func TestHeldByAnotherProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shop.duckdb")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	holder := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestHolder$") //nolint:gosec // this test's own binary
	holder.Env = append(os.Environ(), "DRAY_TEST_HOLDS="+file)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "holding\n" {
		t.Fatalf("the holder said %q, %v", line, err)
	}
	_, err = Open(t.Context(), map[string]any{"path": file, "wait": "0s"}, "")
	if !errors.Is(err, warehouse.ErrLocked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(holder.Process.Pid)) {
		t.Errorf("got %v; want an error that names process %d", err, holder.Process.Pid)
	}
	_ = in.Close()
	if err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	w, err := Open(t.Context(), map[string]any{"path": file, "wait": "0s"}, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
}

// Memory and threads are what the options say.
func TestLimits(t *testing.T) {
	t.Parallel()
	w, err := Open(t.Context(), map[string]any{"path": "l.duckdb", "memory_limit": "512MiB", "threads": 1}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if got := one(t, w, "SELECT current_setting('memory_limit') || ' ' || current_setting('threads')"); got != "512.0 MiB 1" {
		t.Fatalf("got %v", got)
	}
}

// A file in another encoding is read as its option says.
func TestEncoding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "people.csv")
	if err := os.WriteFile(path, []byte("name\nJ\xf8rgen\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := Open(t.Context(), map[string]any{"path": "l.duckdb"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	from, err := w.Dialect().ReadFile(warehouse.File{Path: path, Encoding: "latin-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := one(t, w, "SELECT name FROM "+from); got != "Jørgen" {
		t.Fatalf("got %v", got)
	}
}

// one is the only value of a query.
func one(t *testing.T, w *Warehouse, sql string) any {
	t.Helper()
	rows, err := w.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatalf("no row: %v", rows.Err())
	}
	v, err := rows.Values()
	if err != nil {
		t.Fatal(err)
	}
	return v[0]
}

// What is attached can be read and not written.
func TestAttached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crm, err := Open(t.Context(), map[string]any{"path": "crm.duckdb"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crm.Exec(t.Context(), "CREATE TABLE people AS SELECT 7 AS id"); err != nil {
		t.Fatal(err)
	}
	_ = crm.Close()
	w, err := Open(t.Context(), map[string]any{"path": "l.duckdb", "attach": map[string]any{"crm": "crm.duckdb"}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if got := one(t, w, "SELECT id FROM crm.main.people"); got != int64(7) {
		t.Fatalf("got %v", got)
	}
	if _, err := w.Exec(t.Context(), "INSERT INTO crm.main.people VALUES (8)"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Fatalf("got %v", err)
	}
	if there, err := w.Exists(t.Context(), warehouse.Table{Schema: "main", Name: "people"}); err != nil || there {
		t.Fatalf("a table of the attached file was taken for an own one: %t, %v", there, err)
	}
}
