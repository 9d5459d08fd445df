// Package arch holds the order of the layers: a test reads the imports of every package and fails where one points up or
// sideways.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dray-dev/dray/"

// layers runs from the top down. A package imports only from later entries; packages in one entry never import each other.
// A star stands for one path element.
func layers() []string {
	return []string{
		"examples/demo internal/bench internal/pgtest/with", // programs that drive the whole, or the tests
		"cmd/dray", "cmd/cli", "cmd/api",
		"connectors/registry", // alone knows concrete connectors
		"sync/schedule connectors/sandbox connectors/warehouse/conformance connectors/destination/conformance",
		"connectors/warehouse/carried", // another engine's dialect on DuckDB, for the tests
		"sync/alert",
		"sync/run",
		"sync/commit", "sync/deliver", "sync/guard", "sync/ledger", "sync/plan", "sync/state", // a step knows the steps before it
		"sync/report", // what every step's counts are
		"models/build", "models/compile", "models/segment", "models/profile", "models/identity", "models/graph", "models/dbt", "models/lineage", "models/jinja",
		"connectors/warehouse/* connectors/destination/* connectors/destination/*/standin", // never each other
		"connectors/encode",
		"connectors/destination",
		"connectors/warehouse connectors/httpx connectors/standin config",
		"examples/shop/gen", // shares no code with what it is for
		"internal/*",
	}
}

// knowConcrete are the packages that may import a concrete connector.
const knowConcrete = "connectors/registry connectors/warehouse/conformance connectors/warehouse/carried examples/demo internal/bench"

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	imports := importsOf(t, "../..")
	if len(imports) < 10 {
		t.Fatalf("only %d packages found: is this the module's root?", len(imports))
	}
	problems := check(imports)
	slices.Sort(problems)
	for _, problem := range slices.Compact(problems) {
		t.Error(problem)
	}
}

func TestCheckFindsWhatIsForbidden(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from, to string
		wrong    bool
	}{
		"down":                {"sync/run", "sync/plan", false},
		"up":                  {"sync/plan", "sync/run", true},
		"sideways":            {"connectors/httpx", "config", true},
		"connectors":          {"connectors/destination/a", "connectors/destination/b", true},
		"stand-in":            {"connectors/destination/a/standin", "connectors/destination/a", true},
		"concrete by engine":  {"sync/deliver", "connectors/destination/a", true},
		"concrete by the one": {"connectors/registry", "connectors/destination/a", false},
		"not in the list":     {"util", "config", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems := check(map[string][]string{tt.from: {tt.to}})
			if got := len(problems) > 0; got != tt.wrong {
				t.Errorf("%s importing %s: problems %v, want any: %v", tt.from, tt.to, problems, tt.wrong)
			}
		})
	}
}

// check says what is wrong with the imports of each package, all paths without the module's.
func check(imports map[string][]string) []string {
	var problems []string
	for from, tos := range imports {
		upper := layerOf(from)
		if upper < 0 {
			problems = append(problems, from+" is in no layer: give it an entry")
			continue
		}
		for _, to := range tos {
			lower := layerOf(to)
			switch {
			case lower < 0:
				problems = append(problems, to+" is in no layer: give it an entry")
			case lower <= upper:
				problems = append(problems, from+" imports "+to+", which is not below it")
			case isConcrete(to) && !in(knowConcrete, from):
				problems = append(problems, from+" imports "+to+": only "+knowConcrete+" may")
			}
		}
	}
	return problems
}

func isConcrete(pkg string) bool {
	return in("connectors/warehouse/* connectors/destination/* connectors/destination/*/standin", pkg) && path.Base(pkg) != "conformance"
}

// layerOf is the index of the first entry that names pkg; -1 for none.
func layerOf(pkg string) int {
	for i, entry := range layers() {
		if in(entry, pkg) {
			return i
		}
	}
	return -1
}

// in tells whether one of the patterns matches pkg.
func in(patterns, pkg string) bool {
	for _, pattern := range strings.Fields(patterns) {
		if ok, err := path.Match(pattern, pkg); err == nil && ok {
			return true
		}
	}
	return false
}

// importsOf reads the imports, within this module, of all files below root that are no tests.
func importsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		imports[pkg] = append(imports[pkg], nil...)
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(name, module); ok {
				imports[pkg] = append(imports[pkg], own)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}
