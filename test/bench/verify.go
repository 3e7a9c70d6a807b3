package main

import (
	"crypto/ed25519"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/manifest"
)

// verifyPairs is how often verification and its reference take turns.
const verifyPairs = 5

// signedManifest is a usual manifest with what is needed to judge it.
type signedManifest struct {
	raw     []byte
	root    *manifest.Root
	made    time.Time
	want    manifest.Want
	payload []byte // of the signed bytes' size, for the reference
	keys    []ed25519.PrivateKey
}

// newSignedManifest makes a release signed by two of two keys.
func newSignedManifest() (*signedManifest, error) {
	s := &signedManifest{
		made: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		want: manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664},
	}
	for i := range byte(4) {
		s.keys = append(s.keys, ed25519.NewKeyFromSeed(slices.Repeat([]byte{i + 1}, ed25519.SeedSize)))
	}
	public := func(i int) ed25519.PublicKey { return s.keys[i].Public().(ed25519.PublicKey) }
	file, err := manifest.NewRoot(manifest.RootSpec{Version: 1, Expires: s.made.AddDate(1, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot:      {Keys: []ed25519.PublicKey{public(2)}, Threshold: 1},
		manifest.RoleTargets:   {Keys: []ed25519.PublicKey{public(0), public(1)}, Threshold: 2},
		manifest.RoleTimestamp: {Keys: []ed25519.PublicKey{public(3)}, Threshold: 1},
	}}, s.keys[2])
	if err != nil {
		return nil, err
	}
	if s.root, err = manifest.ParseRoot(file); err != nil {
		return nil, err
	}
	artifact := func(name string) manifest.Artifact {
		return manifest.Artifact{Hash: blob.Of([]byte(name)), Size: 1 << 20, URLs: []string{"https://mirror.example/" + name}}
	}
	rootfs := artifact("rootfs")
	s.raw, err = manifest.SignManifest(manifest.Manifest{
		ManifestVersion: 1, Channel: s.want.Channel, Arch: s.want.Arch, CreatedAt: s.made, ExpiresAt: s.made.AddDate(0, 0, 90),
		Kernel: artifact("kernel"), Initramfs: artifact("initramfs"), Rootfs: &rootfs, Cmdline: "quiet",
	}, s.keys[:2]...)
	s.payload = make([]byte, len(s.raw)*3/4) // about what base64 carries
	return s, err
}

// verifyFigures measures the verification of a manifest, on one core, against
// the two signatures in it alone.
func verifyFigures() ([]Figure, error) {
	s, err := newSignedManifest()
	if err != nil {
		return nil, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var whole, bare, allocated []float64
	for range verifyPairs {
		w, r := testing.Benchmark(s.verify), testing.Benchmark(s.reference)
		if w.N == 0 || r.N == 0 {
			return nil, fmt.Errorf("verification of the benchmark's manifest failed")
		}
		whole, bare = append(whole, float64(w.NsPerOp())/1e3), append(bare, float64(r.NsPerOp())/1e3)
		allocated = append(allocated, float64(w.AllocedBytesPerOp())/1e3)
	}
	us, reference := middle(whole), middle(bare)
	return []Figure{
		{"verify a manifest with 2 signatures (reference: crypto/ed25519 alone)", us, "µs", reference, us / reference, "< 1000 µs"},
		{"verify a manifest: allocated", middle(allocated), "kB", 0, 0, "< 1000"},
	}, nil
}

func (s *signedManifest) verify(b *testing.B) {
	b.ReportAllocs()
	verifier := manifest.Verifier{Root: s.root, Want: s.want}
	for b.Loop() {
		if _, err := verifier.Manifest(s.raw, nil, nil, s.made); err != nil {
			b.Fatal(err)
		}
	}
}

func (s *signedManifest) reference(b *testing.B) {
	message := dsse.PAE(manifest.ManifestPayloadType, s.payload)
	var signatures [][]byte
	for _, key := range s.keys[:2] {
		signatures = append(signatures, ed25519.Sign(key, message))
	}
	for b.Loop() {
		for i, key := range s.keys[:2] {
			if !ed25519.Verify(key.Public().(ed25519.PublicKey), message, signatures[i]) {
				b.Fatal("refused")
			}
		}
	}
}

// middle is the median.
func middle(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
