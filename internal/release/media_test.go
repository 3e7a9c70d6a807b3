package release

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/sums"
)

// downloads is a folder of media that is signed by a key.
func downloads(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	dir := t.TempDir()
	image := make([]byte, 1<<20)
	copy(image[700000:], "an image with holes")
	for name, data := range map[string][]byte{"phase.img": image, "vm/phase.qcow2": []byte("another")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	resign(t, dir, key)
	return dir
}

func resign(t *testing.T, dir string, key ed25519.PrivateKey) {
	t.Helper()
	list, err := sums.Folder(dir, nil)
	if err == nil {
		err = SignMedia(dir, key, list, time.Unix(1700000000, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMediaPublish(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	pub := keys.Media.Public().(ed25519.PublicKey)
	m := Media{From: downloads(t, keys.Media), Dir: t.TempDir(), Name: "stable-41", Key: pub}
	left := filepath.Join(m.Dir, "media", ".part-left")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	to, err := m.Publish()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what an interruption has left is still there")
	}
	list, err := sums.OpenFolder(to, pub)
	if err == nil {
		err = list.Check(to, nil)
	}
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	for _, name := range []string{"media-key.pem", "media-key.minisign"} {
		if got, err := ReadMediaKey(filepath.Join(m.Dir, "media", name)); err != nil || !got.Equal(pub) {
			t.Error(name, err)
		}
	}
	if again, err := m.Publish(); err != nil || again != to {
		t.Error("the second time:", again, err)
	}
	// Another file under the same name; and a file that the list does not know.
	if err := os.WriteFile(filepath.Join(m.From, "phase.img"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := m
	other.Name = "stable-42"
	if _, err := other.Publish(); !errors.Is(err, sums.ErrDiffers) {
		t.Error("published what is not in the list:", err)
	}
	resign(t, m.From, keys.Media)
	if _, err := m.Publish(); !errors.As(err, new(*FolderError)) {
		t.Error("replaced what is published:", err)
	}
	entries, err := os.ReadDir(filepath.Join(m.Dir, "media"))
	if err != nil || len(entries) != 3 {
		t.Error("failures left something:", entries, err)
	}
	other.Key = keys.Timestamp.Public().(ed25519.PublicKey)
	if _, err := other.Publish(); err == nil {
		t.Error("another role's key counts")
	}
	for _, name := range []string{"", "../x", "A", ".x", "a/b", "a.", strings.Repeat("a", 70)} {
		other := m
		other.Name = name
		if _, err := other.Publish(); !errors.As(err, new(*FolderError)) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestMediaOnlyOneSignature: minisign's alone is enough for those who have only that.
func TestMediaOnlyOneSignature(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	m := Media{From: downloads(t, keys.Media), Dir: t.TempDir(), Name: "a", Key: keys.Media.Public().(ed25519.PublicKey)}
	if err := os.Remove(filepath.Join(m.From, sums.SigName)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Publish(); err != nil {
		t.Error(err)
	}
}

func TestReadMediaKey(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	pub, dir := keys.Media.Public().(ed25519.PublicKey), t.TempDir()
	name := filepath.Join(dir, "media")
	if err := ExportMediaKey(name, pub, func(path string, data []byte) error { return os.WriteFile(path, data, 0o644) }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(keyfile.WritePublic(name+".pub", pub), keyfile.Write(name+".key", keys.Media, keyfile.Passphrase{}),
		os.WriteFile(name+".txt", []byte("hello"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{name + ".pem", name + ".minisign", name + ".pub", KeyPrefix + hex.EncodeToString(pub)} {
		if got, err := ReadMediaKey(text); err != nil || !got.Equal(pub) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]error{
		name + ".key": keyfile.ErrPrivateKey, name + ".txt": sums.ErrKey, name + ".none": os.ErrNotExist,
		KeyPrefix + "00": sums.ErrKey, KeyPrefix + strings.Repeat("00", 32): sums.ErrKey, KeyPrefix + "zz": sums.ErrKey,
	} {
		if _, err := ReadMediaKey(text); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

// TestOldRing: a ring of keys from before there was one for media gets one, and
// keeps it.
func TestOldRing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := LoadOrCreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "media.pem")); err != nil {
		t.Fatal(err)
	}
	one, err := LoadOrCreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := LoadOrCreateKeys(dir)
	if err != nil || one.Media == nil || !two.Media.Equal(one.Media) || !two.Timestamp.Equal(one.Timestamp) {
		t.Error(err)
	}
}

func TestNotes(t *testing.T) {
	log := "# Changelog\n\n## 0.2.0, not released yet\n- new\n\n### More\n- more\n\n## [0.1.0]\n- old\n"
	n := Notes{
		Version: "0.2.0", Time: time.Unix(1700000000, 0), Changes: Changes(log, "0.2.0"),
		Systems: []NotesSystem{{"stable", "x86_64", 41, blob.Of([]byte("m")), "6.1.0-1-cloud-amd64"}},
		Files:   []NotesFile{{"b.img", "an image", 5, blob.Of([]byte("b"))}, {"a.img", "another", 6, blob.Of([]byte("a"))}},
	}
	text := string(n.Markdown())
	for _, want := range []string{"# Phase Boot 0.2.0", "2023-11-14", "- new\n", "### More", "| stable | x86_64 | 41 |", "6.1.0-1-cloud-amd64", blob.Of([]byte("a")).Hex() + "  a.img\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "- old") {
		t.Error("changes of another version")
	}
	n.Files[0], n.Files[1] = n.Files[1], n.Files[0]
	if !bytes.Equal(n.Markdown(), []byte(text)) {
		t.Error("the order of files shows")
	}
	if Changes(log, "0.1.0") != "- old" || Changes(log, "0.3.0") != "" || Changes(log, "0.2") != "" || Changes("## \n", "1") != "" {
		t.Error("other sections")
	}
	if empty := string(Notes{Version: "1"}.Markdown()); strings.Contains(empty, "|") {
		t.Error(empty)
	}
}
