package store

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
)

// A FullError says that a blob does not fit under the store's limit, even
// after everything that may go was removed.
type FullError struct {
	Need, Used, Limit int64 // bytes
}

func (e *FullError) Error() string {
	return fmt.Sprintf("store is full: %d bytes needed, %d of %d in use", e.Need, e.Used, e.Limit)
}

// An entry is one stored blob; used is when it was last opened or written,
// kept as the file's modification time so that it survives a reboot.
type entry struct {
	digest blob.Digest
	size   int64
	used   time.Time
}

// touch marks d as used now. On a read-only medium it does nothing.
func (s *Store) touch(d blob.Digest) {
	now := time.Now()
	_ = s.root.Chtimes(name(d), now, now)
}

// reserve makes room for size bytes, or fails with a *FullError before
// removing anything that would not help.
func (s *Store) reserve(size int64) error {
	if s.limit.Bytes == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := s.entries()
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	used, removable := s.reserved, int64(0)
	for _, e := range entries {
		used += e.size
		if !slices.Contains(s.limit.Keep, e.digest) {
			removable += e.size
		}
	}
	if size > s.limit.Bytes || used-removable > s.limit.Bytes-size {
		return &FullError{Need: size, Used: used, Limit: s.limit.Bytes}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.digest.Hex(), b.digest.Hex()))
	})
	for _, e := range entries {
		if used <= s.limit.Bytes-size {
			break
		}
		if slices.Contains(s.limit.Keep, e.digest) {
			continue
		}
		if err := s.Remove(e.digest); err != nil {
			return err
		}
		used -= e.size
	}
	s.reserved += size
	return nil
}

func (s *Store) release(size int64) {
	if s.limit.Bytes == 0 {
		return
	}
	s.mu.Lock()
	s.reserved -= size
	s.mu.Unlock()
}

// entries lists the blobs, in no order. Files with other names are ignored.
func (s *Store) entries() ([]entry, error) {
	dirs, err := s.list(blobDir)
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, dir := range dirs {
		names, err := s.list(filepath.Join(blobDir, dir))
		if err != nil {
			continue // not a directory of ours
		}
		for _, n := range names {
			hex, ok := cutBin(n)
			if !ok {
				continue
			}
			d, err := blob.Parse("sha256:" + hex)
			if err != nil || hex[:2] != dir {
				continue
			}
			if info, err := s.lstat(d); err == nil {
				out = append(out, entry{digest: d, size: info.Size(), used: info.ModTime()})
			}
		}
	}
	return out, nil
}

func cutBin(name string) (string, bool) {
	const ext = ".bin"
	if filepath.Ext(name) != ext {
		return "", false
	}
	return name[:len(name)-len(ext)], true
}
