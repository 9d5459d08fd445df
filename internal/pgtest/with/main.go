//go:build unix

// Command with runs another with a PostgreSQL server of its own: go run ./internal/pgtest/with go test ./models/...
//
// DRAY_TEST_POSTGRES is its URL, and the tests that look at it run on the server instead of DuckDB.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/dray-dev/dray/internal/pgtest"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "with: what is to run? with COMMAND [ARGUMENTS]")
		return 2
	}
	var server pgtest.Server
	url, err := server.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		return 1
	}
	defer server.Stop()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "DRAY_TEST_POSTGRES="+url)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "with:", err)
		return 1
	}
	return 0
}
