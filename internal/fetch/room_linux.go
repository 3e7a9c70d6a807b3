package fetch

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes the file system of f still takes.
func freeSpace(f *os.File) (int64, bool) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil || s.Blocks == 0 {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}

// startWriting has the kernel begin to write a stretch of f to the disk. Whether
// that worked, the flush at the end tells.
func startWriting(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
