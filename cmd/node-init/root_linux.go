package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/verity"
)

// restartAfter is how long it is shown that the cached root file system cannot be
// used, before the machine starts again so that the seed can mend it.
const restartAfter = 20 * time.Second

// CachedRootError says that the root file system in the cache cannot be used. The
// seed knows how to go on: it finds that this boot did not come up.
type CachedRootError struct{ Err error }

func (e *CachedRootError) Error() string {
	return "the root file system in the cache cannot be used: " + e.Err.Error()
}

func (e *CachedRootError) Unwrap() error { return e.Err }

// Code is the error's number in docs/codes.md.
func (e *CachedRootError) Code() string { return "NODE-042" }

// Hint says what happens next.
func (e *CachedRootError) Hint() string {
	return fmt.Sprintf("Wait: in %.0f seconds this machine starts again. The seed then reads the file through, and fetches anew what is wrong in it.", restartAfter.Seconds())
}

var (
	errRotten = errors.New("a block of it is not what its publisher signed (the medium may be worn out)")
	errGone   = errors.New("the cache has lost it")
)

// enterRoot mounts the root file system under an overlay and moves into it.
func (n *node) enterRoot(ctx context.Context) (note string, err error) {
	if err := n.loadModules("loop", "overlay"); err != nil {
		return "", err
	}
	for _, dir := range []string{imageDir, newRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	kind, err := n.mountImage(ctx)
	if err != nil {
		return "", err
	}
	where, err := n.mountOverlay(ctx)
	if err != nil {
		return "", err
	}
	if n.cached { // it goes along, as it is part of the new root
		if err := moveMount(cacheDir, filepath.Join(newRoot, cacheDir)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("overlay in %s over a read-only %s in %s", where, kind, n.place()), sysinit.SwitchRoot(newRoot)
}

func (n *node) loadModules(names ...string) error {
	if n.system.Modules == nil {
		return nil
	}
	if err := n.system.Modules.Load(names...); err != nil {
		return fmt.Errorf("load the drivers of the root file system: %w", err)
	}
	return nil
}

// place is where the root file system is.
func (n *node) place() string {
	if n.info.Rootfs == nil {
		return handover.PlaceInitramfs
	}
	return n.info.Rootfs.Place
}

// mountImage mounts the root file system from where the seed has left it, and says
// what it is.
func (n *node) mountImage(ctx context.Context) (kind string, err error) {
	if n.place() == handover.PlaceInitramfs {
		return n.mountLoop(handover.RootfsPath)
	}
	if kind, err = n.mountCached(ctx); err != nil {
		return "", &CachedRootError{err}
	}
	return kind, nil
}

// mountLoop mounts an image whose every byte the seed has hashed, and which lies in
// memory since.
func (n *node) mountLoop(path string) (kind string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	loop, err := sysinit.AttachLoop(path)
	if err != nil {
		return "", err
	}
	defer loop.Close()
	return n.mountDevice(loop.Device, info.Size())
}

func (n *node) mountDevice(device string, size int64) (kind string, err error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	kind, err = sysinit.ImageType(f, size)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if err := n.loadModules(kind); err != nil {
		return "", err
	}
	return kind, sysinit.MountImage(device, imageDir, kind)
}

// imageDevice is what the device mapper calls the root file system.
const imageDevice = "phase-root"

// mountCached mounts the image where it lies in the cache. Its bytes are not looked
// at before the kernel has the root of their hash tree, which the seed took from
// the manifest: what does not fit is EIO, now and later.
func (n *node) mountCached(ctx context.Context) (kind string, err error) {
	if err := n.loadModules("dm_verity"); err != nil {
		return "", err
	}
	if err := n.mountCache(ctx); err != nil {
		return "", err
	}
	cache, err := openCache()
	if err != nil {
		return "", err
	}
	defer cache.Close()
	r := n.info.Rootfs
	file, err := cache.OpenUnverified(r.Digest, r.Size)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	loop, err := sysinit.AttachLoop("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	if err != nil {
		return "", err
	}
	defer loop.Close() // the device above it holds it
	tree := *r.Tree()
	if n.image, err = verity.Open(imageDevice, loop.Device, tree, r.Size); err != nil {
		return "", err
	}
	if kind, err = n.mountDevice(n.image.Path, tree.DataSize); err != nil {
		if corrupt, _ := n.image.Corrupt(); corrupt {
			err = fmt.Errorf("%w; %w", errRotten, err)
		}
		return "", errors.Join(err, n.image.Close())
	}
	return kind, nil
}

// mountOverlay lays what is written over the image, in memory or, where that was
// asked for, in the cache.
func (n *node) mountOverlay(ctx context.Context) (where string, err error) {
	if n.info.Overlay == handover.OverlayCache && n.mode.MayWrite() {
		err := n.overlayInCache(ctx)
		if err == nil {
			return "the cache", nil
		}
		n.system.Console.Line("WARNING: what is written now is gone with the power: " + err.Error())
	}
	if err := sysinit.MountTmpfs(memoryDir, 0); err != nil {
		return "", err
	}
	return "memory", sysinit.MountOverlay(imageDir, filepath.Join(memoryDir, "upper"), filepath.Join(memoryDir, "work"), newRoot)
}

// moveMount moves a mount to another place, which it makes.
func moveMount(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return nil
}

// watchImage ends with an error when the kernel comes upon a block of the root file
// system that is not what was signed. Whoever reads it got an error in its place.
func (n *node) watchImage(ctx context.Context) error {
	if n.image == nil {
		return nil
	}
	w, err := sysinit.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		// Looking comes after the socket was opened, so that nothing falls between.
		if corrupt, err := n.image.Corrupt(); err == nil && corrupt {
			n.rotten()
			return nil
		}
		for {
			u, err := w.Next(ctx)
			if errors.Is(err, sysinit.ErrLost) || err == nil && u.Env["DM_VERITY_ERR_BLOCK_NR"] != "" {
				break
			}
			if err != nil {
				return err
			}
		}
	}
}

// rotten lets the next boot read the image through. A node that has not come up yet
// cannot be trusted to: the machine starts again.
func (n *node) rotten() {
	if err := n.doubt(); err != nil {
		n.system.Log.Error("note that the cached root file system is rotten", "error", err)
	}
	if n.confirmed.Load() {
		n.system.Console.Line("WARNING: " + errRotten.Error() + ". The root file system in the cache is read through at the next start.")
		n.system.Timeline.Send(timeline.Event{Event: timeline.EventFailed, Stage: "node", Code: "NODE-043", Text: errRotten.Error()})
		return
	}
	failure := &CachedRootError{errRotten}
	n.fail(failure)
	n.startAgain(failure)
}

func (n *node) doubt() error {
	return n.aboutImage(func(cache *store.Store, d blob.Digest) error {
		if cache.Doubts(d) > 0 {
			return nil // the seed's, of this boot
		}
		_, err := cache.Doubt(d)
		return err
	})
}

// sure takes the doubt away that the seed has left: the image was good enough for
// this system to come up.
func (n *node) sure() {
	if n.image == nil {
		return
	}
	corrupt, err := n.image.Corrupt()
	if err == nil && !corrupt {
		err = n.aboutImage(func(cache *store.Store, d blob.Digest) error { return cache.Sure(d) })
	}
	if err != nil {
		n.system.Log.Warn("the cached root file system is read through at the next start", "error", err)
	}
}

func (n *node) aboutImage(do func(cache *store.Store, d blob.Digest) error) error {
	cache, err := openCache()
	if err != nil {
		return err
	}
	return errors.Join(do(cache, n.info.Rootfs.Digest), cache.Close())
}

// startAgain restarts a machine that only the seed can help, after a person could
// read why.
func (n *node) startAgain(err error) {
	var cached *CachedRootError
	if !errors.As(err, &cached) {
		return
	}
	time.Sleep(restartAfter)
	n.system.Console.Line("Starting again.")
	n.system.Flush(2 * time.Second)
	if err := sysinit.Reboot(syncLimit); err != nil {
		n.system.Log.Error("restart", "error", err)
	}
}
