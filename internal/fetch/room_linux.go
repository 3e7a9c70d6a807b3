package fetch

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriting has the kernel begin to write a stretch of f to the disk. Whether
// that worked, the flush at the end tells.
func startWriting(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
