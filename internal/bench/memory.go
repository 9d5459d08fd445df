package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime/metrics"
	"time"
)

// benchMemory delivers 1 M and 10 M rows and reports the most that the Go runtime held from the system: heap, stacks and its own
// bookkeeping, freed pages taken off, sampled every five milliseconds from the opening of the project to the end of the run.
// DuckDB's buffers are C memory and are no part of it; the server is in this process and is.
func benchMemory(ctx context.Context, l *lab) ([]result, error) {
	var results []result
	var peaks []uint64
	for _, full := range []int{1_000_000, 10_000_000} {
		n := l.rows(full)
		s, err := startSink(ctx, 0)
		if err != nil {
			return results, err
		}
		var peak uint64
		err = l.with(ctx, "id", s.url, n, func(e *engine) error {
			l.say("delivering %d rows", n)
			e.rec.off = true
			stop := watch(&peak)
			_, err := e.deliver(ctx)
			stop()
			return err
		})
		if err = errors.Join(err, s.close()); err != nil {
			return results, err
		}
		peaks = append(peaks, peak)
		results = append(results, result{
			what: fmt.Sprintf("peak memory without DuckDB's buffers, %s rows delivered", short(n)),
			ours: mebibytes(peak), target: "≤ 150 MiB", met: peak <= 150<<20,
		})
	}
	ratio := float64(peaks[1]) / float64(peaks[0])
	last := &results[len(results)-1]
	last.reference, last.ratio = mebibytes(peaks[0])+" at a tenth", fmt.Sprintf("%.2f ×", ratio)
	last.target += ", the same"
	last.met = last.met && ratio < 1.5
	return results, nil
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// watch raises peak to the most memory that the Go runtime holds, until stop is called.
func watch(peak *uint64) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(samples)
			*peak = max(*peak, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

// benchStart times the binary: `dray version`, and `dray validate` of 1,000 YAML files.
func benchStart(ctx context.Context, l *lab) ([]result, error) {
	binary, err := l.binary(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.thousandFiles(); err != nil {
		return nil, err
	}
	var results []result
	for _, c := range []struct {
		what  string
		args  []string
		limit time.Duration
	}{
		{"dray version", []string{"version"}, 100 * time.Millisecond},
		{"dray validate --offline of 1,000 YAML files", []string{"validate", "--offline", "--project", l.dir}, time.Second},
	} {
		took, err := best(tries, func() error {
			if out, err := exec.CommandContext(ctx, binary, c.args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", c.what, err, out)
			}
			return nil
		})
		if err != nil {
			return results, err
		}
		results = append(results, result{what: c.what, ours: round(took), target: "≤ " + round(c.limit), met: took <= c.limit})
	}
	return results, nil
}

// thousandFiles writes a project of a thousand YAML files, each with a model.
func (l *lab) thousandFiles() error {
	if err := l.write("dray.yaml", "name: thousand\nversion: 1\n"); err != nil {
		return err
	}
	for i := range 1000 {
		text := fmt.Sprintf("models:\n  - {name: m%d, primary_key: id, sql: \"select %d as id\"}\n", i, i)
		if i > 0 {
			text = fmt.Sprintf("models:\n  - {name: m%d, primary_key: id, sql: \"select id + 1 as id from {{ ref('m%d') }}\"}\n", i, i/2)
		}
		if err := l.write(fmt.Sprintf("models/m%d.yaml", i), text); err != nil {
			return err
		}
	}
	return nil
}
