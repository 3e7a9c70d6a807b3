package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// TestKeptPointerIsOfTheRelease: a pointer that was kept earlier may lead to what
// this machine has not booted.
func TestKeptPointerIsOfTheRelease(t *testing.T) {
	release := []byte("the manifest")
	pointer := sign(t, release)
	for name, c := range map[string]struct{ kept, want []byte }{
		"of this release":     {pointer, pointer},
		"of another release":  {sign(t, []byte("another")), nil},
		"rubbish":             {[]byte("{}"), nil},
		"too large":           {bytes.Repeat([]byte(" "), handover.MaxPointerBytes+1), nil},
		"nothing":             {nil, nil},
		"a link to elsewhere": {[]byte("link"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pointer.json")
			var err error
			switch {
			case name == "a link to elsewhere":
				elsewhere := filepath.Join(t.TempDir(), "pointer.json")
				if err = os.WriteFile(elsewhere, pointer, 0o644); err == nil {
					err = os.Symlink(elsewhere, file)
				}
			case c.kept != nil:
				err = os.WriteFile(file, c.kept, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			d := &handover.Documents{Manifest: release}
			if err := keepPointer(file, d); err != nil {
				t.Log(err)
			}
			if !bytes.Equal(d.Pointer, c.want) {
				t.Errorf("offered with the pointer %.60q", d.Pointer)
			}
		})
	}
}

// TestPointerIsKept: the next boot may find none.
func TestPointerIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pointer.json")
	release := []byte("the manifest")
	pointer := sign(t, release)
	if err := keepPointer(file, &handover.Documents{Manifest: release, Pointer: pointer}); err != nil {
		t.Fatal(err)
	}
	next := &handover.Documents{Manifest: release}
	if err := keepPointer(file, next); err != nil || !bytes.Equal(next.Pointer, pointer) {
		t.Errorf("the next boot has the pointer %.60q, %v", next.Pointer, err)
	}
}

// TestComingUpMovesThePin: what came up is kept in place of what did before it,
// and is not the release that is being booted any more.
func TestComingUpMovesThePin(t *testing.T) {
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	of := func(s string) blob.Digest { return blob.Of([]byte(s)) }
	old := manifest.Manifest{Kernel: manifest.Artifact{Hash: of("old kernel")}, Initramfs: manifest.Artifact{Hash: of("old initramfs")}}
	file := []byte("new manifest")
	m := manifest.Manifest{Kernel: manifest.Artifact{Hash: of("kernel"), Chunks: of("chunks")}, Initramfs: manifest.Artifact{Hash: of("initramfs")}}
	err = errors.Join(
		cache.Pin(handover.PinLastGood, handover.Blobs(old, []byte("old manifest"))),
		cache.Pin(handover.PinBooting, handover.Blobs(m, file)),
		keep(cache, m, file),
	)
	if err != nil {
		t.Fatal(err)
	}
	pins, err := cache.Pins()
	if err != nil || len(pins) != 1 || len(pins[handover.PinLastGood]) != 4 {
		t.Fatalf("%v, %v", pins, err)
	}
	for _, d := range handover.Blobs(m, file) {
		if !slices.Contains(pins[handover.PinLastGood], d) {
			t.Errorf("%s is not kept", d)
		}
	}
}

// sign makes a pointer to a manifest.
func sign(t *testing.T, release []byte) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	raw, err := manifest.SignPointer(manifest.Pointer{
		Channel: "stable", Arch: "x86_64", ManifestVersion: 1, ManifestHash: blob.Of(release), ManifestSize: int64(len(release)),
		RootVersion: 1, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
