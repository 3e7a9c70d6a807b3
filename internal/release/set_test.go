package release

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// house is a publisher whose documents a test changes one at a time.
type house struct {
	t       *testing.T
	keys    *Keys
	dir     string
	files   map[string]string
	content manifest.Manifest
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, keys: testKeys(t), dir: filepath.Join(t.TempDir(), "published"), files: map[string]string{}}
	source := t.TempDir()
	h.content = manifest.Manifest{ManifestVersion: 5, Channel: "stable", Arch: "x86_64", CreatedAt: day, ExpiresAt: day.AddDate(0, 2, 0)}
	for _, name := range []string{"kernel", "initramfs", "rootfs", "dtb board.dtb"} {
		h.files[name] = write(t, source, name)
		f, err := Describe(h.files[name], nil)
		if err != nil {
			t.Fatal(err)
		}
		a := f.Artifact()
		switch name {
		case "kernel":
			h.content.Kernel = a
		case "initramfs":
			h.content.Initramfs = a
		case "rootfs":
			h.content.Rootfs = &a
		default:
			h.content.DTBs = map[string]manifest.Artifact{"board.dtb": a}
		}
	}
	return h
}

func (h *house) root() []byte {
	h.t.Helper()
	raw, err := h.keys.RootFile(day.AddDate(1, 0, 0))
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

// successor changes a root, signed by the house.
func (h *house) successor(raw []byte, change func(*manifest.RootSpec)) []byte {
	h.t.Helper()
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	spec, err := root.Spec()
	if err != nil {
		h.t.Fatal(err)
	}
	spec.Version++
	change(&spec)
	next, err := manifest.NewRoot(spec, h.keys.Root[:]...)
	if err != nil {
		h.t.Fatal(err)
	}
	return next
}

// newTimestamp is the successor of a root with another timestamp key, which the
// house has from then on.
func (h *house) newTimestamp(raw []byte) []byte {
	h.t.Helper()
	keys := *h.keys
	keys.Timestamp = testKeys(h.t).Timestamp
	next := h.successor(raw, func(spec *manifest.RootSpec) {
		spec.Roles[manifest.RoleTimestamp] = manifest.RoleKeys{Keys: PublicKeys([]ed25519.PrivateKey{keys.Timestamp}), Threshold: 1}
	})
	h.keys = &keys
	return next
}

func (h *house) manifest(change func(*manifest.Manifest), keys ...ed25519.PrivateKey) []byte {
	h.t.Helper()
	m := h.content
	if change != nil {
		change(&m)
	}
	if keys == nil {
		keys = h.keys.Targets[:2]
	}
	raw, err := manifest.SignManifest(m, keys...)
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

func (h *house) pointer(raw []byte, change func(*manifest.Pointer)) []byte {
	h.t.Helper()
	d, err := manifest.OpenManifestDraft(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	p := manifest.Pointer{
		Channel: "stable", Arch: "x86_64", ManifestVersion: d.Manifest().ManifestVersion,
		ManifestHash: blob.Of(raw), ManifestSize: int64(len(raw)), RootVersion: 1, CreatedAt: day, ExpiresAt: day.AddDate(0, 0, 7),
	}
	if change != nil {
		change(&p)
	}
	signed, err := manifest.SignPointer(p, h.keys.Timestamp)
	if err != nil {
		h.t.Fatal(err)
	}
	return signed
}

// set is a release that checks out.
func (h *house) set() Set {
	m := h.manifest(nil)
	return Set{Dir: h.dir, Roots: [][]byte{h.root()}, Manifest: m, Pointer: h.pointer(m, nil), Files: h.files, Now: day}
}

func (h *house) publish(s Set) *Checked {
	h.t.Helper()
	c, err := s.Check()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Write(); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func TestSetIsPublished(t *testing.T) {
	h := newHouse(t)
	s := h.set()
	s.Roots = append(s.Roots, h.successor(s.Roots[0], func(*manifest.RootSpec) {}))
	s.Blobs = []string{write(t, t.TempDir(), "hello.wasm")}
	slices.Reverse(s.Roots)
	told := map[string]int64{}
	s.Progress = func(name string, done, size int64) error { told[name] = done; return nil }
	c := h.publish(s)
	if c.Release != 5 || !slices.Equal(c.Roots, []int64{1, 2}) || len(c.Notes) != 0 || c.Dir() != filepath.Join(h.dir, "stable", "x86_64") {
		t.Errorf("%+v", c)
	}
	if told["rootfs"] != int64(len("rootfs")) {
		t.Errorf("progress said %v", told)
	}
	for name, want := range map[string][]byte{
		"1.root.json": s.Roots[1], "2.root.json": s.Roots[0], "root.json": s.Roots[0],
		"manifest.json": s.Manifest, "pointer.json": s.Pointer, "kernel": []byte("kernel"), "rootfs": []byte("rootfs"),
	} {
		if got := read(t, c.Dir(), name); !bytes.Equal(got, want) {
			t.Errorf("%s has other bytes", name)
		}
	}
	for _, data := range [][]byte{[]byte("kernel"), []byte("dtb board.dtb"), []byte("hello.wasm"), s.Manifest} {
		read(t, BlobPath(h.dir, blob.Of(data)))
	}
	if left, _ := filepath.Glob(filepath.Join(c.Dir(), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFolderCompletesTheSet: a fresh pointer needs nothing else, and nothing
// that has not changed is written again.
func TestFolderCompletesTheSet(t *testing.T) {
	h := newHouse(t)
	c := h.publish(h.set())
	stable := func() (list []fs.FileInfo) {
		for _, name := range []string{"kernel", "manifest.json", "1.root.json"} {
			info, err := os.Stat(filepath.Join(c.Dir(), name))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, info)
		}
		return list
	}
	before := stable()
	tomorrow := h.pointer(h.manifest(nil), func(p *manifest.Pointer) { p.CreatedAt = day.AddDate(0, 0, 1) })
	h.publish(Set{Dir: h.dir, Pointer: tomorrow, Now: day.AddDate(0, 0, 1)})
	for i, info := range stable() {
		if !os.SameFile(info, before[i]) {
			t.Errorf("%s was written again", info.Name())
		}
	}
	if !bytes.Equal(read(t, c.Dir(), "pointer.json"), tomorrow) {
		t.Error("the old pointer is still there")
	}
}

func TestSetRefuses(t *testing.T) {
	stranger := testKeys(t)
	for name, tt := range map[string]struct {
		change func(h *house, s *Set)
		rule   manifest.Rule // expected *manifest.Error
		text   string        // else: what the error says
	}{
		"no root": {func(h *house, s *Set) { s.Roots = nil }, "", "there is no root"},
		"first root missing": {func(h *house, s *Set) {
			s.Roots = [][]byte{h.successor(s.Roots[0], func(*manifest.RootSpec) {})}
		}, "", "root version 1 is missing"},
		"root in between missing": {func(h *house, s *Set) {
			two := h.successor(s.Roots[0], func(*manifest.RootSpec) {})
			s.Roots = append(s.Roots, h.successor(two, func(*manifest.RootSpec) {}))
		}, "", "root version 2 is missing"},
		"root of strangers": {func(h *house, s *Set) {
			other := &house{t: h.t, keys: stranger}
			s.Roots = append(s.Roots, other.successor(other.root(), func(*manifest.RootSpec) {}))
		}, manifest.RuleRootChain, ""},
		"two roots of one version": {func(h *house, s *Set) {
			other := &house{t: h.t, keys: stranger}
			s.Roots = append(s.Roots, other.root())
		}, "", "two different roots of version 1"},
		"root is no root": {func(h *house, s *Set) { s.Roots = append(s.Roots, []byte("{}")) }, manifest.RuleMalformed, ""},
		"no pointer":      {func(h *house, s *Set) { s.Pointer = nil }, manifest.RuleMalformed, ""},
		"no manifest":     {func(h *house, s *Set) { s.Manifest = nil }, "", "no manifest was given"},
		"manifest below the threshold": {func(h *house, s *Set) {
			s.Manifest = h.manifest(nil, h.keys.Targets[0])
			s.Pointer = h.pointer(s.Manifest, nil)
		}, manifest.RuleSignature, ""},
		"pointer to another manifest": {func(h *house, s *Set) {
			s.Pointer = h.pointer(h.manifest(nil, h.keys.Targets[:]...), nil)
		}, manifest.RulePointer, ""},
		"pointer under a newer root": {func(h *house, s *Set) {
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion = 2 })
		}, manifest.RuleRootVersion, ""},
		"expired pointer":  {func(h *house, s *Set) { s.Now = day.AddDate(0, 0, 8) }, manifest.RuleExpired, ""},
		"from the future":  {func(h *house, s *Set) { s.Now = day.Add(-time.Hour) }, manifest.RuleFuture, ""},
		"kernel not given": {func(h *house, s *Set) { delete(s.Files, "kernel") }, "", "does not hold the kernel"},
		"kernel missing":   {func(h *house, s *Set) { s.Files["kernel"] = "/nonexistent" }, "", "no such file"},
		"kernel of another size": {func(h *house, s *Set) {
			s.Files["kernel"] = s.Files["rootfs"] + "x"
			if err := os.WriteFile(s.Files["kernel"], []byte("longer than that"), 0o600); err != nil {
				h.t.Fatal(err)
			}
		}, "", "kernel"},
		"a file the manifest does not know": {func(h *house, s *Set) { s.Files["dtb other"] = s.Files["kernel"] }, "", "the manifest has no dtb other"},
	} {
		h := newHouse(t)
		s := h.set()
		tt.change(h, &s)
		_, err := s.Check()
		if err == nil {
			t.Errorf("%s: checked out", name)
			continue
		}
		var refused *manifest.Error
		if tt.rule != "" && (!errors.As(err, &refused) || refused.Rule != tt.rule) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(h.dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

// TestNothingOlder: what is published is not replaced by what a machine that
// followed it would refuse.
func TestNothingOlder(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(h *house, s *Set)
		want   string // what the error says; empty: published
	}{
		"the same again": {func(h *house, s *Set) {}, ""},
		"more signatures on the same release": {func(h *house, s *Set) {
			s.Manifest = h.manifest(nil, h.keys.Targets[:]...)
			s.Pointer = h.pointer(s.Manifest, nil)
		}, ""},
		"older release": {func(h *house, s *Set) {
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 4 })
			s.Pointer = h.pointer(s.Manifest, nil)
		}, "downgrade"},
		"another release of this number": {func(h *house, s *Set) {
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.Cmdline = "other" })
			s.Pointer = h.pointer(s.Manifest, nil)
		}, "another manifest with version 5"},
		"older pointer": {func(h *house, s *Set) {
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.CreatedAt = day.Add(-time.Hour) })
		}, "the published pointer is newer"},
		"older release after a reset": {func(h *house, s *Set) {
			s.Roots = append(s.Roots, h.successor(s.Roots[0], func(spec *manifest.RootSpec) {
				spec.Floors = map[string]manifest.FloorReset{"stable": {Root: 2, Version: 3}}
			}))
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 4 })
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion, p.CreatedAt = 2, day.Add(-time.Hour) })
		}, ""},
		"older release after a change of keys": {func(h *house, s *Set) {
			s.Roots = append(s.Roots, h.newTimestamp(s.Roots[0]))
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 4 })
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion = 2 })
		}, "downgrade"},
		"the same after an interrupted publication": {func(h *house, s *Set) {
			next := h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 6 })
			if err := os.WriteFile(filepath.Join(h.dir, "stable", "x86_64", "manifest.json"), next, 0o644); err != nil {
				h.t.Fatal(err)
			}
			s.Roots = append(s.Roots, h.newTimestamp(s.Roots[0]))
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 4 })
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion = 2 })
		}, "downgrade"},
		"after a change of keys, against a pointer from tomorrow": {func(h *house, s *Set) {
			tomorrow := h.pointer(s.Manifest, func(p *manifest.Pointer) { p.CreatedAt = day.Add(24 * time.Hour) })
			if err := os.WriteFile(filepath.Join(h.dir, "stable", "x86_64", "pointer.json"), tomorrow, 0o644); err != nil {
				h.t.Fatal(err)
			}
			s.Roots = append(s.Roots, h.newTimestamp(s.Roots[0]))
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion = 2 })
		}, ""},
		"too old a release after a reset": {func(h *house, s *Set) {
			s.Roots = append(s.Roots, h.successor(s.Roots[0], func(spec *manifest.RootSpec) {
				spec.Floors = map[string]manifest.FloorReset{"stable": {Root: 2, Version: 5}}
			}))
			s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 4 })
			s.Pointer = h.pointer(s.Manifest, func(p *manifest.Pointer) { p.RootVersion = 2 })
		}, "downgrade"},
	} {
		h := newHouse(t)
		s := h.set()
		h.publish(s)
		tt.change(h, &s)
		c, err := s.Check()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want == "":
			if err := c.Write(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWorthlessPointerGivesWay: what a thief left in the folder, with a key that
// was replaced, keeps nobody back.
func TestWorthlessPointerGivesWay(t *testing.T) {
	h := newHouse(t)
	s := h.set()
	c := h.publish(s)
	stranger := &house{t: t, keys: testKeys(t), content: h.content}
	forged := stranger.pointer(h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 999999 }), nil)
	for name, junk := range map[string][]byte{"forged": forged, "garbage": []byte("{"), "empty": nil} {
		if err := os.WriteFile(filepath.Join(c.Dir(), "pointer.json"), junk, 0o644); err != nil {
			t.Fatal(err)
		}
		again := h.publish(s)
		if len(again.Notes) != 1 || !strings.Contains(again.Notes[0], "is replaced") {
			t.Errorf("%s: %q", name, again.Notes)
		}
	}
}

// TestProofIsNotLost: media may ask for log proofs, so a release without one does
// not silently take the place of one that has it. The same release keeps its own.
func TestProofIsNotLost(t *testing.T) {
	h := newHouse(t)
	s := h.set()
	s.Proof = []byte("proof")
	c := h.publish(s)
	s.Proof = nil
	h.publish(s)
	if got := read(t, c.Dir(), "manifest.tlog-proof"); string(got) != "proof" {
		t.Errorf("the proof is %q", got)
	}
	s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ManifestVersion = 6 })
	s.Pointer = h.pointer(s.Manifest, nil)
	if _, err := s.Check(); !errors.As(err, new(*FolderError)) || !strings.Contains(err.Error(), "has a log proof") {
		t.Errorf("%v", err)
	}
	s.Proof = []byte("another")
	h.publish(s)
}

// TestLeftoversAreRemoved: an interrupted copy of a large file does not stay.
func TestLeftoversAreRemoved(t *testing.T) {
	h := newHouse(t)
	c := h.publish(h.set())
	var left []string
	for _, file := range []string{filepath.Join(c.Dir(), ".part-1"), filepath.Join(h.dir, "blobs", "aa", ".part-2")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		left = append(left, file)
	}
	h.publish(h.set())
	for _, file := range left {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestDescribeEnds: neither a device without an end nor a person's Ctrl-C keeps it
// going.
func TestDescribeEnds(t *testing.T) {
	if _, err := Describe(os.DevNull, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
	stop := errors.New("stop")
	if _, err := Describe(write(t, t.TempDir(), "kernel"), func(int64, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// TestSwappedFile: a file that changes after the check is caught while it is
// copied, and nothing that has a name has changed.
func TestSwappedFile(t *testing.T) {
	h := newHouse(t)
	c, err := h.set().Check()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.files["rootfs"], []byte("roottv"), 0o644); err != nil { // of the same size
		t.Fatal(err)
	}
	var mismatch *blob.MismatchError
	if err := c.Write(); !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "rootfs") {
		t.Errorf("wrote it: %v", err)
	}
	entries, err := os.ReadDir(c.Dir())
	if err != nil || len(entries) != 0 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestOutlived(t *testing.T) {
	h := newHouse(t)
	s := h.set()
	s.Manifest = h.manifest(func(m *manifest.Manifest) { m.ExpiresAt = day.AddDate(0, 0, 2) })
	s.Pointer = h.pointer(s.Manifest, nil)
	c, err := s.Check()
	if err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "before its pointer") {
		t.Errorf("%v, %v", c, err)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "published")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	var busy *FolderError
	if _, err := Lock(dir); !errors.As(err, &busy) || busy.Hint() == "" {
		t.Errorf("locked twice: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
}
