package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"
)

// maxEROFSName is the longest name in bytes that mkfs.erofs 1.5 takes; the format has
// room for one more.
const maxEROFSName = 254

// EROFS describes a compressed read-only file system that is read in small pieces.
type EROFS struct {
	Time time.Time // of every file and of the file system
}

// Write makes an EROFS of the tree at file, replacing what is there, with mkfs.erofs
// 1.5 or newer, compressed by LZ4HC in pieces of 64 KiB. Owners are root and there
// are no extended attributes. The tool takes a folder, so that the tree is laid out
// beside it first.
func (e EROFS) Write(ctx context.Context, file string, t *Tree) error {
	entries, err := t.Entries()
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return errors.New("image: EROFS: the tree is empty")
	}
	for _, e := range entries {
		if name := path.Base(e.Path); len(name) > maxEROFSName {
			return &PathError{Path: e.Path, Reason: fmt.Sprintf("name longer than %d bytes, which mkfs.erofs cannot write", maxEROFSName)}
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), ".erofs-*")
	if err != nil {
		return fmt.Errorf("image: EROFS: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := layOut(filepath.Join(dir, "root"), entries); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image: EROFS: %w", err)
	}
	return runTool(ctx, "erofs-utils", nil, nil, "mkfs.erofs", "--quiet", "-zlz4hc,12", "-C65536", "-x-1", "-T"+strconv.FormatInt(e.Time.Unix(), 10),
		"-U"+DeriveGUID("EROFS").String(), "--all-root", file, filepath.Join(dir, "root"))
}

// layOut writes a tree into a new folder. Modes are set last, so that a folder that
// nobody may write to can be filled, and not by the umask.
func layOut(dir string, entries []*Entry) error {
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o755)); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	for _, e := range entries {
		at := filepath.Join(dir, filepath.FromSlash(e.Path))
		if err := layOutEntry(at, e); err != nil {
			return fmt.Errorf("image: laying out %s: %w", e.Path, err)
		}
	}
	for i := len(entries) - 1; i >= 0; i-- {
		if e := entries[i]; e.Mode.IsDir() {
			if err := os.Chmod(filepath.Join(dir, filepath.FromSlash(e.Path)), e.Mode.Perm()); err != nil {
				return fmt.Errorf("image: %w", err)
			}
		}
	}
	return nil
}

func layOutEntry(at string, e *Entry) error {
	switch e.Mode.Type() {
	case fs.ModeDir:
		return os.Mkdir(at, 0o700)
	case fs.ModeSymlink:
		return os.Symlink(e.Link, at)
	case 0:
		f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(copyEntry(f, e), f.Chmod(e.Mode.Perm()), f.Close())
	}
	return &PathError{Path: e.Path, Reason: "devices are only written to cpio archives"}
}
