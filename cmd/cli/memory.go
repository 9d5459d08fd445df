package cli

import (
	"os"
	"runtime/debug"
)

// TuneMemory lets the process's own memory grow to four times what is in use before garbage is collected, unless GOGC says otherwise.
// What is in use is small and does not grow with the tables, so that is some tens of megabytes; collecting at twice took a sixth of
// the processor time of a delivery (docs/performance.md).
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
}
