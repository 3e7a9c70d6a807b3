package system

import (
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/internal/uki"
	"github.com/phasebased/phase/media"
)

// Signing is who vouches for what a medium of ChainUKI starts.
type Signing struct {
	Key *secureboot.Key // signs the boot loader and the images; nil: nobody does
	// Owner holds what makes a machine trust the key, by name: PK.auth, KEK.auth and
	// db.auth. The medium is then for machines whose firmware trusts its owner alone,
	// and the firmware starts our loader. Nil: shim does, which a machine with
	// Microsoft's keys starts, and which trusts the key once a person has enrolled it.
	Owner map[string][]byte
}

// CertificateFile is where a medium of ChainUKI with shim has the certificate that a
// person enrols, in DER.
const CertificateFile = "phase-secure-boot.cer"

// maxUKIPart bounds the files that are joined to an image, in bytes.
const maxUKIPart = 512 << 20

// addUKI places the chain of the unified kernel images: the loader, which lists
// what lies in /EFI/Linux, and one image for each mode.
func (b Boot) addUKI(t *image.Tree, p platform) error {
	if len(b.UKI) == 0 {
		return fmt.Errorf("system: the boot chain %q needs an image for each mode", b.Chain)
	}
	loader, err := b.signedFile(b.Loader)
	if err != nil {
		return err
	}
	if b.Signing.Owner != nil || b.Signing.Key == nil {
		t.Bytes("EFI/BOOT/"+p.bootFile, 0o644, loader)
		for name, data := range b.Signing.Owner {
			bytesOnce(t, "loader/keys/auto/"+name, data)
		}
	} else {
		for name, file := range map[string]string{p.bootFile: b.Shim, "mm" + p.efi + ".efi": b.MokManager} {
			if err := image.CheckLoader(file, b.Arch); err != nil {
				return err
			}
			t.File("EFI/BOOT/"+name, 0o644, file)
		}
		t.Bytes("EFI/BOOT/grub"+p.efi+".efi", 0o644, loader)
		bytesOnce(t, CertificateFile, b.Signing.Key.Cert.Raw)
	}
	for _, u := range b.UKI {
		data, err := b.unified(u)
		if err != nil {
			return err
		}
		t.Bytes("EFI/Linux/"+u.Name, 0o644, data)
	}
	return t.Err()
}

// bytesOnce places what is the same for all architectures.
func bytesOnce(t *image.Tree, name string, data []byte) {
	if !t.Has(name) {
		t.Bytes(name, 0o644, data)
	}
}

// signedFile reads an EFI program and signs it.
func (b Boot) signedFile(file string) ([]byte, error) {
	if err := image.CheckLoader(file, b.Arch); err != nil {
		return nil, err
	}
	data, err := readPart(file)
	if err != nil || b.Signing.Key == nil {
		return data, err
	}
	return secureboot.Sign(data, b.Signing.Key)
}

// unified builds and signs one image.
func (b Boot) unified(u media.UKI) ([]byte, error) {
	parts := uki.Parts{Cmdline: u.Cmdline, OSRelease: u.OSRelease}
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

// checkUKIs requires that loader.conf names defaults that are images on the medium.
func checkUKIs(t *image.Tree, boots []Boot, loader map[string][]byte) error {
	conf, ok := loader["loader.conf"]
	if !ok {
		return fmt.Errorf("system: no loader.conf")
	}
	for _, b := range boots {
		for _, def := range loaderValues(string(conf), "default") {
			matches := func(u media.UKI) bool { ok, _ := path.Match(def, u.Name); return ok }
			if b.Chain == ChainUKI && !slices.ContainsFunc(b.UKI, matches) {
				return fmt.Errorf("system: loader.conf names the default %q, which no image for %s is", def, b.Arch)
			}
		}
	}
	return nil
}
