package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget lets the next reading of f ask the device, as far as nobody else keeps
// its content in memory.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
