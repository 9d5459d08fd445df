package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dray-dev/dray/internal/diag"
)

// dray runs one command in the process.
func dray(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"versio"}, `unknown command "versio"`},
		{[]string{"version", "--nope"}, "unknown flag: --nope"},
		{[]string{"version", "-x"}, "unknown shorthand flag: 'x'"},
		{[]string{"version", "extra"}, `unknown command "extra"`},
		{[]string{"version", "--output", "xml"}, `--output does not know "xml"`},
		{[]string{"version", "--log-format", "xml"}, `--log-format does not know "xml"`},
		{[]string{"version", "--log-level", "loud"}, `--log-level does not know "loud"`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := dray(t, tt.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr %q; want 2 and %q on stderr", code, stdout, stderr, tt.want)
			}
			if slices.Contains(tt.args, "--output") {
				return
			}
			code, stdout, stderr = dray(t, append(tt.args, "--output=json")...)
			var doc struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != 2 || stderr != "" {
				t.Fatalf("in JSON: code %d, stdout %q (%v), stderr %q", code, stdout, err, stderr)
			}
			if doc.Error.Code == "" || !strings.Contains(doc.Error.Message, tt.want) {
				t.Errorf("in JSON: %+v, want a code and %q", doc.Error, tt.want)
			}
		})
	}
}

func TestProblemsInEveryForm(t *testing.T) {
	t.Parallel()
	var list diag.List
	list.Add(diag.At(diag.Pos{File: "syncs.yaml", Line: 14, Col: 11}, "sync.unknown_field", "contacts has no field %q", "ltw").WithHint("did you mean ltv?"))
	list.Add(diag.Errorf(diag.Locked, "sync.locked", "vips is locked").WithHint("try again"))
	err := fmt.Errorf("validating: %w", list.Err())

	tests := []struct {
		name           string
		flags          flags
		stdout, stderr string
	}{
		{
			name:   "text",
			flags:  flags{output: "text", logFormat: "text"},
			stderr: "error: vips is locked\n  try again\nsyncs.yaml:14:11: contacts has no field \"ltw\" (did you mean ltv?)\n2 problems\n",
		},
		{
			name:  "json",
			flags: flags{output: "json", logFormat: "text"},
			stdout: `{"error":{"code":"sync.locked","message":"vips is locked","hint":"try again"},` +
				`"errors":[{"code":"sync.locked","message":"vips is locked","hint":"try again"},` +
				`{"code":"sync.unknown_field","message":"contacts has no field \"ltw\"","hint":"did you mean ltv?","at":"syncs.yaml:14:11"}]}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			a := &app{flags: tt.flags, stdout: &out, stderr: &errs, err: screen{w: &errs}, progress: newProgress(&errs, false)}
			if code := a.fail(t.Context(), err); code != 2 {
				t.Errorf("exit code %d, want 2: an invalid project is graver than a lock", code)
			}
			if errs.String() != tt.stderr {
				t.Errorf("stderr\n%s\nwant\n%s", errs.String(), tt.stderr)
			}
			if got := compact(t, out.Bytes()); got != tt.stdout {
				t.Errorf("stdout\n%s\nwant\n%s", got, tt.stdout)
			}
		})
	}
}

func compact(t *testing.T, doc []byte) string {
	t.Helper()
	if len(doc) == 0 {
		return ""
	}
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return b.String()
}

func TestErrorsAsLogLines(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	code := Main(t.Context(), []string{"nope", "--log-format", "json"}, nil, strings.NewReader(""), &out, &errs)
	var line map[string]any
	if err := json.Unmarshal(errs.Bytes(), &line); err != nil || code != 2 {
		t.Fatalf("code %d, stderr %q: %v", code, errs.String(), err)
	}
	if line["code"] != "cli.unknown_command" || line["level"] != "ERROR" {
		t.Errorf("logged %v", line)
	}
}

func TestInterruptedExitsWith130(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := exitCode(problems(ctx, fmt.Errorf("reading: %w", ctx.Err()))); got != 130 {
		t.Errorf("exit code %d, want 130", got)
	}
	if got := exitCode(problems(t.Context(), errors.New("disk full"))); got != 1 {
		t.Errorf("exit code of an unnamed failure %d, want 1", got)
	}
}

func TestGravest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		codes []int
		want  int
	}{
		{nil, 0},
		{[]int{0, 0}, 0},
		{[]int{0, 3}, 3},
		{[]int{3, 4}, 4},
		{[]int{4, 5}, 5},
		{[]int{5, 1, 0}, 1},
		{[]int{1, 2}, 2},
		{[]int{2, 130, 1}, 130},
	} {
		if got := gravest(tt.codes); got != tt.want {
			t.Errorf("gravest(%v) = %d, want %d", tt.codes, got, tt.want)
		}
	}
}

// A fault of ours is one line that asks for a report: no stack, no values.
func TestInternalError(t *testing.T) {
	t.Parallel()
	message := func(f func()) (err error) {
		defer func() { err = internalError(recover()) }()
		f()
		return nil
	}
	err := message(func() {
		rows := make([]int, 0)
		_ = rows[3]
	})
	for _, want := range []string{"index out of range [3]", "cli/cli_test.go:", "please report it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := message(func() { panic("anna@example.com") }); strings.Contains(err.Error(), "anna") {
		t.Errorf("a panic's value is shown: %q", err)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	tests := []struct {
		given []string
		want  map[string]string
	}{
		{[]string{"a=1", "b=x=y", "a=2"}, map[string]string{"a": "2", "b": "x=y"}},
		{[]string{`{a: 1.5, b: "x=y", c: true}`}, map[string]string{"a": "1.5", "b": "x=y", "c": "true"}},
		{[]string{`{"a":"1"}`, "b="}, map[string]string{"a": "1", "b": ""}},
		{[]string{"nothing"}, nil},
		{[]string{"{a: [1]}"}, nil},
		{[]string{"{a: 1"}, nil},
	}
	for _, tt := range tests {
		got, err := variables(tt.given)
		if tt.want == nil {
			if _, ok := diag.KindOf(err); !ok {
				t.Errorf("variables(%q) = %v, %v; want a refusal", tt.given, got, err)
			}
			continue
		}
		if err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("variables(%q) = %v, %v; want %v", tt.given, got, err, tt.want)
		}
	}
}
