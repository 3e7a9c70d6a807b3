package diskformat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrExists is wrapped by the error for a file that would have to be replaced.
var ErrExists = errors.New("the file exists already")

// ExistsError names it.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return fmt.Sprintf("%s exists already", e.Path) }

func (e *ExistsError) Unwrap() error { return ErrExists }

// Hint says what to do next.
func (e *ExistsError) Hint() string {
	return "Name another file with --out, or add --force to replace it."
}

// Produce makes the file at path: fill writes a new, empty one beside it, which
// is flushed to the disk and takes the name when it is complete. A file that has
// the name already is kept unless replace is set, even one that appears
// meanwhile. On failure nothing is left behind.
func Produce(path string, replace bool, fill func(f *os.File) error) (err error) {
	if _, err := os.Lstat(path); err == nil && !replace {
		return &ExistsError{path}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// CreateTemp makes files that only their owner reads; this is no secret.
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(f.Name(), path)
	}
	return nameNew(f.Name(), path)
}

// nameNew gives a file its name if nobody has it: a link fails where a rename
// would replace. File systems without links (FAT) get a rename.
func nameNew(temp, path string) error {
	err := os.Link(temp, path)
	switch {
	case err == nil:
		return os.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return &ExistsError{path}
	}
	return os.Rename(temp, path)
}
