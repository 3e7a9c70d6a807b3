package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// syncLimit bounds the wait for disks before the machine changes kernels.
const syncLimit = 10 * time.Second

// Set is everything that the next kernel is made of.
type Set struct {
	Kernel, Initramfs *fetch.File
	Rootfs            *fetch.File        // nil if the manifest has none, or with Kept
	Kept              *fetch.Kept        // in place of Rootfs, if the next system shall open it in the cache
	Verified          *manifest.Verified // also says the new kernel's command line
	// Info is for the next system. Ladder.Load fills in SchemaVersion and Manifest from
	// Verified, whatever they are.
	Info Info
}

const stepCheck = "check the files of the new system"

// check refuses a set that is not the manifest's, and gives the bytes of
// handover.json.
func (s Set) check() ([]byte, error) {
	if !s.Verified.Valid() {
		return nil, refuse(stepCheck, codeSet, "", "the manifest was not verified")
	}
	m := s.Verified.Manifest()
	rootfs, err := s.place(m)
	if err != nil {
		return nil, err
	}
	for name, f := range s.files() {
		a, wanted := m.Artifact(name)
		if name == "rootfs" && s.Kept != nil {
			continue
		}
		if err := checkFile(name, f, a, wanted); err != nil {
			return nil, err
		}
	}
	if err := checkCmdline(m.Cmdline); err != nil {
		return nil, err
	}
	s.Info.SchemaVersion, s.Info.Rootfs = SchemaVersion, rootfs
	s.Info.Manifest = Manifest{Version: m.ManifestVersion, Digest: s.Verified.Digest(), KeyIDs: s.Verified.KeyIDs()}
	info, err := s.Info.Marshal()
	if err != nil {
		return nil, &Error{Step: stepCheck, Err: err, Text: "the hand-over information is wrong", Kind: failure.Kind{Code: codeSet}}
	}
	return info, nil
}

func (s Set) files() map[string]*fetch.File {
	return map[string]*fetch.File{"kernel": s.Kernel, "initramfs": s.Initramfs, "rootfs": s.Rootfs}
}

// identity is what a file says of itself; *fetch.File does.
type identity interface {
	Digest() blob.Digest
	Size() int64
}

func checkFile(name string, f *fetch.File, a manifest.Artifact, wanted bool) error {
	switch {
	case f == nil && !wanted:
		return nil
	case f == nil:
		return refuse(stepCheck, codeSet, "", "the %s is missing", name)
	case !wanted:
		return refuse(stepCheck, codeSet, "", "the manifest has no %s, but there is one", name)
	}
	return checkIdentity(name, f, a)
}

func checkIdentity(name string, f identity, a manifest.Artifact) error {
	if f.Digest() != a.Hash {
		return refuse(stepCheck, codeSet, "", "Artifact %s hash mismatch (expected %s)", name, a.Hash)
	}
	if f.Size() != a.Size {
		return refuse(stepCheck, codeSet, "", "artifact %s has %d bytes, the manifest says %d", name, f.Size(), a.Size)
	}
	return nil
}

func checkCmdline(s string) error {
	const step = "check the command line"
	if len(s) > MaxCmdline {
		return refuse(step, codeCmdline, "", "it has %d bytes, at most %d are possible", len(s), MaxCmdline)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return refuse(step, codeCmdline, "", "it has a control character at byte %d", i)
	}
	return nil
}

func (s Set) closeAll() {
	for _, f := range s.files() {
		if f != nil {
			f.Close()
		}
	}
}

// initrd writes the publisher's initramfs and our archive into sealed memory,
// and closes each source file as soon as it was copied.
func (s Set) initrd(info []byte) (*os.File, error) {
	var rootfs *part
	if s.Rootfs != nil {
		rootfs = &part{s.Rootfs.File(), s.Rootfs.Size(), s.Rootfs.Close}
	}
	return buildInitrd(&part{s.Initramfs.File(), s.Initramfs.Size(), s.Initramfs.Close}, rootfs, info)
}

// part is a file that goes into the initrd.
type part struct {
	file *os.File
	size int64
	done func() error
}

func buildInitrd(initramfs, rootfs *part, info []byte) (*os.File, error) {
	mem, err := newMemory()
	if err != nil {
		return nil, err
	}
	if err := writeInitrd(mem, initramfs, rootfs, info); err != nil {
		mem.Close()
		return nil, err
	}
	return seal(mem)
}

// writeInitrd pads the publisher's archive to four bytes, as the kernel looks
// for the next one at such a place only.
func writeInitrd(out io.Writer, initramfs, rootfs *part, info []byte) error {
	if err := copyWhole(out, initramfs.file, initramfs.size); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	if err := initramfs.done(); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	a := archive{out: out}
	a.pad(initramfs.size)
	a.header("phase", modeDir|0o755, 0)
	a.bytes(strings.TrimPrefix(InfoPath, "/"), 0o600, info)
	if rootfs != nil {
		a.file(strings.TrimPrefix(RootfsPath, "/"), 0o600, rootfs.size, rootfs.file)
		a.fail(rootfs.done())
	}
	a.end()
	return a.err
}

// newMemory makes an anonymous file that can be sealed.
func newMemory() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("phase-initrd", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("phase-initrd", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), "phase-initrd"), nil
}

// seal freezes the file and gives a descriptor that only reads: the kernel does
// not load from a file that is open for writing (ETXTBSY). mem is closed.
func seal(mem *os.File) (*os.File, error) {
	defer mem.Close()
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", mem.Fd()))
	if err != nil {
		return nil, fmt.Errorf("reopen memory file: %w", err)
	}
	return ro, nil
}

func syncDisks(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
