package tor

import (
	"os/exec"
	"syscall"
)

// Execute is a Starter for processes that do not reap their children themselves, as
// process 1 must.
func Execute(c Command) (wait func() error, signal func(syscall.Signal), err error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	if c.UID != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Credential(c.UID)}
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return cmd.Wait, func(s syscall.Signal) { _ = cmd.Process.Signal(s) }, nil
}

// Credential is a user of its own group and no other.
func Credential(uid uint32) *syscall.Credential {
	return &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{}}
}
