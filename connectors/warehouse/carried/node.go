package carried

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// Transpiler is the npm package @polyglot-sql/sdk in a process of its own, which ends with this one. Safe for concurrent use.
type Transpiler struct {
	mu    sync.Mutex
	in    io.Writer
	out   *bufio.Reader
	err   error
	last  int
	known map[string][]string
}

// ErrMissing is that node or its package is not there.
var ErrMissing = errors.New("node or the package @polyglot-sql/sdk is missing: `make carried` installs the package")

// Start starts the process; ErrMissing where it cannot.
func Start() (*Transpiler, error) {
	_, self, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(self), "node")
	cmd := exec.Command("node", "carry.js") //nolint:noctx // it ends when its standard input does, with this process
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	t := &Transpiler{in: in, out: bufio.NewReaderSize(out, 1<<20), known: map[string][]string{}}
	if _, err := t.Transpile("SELECT 1", "bigquery"); err != nil {
		_ = cmd.Wait()
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	return t, nil
}

// Transpile gives a statement in DuckDB's words, or the statements that it becomes.
func (t *Transpiler) Transpile(sql, from string) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := from + "\x00" + sql
	if out, ok := t.known[key]; ok {
		return out, nil
	}
	if t.err != nil {
		return nil, t.err
	}
	t.last++
	line, err := json.Marshal(map[string]any{"id": t.last, "sql": sql, "from": from})
	if err != nil {
		return nil, err
	}
	if _, t.err = t.in.Write(append(line, '\n')); t.err != nil {
		return nil, t.err
	}
	var answer []byte
	if answer, t.err = t.out.ReadBytes('\n'); t.err != nil {
		return nil, t.err
	}
	var a struct {
		ID    int
		SQL   []string
		Error string
	}
	if t.err = json.Unmarshal(answer, &a); t.err != nil {
		return nil, t.err
	}
	if a.ID != t.last {
		t.err = fmt.Errorf("the transpiler answered %d instead of %d", a.ID, t.last)
		return nil, t.err
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	if len(t.known) < 5000 {
		t.known[key] = a.SQL
	}
	return a.SQL, nil
}
