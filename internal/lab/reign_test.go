package lab

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// published is a small release under the first root of fresh keys.
func published(t *testing.T) (*release.Published, Reign) {
	t.Helper()
	keys, err := release.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	root, err := keys.RootFile(day.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := release.Publish(t.TempDir(), release.Release{
		Channel: Channel, Arch: manifest.ArchX8664, Version: 7, Created: day, Expires: day.AddDate(0, 1, 0),
		PointerExpiry: day.AddDate(0, 0, 7), Kernel: kernel, Initramfs: kernel, Bases: []string{"http://10.0.2.2:1"},
	}, keys, root)
	if err != nil {
		t.Fatal(err)
	}
	return p, Reign{root, keys}
}

// accepted judges what lies in the folder as a machine does that follows the
// roots beside it.
func accepted(t *testing.T, p *release.Published, first Reign) (*manifest.Verified, error) {
	t.Helper()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	root, err := manifest.ParseRoot(first.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"2.root.json", "3.root.json"} {
		if _, err := os.Stat(filepath.Join(p.Dir, name)); err == nil {
			if root, err = root.Update(read(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := manifest.Verifier{Root: root, Want: manifest.Want{Channel: Channel, Arch: manifest.ArchX8664}}
	pointer, err := v.Pointer(read("pointer.json"), day)
	if err != nil {
		return nil, err
	}
	hash := pointer.Pointer().ManifestHash
	raw, err := os.ReadFile(release.BlobPath(filepath.Dir(filepath.Dir(p.Dir)), hash))
	if err != nil {
		t.Fatal(err)
	}
	if blob.Of(raw) != blob.Of(read("manifest.json")) {
		t.Error("the manifest and its blob differ")
	}
	return v.Manifest(raw, nil, pointer, day)
}

func TestReignsFollowOneAnother(t *testing.T) {
	p, first := published(t)
	second, err := first.Successor(manifest.RoleRoot)
	if err != nil {
		t.Fatal(err)
	}
	third, err := second.Successor(manifest.RoleTargets, manifest.RoleTimestamp)
	if err != nil {
		t.Fatal(err)
	}
	if err := Crown(p, first, second, third); err != nil {
		t.Fatal(err)
	}
	if _, err := accepted(t, p, first); err == nil {
		t.Error("what the first keys signed is accepted under the third root")
	}
	err = Resign(p, Resigning{Targets: third.Keys.Targets[:2], Timestamp: third.Keys.Timestamp})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accepted(t, p, first); err != nil {
		t.Error(err)
	}
	if err := Crown(p, first); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(p.Dir, "*root.json"))
	if err != nil || len(names) != 2 {
		t.Errorf("beside the first root lie %v, %v", names, err)
	}
	if _, err := first.Successor(manifest.RoleSnapshot); err == nil {
		t.Error("there is a successor with other snapshot keys")
	}
}

func TestResign(t *testing.T) {
	p, first := published(t)
	before := p.Manifest
	resigning := Resigning{
		Manifest: func(m *manifest.Manifest) { m.ManifestVersion, m.Cmdline = 8, "quiet" },
		Pointer:  func(p *manifest.Pointer) { p.URLs = nil },
		Targets:  first.Keys.Targets[1:], Timestamp: first.Keys.Timestamp,
	}
	if err := Resign(p, resigning); err != nil {
		t.Fatal(err)
	}
	verified, err := accepted(t, p, first)
	if err != nil {
		t.Fatal(err)
	}
	m := verified.Manifest()
	if m.Cmdline != "quiet" || p.Version != 8 || p.Manifest == before || p.Manifest != verified.Digest() || len(verified.KeyIDs()) != 2 {
		t.Errorf("signed anew: %+v as %+v", m, p)
	}
	resigning.Targets = slices.Clone(first.Keys.Targets[:1])
	if err := Resign(p, resigning); err != nil {
		t.Fatal(err)
	}
	if _, err := accepted(t, p, first); err == nil {
		t.Error("one signature of two is accepted")
	}
}
