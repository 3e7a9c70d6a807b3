package store

import (
	"os"
	"syscall"
)

// seekHole is SEEK_HOLE of lseek(2).
const seekHole = 4

// firstHole is where the first gap of f begins; size if that is not known.
func firstHole(f *os.File, size int64) int64 {
	// The offset that this moves is used by nobody: parts are read and written
	// at places.
	hole, err := syscall.Seek(int(f.Fd()), 0, seekHole)
	if err != nil {
		return size
	}
	return hole
}
