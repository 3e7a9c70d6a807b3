// Package disks says what disks this machine has, what each of them is, and who
// uses it: the facts on which somebody decides whether one may be overwritten.
//
// The idea is to start at a disk and to walk upwards. Whatever stands on it (its
// partitions, then RAID arrays, mapped devices, caches and loop devices on those,
// to any depth) belongs to it, and whoever mounts any of that, or swaps there,
// uses the disk. So nobody has to know all ways in which a root file system can be
// stacked, and a name pattern that forgets NVMe or MMC cannot exist.
//
// What cannot be read is an error where leaving it out would hide a user: the list
// of disks, this process's mounts, the swap areas. Mounts in other namespaces are
// read as far as the kernel lets this user see them; what remains hidden is
// caught later, when the disk is opened for exclusive use.
//
// Trust: the kernel is believed. What it only passes on (vendor, model, serial,
// labels of partitions and file systems) comes from the disk itself: those texts
// are bounded here, and must be cleaned by whoever shows them.
package disks

import (
	"slices"
	"strings"
)

// A Bus is how a disk is connected.
type Bus string

// The buses that make a difference to somebody who writes media.
const (
	USB     Bus = "usb"
	SD      Bus = "sd"   // a card in a reader of its own
	EMMC    Bus = "emmc" // soldered in: the same driver as SD, and not meant to be taken out
	NVMe    Bus = "nvme"
	ATA     Bus = "ata"
	SCSI    Bus = "scsi" // and everything that poses as it
	Virtio  Bus = "virtio"
	Loop    Bus = "loop"    // a file
	File    Bus = "file"    // that stands for a disk; never found by List
	Virtual Bus = "virtual" // made of other devices, or of memory: no disk at all
)

// A Disk is a whole disk, as it is now. The texts are the disk's own: see the
// package's comment.
type Disk struct {
	Name       string // as the kernel calls it: sdb
	Path       string // /dev/sdb
	Vendor     string
	Model      string
	Serial     string
	Size       int64 // bytes; 0: there is no medium in the drive
	SectorSize int   // bytes that are addressed as one
	Bus        Bus
	Removable  bool // the drive says that its medium can be taken out
	ReadOnly   bool
	ZeroesFast bool   // it can be told to write zeros without being sent them
	Sequence   int64  // goes up whenever a medium is plugged in; 0: unknown
	FileSystem string // on the disk itself, if it has no partitions; "": none, or unknown
	FSLabel    string // of that file system
	Partitions []Partition
	Uses       []Use // empty: nobody is known to use it
}

// A Partition of a disk, as the kernel knows it.
type Partition struct {
	Name       string // sdb1
	Offset     int64  // bytes
	Size       int64  // bytes
	Label      string // of the partition, in the partition table
	FileSystem string // such as vfat; "": unknown
	FSLabel    string // of the file system
}

// A Kind is a way of using a disk.
type Kind string

// The ways of using a disk.
const (
	Mounted Kind = "mounted"
	Swap    Kind = "swap"
	Mapped  Kind = "mapped" // device mapper: LVM, encryption, multipath
	RAID    Kind = "raid"
	Looped  Kind = "loop" // a loop device on the disk itself
	Held    Kind = "held" // by something else that stands on it, such as bcache
)

// A Use is one reason not to overwrite a disk.
type Use struct {
	Kind   Kind
	Node   string // what is used: the disk, a partition, or something that stands on it
	What   string // the mount point, the name of the array or of the mapped device
	Other  bool   // mounted in another mount namespace only
	System bool   // this machine cannot do without
}

// System reports whether the running system stands on the disk.
func (d *Disk) System() bool {
	return slices.ContainsFunc(d.Uses, func(u Use) bool { return u.System })
}

// Stick reports whether this is what one writes boot media to: a disk that its
// owner can take out.
func (d *Disk) Stick() bool {
	return d.Bus == USB || d.Bus == SD || d.Removable && d.Bus != Virtual && d.Bus != Loop
}

// Title is vendor and model, as far as they are known.
func (d *Disk) Title() string {
	if strings.HasPrefix(d.Model, d.Vendor) {
		return d.Model
	}
	return strings.TrimSpace(d.Vendor + " " + d.Model)
}

// SerialTail is the end of the serial number: enough to tell two sticks apart, and
// not a number that identifies one in a screenshot or a log.
func (d *Disk) SerialTail() string {
	const shown = 4
	runes := []rune(d.Serial)
	return string(runes[max(0, len(runes)-shown):])
}

// systemMounts are mount points without which a running system is in trouble.
var systemMounts = []string{"/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/usr", "/etc", "/var", "/opt", "/srv", "/home", "/nix", "/sysroot"}

func isSystem(mountPoint string) bool { return slices.Contains(systemMounts, mountPoint) }
