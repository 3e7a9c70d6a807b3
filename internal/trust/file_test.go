package trust

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/manifest"
)

func TestFloorFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floor")
	load := func(wantWant manifest.Want, wantFloor manifest.Floor) {
		t.Helper()
		w, got, err := LoadFile(path)
		if err != nil || w != wantWant || got != wantFloor {
			t.Fatalf("loaded %v %+v, %v", w, got, err)
		}
	}
	load(anyWant, manifest.Floor{})
	if err := os.WriteFile(path, []byte("5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load(anyWant, manifest.Floor{ManifestVersion: 5})
	if err := SaveFile(path, want, floor(4), nil); !errors.Is(err, ErrLower) {
		t.Errorf("lower: %v", err)
	}
	for _, version := range []int64{5, 6} { // 5 adds the digest
		if err := SaveFile(path, want, floor(version), nil); err != nil {
			t.Fatal(err)
		}
		load(want, floor(version))
	}
	other := manifest.Want{Channel: manifest.ChannelNightly, Arch: manifest.ArchX8664}
	if err := SaveFile(path, other, floor(7), nil); err == nil {
		t.Error("the floor of another channel was replaced")
	}
	if err := SaveFile(path, anyWant, floor(7), nil); err == nil {
		t.Error("saved for any channel")
	}
	load(want, floor(6))
}

func TestBadFloorFileIsNeverZero(t *testing.T) {
	contents := map[string]string{
		"empty": "", "zero": "0", "negative": "-1", "sign": "+5", "leading zero": "05", "space": " 5", "text": "five",
		"two lines": "5\n5\n", "fraction": "5.0", "wide": "99999999999999999999", "hexadecimal": "0x5",
		"cut": string(floorSlots("", want).encode(floor(5), 1)[:40]), "no newline": string(floorSlots("", want).encode(floor(5), 1)[:120]),
		"strange channel": "phase-floor-1 ../x x86_64 5 -\nsha256:0\n",
	}
	for name, content := range contents {
		path := filepath.Join(t.TempDir(), "floor")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, got, err := LoadFile(path); !errors.Is(err, ErrUnreadable) || got != (manifest.Floor{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := SaveFile(path, want, floor(9), nil); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: saved over it: %v", name, err)
		}
	}
	for how := range spoilers {
		f := OpenState(t.TempDir())
		mustSave(t, f, floor(5))
		spoil(t, how, slotPath(f, 0))
		if how == "of another channel" {
			continue // a whole file of another channel is a good file
		}
		if how == "text" {
			continue // a bare number is what a person may write
		}
		if _, got, err := LoadFile(slotPath(f, 0)); !errors.Is(err, ErrUnreadable) || got != (manifest.Floor{}) {
			t.Errorf("%s: %+v, %v", how, got, err)
		}
	}
}
