package store

import (
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forget lets the next reading of f ask the device, as far as nobody else keeps
// its content in memory.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// free is how much more the file system takes from everybody, in bytes: what it
// keeps back for the superuser stays.
func (s *Store) free() (int64, error) {
	f, err := s.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &stat); err != nil {
		return 0, os.NewSyscallError("fstatfs", err)
	}
	return int64(min(stat.Bavail, math.MaxInt64/uint64(stat.Bsize))) * stat.Bsize, nil
}

// missing is how many bytes of a sparse file's length have no place yet.
func missing(info os.FileInfo) int64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	const sector = 512 // stat(2): the unit of st_blocks
	return max(info.Size()-stat.Blocks*sector, 0)
}
