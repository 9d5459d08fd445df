package cli

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// A process that needs more than the usual room may have half again of what it needs. Not parallel: the limit is the process's.
func TestMemoryLimitFollowsUse(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	TuneMemory()
	if got := debug.SetMemoryLimit(-1); got != roomy {
		t.Fatalf("begins with %d", got)
	}
	held := make([]byte, roomy)
	for deadline := time.Now().Add(time.Minute); debug.SetMemoryLimit(-1) < roomy*3/2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes in use, and a limit of %d", memoryInUse(), debug.SetMemoryLimit(-1))
		}
		runtime.GC()
	}
	runtime.KeepAlive(held)
	held = nil
	for deadline := time.Now().Add(time.Minute); debug.SetMemoryLimit(-1) != roomy; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes in use, and still a limit of %d", memoryInUse(), debug.SetMemoryLimit(-1))
		}
		runtime.GC()
	}
	runtime.KeepAlive(held)
}
