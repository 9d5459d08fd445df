package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
)

// failures remembers, for --failed, which nodes did not succeed in the last build and the last test. Syncs need no such
// memory: their runs are in the state. Losing the file costs nothing but that answer.
type failures struct {
	path      string
	ByCommand map[string][]graph.ID `json:"failed"`
}

// lastFailures reads what the project's last commands left.
func lastFailures(projectDir string) (*failures, error) {
	f := &failures{path: filepath.Join(projectDir, ".dray", "failed.json"), ByCommand: map[string][]graph.ID{}}
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, f) != nil || f.ByCommand == nil {
		f.ByCommand = map[string][]graph.ID{} // half a file, from a full disk say, is no file
	}
	return f, nil
}

// keep gives those of the nodes that did not succeed in the command's last run.
func (f *failures) keep(command string, nodes []*graph.Node) []*graph.Node {
	return slices.DeleteFunc(nodes, func(n *graph.Node) bool { return !slices.Contains(f.ByCommand[command], n.ID) })
}

// record replaces what is known of the nodes that a command just worked on; it writes only when something changed.
func (f *failures) record(command string, result build.Result) error {
	before := f.ByCommand[command]
	after := slices.Clone(before)
	for _, n := range result.Nodes {
		after = slices.DeleteFunc(after, func(id graph.ID) bool { return id == n.ID })
		if n.Status == build.Failed || n.Status == build.Skipped {
			after = append(after, n.ID)
		}
	}
	slices.Sort(after)
	if slices.Equal(before, after) {
		return nil
	}
	f.ByCommand[command] = after
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(f.path, text, 0o644)
}
