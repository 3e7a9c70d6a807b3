package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// Roots follows the stored successors of medium, the root that the medium was
// made with, each verified by the one before. It returns the newest, and the
// files that lead to it, at most manifest.MaxRootChain. A stored file that is
// damaged or refused ends the chain there: what comes before holds, and an
// *Error says what is wrong, as a warning. Fetching the successor anew and
// saving it mends it.
func (s *State) Roots(medium *manifest.Root) (newest *manifest.Root, raws [][]byte, warning error) {
	if s == nil || medium == nil {
		return medium, nil, nil
	}
	newest = medium
	for range manifest.MaxRootChain {
		raw, err := readSmall(s.rootPath(newest.Version()+1), manifest.MaxRootBytes)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		var next *manifest.Root
		if err == nil {
			next, err = newest.Update(raw)
		}
		if err != nil {
			err = fmt.Errorf("%w: version %d: %w", ErrUnreadable, newest.Version()+1, err)
			return newest, raws, &Error{Op: "load", Object: "roots", Err: err}
		}
		newest, raws = next, append(raws, raw)
	}
	return newest, raws, nil
}

// SaveRoot keeps raw, the file of a root that was accepted as a successor and
// has the given version. A file that is there already is replaced.
func (s *State) SaveRoot(version int64, raw []byte) error {
	if s == nil {
		return nil
	}
	return wrap(s.saveRoot(version, raw), &Error{Op: "save", Object: "roots"})
}

func (s *State) saveRoot(version int64, raw []byte) error {
	if version < 2 || len(raw) == 0 || len(raw) > manifest.MaxRootBytes {
		return fmt.Errorf("version %d with %d bytes cannot be kept", version, len(raw))
	}
	return s.locked(func() error {
		if stored, err := readSmall(s.rootPath(version), manifest.MaxRootBytes); err == nil && bytes.Equal(stored, raw) {
			return nil
		}
		return durable.WriteFile(s.rootPath(version), raw, 0o644)
	})
}

func (s *State) rootPath(version int64) string {
	return s.path(fmt.Sprintf("%d.root.json", version))
}
