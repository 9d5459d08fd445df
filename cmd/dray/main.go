// Command dray delivers what a warehouse knows to the tools that use it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dray-dev/dray/cmd/cli"
)

func main() {
	cli.TuneMemory()
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		first := <-signals
		signal.Stop(signals) // the first signal ends the work in order; with the default handling back, the second one kills
		if first == syscall.SIGTERM {
			cancel(cli.ErrTerminated)
		}
		cancel(context.Canceled)
	}()
	os.Exit(cli.Main(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
