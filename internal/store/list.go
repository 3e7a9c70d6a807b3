package store

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
)

// Info is what can be said of a blob without reading it.
type Info struct {
	Digest blob.Digest
	Size   int64     // bytes of content, as the file has them
	Used   time.Time // when it was last opened or written, or after what
	Pins   []string  // names of the readable pins that protect it, sorted
}

// List returns the blobs that are there, the most recently used first. Nothing
// is read: what a name promises is only known when the blob is. An unreadable pin
// is an error of Pins and none of List.
func (s *Store) List() ([]Info, error) {
	entries, err := s.entries()
	if err != nil {
		return nil, err
	}
	pins, _ := s.pinned()
	out := make([]Info, 0, len(entries))
	for _, e := range entries {
		out = append(out, Info{Digest: e.digest, Size: e.size, Used: e.used, Pins: pins[e.digest]})
	}
	slices.SortFunc(out, func(a, b Info) int {
		return cmp.Or(b.Used.Compare(a.Used), compareDigests(a.Digest, b.Digest))
	})
	return out, nil
}

// PartialInfo is what can be said of a blob that has not arrived whole.
type PartialInfo struct {
	Digest  blob.Digest
	Size    int64     // of the whole blob, in bytes
	OnDisk  int64     // bytes that the file occupies on the medium, if that is known
	Used    time.Time // when it was last written
	Writing bool      // somebody writes it at this moment
}

// Partials returns the parts, the most recently used first.
func (s *Store) Partials() ([]PartialInfo, error) {
	var out []PartialInfo
	err := s.hold(func() error {
		temps, err := s.temps()
		for _, t := range temps {
			if t.part.IsZero() {
				continue
			}
			idle, err := s.idle(t)
			info := PartialInfo{Digest: t.part, Size: t.size, OnDisk: t.size, Used: t.used, Writing: err == nil && !idle}
			if there, err := s.root.Lstat(t.name); err == nil {
				info.OnDisk = onDisk(there)
			}
			out = append(out, info)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.SortFunc(out, func(a, b PartialInfo) int {
		return cmp.Or(b.Used.Compare(a.Used), compareDigests(a.Digest, b.Digest))
	})
	return out, err
}

// A Rotten is a blob in quarantine.
type Rotten struct {
	Path string
	Size int64 // bytes
}

// Quarantined returns what Quarantine has put aside, by path.
func (s *Store) Quarantined() (out []Rotten) {
	for _, i := range s.quarantined() {
		out = append(out, Rotten{Path: filepath.Join(s.dir, i.name), Size: i.size})
	}
	slices.SortFunc(out, func(a, b Rotten) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
