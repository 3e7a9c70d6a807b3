package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/phasebased/phase/blob"
)

// Verify reads the blob d from its medium and hashes it. A wrong one is a
// *CorruptError and is left where it is; one that is not there matches
// fs.ErrNotExist. It does not count as a use.
func (s *Store) Verify(ctx context.Context, d blob.Digest) error {
	_, err := s.verify(ctx, d, func(int) {})
	return err
}

// verify also returns the file that it read.
func (s *Store) verify(ctx context.Context, d blob.Digest, progress func(n int)) (fs.FileInfo, error) {
	f, info, err := s.open(d)
	if err != nil {
		return nil, fmt.Errorf("verify blob %s: %w", d, err)
	}
	defer f.Close()
	forget(f) // what memory holds says nothing about the medium
	watched := &watchedReader{ctx: ctx, r: f, progress: progress}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, blob.NewReader(watched, d, info.Size()), make([]byte, 256<<10))
	var mismatch *blob.MismatchError
	if errors.As(err, &mismatch) {
		return info, &CorruptError{Digest: d, Path: s.Path(d), Err: mismatch}
	}
	if err != nil {
		return info, fmt.Errorf("verify blob %s: %w", d, err)
	}
	return info, nil
}

// watchedReader ends with its context and counts.
type watchedReader struct {
	ctx      context.Context
	r        io.Reader
	progress func(n int)
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.progress(n)
	return n, err
}

// A Finding is a blob that VerifyAll could not find right.
type Finding struct {
	Digest blob.Digest
	Size   int64  // bytes, of what is there
	Err    error  // a *CorruptError, or why the blob cannot be read
	Moved  string // where it is now; empty if it was left in its place
	// Left says why the blob was left in its place, with Moved.
	Left error
}

// VerifyReport is what VerifyAll saw.
type VerifyReport struct {
	Blobs    int   // that were read, or should have been
	Bytes    int64 // of them
	Findings []Finding
}

// VerifyAll verifies every blob and puts those that are wrong or that the medium
// cannot read (EIO) into quarantine, so that they are fetched again when they are
// needed. One that cannot be read for another reason, as without memory, is left:
// that says nothing about its bytes. progress, if not nil, hears how many of how many bytes were read. The
// error is that of the whole: findings are none.
func (s *Store) VerifyAll(ctx context.Context, progress func(done, total int64)) (VerifyReport, error) {
	var report VerifyReport
	var all []blob.Digest
	var total int64
	err := s.names(func(d blob.Digest) {
		all = append(all, d)
		if info, err := s.lstat(d); err == nil {
			total += info.Size()
		}
	})
	if err != nil {
		return report, err
	}
	slices.SortFunc(all, compareDigests)
	count := func(n int) {
		report.Bytes += int64(n)
		if progress != nil && n > 0 {
			progress(report.Bytes, max(total, report.Bytes))
		}
	}
	for _, d := range all {
		info, err := s.verify(ctx, d, count)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		report.Blobs++
		if err != nil {
			report.Findings = append(report.Findings, s.putAside(d, info, err))
		}
	}
	return report, nil
}

// putAside moves what was read, and not what somebody has put in its place
// since.
func (s *Store) putAside(d blob.Digest, read fs.FileInfo, found error) Finding {
	f := Finding{Digest: d, Err: found}
	if read != nil {
		f.Size = read.Size()
	}
	var corrupt *CorruptError
	if !errors.As(found, &corrupt) && !errors.Is(found, errNotRegular) && !errors.Is(found, syscall.EIO) {
		f.Left = errors.New("it could not be read")
		return f
	}
	f.Left = s.locked(func() error {
		there, err := s.root.Lstat(name(d))
		if err != nil {
			return err
		}
		if read != nil && !sameContent(read, there) {
			return errChanged
		}
		to, err := s.moveAway(d)
		if err == nil {
			f.Moved = filepath.Join(s.dir, to)
		}
		return err
	})
	return f
}

func sameContent(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size()
}
