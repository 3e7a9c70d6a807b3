package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/guest"
	"github.com/phasebased/phase/internal/sysinit"
)

// TestSticks writes to the file systems that sticks have, where all disks are
// protected, as in Private mode. What a stick says of itself and what lies on it
// leads nowhere else.
func TestSticks(t *testing.T) {
	if !guest.Run(t, guest.Config{
		Modules:  []string{"vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "exfat", "ext4", "null_blk nr_devices=2 memory_backed=1 gb=1"},
		Packages: []string{"dosfstools", "exfatprogs", "e2fsprogs"}, Programs: []string{"mkfs.fat", "mkfs.exfat", "mke2fs", "debugfs"},
	}) {
		return
	}
	for system, mkfs := range map[string][]string{
		"vfat": {"mkfs.fat", "-F", "32"}, "exfat": {"mkfs.exfat"}, "ext4": {"mke2fs", "-q", "-t", "ext4", "-e", "panic"},
	} {
		t.Run(system, func(t *testing.T) { testStick(t, system, mkfs) })
	}
	t.Run("a link", testStickLink)
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}

// protected reports whether a block device is.
func protected(t *testing.T, device string) bool {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		t.Fatal(err)
	}
	return n != 0
}

func testStick(t *testing.T, system string, mkfs []string) {
	const stick, other = "/dev/nullb0", "/dev/nullb1"
	if err := sysinit.SetDisksReadOnly("/", false); err != nil {
		t.Fatal(err)
	}
	run(t, append(mkfs, stick)...)
	if got := probeVolume(stick); got != system {
		t.Fatalf("it is taken for %q", got)
	}
	if err := sysinit.SetDisksReadOnly("/", true); err != nil {
		t.Fatal(err)
	}
	p := place{Volume: sysinit.Volume{Device: stick, Disk: "nullb0"}, system: system}
	dir, content := filepath.Join(t.TempDir(), "stick"), []byte("what was found out")
	for range 2 { // the second takes the place of the first
		if err := p.write(dir, "found.tar.gz", content); err != nil {
			t.Fatal(err)
		}
		if !protected(t, stick) || !protected(t, other) {
			t.Error("the disks are not protected any more")
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("it is still mounted: %v, %v", list, err)
	}
	if err := sysinit.MountDevice(stick, dir, system, true); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sysinit.Unmount(dir) }()
	if got, err := os.ReadFile(filepath.Join(dir, "found.tar.gz")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, err)
	}
	p.Device, p.Disk = "/dev/nothing", "nothing"
	if err := p.write(dir+"2", "x", content); err == nil {
		t.Error("written to a stick that is gone")
	}
}

// testStickLink: a link where the file is to be is replaced, and none is followed.
func testStickLink(t *testing.T) {
	const stick = "/dev/nullb0"
	if err := sysinit.SetDisksReadOnly("/", false); err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", stick)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "debugfs", "-w", "-R", "symlink found.tar.gz "+victim, stick)
	p := place{Volume: sysinit.Volume{Device: stick, Disk: "nullb0"}, system: "ext4"}
	dir := filepath.Join(t.TempDir(), "stick")
	if err := p.write(dir, "found.tar.gz", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
		t.Errorf("a link was followed: %q, %v", got, err)
	}
	run(t, "debugfs", "-w", "-R", "symlink link "+victim, stick)
	if err := sysinit.MountStick(stick, dir, "ext4"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sysinit.Unmount(dir) }()
	if _, err := os.ReadFile(filepath.Join(dir, "link")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link on a stick is followed: %v", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_NOSUID == 0 || fs.Flags&unix.ST_NODEV == 0 || fs.Flags&unix.ST_NOEXEC == 0 {
		t.Errorf("mounted with flags %x: %v", fs.Flags, err)
	}
}
