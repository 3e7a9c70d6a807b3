package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phasebased/phase/blob"
)

const corruptDir = "corrupt"

// Quarantine moves the blob d out of the way for a person to look at, and
// returns where it is now. A later corrupt blob of the same digest replaces
// it, so there is at most one per digest. They count against Limit and are the
// first to go.
func (s *Store) Quarantine(d blob.Digest) (string, error) {
	var to string
	err := s.locked(func() (err error) {
		to, err = s.moveAway(d)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("quarantine blob: %w", err)
	}
	return filepath.Join(s.dir, to), nil
}

// moveAway is Quarantine for one who has the store's lock.
func (s *Store) moveAway(d blob.Digest) (string, error) {
	from, to := name(d), filepath.Join(corruptDir, d.Hex()+".bin")
	if _, err := s.root.Lstat(from); err != nil {
		return "", err
	}
	if err := s.ensureDir(corruptDir); err != nil {
		return "", err
	}
	// A folder and a file do not replace each other.
	if err := s.root.RemoveAll(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return to, s.root.Rename(from, to)
}

// quarantined lists the files in quarantine, as far as they can be listed.
func (s *Store) quarantined() (out []item) {
	names, _ := s.list(corruptDir) // none as a rule
	for _, n := range names {
		i := item{kind: rotten, name: filepath.Join(corruptDir, n)}
		if info, err := s.root.Lstat(i.name); err == nil && info.Mode().IsRegular() {
			i.size, i.used = info.Size(), info.ModTime()
			out = append(out, i)
		}
	}
	return out
}
