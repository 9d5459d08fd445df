// Package cli is the command line: flags in, reports out.
//
// One file a command turns flags into a call of sync/run and hands the result to a view (view_*.go), which shows it as text
// for people or as one JSON document for machines. Nothing is opened before a command needs it. Every path ends in one exit
// code (DESIGN §9), and no path ends in a stack trace.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/trace"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/run"
)

// Main runs one command and returns the process's exit code. args and env are those of os.Args[1:] and os.Environ(); a
// cancelled ctx interrupts the command in order.
func Main(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(args, env, stdin, stdout, stderr).run(ctx)
}

func newApp(args, env []string, stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{
		args:    args,
		environ: env,
		env:     environment(env),
		in:      stdin,
		stdout:  stdout,
		stderr:  stderr,
		now:     time.Now,
	}
	// Flags that do not parse must still be answered in the form that was asked for.
	a.flags.output = requestedOutput(args)
	a.out = newScreen(stdout, a.env)
	a.err = newScreen(stderr, a.env)
	a.log = slog.New(slog.DiscardHandler)
	a.progress = newProgress(stderr, false)
	return a
}

func (a *app) run(ctx context.Context) (code int) {
	defer func() {
		if p := recover(); p != nil {
			code = a.fail(ctx, internalError(p))
		}
	}()
	if a.err.terminal {
		told := context.AfterFunc(ctx, func() { a.err.line("interrupted: waiting for what is under way; once more stops at once") })
		defer told()
	}
	root := a.root()
	root.SetArgs(a.args)
	root.SetIn(a.in)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	ctx, flush := a.startTraces(ctx)
	defer flush()
	err := root.ExecuteContext(ctx)
	var elsewhere *exited
	if errors.As(err, &elsewhere) {
		return elsewhere.code
	}
	if err != nil {
		return a.fail(ctx, err)
	}
	return a.code
}

// app is one invocation: its streams, flags and, for commands that end without an error but not with 0, its exit code.
type app struct {
	args, environ  []string // as Main got them
	env            func(string) (string, bool)
	in             io.Reader
	stdout, stderr io.Writer
	out, err       screen
	now            func() time.Time
	flags          flags
	log            *slog.Logger
	progress       *progress
	tracer         trace.Tracer // nil = no traces
	code           int

	// Of a command that serve does for another process: what it shares, where that process is, and who must hear that the
	// control state was changed.
	host    *run.Host
	dir     string
	changed func()
}

// root builds the command tree. It opens nothing.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dray",
		Short: "Deliver what your warehouse knows to the tools that use it",
		Long: `Dray turns models in your warehouse into golden records and segments, compares them with what every tool
already has, and delivers only the difference.

Start with:  dray init shop && cd shop && dray run`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              unknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetContext(warehouse.Label(cmd.Context(), "command", cmd.Name()))
			return a.start()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError(cmd, err)
	})
	a.globalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupProject, Title: "Project"},
		&cobra.Group{ID: groupDeliver, Title: "Build and deliver"},
		&cobra.Group{ID: groupLook, Title: "Look"},
		&cobra.Group{ID: groupTools, Title: "Tools"},
	)
	root.SetHelpCommandGroupID(groupTools)
	a.addCommands(root)
	return root
}

// The groups of `dray --help`.
const (
	groupProject = "project"
	groupDeliver = "deliver"
	groupLook    = "look"
	groupTools   = "tools"
)

// flagError says which flag was meant, where one is near.
func flagError(cmd *cobra.Command, err error) error {
	e := diag.Errorf(diag.Invalid, "cli.flag", "%s", err)
	var value *pflag.InvalidValueError
	if errors.As(err, &value) { // the library quotes Go's parser
		e.Msg = fmt.Sprintf("--%s does not take %q: %s", value.GetFlag().Name, value.GetValue(), wanted(value.GetFlag().Value.Type()))
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := config.Suggest(unknown.GetSpecifiedName(), names); near != "" {
			return e.WithHint("did you mean --%s?", near)
		}
	}
	return e.WithHint("see %s --help", cmd.CommandPath())
}

// wanted says what a flag's type takes.
func wanted(typ string) string {
	switch typ {
	case "int", "int64":
		return "it wants a whole number"
	case "bool":
		return "it is on or left out"
	default:
		return "it wants a " + typ
	}
}

// unknownCommand refuses words after `dray` that are no command.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := diag.Errorf(diag.Invalid, "cli.unknown_command", "unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return e.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return e.WithHint("dray --help lists the commands")
}

// usage wraps a cobra argument check so that its refusal reads like every other error.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return diag.Errorf(diag.Invalid, "cli.arguments", "%s", err).WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// environment indexes KEY=value lines.
func environment(env []string) func(string) (string, bool) {
	values := make(map[string]string, len(env))
	for _, line := range env {
		if name, value, ok := strings.Cut(line, "="); ok {
			values[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

// internalError says where a panic came from without its values or its stack: either may hold what must not be shown (I6).
func internalError(p any) error {
	what := "panic"
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	e := diag.Errorf(diag.Failed, "internal", "internal error: %s%s", what, panicPlace())
	return e.WithHint("this is a fault in Dray: please report it at https://github.com/dray-dev/dray/issues with this line, the command and the output of dray version")
}

// panicPlace is " at folder/file.go:line" of the function that panicked, "" when it cannot be told. It is called while the
// panic is being recovered, when its frames are still on the stack.
func panicPlace() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	panicking := false
	for {
		frame, more := frames.Next()
		switch {
		case strings.HasPrefix(frame.Function, "runtime."):
			panicking = panicking || frame.Function == "runtime.gopanic"
		case panicking:
			dir, file := filepath.Split(frame.File)
			return fmt.Sprintf(" at %s/%s:%d", filepath.Base(dir), file, frame.Line)
		}
		if !more {
			return ""
		}
	}
}
