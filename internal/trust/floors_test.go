package trust

import (
	"errors"
	"fmt"
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

func TestSecurityFloorOnlyRises(t *testing.T) {
	s := OpenState(t.TempDir())
	for _, step := range []struct{ version, security, want int64 }{
		{5, 3, 3}, {6, 0, 3}, {7, 2, 3}, {8, 8, 8}, {8, 7, 8}, {9, 9, 9},
	} {
		next := floor(step.version)
		next.SecurityFloor = step.security
		mustSave(t, s, next)
		next.SecurityFloor = step.want
		mustLoad(t, s, next)
	}
}

func TestFloorKeepsTheNewestRootItWasAcceptedUnder(t *testing.T) {
	s := OpenState(t.TempDir())
	for _, step := range []struct{ version, root, want int64 }{
		{5, 2, 2}, {5, 3, 3}, // the same release, accepted again under a newer root
		{5, 1, 3},
		{6, 1, 1}, // another release, by a medium that lost its newer roots
	} {
		next := floor(step.version)
		next.RootVersion = step.root
		mustSave(t, s, next)
		next.RootVersion = step.want
		mustLoad(t, s, next)
	}
}

// TestRootLowersFloor recovers from a release of an enormous version, signed by
// stolen keys.
func TestRootLowersFloor(t *testing.T) {
	dir := t.TempDir()
	s := OpenState(dir)
	stolen := manifest.Floor{ManifestVersion: 1 << 50, Digest: payload(1), SecurityFloor: 1 << 50, RootVersion: 1}
	mustSave(t, s, stolen)
	next := manifest.Floor{ManifestVersion: 42, Digest: payload(42), RootVersion: 2}
	ordinary := parseRoot(t, rootFile(t, 2, nil, "root", "root"))
	if err := s.SaveFloor(want, next, ordinary); !errors.Is(err, ErrLower) {
		t.Errorf("a root without resets lowered the floor: %v", err)
	}
	reset := resetRoot(t, 2, 41)
	if err := s.SaveFloor(want, floor(40), reset); !errors.Is(err, ErrLower) {
		t.Errorf("lower than the reset: %v", err)
	}
	testing2 := manifest.Want{Channel: manifest.ChannelTesting, Arch: want.Arch}
	if err := s.SaveFloor(testing2, stolen, reset); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveFloor(testing2, next, reset); !errors.Is(err, ErrLower) {
		t.Errorf("the reset of another channel lowered the floor: %v", err)
	}
	mustLoad(t, s, stolen)

	if err := s.SaveFloor(want, next, reset); err != nil {
		t.Fatal(err)
	}
	next.SecurityFloor = 41 // what the stolen one counts as
	mustLoad(t, OpenState(dir), next)
	if err := s.SaveFloor(want, stolen, nil); err != nil { // accepted anew, by an older root: still higher
		t.Fatal(err)
	}
	mustLoad(t, s, stolen)
	if err := s.SaveFloor(want, next, reset); err != nil { // and lowered again
		t.Fatal(err)
	}
	mustLoad(t, s, next)
	after := floor(41)
	after.RootVersion = 2
	if err := s.SaveFloor(want, after, reset); !errors.Is(err, ErrLower) {
		t.Errorf("a floor of the new root was lowered: %v", err)
	}
}

// TestLostResetIsHarmless cuts the power after the first slot has got the
// lowered floor, and rots that slot away.
func TestLostResetIsHarmless(t *testing.T) {
	s := OpenState(t.TempDir())
	mustSave(t, s, floor(1<<50))
	reset := resetRoot(t, 2, 41)
	next := manifest.Floor{ManifestVersion: 42, Digest: payload(42), RootVersion: 2}
	old := readString(t, slotPath(s, 0))
	if err := s.SaveFloor(want, next, reset); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(slotPath(s, 0), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, next)
	spoil(t, "zeros", slotPath(s, 1))
	mustLoad(t, s, floor(1<<50))
	next.ManifestVersion++
	if err := s.SaveFloor(want, next, reset); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, next)
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

// TestOneBadSlotIsSurvived, whichever of the two it is, and the floor does not
// sink.
func TestOneBadSlotIsSurvived(t *testing.T) {
	for how := range spoilers {
		for bad := range endings {
			t.Run(fmt.Sprint(how, " ", bad), func(t *testing.T) {
				f := OpenState(t.TempDir())
				mustSave(t, f, floor(5))
				mustSave(t, f, floor(6))
				spoil(t, how, slotPath(f, bad))
				mustLoad(t, f, floor(6))
				if how == "directory" { // nothing can be written over it
					if err := f.SaveFloor(want, floor(7), nil); err == nil {
						t.Error("nothing was said")
					}
					if err := f.SaveFloor(want, floor(6), nil); err == nil || !strings.Contains(err.Error(), "only once") {
						t.Errorf("the same floor: %v", err)
					}
					mustLoad(t, f, floor(6))
					return
				}
				mustSave(t, f, floor(7))
				mustLoad(t, f, floor(7))
				spoil(t, "empty", slotPath(f, 1-bad))
				mustLoad(t, f, floor(7)) // so the bad slot was written as well
			})
		}
	}
}

func TestBadSlotsAreNeverZero(t *testing.T) {
	for how := range spoilers {
		t.Run(how, func(t *testing.T) {
			f := OpenState(t.TempDir())
			mustSave(t, f, floor(5))
			if err := os.Remove(slotPath(f, 1)); err != nil {
				t.Fatal(err)
			}
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

func TestNoStateKeepsNothing(t *testing.T) {
	var s *State
	root := parseRoot(t, rootFile(t, 1, nil, "root", "root"))
	for what, err := range map[string]error{
		"floor": s.SaveFloor(want, floor(5), root), "time": s.SaveTime(moment), "root": s.SaveRoot(2, []byte("{}")),
		"tried": s.Tried(want, payload(5), document(5), nil), "confirm": s.Confirm(want, payload(5)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustLoad(t, s, manifest.Floor{})
	if at, err := s.Time(); err != nil || !at.IsZero() {
		t.Errorf("time is %v, %v", at, err)
	}
	if newest, raws, err := s.Roots(root); err != nil || raws != nil || newest != root {
		t.Errorf("roots: %v, %v", raws, err)
	}
	if releases, err := s.LastGood(want); err != nil || releases != nil {
		t.Errorf("last good: %v, %v", releases, err)
	}
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
