package discover

import (
	"bytes"
	"cmp"

	"github.com/phasebased/phase/manifest"
)

// Compare orders pointers, given with their bytes: it is positive if a is the
// one to prefer. Higher root version, manifest version and expiry win, then the
// smaller bytes, so that everybody who sees the same pointers prefers the same
// one. It says nothing about trust: a forger can claim any version, so whoever
// has a root verifies first and compares what passed.
func Compare(a manifest.Pointer, rawA []byte, b manifest.Pointer, rawB []byte) int {
	return cmp.Or(
		cmp.Compare(a.RootVersion, b.RootVersion),
		cmp.Compare(a.ManifestVersion, b.ManifestVersion),
		a.ExpiresAt.Compare(b.ExpiresAt),
		bytes.Compare(rawB, rawA),
	)
}
