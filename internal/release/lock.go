package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockName is a file in the published folder that stays empty.
const lockName = ".publishing"

// Lock keeps other publishers out of dir, which is made if need be, until
// unlock is called or the process ends: otherwise somebody's older release,
// already checked, could be written over one that was checked later. It does not
// wait for another publisher, but fails.
func Lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder to publish in: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the published folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &FolderError{"somebody else is publishing in " + dir, "Try again in a minute."}
		}
		return nil, fmt.Errorf("lock the published folder: %w", err)
	}
	return file.Close, nil
}
