//go:build !linux

package lab

import "syscall"

// dieWithParent has no equal outside Linux; the child ends with its context.
func dieWithParent() *syscall.SysProcAttr { return nil }
