//go:build linux

// Command powercut is the first process of a small machine that keeps, on a real
// ext4, what a seed remembers of its boots and what it has downloaded, while the
// host logs what reaches the disk. After each step it writes a mark into the log with all that must have
// survived from then on, whenever the power is lost. The mark lies behind the
// file system and is written past every cache and without a flush, so that it
// changes nothing.
//
// Its first argument says how to write: "safe" as the seed does, through package
// trust and store; "in-place" and "unflushed" as one must not, to prove that the test
// notices. The second is the size of the file system. /roots holds successors of
// a medium's root by their versions.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	device = "/dev/vda"
	cache  = "/run/cache"
	state  = cache + "/state"
	blobs  = cache + "/store"
)

var want = manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}

func main() {
	err := run(os.Args[1:])
	if err == nil {
		fmt.Println("powercut: done")
	} else {
		fmt.Println("powercut: failed:", err)
	}
	fmt.Println("powercut: power off:", sysinit.PowerOff(5*time.Second))
	select {} // PID 1 must not end
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments: want a way to write and the size of the file system", len(args))
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	g := &guest{size: size, promised: map[string]string{}}
	boot, known := map[string]func(int64) error{"safe": g.safe, "in-place": g.inPlace, "unflushed": g.unflushed}[args[0]]
	if !known {
		return fmt.Errorf("no way to write is called %q", args[0])
	}
	if err := prepare(); err != nil {
		return err
	}
	// Two mounts: the second begins with what the first has left.
	for _, versions := range [][]int64{{5, 6, 7}, {8, 9}} {
		if err := session(versions, boot); err != nil {
			return err
		}
	}
	return nil
}

func prepare() error {
	if err := sysinit.RequiredOnly(sysinit.Mount()); err != nil {
		return err
	}
	modules, err := sysinit.OpenModules("/")
	if err != nil {
		return err
	}
	if err := modules.LoadAll(context.Background()); err != nil {
		return err
	}
	return modules.Load("ext4")
}

// session mounts the file system as the seed does, and boots each version.
func session(versions []int64, boot func(int64) error) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if err := sysinit.MountDevice(device, cache, "ext4", false); err != nil {
		return err
	}
	for _, version := range versions {
		// What somebody else writes at the same time, as a download does.
		if err := os.WriteFile(filepath.Join(cache, "download"), bytes.Repeat([]byte{byte(version)}, 64<<10), 0o644); err != nil {
			return err
		}
		if err := boot(version); err != nil {
			return err
		}
	}
	return sysinit.Unmount(cache)
}

// guest is a machine that boots one release after the other.
type guest struct {
	size     int64 // of the file system
	promised map[string]string
}

// download pins a blob and stores it, the end of it first.
func (g *guest) download(version int64) error {
	s, err := store.OpenLimited(blobs, store.Limit{Bytes: 1 << 20})
	if err != nil {
		return err
	}
	defer s.Close()
	data := bytes.Repeat(fmt.Appendf(nil, "blob %2d ", version), 4<<10)
	d, half := blob.Of(data), len(data)/2
	g.promised["pinned"] = d.Hex()
	if err := errors.Join(s.Pin("booting", []blob.Digest{d}), g.mark()); err != nil {
		return err
	}
	part, err := s.Partial(d, int64(len(data)))
	if err != nil {
		return err
	}
	_, err1 := part.WriteAt(data[half:], int64(half))
	_, err2 := part.WriteAt(data[:half], 0)
	g.promised["stored"] = strconv.FormatInt(version-4, 10) // blobs
	return errors.Join(err1, err2, part.Commit(), g.mark())
}

// safe remembers a boot in the steps and in the order of a seed.
func (g *guest) safe(version int64) error {
	if err := g.download(version); err != nil {
		return err
	}
	s := trust.OpenState(state)
	raw, err := os.ReadFile(fmt.Sprintf("/roots/%d", version-3))
	if err != nil {
		return err
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return err
	}
	made := time.Unix(1_800_000_000+version, 0)
	payload := blob.Of([]byte(strconv.FormatInt(version, 10)))
	steps := []struct {
		save    func() error
		promise string // what holds from then on
		value   string
	}{
		{func() error { return s.SaveRoot(root.Version(), raw) }, "root", strconv.FormatInt(root.Version(), 10)},
		{func() error { return s.Tried(want, payload, fmt.Appendf(nil, "manifest %d", version), []byte("proof")) }, "tried", payload.Hex()},
		{func() error { return s.SaveFloor(want, floor(version), root) }, "floor", strconv.FormatInt(version, 10)},
		{func() error { return s.SaveTime(made) }, "time", strconv.FormatInt(made.Unix(), 10)},
		{func() error { return s.Confirm(want, payload) }, "confirmed", payload.Hex()},
	}
	if version == 7 {
		steps = steps[:len(steps)-1] // a system that never came up
	}
	for _, step := range steps {
		if err := step.save(); err != nil {
			return err
		}
		g.promised[step.promise] = step.value
		if step.promise == "confirmed" {
			g.promised["tried"] = "" // it is the confirmed one now
		}
		if err := g.mark(); err != nil {
			return err
		}
	}
	return nil
}

func floor(version int64) manifest.Floor {
	return manifest.Floor{ManifestVersion: version, Digest: blob.Of([]byte(strconv.FormatInt(version, 10)))}
}

// inPlace writes a floor over the old one; a neighbour's flush comes in between,
// as one may at any time.
func (g *guest) inPlace(version int64) error {
	path, data, err := slot(version)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	unix.Sync()
	if _, err := file.Write(data); err != nil {
		return err
	}
	g.promised["floor"] = strconv.FormatInt(version, 10)
	return g.mark()
}

// unflushed renames a new floor over the old one, and lets both arrive at the
// disk when they like.
func (g *guest) unflushed(version int64) error {
	path, data, err := slot(version)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	g.promised["floor"] = strconv.FormatInt(version, 10)
	return g.mark()
}

// slot is a floor as package trust writes it, and where.
func slot(version int64) (path string, data []byte, err error) {
	scratch := filepath.Join("/run", "scratch", strconv.FormatInt(version, 10))
	if err := trust.OpenState(scratch).SaveFloor(want, floor(version), nil); err != nil {
		return "", nil, err
	}
	slots, err := os.ReadDir(scratch)
	if err != nil {
		return "", nil, err
	}
	if len(slots) != 2 {
		return "", nil, fmt.Errorf("%d files hold a floor that was saved once", len(slots))
	}
	if err := os.MkdirAll(state, 0o755); err != nil {
		return "", nil, err
	}
	data, err = os.ReadFile(filepath.Join(scratch, slots[0].Name()))
	return filepath.Join(state, slots[0].Name()), data, err
}

// mark writes all promises into the block behind the file system.
func (g *guest) mark() error {
	disk, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	var words []string
	for _, name := range slices.Sorted(maps.Keys(g.promised)) {
		words = append(words, name+"="+g.promised[name])
	}
	const align = 4096 // what O_DIRECT asks of memory and length
	memory := make([]byte, 2*align)
	skip := align - int(uintptr(unsafe.Pointer(&memory[0]))%align)
	block := memory[skip : skip+align]
	copy(block, "mark "+strings.Join(words, " ")+"\n")
	_, err = disk.WriteAt(block, g.size)
	return err
}
