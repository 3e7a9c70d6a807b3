package system

import (
	"fmt"
	"os"
	"slices"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/internal/uki"
)

// Signing is who vouches for what a medium of ChainUKI starts.
type Signing struct {
	Key *secureboot.Key // signs the image; nil: nobody does
	// Owner holds what makes a machine trust the key, by name: PK.auth, KEK.auth and
	// db.auth. The medium is then for machines whose firmware trusts its owner alone,
	// and the firmware starts the image. Nil: shim does, which a machine with
	// Microsoft's keys starts, and which trusts the key once a person has enrolled it.
	Owner map[string][]byte
}

// CertificateFile is where a medium of ChainUKI with shim has the certificate that a
// person enrols, in DER.
const CertificateFile = "phase-secure-boot.cer"

// KeyFolder is where a medium for machines of one's own has what makes them trust
// its key.
const KeyFolder = "keys"

// maxUKIPart bounds the files that are joined to an image, in bytes.
const maxUKIPart = 512 << 20

// addUKI places the chain of the unified kernel image, which is what the firmware
// starts, or shim. There is no boot loader: one that the owner has signed would start
// any kernel of the owner's with whatever initramfs an unsigned menu names, and so
// with another seed.
func (b Boot) addUKI(t *image.Tree, p platform) error {
	unified, err := b.unified()
	if err != nil {
		return err
	}
	if b.Signing.Owner != nil || b.Signing.Key == nil {
		t.Bytes("EFI/BOOT/"+p.bootFile, 0o644, unified)
		for name, data := range b.Signing.Owner {
			bytesOnce(t, KeyFolder+"/"+name, data)
		}
		return t.Err()
	}
	for name, file := range map[string]string{p.bootFile: b.Shim, "mm" + p.efi + ".efi": b.MokManager} {
		if err := image.CheckLoader(file, b.Arch); err != nil {
			return err
		}
		t.File("EFI/BOOT/"+name, 0o644, file)
	}
	t.Bytes("EFI/BOOT/grub"+p.efi+".efi", 0o644, unified)
	bytesOnce(t, CertificateFile, b.Signing.Key.Cert.Raw)
	return t.Err()
}

// bytesOnce places what is the same for all architectures.
func bytesOnce(t *image.Tree, name string, data []byte) {
	if !t.Has(name) {
		t.Bytes(name, 0o644, data)
	}
}

// unified builds and signs the image.
func (b Boot) unified() ([]byte, error) {
	parts := uki.Parts{Cmdline: b.UKI.Cmdline, OSRelease: b.UKI.OSRelease}
	var err error
	if err = image.CheckKernel(b.Kernel, b.Arch); err != nil {
		return nil, err
	}
	if parts.Stub, err = readPart(b.Stub); err != nil {
		return nil, err
	}
	if parts.Kernel, err = readPart(b.Kernel); err != nil {
		return nil, err
	}
	for _, file := range b.Initramfs {
		if err := checkInitramfs(file); err != nil {
			return nil, err
		}
		data, err := readPart(file)
		if err != nil {
			return nil, err
		}
		parts.Initramfs = slices.Concat(parts.Initramfs, data)
	}
	built, err := uki.Build(parts)
	if err != nil || b.Signing.Key == nil {
		return built, err
	}
	return secureboot.Sign(built, b.Signing.Key)
}

func readPart(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	if info.Size() > maxUKIPart {
		return nil, fmt.Errorf("system: %s has %d bytes, more than fit into an EFI program", file, info.Size())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	return data, nil
}
