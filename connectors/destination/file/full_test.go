package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/destination"
)

// A full disk: /dev/full takes the file's place and says ENOSPC to every write.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full, which this system does not have")
	}
	for _, format := range []string{jsonl, csv, parquet} {
		err := writeTo(t, "/dev/full", format)
		var e *destination.Error
		if !errors.As(err, &e) || e.Class != destination.Stop || e.Code != "disk_full" || e.Hint == "" {
			t.Errorf("%s: %v", format, err)
		}
	}
	if err := writeTo(t, filepath.Join(t.TempDir(), "x"), jsonl); err != nil {
		t.Errorf("the same with room on the disk: %v", err)
	}
}

// writeTo sends a run's rows to a device.
func writeTo(t *testing.T, device, format string) error {
	t.Helper()
	schema := &destination.Schema{Key: []destination.Column{{Name: "id"}}}
	b := &destination.Batch{
		Run: destination.Run{ID: "r", Sync: "s"}, Schema: schema,
		Changes: []destination.Change{{Operation: destination.OpAdd, Key: []any{strings.Repeat("x", 1<<20)}}},
	}
	w, err := os.OpenFile(device, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	dir := t.TempDir()
	f := &folder{path: "out", dir: dir, format: format, runs: map[string]*run{}}
	rows, err := newRowWriter(format, w, schema)
	if err != nil {
		return f.fault(err)
	}
	f.runs[runID(b.Run)] = &run{temp: filepath.Join(dir, "temp"), final: filepath.Join(dir, "final"), file: w, rows: rows}
	if _, err := f.Write(t.Context(), b); err != nil {
		if finishing := f.Finish(t.Context(), b.Run); finishing == nil {
			t.Errorf("%s: a run whose write failed was finished", format)
		}
		return err
	}
	if device != "/dev/full" {
		return nil
	}
	return f.Finish(t.Context(), b.Run)
}

// once fails a first write and takes the next ones: a disk on which somebody made room.
type once struct{ failed bool }

func (o *once) write(changes []destination.Change, outcomes []destination.Outcome) error {
	if !o.failed {
		o.failed = true
		return os.ErrPermission
	}
	for i := range changes {
		outcomes[i] = delivered()
	}
	return nil
}

func (o *once) close() error { return nil }

// A file that lacks a batch must never be finished.
func TestAFileThatLacksABatchIsNotFinished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &destination.Batch{Run: destination.Run{ID: "r", Sync: "s"}, Schema: &destination.Schema{}, Changes: make([]destination.Change, 1)}
	r := &run{temp: filepath.Join(dir, "temp"), final: filepath.Join(dir, "final"), rows: &once{}}
	var err error
	if r.file, err = os.Create(r.temp); err != nil {
		t.Fatal(err)
	}
	f := &folder{path: "out", dir: dir, runs: map[string]*run{runID(b.Run): r}}
	for i := range 2 {
		if _, err := f.Write(t.Context(), b); err == nil {
			t.Errorf("write %d was taken", i)
		}
	}
	if err := f.Finish(t.Context(), b.Run); err == nil {
		t.Error("the run was finished")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}
