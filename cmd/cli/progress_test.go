package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/dray-dev/dray/models/build"
)

// Without a terminal nothing is drawn, and logs pass as they are.
func TestNoBarInAPipe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, false)
	p.built(build.NodeResult{Name: "orders", Status: build.Running})
	p.built(build.NodeResult{Name: "orders", Status: build.OK})
	p.Start("delivering vips", 10, nil)
	p.Add(10)
	slog.New(logHandler(p.above(), "text", slog.LevelInfo)).Info("half way")
	p.Done()
	p.stop()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "half way") {
		t.Errorf("written %q, want the log line alone", got)
	}
}

// Bars may be started, left and ended in any order, also after stop: a failing command must not hang on its progress bar.
func TestBarEndsInAnyOrder(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, true)
	p.Done()
	p.Start("one", 10, nil)
	p.Start("two", 0, nil)
	p.Add(3)
	p.Add(1 << 40)
	p.Done()
	p.Start("three", 1, nil)
	p.stop()
	p.Start("four", 1, nil)
	p.Add(1)
	p.Done()
	p.stop()
	if p.pool != nil || p.bar != nil {
		t.Error("something is drawn after stop")
	}
}
