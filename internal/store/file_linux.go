package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forget lets the next reading of f ask the device, as far as nobody else keeps
// its content in memory.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// missing is how many bytes of a sparse file's length have no place yet.
func missing(info os.FileInfo) int64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	const sector = 512 // stat(2): the unit of st_blocks
	return max(info.Size()-stat.Blocks*sector, 0)
}
