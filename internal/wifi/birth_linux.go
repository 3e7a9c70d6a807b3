package wifi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// birth waits for a file to appear in a folder. It is made before whoever makes
// the file is started.
type birth struct {
	f    *os.File // inotify
	path string
}

func watch(dir, path string) (*birth, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB); err != nil {
		f.Close()
		return nil, fmt.Errorf("inotify: %s: %w", dir, err)
	}
	return &birth{f, path}, nil
}

// wait returns when the file is there, or with the cause of ctx.
func (b *birth) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		if _, err := os.Lstat(b.path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := b.f.Read(buf); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("inotify: %w", err)
		}
	}
}

func (b *birth) close() { b.f.Close() }
