//go:build unix

package store

import (
	"os"
	"syscall"
)

// lock takes an advisory lock on f that ends with the process or with f's
// last descriptor, and reports whether it was free.
func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
