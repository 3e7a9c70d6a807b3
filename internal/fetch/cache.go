package fetch

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

// cache is the store's copy of a blob while it is made. A full or failing store
// costs the copy, never the download: then nothing happens any more, nor
// with a nil *cache. It may be used by several goroutines.
type cache struct {
	warn func(msg string, err error)

	mu   sync.RWMutex // writers share it
	part *store.Partial
}

// openCache goes on with the store's unfinished copy, or begins one.
func openCache(s *store.Store, d blob.Digest, size int64, warn func(string, error)) *cache {
	c := &cache{warn: warn}
	if s == nil {
		return c
	}
	part, err := s.Partial(d, size)
	if err != nil {
		warn("cannot cache", err)
		return c
	}
	c.part = part
	return c
}

// write implements io.WriterAt, but for what it returns.
func (c *cache) write(p []byte, off int64) {
	if c == nil {
		return
	}
	c.mu.RLock()
	var err error
	if c.part != nil {
		_, err = c.part.WriteAt(p, off)
	}
	c.mu.RUnlock()
	if err != nil {
		c.end((*store.Partial).Abort, "caching stopped")
	}
}

func (c *cache) active() bool {
	if c == nil {
		return false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.part != nil
}

// ReadAt implements io.ReaderAt. What was never written reads as zeros.
func (c *cache) ReadAt(p []byte, off int64) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.part == nil {
		return 0, io.EOF
	}
	return c.part.ReadAt(p, off)
}

// end is how the part ends; only the first end counts.
func (c *cache) end(how func(*store.Partial) error, trouble string) {
	c.mu.Lock()
	part := c.part
	c.part = nil
	c.mu.Unlock()
	if part == nil {
		return
	}
	if err := how(part); err != nil && !errors.Is(err, os.ErrClosed) {
		c.warn(trouble, err)
	}
}

// keep gives the copy its name. sum is the digest of the target, and all that the
// target has was written here as well: hashing it once more would cost a slow
// machine seconds. Whoever reads the copy hashes it.
func (c *cache) keep(sum blob.Digest) {
	c.end(func(part *store.Partial) error { return part.CommitHashed(sum) }, "cannot cache")
}

// leave keeps the part for another time.
func (c *cache) leave() { c.end((*store.Partial).Close, "cannot keep what was cached") }

// drop removes it.
func (c *cache) drop() { c.end((*store.Partial).Abort, "cannot remove what was cached") }
