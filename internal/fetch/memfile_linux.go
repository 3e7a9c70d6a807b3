package fetch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memFile is the target of Artifact: an anonymous file in memory, memfd_create(2).
type memFile struct{ file *os.File }

// newMemory makes one for size bytes, unless this machine has not even as much
// memory in all. How much of it is free, callers know better.
func newMemory(name string, size int64) (*memFile, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil && uint64(size) > uint64(info.Totalram)*uint64(info.Unit) {
		return nil, fmt.Errorf("%s has %d MiB, and this machine only %d MiB of memory", name, mib(size), mib(int64(uint64(info.Totalram)*uint64(info.Unit))))
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	name = "phase-" + name
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return &memFile{os.NewFile(uintptr(fd), name)}, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) { return m.file.WriteAt(p, off) }
func (m *memFile) ReadAt(p []byte, off int64) (int, error)  { return m.file.ReadAt(p, off) }

// Seal freezes size and content for everybody and for ever, and returns a
// descriptor that is read-only too: the kernel refuses to read a new kernel
// from a file that somebody holds open for writing (ETXTBSY). The writable
// descriptor is closed.
func (m *memFile) Seal() (*os.File, error) {
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	fd := m.file.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("reopen memory file: %w", err)
	}
	if err := m.Close(); err != nil {
		ro.Close()
		return nil, err
	}
	return ro, nil
}

// Close drops the writable descriptor; a second call does nothing.
func (m *memFile) Close() error {
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}
