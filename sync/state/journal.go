package state

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"time"
)

// Batch is a journalled batch: the rows that were meant to be sent, and what was answered.
type Batch struct {
	Seq      int64
	Page     int64
	SentAt   time.Time
	Keys     []int64
	Answered bool
	// Exceptions are the rows that were not plainly delivered, or about which more is known (a record id).
	Exceptions []Exception
}

// Exception is one row's outcome. Message has no values in it (I6).
type Exception struct {
	Row      int       `json:"i"`
	Class    string    `json:"c"`
	Code     string    `json:"o,omitempty"`
	Message  string    `json:"m,omitempty"`
	RemoteID string    `json:"r,omitempty"`
	Origin   string    `json:"g,omitempty"`
	Attempt  int       `json:"a,omitempty"`
	Until    time.Time `json:"u,omitzero"`
	Theirs   string    `json:"t,omitempty"` // names of fields
	Job      string    `json:"j,omitempty"` // that an asynchronous vendor made of the row, with its place in it
	Seq      int       `json:"s,omitempty"`
}

// Entry is one write to the journal: the answer to a batch, the intent of the next, or both at once.
type Entry struct {
	RunID  string
	Answer *Batch
	Intent *Batch
}

// Journal is what the state knows of a run whose plan is open.
type Journal struct {
	Known   bool // the journal is there, and whole but for its end
	Batches []Batch
	// Doubtful are the pages of which an intent may have been lost: those open when the machine went down, or when the last
	// entry was cut short.
	Doubtful []int64
}

// journal keeps the batches of runs until their outcomes stand in the warehouse.
type journal interface {
	open(ctx context.Context, run string) error
	openPage(ctx context.Context, run string, page int64) error
	write(ctx context.Context, e Entry) error
	read(ctx context.Context, run string) (Journal, error)
	committed(ctx context.Context, run string, pages []int64, all bool) error
	prune(ctx context.Context, before time.Time) error
	close() error
}

// OpenJournal begins a run's journal; before the warehouse is told that the run's plan is open, so that whoever finds that plan
// can tell a journal without entries from a lost one. Durable against a power cut.
func (s *State) OpenJournal(ctx context.Context, runID string) error {
	return s.wrap("writing", s.journal.open(ctx, runID))
}

// OpenPage makes durable, against a power cut too, that rows of a page may be sent from now on. In the embedded state batches
// are written without waiting for the disk, which survives the death of the process but not of the machine: after a restart of
// the machine every row of an open page that was not acknowledged counts as sent (Journal.Doubtful).
func (s *State) OpenPage(ctx context.Context, runID string, page int64) error {
	return s.wrap("writing", s.journal.openPage(ctx, runID, page))
}

// Write returns once the entry would survive a kill of this process.
func (s *State) Write(ctx context.Context, e Entry) error {
	return s.wrap("writing", s.journal.write(ctx, e))
}

// Journal reads a run's. A shared state's is readable by every machine.
func (s *State) Journal(ctx context.Context, runID string) (Journal, error) {
	j, err := s.journal.read(ctx, runID)
	return j, s.wrap("reading", err)
}

// Committed drops the journal of pages that stand in the snapshot now; all = of the whole run.
func (s *State) Committed(ctx context.Context, runID string, pages []int64, all bool) error {
	return s.wrap("writing", s.journal.committed(ctx, runID, pages, all))
}

// pack appends keys, eight bytes each.
func pack(dst []byte, keys []int64) []byte {
	for _, k := range keys {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(k)) //nolint:gosec // a bit pattern, not a number
	}
	return dst
}

func unpack(b []byte) []int64 {
	out := make([]int64, len(b)/8)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(b[8*i:])) //nolint:gosec // a bit pattern, not a number
	}
	return out
}

// bootID names this start of the machine where the system tells (Linux); elsewhere all starts look the same, and a power cut
// within a batch may then send that batch's rows without a mark.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
