// Package durable writes small files so that a power cut at any moment leaves
// either the old content or the new one, never a mixture and never nothing.
//
// The order is the whole idea: write a temporary file beside the target, flush
// it to the device, rename it over the target, flush the directory. A rename
// without the first flush can survive a crash with an empty file; without the
// second it can be forgotten after the caller was told that it happened.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPrefix starts the name of every temporary file, so that leftovers of a
// crash can be recognised. They are harmless and may be removed at any time.
const TempPrefix = ".durable-"

// WriteFile replaces the content of path with data, permission bits perm. When
// it returns nil the new content is on the device; when it fails, path still
// has its old content, or (only if the last directory flush failed) either one.
// The directory must exist. A symbolic link at path is replaced, not followed.
// Concurrent calls are safe: one of them wins entirely.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	dir := filepath.Dir(path)
	temp, err := writeTemp(dir, data, perm)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(dir)
}

// writeTemp leaves data, flushed, in a new file of dir and returns its path.
// On failure nothing is left behind.
func writeTemp(dir string, data []byte, perm fs.FileMode) (string, error) {
	f, err := os.CreateTemp(dir, TempPrefix+"*")
	if err != nil {
		return "", err
	}
	if err := fill(f, data, perm); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// fill writes data to a new file, flushes and closes it.
func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// SyncDir flushes the directory itself: renames, creations and removals in it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}

// MkdirAll creates path and whatever is missing above it, permission bits perm,
// and flushes each directory that got a new entry, so that a file written into
// path afterwards cannot vanish together with its directory.
func MkdirAll(path string, perm fs.FileMode) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: errors.New("exists and is not a directory")}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := MkdirAll(parent, perm); err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}
