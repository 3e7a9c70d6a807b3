package stick

import (
	"fmt"
	"strings"

	"github.com/phasebased/phase/internal/disks"
)

// Allow is what its owner has said about a device beyond naming it.
type Allow struct {
	Fixed   bool // it may be built in
	Unmount bool // what is mounted may be unmounted
}

// Check refuses a disk that must not be overwritten, or cannot be; part is the name
// of the partition if that was asked for, and need the size of the image. It looks
// at nothing but the facts that it is given. What nobody may allow comes first.
func Check(d disks.Disk, part string, need int64, allow Allow) error {
	for _, rule := range []func() *Error{
		func() *Error { return notDisk(d, part) },
		func() *Error { return systemDisk(d) },
		func() *Error { return unusable(d, need) },
		func() *Error { return usedDisk(d, allow) },
	} {
		if err := rule(); err != nil {
			return err
		}
	}
	if !d.Stick() && !allow.Fixed {
		return refuse(IsFixed, d.Path, "is no stick: %s", describe(d))
	}
	return nil
}

func notDisk(d disks.Disk, part string) *Error {
	switch {
	case part != "":
		return refuse(IsPartition, strings.TrimSuffix(d.Path, d.Name)+part, "is a partition of %s", d.Path)
	case d.Bus == disks.Virtual:
		return refuse(IsVirtual, d.Path, "is no disk: it is made of other devices, or of memory")
	}
	return nil
}

func systemDisk(d disks.Disk) *Error {
	for _, u := range d.Uses {
		if u.System && u.Kind == disks.Swap {
			return refuse(IsSystem, d.Path, "belongs to the running system: it swaps to %s", u.What)
		}
		if u.System {
			return refuse(IsSystem, d.Path, "belongs to the running system: %s is on %s", u.What, u.Node)
		}
	}
	return nil
}

// unusable refuses what cannot become a medium.
func unusable(d disks.Disk, need int64) *Error {
	switch {
	case d.Size == 0:
		return refuse(NoMedium, d.Path, "is empty: there is no medium in the drive")
	case d.ReadOnly:
		return refuse(IsReadOnly, d.Path, "is read-only")
	case d.SectorSize != sector:
		return refuse(SectorSize, d.Path, "has sectors of %d bytes", d.SectorSize)
	case d.Size < need:
		return refuse(TooSmall, d.Path, "is too small: it has %s (%d bytes), and the image needs %s (%d bytes)", size(d.Size), d.Size, size(need), need)
	}
	return nil
}

// usedDisk refuses what somebody uses. Mounts may be ended; the rest is not for a
// program that writes media to take apart.
func usedDisk(d disks.Disk, allow Allow) *Error {
	var points []string
	for _, u := range d.Uses {
		how := ""
		switch u.Kind {
		case disks.Mounted:
			where := fmt.Sprintf("%s at %s", u.Node, u.What)
			if u.Other {
				where += " (in another namespace, such as a container)"
			}
			points = append(points, where)
			continue
		case disks.Mapped:
			how = "the mapped device (LVM, encryption)"
		case disks.RAID:
			how = "the RAID array"
		case disks.Looped:
			how = "the loop device"
		default:
			how = "the device"
		}
		return refuse(InUse, d.Path, "is in use: %s %s stands on %s", how, u.What, u.Node)
	}
	if len(points) > 0 && (!allow.Unmount || elsewhere(d)) {
		return refuse(IsMounted, d.Path, "is mounted: %s", strings.Join(points, ", "))
	}
	return nil
}

// elsewhere reports mounts that this process cannot end.
func elsewhere(d disks.Disk) bool {
	for _, u := range d.Uses {
		if u.Kind == disks.Mounted && u.Other {
			return true
		}
	}
	return false
}

// describe says what a disk is, in a few words.
func describe(d disks.Disk) string {
	words := []string{size(d.Size), string(d.Bus)}
	if d.Title() != "" {
		words = append(words, d.Title())
	}
	return strings.Join(words, " ")
}

// Word is what somebody who wants to overwrite the disk has to type, or to give a
// script: the name of a stick, which is short; the model of anything else, which no
// finger types by habit.
func Word(d disks.Disk) string {
	if !d.Stick() && d.Bus != disks.Loop && d.Title() != "" {
		return d.Title()
	}
	return d.Name
}
