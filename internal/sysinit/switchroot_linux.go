package sysinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// moved are the mounts that go along to a new root, parents before children.
var moved = []string{"/dev", "/proc", "/sys", "/run", "/tmp"}

// SwitchRoot makes newroot the root of this process: it moves the early mounts
// there, frees the memory of the old root if that was an initramfs, and enters
// the new root. The caller then execs its init, or goes on as PID 1. newroot is
// an absolute path outside of the early mounts, such as /newroot.
//
// Deleting a root file system is the most dangerous thing here. It happens only
// if the root is in memory (tmpfs or ramfs), and it never leaves that one file
// system: every directory is opened without following links and compared by
// device before it is looked into.
func SwitchRoot(newroot string) error {
	old, err := os.Open("/")
	if err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	defer old.Close()
	if err := checkNewRoot(newroot); err != nil {
		return fmt.Errorf("switch root to %s: %w", newroot, err)
	}
	for _, dir := range moved {
		if err := move(dir, filepath.Join(newroot, dir)); err != nil {
			return fmt.Errorf("switch root: %w", err)
		}
	}
	if err := os.Chdir(newroot); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	_ = EmptyRAMRoot(old) // what cannot be deleted costs memory, not the boot
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("switch root: move %s to /: %w", newroot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switch root: enter: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	_ = reopenConsole(old) // what cannot be opened stays as it is, which works too
	return nil
}

// reopenConsole puts /dev/console in the place of the standard files that are of the
// file system of old: the kernel opens them for its init before /dev is mounted, and
// whoever inherits them would hold a deleted file of a root that is gone.
func reopenConsole(old *os.File) error {
	var root, file unix.Stat_t
	if err := unix.Fstat(int(old.Fd()), &root); err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Fstat(fd, &file); err != nil || file.Dev != root.Dev {
			continue
		}
		console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Dup3(console, fd, 0)
		if err := errors.Join(err, unix.Close(console)); err != nil {
			return err
		}
	}
	return nil
}

// checkNewRoot refuses what is no mount of its own, or lies in one that moves.
func checkNewRoot(newroot string) error {
	for _, dir := range moved {
		if rel, err := filepath.Rel(dir, newroot); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return fmt.Errorf("it lies in %s, which has to move into it", dir)
		}
	}
	var here, there unix.Stat_t
	if err := unix.Stat("/", &here); err != nil {
		return err
	}
	if err := unix.Stat(newroot, &there); err != nil {
		return err
	}
	if here.Dev == there.Dev {
		return errors.New("not a mounted file system")
	}
	return nil
}

// move moves one mount; one that does not exist is left out.
func move(from, to string) error {
	if mounted, err := isMount(from); err != nil || !mounted {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s: %w", from, err)
	}
	return nil
}

func isMount(dir string) (bool, error) {
	var self, parent unix.Stat_t
	if err := unix.Lstat(dir, &self); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, err
	}
	if err := unix.Stat(filepath.Dir(dir), &parent); err != nil {
		return false, err
	}
	return self.Dev != parent.Dev, nil
}

// EmptyRAMRoot deletes everything in the file system of root, which must be
// open on its top directory and live in memory. Other file systems mounted in
// it are not touched.
func EmptyRAMRoot(root *os.File) error {
	if err := checkInMemory(root); err != nil {
		return fmt.Errorf("empty root: %w", err)
	}
	var self unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &self); err != nil {
		return fmt.Errorf("empty root: %w", err)
	}
	return empty(root, self.Dev)
}

func checkInMemory(root *os.File) error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &stat); err != nil {
		return err
	}
	if stat.Type != unix.TMPFS_MAGIC && stat.Type != unix.RAMFS_MAGIC {
		return errors.New("not in memory, left alone")
	}
	return nil
}

// empty deletes the contents of dir as far as they are on device dev.
func empty(dir *os.File, dev uint64) error {
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, remove(int(dir.Fd()), name, dev))
	}
	return errors.Join(errs...)
}

func remove(dirfd int, name string, dev uint64) error {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return unix.Unlinkat(dirfd, name, 0)
	}
	if err != nil {
		return err
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Dev != dev {
		return err // another file system: not ours
	}
	if err := empty(sub, dev); err != nil {
		return err
	}
	err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // something is mounted in it
	}
	return err
}
