package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
)

// A temp is a file in tmp: of a Writer, of a Partial, or left behind by one.
// Its length is what its writer promised to write, so it is all that other
// processes need to know.
type temp struct {
	name string      // below the store's directory
	part blob.Digest // zero for the file of a Writer
	size int64
	used time.Time

	missing int64 // of size, see item
}

// temps lists the files in tmp, in no order.
func (s *Store) temps() ([]temp, error) {
	names, err := s.list(tempDir)
	if err != nil {
		return nil, err
	}
	var out []temp
	for _, n := range names {
		t := temp{name: filepath.Join(tempDir, n)}
		info, err := s.root.Lstat(t.name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		t.part, _ = partDigest(n)
		t.size, t.used, t.missing = info.Size(), info.ModTime(), missing(info)
		out = append(out, t)
	}
	return out, nil
}

// removeIdle removes a file of tmp that nobody writes, and reports whether it
// did. The caller has the store's lock, so nobody begins to write it meanwhile.
func (s *Store) removeIdle(t temp) (bool, error) {
	idle, err := s.idle(t)
	if errors.Is(err, fs.ErrNotExist) { // its writer was quicker
		return false, nil
	}
	if err != nil || !idle {
		return false, err
	}
	if err := s.root.Remove(t.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove %s: %w", t.name, err)
	}
	return true, nil
}

// idle reports whether nobody has the file open for writing.
func (s *Store) idle(t temp) (bool, error) {
	// Reading is enough for that, and says nothing to a medium that is read-only.
	f, err := s.root.OpenFile(t.name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return unlocked(f)
}

// clockSet is when clocks are right for certain: an earlier time comes from a
// machine that did not know the time, and tells nothing of a file's age.
var clockSet = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

// expired says whether a part is too old to be gone on with, and whatever else
// lies in tmp without a writer always is.
func (t temp) expired(now time.Time) bool {
	return t.part.IsZero() || t.used.After(clockSet) && now.Sub(t.used) > partAge
}

// sweep removes what interrupted writers left, and parts that are too old. What
// cannot be removed costs room and nothing else. The caller has the store's lock.
func (s *Store) sweep(now time.Time) (removed []temp, err error) {
	all, err := s.temps()
	if err != nil {
		return nil, err
	}
	s.dropPinTemps()
	var errs []error
	for _, t := range all {
		if !t.expired(now) {
			continue
		}
		gone, err := s.removeIdle(t)
		if gone {
			removed = append(removed, t)
		}
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// maxEntries bounds how many names of one directory are looked at.
const maxEntries = 1 << 14

func (s *Store) list(dir string) ([]string, error) {
	d, err := s.openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return names, nil
}
