// Package golden compares what a test got with a file under testdata, and writes the file when the test is run with -update:
//
//	go test ./models/compile -update
//
// The flag belongs to packages that import this one, so `make golden` names them. Read the difference before committing it.
package golden

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Check fails the test where got differs from the file at path (relative to the test's folder). With -update it writes the
// file, and its folder, instead.
func Check(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		write(t, path, got)
		return
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is missing; run the test with -update to write it", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		line, g, w := firstDifference(got, want)
		t.Errorf("%s differs from line %d on (run with -update to accept):\n got: %s\nwant: %s\n\nall of it:\n%s", path, line, g, w, got)
	}
}

func write(t testing.TB, path string, got []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, got, 0o644); err != nil {
		t.Fatal(err)
	}
}

// firstDifference is the first line, from 1, in which the texts differ, with that line of each; "" past a text's end.
func firstDifference(got, want []byte) (line int, g, w string) {
	a, b := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range max(len(a), len(b)) {
		g, w = at(a, i), at(b, i)
		if g != w || i >= min(len(a), len(b)) {
			return i + 1, g, w
		}
	}
	return 0, "", ""
}

func at(lines [][]byte, i int) string {
	if i < len(lines) {
		return string(lines[i])
	}
	return ""
}
