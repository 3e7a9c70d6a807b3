package trust

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

var want = manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}

func floor(version int64) manifest.Floor {
	return manifest.Floor{ManifestVersion: version, Digest: blob.Of([]byte{byte(version)})}
}

func slotPath(s *State, slot int) string { return s.floorSlots(want).path + endings[slot] }

func mustSave(t *testing.T, f *State, value manifest.Floor) {
	t.Helper()
	if err := f.SaveFloor(want, value, nil); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, f *State, expected manifest.Floor) {
	t.Helper()
	got, err := f.Floor(want)
	if err != nil {
		t.Fatal(err)
	}
	if got != expected {
		t.Fatalf("floor is %+v, want %+v", got, expected)
	}
}

// snapshot returns the content of every file below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		files[e.Name()] = info.ModTime().String() + string(data)
	}
	return files
}

func TestFloorsRiseOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	f := OpenState(dir)
	mustLoad(t, f, manifest.Floor{})
	if _, err := os.Stat(dir); err == nil {
		t.Error("Load created the directory")
	}
	for _, version := range []int64{1, 2, 3, 100, 1 << 53} {
		mustSave(t, f, floor(version))
		mustLoad(t, f, floor(version))
	}
	if err := f.SaveFloor(want, floor(99), nil); !errors.Is(err, ErrLower) {
		t.Errorf("lower floor: %v", err)
	}
	other := manifest.Floor{ManifestVersion: 1 << 53, Digest: blob.Of([]byte("other"))}
	if err := f.SaveFloor(want, other, nil); !errors.Is(err, ErrOtherDigest) {
		t.Errorf("other digest: %v", err)
	}
	for _, bad := range []int64{0, -1} {
		if err := f.SaveFloor(want, floor(bad), nil); err == nil {
			t.Errorf("saved version %d", bad)
		}
	}
	mustLoad(t, f, floor(1<<53))
}

func TestSaveOfEqualFloorWritesNothing(t *testing.T) {
	dir := t.TempDir()
	f := OpenState(dir)
	mustSave(t, f, floor(5))
	before := snapshot(t, dir)
	mustSave(t, f, floor(5))
	mustSave(t, f, manifest.Floor{ManifestVersion: 5})
	if after := snapshot(t, dir); !reflect.DeepEqual(before, after) {
		t.Errorf("files changed:\n%v\n%v", before, after)
	}
}

func TestFloorLearnsItsDigest(t *testing.T) {
	f := OpenState(t.TempDir())
	mustSave(t, f, manifest.Floor{ManifestVersion: 5})
	mustLoad(t, f, manifest.Floor{ManifestVersion: 5})
	mustSave(t, f, floor(5))
	mustLoad(t, f, floor(5))
}

func TestFloorsAreSeparate(t *testing.T) {
	f := OpenState(t.TempDir())
	mustSave(t, f, floor(5))
	for _, other := range []manifest.Want{
		{Channel: manifest.ChannelTesting, Arch: manifest.ArchX8664},
		{Channel: manifest.ChannelStable, Arch: manifest.ArchARM64},
	} {
		if got, err := f.Floor(other); err != nil || got != (manifest.Floor{}) {
			t.Errorf("%v: %+v, %v", other, got, err)
		}
	}
	for _, bad := range []manifest.Want{{}, {Channel: "../x", Arch: manifest.ArchX8664},
		{Channel: manifest.ChannelStable, Arch: "amd64"}, {Channel: manifest.Any, Arch: manifest.Any}} {
		if _, err := f.Floor(bad); err == nil {
			t.Errorf("%v: loaded", bad)
		}
		if err := f.SaveFloor(bad, floor(1), nil); err == nil {
			t.Errorf("%v: saved", bad)
		}
	}
}

// spoilers make a slot unreadable in every way a medium, or a person, can.
var spoilers = map[string]func(path string, good []byte) error{
	"empty":          func(p string, _ []byte) error { return os.WriteFile(p, nil, 0o600) },
	"text":           func(p string, _ []byte) error { return os.WriteFile(p, []byte("5\n"), 0o600) },
	"zeros":          func(p string, good []byte) error { return os.WriteFile(p, make([]byte, len(good)), 0o600) },
	"huge":           func(p string, _ []byte) error { return os.Truncate(p, 1<<40) },
	"last byte gone": func(p string, good []byte) error { return os.WriteFile(p, good[:len(good)-1], 0o600) },
	"one byte more":  func(p string, good []byte) error { return os.WriteFile(p, append(good, '\n'), 0o600) },
	"bit flipped": func(p string, good []byte) error {
		good[len(good)/2] ^= 1
		return os.WriteFile(p, good, 0o600)
	},
	"other version": func(p string, good []byte) error {
		return os.WriteFile(p, []byte(strings.Replace(string(good), "x86_64 ", "x86_64 9", 1)), 0o600)
	},
	"spaces": func(p string, good []byte) error {
		return os.WriteFile(p, []byte(strings.ReplaceAll(string(good), " ", "  ")), 0o600)
	},
	"of another channel": func(p string, _ []byte) error {
		other := manifest.Want{Channel: manifest.ChannelNightly, Arch: manifest.ArchX8664}
		return os.WriteFile(p, floorSlots("", other).encode(floor(9), 9), 0o600)
	},
	"symbolic link": func(p string, good []byte) error {
		if err := os.Rename(p, p+".real"); err != nil {
			return err
		}
		return os.Symlink(p+".real", p)
	},
	"directory": func(p string, _ []byte) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	"pipe":      func(p string, _ []byte) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) },
}

func spoil(t *testing.T, how string, path string) {
	t.Helper()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := spoilers[how](path, good); err != nil {
		t.Fatal(err)
	}
}

func TestOneBadSlotIsSurvived(t *testing.T) {
	for how := range spoilers {
		t.Run(how, func(t *testing.T) {
			f := OpenState(t.TempDir())
			mustSave(t, f, floor(5)) // slot a
			mustSave(t, f, floor(6)) // slot b
			spoil(t, how, slotPath(f, 1))
			mustLoad(t, f, floor(5))
			if how == "directory" {
				return // nothing can be written over it
			}
			mustSave(t, f, floor(7))
			mustLoad(t, f, floor(7))
			spoil(t, "empty", slotPath(f, 0))
			mustLoad(t, f, floor(7)) // so the bad slot was the one overwritten
		})
	}
}

func TestBadSlotsAreNeverZero(t *testing.T) {
	for how := range spoilers {
		t.Run(how, func(t *testing.T) {
			f := OpenState(t.TempDir())
			mustSave(t, f, floor(5))
			spoil(t, how, slotPath(f, 0)) // the only slot that exists
			checkUnreadable(t, f)

			f = OpenState(t.TempDir())
			mustSave(t, f, floor(5))
			mustSave(t, f, floor(6))
			spoil(t, how, slotPath(f, 0))
			spoil(t, how, slotPath(f, 1))
			checkUnreadable(t, f)
			if how != "directory" {
				mustSave(t, f, floor(4)) // starts over
				mustLoad(t, f, floor(4))
			}
		})
	}
}

func checkUnreadable(t *testing.T, f *State) {
	t.Helper()
	got, err := f.Floor(want)
	var typed *Error
	if !errors.As(err, &typed) || !errors.Is(err, ErrUnreadable) || got != (manifest.Floor{}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if typed.Code() != "VFY-020" || typed.Hint() == "" {
		t.Errorf("code %s, hint %q", typed.Code(), typed.Hint())
	}
}

// TestPowerCut replays what a crash can leave behind at each step of a save:
// a temporary file of any length beside intact slots, or (where the device
// broke its promises) a new slot cut at any byte.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	f := OpenState(dir)
	mustSave(t, f, floor(5))
	next := floorSlots("", want).encode(floor(6), 2)
	for cut := range len(next) {
		if err := os.WriteFile(filepath.Join(dir, ".durable-1"), next[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, f, floor(5))
		if err := os.WriteFile(slotPath(f, 1), next[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, f, floor(5))
	}
	mustSave(t, f, floor(6))
	mustLoad(t, f, floor(6))
}

func TestConcurrentSavesKeepTheHighest(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for i := int64(1); i <= 12; i++ {
		group.Go(func() {
			if err := OpenState(dir).SaveFloor(want, floor(i), nil); err != nil && !errors.Is(err, ErrLower) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	mustLoad(t, OpenState(dir), floor(12))
}

func TestUnusableDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := OpenState(dir)
	var typed *Error
	if err := f.SaveFloor(want, floor(1), nil); !errors.As(err, &typed) || typed.Code() != "VFY-022" || typed.Hint() == "" {
		t.Errorf("save: %v", err)
	}
	if _, err := f.Floor(want); !errors.As(err, &typed) {
		t.Errorf("load: %v", err) // ENOTDIR is not "nothing stored"
	}
}
