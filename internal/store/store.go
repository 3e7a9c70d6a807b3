// Package store keeps blobs in files named by their SHA-256 digest:
//
//	<dir>/blobs/<aa>/<hex>.bin
//	<dir>/tmp/<hex>.part     what has arrived of a blob; survives a reboot
//	<dir>/tmp/               other files that are still being written
//	<dir>/pins/<name>        lists of blobs that are never removed to make room
//	<dir>/corrupt/           blobs that were found rotten
//
// The directory is not trusted. It lies on a medium that other systems can
// write, that loses power and that rots, so a name promises nothing: every
// reader hashes what it reads, and a blob appears under its name only after
// its bytes were hashed, synced and renamed. A power cut leaves either the
// whole blob, or nothing but a file in tmp that is gone on with or removed.
//
// Several processes may use one directory at the same time, each with a limit
// of its own. Whoever makes room, pins or renames has a lock, and a file in tmp
// has its whole length from the start, so that everybody counts it.
//
// Symbolic links are never followed, neither inside the directory nor out of
// it; dir itself may be one. Blobs are public data: directories are made with
// mode 0755, files with 0644, both lowered by the umask and never widened
// afterwards.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

const (
	blobDir = "blobs"
	tempDir = "tmp"
)

// Limit bounds a store. The zero value is no limit.
type Limit struct {
	// Bytes is the most that all blobs together may occupy, in bytes of
	// content, with those that are being written and those in quarantine; 0
	// means unlimited. What is there is only removed when room is needed.
	Bytes int64
	// Free is how much of the file system is to stay free, in bytes, where Bytes is
	// given: others share it, and it holds less than its device.
	Free int64
	// Keep names the blobs that are never removed to make room, as if they were
	// pinned.
	Keep []blob.Digest
}

// A Store is one directory of blobs. It is safe for concurrent use, also by
// several processes.
type Store struct {
	dir      string
	root     *os.Root
	limit    Limit
	readOnly bool
	patience time.Duration // how long the lock is waited for

	mu   sync.Mutex      // with the lock on the tmp folder, see locked
	late <-chan struct{} // ends with a wait for that lock which was given up; nil: there is none

	use    sync.Mutex // guards newest
	newest time.Time  // the latest time that was given to a blob
}

// Open opens the store in dir, making it if needed, without a limit.
func Open(dir string) (*Store, error) { return OpenLimited(dir, Limit{}) }

// OpenLimited opens the store in dir, making it if needed, and removes what
// interrupted writers left in its tmp folder, but for parts of the last seven
// days. A read-only directory that already has the layout can be opened; writing
// to it then fails.
func OpenLimited(dir string, limit Limit) (*Store, error) {
	if limit.Bytes < 0 {
		return nil, fmt.Errorf("open store: negative limit %d", limit.Bytes)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := durable.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := openRoot(abs)
	if err != nil {
		return nil, err
	}
	s.limit = limit
	for _, name := range []string{blobDir, tempDir} {
		if err := s.ensureDir(name); err != nil {
			s.root.Close()
			return nil, fmt.Errorf("open store %s: %w", abs, err)
		}
	}
	// What is left for now is tried again by the next one who opens the store.
	_ = s.locked(func() error {
		_, err := s.sweep(time.Now())
		return err
	})
	return s, nil
}

// OpenReadOnly opens a store that exists, without writing to it: not at once,
// and not when a blob is used. All that would write is refused with
// fs.ErrPermission. A directory that is no store is fs.ErrNotExist.
func OpenReadOnly(dir string) (*Store, error) {
	s, err := OpenExisting(dir)
	if err == nil {
		s.readOnly = true
	}
	return s, err
}

// OpenExisting opens a store that exists, without a limit, as it is: nothing is
// made, and nothing removed before GC is called. A directory that is no store is
// fs.ErrNotExist.
func OpenExisting(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := openRoot(abs)
	if err != nil {
		return nil, err
	}
	if err := s.checkDir(blobDir); err != nil {
		s.root.Close()
		return nil, fmt.Errorf("open store %s: %w", abs, err)
	}
	return s, nil
}

func openRoot(abs string) (*Store, error) {
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{dir: abs, root: root, patience: lockPatience}, nil
}

// refuseWrite is the error of all that would write to a store that was opened
// for reading.
func (s *Store) refuseWrite() error {
	return &fs.PathError{Op: "write", Path: s.dir, Err: fs.ErrPermission}
}

// Close releases the directory. Readers and Writers must be closed before.
func (s *Store) Close() error { return s.root.Close() }

// Dir is the absolute path of the store.
func (s *Store) Dir() string { return s.dir }

// Path is the absolute path that d has, or would have.
func (s *Store) Path(d blob.Digest) string { return filepath.Join(s.dir, name(d)) }

// name is the path of d below the store's directory.
func name(d blob.Digest) string {
	hex := d.Hex()
	return filepath.Join(blobDir, hex[:2], hex+".bin")
}

// Has reports whether there is a regular file under d's name. It does not
// look at its content.
func (s *Store) Has(d blob.Digest) bool {
	_, err := s.lstat(d)
	return err == nil
}

// Open returns a reader of the blob d of exactly size bytes. The reader
// reports io.EOF only after all bytes were seen and hashed to d; otherwise it
// fails with a *CorruptError, and nothing that it gave may be used. The file
// is left in place: see Remove and Quarantine. A blob that is not there is
// an error that matches fs.ErrNotExist.
func (s *Store) Open(d blob.Digest, size int64) (io.ReadCloser, error) {
	f, err := s.OpenUnverified(d, size)
	if err != nil {
		return nil, err
	}
	return &reader{file: f, r: blob.NewReader(f, d, size), d: d, path: s.Path(d)}, nil
}

// OpenUnverified is Open for a caller that hashes the bytes itself, so that
// large blobs are not hashed twice. Only the size was compared.
func (s *Store) OpenUnverified(d blob.Digest, size int64) (*os.File, error) {
	f, info, err := s.open(d)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	if info.Size() != size {
		f.Close()
		return nil, &CorruptError{Digest: d, Path: s.Path(d),
			Err: &blob.MismatchError{Want: d, WantSize: size, GotSize: info.Size()}}
	}
	s.touch(d)
	return f, nil
}

// openTries is how often a blob is looked for that others replace meanwhile: by
// a rename, so it is there at any time.
const openTries = 5

// open finds the blob's file and opens it, whatever its size.
func (s *Store) open(d blob.Digest) (f *os.File, info fs.FileInfo, err error) {
	for range openTries {
		if f, info, err = s.openOnce(d); !errors.Is(err, errChanged) {
			break
		}
	}
	return f, info, err
}

func (s *Store) openOnce(d blob.Digest) (*os.File, fs.FileInfo, error) {
	before, err := s.lstat(d)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.root.OpenFile(name(d), os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, nil, err
	}
	// os.Root confines links to the directory but follows them; a file that
	// is not the one that Lstat saw came through a link made in between.
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		f.Close()
		return nil, nil, errChanged
	}
	return f, after, nil
}

// lstat finds the blob's file without following links.
func (s *Store) lstat(d blob.Digest) (fs.FileInfo, error) {
	n := name(d)
	for _, dir := range []string{blobDir, filepath.Dir(n)} {
		if err := s.checkDir(dir); err != nil {
			return nil, err
		}
	}
	info, err := s.root.Lstat(n)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return info, nil
}

var (
	errNotRegular = errors.New("not a regular file")
	errNotDir     = errors.New("not a directory")
	errChanged    = errors.New("another file was put in its place meanwhile")
)

func notDir(name string) error { return &fs.PathError{Op: "open", Path: name, Err: errNotDir} }

func (s *Store) checkDir(name string) error {
	info, err := s.root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return notDir(name)
	}
	return nil
}

// ensureDir makes one directory, durably, and refuses a link in its place.
func (s *Store) ensureDir(name string) error {
	err := s.root.Mkdir(name, 0o755)
	switch {
	case err == nil:
		return s.syncDir(filepath.Dir(name))
	case errors.Is(err, fs.ErrExist):
		return s.checkDir(name)
	}
	// On a read-only medium Mkdir may fail before it looks for the name.
	if s.checkDir(name) == nil {
		return nil
	}
	return err
}

func (s *Store) syncDir(name string) error {
	d, err := s.openDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Remove deletes the blob d, pinned or not. One that is not there is no error.
func (s *Store) Remove(d blob.Digest) error {
	if s.readOnly {
		return s.refuseWrite()
	}
	err := s.root.Remove(name(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// A CorruptError says that a stored file is not the blob that its name
// promises. Err is a *blob.MismatchError.
type CorruptError struct {
	Digest blob.Digest
	Path   string
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("cached blob %s is corrupt: %v", e.Digest, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// reader turns the mismatch of a blob reader into a *CorruptError.
type reader struct {
	file *os.File
	r    io.Reader
	d    blob.Digest
	path string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	var mismatch *blob.MismatchError
	if errors.As(err, &mismatch) {
		err = &CorruptError{Digest: r.d, Path: r.path, Err: mismatch}
	}
	return n, err
}

func (r *reader) Close() error { return r.file.Close() }
