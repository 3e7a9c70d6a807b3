package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// A root file system that its manifest gives a hash tree stays in the cache: the
// next system opens it there and its kernel checks each block. So it is read here
// only when it arrives.
//
// Rot is then found by the next system, which cannot fetch. Therefore each boot
// leaves a doubt in the cache, which the system takes away when it has come up. A
// boot that finds one reads the file through, and repairs it; one that finds more
// than that can explain loads it into memory as ever. So a file that cannot be
// used, for whatever reason, never stops a machine for good.
const (
	readThrough = 1 // doubts from which on the file is read through
	notThere    = 3 // and from which on it is not used where it is
)

// keeps reports whether the root file system of m is to stay in the cache.
func (c *Corridor) keeps(m manifest.Manifest) bool {
	if !c.Keep || c.Fetcher.Store == nil || m.Rootfs == nil || m.Rootfs.Verity == nil {
		return false
	}
	return c.Fetcher.Store.Doubts(m.Rootfs.Hash) < notThere
}

// keep gets the root file system into the cache or, where that cannot be, into
// memory.
func (c *Corridor) keep(ctx context.Context, fetcher fetch.Fetcher, verified *manifest.Verified, bases []string, f *files) error {
	m := verified.Manifest()
	kept, err := c.keepOnce(ctx, fetcher, verified, bases)
	var cannot *fetch.KeepError
	if !errors.As(err, &cannot) {
		if err == nil {
			f.kept, f.release = kept, func() { _ = fetcher.Store.Undoubt(kept.Digest()) }
		}
		return err
	}
	c.Observe.Note(timeline.StageFetch, fmt.Sprintf("WARNING: the root file system is loaded into memory: %v", err))
	if err := c.Fits(m, false); err != nil {
		return err
	}
	f.rootfs, err = fetcher.Artifact(ctx, verified, "rootfs", bases)
	return err
}

func (c *Corridor) keepOnce(ctx context.Context, fetcher fetch.Fetcher, verified *manifest.Verified, bases []string) (*fetch.Kept, error) {
	d := verified.Manifest().Rootfs.Hash
	doubts := fetcher.Store.Doubts(d)
	if doubts >= readThrough && fetcher.Store.Has(d) {
		c.Observe.Note(timeline.StageFetch, "The system that was started last from this cache never said that it came up: its root file system is read through.")
	}
	kept, err := fetcher.Keep(ctx, verified, "rootfs", bases, doubts >= readThrough)
	if err != nil {
		return nil, err
	}
	if _, err := fetcher.Store.Doubt(d); err != nil {
		return nil, &fetch.KeepError{Artifact: "rootfs", Err: err}
	}
	return kept, nil
}
