package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// WriteBelow is WriteFile for a file in a folder that a stranger has filled.
// path lies below dir, with slashes. The folders on the way are made if need be,
// permission bits 0755; one that is a symbolic link, or anything but a folder,
// is ErrNotFolder, so that nobody leads the writer to another place. What is at
// path itself is replaced, not followed. dir may be a link: the caller chose it.
func WriteBelow(dir, path string, data []byte, perm fs.FileMode) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { root.Close() }()
	names := strings.Split(path, "/")
	for _, name := range names[:len(names)-1] {
		next, err := enter(root, name)
		if err != nil {
			return fmt.Errorf("write %s below %s: %w", path, dir, err)
		}
		root.Close()
		root = next
	}
	if err := writeIn(root, names[len(names)-1], data, perm); err != nil {
		return fmt.Errorf("write %s below %s: %w", path, dir, err)
	}
	return nil
}

// ErrNotFolder is what WriteBelow finds where it expects a folder.
var ErrNotFolder = errors.New("not a folder")

// enter opens the folder name of root, making it if need be.
func enter(root *os.Root, name string) (*os.Root, error) {
	err := root.Mkdir(name, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	there, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !there.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNotFolder}
	}
	if made {
		if err := syncRoot(root); err != nil {
			return nil, err
		}
	}
	next, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := next.Stat(".")
	if err == nil && !os.SameFile(there, opened) { // exchanged meanwhile
		err = &fs.PathError{Op: "open", Path: name, Err: ErrNotFolder}
	}
	if err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// writeIn is WriteFile in one folder.
func writeIn(folder *os.Root, name string, data []byte, perm fs.FileMode) error {
	temp := TempPrefix + rand.Text()
	out, err := folder.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if err = fill(out, data, perm); err == nil {
		err = folder.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, folder.Remove(temp))
	}
	return syncRoot(folder)
}

func syncRoot(folder *os.Root) error {
	d, err := folder.Open(".")
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
