package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

const (
	partSuffix = ".part"
	// partAge is how long a part that nobody goes on with is kept.
	partAge = 7 * 24 * time.Hour
)

// A Partial is a blob that arrives in any order, over several processes and
// boots if need be. Nothing in it is trusted, least of all after a power cut,
// which may leave zeros where bytes were written: whoever resumes compares what
// is there with a list of chunks, and Commit hashes the whole of it.
//
// WriteAt and ReadAt may be called by several goroutines. Exactly one of Commit,
// Close and Abort ends it; what comes after the end is os.ErrClosed.
type Partial struct {
	s    *Store
	d    blob.Digest
	size int64
	temp string
	made bool // by this Partial: it went on with none

	mu   sync.RWMutex // readers and writers share it; the end has it alone
	file *os.File     // nil after the end
}

// A BusyError says that somebody else, here or in another process, is writing
// the same part.
type BusyError struct{ Digest blob.Digest }

func (e *BusyError) Error() string {
	return fmt.Sprintf("blob %s is being stored by somebody else", e.Digest)
}

// Hint says what to do next.
func (*BusyError) Hint() string {
	return "Wait until the other download has ended, or download without the cache."
}

// Partial opens what there is of the blob d, of size bytes in all, or begins
// it. It is exclusive: a second one is a *BusyError until the first has ended,
// also when its process was killed. Its whole size counts against the limits of
// all processes from now on; a *FullError says that there is no room.
func (s *Store) Partial(d blob.Digest, size int64) (*Partial, error) {
	if d.IsZero() || size < 0 {
		return nil, errNoBlob
	}
	p := &Partial{s: s, d: d, size: size, temp: filepath.Join(tempDir, d.Hex()+partSuffix)}
	if err := s.locked(p.open); err != nil {
		var busy *BusyError
		if errors.As(err, &busy) {
			return nil, err
		}
		return nil, fmt.Errorf("store part: %w", err)
	}
	if !p.made {
		return p, nil
	}
	// On a slow medium this takes seconds, so nobody is kept waiting by the lock.
	if err := s.syncDir(tempDir); err != nil {
		return nil, fmt.Errorf("store part: %w", errors.Join(err, p.Abort()))
	}
	return p, nil
}

// open finds or makes the file; the caller has the store's lock.
func (p *Partial) open() error {
	f, err := p.openFile()
	if err != nil {
		return err
	}
	free, err := tryLock(f)
	if err == nil && !free && locksExist || err == nil && p.s.stillAt(f, p.temp) != nil { // just ended
		err = &BusyError{Digest: p.d}
	}
	if err == nil {
		err = p.prepare(f)
	}
	if err != nil {
		f.Close()
		return err
	}
	p.file = f
	return nil
}

// openFile opens the part that is there, or a new one. Anything else that lies
// under its name, such as a link to a blob that would be written over, goes.
func (p *Partial) openFile() (*os.File, error) {
	root := p.s.root
	before, err := root.Lstat(p.temp)
	if err == nil && (!before.Mode().IsRegular() || links(before) != 1) {
		if err := root.RemoveAll(p.temp); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		p.made = true
		return root.OpenFile(p.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(p.temp, os.O_RDWR|openFlags, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		return nil, errors.Join(err, errChanged, f.Close())
	}
	return f, nil
}

// prepare gives the file its whole length, which is what others count.
func (p *Partial) prepare(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	have := info.Size()
	if have > p.size { // of a blob of another size, so of another blob
		if err := f.Truncate(0); err != nil {
			return err
		}
		have = 0
	}
	err = p.s.makeRoom(p.size - have)
	if err == nil {
		err = f.Truncate(p.size)
	}
	if err != nil {
		if have == 0 {
			return errors.Join(err, p.s.root.Remove(p.temp))
		}
		return err
	}
	p.s.touchName(p.temp)
	return nil
}

// Size is that of the whole blob, in bytes.
func (p *Partial) Size() int64 { return p.size }

// WriteAt implements io.WriterAt. It takes no byte beyond the blob's end.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.file == nil {
		return 0, os.ErrClosed
	}
	if off < 0 || off > p.size || int64(len(b)) > p.size-off {
		return 0, &blob.MismatchError{Want: p.d, WantSize: p.size, GotSize: end(off, len(b))}
	}
	n, err := p.file.WriteAt(b, off)
	if err != nil {
		err = fmt.Errorf("store part: %w", err)
	}
	return n, err
}

// end is where n bytes from off end, without overflow.
func end(off int64, n int) int64 {
	if off < 0 || int64(n) > math.MaxInt64-off {
		return math.MaxInt64
	}
	return off + int64(n)
}

// ReadAt implements io.ReaderAt. What was never written reads as zeros.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.file == nil {
		return 0, os.ErrClosed
	}
	return io.NewSectionReader(p.file, 0, p.size).ReadAt(b, off)
}

// Commit gives the blob its name if, and only if, the whole of it, read from its
// file, hashes to its digest. Otherwise it fails with a *CorruptError and removes
// the part: each chunk may have been right when it was written, so nobody knows
// which of them to ask for again. When Commit returns nil the blob survives a
// power cut. After another error the part is kept, unless the device refused to
// keep its bytes. Whatever it returns, the Partial is finished.
func (p *Partial) Commit() error { return p.commit(p.check) }

// CommitHashed is Commit for a caller that has itself hashed, in order, the very
// bytes that the file has now, so that a large blob is not read and hashed once
// more: sum is what came out. Like every blob, it is hashed again by each reader.
func (p *Partial) CommitHashed(sum blob.Digest) error {
	return p.commit(func() error {
		if sum == p.d {
			return nil
		}
		return p.corrupt(&blob.MismatchError{Want: p.d, Got: sum, WantSize: p.size, GotSize: p.size})
	})
}

func (p *Partial) commit(check func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return os.ErrClosed
	}
	defer p.close()
	if err := check(); err != nil {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			return errors.Join(err, p.s.root.Remove(p.temp))
		}
		return fmt.Errorf("store part: %w", err)
	}
	p.s.touchName(p.temp)
	// After a failed flush the kernel forgets which pages the device lacks. What
	// reads well now may be lost tomorrow, so it is not resumed either.
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("store blob %s: %w", p.d, errors.Join(err, p.s.root.Remove(p.temp)))
	}
	if err := p.s.publish(p.file, p.temp, p.d); err != nil {
		return fmt.Errorf("store blob %s: %w", p.d, err)
	}
	return nil
}

// check hashes the whole file.
func (p *Partial) check() error {
	whole := io.NewSectionReader(p.file, 0, math.MaxInt64)
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, blob.NewReader(whole, p.d, p.size), make([]byte, 256<<10))
	var mismatch *blob.MismatchError
	if errors.As(err, &mismatch) {
		return p.corrupt(mismatch)
	}
	return err
}

func (p *Partial) corrupt(err *blob.MismatchError) error {
	return &CorruptError{Digest: p.d, Path: filepath.Join(p.s.dir, p.temp), Err: err}
}

// Close ends the Partial and keeps what was written for another time.
func (p *Partial) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return os.ErrClosed
	}
	p.s.touchName(p.temp)
	return p.close()
}

func (p *Partial) close() error {
	err := p.file.Close()
	p.file = nil
	return err
}

// Abort ends the Partial and removes it. After the end it does nothing, so it
// can be deferred.
func (p *Partial) Abort() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	return errors.Join(p.s.root.Remove(p.temp), p.close())
}

// partDigest is the digest in the name of a part.
func partDigest(name string) (blob.Digest, bool) {
	hex, ok := strings.CutSuffix(name, partSuffix)
	if !ok {
		return blob.Digest{}, false
	}
	d, err := blob.Parse(blob.Prefix + hex)
	return d, err == nil
}
