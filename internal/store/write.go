package store

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/blob"
)

// A Writer receives one blob. Exactly one of Commit and Abort ends it; Abort
// after Commit does nothing, so it can be deferred. A Writer is for one
// goroutine.
type Writer struct {
	s    *Store
	d    blob.Digest
	size int64
	file *os.File // nil after Commit or Abort
	temp string
	hash hash.Hash // nil when the caller hashes
	n    int64
}

// Create starts writing the blob d of exactly size bytes. When the store has
// a limit, the least recently used blobs are removed to make room; if that
// is not enough the error is a *FullError.
func (s *Store) Create(d blob.Digest, size int64) (*Writer, error) {
	w, err := s.CreateUnverified(d, size)
	if err != nil {
		return nil, err
	}
	w.hash = sha256.New()
	return w, nil
}

// CreateUnverified is Create for a caller that hashes the bytes itself and
// calls Commit only when they are right, so that they are not hashed twice.
// Commit then compares only the size. A caller's mistake here costs a cache
// entry, no trust: whoever opens the blob hashes it again.
func (s *Store) CreateUnverified(d blob.Digest, size int64) (*Writer, error) {
	if d.IsZero() || size < 0 {
		return nil, errNoBlob
	}
	w := &Writer{s: s, d: d, size: size, temp: filepath.Join(tempDir, d.Hex()[:16]+"-"+rand.Text())}
	if err := s.locked(w.open); err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	return w, nil
}

var errNoBlob = errors.New("store blob: no digest or a negative size")

// open makes the file, locked so that nobody takes it for abandoned and with
// its whole length so that other processes count it. The caller has the store's
// lock.
func (w *Writer) open() error {
	if err := w.s.makeRoom(w.size); err != nil {
		return err
	}
	f, err := w.s.root.OpenFile(w.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = tryLock(f)
	if err == nil {
		err = f.Truncate(w.size)
	}
	if err != nil {
		return errors.Join(err, f.Close(), w.s.root.Remove(w.temp))
	}
	w.file = f
	return nil
}

// Write appends to the blob. It takes no byte beyond the stated size.
func (w *Writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, os.ErrClosed
	}
	if int64(len(p)) > w.size-w.n {
		return 0, &blob.MismatchError{Want: w.d, WantSize: w.size, GotSize: w.n + int64(len(p))}
	}
	n, err := w.file.Write(p)
	if w.hash != nil {
		w.hash.Write(p[:n])
	}
	w.n += int64(n)
	if err != nil {
		return n, fmt.Errorf("store blob: %w", err)
	}
	return n, nil
}

// Commit gives the blob its name if, and only if, all of its bytes were
// written and hash to its digest; otherwise it fails with a
// *blob.MismatchError. When Commit returns nil the blob survives a power cut.
// Whatever it returns, the Writer is finished.
func (w *Writer) Commit() error {
	if w.file == nil {
		return os.ErrClosed
	}
	defer w.Abort()
	got := w.d
	if w.hash != nil {
		got = blob.FromSum([sha256.Size]byte(w.hash.Sum(nil)))
	}
	if got != w.d || w.n != w.size {
		return &blob.MismatchError{Want: w.d, Got: got, WantSize: w.size, GotSize: w.n}
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("store blob %s: %w", w.d, err)
	}
	return nil
}

// commit is the crash-critical order: content, directory, name, directory
// entry. A cut before the rename leaves a file in tmp; after it, the blob.
func (w *Writer) commit() error {
	w.s.touchName(w.temp)
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.s.publish(w.file, w.temp, w.d)
}

// publish gives the flushed file f, which is at temp, the name of the blob d.
func (s *Store) publish(f *os.File, temp string, d blob.Digest) error {
	to := name(d)
	if err := s.ensureDir(filepath.Dir(to)); err != nil {
		return err
	}
	err := s.locked(func() error {
		if err := s.stillAt(f, temp); err != nil {
			return err
		}
		// What is no file there gives way: nobody would ever read it.
		if info, err := s.root.Lstat(to); err == nil && info.IsDir() {
			if _, err := s.moveAway(d); err != nil {
				return err
			}
		}
		return s.root.Rename(temp, to)
	})
	if err != nil {
		return err
	}
	// Who made the folder may have been killed before that was flushed.
	return errors.Join(s.syncDir(filepath.Dir(to)), s.syncDir(blobDir))
}

// stillAt makes sure that nobody put another file under a name.
func (s *Store) stillAt(f *os.File, name string) error {
	there, err := s.root.Lstat(name)
	if err != nil {
		return err
	}
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(ours, there) {
		return &fs.PathError{Op: "rename", Path: name, Err: errChanged}
	}
	return nil
}

// Abort drops what was written. It may be called at any time, also twice.
func (w *Writer) Abort() {
	if w.file == nil {
		return
	}
	w.s.root.Remove(w.temp) // fails after a successful rename, as it should
	w.file.Close()
	w.file = nil
}

// Put stores the blob d of size bytes from r, which is read to its end and
// must hold exactly that. A blob that is already there is read through r,
// and replaced, which repairs a corrupt one.
func (s *Store) Put(d blob.Digest, size int64, r io.Reader) error {
	w, err := s.Create(d, size)
	if err != nil {
		return err
	}
	defer w.Abort()
	// One byte more than size shows that r is too long.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(r, size+1), make([]byte, 256<<10)); err != nil {
		return err
	}
	return w.Commit()
}
