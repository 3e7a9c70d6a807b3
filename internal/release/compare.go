package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A DifferenceError says where two builds of the same inputs part.
type DifferenceError struct {
	Name   string // of the file, below both folders
	Offset int64  // of the first byte that differs; -1: one build has no such file
}

func (e *DifferenceError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s is made by one build and not by the other", e.Name)
	}
	return fmt.Sprintf("%s differs from byte %d on", e.Name, e.Offset)
}

// Hint says in one sentence what to do next.
func (e *DifferenceError) Hint() string {
	return "Do not sign or publish this release: build both again without the work folder, and report it if they differ again."
}

// CompareTrees fails with a *DifferenceError at the first file below again, in the
// order of names, that the folder first does not hold with the same bytes. Empty
// files whose names begin with a dot, such as locks, do not count; what else first
// holds may be older. check is asked often whether to go on.
func CompareTrees(first, again string, check func() error) error {
	return filepath.WalkDir(again, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name()[0] == '.' {
			return err
		}
		name, err := filepath.Rel(again, path)
		if err != nil {
			return err
		}
		offset, err := compareFiles(filepath.Join(first, name), path, check)
		if errors.Is(err, fs.ErrNotExist) {
			return &DifferenceError{filepath.ToSlash(name), -1}
		}
		if err == nil && offset >= 0 {
			return &DifferenceError{filepath.ToSlash(name), offset}
		}
		return err
	})
}

// compareFiles returns where two files part, -1 if they do not.
func compareFiles(one, two string, check func() error) (int64, error) {
	a, err := os.Open(one)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	b, err := os.Open(two)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			i := 0
			for i < min(n, m) && x[i] == y[i] {
				i++
			}
			return at + int64(i), nil
		}
		at += int64(n)
		switch {
		case errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF):
			return -1, nil
		case errA != nil || errB != nil:
			return 0, errors.Join(errA, errB)
		}
		if err := check(); err != nil {
			return 0, err
		}
	}
}
