package boot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

// treed publishes a release whose root file system has a hash tree, and gives the
// corridor a cache in which the next system would find it. It returns the cache and
// the root file system's digest.
func (w *world) treed(limit store.Limit) (*store.Store, blob.Digest) {
	w.Helper()
	dir := w.TempDir()
	r := release.Release{
		Channel: want.Channel, Arch: want.Arch, Version: 1, Created: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 3, 0),
		PointerExpiry: now.AddDate(0, 0, 7), Bases: []string{w.base},
	}
	for name, into := range map[string]*string{"kernel": &r.Kernel, "initramfs": &r.Initramfs, "rootfs": &r.Rootfs} {
		*into = filepath.Join(dir, name)
		if err := os.WriteFile(*into, []byte(name+strings.Repeat("x", 9000)), 0o644); err != nil {
			w.Fatal(err)
		}
	}
	f, err := os.OpenFile(r.Rootfs, os.O_RDWR, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	v, err := verity.Append(f, nil)
	if err != nil {
		w.Fatal(err)
	}
	r.Verity = &v
	published, err := release.Publish(w.folder, r, w.keys, w.root)
	if err != nil {
		w.Fatal(err)
	}
	cache, err := store.OpenLimited(w.TempDir(), limit)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { cache.Close() })
	w.corridor.Fetcher.Store, w.corridor.Keep = cache, true
	return cache, published.Blobs["rootfs"]
}

// jumps runs the corridor up to the jump and returns what was loaded.
func (w *world) jumps() handover.Set {
	w.Helper()
	w.loaded, w.told = nil, nil
	if err := w.corridor.Run(w.Context()); !errors.Is(err, errJumped) || w.loaded == nil {
		w.Fatalf("%v; it was told %q", err, w.told)
	}
	return *w.loaded
}

// TestRootfsIsKept: it is not loaded, and memory is asked for without it.
func TestRootfsIsKept(t *testing.T) {
	w := newWorld(t)
	_, rootfs := w.treed(store.Limit{})
	var asked []bool
	w.corridor.Fits = func(_ manifest.Manifest, inCache bool) error { asked = append(asked, inCache); return nil }
	set := w.jumps()
	if set.Rootfs != nil || set.Kept == nil || set.Kept.Digest() != rootfs || !slices.Equal(asked, []bool{true}) {
		t.Errorf("loaded %v, kept %v, memory asked for %v", set.Rootfs, set.Kept, asked)
	}
	w.corridor.Keep = false
	if set = w.jumps(); set.Rootfs == nil || set.Kept != nil {
		t.Errorf("a cache that the next system cannot find: loaded %v, kept %v", set.Rootfs, set.Kept)
	}
	w.corridor.Keep = true
	w.corridor.Fetcher.Store = nil
	if set = w.jumps(); set.Rootfs == nil || set.Kept != nil {
		t.Errorf("no cache: loaded %v, kept %v", set.Rootfs, set.Kept)
	}
}

// TestDoubtsAboutTheRootfs: a boot after which nothing was heard lets the next one
// read through and repair what is in the cache, and the one after the next that did
// not help either uses it no more where it is. What rots is no end, whatever rots.
func TestDoubtsAboutTheRootfs(t *testing.T) {
	w := newWorld(t)
	cache, rootfs := w.treed(store.Limit{})
	jumped := func(through, kept bool) {
		t.Helper()
		before := cache.Doubts(rootfs)
		set := w.jumps()
		if kept != (set.Kept != nil) || kept == (set.Rootfs != nil) {
			t.Fatalf("with %d doubts: loaded %v, kept %v", before, set.Rootfs, set.Kept)
		}
		if w.toldOf("its root file system is read through") != through {
			t.Fatalf("with %d doubts it was told %q", before, w.told)
		}
		if !kept {
			return
		}
		// This kernel did not jump, so the doubt was taken back; one that does leaves it.
		if n := cache.Doubts(rootfs); n != before {
			t.Fatalf("%d doubts before, %d after a jump that failed", before, n)
		}
		if _, err := cache.Doubt(rootfs); err != nil {
			t.Fatal(err)
		}
	}
	rot := func() {
		t.Helper()
		raw, err := os.ReadFile(cache.Path(rootfs))
		if err != nil {
			t.Fatal(err)
		}
		raw[5000] ^= 1
		if err := os.WriteFile(cache.Path(rootfs), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	jumped(false, true)
	if err := cache.Sure(rootfs); err != nil { // it came up
		t.Fatal(err)
	}
	rot()
	jumped(false, true) // as nobody reads it here
	jumped(true, true)
	if raw, err := os.ReadFile(cache.Path(rootfs)); err != nil || blob.Of(raw) != rootfs {
		t.Errorf("it was not repaired: %v", err)
	}
	jumped(true, true)
	jumped(false, false)
	jumped(false, false)
	if err := cache.Sure(rootfs); err != nil {
		t.Fatal(err)
	}
	jumped(false, true)
}

// TestFullCache: what cannot be kept is loaded, if there is memory for that.
func TestFullCache(t *testing.T) {
	w := newWorld(t)
	w.treed(store.Limit{Bytes: 10000})
	set := w.jumps()
	if set.Rootfs == nil || set.Kept != nil || !w.toldOf("WARNING: the root file system is loaded into memory") {
		t.Errorf("loaded %v, kept %v, told %q", set.Rootfs, set.Kept, w.told)
	}
	w.loaded = nil
	w.corridor.Fits = func(_ manifest.Manifest, inCache bool) error {
		if inCache {
			return nil
		}
		return &handover.MemoryError{Set: 2, Need: 2, Available: 1}
	}
	w.refused("KEXEC-001")
}
