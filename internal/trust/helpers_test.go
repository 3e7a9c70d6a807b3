package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

var want = manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}

// moment is when the tests take place.
var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// floor is the floor of a release of this version.
func floor(version int64) manifest.Floor {
	return manifest.Floor{ManifestVersion: version, Digest: payload(version), RootVersion: 1}
}

func payload(version int64) blob.Digest { return blob.Of(fmt.Appendf(nil, "payload %d", version)) }

// document and proof stand for the files of a release; nothing here reads them.
func document(version int64) []byte { return fmt.Appendf(nil, "manifest %d\n", version) }
func proof(version int64) []byte    { return fmt.Appendf(nil, "proof %d\n", version) }

func testEntry(version int64) entry {
	return entry{payload(version), blob.Of(document(version)), blob.Of(proof(version))}
}

func slotPath(s *State, slot int) string { return s.floorSlots(want).path + endings[slot] }

func mustSave(t *testing.T, s *State, value manifest.Floor) {
	t.Helper()
	if err := s.SaveFloor(want, value, nil); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, s *State, expected manifest.Floor) {
	t.Helper()
	got, err := s.Floor(want)
	if err != nil {
		t.Fatal(err)
	}
	if got != expected {
		t.Fatalf("floor is %+v, want %+v", got, expected)
	}
}

// files returns the content of every file in dir; nil if there is no dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		content[e.Name()] = string(data)
	}
	return content
}

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func role(name string) manifest.RoleKeys {
	return manifest.RoleKeys{Keys: []ed25519.PublicKey{key(name).Public().(ed25519.PublicKey)}, Threshold: 1}
}

// rootFile makes a root whose root role is the key called owner, signed by the
// keys called signers.
func rootFile(t *testing.T, version int64, floors map[string]manifest.FloorReset, owner string, signers ...string) []byte {
	t.Helper()
	var keys []ed25519.PrivateKey
	for _, name := range signers {
		keys = append(keys, key(name))
	}
	raw, err := manifest.NewRoot(manifest.RootSpec{
		Version: version, Expires: moment.AddDate(1, 0, 0), Floors: floors,
		Roles: map[manifest.Role]manifest.RoleKeys{
			manifest.RoleRoot: role(owner), manifest.RoleTargets: role("targets"), manifest.RoleTimestamp: role("timestamp"),
		},
	}, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parseRoot(t *testing.T, raw []byte) *manifest.Root {
	t.Helper()
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// resetRoot is a root of this version under which older floors of the stable
// channel count as floorVersion.
func resetRoot(t *testing.T, version, floorVersion int64) *manifest.Root {
	t.Helper()
	reset := map[string]manifest.FloorReset{manifest.ChannelStable: {Root: version, Version: floorVersion}}
	return parseRoot(t, rootFile(t, version, reset, "root", "root"))
}

func readString(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
