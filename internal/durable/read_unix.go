//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// openForReading waits for no pipe, makes no terminal the controlling one, and
// follows no link unless told to.
func openForReading(path string, links Links) (*os.File, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY
	if links == RefuseLinks {
		flags |= syscall.O_NOFOLLOW
	}
	file, err := os.OpenFile(path, flags, 0)
	if links == RefuseLinks && errors.Is(err, syscall.ELOOP) {
		return nil, notRegular(path, fs.ModeSymlink)
	}
	if errors.Is(err, syscall.ENXIO) {
		return nil, notRegular(path, fs.ModeSocket)
	}
	return file, err
}
