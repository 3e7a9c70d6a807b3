// Package manifest defines the three signed documents that decide what a
// machine boots, and the only functions that turn their bytes into something
// to act on.
//
//   - A root says which keys may sign what. It is TUF 1.0 root metadata and
//     comes from inside the boot medium: it is the one thing that is trusted.
//   - A manifest says what to boot: hashes, sizes and addresses of a kernel, an
//     initramfs and more. It is signed by the keys that the root lists for its
//     channel or, if there are none, by the root's targets role.
//   - A pointer says which manifest is current. It is signed by the timestamp
//     role, is short-lived, and travels through the DHT, mDNS and HTTP.
//
// Everything that arrives over a network is hostile. Nothing of a document is
// looked at before enough signatures over those exact bytes were checked, and
// a Verified can only be made by a Verifier: functions that take one need not ask
// again. Roots follow one another by Root.Update, as TUF has it. A Draft is a
// document on its way to its signatures. All functions are pure; the time is an
// argument.
package manifest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
)

// Canonical names of the processor architectures.
const (
	ArchX8664 = "x86_64"
	ArchARM64 = "arm64"
)

// Channels that releases are published on.
const (
	ChannelStable  = "stable"
	ChannelTesting = "testing"
	ChannelNightly = "nightly"
)

// Product is the one product that these documents describe.
const Product = "phase-boot"

// Caps on documents, in bytes.
const (
	MaxRootBytes     = 128 << 10
	MaxManifestBytes = 64 << 10
	MaxPointerBytes  = 2 << 10
)

// ParseArch returns the canonical name of an architecture. It accepts the
// aliases amd64 and aarch64 and is meant for what people type; documents carry
// canonical names only.
func ParseArch(s string) (string, error) {
	switch s {
	case ArchX8664, "amd64":
		return ArchX8664, nil
	case ArchARM64, "aarch64":
		return ArchARM64, nil
	}
	return "", fmt.Errorf("unknown architecture %.40q: use %s or %s", s, ArchX8664, ArchARM64)
}

// CheckChannel refuses a channel that does not exist.
func CheckChannel(s string) error {
	switch s {
	case ChannelStable, ChannelTesting, ChannelNightly:
		return nil
	}
	return fmt.Errorf("unknown channel %.40q: use %s, %s or %s", s, ChannelStable, ChannelTesting, ChannelNightly)
}

// Artifact is one file to fetch.
type Artifact struct {
	Hash blob.Digest
	Size int64    // bytes, at least 1
	URLs []string // absolute http or https, at most 16; may be empty
	IPFS string   // CID, optional

	// Chunks names the chunk list: a blob of blob.ListSize(Size) bytes, optional.
	// It serves to check parts early; what counts in the end is Hash.
	Chunks blob.Digest
	Deltas []Delta // patches, at most MaxDeltas, of distinct origins; optional

	Verity *Verity // of a root file system with a hash tree; optional, and nil for all else
}

// Delta is a patch: a blob that turns the blob From into the artifact. Whoever
// lacks From, or cannot read the patch, fetches the artifact as a whole; what a
// patch made is checked by the artifact's own Hash.
type Delta struct {
	From blob.Digest // not the artifact itself
	Hash blob.Digest // of the patch
	Size int64       // of the patch in bytes, from 1 to the artifact's
}

// Manifest says what to boot. As a plain value it carries no trust; a manifest
// that was checked is a Verified.
type Manifest struct {
	ManifestVersion int64 // at least 1, grows with every release of a channel
	Channel, Arch   string
	CreatedAt       time.Time // whole seconds, UTC
	ExpiresAt       time.Time // whole seconds, UTC
	Kernel          Artifact
	Initramfs       Artifact
	Rootfs          *Artifact           // nil if the system lives in its initramfs
	DTBs            map[string]Artifact // device trees by plain file name; may be nil
	Cmdline         string              // for the new kernel; may be empty
	SecurityFloor   int64               // oldest version that may still boot from a cache, at most ManifestVersion; 0: not said
}

// Artifact returns the artifact called "kernel", "initramfs" or "rootfs".
func (m Manifest) Artifact(name string) (Artifact, bool) {
	switch {
	case name == "kernel":
		return m.Kernel, true
	case name == "initramfs":
		return m.Initramfs, true
	case name == "rootfs" && m.Rootfs != nil:
		return *m.Rootfs, true
	}
	return Artifact{}, false
}

// clone returns a copy that shares no memory with m.
func (m Manifest) clone() Manifest {
	m.Kernel, m.Initramfs = m.Kernel.clone(), m.Initramfs.clone()
	if m.Rootfs != nil {
		rootfs := m.Rootfs.clone()
		m.Rootfs = &rootfs
	}
	m.DTBs = maps.Clone(m.DTBs)
	for name, dtb := range m.DTBs {
		m.DTBs[name] = dtb.clone()
	}
	return m
}

func (a Artifact) clone() Artifact {
	a.URLs, a.Deltas = slices.Clone(a.URLs), slices.Clone(a.Deltas)
	if a.Verity != nil {
		verity := *a.Verity
		verity.Salt = slices.Clone(verity.Salt)
		a.Verity = &verity
	}
	return a
}

// Pointer says which manifest is current for a channel and an architecture.
// ManifestHash and ManifestSize are those of the manifest file (the envelope),
// so that the file can be fetched by hash.
type Pointer struct {
	Channel, Arch   string
	ManifestVersion int64
	ManifestHash    blob.Digest
	ManifestSize    int64     // bytes
	RootVersion     int64     // newest root when the pointer was made
	CreatedAt       time.Time // whole seconds, UTC
	ExpiresAt       time.Time // whole seconds, UTC
	URLs            []string  // of the manifest file; absolute http or https, at most 16
}

func (p Pointer) clone() Pointer {
	p.URLs = slices.Clone(p.URLs)
	return p
}
