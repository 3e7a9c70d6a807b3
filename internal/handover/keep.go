package handover

import (
	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// Names under which the blobs of a release are pinned in a cache, so that making
// room never takes them.
const (
	PinBooting  = "booting"   // of the release that is being booted, or was last
	PinLastGood = "last-good" // of the release that came up last
)

// Blobs are what a cache must hold for a release to be booted from it once more,
// and to be offered to others: file is the manifest as it came from its
// publisher.
func Blobs(m manifest.Manifest, file []byte) []blob.Digest {
	digests := []blob.Digest{blob.Of(file)}
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		a, ok := m.Artifact(name)
		if !ok {
			continue
		}
		digests = append(digests, a.Hash)
		if !a.Chunks.IsZero() {
			digests = append(digests, a.Chunks)
		}
	}
	return digests
}
