//go:build unix

package run

import (
	"os/exec"
	"syscall"
)

// ownGroup makes a command and all that it starts end together when its time is over.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
