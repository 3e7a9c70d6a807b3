package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// TestReleaseNumberWarning: a release that machines will refuse is built, as it may be
// the first of a new trial, and said to be one.
func TestReleaseNumberWarning(t *testing.T) {
	out := t.TempDir()
	dir := filepath.Join(out, "stable", "x86_64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	file := func(text string) manifest.Artifact {
		return manifest.Artifact{Hash: blob.Of([]byte(text)), Size: int64(len(text))}
	}
	draft, err := manifest.DraftManifest(manifest.Manifest{
		ManifestVersion: 7, Channel: "stable", Arch: "x86_64", CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		Kernel: file("kernel"), Initramfs: file("initramfs"),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := draft.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	for number, want := range map[int64]string{
		6: "refuse release 6; the next is --number 8", 7: "another one of the same number; the next is --number 8", 8: "",
	} {
		var said bytes.Buffer
		(&releaseBuild{out: out, number: number, archs: []string{"x86_64", "arm64"}}).warn(&said)
		if got := said.String(); !strings.Contains(got, want) || want == "" && got != "" || strings.Count(got, "\n") > 1 {
			t.Errorf("release %d: %q", number, got)
		}
	}
}
