package node

import (
	"slices"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// moduleCache keeps modules in memory that were compared with their digests, so that a
// job does not wait while the module of the job before is read and hashed again. Who
// gets a module does not write to it. It is safe for concurrent use.
//
// A module is asked for where it is kept at least once in askEvery: there it stays one
// that is used, and one that an owner has removed runs for a minute more at most.
type moduleCache struct {
	most int64 // of all modules, in bytes of memory

	mu    sync.Mutex
	kept  []keptModule // the longest unused one first
	bytes int64        // of kept
}

type keptModule struct {
	digest blob.Digest
	bytes  []byte
	asked  time.Time // when it came
}

// Bounds of a moduleCache.
const (
	cachedBytes   = 32 << 20
	cachedModules = 64
	askEvery      = time.Minute
)

// get gives the module d, or nil if it is not here, or has to be asked for again.
func (c *moduleCache) get(d blob.Digest, now time.Time) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.take(d)
	if age := now.Sub(k.asked); k.bytes == nil || age < 0 || age >= askEvery {
		return nil
	}
	c.add(k)
	return k.bytes
}

// put keeps a module that is d, unless it is too large, and gives up what is then too much.
func (c *moduleCache) put(d blob.Digest, module []byte, now time.Time) {
	if int64(cap(module)) > c.most {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(d)
	c.add(keptModule{d, module, now})
	for c.bytes > c.most || len(c.kept) > cachedModules {
		c.take(c.kept[0].digest)
	}
}

// take removes d, which may not be there.
func (c *moduleCache) take(d blob.Digest) (k keptModule) {
	i := slices.IndexFunc(c.kept, func(k keptModule) bool { return k.digest == d })
	if i < 0 {
		return k
	}
	k = c.kept[i]
	c.kept = slices.Delete(c.kept, i, i+1)
	c.bytes -= int64(cap(k.bytes))
	return k
}

func (c *moduleCache) add(k keptModule) {
	c.kept = append(c.kept, k)
	c.bytes += int64(cap(k.bytes))
}
