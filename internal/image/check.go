package image

import (
	"debug/elf"
	"fmt"
	"io"
	"os"

	"github.com/phasebased/phase/internal/pefile"
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
	machine, ok := map[string]uint16{ArchX8664: pefile.MachineX8664, ArchARM64: pefile.MachineARM64}[arch]
	if !ok {
		return &FileError{path, want, "unknown architecture"}
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	head, err := pefile.ReadHead(f)
	switch {
	case err != nil:
		return &FileError{path, want, err.Error()}
	case head.Subsystem != pefile.EFIApplication:
		return &FileError{path, want, fmt.Sprintf("its subsystem is %d, not EFI application", head.Subsystem)}
	case head.Sections == 0:
		return &FileError{path, want, "it has no sections"}
	case head.Machine != machine:
		return &FileError{path, want, fmt.Sprintf("its machine type is %#04x, not %#04x", head.Machine, machine)}
	}
	return nil
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
