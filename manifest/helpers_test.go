package manifest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// now is the clock of all tests.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testKey derives a key from a name, so that vectors can be made again.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(names ...string) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, name := range names {
		keys = append(keys, testKey(name).Public().(ed25519.PublicKey))
	}
	return keys
}

func private(names ...string) []ed25519.PrivateKey {
	var keys []ed25519.PrivateKey
	for _, name := range names {
		keys = append(keys, testKey(name))
	}
	return keys
}

func testRootSpec() RootSpec {
	return RootSpec{
		Version: 1,
		Expires: now.AddDate(1, 0, 0),
		Roles: map[Role]RoleKeys{
			RoleRoot:      {public("root-1", "root-2", "root-3"), 2},
			RoleTargets:   {public("targets-1", "targets-2", "targets-3"), 2},
			RoleTimestamp: {public("timestamp"), 1},
		},
	}
}

func testRoot(t testing.TB) *Root {
	t.Helper()
	raw, err := NewRoot(testRootSpec(), private("root-1", "root-2")...)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func testManifest() Manifest {
	rootfs := Artifact{Hash: blob.Of([]byte("rootfs")), Size: 6}
	return Manifest{
		ManifestVersion: 7,
		Channel:         ChannelStable,
		Arch:            ArchX8664,
		CreatedAt:       now.AddDate(0, 0, -1),
		ExpiresAt:       now.AddDate(0, 3, 0),
		Kernel:          Artifact{Hash: blob.Of([]byte("kernel")), Size: 6, URLs: []string{"https://mirror.example/kernel"}},
		Initramfs:       Artifact{Hash: blob.Of([]byte("initramfs")), Size: 9, IPFS: "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"},
		Rootfs:          &rootfs,
		DTBs:            map[string]Artifact{"board.dtb": {Hash: blob.Of([]byte("dtb")), Size: 3}},
		Cmdline:         "console=ttyS0 quiet",
	}
}

func testPointer(file []byte) Pointer {
	return Pointer{
		Channel:         ChannelStable,
		Arch:            ArchX8664,
		ManifestVersion: 7,
		ManifestHash:    blob.Of(file),
		ManifestSize:    int64(len(file)),
		RootVersion:     1,
		CreatedAt:       now.Add(-time.Hour),
		ExpiresAt:       now.AddDate(0, 0, 7),
		URLs:            []string{"http://10.0.2.2:8080/stable/x86_64/manifest.json"},
	}
}

var wantTest = Want{ChannelStable, ArchX8664}

func verifyManifest(raw []byte, root *Root, want Want, floor Floor, ptr *VerifiedPointer, at time.Time) (*Verified, error) {
	return Verifier{Root: root, Want: want, Floor: floor}.Manifest(raw, nil, ptr, at)
}

func verifyPointer(raw []byte, root *Root, want Want, at time.Time) (*VerifiedPointer, error) {
	return Verifier{Root: root, Want: want}.Pointer(raw, at)
}
