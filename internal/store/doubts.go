package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

const doubtDir = "doubts"

// MaxDoubts is the most that is counted for one blob.
const MaxDoubts = 9

// Doubt counts once more that a blob is given away without having been read
// through, and returns how often it was since the last Sure. Somebody else checks
// it piece by piece, and says Sure when that went well; where he never comes to
// say it, the next one who would give the blob away sees a count. When Doubt
// returns nil the count survives a power cut. It needs no room but a name.
func (s *Store) Doubt(d blob.Digest) (n int, err error) {
	err = s.locked(func() error {
		s.dropDoubts()
		n = min(s.Doubts(d)+1, MaxDoubts)
		return s.setDoubts(d, n)
	})
	if err != nil {
		return 0, fmt.Errorf("doubt blob: %w", err)
	}
	return n, nil
}

// Doubts is how often the blob was given away since the last Sure. What cannot be
// read is MaxDoubts.
func (s *Store) Doubts(d blob.Digest) int {
	text, err := durable.ReadSmall(filepath.Join(s.dir, doubtDir, d.Hex()), 2, durable.RefuseLinks)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil || len(text) != 2 || text[0] < '0' || text[0] > '0'+MaxDoubts || text[1] != '\n' {
		return MaxDoubts
	}
	return int(text[0] - '0')
}

// Sure ends the doubts about a blob. One without any is no error.
func (s *Store) Sure(d blob.Digest) error { return s.lessDoubts(d, func(int) int { return 0 }) }

// Undoubt takes the last Doubt back: the blob was not given away after all.
func (s *Store) Undoubt(d blob.Digest) error {
	return s.lessDoubts(d, func(n int) int { return n - 1 })
}

func (s *Store) lessDoubts(d blob.Digest, less func(int) int) error {
	err := s.locked(func() error {
		n := s.Doubts(d)
		if n == 0 {
			return nil
		}
		return s.setDoubts(d, less(n))
	})
	if err != nil {
		return fmt.Errorf("end doubts: %w", err)
	}
	return nil
}

// setDoubts writes a count; the caller has the store's lock.
func (s *Store) setDoubts(d blob.Digest, n int) error {
	if d.IsZero() {
		return errNoBlob
	}
	if n > 0 {
		return durable.WriteBelow(s.dir, doubtDir+"/"+d.Hex(), []byte{byte('0' + n), '\n'}, 0o644)
	}
	err := s.checkDir(doubtDir)
	if err == nil {
		err = s.root.Remove(filepath.Join(doubtDir, d.Hex()))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.syncDir(doubtDir)
}

// dropDoubts forgets blobs that are not there any more; the caller has the
// store's lock. What cannot be removed stays.
func (s *Store) dropDoubts() {
	names, _ := s.list(doubtDir)
	for _, name := range names {
		if d, err := blob.Parse(blob.Prefix + name); err == nil && s.Has(d) {
			continue
		}
		_ = s.root.Remove(filepath.Join(doubtDir, name))
	}
}
