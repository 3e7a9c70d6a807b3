//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// openFlags make opening safe whatever lies under a name: nobody waits for the
// other end of a pipe, and no terminal becomes the controlling one.
const openFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY

// locksExist says whether tryLock can ever fail for another's sake.
const locksExist = true

// tryLock takes an advisory lock on f that ends with the process or with f's
// last descriptor, and reports whether it was free.
func tryLock(f *os.File) (bool, error) { return try(f, syscall.LOCK_EX) }

// unlocked reports whether nobody has the lock of tryLock on f, which need only be
// open for reading. On NFS that is not enough for a lock like his (flock(2)).
func unlocked(f *os.File) (bool, error) { return try(f, syscall.LOCK_SH) }

func try(f *os.File, how int) (bool, error) {
	err := flock(f, how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// waitLock is tryLock that waits, for ever if need be.
func waitLock(f *os.File) error { return flock(f, syscall.LOCK_EX) }

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink)
	}
	return 1
}

// onDisk is how many bytes of its medium a file occupies.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512 // inode(7): in units of 512 bytes everywhere
	}
	return info.Size()
}
