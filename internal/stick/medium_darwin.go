package stick

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/disks"
)

// syncCache is DKIOCSYNCHRONIZECACHE of sys/disk.h: the drive empties its cache.
const syncCache = 0x20006416

// blkdev is a disk as macOS has it: the raw device, which no cache stands before.
type blkdev struct {
	f *os.File
	d disks.Disk
}

func openDisk(d disks.Disk) (*blkdev, error) {
	f, err := os.OpenFile(raw(d), os.O_RDWR|unix.O_EXLOCK|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(d.Path, err)
	}
	return &blkdev{f, d}, nil
}

// raw is the path of the device without a cache.
func raw(d disks.Disk) string { return strings.Replace(d.Path, "/dev/disk", "/dev/rdisk", 1) }

func (m *blkdev) Size() int64                             { return m.d.Size }
func (m *blkdev) ReadAt(p []byte, at int64) (int, error)  { return m.f.ReadAt(p, at) }
func (m *blkdev) WriteAt(p []byte, at int64) (int, error) { return m.f.WriteAt(p, at) }
func (m *blkdev) Zero(int64, int64) (bool, error)         { return false, nil }
func (m *blkdev) Drop() error                             { return nil }
func (m *blkdev) Close() error                            { return m.f.Close() }
func (m *blkdev) reread()                                 {} // macOS looks when it is closed

func (m *blkdev) Sync() error {
	err := unix.IoctlSetInt(int(m.f.Fd()), syncCache, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOTTY) {
		return nil // it has no cache
	}
	return os.NewSyscallError("DKIOCSYNCHRONIZECACHE", err)
}

func (m *blkdev) Gone(err error) bool {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return true
	}
	_, statErr := os.Stat(m.d.Path)
	return statErr != nil
}

// noMedium recognises a drive without one; macOS has no such error.
func noMedium(error) bool { return false }

// punch makes no holes here.
func punch(*os.File, int64, int64) (bool, error) { return false, nil }

// drop makes reads pass the cache from now on.
func drop(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1)
	return err
}

func openToRead(d disks.Disk) (*os.File, error) {
	f, err := os.Open(raw(d))
	if err != nil {
		return nil, openError(d.Path, err)
	}
	return f, nil
}

func trial(d disks.Disk) error {
	if err := unix.Access(raw(d), unix.R_OK|unix.W_OK); err != nil {
		return openError(d.Path, err)
	}
	return nil
}

// unmount lets diskutil end the mounts.
func unmount(ctx context.Context, d disks.Disk) error {
	out, err := exec.CommandContext(ctx, "/usr/sbin/diskutil", "unmountDisk", d.Name).CombinedOutput()
	if err != nil {
		return &Error{Reason: IsMounted, Path: d.Path, Text: "cannot be unmounted: " + string(bytes.TrimSpace(out[:min(len(out), 500)])), Err: err}
	}
	return nil
}
