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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal ends the work in order; with the default handling back, the second one kills
	os.Exit(cli.Main(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
