package release

import (
	"fmt"
	"io"
	"os"

	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

// FindTree reads a root file system that ends with its hash tree, of which only
// the salt is known, and returns what a manifest says of it. A file without one
// wraps verity.ErrTree. watch is as with Describe.
func FindTree(path string, salt []byte, watch func(done, size int64) error) (v manifest.Verity, err error) {
	err = withTree(path, watch, func(f io.ReaderAt, size int64) error {
		v, err = verity.Find(f, size, salt)
		return err
	})
	return v, err
}

// CheckTree reads a root file system and refuses one whose hash tree is not v,
// wrapping verity.ErrTree. watch is as with Describe.
func CheckTree(path string, v manifest.Verity, watch func(done, size int64) error) error {
	return withTree(path, watch, func(f io.ReaderAt, size int64) error { return verity.Check(f, size, v) })
}

func withTree(path string, watch func(done, size int64) error, do func(f io.ReaderAt, size int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := do(&watched{f, info.Size(), 0, watch}, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// watched tells how many bytes of a file were read, each of which is read once.
type watched struct {
	file       *os.File
	size, done int64
	watch      func(done, size int64) error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.file.ReadAt(p, off)
	w.done += int64(n)
	if w.watch != nil {
		if err := w.watch(min(w.done, w.size), w.size); err != nil {
			return n, err
		}
	}
	return n, err
}

// checkTree refuses a root file system that is not what its hash tree says: every
// machine with a cache would find that out, and none could mend it.
func (r Release) checkTree() error {
	if r.Verity == nil || r.Rootfs == "" {
		return nil
	}
	if err := CheckTree(r.Rootfs, *r.Verity, nil); err != nil {
		return fmt.Errorf("publish rootfs: %w", err)
	}
	return nil
}
