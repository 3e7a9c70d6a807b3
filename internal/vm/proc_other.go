//go:build unix && !linux

package vm

import "syscall"

// processAttr puts QEMU into a process group of its own, so that an interrupt
// typed at the terminal reaches only its owner.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
