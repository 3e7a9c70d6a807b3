package disks

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Here are the places on a running Linux.
func Here() Roots {
	return Roots{Sys: "/sys", Proc: "/proc", Dev: "/dev", Udev: "/run/udev/data"}
}

// List describes every disk of this machine, by name.
func List(context.Context) ([]Disk, error) { return Here().List() }

// Find describes the disk at a path; part is the name of the partition if the path
// is one's. A path that is no block device is an error.
func Find(_ context.Context, path string) (d Disk, part string, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, "", fmt.Errorf("disks: %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Disk{}, "", fmt.Errorf("disks: %s is no block device", path)
	}
	return Here().Find(unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// Holds reports whether the file at an absolute path without symbolic links lies on
// the disk.
func Holds(_ context.Context, d Disk, path string) (bool, error) { return Here().Holds(d, path) }
