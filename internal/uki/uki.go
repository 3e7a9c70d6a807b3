// Package uki joins a kernel, its initramfs and its command line to one EFI
// program: a unified kernel image, as the UAPI group specifies it and systemd's
// stub starts it. One signature then covers all that decides what a seed does; a
// signed kernel that loads an unsigned initramfs proves nothing about the seed.
//
// The stub comes from the distribution, the rest is what the medium would carry
// as separate files. Equal parts give equal bytes. Signing is not done here.
//
// Under Secure Boot the stub ignores command lines that the boot menu or the
// firmware hand it, so the one inside decides.
package uki

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/phasebased/phase/internal/pefile"
)

// Parts is what a unified kernel image is made of. All are required.
type Parts struct {
	Stub      []byte // systemd's EFI stub for the architecture, unsigned
	Kernel    []byte // an EFI program of the same architecture
	Initramfs []byte
	Cmdline   string // printable ASCII on one line
	// OSRelease is what the boot menu reads its title and order from, as
	// os-release(5): PRETTY_NAME, IMAGE_ID, VERSION_ID.
	OSRelease string
}

// maxCmdline is what Linux takes on our architectures, in bytes.
const maxCmdline = 2047

// maxOSRelease bounds the description, in bytes.
const maxOSRelease = 4096

// Build returns the image. It has no clock and no randomness.
func Build(p Parts) ([]byte, error) {
	stub, err := pefile.Parse(p.Stub)
	if err != nil {
		return nil, fmt.Errorf("uki: stub: %w", err)
	}
	kernel, err := pefile.Parse(p.Kernel)
	if err != nil {
		return nil, fmt.Errorf("uki: kernel: %w", err)
	}
	if err := p.check(stub, kernel); err != nil {
		return nil, err
	}
	// The kernel is last: some stubs unpack it in place, towards what follows.
	image, err := stub.Append(
		pefile.Addition{Name: ".osrel", Content: []byte(p.OSRelease)},
		pefile.Addition{Name: ".cmdline", Content: []byte(p.Cmdline)},
		pefile.Addition{Name: ".initrd", Content: p.Initramfs},
		pefile.Addition{Name: ".linux", Content: p.Kernel},
	)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	return image, nil
}

func (p Parts) check(stub, kernel *pefile.File) error {
	switch {
	case !bytes.Contains(p.Stub, []byte("#### LoaderInfo: systemd-stub ")):
		return errors.New("uki: the stub is not systemd's")
	case stub.Machine != kernel.Machine:
		return fmt.Errorf("uki: the stub is for machine type %#04x, the kernel for %#04x", stub.Machine, kernel.Machine)
	case len(p.Initramfs) == 0:
		return errors.New("uki: no initramfs")
	case p.Cmdline == "" || len(p.Cmdline) > maxCmdline || !printable(p.Cmdline):
		return fmt.Errorf("uki: the command line is empty, longer than %d bytes, or not printable ASCII", maxCmdline)
	case p.OSRelease == "" || len(p.OSRelease) > maxOSRelease || strings.ContainsRune(p.OSRelease, 0):
		return fmt.Errorf("uki: the os-release is empty, longer than %d bytes, or has zero bytes", maxOSRelease)
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
