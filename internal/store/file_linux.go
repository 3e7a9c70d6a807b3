package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// firstHole is where the first gap of f begins; size if that is not known.
func firstHole(f *os.File, size int64) int64 {
	// The offset that this moves is used by nobody: parts are read and written
	// at places.
	hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
	if err != nil {
		return size
	}
	return hole
}

// forget lets the next reading of f ask the device, as far as nobody else keeps
// its content in memory.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
