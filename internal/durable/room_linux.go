package durable

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// FreeSpace is how many bytes the file system of f still takes from everybody: what it
// keeps back for the superuser stays. known is false where it does not say, as file
// systems in memory without a limit do not.
func FreeSpace(f *os.File) (bytes int64, known bool) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil || s.Blocks == 0 || s.Bsize <= 0 {
		return 0, false
	}
	return int64(min(s.Bavail, math.MaxInt64/uint64(s.Bsize))) * int64(s.Bsize), true
}
