package ceremony

import (
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// TestReadEntry: what the monitor takes for a release is exactly what is
// logged for one. Anything else has to be flagged.
func TestReadEntry(t *testing.T) {
	hash := blob.Of([]byte("payload"))
	good := string(manifest.LogEntry(manifest.Manifest{Channel: "stable", Arch: "x86_64", ManifestVersion: 41}, hash))
	e := readEntry([]byte(good))
	if e.Conflict != "" || e.Channel != "stable" || e.Arch != "x86_64" || e.Version != 41 || e.Hash != hash.String() {
		t.Fatalf("%+v", e)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"not JSON":        "stable 41",
		"null":            "null",
		"spaces":          strings.Replace(good, ":", ": ", 1),
		"newline":         good + "\n",
		"another order":   strings.Replace(good, `{"arch":"x86_64",`, "{", 1)[:len(good)-len(`"arch":"x86_64",`)-1] + `,"arch":"x86_64"}`,
		"another product": strings.Replace(good, "phase-boot", "phase-boat", 1),
		"more":            strings.Replace(good, "{", `{"a":1,`, 1),
		"twice":           strings.Replace(good, "{", `{"arch":"x86_64",`, 1),
		"hash":            strings.Replace(good, "sha256:", "sha512:", 1),
		"version":         strings.Replace(good, "41", "41.0", 1),
		"large":           strings.Replace(good, "stable", strings.Repeat("x", 5000), 1),
	} {
		if text == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if e := readEntry([]byte(text)); e.Conflict == "" {
			t.Errorf("%s: taken for a release: %s", name, text)
		}
	}
}

// TestListerFlags: the same release twice with different manifests, and what is
// no release, are marked; other channels, architectures and versions are not.
func TestListerFlags(t *testing.T) {
	entry := func(channel, arch string, version int64, payload string) []byte {
		return manifest.LogEntry(manifest.Manifest{Channel: channel, Arch: arch, ManifestVersion: version}, blob.Of([]byte(payload)))
	}
	l := lister{first: map[string]listed{}}
	for i, raw := range [][]byte{
		entry("stable", "x86_64", 1, "a"), entry("testing", "x86_64", 1, "a"), entry("stable", "arm64", 1, "a"),
		entry("stable", "x86_64", 2, "b"), entry("stable", "x86_64", 1, "c"), []byte("odd"), entry("stable", "x86_64", 1, "d"),
	} {
		if err := l.visit(int64(i), raw); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"", "", "", "", "entry 0 is another manifest of this release", "this is no release", "entry 0 is another manifest of this release"}
	for i, e := range l.list {
		if e.Conflict != want[i] {
			t.Errorf("entry %d: %q, want %q", i, e.Conflict, want[i])
		}
	}
	if l.odd != 3 {
		t.Errorf("%d are odd, want 3", l.odd)
	}
}
