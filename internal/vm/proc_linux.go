package vm

import "syscall"

// processAttr puts QEMU into a process group of its own, so that an interrupt
// typed at the terminal reaches only its owner, and has the kernel kill it
// when its parent dies. The signal is tied to the parent *thread*: the caller
// starts QEMU from a goroutine locked to its thread and keeps it until QEMU
// has ended.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
