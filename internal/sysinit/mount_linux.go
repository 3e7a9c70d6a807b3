package sysinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Filesystem is one line of the table of early mounts.
type Filesystem struct {
	Type, Target string
	Flags        uintptr
	Data         string
	// Optional marks what a boot can do without.
	Optional bool
}

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Early is the table that Mount works through, in order: a directory is made
// before it is mounted on, and the parents come first.
func Early() []Filesystem {
	return []Filesystem{
		{Type: "proc", Target: "/proc", Flags: safe},
		{Type: "sysfs", Target: "/sys", Flags: safe},
		{Type: "devtmpfs", Target: "/dev", Flags: unix.MS_NOSUID, Data: "mode=0755"},
		{Type: "devpts", Target: "/dev/pts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "mode=0620,gid=5,ptmxmode=0666", Optional: true},
		{Type: "tmpfs", Target: "/dev/shm", Flags: unix.MS_NOSUID | unix.MS_NODEV, Data: "mode=1777", Optional: true},
		{Type: "tmpfs", Target: "/run", Flags: unix.MS_NOSUID | unix.MS_NODEV, Data: "mode=0755"},
		{Type: "tmpfs", Target: "/tmp", Flags: unix.MS_NOSUID | unix.MS_NODEV, Data: "mode=1777"},
		{Type: "securityfs", Target: "/sys/kernel/security", Flags: safe, Optional: true},
		{Type: "cgroup2", Target: "/sys/fs/cgroup", Flags: safe, Optional: true},
	}
}

// EFIVars are the firmware's variables, read-only: who writes one, package oneshot,
// makes them writable for that moment.
// It is no part of Early because it may be a module ("efivarfs"), and because
// it is absent on a machine without UEFI.
func EFIVars() Filesystem {
	return Filesystem{Type: "efivarfs", Target: "/sys/firmware/efi/efivars", Flags: safe | unix.MS_RDONLY, Optional: true}
}

// MountError is one file system that could not be mounted.
type MountError struct {
	Filesystem Filesystem
	Err        error
}

func (e *MountError) Error() string {
	return fmt.Sprintf("mount %s on %s: %v", e.Filesystem.Type, e.Filesystem.Target, e.Err)
}

func (e *MountError) Unwrap() error { return e.Err }

// Mount mounts the table of Early. It goes on after a failure; all failures are
// joined. See RequiredOnly for those that matter.
func Mount() error { return MountAll("/", Early()) }

// MountAll mounts a table below root. A target where that type is mounted
// already counts as done, so that a caller may repeat it: the kernel itself would
// lay a second, empty memory over the first.
func MountAll(root string, table []Filesystem) error {
	var errs []error
	for _, fs := range table {
		fs.Target = filepath.Join(root, fs.Target)
		if err := fs.mount(); err != nil {
			errs = append(errs, &MountError{Filesystem: fs, Err: err})
		}
	}
	return errors.Join(errs...)
}

func (fs Filesystem) mount() error {
	if mountedAs(fs.Type, fs.Target) {
		return nil
	}
	// In sysfs directories cannot be made; mount reports what is missing.
	if err := os.MkdirAll(fs.Target, 0o755); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	err := unix.Mount(fs.Type, fs.Target, fs.Type, fs.Flags, fs.Data)
	if errors.Is(err, unix.EBUSY) {
		return nil // already there
	}
	return err
}

// RequiredOnly takes the optional mounts out of an error of Mount or MountAll.
func RequiredOnly(err error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var required []error
	for _, e := range joined.Unwrap() {
		var m *MountError
		if !errors.As(e, &m) || !m.Filesystem.Optional {
			required = append(required, e)
		}
	}
	return errors.Join(required...)
}

// MountDevice mounts a block device, without devices, set-uid or (for a data
// partition) programs. fstype is never guessed: a foreign partition does not
// choose which parser of the kernel it meets.
func MountDevice(device, target, fstype string, readOnly bool) error {
	flags := uintptr(safe)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return mountSource(device, target, fstype, flags, "")
}

// MountStick mounts, to be written to, a volume that a stranger may have made: as
// MountDevice does, and no symbolic link in it is followed (since Linux 5.10). What
// ext4 finds wrong in it ends writing, whatever it says of itself: it could name a
// panic of the kernel.
func MountStick(device, target, fstype string) error {
	data := ""
	if fstype == "ext4" {
		data = "errors=remount-ro"
	}
	return mountSource(device, target, fstype, safe|unix.MS_NOSYMFOLLOW, data)
}

// MountImage mounts a read-only system image (squashfs, erofs) whose bytes have
// been verified; programs in it may run.
func MountImage(device, target, fstype string) error {
	return mountSource(device, target, fstype, unix.MS_RDONLY|unix.MS_NODEV, "")
}

// MountTmpfs mounts memory as a file system; size is a limit in bytes, 0 means
// the kernel's default, half of the memory.
func MountTmpfs(target string, size int64) error {
	data := "mode=0755"
	if size > 0 {
		data += fmt.Sprintf(",size=%d", size)
	}
	return mountSource("tmpfs", target, "tmpfs", unix.MS_NODEV, data)
}

// MountOverlay lays upper over lower at target. work must be an empty directory
// in the file system of upper; upper and work are made.
func MountOverlay(lower, upper, work, target string) error {
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", target, err)
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	return mountSource("overlay", target, "overlay", unix.MS_NODEV, data)
}

func mountSource(source, target, fstype string, flags uintptr, data string) error {
	err := os.MkdirAll(target, 0o755)
	if err == nil {
		err = unix.Mount(source, target, fstype, flags, data)
	}
	if err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", source, fstype, target, err)
	}
	return nil
}

// Unmount detaches what is mounted at target.
func Unmount(target string) error {
	if err := unix.Unmount(target, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}
