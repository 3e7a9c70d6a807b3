package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/trust"
)

// openState binds what this node keeps where the mode keeps an identity and the
// seed had a cache, and reports whether this boot must do without.
func (n *node) openState(ctx context.Context) (ephemeral bool) {
	if !n.mode.PersistentIdentity() || !n.info.Cache {
		return true
	}
	if err := n.bindState(ctx); err != nil {
		n.system.Log.Info("no cache; this boot's identity is not kept", "error", err)
		return true
	}
	return false
}

func (n *node) bindState(ctx context.Context) error {
	if err := n.mountCache(ctx); err != nil {
		return err
	}
	n.state = trust.OpenState(filepath.Join(cacheDir, pid1.StateDir))
	state := filepath.Join(cacheDir, "plasm")
	if err := makeFolder(state, 0o700); err != nil {
		return err
	}
	return syscall.Mount(state, stateDir, "", syscall.MS_BIND, "")
}

// makeFolder makes a folder of the cache. Whoever wrote to the medium must not
// choose what is mounted as ours: what is there already must be one.
func makeFolder(path string, perm os.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", path)
	}
	return nil
}

// mountCache mounts the cache that the seed has used, once. It is told from those
// of other disks by the identifier of its file system. Two with the same are one
// too many: nobody could say which.
func (n *node) mountCache(ctx context.Context) error {
	if n.cached {
		return nil
	}
	if n.info.CacheID == "" {
		return errors.New("the seed had none that could be told from others")
	}
	ctx, cancel := context.WithTimeout(ctx, partitionWithin)
	defer cancel()
	partitions, err := sysinit.WaitPartitions(ctx, cacheLabel, func(p sysinit.Partition) bool {
		id, err := sysinit.VolumeUUID(p.Device)
		return err == nil && id == n.info.CacheID
	})
	if err != nil {
		return err
	}
	if len(partitions) != 1 {
		return fmt.Errorf("%d partitions are named %s and have the identifier %s", len(partitions), cacheLabel, n.info.CacheID)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return err
	}
	if err := n.system.MountCache(partitions[0].Device, cacheDir); err != nil {
		return err
	}
	n.cached = true
	return nil
}

// overlayDir has what systems wrote over their root file systems, by the digest of
// their manifest.
const overlayDir = "overlay"

// overlayRoom is how much of the partition must be free for an overlay in it to
// begin: with less, a system that cannot write its logs would be all there is.
const overlayRoom = 32 << 20

// errNoRoom says that the cache is full.
var errNoRoom = errors.New("the cache has no room for it; empty it with `phase cache gc`, or use a larger medium")

// overlayInCache lays the folder of this release over the image, and removes those
// of others: what was written over one image means nothing over another.
func (n *node) overlayInCache(ctx context.Context) error {
	if err := n.mountCache(ctx); err != nil {
		return err
	}
	all := filepath.Join(cacheDir, overlayDir)
	if err := makeFolder(all, 0o700); err != nil {
		return err
	}
	own := n.info.Manifest.Digest.Hex()
	if err := removeOthers(all, own); err != nil {
		n.system.Log.Warn("remove what other releases wrote", "error", err)
	}
	var free unix.Statfs_t
	if err := unix.Statfs(all, &free); err != nil {
		return err
	}
	if int64(free.Bavail)*free.Bsize < overlayRoom {
		return errNoRoom
	}
	if err := makeFolder(filepath.Join(all, own), 0o700); err != nil {
		return err
	}
	upper, work := filepath.Join(all, own, "upper"), filepath.Join(all, own, "work")
	for _, dir := range []string{upper, work} {
		if err := makeFolder(dir, 0o755); err != nil {
			return err
		}
	}
	return sysinit.MountOverlay(imageDir, upper, work, newRoot)
}

// removeOthers removes all from a folder but one name.
func removeOthers(dir, keep string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != keep {
			errs = append(errs, root.RemoveAll(e.Name()))
		}
	}
	return errors.Join(errs...)
}
