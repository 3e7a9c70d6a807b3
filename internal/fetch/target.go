package fetch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/phasebased/phase/blob"
)

// A target takes the bytes of one artifact, in any order. An *os.File is one.
type target interface {
	io.ReaderAt
	io.WriterAt
}

// document is the target for small documents. Its parts arrive in order.
type document struct{ data []byte }

func (m *document) WriteAt(p []byte, off int64) (int, error) {
	if off > int64(len(m.data)) {
		return 0, errors.New("a hole in a document")
	}
	m.data = append(m.data[:off], p...)
	return len(p), nil
}

func (m *document) ReadAt(p []byte, off int64) (int, error) {
	if off > int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// localError marks a fault of this machine while it was taking bytes.
type localError struct{ error }

func isLocal(err error) bool {
	var local localError
	return errors.As(err, &local)
}

// output is what one download produces: bytes in dst, and the same in the
// cache's unfinished file while that works. Parts that do not overlap may be
// written at once.
type output struct {
	dst   target
	cache *cache
}

func (o *output) write(p []byte, off int64) error {
	_, err := o.dst.WriteAt(p, off)
	if errors.Is(err, errNoSpace) && o.cache.active() { // the copy may be what fills the disk
		o.cache.drop()
		_, err = o.dst.WriteAt(p, off)
	}
	if err != nil {
		return localError{err}
	}
	o.cache.write(p, off)
	return nil
}

// A follower hashes what was written to a target, in order, behind the writers
// and from where it is kept: what it finds right is what is there, and not what
// was on the way.
type follower struct {
	limits chan int64 // how far the bytes are there; of capacity 1, the latest wins
	done   chan struct{}
	at     int64
	hash   hash.Hash
	err    error
}

// bufferSize is read at once: large enough that system calls do not count,
// small enough for the processor's cache.
const bufferSize = 256 << 10

// follow begins at the start of r, which will have size bytes.
func follow(r io.ReaderAt, size int64) *follower {
	limits := make(chan int64, 1)
	f := &follower{limits: limits, done: make(chan struct{}), hash: sha256.New()}
	go func() {
		defer close(f.done)
		buf := make([]byte, min(bufferSize, size))
		for limit := range limits {
			f.to(r, limit, buf)
		}
	}()
	return f
}

func (f *follower) to(r io.ReaderAt, limit int64, buf []byte) {
	for f.err == nil && f.at < limit {
		b := buf[:min(int64(len(buf)), limit-f.at)]
		if n, err := r.ReadAt(b, f.at); n < len(b) {
			f.err = localError{fmt.Errorf("read back: %w", err)}
			return
		}
		f.hash.Write(b)
		f.at += int64(len(b))
	}
}

// advance says that all bytes before limit are there and stay. It is for one
// goroutine at a time.
func (f *follower) advance(limit int64) {
	select {
	case <-f.limits: // not seen yet, and less
	default:
	}
	f.limits <- limit
}

// sum ends it and returns the digest of everything. A second call only ends it.
func (f *follower) sum() (blob.Digest, error) {
	f.stop()
	return blob.FromSum([sha256.Size]byte(f.hash.Sum(nil))), f.err
}

// stop ends it.
func (f *follower) stop() {
	if f.limits != nil {
		close(f.limits)
		<-f.done
		f.limits = nil
	}
}
