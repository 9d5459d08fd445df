// Package leaks fails the tests of a package that leave goroutines behind. It is imported by tests only.
//
//	func TestMain(m *testing.M) { os.Exit(leaks.Check(m.Run())) }
package leaks

import (
	"fmt"
	"os"

	"go.uber.org/goleak"
)

// Check is the exit code of tests that ended with code: 1 where goroutines outlive tests that passed, which it prints.
func Check(code int) int {
	if code != 0 {
		return code
	}
	// A process that a test started and killed may be waited for a moment longer.
	if err := goleak.Find(goleak.IgnoreTopFunction("os/exec.(*Cmd).watchCtx.func1")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
