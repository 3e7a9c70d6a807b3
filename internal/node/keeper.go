package node

import (
	"io"
	"os"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

// A Keeper keeps modules and inputs that were brought to this node, in a store, and
// counts them for who brought them. Where one of them brings more than Share, the
// oldest of theirs go, and nobody else's. It counts from its start on: what was there
// before, and what the node got for itself, is only bounded by the store's own limit. It
// is safe for concurrent use.
type Keeper struct {
	*store.Store
	Share int64 // bytes that are kept for one who brings them

	mu     sync.Mutex
	owners map[string]*shelf
}

// shelf is what one has brought, the oldest first.
type shelf struct {
	blobs []keptBlob
	bytes int64
}

type keptBlob struct {
	digest  blob.Digest
	size    int64
	brought bool // by somebody: it goes with the last who claims it
}

// maxShelf bounds what is remembered of one who brings many small blobs.
const maxShelf = 4096

// PutFor keeps size bytes of r if they are d, for who.
func (k *Keeper) PutFor(who string, d blob.Digest, size int64, r io.Reader) error {
	there := k.Has(d)
	if err := k.Put(d, size, r); err != nil {
		return err
	}
	k.claim(who, d, size, !there)
	return nil
}

// Claim says that who needs d, which is here: it is counted as if they had brought it,
// and stays when others' claims go.
func (k *Keeper) Claim(who string, d blob.Digest) {
	if info, err := os.Lstat(k.Path(d)); err == nil {
		k.claim(who, d, info.Size(), false)
	}
}

func (k *Keeper) claim(who string, d blob.Digest, size int64, brought bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.owners == nil {
		k.owners = map[string]*shelf{}
	}
	own := k.owners[who]
	if own == nil {
		own = &shelf{}
		k.owners[who] = own
	}
	for _, other := range k.owners {
		brought = brought || other.find(d).brought
	}
	own.take(d)
	own.blobs, own.bytes = append(own.blobs, keptBlob{d, size, brought}), own.bytes+size
	for len(own.blobs) > 1 && (own.bytes > k.Share || len(own.blobs) > maxShelf) {
		old := own.blobs[0]
		own.take(old.digest)
		if old.brought && !k.claimed(old.digest) {
			_ = k.Remove(old.digest) // it may be gone already
		}
	}
}

// take takes d off the shelf.
func (s *shelf) take(d blob.Digest) {
	for i, b := range s.blobs {
		if b.digest == d {
			s.blobs, s.bytes = append(s.blobs[:i:i], s.blobs[i+1:]...), s.bytes-b.size
			return
		}
	}
}

// find is d on the shelf, or nothing.
func (s *shelf) find(d blob.Digest) keptBlob {
	for _, b := range s.blobs {
		if b.digest == d {
			return b
		}
	}
	return keptBlob{}
}

// claimed reports whether anybody needs d. The caller holds the lock.
func (k *Keeper) claimed(d blob.Digest) bool {
	for _, own := range k.owners {
		if own.find(d).digest == d {
			return true
		}
	}
	return false
}
