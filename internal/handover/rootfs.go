package handover

import (
	"fmt"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// Where the next system finds its root file system.
const (
	PlaceInitramfs = "initramfs" // as RootfsPath, in its own memory
	PlaceCache     = "cache"     // in the cache partition, as a blob
)

// What the next system lays over its root file system.
const (
	OverlayMemory = "memory" // what is written is gone with the power
	OverlayCache  = "cache"  // what is written stays, for this release
)

// Rootfs tells the next system where its root file system is and, where that is
// not its own memory, by what to check each block that it reads.
type Rootfs struct {
	Place  string      `json:"place"`
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"`            // bytes
	Verity *Verity     `json:"verity,omitzero"` // the manifest's word; always there in the cache
}

// Verity is manifest.Verity.
type Verity struct {
	Root     blob.Digest `json:"root"`
	Salt     []byte      `json:"salt,omitempty"`
	DataSize int64       `json:"data_size"`
}

// Tree is the hash tree as package verity takes it; nil if there is none.
func (r *Rootfs) Tree() *manifest.Verity {
	if r == nil || r.Verity == nil {
		return nil
	}
	return &manifest.Verity{Root: r.Verity.Root, Salt: r.Verity.Salt, DataSize: r.Verity.DataSize}
}

// rootfsOf is what a manifest says of its root file system; nil if it has none.
func rootfsOf(m manifest.Manifest, place string) *Rootfs {
	if m.Rootfs == nil {
		return nil
	}
	r := &Rootfs{Place: place, Digest: m.Rootfs.Hash, Size: m.Rootfs.Size}
	if v := m.Rootfs.Verity; v != nil {
		r.Verity = &Verity{Root: v.Root, Salt: v.Salt, DataSize: v.DataSize}
	}
	return r
}

func (r *Rootfs) check() error {
	if r == nil {
		return nil
	}
	switch {
	case r.Place != PlaceInitramfs && r.Place != PlaceCache:
		return fmt.Errorf("%w: a root file system in %.40q", ErrInfo, r.Place)
	case r.Digest.IsZero() || r.Size < 1 || r.Size > manifest.MaxRootfsBytes:
		return fmt.Errorf("%w: a root file system of %d bytes", ErrInfo, r.Size)
	case r.Place == PlaceCache && r.Verity == nil:
		return fmt.Errorf("%w: a root file system in the cache that nothing checks", ErrInfo)
	}
	v := r.Verity
	if v == nil {
		return nil
	}
	if v.Root.IsZero() || len(v.Salt) > manifest.MaxVeritySalt || v.DataSize < manifest.VerityBlock || v.DataSize%manifest.VerityBlock != 0 ||
		v.DataSize > r.Size || v.DataSize+manifest.VerityTreeSize(v.DataSize) != r.Size {
		return fmt.Errorf("%w: a hash tree over %d of %d bytes", ErrInfo, v.DataSize, r.Size)
	}
	return nil
}

// checkPlaces is about the members that say where things are.
func (i Info) checkPlaces() error {
	switch i.Overlay {
	case "", OverlayMemory, OverlayCache:
	default:
		return fmt.Errorf("%w: an overlay in %.40q", ErrInfo, i.Overlay)
	}
	if id := i.CacheID; len(id) > 64 || strings.Trim(id, "0123456789abcdef-") != "" {
		return fmt.Errorf("%w: %.80q is not a file system's identifier", ErrInfo, id)
	}
	if !i.Cache && (i.CacheID != "" || i.Overlay == OverlayCache || i.Rootfs != nil && i.Rootfs.Place == PlaceCache) {
		return fmt.Errorf("%w: something is in a cache that there is not", ErrInfo)
	}
	return i.Rootfs.check()
}
