package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

// A FullError says that a blob does not fit under the store's limit, even
// after everything that may go was removed.
type FullError struct {
	Need, Used, Limit int64 // bytes
	Protected         int64 // of Used, what may not be removed
}

func (e *FullError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("store is over its limit of %d bytes: %d are protected", e.Limit, e.Protected)
	}
	return fmt.Sprintf("store is full: %d bytes needed, %d of %d in use, %d of them protected", e.Need, e.Used, e.Limit, e.Protected)
}

// Hint says what to do next.
func (e *FullError) Hint() string {
	if e.Need > e.Limit {
		return "Give the cache a larger limit: this one is smaller than the blob."
	}
	return "Give the cache a larger limit; what is pinned or being written is never removed."
}

// kind is what an item is, in the order of going.
type kind int

const (
	rotten kind = iota // in quarantine: kept only while there is room
	stored
	part
)

// An item takes up room in the store. used is when it was last opened or
// written, kept as the file's modification time so that it survives a reboot.
type item struct {
	kind   kind
	name   string // below the store's directory
	digest blob.Digest
	size   int64
	used   time.Time
	// missing is how much of size the file system has given no place yet, in bytes.
	missing int64
}

// items lists all that counts against a limit.
func (s *Store) items() ([]item, error) {
	out, err := s.entries()
	if err != nil {
		return nil, err
	}
	temps, err := s.temps()
	if err != nil {
		return nil, err
	}
	for _, t := range temps {
		out = append(out, item{kind: part, name: t.name, digest: t.part, size: t.size, used: t.used, missing: t.missing})
	}
	return append(out, s.quarantined()...), nil
}

// makeRoom makes room for size bytes, or fails with a *FullError before
// removing anything that would not help. The caller has the store's lock.
func (s *Store) makeRoom(size int64) error {
	if s.limit.Bytes == 0 || size <= 0 {
		return nil
	}
	_, err := s.evict(context.Background(), s.limit, size)
	return err
}

// evict removes what was used longest ago until size more bytes fit under the
// limit. If that cannot be it fails with a *FullError and removes nothing. The
// caller has the store's lock.
func (s *Store) evict(ctx context.Context, limit Limit, size int64) (removed []item, err error) {
	items, err := s.items()
	if err != nil {
		return nil, fmt.Errorf("make room: %w", err)
	}
	used := int64(0)
	for _, i := range items {
		used += i.size
	}
	if limit.Bytes, err = s.bound(limit, items, used); err != nil {
		return nil, fmt.Errorf("make room: %w", err)
	}
	if size <= limit.Bytes && used <= limit.Bytes-size {
		return nil, nil
	}
	items, err = s.removable(items, limit)
	if err != nil {
		return nil, fmt.Errorf("make room: %w", err)
	}
	fixed := used
	for _, i := range items {
		fixed -= i.size
	}
	if size > limit.Bytes || fixed > limit.Bytes-size {
		return nil, &FullError{Need: size, Used: used, Limit: limit.Bytes, Protected: fixed}
	}
	var errs []error // of what cannot be removed: perhaps the others are enough
	for _, i := range items {
		if used <= limit.Bytes-size || ctx.Err() != nil {
			return removed, ctx.Err()
		}
		if err := s.root.Remove(i.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, i)
		used -= i.size
	}
	if used > limit.Bytes-size {
		return removed, fmt.Errorf("make room: %w", errors.Join(errs...))
	}
	return removed, nil
}

// bound is the limit as far as the file system has the place for it: what the
// items, used bytes in all, occupy and what is free, but for what is promised to
// unfinished ones and what is to stay free.
func (s *Store) bound(limit Limit, items []item, used int64) (int64, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	free, known := durable.FreeSpace(dir)
	if !known {
		return limit.Bytes, nil
	}
	for _, i := range items {
		free -= i.missing
	}
	free -= limit.Free
	if free > limit.Bytes-used { // there is more than is allowed
		return limit.Bytes, nil
	}
	return max(used+free, 0), nil
}

// removable returns the items that may go, the first to go first: neither kept
// by the limit, nor pinned, nor being written.
func (s *Store) removable(items []item, limit Limit) ([]item, error) {
	pinned, err := s.pinned()
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(items, func(i item) bool {
		switch i.kind {
		case stored:
			return len(pinned[i.digest]) > 0 || slices.Contains(limit.Keep, i.digest)
		case part:
			idle, err := s.idle(temp{name: i.name})
			return !idle && !errors.Is(err, fs.ErrNotExist) // gone is as good
		}
		return false
	})
	slices.SortFunc(out, func(a, b item) int {
		return cmp.Or(cmp.Compare(min(a.kind, stored), min(b.kind, stored)), a.used.Compare(b.used), strings.Compare(a.name, b.name))
	})
	return out, nil
}

// entries lists the blobs, in no order. Files with other names are ignored.
func (s *Store) entries() ([]item, error) {
	var out []item
	err := s.names(func(d blob.Digest) {
		if info, err := s.lstat(d); err == nil {
			out = append(out, item{kind: stored, name: name(d), digest: d, size: info.Size(), used: info.ModTime()})
		}
	})
	return out, err
}

// maxBlobs bounds how many blobs are looked at: as a medium that somebody else has
// filled may have millions of names, which a small machine's memory does not hold.
const maxBlobs = 1 << 16

// names calls found for each name of a blob, whatever lies under it, but for no
// more than maxBlobs.
func (s *Store) names(found func(blob.Digest)) error {
	dirs, err := s.list(blobDir)
	if err != nil {
		return err
	}
	left := maxBlobs
	for _, dir := range dirs {
		if len(dir) != 2 {
			continue
		}
		names, err := s.list(filepath.Join(blobDir, dir))
		if err != nil {
			continue // not a directory of ours
		}
		for _, n := range names[:min(len(names), left)] {
			hex, ok := strings.CutSuffix(n, ".bin")
			if !ok {
				continue
			}
			if d, err := blob.Parse(blob.Prefix + hex); err == nil && hex[:2] == dir {
				found(d)
				left--
			}
		}
	}
	return nil
}

// touch marks d as used now. On a read-only medium it does nothing.
func (s *Store) touch(d blob.Digest) { s.touchName(name(d)) }

// touchName marks a file as used now, and as used after all others even if the
// clock has gone back or was never set: the order is what counts.
func (s *Store) touchName(name string) {
	if s.readOnly {
		return
	}
	s.use.Lock()
	defer s.use.Unlock()
	if s.newest.IsZero() {
		s.newest = s.newestUse()
	}
	now := time.Now()
	if !now.After(s.newest) {
		now = s.newest.Add(time.Millisecond)
	}
	s.newest = now
	_ = s.root.Chtimes(name, now, now)
}

// newestUse is the latest time that any blob was used.
func (s *Store) newestUse() (newest time.Time) {
	entries, _ := s.entries() // in doubt the clock is right
	for _, e := range entries {
		if e.used.After(newest) {
			newest = e.used
		}
	}
	return newest
}
