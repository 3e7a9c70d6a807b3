package fetch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

const (
	// bufferSize is how much is read before it is written and hashed: large
	// enough that system calls do not count, small enough for the caches.
	bufferSize = 256 << 10
	buffers    = 4
)

// A sink takes the bytes of one artifact in order. Reset drops all of them.
type sink interface {
	io.Writer
	Reset() error
}

// memory is the sink for small documents.
type memory struct{ data []byte }

func (m *memory) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *memory) Reset() error {
	m.data = m.data[:0]
	return nil
}

// output is what one download produces: n bytes in dst, the same bytes in the
// hash, and the same again in the cache's temporary file while that works.
type output struct {
	job   job
	dst   sink
	hash  hash.Hash
	n     int64
	store *store.Store  // nil: no cache
	tee   *store.Writer // nil: nothing begun, or given up
	warn  func(msg string, err error)
}

// localError marks a fault of this machine while it was taking bytes.
type localError struct{ error }

// reset goes back to no bytes at all. toStore says whether the bytes to come
// are worth caching (those from the cache are not).
func (o *output) reset(toStore bool) error {
	o.dropTee()
	if o.n > 0 {
		if err := o.dst.Reset(); err != nil {
			return localError{err}
		}
	}
	o.n = 0
	o.hash.Reset()
	if o.store == nil || !toStore {
		return nil
	}
	tee, err := o.store.CreateUnverified(o.job.digest, o.job.size)
	if err != nil {
		o.giveUpStore("cannot cache", err)
		return nil
	}
	o.tee = tee
	return nil
}

func (o *output) dropTee() {
	if o.tee != nil {
		o.tee.Abort()
		o.tee = nil
	}
}

// giveUpStore: a full or failing cache costs the cache entry, never the boot.
func (o *output) giveUpStore(msg string, err error) {
	o.dropTee()
	o.store = nil
	o.warn(msg, err)
}

// copy appends all of r, which must not go past the stated size. Hashing runs
// beside reading and writing; both have ended when copy returns, so n and the
// hash agree whatever happened.
func (o *output) copy(r io.Reader) error {
	full, free := make(chan []byte, buffers), make(chan []byte, buffers)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range full {
			o.hash.Write(b)
			free <- b[:cap(b)]
		}
	}()
	defer func() { close(full); <-done }()

	made := 0
	for {
		var buf []byte
		select {
		case buf = <-free:
		default:
			if made < buffers {
				buf, made = make([]byte, min(bufferSize, o.job.size+1)), made+1
			} else {
				buf = <-free
			}
		}
		// One byte past the end is enough to notice a source that goes on.
		buf = buf[:min(int64(cap(buf)), o.job.size-o.n+1)]
		n, err := io.ReadFull(r, buf)
		if over := o.n + int64(n) - o.job.size; over > 0 {
			free <- buf
			return &blob.MismatchError{Want: o.job.digest, WantSize: o.job.size, GotSize: o.n + int64(n)}
		}
		if werr := o.write(buf[:n]); werr != nil {
			free <- buf
			return localError{werr}
		}
		full <- buf[:n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return o.ended(err)
		}
		if err != nil {
			return err
		}
	}
}

func (o *output) write(p []byte) error {
	if _, err := o.dst.Write(p); err != nil {
		return err
	}
	o.n += int64(len(p))
	if o.tee != nil {
		if _, err := o.tee.Write(p); err != nil {
			o.giveUpStore("caching stopped", err)
		}
	}
	return nil
}

// ended judges the end of a stream: too early is the line's fault as likely
// as the source's, so it is no mismatch.
func (o *output) ended(err error) error {
	if o.n < o.job.size {
		return fmt.Errorf("%w: after %d of %d bytes", ErrShort, o.n, o.job.size)
	}
	return nil
}

// verify compares the digest of everything written; nil means that the bytes
// are the artifact.
func (o *output) verify() error {
	got := blob.FromSum([sha256.Size]byte(o.hash.Sum(nil)))
	if o.n != o.job.size || got != o.job.digest {
		return &blob.MismatchError{Want: o.job.digest, Got: got, WantSize: o.job.size, GotSize: o.n}
	}
	return nil
}

// keep gives the cached copy its name.
func (o *output) keep() {
	if o.tee == nil {
		return
	}
	if err := o.tee.Commit(); err != nil {
		o.warn("cannot cache", err)
	}
	o.tee = nil
}
