package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	file, err := lockFile(filepath.Join(dir, lockName))
	switch {
	case errors.Is(err, errLocked):
		return nil, &FolderError{"somebody else is publishing in " + dir, "Try again in a minute."}
	case errors.Is(err, errors.ErrUnsupported):
		return nil, &FolderError{"this system cannot keep two publishers apart", "Publish on Linux, macOS or BSD; everything else works here."}
	case err != nil:
		return nil, fmt.Errorf("lock the published folder: %w", err)
	}
	return file.Close, nil
}

// errLocked says that another process holds the lock.
var errLocked = errors.New("another process holds the lock")
