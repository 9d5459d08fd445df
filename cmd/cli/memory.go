package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// roomy is how much memory the process may hold before garbage is collected more often than growth to four times asks for.
const roomy = 96 << 20

// TuneMemory lets the process's own memory grow to four times what is in use before garbage is collected, as long as it stays below
// roomy; what is in use is mostly small and does not grow with the tables, and collecting at twice took a sixth of the processor time of
// a delivery (docs/performance.md). A large project may have half again of what it uses, so that no limit makes it do nothing but
// collect. GOGC or GOMEMLIMIT in the environment leave it all to them.
func TuneMemory() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(300)
	debug.SetMemoryLimit(roomy)
	followLive(new(collected))
}

// collected is garbage whose collection tells that one took place. It holds a pointer, so that it is an allocation of its own.
type collected struct{ _ *byte }

// followLive moves the limit with what is in use, after each collection.
func followLive(c *collected) {
	runtime.SetFinalizer(c, func(*collected) {
		debug.SetMemoryLimit(limitFor(memoryInUse()))
		followLive(new(collected))
	})
}

// memoryInUse is what the last collection left, in bytes, and what the runtime needs beside the heap.
func memoryInUse() uint64 {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"},
		{Name: "/memory/classes/other:bytes"},
		{Name: "/memory/classes/profiling/buckets:bytes"},
	}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}

func limitFor(inUse uint64) int64 {
	return int64(max(roomy, min(inUse, 1<<40)*3/2)) //nolint:gosec // at most 2^41
}
