package image

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// Architecture names, as everywhere in Phase.
const (
	ArchX8664 = "x86_64"
	ArchARM64 = "arm64"
)

// A FileError reports a file that is not what its place on the medium needs.
type FileError struct {
	Path   string
	Want   string // what it should be
	Reason string // what is wrong with it
}

func (e *FileError) Error() string {
	return fmt.Sprintf("image: %s is not %s: %s", e.Path, e.Want, e.Reason)
}

// CheckLoader requires an EFI application for arch: a PE32+ file of that machine
// type with code in it.
func CheckLoader(path, arch string) error {
	return checkPE(path, "an EFI program for "+arch, arch)
}

// CheckKernel requires a kernel that firmware can start (a PE file for arch) and
// that kexec knows: a bzImage on x86_64, an uncompressed Image on arm64.
func CheckKernel(path, arch string) error {
	want := "a Linux kernel for " + arch
	if err := checkPE(path, want, arch); err != nil {
		return err
	}
	head, err := readHead(path, 1024)
	if err != nil {
		return err
	}
	// Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst.
	at, magic := 0x202, "HdrS"
	if arch == ArchARM64 {
		at, magic = 56, "ARM\x64"
	}
	if len(head) < at+4 || string(head[at:at+4]) != magic {
		return &FileError{path, want, "no boot protocol header"}
	}
	return nil
}

// CheckProgram requires a statically linked ELF program for arch. A dynamic one
// would not start: the media carry no loader and no libraries.
func CheckProgram(path, arch string) error {
	want := "a static program for " + arch
	f, err := elf.Open(path)
	if err != nil {
		return &FileError{path, want, err.Error()}
	}
	defer f.Close()
	machine, ok := map[string]elf.Machine{ArchX8664: elf.EM_X86_64, ArchARM64: elf.EM_AARCH64}[arch]
	switch {
	case !ok:
		return &FileError{path, want, "unknown architecture"}
	case f.Machine != machine:
		return &FileError{path, want, "it is for " + f.Machine.String()}
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return &FileError{path, want, "it is not executable"}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return &FileError{path, want, "it is dynamically linked (build with CGO_ENABLED=0)"}
		}
	}
	return nil
}

func checkPE(path, want, arch string) error {
	machine, ok := map[string]uint16{
		ArchX8664: pe.IMAGE_FILE_MACHINE_AMD64,
		ArchARM64: pe.IMAGE_FILE_MACHINE_ARM64,
	}[arch]
	if !ok {
		return &FileError{path, want, "unknown architecture"}
	}
	head, err := readHead(path, 64<<10)
	if err != nil {
		return err
	}
	got, err := peMachine(head)
	if err != nil {
		return &FileError{path, want, err.Error()}
	}
	if got != machine {
		return &FileError{path, want, fmt.Sprintf("its machine type is %#04x, not %#04x", got, machine)}
	}
	return nil
}

// peMachine reads the machine type of an EFI program by hand: debug/pe refuses
// the kernel's EFI stub, whose section table it finds odd.
func peMachine(head []byte) (uint16, error) {
	le := binary.LittleEndian
	if len(head) < 0x40 || !bytes.HasPrefix(head, []byte("MZ")) {
		return 0, fmt.Errorf("it has no MZ header (%d bytes)", len(head))
	}
	at := int64(le.Uint32(head[0x3c:]))
	if at+24+70 > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return 0, fmt.Errorf("it has no PE header")
	}
	opt := head[at+24:]
	if le.Uint16(opt) != 0x20b {
		return 0, fmt.Errorf("it is not PE32+")
	}
	if sub := le.Uint16(opt[68:]); sub != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
		return 0, fmt.Errorf("its subsystem is %d, not EFI application", sub)
	}
	if le.Uint16(head[at+6:]) == 0 {
		return 0, fmt.Errorf("it has no sections")
	}
	return le.Uint16(head[at+4:]), nil
}

func readHead(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return head, nil
}
