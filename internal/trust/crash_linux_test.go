package trust

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// These tests cut the power at every step of every save, at the level of
// operations on a directory: what a save did is recorded, and each state in
// which a crash can leave the directory is made and read. After durable.WriteFile
// that is a temporary file of any length, renamed or not; a rename that was not
// flushed may or may not be there.

// change is one step of a save that others can see: a file was renamed into its
// place with this content, or removed.
type change struct {
	file    string
	content string
	removed bool
}

// recordChanges runs do and returns what happened to the files of dir, in order. It
// fails the test if a file was written in its place.
func recordChanges(t *testing.T, dir string, do func()) []change {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	mask := uint32(syscall.IN_MOVED_TO | syscall.IN_DELETE | syscall.IN_CREATE | syscall.IN_MODIFY)
	if _, err := syscall.InotifyAddWatch(fd, dir, mask); err != nil {
		t.Fatal(err)
	}
	do()
	var changes []change
	buffer := make([]byte, 1<<16)
	n, err := syscall.Read(fd, buffer)
	if err != nil && err != syscall.EAGAIN {
		t.Fatal(err)
	}
	for rest := buffer[:max(n, 0)]; len(rest) > 0; {
		event := binary.NativeEndian.Uint32(rest[4:])
		size := syscall.SizeofInotifyEvent + binary.NativeEndian.Uint32(rest[12:])
		file := strings.TrimRight(string(rest[syscall.SizeofInotifyEvent:size]), "\x00")
		rest = rest[size:]
		switch {
		case strings.HasPrefix(file, durable.TempPrefix):
		case event&syscall.IN_MOVED_TO != 0:
			changes = append(changes, change{file: file, content: readString(t, filepath.Join(dir, file))})
		case event&syscall.IN_DELETE != 0:
			changes = append(changes, change{file: file, removed: true})
		default:
			t.Fatalf("%s was written in its place, event %#x", file, event)
		}
	}
	return changes
}

// memory is everything that a state remembers, in words.
type memory struct{ floor, time, roots, releases string }

const unreadable = "unreadable"

func observe(t *testing.T, s *State, medium *manifest.Root) (m memory) {
	t.Helper()
	word := func(into *string, err error, format string, args ...any) {
		t.Helper()
		*into = fmt.Sprintf(format, args...)
		if err != nil {
			*into = strings.TrimSpace(*into + " " + unreadable)
		}
		if err != nil && !errors.Is(err, ErrUnreadable) {
			t.Fatal(err)
		}
	}
	floor, err := s.Floor(want)
	word(&m.floor, err, "%d", floor.ManifestVersion)
	at, err := s.Time()
	word(&m.time, err, "%s", at)
	root, raws, err := s.Roots(medium)
	word(&m.roots, err, "%d by %d", root.Version(), len(raws))
	releases, err := s.LastGood(want)
	word(&m.releases, err, "%s", describe(t, releases))
	return m
}

// scenario is a save of one kind, after what came before.
type scenario struct {
	name   string
	before func(t *testing.T, s *State)
	save   func(s *State) error
}

func saveFloors(versions ...int64) func(*testing.T, *State) {
	return func(t *testing.T, s *State) {
		t.Helper()
		for _, version := range versions {
			mustSave(t, s, floor(version))
		}
	}
}

func nothing(*testing.T, *State) {}

func scenarios(t *testing.T) []scenario {
	save := func(version int64) func(*State) error {
		return func(s *State) error { return s.SaveFloor(want, floor(version), nil) }
	}
	tried := func(version int64) func(*State) error {
		return func(s *State) error { return s.Tried(want, payload(version), document(version), proof(version)) }
	}
	reset, roots := resetRoot(t, 2, 41), chain(t, 3)
	lives := func(t *testing.T, s *State) { // 5 confirmed, 6 tried, 4 to be swept
		try(t, s, 4)
		try(t, s, 5)
		confirm(t, s, 5)
		try(t, s, 6)
		try(t, s, 7)
	}
	list := []scenario{
		{"first floor", nothing, save(5)},
		{"second floor", saveFloors(5), save(6)},
		{"third floor", saveFloors(5, 6), save(7)},
		{"fourth floor", saveFloors(5, 6, 7), save(8)},
		{"lowered floor", saveFloors(5, 1<<50), func(s *State) error { return s.SaveFloor(want, floor(42), reset) }},
		{"floor of a spoilt spare", func(t *testing.T, s *State) {
			saveFloors(5, 6, 7)(t, s)
			spoil(t, "bit flipped", slotPath(s, 1))
		}, save(8)},
		{"floor after both were spoilt", func(t *testing.T, s *State) {
			saveFloors(5, 6, 7)(t, s)
			spoil(t, "zeros", slotPath(s, 0))
			spoil(t, "empty", slotPath(s, 1))
		}, save(8)},
		{"first release", nothing, tried(5)},
		{"another release", lives, tried(8)},
		{"confirmation", lives, func(s *State) error { return s.Confirm(want, payload(7)) }},
		{"first root", nothing, func(s *State) error { return s.SaveRoot(2, roots[2]) }},
		{"second root", func(t *testing.T, s *State) { _ = s.SaveRoot(2, roots[2]) },
			func(s *State) error { return s.SaveRoot(3, roots[3]) }},
		{"root in place of a bad one", func(t *testing.T, s *State) { _ = s.SaveRoot(2, []byte("bad")) },
			func(s *State) error { return s.SaveRoot(2, roots[2]) }},
	}
	for n := range 3 {
		list = append(list, scenario{fmt.Sprint("time ", n), func(t *testing.T, s *State) {
			for i := range n {
				if err := s.SaveTime(moment.AddDate(0, i, 0)); err != nil {
					t.Fatal(err)
				}
			}
		}, func(s *State) error { return s.SaveTime(moment.AddDate(0, n, 0)) }})
	}
	return list
}

func TestPowerCutAtEveryStep(t *testing.T) {
	t.Parallel()
	medium := parseRoot(t, rootFile(t, 1, nil, "root", "root"))
	total := 0
	for _, sc := range scenarios(t) {
		t.Run(sc.name, func(t *testing.T) {
			s := OpenState(nettest.MemoryDir(t))
			sc.before(t, s)
			before, old := files(t, s.dir), observe(t, s, medium)
			changes := recordChanges(t, s.dir, func() {
				if err := sc.save(s); err != nil {
					t.Fatal(err)
				}
			})
			fresh := observe(t, s, medium)
			if old == fresh || len(changes) == 0 {
				t.Fatal("this scenario changes nothing")
			}
			c := cutter{t: t, medium: medium, old: old, fresh: fresh, state: OpenState(nettest.MemoryDir(t)), save: sc.save}
			c.replay(before, changes)
			total += c.states
		})
	}
	t.Logf("%d states", total)
}

// TestFloorFileIsReplaced, so that a crash leaves the old file or the new one.
func TestFloorFileIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floor")
	for version := int64(1); version < 4; version++ {
		changes := recordChanges(t, filepath.Dir(path), func() {
			if err := SaveFile(path, want, floor(version), nil); err != nil {
				t.Fatal(err)
			}
		})
		if len(changes) != 1 || changes[0].file != "floor" || changes[0].removed {
			t.Errorf("%+v", changes)
		}
	}
}

// cutter makes the states of one save and checks them.
type cutter struct {
	t          *testing.T
	medium     *manifest.Root
	old, fresh memory // what is remembered before and after the save
	state      *State
	save       func(*State) error
	states     int
}

// tempFile is what a crash leaves of durable.WriteFile.
const tempFile = durable.TempPrefix + "123456"

func (c *cutter) replay(before map[string]string, changes []change) {
	for i, step := range changes {
		c.fill(before, changes[:i])
		c.check(fmt.Sprintf("before step %d", i+1), c.old, c.fresh)
		if step.removed {
			continue
		}
		for cut := range len(step.content) + 1 {
			c.write(tempFile, step.content[:cut])
			c.check(fmt.Sprintf("step %d, temporary file of %d bytes", i+1, cut), c.old, c.fresh)
		}
		for _, cut := range []int{0, len(step.content) / 2, len(step.content)} {
			c.fill(before, changes[:i])
			c.write(tempFile, step.content[:cut])
			c.again(fmt.Sprintf("step %d, again after %d bytes", i+1, cut))
		}
		c.brokenPromise(before, changes[:i], step)
	}
	c.fill(before, changes)
	c.check("after the last step", c.fresh)
	var kept []change // removals are not flushed
	for _, step := range changes {
		if !step.removed {
			kept = append(kept, step)
		}
	}
	c.fill(before, kept)
	c.check("removals lost", c.fresh)
}

// brokenPromise is what a device can do that said it had written a slot's
// content, and had not: the renamed file is cut, or full of zeros. It must be
// as if the slot were not there, except that without another good slot the
// value is unreadable, and not nothing.
func (c *cutter) brokenPromise(before map[string]string, done []change, step change) {
	if !strings.HasSuffix(step.file, endings[0]) && !strings.HasSuffix(step.file, endings[1]) {
		return
	}
	c.fill(before, done)
	_ = os.Remove(c.state.path(step.file))
	expected, other := observe(c.t, c.state, c.medium), c.old
	if len(done) > 0 { // the twin has it already
		other = c.fresh
	}
	if expected.floor != other.floor || expected.time != other.time {
		c.t.Fatalf("%s was the only one in force when it was written", step.file)
	}
	switch {
	case strings.HasPrefix(step.file, "time") && expected.time == never.time:
		expected.time = never.time + " " + unreadable
	case strings.Contains(step.file, ".floor") && expected.floor == never.floor:
		expected.floor = never.floor + " " + unreadable
	case strings.Contains(step.file, ".releases"): // the other slot is used, with a warning
		expected.releases = strings.TrimSpace(expected.releases + " " + unreadable)
	}
	for cut := range step.content {
		for _, content := range []string{step.content[:cut], strings.Repeat("\x00", cut+1)} {
			c.write(step.file, content)
			c.check(fmt.Sprintf("%s with %d bytes of it", step.file, len(content)), expected)
		}
	}
}

// never is what a state remembers that was never saved to.
var never = memory{floor: "0", time: time.Time{}.String(), roots: "1 by 0", releases: ""}

// fill makes the directory before with changes applied.
func (c *cutter) fill(before map[string]string, changes []change) {
	c.t.Helper()
	for file := range files(c.t, c.state.dir) {
		if err := os.Remove(c.state.path(file)); err != nil {
			c.t.Fatal(err)
		}
	}
	for file, content := range before {
		c.write(file, content)
	}
	for _, step := range changes {
		if !step.removed {
			c.write(step.file, step.content)
		} else if err := os.Remove(c.state.path(step.file)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cutter) write(file, content string) {
	if err := os.WriteFile(c.state.path(file), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cutter) check(what string, allowed ...memory) {
	c.t.Helper()
	c.states++
	if got := observe(c.t, c.state, c.medium); !slices.Contains(allowed, got) {
		c.t.Fatalf("%s: %+v\nallowed: %+v", what, got, allowed)
	}
}

// again repeats the save that was interrupted.
func (c *cutter) again(what string) {
	c.t.Helper()
	if err := c.save(c.state); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	c.check(what, c.fresh)
}
