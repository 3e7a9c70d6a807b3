//go:build unix

package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const errNoSpace = syscall.ENOSPC

// openOwn opens or makes a file that no other process and no other user has a
// hand in, and locks it until it is closed: not a link, not somebody else's, not
// writable by others, without a second name, not in use.
func openOwn(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	if err := own(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func own(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || int(stat.Uid) != os.Geteuid() || stat.Nlink != 1 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: %w", f.Name(), fs.ErrPermission)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	there, err := os.Lstat(f.Name()) // it may have been renamed before the lock
	if err != nil || !os.SameFile(info, there) {
		return errors.Join(err, fs.ErrNotExist)
	}
	return nil
}

// allocated is how many bytes a file occupies.
func allocated(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(stat.Blocks) * 512
	}
	return 0
}
