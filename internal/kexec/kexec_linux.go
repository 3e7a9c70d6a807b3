package kexec

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxSegments is KEXEC_SEGMENT_MAX of linux/kexec.h.
const maxSegments = 16

const stepLoad = "load the new kernel"

// Load puts a kernel, its initrd (nil: none) and its command line into memory,
// where unix.Reboot(LINUX_REBOOT_CMD_KEXEC) starts them. The files are whole,
// verified and not written any more (sealed memory, or regular files); they stay
// the caller's, and may be closed after Load. What was loaded before is replaced;
// on failure it may be gone as well. The error is an *Error, with a unix.Errno
// inside if the kernel refused.
//
// It takes root, and free memory for the initrd once more and for Size.
func Load(kernel, initrd *os.File, cmdline string) error {
	k, err := mapFile("kernel", kernel)
	if err != nil {
		return err
	}
	defer k.unmap()
	i, err := mapFile("initrd", initrd)
	if err != nil {
		return err
	}
	defer i.unmap()
	p, err := planHere(k.data, i.data, cmdline)
	if err != nil {
		return err
	}
	return p.load()
}

// Size is how much memory, in bytes, Load takes for a kernel beside its file: for an
// x86_64 kernel what it unpacks itself to, and an arm64 kernel that is packed is
// unpacked here first. A kernel that Load would refuse is the same *Error.
func Size(kernel *os.File) (int64, error) {
	k, err := mapFile("kernel", kernel)
	if err != nil {
		return 0, err
	}
	defer k.unmap()
	switch runtime.GOARCH {
	case "arm64":
		return sizeARM(k.data)
	case "amd64":
		return sizeX86(k.data)
	}
	return 0, kindArch.error(stepLoad, nil, "not known for %s", runtime.GOARCH)
}

// planHere plans for the machine that it runs on.
func planHere(kernel, initrd []byte, cmdline string) (plan, error) {
	switch runtime.GOARCH {
	case "arm64":
		m, err := readARM()
		if err != nil {
			return plan{}, err
		}
		return planARM(kernel, initrd, cmdline, m)
	case "amd64":
		m, err := readX86()
		if err != nil {
			return plan{}, err
		}
		return planX86(kernel, initrd, cmdline, m)
	}
	return plan{}, kindArch.error(stepLoad, nil, "not known for %s", runtime.GOARCH)
}

// readFree reads which memory is free.
func readFree() (spans, error) {
	iomem, err := readBounded("/proc/iomem", maxIomem)
	if err != nil {
		return nil, kindMap.error(stepMap, err, "it cannot be read")
	}
	return freeMemory(string(iomem))
}

// readARM asks the running kernel for what planARM needs.
func readARM() (armMachine, error) {
	free, err := readFree()
	if err != nil {
		return armMachine{}, err
	}
	m := armMachine{free: free, seed: seed(kaslrSeedSize + 64)}
	if m.tree, err = readBounded("/sys/firmware/fdt", maxTree); err != nil {
		return m, kindTree.error(stepTree, err, "the running kernel does not show its own")
	}
	return m, nil
}

// readX86 asks the running kernel for what planX86 needs.
func readX86() (x86Machine, error) {
	free, err := readFree()
	if err != nil {
		return x86Machine{}, err
	}
	m := x86Machine{free: free, seed: seed(32)}
	if m.regions, err = readMemmap(os.DirFS("/sys/firmware/memmap")); err != nil {
		return m, err
	}
	if m.params, err = readBounded("/sys/kernel/boot_params/data", paramsSize); err != nil {
		return m, kindParams.error(stepParams, err, "the running kernel does not show its own")
	}
	firmware := os.DirFS("/sys/firmware")
	m.rsdp, m.efi = findRSDP(m.params, firmware)
	m.runtime, err = readEFI(m.params, firmware)
	return m, err
}

// seed is random bytes for the next kernel.
func seed(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// readBounded reads a file of the kernel's own file systems, whose size is not
// known before.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("too large")
	}
	return data, err
}

// mapping is a file's content without a second copy of it.
type mapping struct{ data []byte }

// mapFile maps a whole file for reading; nil is an empty one.
func mapFile(name string, f *os.File) (mapping, error) {
	const step = "read the files of the new system"
	if f == nil {
		return mapping{}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return mapping{}, kindFile.error(step, err, "the %s cannot be read", name)
	}
	if info.Size() == 0 || info.Size() != int64(int(info.Size())) {
		return mapping{}, kindFile.error(step, nil, "the %s has %d bytes", name, info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return mapping{}, kindFile.error(step, err, "the %s cannot be mapped", name)
	}
	return mapping{data}, nil
}

func (m mapping) unmap() {
	if m.data != nil {
		_ = unix.Munmap(m.data) // it was mapped
	}
}

// load gives the plan to the running kernel.
func (p plan) load() error {
	segments := make([]kexecSegment, 0, maxSegments)
	for _, s := range p.segments {
		segments = append(segments, kexecSegment{
			Buf: &s.data[0], BufSize: uintptr(len(s.data)), Mem: uintptr(s.at.start), MemSize: uintptr(s.at.size()),
		})
	}
	if err := kexecLoad(uintptr(p.entry), segments, 0); err != nil {
		return explain(stepLoad, err)
	}
	return nil
}

// Unload gives the memory of the loaded kernel back. It is no error if none is
// loaded. The error is an *Error.
func Unload() error {
	if err := kexecLoad(0, nil, 0); err != nil {
		return explain("unload the new kernel", err)
	}
	return nil
}

// Probe asks the running kernel, without loading anything, whether Load can work
// at all: nil, or the *Error that Load would end with.
func Probe() error {
	const step = "ask whether kexec_load works"
	if runtime.GOARCH != "arm64" && runtime.GOARCH != "amd64" {
		return kindArch.error(step, nil, "not known for %s", runtime.GOARCH)
	}
	// The number of segments is looked at only after the permission (kexec_load_check
	// in kernel/kexec.c); one too many is never accepted.
	err := kexecLoad(0, make([]kexecSegment, maxSegments+1), 0)
	if err == nil || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return explain(step, err)
}
