package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInitRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := dray(t, "init", dir)
	if code != 2 || !strings.Contains(stderr, "is not empty: it holds mine.txt") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
	code, _, stderr = dray(t, "init", filepath.Join(dir, "mine.txt"))
	if code != 2 || !strings.Contains(stderr, "not a directory") {
		t.Errorf("onto a file: code %d, stderr %q", code, stderr)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("init left %v (%v)", entries, err)
	}
}

func TestInitIntoAFreshRepository(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "2026 Shop!")
	if err := os.MkdirAll(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := dray(t, "init", dir)
	if code != 0 {
		t.Fatalf("code %d, stderr %q", code, stderr)
	}
	for _, next := range []string{"cd ", "dray plan", "dray run"} {
		if !strings.Contains(stdout, next) {
			t.Errorf("the output does not name %q:\n%s", next, stdout)
		}
	}
	written, err := os.ReadFile(filepath.Join(dir, "dray.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(written); !strings.Contains(text, "name: project_2026_shop\n") || strings.Contains(text, starterName) {
		t.Errorf("the project is not named after its folder:\n%s", text)
	}
	for _, file := range []string{".gitignore", "README.md", "models/orders_clean.sql", "data/orders.csv"} {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(file))); err != nil {
			t.Error(err)
		}
	}
}

func TestProjectName(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]string{
		"shop": "shop", "My Shop": "my_shop", "2026": "project_2026", "---": "project", "ærø-data": "r_data",
	} {
		if got := projectName(folder); got != want {
			t.Errorf("projectName(%q) = %q, want %q", folder, got, want)
		}
	}
}
