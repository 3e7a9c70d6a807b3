package oneshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/guid"
)

// Medium is the boot medium that this machine was started from. Its methods are
// those of handover.Restarter; errors are *Error. It is for one goroutine, and
// needs root.
type Medium struct {
	// Disks are the disks, as the kernel names them ("sda"), that may be the
	// medium: those that carry its seed partition.
	Disks []string
	// Arch is the canonical name of the architecture.
	Arch string
	// Told is what the boot loader has said on the kernel's command line.
	Told Told
	// Vars is where efivarfs is mounted, read-only.
	Vars string
	// Dir is a folder where the boot partition may be mounted. It is made.
	Dir string
	// LoadModule loads a driver by its name; nil: they are in the kernel.
	LoadModule func(name string) error
	// Reboot writes the disks and restarts the machine. It returns only on failure.
	Reboot func() error

	root    string // of tests: sys and dev lie below; "" is /
	mounter func(device, dir string, readOnly bool) (unmount func() error, err error)
	remount func(readOnly bool) error // of Vars
	digests map[string]digest         // of what Prepare has written
	ignored bool                      // the loader did not take the entry last time
}

// Probe finds out whether the loader takes an entry for one start and where it
// came from.
func (m *Medium) Probe() error {
	_, err := m.device()
	return err
}

const stepFind = "find the boot partition"

// device is the partition that the loader was started from, if it lies on this
// medium.
func (m *Medium) device() (string, error) {
	l := m.loader()
	switch _, err := os.Stat(m.Vars); {
	case m.ignored:
		return "", kindIgnored.error(stepFind, nil, "the boot loader did not start the new system when it was asked to")
	case err != nil:
		return "", kindLoader.error(stepFind, err, "this machine was not started by UEFI")
	case !l.takes():
		return "", kindLoader.error(stepFind, nil, "the boot loader takes no entries for one start")
	case len(m.Disks) == 0:
		return "", kindMedium.error(stepFind, nil, "this machine was not started from a medium of Phase Boot")
	}
	text, err := l.partition()
	if err != nil {
		return "", kindLoader.error(stepFind, err, "the boot loader does not say where it came from")
	}
	id, err := guid.Parse(text)
	if err != nil {
		return "", kindLoader.error(stepFind, fmt.Errorf("%w: %w", ErrValue, err), "the boot loader does not say where it came from")
	}
	for _, disk := range m.Disks {
		if device, err := m.find(disk, id); err != nil || device != "" {
			return device, err
		}
	}
	return "", kindMedium.error(stepFind, nil, "the boot loader was started from another disk than this medium's, and no other is written to")
}

// find looks for an EFI system partition on a disk; "": it has none with that id.
func (m *Medium) find(disk string, id guid.GUID) (string, error) {
	if disk == "" || strings.ContainsAny(disk, "/\x00") || strings.HasPrefix(disk, ".") {
		return "", kindMedium.error(stepFind, nil, "%.40q is no disk", disk)
	}
	sys := filepath.Join(m.root, "/sys/class/block", disk)
	f, err := os.Open(filepath.Join(m.root, "/dev", disk))
	if err != nil {
		return "", kindMount.error(stepFind, err, "the medium cannot be read")
	}
	defer f.Close()
	sector, err := number(filepath.Join(sys, "queue/logical_block_size"))
	if err != nil {
		return "", kindMount.error(stepFind, err, "the medium cannot be read")
	}
	table, err := readGPT(f, sector)
	if err != nil {
		return "", kindMount.error(stepFind, err, "the medium's partition table cannot be read")
	}
	for _, p := range table {
		if p.ID == id && p.Type == espType {
			return m.node(sys, p.Number)
		}
	}
	return "", nil
}

// node is the device of a disk's partition.
func (m *Medium) node(sys string, partition int) (string, error) {
	list, err := os.ReadDir(sys)
	if err != nil {
		return "", kindMount.error(stepFind, err, "the medium cannot be read")
	}
	for _, e := range list {
		if n, err := number(filepath.Join(sys, e.Name(), "partition")); err == nil && n == partition {
			return filepath.Join(m.root, "/dev", e.Name()), nil
		}
	}
	return "", kindMount.error(stepFind, nil, "the kernel does not know partition %d of the medium", partition)
}

// number reads a small number from sysfs.
func number(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text := make([]byte, 16)
	n, err := f.Read(text)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text[:n])))
}

// mount makes the boot partition's files visible below m.Dir until what it
// returns is called, which also waits until all is written.
func (m *Medium) mount(readOnly bool) (unmount func() error, err error) {
	device, err := m.device()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return nil, kindMount.error(stepFind, err, "it cannot be mounted")
	}
	do := m.mounter
	if do == nil {
		do = m.mountFAT
	}
	if unmount, err = do(device, m.Dir, readOnly); err != nil {
		return nil, kindMount.error(stepFind, err, "it cannot be mounted")
	}
	return unmount, nil
}

// mountFAT mounts FAT, and nothing else that may pretend to be there.
func (m *Medium) mountFAT(device, dir string, readOnly bool) (func() error, error) {
	if m.LoadModule != nil {
		if err := m.LoadModule("vfat"); err != nil {
			return nil, err
		}
		// What the kernel asks for by name; which ones, its configuration decides.
		for _, table := range []string{"nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"} {
			_ = m.LoadModule(table)
		}
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(device, dir, "vfat", flags, "fmask=0177,dmask=0077,errors=remount-ro"); err != nil {
		return nil, err
	}
	return func() error { return unix.Unmount(dir, 0) }, nil
}

// writable lets do change firmware variables, which are mounted read-only for the
// rest of the time.
func (m *Medium) writable(do func(variables) error) error {
	remount := m.remount
	if remount == nil {
		remount = m.remountVars
	}
	if err := remount(false); err != nil {
		return err
	}
	err := do(variables{m.Vars})
	return errors.Join(err, remount(true))
}

func (m *Medium) remountVars(readOnly bool) error {
	flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", m.Vars, "", flags, "")
}

// Ours reports whether the running system was started by an entry of this package.
func (m *Medium) Ours() bool { return m.loader().started() }

// Stale reports whether something of an earlier start is left on the medium or in
// the firmware's memory, as far as the loader has seen.
func (m *Medium) Stale() bool { return m.loader().left() }

// Clear removes what an earlier start has left: the entry, the files, the request
// for it. If the loader was asked to start the entry and has not, it is not asked
// again.
func (m *Medium) Clear() error {
	l := m.loader()
	forgotten := l.failed() || l.armed()
	err := m.Cancel()
	m.ignored = m.ignored || forgotten
	if err == nil {
		m.Told.OneShot = ""
	}
	return err
}

// exists reports whether something is there, of any kind.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
}
