package page

import (
	"os/exec"
	"syscall"
)

// setGroup makes a program and those that it starts end together. The
// browser ends by itself when its pipe does.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
