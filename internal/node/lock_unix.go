//go:build unix

package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir makes sure that one process at a time works with the jobs in dir. The
// lock ends with the process, however that ends.
func lockDir(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "jobs.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, &InUseError{dir, err}
	}
	return f, nil
}

// InUseError says that another process works with the jobs of a folder.
type InUseError struct {
	Dir string
	Err error
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("the jobs in %s belong to another plasmd that runs: %v", e.Dir, e.Err)
}

// Unwrap gives the cause.
func (e *InUseError) Unwrap() error { return e.Err }

// Code is NODE-022.
func (*InUseError) Code() string { return "NODE-022" }

// Hint says what to do next.
func (*InUseError) Hint() string {
	return "Stop the other plasmd, or give this one a folder of its own with --state."
}
