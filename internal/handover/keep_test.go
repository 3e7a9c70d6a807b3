package handover

import (
	"slices"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

func TestBlobs(t *testing.T) {
	of := func(s string) blob.Digest { return blob.Of([]byte(s)) }
	m := manifest.Manifest{
		Kernel:    manifest.Artifact{Hash: of("kernel"), Chunks: of("chunks of the kernel")},
		Initramfs: manifest.Artifact{Hash: of("initramfs"), Deltas: []manifest.Delta{{From: of("older"), Hash: of("patch")}}},
	}
	want := []blob.Digest{of("manifest"), of("kernel"), of("chunks of the kernel"), of("initramfs")}
	if got := Blobs(m, []byte("manifest")); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	m.Rootfs = &manifest.Artifact{Hash: of("rootfs"), Chunks: of("chunks of the rootfs")}
	if got := Blobs(m, []byte("manifest")); !slices.Equal(got, append(want, of("rootfs"), of("chunks of the rootfs"))) {
		t.Errorf("with a root file system: %v", got)
	}
}
