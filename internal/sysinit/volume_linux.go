package sysinit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Volume is a partition, or a disk without any, on which files could be kept.
type Volume struct {
	Device string // "/dev/sdb1"
	Disk   string // "sdb"
	Label  string // its name in the GPT; may be empty
	Model  string // of the disk, as it names itself; may be empty
	Size   int64  // bytes
	// Portable is true if the disk can be unplugged: it says so, or is on USB.
	Portable bool
}

// maxVolumes bounds the list.
const maxVolumes = 128

// Volumes lists them in order of their devices. sys is /sys. Devices without
// hardware (loop, memory, mapped) are left out.
func Volumes(sys fs.FS) ([]Volume, error) {
	entries, err := fs.ReadDir(sys, "class/block")
	if err != nil {
		return nil, fmt.Errorf("list the disks: %w", err)
	}
	var list []Volume
	for _, e := range entries {
		if len(list) == maxVolumes {
			break
		}
		if v, ok := volume(sys, e.Name()); ok {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b Volume) int { return strings.Compare(a.Device, b.Device) })
	return list, nil
}

func volume(sys fs.FS, name string) (v Volume, ok bool) {
	dir := path.Join("class/block", name)
	env := parseEnv(readLine(sys, path.Join(dir, "uevent")))
	if !plainName(env["DEVNAME"]) {
		return v, false
	}
	v = Volume{Device: "/dev/" + env["DEVNAME"], Disk: name, Label: env["PARTNAME"]}
	if exists(sys, path.Join(dir, "partition")) {
		v.Disk, v.Portable = parent(sys, name)
	} else {
		v.Portable = readLine(sys, path.Join(dir, "removable")) == "1"
	}
	disk := path.Join("class/block", v.Disk)
	if v.Disk == "" || !exists(sys, path.Join(disk, "device")) || v.Disk == name && hasPartitions(sys, name) {
		return v, false
	}
	if target, err := fs.ReadLink(sys, disk); err == nil && strings.Contains(target, "/usb") {
		v.Portable = true
	}
	v.Model = strings.Join(strings.Fields(readLine(sys, path.Join(disk, "device/vendor"))+" "+readLine(sys, path.Join(disk, "device/model"))), " ")
	sectors, err := strconv.ParseInt(readLine(sys, path.Join(dir, "size")), 10, 54)
	v.Size = sectors * 512 // always 512, whatever the disk's sectors are
	return v, err == nil && sectors > 0
}

func hasPartitions(sys fs.FS, disk string) bool {
	entries, err := fs.ReadDir(sys, path.Join("class/block", disk))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return exists(sys, path.Join("class/block", disk, e.Name(), "partition"))
	})
}

// Where file systems say what they are: the kernel's fs/fat, fs/exfat and fs/ext4.
var superblocks = []struct {
	fstype string
	at     int64
	magic  string
}{
	{"exfat", 3, "EXFAT   "},
	{"vfat", 82, "FAT32   "},
	{"vfat", 54, "FAT16   "},
	{"vfat", 54, "FAT12   "},
	{"ext4", 1080, "\x53\xef"},
}

// FileSystem is "vfat", "exfat", "ext4" (or an older ext), or empty for all else,
// by what the volume says of itself. It is for a volume that a person has chosen:
// what mounts by itself does not ask the disk which of the kernel's parsers it
// would like to meet.
func FileSystem(device io.ReaderAt) string {
	for _, s := range superblocks {
		buf := make([]byte, len(s.magic))
		if _, err := device.ReadAt(buf, s.at); err == nil && bytes.Equal(buf, []byte(s.magic)) {
			return s.fstype
		}
	}
	return ""
}

// Writable lets a volume and its disk be written to, where SetDisksReadOnly does
// not, until protect is called.
func Writable(disk, device string) (protect func() error, err error) {
	var changed []string
	protect = func() error {
		var errs []error
		for _, d := range slices.Backward(changed) {
			errs = append(errs, setReadOnly(d, true))
		}
		return errors.Join(errs...)
	}
	for _, d := range []string{path.Join("/dev", disk), device} {
		readOnly, err := isReadOnly(d)
		if err == nil && readOnly {
			changed = append(changed, d)
			err = setReadOnly(d, false)
		}
		if err != nil {
			return nil, errors.Join(err, protect())
		}
	}
	return protect, nil
}

func isReadOnly(device string) (bool, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return false, fmt.Errorf("ask whether %s is read-only: %w", device, err)
	}
	return n != 0, nil
}
