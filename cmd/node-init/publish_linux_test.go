package main

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/handover"
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
