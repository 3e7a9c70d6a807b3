//go:build unix

package translog

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes an advisory lock that ends with the process or with the
// file, whichever is first. It does not wait.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
