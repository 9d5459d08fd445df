package state

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// table is the journal of a shared state: a row a batch, which every machine can read. Entries of several callers share a
// transaction and its one wait for the server's disk.
type table struct {
	pool   *pgxpool.Pool
	writes chan write
	done   chan struct{}
}

// write is an entry with who waits for it.
type write struct {
	entry Entry
	done  chan error
}

func newTable(pool *pgxpool.Pool) *table {
	t := &table{pool: pool, writes: make(chan write, 64), done: make(chan struct{})}
	go t.writer()
	return t
}

// open has nothing to do: the tables are there, and a run that Begin wrote down is known.
func (t *table) open(context.Context, string) error { return nil }

// openPage has nothing to do either: each batch is durable on the server before it is sent.
func (t *table) openPage(context.Context, string, int64) error { return nil }

func (t *table) write(ctx context.Context, e Entry) error {
	w := write{entry: e, done: make(chan error, 1)}
	select {
	case t.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-w.done
}

// writer gathers what waits into one transaction.
func (t *table) writer() {
	defer close(t.done)
	for first := range t.writes {
		group := []write{first}
	gather:
		for len(group) < 64 {
			select {
			case w, ok := <-t.writes:
				if !ok {
					break gather
				}
				group = append(group, w)
			default:
				break gather
			}
		}
		err := t.writeGroup(group)
		for _, w := range group {
			w.done <- err
		}
	}
}

// tries of a write, which may find a connection that the server has closed; every statement of it can be repeated.
const tries = 3

func (t *table) writeGroup(group []write) error {
	var err error
	for try := range tries {
		if try > 0 {
			time.Sleep(time.Duration(try) * 300 * time.Millisecond)
		}
		if err = t.send(group); err == nil {
			return nil
		}
	}
	return err
}

func (t *table) send(group []write) error {
	// The journal must not be left half-written because a run is interrupted, so this does not follow a caller's context. It is
	// shorter than a lease: who cannot write must not send.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	batch := &pgx.Batch{}
	for _, w := range group {
		if b := w.entry.Answer; b != nil {
			text, err := json.Marshal(b.Exceptions)
			if err != nil {
				return err
			}
			batch.Queue("UPDATE dray_batches SET answer = $1 WHERE run_id = $2 AND page = $3 AND seq = $4", text, w.entry.RunID, b.Page, b.Seq)
		}
		if b := w.entry.Intent; b != nil {
			batch.Queue("INSERT INTO dray_batches (run_id, seq, page, sent_at, keys) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (run_id, page, seq) DO NOTHING",
				w.entry.RunID, b.Seq, b.Page, b.SentAt.UnixMicro(), pack(nil, b.Keys))
		}
	}
	return t.pool.SendBatch(ctx, batch).Close()
}

func (t *table) read(ctx context.Context, run string) (Journal, error) {
	var j Journal
	var one int
	err := t.pool.QueryRow(ctx, "SELECT 1 FROM dray_runs WHERE run_id = $1", run).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	j.Known = true
	rows, err := t.pool.Query(ctx, "SELECT seq, page, sent_at, keys, answer FROM dray_batches WHERE run_id = $1 ORDER BY seq", run)
	if err != nil {
		return j, err
	}
	defer rows.Close()
	for rows.Next() {
		var b Batch
		var at int64
		var keys, answer []byte
		if err := rows.Scan(&b.Seq, &b.Page, &at, &keys, &answer); err != nil {
			return j, err
		}
		b.SentAt, b.Keys, b.Answered = time.UnixMicro(at).UTC(), unpack(keys), answer != nil
		if b.Answered {
			if err := json.Unmarshal(answer, &b.Exceptions); err != nil {
				return j, err
			}
		}
		j.Batches = append(j.Batches, b)
	}
	return j, rows.Err()
}

func (t *table) committed(ctx context.Context, run string, pages []int64, all bool) error {
	var err error
	if all {
		_, err = t.pool.Exec(ctx, "DELETE FROM dray_batches WHERE run_id = $1", run)
	} else if len(pages) > 0 {
		_, err = t.pool.Exec(ctx, "DELETE FROM dray_batches WHERE run_id = $1 AND page = ANY($2)", run, pages)
	}
	return err
}

// prune removes what runs left that were never recovered.
func (t *table) prune(ctx context.Context, before time.Time) error {
	_, err := t.pool.Exec(ctx, "DELETE FROM dray_batches WHERE sent_at < $1", before.UnixMicro())
	return err
}

func (t *table) close() error {
	close(t.writes)
	<-t.done
	return nil
}
