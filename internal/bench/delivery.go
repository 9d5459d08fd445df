package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const batchRows = 100

// benchDelivery compares rows a second on their way to a local HTTP server with a bare loop that posts the same bytes
// ready-made. Both share the machine with the server.
func benchDelivery(ctx context.Context, l *lab) ([]result, error) {
	n := l.rows(1_000_000)
	s, err := startSink(ctx, batchRows)
	if err != nil {
		return nil, err
	}
	var results []result
	err = l.with(ctx, "id", s.url, n, func(e *engine) error {
		l.say("delivering %d rows", n)
		e.rec.off = true
		began := time.Now()
		if _, err := e.deliver(ctx); err != nil {
			return err
		}
		whole := time.Since(began)
		requests, took, used := s.span()
		if want := (n + batchRows - 1) / batchRows; requests < want {
			return fmt.Errorf("%d requests for %d rows", requests, n)
		}
		l.say("posting the same bytes, ready-made")
		bare, least, err := bareRate(ctx, s, requests)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("delivery of %s rows × 12 fields, batches of %d", short(n), batchRows)
		results = []result{
			atLeast(what+": first request to last answer", float64(n)/took.Seconds(), bare*batchRows, 0.3),
			shown(what+": processor time, both ends", used, least),
			shownRate(what+": the whole run, build to commit", float64(n)/whole.Seconds(), bare*batchRows),
		}
		return nil
	})
	return results, errors.Join(err, s.close())
}

// benchCommit compares what moves delivered rows into the snapshot with a bare INSERT … SELECT of the same rows.
func benchCommit(ctx context.Context, l *lab) ([]result, error) {
	n := l.rows(1_000_000)
	s, err := startSink(ctx, 0)
	if err != nil {
		return nil, err
	}
	var results []result
	err = l.with(ctx, "id", s.url, n, func(e *engine) error {
		l.say("delivering %d rows", n)
		if _, err := e.deliver(ctx); err != nil {
			return err
		}
		var commit time.Duration
		for _, st := range e.rec.noted("snapshot_" + syncName) {
			if strings.Contains(st.text, "INSERT INTO") {
				commit += st.took
			}
		}
		l.say("the bare statements")
		snapshot, err := e.bareInsert(ctx, "dray.snapshot_"+syncName)
		if err != nil {
			return err
		}
		deliveries, err := e.bareInsert(ctx, "dray.deliveries")
		if err != nil {
			return err
		}
		what := fmt.Sprintf("commit of %s delivered rows", short(n))
		results = []result{
			atMost(what+", snapshot and deliveries: INSERT … SELECT of the same rows", commit, snapshot+deliveries, 1.5),
			shown(what+": against the snapshot's rows alone", commit, snapshot),
		}
		return nil
	})
	return results, errors.Join(err, s.close())
}

// bareInsert is the best time of copying a table's rows into an empty one of the same columns.
func (e *engine) bareInsert(ctx context.Context, table string) (time.Duration, error) {
	w := e.rec.Warehouse
	var shortest time.Duration
	for i := range tries {
		if _, err := w.Exec(ctx, "CREATE OR REPLACE TABLE raw.bare AS SELECT * FROM "+table+" LIMIT 0"); err != nil {
			return 0, err
		}
		took, err := best(1, func() error { return w.Atomic(ctx, "INSERT INTO raw.bare SELECT * FROM "+table) })
		if err != nil {
			return 0, err
		}
		if i == 0 || took < shortest {
			shortest = took
		}
	}
	return shortest, nil
}
