package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

// files is the journal of an embedded state: one file a run, to which each entry is appended by one write. A transaction of
// SQLite's for each batch took a tenth of a millisecond of processor time; this takes a hundredth of it.
//
// A file is magic, then records: length, checksum of the length, checksum of the body (4 bytes each, little-endian), body. A
// write that a kill cut short leaves a torn tail: a record whose body ends too early. What is wrong in another way was not made
// by us, and the journal counts as lost.
type files struct {
	dir string

	mu   sync.Mutex
	runs map[string]*file
}

// file is one run's journal, open for appending.
type file struct {
	mu     sync.Mutex
	f      *os.File
	size   int64
	buf    []byte
	broken error // what could not be taken back from a failed write
}

const (
	magic      = "dray journal 1\n"
	recordHead = 12
	// rewriteAt is the size from which a journal is written anew without what was committed.
	rewriteAt = 4 << 20
)

// The kinds of records, each the first byte of a body.
const (
	recordBoot   = 'b' // the machine's start, as text
	recordPage   = 'p' // a page is open
	recordEntry  = 'e' // answer and intent
	recordCommit = 'c' // pages that stand in the warehouse
)

func newFiles(dir string) *files { return &files{dir: dir, runs: map[string]*file{}} }

func (j *files) path(run string) string { return filepath.Join(j.dir, filepath.Base(run)) }

func (j *files) open(_ context.Context, run string) error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path(run), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := &file{f: f}
	err = w.append(append([]byte(magic), record(append([]byte{recordBoot}, bootID()...))...), true)
	if err == nil {
		err = syncDir(j.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs[run] = w
	return nil
}

func (j *files) of(run string) (*file, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w := j.runs[run]
	if w == nil {
		return nil, fmt.Errorf("the journal of run %s is not open", run)
	}
	return w, nil
}

func (j *files) openPage(_ context.Context, run string, page int64) error {
	w, err := j.of(run)
	if err != nil {
		return err
	}
	return w.append(record(binary.AppendVarint([]byte{recordPage}, page)), true)
}

func (j *files) write(_ context.Context, e Entry) error {
	w, err := j.of(e.RunID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.buf[:0], make([]byte, recordHead)...)
	if b, err = appendEntry(append(b, recordEntry), e); err != nil {
		return err
	}
	w.buf = b
	seal(b)
	return w.put(b, false)
}

func (w *file) append(b []byte, durable bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(b, durable)
}

// put appends by one write. What a failed one (a full disk) left there is taken back, so that the entries after it can be read.
func (w *file) put(b []byte, durable bool) error {
	if w.broken != nil {
		return w.broken
	}
	if _, err := w.f.Write(b); err != nil {
		w.broken = w.f.Truncate(w.size)
		return err
	}
	w.size += int64(len(b))
	if durable {
		return w.f.Sync()
	}
	return nil
}

// record puts a head before a body.
func record(body []byte) []byte {
	b := append(make([]byte, recordHead), body...)
	seal(b)
	return b
}

// seal fills in the head of a record.
func seal(b []byte) {
	body := b[recordHead:]
	binary.LittleEndian.PutUint32(b, uint32(min(len(body), math.MaxUint32))) //nolint:gosec // a batch has no 4 GiB
	binary.LittleEndian.PutUint32(b[4:], checksum(b[:4]))
	binary.LittleEndian.PutUint32(b[8:], checksum(body))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendEntry(b []byte, e Entry) ([]byte, error) {
	has := byte(0)
	if e.Answer != nil {
		has |= 1
	}
	if e.Intent != nil {
		has |= 2
	}
	b = append(b, has)
	if a := e.Answer; a != nil {
		var text []byte
		if len(a.Exceptions) > 0 {
			var err error
			if text, err = json.Marshal(a.Exceptions); err != nil {
				return nil, err
			}
		}
		b = binary.AppendVarint(binary.AppendVarint(b, a.Page), a.Seq)
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	if i := e.Intent; i != nil {
		b = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, i.Page), i.Seq), i.SentAt.UnixMicro())
		b = pack(binary.AppendUvarint(b, uint64(len(i.Keys))), i.Keys)
	}
	return b, nil
}

func (j *files) read(_ context.Context, run string) (Journal, error) {
	b, err := os.ReadFile(j.path(run))
	if errors.Is(err, fs.ErrNotExist) {
		return Journal{}, nil
	}
	if err != nil {
		return Journal{}, err
	}
	c, err := parse(b)
	if err != nil { // damaged, so lost
		return Journal{}, nil //nolint:nilerr // that is what Known says
	}
	out := Journal{Known: true, Batches: c.batches}
	if c.torn || c.boot != bootID() {
		out.Doubtful = c.pages
	}
	return out, nil
}

// contents are what a journal says of the pages that are not committed.
type contents struct {
	boot    string
	torn    bool
	pages   []int64
	batches []Batch
}

var errDamaged = errors.New("the journal is damaged")

// parse reads a journal. Its memory is bounded by what is not committed, and by the file, which is written anew at checkpoints.
func parse(b []byte) (contents, error) {
	var c contents
	b, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return c, errDamaged
	}
	place := map[[2]int64]int{} // page and seq → index in batches
	for first := true; len(b) > 0; first = false {
		body, rest, err := next(b)
		if err == nil && first != (body[0] == recordBoot) {
			err = errDamaged
		}
		if errors.Is(err, errTorn) && !first {
			c.torn = true
			break
		}
		if err == nil {
			err = c.take(body, place)
		}
		if err != nil {
			return c, errDamaged
		}
		b = rest
	}
	if c.boot == "" {
		return c, errDamaged
	}
	c.batches = slices.DeleteFunc(c.batches, func(b Batch) bool { return b.Keys == nil })
	return c, nil
}

var errTorn = errors.New("the journal's end is missing")

// next cuts the first record off.
func next(b []byte) (body, rest []byte, err error) {
	if len(b) < recordHead {
		return nil, nil, errTorn
	}
	if binary.LittleEndian.Uint32(b[4:]) != checksum(b[:4]) {
		return nil, nil, errDamaged
	}
	n, sum := int(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[8:])
	b = b[recordHead:]
	if len(b) < n {
		return nil, nil, errTorn
	}
	if n == 0 || checksum(b[:n]) != sum {
		return nil, nil, errDamaged
	}
	return b[:n], b[n:], nil
}

// take reads one record.
func (c *contents) take(body []byte, place map[[2]int64]int) error {
	r := &reader{b: body[1:]}
	switch body[0] {
	case recordBoot:
		c.boot = string(body[1:])
	case recordPage:
		c.pages = append(c.pages, r.number())
	case recordCommit:
		done := map[int64]bool{}
		for len(r.b) > 0 && !r.short {
			done[r.number()] = true
		}
		c.pages = slices.DeleteFunc(c.pages, func(p int64) bool { return done[p] })
		for at, i := range place {
			if done[at[0]] {
				c.batches[i] = Batch{}
				delete(place, at)
			}
		}
	case recordEntry:
		c.entry(r, place)
	default:
		return errDamaged
	}
	if r.short {
		return errDamaged
	}
	return nil
}

func (c *contents) entry(r *reader, place map[[2]int64]int) {
	has := r.take(1)
	if len(has) == 0 {
		return
	}
	if has[0]&1 != 0 {
		at := [2]int64{r.number(), r.number()}
		text := r.take(int(min(r.length(), math.MaxInt32))) //nolint:gosec // bounded
		if i, ok := place[at]; ok {
			c.batches[i].Answered = true
			if len(text) > 0 && json.Unmarshal(text, &c.batches[i].Exceptions) != nil {
				r.short = true
			}
		}
	}
	if has[0]&2 != 0 {
		b := Batch{Page: r.number(), Seq: r.number(), SentAt: time.UnixMicro(r.number()).UTC()}
		b.Keys = unpack(r.take(int(8 * min(r.length(), math.MaxInt32)))) //nolint:gosec // bounded
		place[[2]int64{b.Page, b.Seq}] = len(c.batches)
		c.batches = append(c.batches, b)
	}
}

// reader reads a body; short is set once it ends too early.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) number() int64 {
	v, n := binary.Varint(r.b)
	return v * int64(r.skip(n))
}

func (r *reader) length() uint64 {
	v, n := binary.Uvarint(r.b)
	return v * uint64(r.skip(n)) //nolint:gosec // 0 or 1
}

// skip passes over n bytes; 0 where there were none.
func (r *reader) skip(n int) int {
	if n <= 0 {
		r.short, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return 1
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (j *files) committed(_ context.Context, run string, pages []int64, all bool) error {
	if all {
		return j.drop(run)
	}
	if len(pages) == 0 {
		return nil
	}
	w, err := j.of(run)
	if err != nil {
		return err
	}
	body := []byte{recordCommit}
	for _, p := range pages {
		body = binary.AppendVarint(body, p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.put(record(body), false); err != nil || w.size < rewriteAt {
		return err
	}
	return j.rewrite(run, w)
}

// drop removes a run's journal.
func (j *files) drop(run string) error {
	j.mu.Lock()
	w := j.runs[run]
	delete(j.runs, run)
	j.mu.Unlock()
	if w != nil {
		_ = w.f.Close()
	}
	if err := os.Remove(j.path(run)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rewrite replaces a journal by what of it is not committed. With w.mu held.
func (j *files) rewrite(run string, w *file) error {
	old, err := os.ReadFile(j.path(run))
	if err != nil {
		return err
	}
	c, err := parse(old)
	if err != nil {
		return err
	}
	b := append([]byte(magic), record(append([]byte{recordBoot}, c.boot...))...)
	for _, p := range c.pages {
		b = append(b, record(binary.AppendVarint([]byte{recordPage}, p))...)
	}
	for i := range c.batches {
		e := Entry{Intent: &c.batches[i]}
		body, err := appendEntry([]byte{recordEntry}, e)
		if err != nil {
			return err
		}
		b = append(b, record(body)...)
		if !c.batches[i].Answered {
			continue
		}
		if body, err = appendEntry([]byte{recordEntry}, Entry{Answer: &c.batches[i]}); err != nil {
			return err
		}
		b = append(b, record(body)...)
	}
	beside := j.path(run) + ".new"
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(beside, j.path(run))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(beside))
	}
	_ = w.f.Close()
	w.f, w.size = f, int64(len(b))
	return syncDir(j.dir)
}

// prune removes what runs left that were never recovered, by the age of the file.
func (j *files) prune(_ context.Context, before time.Time) error {
	entries, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		info, ierr := e.Info()
		if ierr != nil || !info.ModTime().Before(before) {
			continue
		}
		if rerr := os.Remove(filepath.Join(j.dir, e.Name())); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
			err = rerr
		}
	}
	return err
}

func (j *files) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	for _, w := range j.runs {
		err = errors.Join(err, w.f.Close())
	}
	clear(j.runs)
	return err
}

// syncDir makes the names in a folder durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
