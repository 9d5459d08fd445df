package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dray-dev/dray/internal/golden"
)

// Each folder below testdata/broken is a project with something wrong, and want.txt is all that its user sees. The word in a file
// named target is the selected one.
func TestBrokenProjects(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/broken/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 40 {
		t.Fatalf("%d broken projects; the corpus is not there", len(cases))
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			_, err := Load(dir, Options{Target: targetOf(t, dir), Env: brokenEnv})
			if err == nil {
				t.Fatal("this project loads")
			}
			got := hideFolder(t, dir, err.Error())
			if strings.Contains(got, theSecret) {
				t.Errorf("a secret is shown:\n%s", got)
			}
			golden.Check(t, filepath.Join(dir, "want.txt"), []byte(got+"\n"))
		})
	}
}

const theSecret = "hunter2"

func brokenEnv(name string) (string, bool) {
	value, ok := map[string]string{"SECRET": theSecret, "EMPTY": ""}[name]
	return value, ok
}

func targetOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "target"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func hideFolder(t *testing.T, dir, text string) string {
	t.Helper()
	full, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(text, full, "PROJECT")
}
