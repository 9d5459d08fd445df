package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/internal/diag"
)

// flags are what a user said besides names. The first group every command has; the others where a project is read, and
// where names are taken.
type flags struct {
	project    string
	target     string
	output     string
	quiet      bool
	showValues bool
	logFormat  string
	logLevel   string

	vars []string
	asOf string

	selects  []string
	excludes []string
	failed   bool
	threads  int
	failFast bool
}

func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.flags.project, "project", ".", "the directory (`DIR`) of the project")
	f.StringVar(&a.flags.target, "target", "", "the target `NAME` whose settings apply")
	f.StringVar(&a.flags.output, "output", a.flags.output, "text for people, json for one document on stdout (`FORMAT`)")
	f.BoolVar(&a.flags.quiet, "quiet", false, "say only what went wrong")
	f.BoolVar(&a.flags.showValues, "show-values", false, "show customers' values instead of hashes")
	f.StringVar(&a.flags.logFormat, "log-format", "text", "logs on stderr as text or json (`FORMAT`)")
	f.StringVar(&a.flags.logLevel, "log-level", "warn", "debug, info, warn or error (`LEVEL`)")
	f.SortFlags = false
}

// projectFlags belong to every command that reads a project.
func (a *app) projectFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&a.flags.vars, "vars", nil, "a variable `NAME=VALUE`, or a YAML or JSON map of them; may be repeated")
	cmd.Flags().StringVar(&a.flags.asOf, "as-of", "", "the clock of relative dates: a `TIME` or a date")
}

// selectFlags belong to every command that takes names.
func (a *app) selectFlags(cmd *cobra.Command) {
	a.projectFlags(cmd)
	cmd.Flags().StringArrayVar(&a.flags.selects, "select", nil, "what to take: a `SELECTOR` such as name, +name, name+, tag:x, kind:sync; may be repeated")
	cmd.Flags().StringArrayVar(&a.flags.excludes, "exclude", nil, "what to leave out (`SELECTOR`); may be repeated")
}

// workFlags belong to commands that build or deliver.
func (a *app) workFlags(cmd *cobra.Command) {
	a.selectFlags(cmd)
	cmd.Flags().IntVar(&a.flags.threads, "threads", 0, "how many at the same time (`N`; 0: what suits the machine)")
	cmd.Flags().BoolVar(&a.flags.failFast, "fail-fast", false, "stop at the first failure")
}

// start checks the global flags and opens the log; it runs before every command.
func (a *app) start() error {
	if err := oneOf("output", a.flags.output, "text", "json"); err != nil {
		a.flags.output = "text"
		return err
	}
	if err := oneOf("log-format", a.flags.logFormat, "text", "json"); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.flags.logLevel)); err != nil {
		return oneOf("log-level", a.flags.logLevel, "debug", "info", "warn", "error")
	}
	if a.flags.threads < 0 {
		return diag.Errorf(diag.Invalid, "cli.flag", "--threads must not be negative")
	}
	if a.flags.quiet {
		level = max(level, slog.LevelError)
	}
	a.progress = newProgress(a.stderr, a.err.terminal && !a.flags.quiet && !a.json())
	a.log = slog.New(logHandler(a.progress.above(), a.flags.logFormat, level))
	return nil
}

func logHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// json tells whether one JSON document is to stand on stdout.
func (a *app) json() bool { return a.flags.output == "json" }

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return diag.Errorf(diag.Invalid, "cli.flag", "--%s does not know %q", flag, value).WithHint("one of %s", strings.Join(allowed, ", "))
}

// requestedOutput finds --output before the flags are parsed.
func requestedOutput(args []string) string {
	for i, arg := range args {
		switch {
		case arg == "--":
			return "text"
		case arg == "--output=json", arg == "--output" && i+1 < len(args) && args[i+1] == "json":
			return "json"
		}
	}
	return "text"
}

// variables reads --vars: each is NAME=VALUE or a map in YAML, of which JSON is a part. Later ones win.
func variables(given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range given {
		if name, value, ok := strings.Cut(text, "="); ok && isVariable(name) {
			out[name] = value
			continue
		}
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil || len(values) == 0 {
			return nil, diag.Errorf(diag.Invalid, "cli.vars", "--vars is neither NAME=VALUE nor a map").
				WithHint(`--vars threshold=500 or --vars '{threshold: 500}'`)
		}
		for name, value := range values {
			s, err := scalar(value)
			if err != nil {
				return nil, diag.Errorf(diag.Invalid, "cli.vars", "--vars: %s %s", name, err)
			}
			out[name] = s
		}
	}
	return out, nil
}

// isVariable keeps `{a: "x=y"}` from being read as NAME=VALUE.
func isVariable(name string) bool {
	return name != "" && !strings.ContainsAny(name, "{}:\" \t\n")
}

func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool, int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	default:
		return "", fmt.Errorf("must be text, a number or a boolean")
	}
}

// path is a path that was written where the command was called.
func (a *app) path(written string) string {
	if a.dir == "" || written == "" || filepath.IsAbs(written) {
		return written
	}
	return filepath.Join(a.dir, written)
}

// projectDir is --project as an absolute path; it must be a directory.
func (a *app) projectDir() (string, error) {
	dir, err := filepath.Abs(a.path(a.flags.project))
	if err != nil {
		return "", diag.Errorf(diag.Invalid, "cli.project", "--project %s: %s", a.flags.project, err)
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return "", diag.Errorf(diag.Invalid, "cli.project", "--project %s is not a directory", a.flags.project)
	}
	return dir, nil
}
