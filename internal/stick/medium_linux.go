package stick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/disks"
)

// blkdev is a disk that nobody else has open for himself. Reads and writes are
// direct: a write returns when the device has taken the bytes, a read comes from it.
type blkdev struct {
	f    *os.File
	d    disks.Disk
	size int64
}

// openDisk opens a disk, or says who is in the way. What was found out about it must
// still be so: another one may have been plugged in meanwhile.
func openDisk(d disks.Disk) (*blkdev, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL|unix.O_DIRECT, 0)
	if err != nil {
		return nil, openError(d.Path, err)
	}
	m := &blkdev{f: f, d: d}
	if err := m.check(); err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// noMedium recognises a drive without one.
func noMedium(err error) bool { return errors.Is(err, unix.ENOMEDIUM) }

func (m *blkdev) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(m.f.Fd()), &st); err != nil {
		return openError(m.d.Path, err)
	}
	now, part, err := disks.Here().Find(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if err != nil {
		return &Error{Reason: Gone, Path: m.d.Path, Text: "is gone", Err: err}
	}
	if part != "" || now.Name != m.d.Name || now.Size != m.d.Size || now.Sequence != m.d.Sequence {
		return refuse(Replaced, m.d.Path, "is another disk now")
	}
	readOnly, err := unix.IoctlGetInt(int(m.f.Fd()), unix.BLKROGET)
	if err != nil || readOnly != 0 {
		return refuse(IsReadOnly, m.d.Path, "is read-only")
	}
	m.size = now.Size
	return nil
}

func (m *blkdev) Size() int64 { return m.size }

func (m *blkdev) ReadAt(p []byte, at int64) (int, error) {
	if !isAligned(p) {
		q := aligned(len(p))
		n, err := m.f.ReadAt(q, at)
		return copy(p, q[:n]), err
	}
	return m.f.ReadAt(p, at)
}

func (m *blkdev) WriteAt(p []byte, at int64) (int, error) {
	if !isAligned(p) {
		p = append(aligned(len(p))[:0], p...)
	}
	return m.f.WriteAt(p, at)
}

func (m *blkdev) Sync() error { return unix.Fdatasync(int(m.f.Fd())) }

// Zero uses the command for it, only where the device does the work itself: else the
// kernel would write the zeros one by one, without being asked to stop.
func (m *blkdev) Zero(at, n int64) (bool, error) {
	if !m.d.ZeroesFast {
		return false, nil
	}
	extent := [2]uint64{uint64(at), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, m.f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&extent)))
	if errno == unix.EOPNOTSUPP || errno == unix.ENOTTY || errno == unix.EINVAL {
		return false, nil
	}
	if errno != 0 {
		return false, os.NewSyscallError("BLKZEROOUT", errno)
	}
	return true, nil
}

// Drop may be refused to who is not root; direct reads do without.
func (m *blkdev) Drop() error {
	err := unix.IoctlSetInt(int(m.f.Fd()), unix.BLKFLSBUF, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return os.NewSyscallError("BLKFLSBUF", err)
}

func (m *blkdev) Gone(err error) bool {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) {
		return true
	}
	now, err := os.Stat(m.d.Path)
	if err != nil {
		return true
	}
	opened, err := m.f.Stat()
	return err != nil || !os.SameFile(now, opened)
}

// reread lets the kernel look at the partition table again, as far as this user may
// ask it to; if not, it looks when the stick is plugged in again.
func (m *blkdev) reread() { _ = unix.IoctlSetInt(int(m.f.Fd()), unix.BLKRRPART, 0) }

func (m *blkdev) Close() error { return m.f.Close() }

// punch makes a hole in a file.
func punch(f *os.File, at, n int64) (bool, error) {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

// drop empties the cache of a file that was flushed.
func drop(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// openToRead opens a disk for reading from the medium itself.
func openToRead(d disks.Disk) (*os.File, error) {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, openError(d.Path, err)
	}
	_ = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0) // only root may; direct reads do without
	return f, nil
}

// trial says beforehand whether a disk can be opened to be written to. It opens it
// for reading only, which no other program notices.
func trial(d disks.Disk) error {
	if err := unix.Faccessat(unix.AT_FDCWD, d.Path, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		return openError(d.Path, err)
	}
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return openError(d.Path, err)
	}
	return f.Close()
}

// unmount ends the mounts of a disk, the last ones first.
func unmount(_ context.Context, d disks.Disk) error {
	for _, u := range slices.Backward(d.Uses) {
		if u.Kind != disks.Mounted || u.Other {
			continue
		}
		if err := unix.Unmount(u.What, unix.UMOUNT_NOFOLLOW); err != nil {
			return &Error{Reason: IsMounted, Path: d.Path, Text: fmt.Sprintf("cannot be unmounted from %s", u.What), Err: err}
		}
	}
	return nil
}
