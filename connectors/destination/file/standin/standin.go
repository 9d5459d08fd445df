// Package standin is the other side of the file destination: it reads the folder as somebody would who takes the changes in
// from there, file by file.
package standin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/dray-dev/dray/connectors/standin"
)

// reader reads what lies in the folder.
type reader struct{ dir string }

// New makes a reader; Config tells it the folder.
func New() standin.StandIn { return &reader{} }

// Handler is nil: files are not reached over HTTP.
func (r *reader) Handler() http.Handler { return nil }

// Core is nil: there are no requests.
func (r *reader) Core() *standin.Core { return nil }

// Config takes a folder as its base.
func (r *reader) Config(base string) map[string]any {
	r.dir = base
	return map[string]any{"path": base}
}

// Samples are an object like any other.
func (r *reader) Samples() []standin.Sample {
	return []standin.Sample{{
		Object: "people", Key: "email", KeyOf: func(n int) string { return fmt.Sprintf("person-%d@example.com", n) },
		Text: "note", Number: "score",
	}}
}

// Records applies the changes of all finished files, in the order of their names: run ids grow.
func (r *reader) Records(string, string) standin.Records {
	out := standin.Records{}
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "[^.]*.jsonl"))
	if err != nil {
		return out
	}
	slices.Sort(files)
	for _, file := range files {
		apply(file, out)
	}
	return out
}

func apply(file string, to standin.Records) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c struct {
			Operation string            `json:"operation"`
			Key       map[string]string `json:"key"`
			Fields    map[string]any    `json:"fields"`
		}
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		for _, key := range c.Key {
			if c.Operation == "remove" {
				delete(to, key)
			} else {
				to[key] = c.Fields
			}
		}
	}
}
