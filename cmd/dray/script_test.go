package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dray-dev/dray/internal/pgtest"
)

var server pgtest.Server

// tests are this package's, with a PostgreSQL server that those start who need one, and that goes with them.
type tests struct{ m *testing.M }

func (t tests) Run() int { return server.Main(t.m) }

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"dray": main})
}

// TestScripts drives the real main. Each file of testdata/script holds a project, commands and what they must answer.
// Besides testscript's own commands there are:
//
//	code N COMMAND…           runs a command that must exit with N; stdout and stderr are kept as after exec
//	json FILE PATH VALUE      FILE (or stdout) is one JSON document that has VALUE at PATH: .error.code, .[0].planned.add, .nodes.length
//	jsonenv NAME FILE PATH    $NAME is what FILE has at PATH
//	receiver NAME             a strict local webhook; its URL is in $NAME
//	answers NAME STATUS…      the receiver's next answers, 2xx again after that; none: 2xx from now on
//	rejects NAME KEYVALUE…    rows whose key holds the value are rejected from now on; none: nothing is
//	holds, awaits, frees NAME requests get no answer from now on; wait until one came; answer again
//	older FILE SYNC           makes the tables of SYNC in a DuckDB file those of an older Dray, and keeps the file from others for a while
//	received NAME COUNT       how many requests came since the last received
//	appears FILE…             waits until files are there
//	postgres NAME             an empty PostgreSQL database; its URL is in $NAME; the condition [postgres] says whether one can be had
//	psql URL FILE             runs a file's statements there
//	runs DIR SYNC N           waits until a sync has ended N runs more than when it was called
//	signal TERM|INT|HUP|KILL  signals what runs in the background
//	metric NAME VALUE         waits until a metric of the serve on $LISTEN has a value; +N: until it has grown by that much
//	get STATUS PATH FILE      waits until the serve on $LISTEN answers a path with a status; the answer is in FILE then
//	rows NAME FILE            the receiver's rows as they would stand there now are FILE's lines, sorted
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			address, err := freeAddress()
			if err != nil {
				return err
			}
			env.Setenv("LISTEN", address)
			receivers := map[string]*receiver{}
			env.Values[receiversKey{}] = receivers
			env.Defer(func() {
				for _, r := range receivers {
					r.server.Close()
				}
			})
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "postgres" {
				return false, fmt.Errorf("there is no condition %q", name)
			}
			_, err := server.New(t.Context())
			if err != nil && os.Getenv(pgtest.Require) == "1" {
				return false, err
			}
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     cmdCode,
			"json":     cmdJSON,
			"jsonenv":  cmdJSONEnv,
			"receiver": cmdReceiver,
			"answers":  cmdAnswers,
			"rejects":  cmdRejects,
			"holds":    cmdHolds,
			"awaits":   cmdAwaits,
			"frees":    cmdFrees,
			"received": cmdReceived,
			"rows":     cmdRows,
			"appears":  cmdAppears,
			"runs":     cmdRuns,
			"signal":   cmdSignal,
			"metric":   cmdMetric,
			"get":      cmdGet,
			"older":    cmdOlder,
			"postgres": cmdPostgres,
			"psql":     cmdPsql,
		},
	})
}

func cmdPostgres(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: postgres NAME")
	}
	url, err := server.New(context.Background())
	ts.Check(err)
	ts.Setenv(args[0], url)
}

func cmdPsql(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: psql URL FILE")
	}
	c, err := pgx.Connect(context.Background(), args[0])
	ts.Check(err)
	defer c.Close(context.Background())
	_, err = c.Exec(context.Background(), ts.ReadFile(args[1]))
	ts.Check(err)
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: json FILE PATH VALUE")
	}
	got, err := lookUp(ts, args[0], args[1])
	if err != nil {
		if neg {
			return
		}
		ts.Fatalf("%v", err)
	}
	if (got == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	}
}

func cmdJSONEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: jsonenv NAME FILE PATH")
	}
	got, err := lookUp(ts, args[1], args[2])
	ts.Check(err)
	ts.Setenv(args[0], got)
}

// lookUp reads a file that must be exactly one JSON document.
func lookUp(ts *testscript.TestScript, file, path string) (string, error) {
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	decoder.UseNumber()
	var doc any
	if err := decoder.Decode(&doc); err != nil {
		ts.Fatalf("%s is not JSON: %v", file, err)
	}
	if decoder.More() {
		ts.Fatalf("%s holds more than one JSON document", file)
	}
	return at(doc, path)
}

// at follows a path like .error.code or .[0].reasons.length and writes what it finds: text as it is, all else as compact JSON.
func at(v any, path string) (string, error) {
	for _, step := range strings.Split(strings.TrimPrefix(path, "."), ".") {
		switch in := v.(type) {
		case map[string]any:
			inner, ok := in[step]
			if !ok {
				return "", fmt.Errorf("%s: there is no %q", path, step)
			}
			v = inner
		case []any:
			if step == "length" {
				v = len(in)
				continue
			}
			i, err := strconv.Atoi(strings.Trim(step, "[]"))
			if err != nil || i < 0 || i >= len(in) {
				return "", fmt.Errorf("%s: no item %s in a list of %d", path, step, len(in))
			}
			v = in[i]
		default:
			return "", fmt.Errorf("%s: nothing below %v", path, v)
		}
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}
