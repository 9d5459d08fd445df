package registry_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dray-dev/dray/connectors/registry"
)

var update = flag.Bool("update", false, "write docs/connectors")

// docs/connectors is what the declarations say: `make docs`, or this test with -update, writes it.
func TestPagesAreUpToDate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "docs", "connectors")
	pages := registry.Pages()
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v: run make docs", err)
			continue
		}
		if diff := cmp.Diff(string(got), want); diff != "" {
			t.Errorf("%s is not up to date: run make docs (file -, declaration +)\n%s", name, diff)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := pages[e.Name()]; !ok {
			t.Errorf("%s belongs to no connector", e.Name())
		}
	}
}
