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
	h := startHashing(o.hash, min(bufferSize, o.job.size+1))
	defer h.wait()
	for {
		// One byte past the end is enough to notice a source that goes on.
		buf := h.buffer()
		buf = buf[:min(int64(len(buf)), o.job.size-o.n+1)]
		n, err := io.ReadFull(r, buf)
		if seen := o.n + int64(n); seen > o.job.size {
			return &blob.MismatchError{Want: o.job.digest, WantSize: o.job.size, GotSize: seen}
		}
		if err := o.write(buf[:n]); err != nil {
			return localError{err}
		}
		h.full <- buf[:n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return o.ended()
		}
		if err != nil {
			return err
		}
	}
}

// hashing feeds a hash from its own goroutine, through a few buffers that go
// round: full to it, free back from it.
type hashing struct {
	full, free chan []byte
	done       chan struct{}
	made       int
	size       int64
}

func startHashing(sum hash.Hash, size int64) *hashing {
	h := &hashing{full: make(chan []byte, buffers), free: make(chan []byte, buffers), done: make(chan struct{}), size: size}
	go func() {
		defer close(h.done)
		for b := range h.full {
			sum.Write(b)
			h.free <- b[:cap(b)]
		}
	}()
	return h
}

// buffer returns one that is free, or a new one while there may be more.
func (h *hashing) buffer() []byte {
	select {
	case b := <-h.free:
		return b
	default:
	}
	if h.made < buffers {
		h.made++
		return make([]byte, h.size)
	}
	return <-h.free
}

// wait ends the goroutine after all that was sent is hashed.
func (h *hashing) wait() {
	close(h.full)
	<-h.done
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
func (o *output) ended() error {
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
