package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
)

// maxHookOutput is how much of a command's output goes into the log: what it said last.
const maxHookOutput = 4 << 10

// before runs the sync's hooks before anything is planned. One that fails stops the run.
func (r *one) before(ctx context.Context) error {
	h := r.sync.Config.Hooks
	if h == nil || r.retiring {
		return nil
	}
	for i, hook := range h.Before {
		if err := r.hook(ctx, hook, "before"); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &diag.Error{
				Kind: diag.Stopped, Code: "hook.failed", Pos: hook.Pos, Err: err,
				Msg:  fmt.Sprintf("%s: hook %d before the run failed; nothing was sent", r.sync.Name, i+1),
				Hint: "its output is in the log",
			}
		}
	}
	return nil
}

// after runs the sync's hooks when the run has ended, with its report. What fails is told and changes nothing: what was delivered is.
func (r *one) after(ctx context.Context) {
	if r.sync.Config == nil || r.sync.Config.Hooks == nil || r.retiring || r.part || r.o.DryRun || r.report.Status == report.Locked {
		return
	}
	for i, hook := range r.sync.Config.Hooks.After {
		if err := r.hook(ctx, hook, "after"); err != nil {
			r.log.Warn("a hook after the run failed", "sync", r.sync.Name, "run", r.holder.RunID, "hook", i+1, "error", err)
			r.report.HookErrors = append(r.report.HookErrors, fmt.Sprintf("hook %d after the run: %s", i+1, err))
		}
	}
}

func (r *one) hook(ctx context.Context, h *config.Hook, when string) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout.Duration)
	defer cancel()
	text, err := json.Marshal(r.report)
	if err != nil {
		return err
	}
	if h.URL != "" {
		return r.hookURL(ctx, h, text)
	}
	return r.hookCommand(ctx, h, when, text)
}

// hookURL posts the report. The address is named by its host alone: its path or query may be what makes it secret.
func (r *one) hookURL(ctx context.Context, h *config.Hook, text []byte) error {
	client := httpx.New(httpx.Options{Transport: r.deps.Transport, Log: r.log, UserAgent: r.deps.UserAgent, Timeout: h.Timeout.Duration})
	defer client.Close()
	_, err := client.Write(ctx, httpx.Request{
		What: "hook", Method: http.MethodPost, URL: h.URL, Body: text, Header: http.Header{"Content-Type": {"application/json"}}, Secrets: append(r.secrets(), h.URL),
	})
	return err
}

func (r *one) hookCommand(ctx context.Context, h *config.Hook, when string, text []byte) error {
	shell := []string{"/bin/sh", "-c"}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/C"}
	}
	cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], h.Run)...) //nolint:gosec // the project's own command
	cmd.Dir, cmd.Env = r.Project.Dir, append(os.Environ(), r.hookEnv(when)...)
	ownGroup(cmd)
	cmd.WaitDelay = 2 * time.Second // what it started may hold its output open
	if when == "after" {
		cmd.Stdin = bytes.NewReader(text)
	}
	out := &tail{max: maxHookOutput}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if said := strings.TrimSpace(httpx.Mask(out.String(), r.secrets())); said != "" {
		level := slog.LevelInfo
		if err != nil {
			level = slog.LevelWarn
		}
		r.log.Log(ctx, level, "output of a hook", "sync", r.sync.Name, "run", r.holder.RunID, "when", when, "output", said)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("it did not end within %s", h.Timeout)
	}
	return err
}

// hookEnv is what a command is told beside the environment of Dray: counts, never values.
func (r *one) hookEnv(when string) []string {
	rep := &r.report
	env := []string{
		"DRAY_HOOK=" + when, "DRAY_SYNC=" + r.sync.Name, "DRAY_RUN_ID=" + rep.RunID, "DRAY_PROJECT=" + r.Project.Name, "DRAY_TARGET=" + r.Project.TargetName,
		"DRAY_STATUS=running",
	}
	if when == "before" {
		return env
	}
	env[len(env)-1] = "DRAY_STATUS=" + string(rep.Status)
	for _, n := range []struct {
		name  string
		count int64
	}{
		{"EXIT_CODE", int64(rep.ExitCode)},
		{"ROWS", rep.Rows},
		{"DELIVERED", rep.Delivered.Total() + rep.Accepted.Total()},
		{"REJECTED", rep.Rejected.Total()},
		{"UNCERTAIN", rep.Uncertain.Total()},
		{"PARKED", rep.Parked.Total()},
		{"HELD", rep.Held.Total()},
		{"SKIPPED", rep.Skipped.Total()},
		{"DEFERRED", rep.Deferred.Total()},
		{"REQUESTS", rep.Requests},
	} {
		env = append(env, "DRAY_"+n.name+"="+strconv.FormatInt(n.count, 10))
	}
	return env
}

// secrets are the values of the project's destinations that no log may show, the longest first.
func (s *Session) secrets() []string {
	var out []string
	for _, n := range s.Graph.Nodes {
		if n.Kind != graph.Destination {
			continue
		}
		spec, ok := s.deps.Spec(n.Destination.Type)
		if !ok {
			continue
		}
		cfg, _ := graph.DestinationConfig(n.Destination, spec)
		for _, o := range spec.Config {
			if text := cfg.String(o.Name); o.Secret && text != "" {
				out = append(out, text)
			}
			for _, text := range cfg.Map(o.Name) { // of a map, such as headers, any value may be one
				out = append(out, text)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// tail keeps the end of what is written to it.
type tail struct {
	max  int
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - t.max; over > t.max {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text[max(0, len(t.text)-t.max):]) }
