package lab

import "syscall"

// dieWithParent ends the child when this process dies in whatever way.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
