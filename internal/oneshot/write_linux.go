package oneshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/pefile"
)

// reserve is what is left free on the boot partition, in bytes: the entry, the
// folders, and clusters that are not filled.
const reserve = 1 << 20

type digest [sha256.Size]byte

const (
	stepRoom  = "look for room on the boot partition"
	stepWrite = "write the new system to the boot partition"
	stepCheck = "compare what was written"
	stepArm   = "tell the firmware what to start"
	stepClear = "remove the entry from the boot partition"
)

// Room finds out whether that many bytes fit on the boot partition.
func (m *Medium) Room(bytes int64) (err error) {
	unmount, err := m.mount(true)
	if err != nil {
		return err
	}
	defer func() { err = also(err, unmounted(unmount())) }()
	return m.room(bytes)
}

// room counts what an earlier attempt has left as free: Prepare removes it.
func (m *Medium) room(bytes int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(m.Dir, &s); err != nil {
		return kindMount.error(stepRoom, err, "it cannot be read")
	}
	free := int64(s.Bavail) * int64(s.Bsize)
	for _, name := range []string{kernelFile, initrdFile} {
		if info, err := os.Lstat(filepath.Join(m.Dir, name)); err == nil {
			free += info.Size()
		}
	}
	if need := bytes + reserve; free < need {
		return kindFull.error(stepRoom, nil, "the new system takes %s, and the boot partition has %s free", mib(need), mib(free))
	}
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// Prepare writes kernel, initrd and command line to the boot partition, and reads
// them back from the medium. Nothing is started by it, now or later. On failure it
// takes back what it has written.
func (m *Medium) Prepare(kernel, initrd *os.File, cmdline string) error {
	e, err := m.check(kernel, cmdline)
	if err != nil {
		return err
	}
	if err := m.write(kernel, initrd, e); err != nil {
		return also(err, m.Cancel())
	}
	if err := m.compare(e); err != nil {
		return also(err, m.Cancel())
	}
	return nil
}

// check refuses what the firmware could not start, before anything is written.
func (m *Medium) check(kernel *os.File, cmdline string) (bootEntry, error) {
	const step = "look at the new kernel"
	machines := map[string]uint16{"x86_64": pefile.MachineX8664, "arm64": pefile.MachineARM64}
	image, err := pefile.ReadHead(kernel)
	switch {
	case err != nil:
		return bootEntry{}, kindKernel.error(step, err, "the firmware cannot start it")
	case image.Machine != machines[m.Arch]:
		return bootEntry{}, kindKernel.error(step, nil, "it is for another kind of machine (%#x)", image.Machine)
	case !image.Signed && (variables{m.Vars}).secureBoot():
		return bootEntry{}, kindSecure.error(step, nil, "it is not signed, and Secure Boot is on")
	}
	name, text, err := m.loader().entry(cmdline)
	if err != nil {
		return bootEntry{}, kindKernel.error(step, err, "its command line does not go through the boot loader")
	}
	return bootEntry{name, text}, nil
}

// bootEntry is the file by which the boot loader starts the new system.
type bootEntry struct {
	name string // on the boot partition
	text []byte
}

// write puts everything on the medium, the entry last.
func (m *Medium) write(kernel, initrd *os.File, e bootEntry) (err error) {
	unmount, err := m.mount(false)
	if err != nil {
		return err
	}
	defer func() { err = also(err, unmounted(unmount())) }()
	if err := m.removeFiles(); err != nil {
		return kindWrite.error(stepWrite, err, "what an earlier attempt has left cannot be removed")
	}
	sum, err := sizes(kernel, initrd)
	if err != nil {
		return kindWrite.error(stepWrite, err, "its size is unknown")
	}
	if err := m.room(sum); err != nil {
		return err
	}
	m.digests = map[string]digest{}
	for name, f := range map[string]*os.File{kernelFile: kernel, initrdFile: initrd} {
		if err := m.copyFile(name, f); err != nil {
			return kindWrite.error(stepWrite, err, "%s cannot be written", name)
		}
	}
	if err := durable.WriteBelow(m.Dir, e.name, e.text, 0o600); err != nil {
		return kindWrite.error(stepWrite, err, "the entry cannot be written")
	}
	return nil
}

func unmounted(err error) error {
	if err == nil {
		return nil
	}
	return kindWrite.error(stepWrite, err, "the boot partition does not let go")
}

// also adds what went wrong while an error was dealt with.
func also(err, then error) error {
	switch {
	case then == nil:
		return err
	case err == nil:
		return then
	default:
		return errors.Join(err, then)
	}
}

func sizes(files ...*os.File) (sum int64, err error) {
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// copyFile writes a file under another name, flushes it and gives it its own. It
// notes the digest of what was read.
func (m *Medium) copyFile(name string, from *os.File) error {
	path := filepath.Join(m.Dir, name)
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), io.NewSectionReader(from, 0, 1<<62))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	m.digests[name] = digest(hash.Sum(nil))
	return durable.SyncDir(filepath.Dir(path))
}

// compare reads everything back. The partition was unmounted in between, so that
// the bytes come from the medium.
func (m *Medium) compare(e bootEntry) (err error) {
	unmount, err := m.mount(true)
	if err != nil {
		return err
	}
	defer func() { err = also(err, unmounted(unmount())) }()
	for name, want := range m.digests {
		got, err := digestOf(filepath.Join(m.Dir, name))
		if err == nil && got != want {
			err = errors.New("other bytes were read than written")
		}
		if err != nil {
			return kindWrite.error(stepCheck, err, "the medium has not kept %s", name)
		}
	}
	if err := m.keeps(e.name, e.text); err != nil {
		return kindWrite.error(stepCheck, err, "the medium has not kept the entry")
	}
	return nil
}

func digestOf(path string) (digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return digest{}, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return digest{}, err
	}
	return digest(hash.Sum(nil)), nil
}

// Restart tells the firmware what to start, and restarts the machine. It returns
// only on failure, and the firmware has forgotten it again then.
func (m *Medium) Restart() error {
	if m.digests == nil {
		return kindReboot.error(stepArm, nil, "nothing was prepared")
	}
	if err := m.loader().arm(); err != nil {
		return also(err, m.loader().disarm())
	}
	if err := m.Reboot(); err != nil {
		return also(kindReboot.error("restart the machine", err, "the running kernel does not let go"), m.loader().disarm())
	}
	return kindReboot.error("restart the machine", nil, "the machine goes on as if it had not been asked")
}

// Cancel removes what Prepare and Restart have written. It mounts the boot
// partition for writing only if there is something to remove.
func (m *Medium) Cancel() (err error) {
	m.digests = nil
	if l := m.loader(); l.armed() {
		if err := l.disarm(); err != nil {
			return err
		}
	}
	found, err := m.found()
	if err != nil || !found {
		return err
	}
	unmount, err := m.mount(false)
	if err != nil {
		return err
	}
	defer func() { err = also(err, unmounted(unmount())) }()
	if err := m.removeFiles(); err != nil {
		return kindWrite.error(stepClear, err, "it cannot be removed")
	}
	return nil
}

// found looks whether there is anything of ours on the boot partition.
func (m *Medium) found() (found bool, err error) {
	unmount, err := m.mount(true)
	if err != nil {
		return false, err
	}
	defer func() { err = also(err, unmounted(unmount())) }()
	return exists(filepath.Join(m.Dir, entryFile)) || exists(filepath.Join(m.Dir, folder)), nil
}

// removeFiles takes the entry away first, so that none ever names a file that is
// not there.
func (m *Medium) removeFiles() error {
	at := filepath.Join(m.Dir, entryFile)
	err := os.Remove(at)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(at))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at = filepath.Join(m.Dir, folder)
	if !exists(at) {
		return nil
	}
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(at))
}
