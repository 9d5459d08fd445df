package state

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
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

// Entry is one write to the journal: the answer to a batch, the intent of the next, or both in one transaction.
type Entry struct {
	RunID  string
	Answer *Batch
	Intent *Batch
}

// write is an entry with who waits for it.
type write struct {
	entry Entry
	done  chan error
}

// Write returns once the entry would survive a kill of this process. Entries of several callers share a transaction.
func (s *State) Write(ctx context.Context, e Entry) error {
	w := write{entry: e, done: make(chan error, 1)}
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-w.done
}

// writer gathers what waits into one transaction: SQLite has one writer, and a commit costs more than an insert.
func (s *State) writer() {
	defer close(s.done)
	for first := range s.writes {
		group := []write{first}
	gather:
		for len(group) < 64 {
			select {
			case w, ok := <-s.writes:
				if !ok {
					break gather
				}
				group = append(group, w)
			default:
				break gather
			}
		}
		err := s.writeGroup(group)
		for _, w := range group {
			w.done <- err
		}
	}
}

func (s *State) writeGroup(group []write) error {
	// The journal must not be left half-written because a run is interrupted, so this does not follow a caller's context.
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return wrap("writing", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	insert, answer := tx.StmtContext(ctx, s.insert), tx.StmtContext(ctx, s.answer)
	defer insert.Close()
	defer answer.Close()
	for _, w := range group {
		if b := w.entry.Answer; b != nil {
			blob, err := json.Marshal(b.Exceptions)
			if err != nil {
				return err
			}
			if _, err := answer.ExecContext(ctx, blob, w.entry.RunID, b.Page, b.Seq); err != nil {
				return wrap("writing", err)
			}
		}
		if b := w.entry.Intent; b != nil {
			if _, err := insert.ExecContext(ctx, w.entry.RunID, b.Seq, b.Page, b.SentAt.UnixMicro(), pack(b.Keys)); err != nil {
				return wrap("writing", err)
			}
		}
	}
	return wrap("writing", tx.Commit())
}

// OpenPage makes durable, against a power cut too, that rows of a page may be sent from now on. Batches are written without
// waiting for the disk, which survives the death of the process but not of the machine: after a restart of the machine every
// row of an open page that was not acknowledged counts as sent (see Uncommitted).
func (s *State) OpenPage(ctx context.Context, runID string, page int64) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return wrap("writing", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return wrap("writing", err)
	}
	_, err = conn.ExecContext(ctx, "INSERT INTO pages VALUES (?, ?, ?) ON CONFLICT DO NOTHING", runID, page, bootID())
	if _, perr := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = NORMAL"); err == nil {
		err = perr
	}
	return wrap("writing", err)
}

// Journal is what the state knows of a run whose plan is open.
type Journal struct {
	Known   bool // the run was begun by this state
	Batches []Batch
	// Rebooted are the pages that were open when the machine went down: what of them was intended may have been lost.
	Rebooted []int64
}

// Journal reads it.
func (s *State) Journal(ctx context.Context, runID string) (Journal, error) {
	var j Journal
	var one int
	err := s.db.QueryRowContext(ctx, "SELECT 1 FROM runs WHERE run_id = ?", runID).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return j, nil
	}
	if err != nil {
		return j, wrap("reading", err)
	}
	j.Known = true
	if err := s.batches(ctx, runID, &j); err != nil {
		return j, wrap("reading", err)
	}
	return j, wrap("reading", s.rebooted(ctx, runID, &j))
}

func (s *State) batches(ctx context.Context, runID string, j *Journal) error {
	rows, err := s.db.QueryContext(ctx, "SELECT seq, page, sent_at, keys, answer FROM batches WHERE run_id = ? ORDER BY seq", runID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b Batch
		var at int64
		var keys, answer []byte
		if err := rows.Scan(&b.Seq, &b.Page, &at, &keys, &answer); err != nil {
			return err
		}
		b.SentAt, b.Keys, b.Answered = time.UnixMicro(at).UTC(), unpack(keys), answer != nil
		if b.Answered {
			if err := json.Unmarshal(answer, &b.Exceptions); err != nil {
				return err
			}
		}
		j.Batches = append(j.Batches, b)
	}
	return rows.Err()
}

func (s *State) rebooted(ctx context.Context, runID string, j *Journal) error {
	rows, err := s.db.QueryContext(ctx, "SELECT page FROM pages WHERE run_id = ? AND boot <> ?", runID, bootID())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var page int64
		if err := rows.Scan(&page); err != nil {
			return err
		}
		j.Rebooted = append(j.Rebooted, page)
	}
	return rows.Err()
}

// Committed drops the journal of pages that stand in the snapshot now; all = of the whole run.
func (s *State) Committed(ctx context.Context, runID string, pages []int64, all bool) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return wrap("writing", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	for _, table := range []string{"batches", "pages"} {
		if all {
			_, err = tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE run_id = ?", runID)
		}
		for _, page := range pages {
			if all || err != nil {
				break
			}
			_, err = tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE run_id = ? AND page = ?", runID, page)
		}
		if err != nil {
			return wrap("writing", err)
		}
	}
	return wrap("writing", tx.Commit())
}

func pack(keys []int64) []byte {
	out := make([]byte, 8*len(keys))
	for i, k := range keys {
		binary.LittleEndian.PutUint64(out[8*i:], uint64(k)) //nolint:gosec // a bit pattern, not a number
	}
	return out
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
