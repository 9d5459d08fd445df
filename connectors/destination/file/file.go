package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
)

// unfinished ends the name of a file that is being written.
const unfinished = ".unfinished"

// folder is an open destination.
type folder struct {
	path    string // as configured: the account's id
	dir     string // absolute
	format  string
	project string

	mu   sync.Mutex
	runs map[string]*run // by run id and sync
}

// run is a file being written.
type run struct {
	temp, final string
	file        *os.File
	rows        rowWriter
	broken      bool // a write failed: the file cannot be finished
}

// Open checks the configuration; the folder is made when the first row is written.
func (Connector) Open(_ context.Context, cfg destination.Config, env destination.Env) (destination.Destination, error) {
	f := &folder{path: cfg.String("path"), format: cfg.String("format"), project: env.Project, runs: map[string]*run{}}
	if f.path == "" {
		return nil, diag.Errorf(diag.Invalid, "destination.option", "file: path is missing").WithHint("add the folder to write to: path: out")
	}
	if f.format == "" {
		f.format = jsonl
	}
	if f.format != jsonl && f.format != csv && f.format != parquet {
		return nil, diag.Errorf(diag.Invalid, "destination.option", "file: there is no format %q", f.format).
			WithHint("it is one of jsonl, csv, parquet")
	}
	f.dir = f.path
	if !filepath.IsAbs(f.dir) {
		f.dir = filepath.Join(env.Dir, f.dir)
	}
	return f, nil
}

// Check proves that the folder, or the one it would be made in, can be written to. What it makes for that it takes away again.
func (f *folder) Check(context.Context) (destination.Account, error) {
	dir := f.dir
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return destination.Account{}, f.fault(fmt.Errorf("%s: %w", filepath.Base(dir), syscall.ENOTDIR))
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return destination.Account{}, f.fault(err)
		}
		dir = parent
	}
	probe, err := os.CreateTemp(dir, ".dray-*"+unfinished)
	if err != nil {
		return destination.Account{}, f.fault(err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return destination.Account{}, f.fault(err)
	}
	id := "file:" + filepath.ToSlash(filepath.Clean(f.path))
	return destination.Account{ID: id, Name: f.path}, nil
}

// TakesJSON: lines of JSON need no values, the other formats do.
func (f *folder) TakesJSON(string) bool { return f.format == jsonl }

// Write appends a batch to the run's file. The outcomes are provisional until Finish.
func (f *folder) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, &destination.Error{Class: destination.Retry, Code: "canceled", Message: "interrupted", Err: err}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.open(b)
	if err != nil {
		return nil, f.fault(err)
	}
	if r.broken {
		return nil, f.fault(errors.New("an earlier batch of this run could not be written"))
	}
	outcomes := make([]destination.Outcome, len(b.Changes))
	if err := r.rows.write(b.Changes, outcomes); err != nil {
		r.broken = true
		return nil, f.fault(err)
	}
	return outcomes, nil
}

// open finds the run's file, or makes it. What killed runs of the same sync left is removed: the sync's lock is ours (I5).
func (f *folder) open(b *destination.Batch) (*run, error) {
	id := runID(b.Run)
	if r, ok := f.runs[id]; ok {
		return r, nil
	}
	dir := filepath.Join(f.dir, b.Run.Sync)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := f.removeStale(dir); err != nil {
		return nil, err
	}
	name := b.Run.ID + "." + f.format
	r := &run{temp: filepath.Join(dir, "."+f.stem()+name+unfinished), final: filepath.Join(dir, name)}
	var err error
	if r.file, err = os.OpenFile(r.temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	if r.rows, err = newRowWriter(f.format, r.file, b.Schema); err != nil {
		r.discard()
		return nil, err
	}
	f.runs[id] = r
	return r, nil
}

// stem keeps the hidden files of projects apart that write into one folder.
func (f *folder) stem() string {
	if f.project == "" {
		return ""
	}
	return f.project + "."
}

func (f *folder) removeStale(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+f.stem()) && strings.HasSuffix(e.Name(), unfinished) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Finish puts the run's file in its place: after it has returned nil the rows are on the disk under the final name.
func (f *folder) Finish(_ context.Context, of destination.Run) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.runs[runID(of)]
	if !ok {
		return nil
	}
	delete(f.runs, runID(of))
	if r.broken {
		r.discard()
		return f.fault(errors.New("a batch of this run could not be written"))
	}
	if err := r.publish(); err != nil {
		r.discard()
		return f.fault(err)
	}
	return nil
}

// Abort takes the run's unfinished file away.
func (f *folder) Abort(_ context.Context, of destination.Run) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.runs[runID(of)]; ok {
		delete(f.runs, runID(of))
		r.discard()
	}
	return nil
}

// Close takes away what was not finished.
func (f *folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, r := range f.runs {
		delete(f.runs, id)
		r.discard()
	}
	return nil
}

func runID(r destination.Run) string { return r.Sync + "/" + r.ID }

func (r *run) publish() error {
	if err := r.rows.close(); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := r.file.Close(); err != nil {
		return err
	}
	final, err := free(r.final)
	if err != nil {
		return err
	}
	if err := os.Rename(r.temp, final); err != nil {
		return err
	}
	return syncDir(filepath.Dir(final))
}

func (r *run) discard() {
	_ = r.file.Close() // may be closed already; the file goes anyway
	_ = os.Remove(r.temp)
}

// free finds a name that does not exist yet: a run that was taken up again must not replace what it had delivered.
func free(final string) (string, error) {
	name, ext := strings.TrimSuffix(final, filepath.Ext(final)), filepath.Ext(final)
	for n := 2; ; n++ {
		_, err := os.Lstat(final)
		if errors.Is(err, fs.ErrNotExist) {
			return final, nil
		}
		if err != nil {
			return "", err
		}
		final = fmt.Sprintf("%s-%d%s", name, n, ext)
	}
}

// syncDir makes a rename durable. File systems that cannot flush a folder do it by themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// fault says what is wrong with the folder and the way out; nothing of the run is there then.
func (f *folder) fault(err error) *destination.Error {
	var already *destination.Error
	if errors.As(err, &already) {
		return already
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &destination.Error{Class: destination.Stop, Code: "file_unwritable", Message: "cannot write to the folder " + f.path + ": " + err.Error(), Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Code, e.Message, e.Hint = "disk_full", "no space left for the folder "+f.path, "free some space, then run again: nothing was delivered"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Hint = "make the folder writable for this user, or choose another path"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		e.Hint = "path must be a folder; a file is in its place"
	}
	return e
}
