package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// binary builds the binary from the sources that this bench was built from, and returns its path: one that lies about may be older.
func (l *lab) binary(ctx context.Context) (string, error) {
	path := filepath.Join(l.dir, "bin", "dray")
	if _, err := os.Stat(path); err == nil { // built by this process: l.dir is its own
		return path, nil
	}
	l.say("building the binary")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/dray-dev/dray/cmd/dray")
	c.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the binary (the bench runs inside the module): %w\n%s", err, out)
	}
	return path, nil
}
