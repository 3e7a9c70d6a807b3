package sysinit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts lists what is mounted, in the order in which it was. The list is empty
// where proc is not mounted yet.
func mounts() []mounted {
	list, _ := mountsBelow("/")
	return list
}

// mountedAs reports whether the uppermost file system at target is of that type.
func mountedAs(fstype, target string) bool {
	last := ""
	for _, m := range mounts() {
		if m.target == target {
			last = m.fstype
		}
	}
	return last == fstype
}

// UnmountBelow unmounts all that is mounted below a folder, the last first. What
// is in use, by a process that does not end, is taken out of sight. It is for a
// program that begins where an earlier run of it was cut short.
func UnmountBelow(dir string) error {
	var errs []error
	for _, m := range slices.Backward(mounts()) {
		if !strings.HasPrefix(m.target, dir+"/") {
			continue
		}
		err := unix.Unmount(m.target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(m.target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.target, err))
		}
	}
	return errors.Join(errs...)
}
