//go:build linux

// Command powercut is the first process of a small machine that raises a version
// floor on a real ext4, again and again, while the host logs what reaches the
// disk. After each time it writes a mark into the log: from then on the floor
// must survive any loss of power. The mark is a sector behind the file system,
// written past every cache and without a flush, so that it changes nothing.
//
// Its first argument says how to write: "safe" as the seed does, through package
// trust; "in-place" and "unflushed" as one must not, to prove that the test
// notices.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	device = "/dev/vda"
	cache  = "/run/cache"
	state  = cache + "/floors"
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
	save, known := map[string]func(int64) error{"safe": safe, "in-place": inPlace, "unflushed": unflushed}[args[0]]
	if !known {
		return fmt.Errorf("no way to write is called %q", args[0])
	}
	if err := prepare(); err != nil {
		return err
	}
	// Two mounts: the second begins with what the first has left.
	for _, versions := range [][]int64{{5, 6, 7}, {8, 9}} {
		if err := session(versions, save, size); err != nil {
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

// session mounts the file system as the seed does, and saves each version.
func session(versions []int64, save func(int64) error, size int64) error {
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
		if err := save(version); err != nil {
			return err
		}
		if err := mark(version, size); err != nil {
			return err
		}
	}
	return sysinit.Unmount(cache)
}

func floor(version int64) manifest.Floor {
	return manifest.Floor{ManifestVersion: version, Digest: blob.Of([]byte(strconv.FormatInt(version, 10)))}
}

func safe(version int64) error { return trust.OpenFloors(state).Save(want, floor(version)) }

// inPlace writes the same bytes over the old ones; a neighbour's flush comes in
// between, as one may at any time.
func inPlace(version int64) error {
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
	_, err = file.Write(data)
	return err
}

// unflushed renames a new file over the old one, and lets both arrive at the
// disk when they like.
func unflushed(version int64) error {
	path, data, err := slot(version)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// slot is a floor as package trust writes it, and where.
func slot(version int64) (path string, data []byte, err error) {
	scratch := filepath.Join("/run", "scratch", strconv.FormatInt(version, 10))
	if err := trust.OpenFloors(scratch).Save(want, floor(version)); err != nil {
		return "", nil, err
	}
	slots, err := os.ReadDir(scratch)
	if err != nil {
		return "", nil, err
	}
	if len(slots) != 1 {
		return "", nil, fmt.Errorf("%d files hold a floor that was saved once", len(slots))
	}
	if err := os.MkdirAll(state, 0o755); err != nil {
		return "", nil, err
	}
	data, err = os.ReadFile(filepath.Join(scratch, slots[0].Name()))
	return filepath.Join(state, slots[0].Name()), data, err
}

// mark writes a version into the sector behind the file system.
func mark(version, offset int64) error {
	disk, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	const align = 4096 // what O_DIRECT asks of memory and length
	memory := make([]byte, 2*align)
	skip := align - int(uintptr(unsafe.Pointer(&memory[0]))%align)
	sector := memory[skip : skip+align]
	copy(sector, fmt.Sprintf("mark %d\n", version))
	_, err = disk.WriteAt(sector, offset)
	return err
}
