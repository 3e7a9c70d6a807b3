package handover

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// keptSet is a set whose root file system, of two blocks with a tree, stays in a
// cache.
func keptSet(t *testing.T, version int64) Set {
	t.Helper()
	rootfs := make([]byte, 3*manifest.VerityBlock)
	rootfs[0] = byte(version)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "rootfs") {
			w.Write(rootfs)
			return
		}
		w.Write(content(version, r.URL.Path))
	}))
	t.Cleanup(server.Close)
	artifact := func(name string, data []byte) manifest.Artifact {
		return manifest.Artifact{Hash: blob.Of(data), Size: int64(len(data)), URLs: []string{server.URL + "/" + name}}
	}
	root := artifact("rootfs", rootfs)
	root.Verity = &manifest.Verity{Root: blob.Of([]byte("root")), Salt: []byte("salt"), DataSize: 2 * manifest.VerityBlock}
	v := verify(t, manifest.Manifest{
		ManifestVersion: version, Channel: "stable", Arch: "x86_64", CreatedAt: now, ExpiresAt: now.AddDate(0, 0, 1), Cmdline: "quiet",
		Kernel: artifact("kernel", content(version, "/kernel")), Initramfs: artifact("initramfs", content(version, "/initramfs")), Rootfs: &root,
	})
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	f := &fetch.Fetcher{Store: cache}
	set := Set{Verified: v, Info: testInfo()}
	set.Info.Cache, set.Info.CacheID = true, "01234567-89ab-cdef-0123-456789abcdef"
	for name, into := range map[string]**fetch.File{"kernel": &set.Kernel, "initramfs": &set.Initramfs} {
		if *into, err = f.Artifact(context.Background(), v, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if set.Kept, err = f.Keep(context.Background(), v, "rootfs", nil, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.closeAll)
	return set
}

// TestKeptIsTold: the next system learns where its root file system is and by what
// to check it, from the manifest and from nobody else.
func TestKeptIsTold(t *testing.T) {
	set := keptSet(t, 7)
	set.Info.Rootfs = &Rootfs{Place: PlaceInitramfs, Digest: blob.Of([]byte("something else")), Size: 1}
	data, err := set.check()
	if err != nil {
		t.Fatal(err)
	}
	info, err := ParseInfo(data)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := set.Verified.Manifest().Artifact("rootfs")
	if r := info.Rootfs; r == nil || r.Place != PlaceCache || r.Digest != a.Hash || r.Size != a.Size || !reflect.DeepEqual(r.Tree(), a.Verity) {
		t.Errorf("it is told %+v", info.Rootfs)
	}
	if info.CacheID != set.Info.CacheID {
		t.Errorf("the cache is %q", info.CacheID)
	}
	loaded := testSet(t)
	if data, err = loaded.check(); err != nil {
		t.Fatal(err)
	}
	if info, err = ParseInfo(data); err != nil || info.Rootfs == nil || info.Rootfs.Place != PlaceInitramfs || info.Rootfs.Tree() != nil {
		t.Errorf("of one in memory it is told %+v, %v", info.Rootfs, err)
	}
}

func TestKeptIsRefused(t *testing.T) {
	other, plain := keptSet(t, 8), testSet(t)
	for name, tt := range map[string]struct {
		change func(*Set)
		want   string
	}{
		"another release's": {func(s *Set) { s.Kept = other.Kept }, "Artifact rootfs hash mismatch"},
		"twice":             {func(s *Set) { s.Rootfs = plain.Rootfs }, "given twice"},
		"neither":           {func(s *Set) { s.Kept = nil }, "the rootfs is missing"},
		"no cache":          {func(s *Set) { s.Info.Cache = false }, "could not find"},
		"no identifier":     {func(s *Set) { s.Info.CacheID = "" }, "could not find"},
		"no tree in the manifest": {func(s *Set) {
			s.Verified, s.Kernel, s.Initramfs = plain.Verified, plain.Kernel, plain.Initramfs
		}, "nothing checks it"},
	} {
		set := keptSet(t, 7)
		tt.change(&set)
		if _, err := set.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPlacesAreChecked: handover.json that says what cannot be is refused.
func TestPlacesAreChecked(t *testing.T) {
	good := func() Info {
		i := testInfo()
		i.SchemaVersion, i.Cache, i.CacheID, i.Overlay = SchemaVersion, true, "0123-ab", OverlayCache
		i.Rootfs = &Rootfs{Place: PlaceCache, Digest: blob.Of(nil), Size: 3 * manifest.VerityBlock,
			Verity: &Verity{Root: blob.Of(nil), DataSize: 2 * manifest.VerityBlock}}
		return i
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Info){
		"place":                  func(i *Info) { i.Rootfs.Place = "moon" },
		"no digest":              func(i *Info) { i.Rootfs.Digest = blob.Digest{} },
		"no size":                func(i *Info) { i.Rootfs.Size = 0 },
		"large":                  func(i *Info) { i.Rootfs.Size = manifest.MaxRootfsBytes + 1 },
		"unchecked in the cache": func(i *Info) { i.Rootfs.Verity = nil },
		"no root":                func(i *Info) { i.Rootfs.Verity.Root = blob.Digest{} },
		"long salt":              func(i *Info) { i.Rootfs.Verity.Salt = make([]byte, 33) },
		"odd data":               func(i *Info) { i.Rootfs.Verity.DataSize++ },
		"negative data":          func(i *Info) { i.Rootfs.Verity.DataSize = -manifest.VerityBlock },
		"data beyond the file":   func(i *Info) { i.Rootfs.Verity.DataSize = 1 << 40 },
		"no room for the tree":   func(i *Info) { i.Rootfs.Size = 2 * manifest.VerityBlock },
		"overlay":                func(i *Info) { i.Overlay = "paper" },
		"identifier":             func(i *Info) { i.CacheID = "../x" },
		"long identifier":        func(i *Info) { i.CacheID = strings.Repeat("a", 65) },
		"rootfs without cache":   func(i *Info) { i.Cache, i.CacheID, i.Overlay = false, "", "" },
		"overlay without cache":  func(i *Info) { i.Cache, i.CacheID, i.Rootfs = false, "", nil },
		"no cache to identify":   func(i *Info) { i.Cache, i.Overlay, i.Rootfs = false, "", nil },
	} {
		i := good()
		spoil(&i)
		if err := i.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
