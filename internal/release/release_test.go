package release

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestPublishedFolderVerifies(t *testing.T) {
	keys, dir := testKeys(t), t.TempDir()
	root := publish(t, dir, keys, testRelease(t))
	home := filepath.Join(dir, "stable", "x86_64")
	trusted, err := manifest.ParseRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	want := manifest.Want{Channel: "stable", Arch: "x86_64"}
	pointer, err := manifest.Verifier{Root: trusted, Want: want}.Pointer(read(t, home, "pointer.json"), day)
	if err != nil {
		t.Fatal(err)
	}
	envelope := read(t, home, "manifest.json")
	if _, err := (manifest.Verifier{Root: trusted, Want: want}).Manifest(envelope, nil, pointer, day); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel", "initramfs", "rootfs", "manifest.json"} {
		data := read(t, home, name)
		hex := blob.Of(data).Hex()
		if !bytes.Equal(data, read(t, dir, "blobs", hex[:2], hex+".bin")) {
			t.Errorf("%s: its blob has other bytes", name)
		}
	}
	hex := blob.Of([]byte("hello.wasm")).Hex()
	read(t, dir, "blobs", hex[:2], hex+".bin")
}

func TestSameInputsSameFolder(t *testing.T) {
	keys, r := testKeys(t), testRelease(t)
	one, two := t.TempDir(), t.TempDir()
	publish(t, one, keys, r)
	publish(t, two, keys, r)
	for _, name := range []string{"root.json", "manifest.json", "pointer.json"} {
		if !bytes.Equal(read(t, one, "stable", "x86_64", name), read(t, two, "stable", "x86_64", name)) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	keys := testKeys(t)
	for name, change := range map[string]func(*Release){
		"version 0":          func(r *Release) { r.Version = 0 },
		"unknown channel":    func(r *Release) { r.Channel = "mine" },
		"missing kernel":     func(r *Release) { r.Kernel = filepath.Join(t.TempDir(), "none") },
		"expires at once":    func(r *Release) { r.Expires = r.Created },
		"init on the line":   func(r *Release) { r.Cmdline = "init=/bin/sh" },
		"base is not a URL":  func(r *Release) { r.Bases = []string{"ftp://x"} },
		"missing extra blob": func(r *Release) { r.Blobs = []string{"/nonexistent/x"} },
	} {
		r, dir := testRelease(t), t.TempDir()
		change(&r)
		if _, err := Publish(dir, r, keys, nil); err == nil {
			t.Errorf("%s: published", name)
		}
		if _, err := os.Stat(filepath.Join(dir, r.Channel, r.Arch, "pointer.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: left a pointer", name)
		}
	}
}

func TestKeysAreKeptPrivately(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := LoadOrCreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !made.Timestamp.Equal(again.Timestamp) || !made.Targets[2].Equal(again.Targets[2]) {
		t.Error("other keys the second time")
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "root-1.pem"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "root-1.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKeys(dir); err == nil {
		t.Error("a damaged key was replaced or accepted in silence")
	}
}

func testKeys(t *testing.T) *Keys {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testRelease(t *testing.T) Release {
	t.Helper()
	dir := t.TempDir()
	r := Release{
		Channel: "stable", Arch: "x86_64", Version: 3, Created: day, Expires: day.AddDate(0, 3, 0),
		PointerExpiry: day.AddDate(0, 0, 7), Cmdline: "quiet", Bases: []string{"http://10.0.2.2:8080"},
	}
	for name, into := range map[string]*string{"kernel": &r.Kernel, "initramfs": &r.Initramfs, "rootfs": &r.Rootfs} {
		*into = write(t, dir, name)
	}
	r.Blobs = []string{write(t, dir, "hello.wasm")}
	return r
}

func publish(t *testing.T, dir string, keys *Keys, r Release) (root []byte) {
	t.Helper()
	root, err := keys.RootFile(day.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(dir, r, keys, root); err != nil {
		t.Fatal(err)
	}
	return root
}

// write makes a file whose content is its name.
func write(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
