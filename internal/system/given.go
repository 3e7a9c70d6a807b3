package system

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/kmod"
)

// A ReleaseError reports a kernel and modules of different builds: such a kernel
// would load none of them.
type ReleaseError struct{ Image, Is, Modules, Are string }

func (e *ReleaseError) Error() string {
	return fmt.Sprintf("system: the kernel %s is %s, but the modules in %s are for %s", e.Image, e.Is, e.Modules, e.Are)
}

// Hint says what belongs together.
func (e *ReleaseError) Hint() string {
	return "Give the kernel and the modules of one build: /lib/modules/<release> beside /boot/vmlinuz-<release>."
}

// releaseOf is what uname -r says on a kernel with these modules: what the modules
// themselves say, or else the name of their folder.
func releaseOf(modules string) string {
	release, tries := filepath.Base(modules), 0
	_ = filepath.WalkDir(filepath.Join(modules, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(filepath.Base(path), ".ko") {
			return nil // who selects the modules says what is wrong with the folder
		}
		if tries++; tries > 8 {
			return fs.SkipAll
		}
		data, err := readModuleFile(path)
		if err != nil {
			return nil
		}
		if m, err := kmod.ParseModule(data); err == nil && m.Release != "" {
			release = m.Release
			return fs.SkipAll // they are all of one build
		}
		return nil
	})
	return release
}

// recordModules notes the modules that were given: the digest of the names and
// digests of all of them.
func (g *gatherer) recordModules(dir, release string) error {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(filepath.Base(path), ".ko") {
			return err
		}
		digest, _, err := digestFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(sum, "%s %q\n", digest, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("system: modules: %w", err)
	}
	g.in.Materials = append(g.in.Materials, Material{Name: "modules-" + release, Arch: g.Arch, SHA256: blob.FromSum([32]byte(sum.Sum(nil)))})
	return nil
}

// imageRelease is the release that a kernel for x86_64 names in its header (Linux,
// Documentation/arch/x86/boot.rst, kernel_version); "" for kernels that name none.
func imageRelease(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const offset, setup = 0x20e, 0x200
	var header [setup + 0x10]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[0x202:0x206]) != "HdrS" {
		return ""
	}
	at := int64(binary.LittleEndian.Uint16(header[offset:]))
	if at == 0 {
		return ""
	}
	var text [256]byte
	n, _ := f.ReadAt(text[:], at+setup)
	release, _, _ := strings.Cut(string(text[:n]), "\x00")
	release, _, _ = strings.Cut(release, " ")
	return release
}

// FindFiles looks for parts in a folder, by the names that distributions give them:
//
//	vmlinuz*                     the kernel
//	modules/ or lib/modules/*/   its modules
//	systemd-boot*.efi            the boot loader
//	shim*.efi*, mm*.efi*         of ChainStock and ChainUKI
//	gcd*.efi* or grub*.efi*      of ChainStock
//	linux*.efi.stub              of ChainUKI
//	ca-certificates.crt          certificate authorities
//	firmware/                    firmware of devices
//
// What is not there stays "", and comes from packages. Two candidates are an error.
func FindFiles(dir string) (files Files, firmware string, err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return files, "", &FilesError{dir, "it is not a folder", err}
	}
	for _, part := range []struct {
		to       *string
		patterns []string
	}{
		{&files.KernelImage, []string{"vmlinuz*"}},
		{&files.ModulesDir, []string{"modules", "lib/modules/*"}},
		{&files.Loader, []string{"systemd-boot*.efi"}},
		{&files.Shim, []string{"shim*.efi*"}},
		{&files.MokManager, []string{"mm*.efi*"}},
		{&files.Grub, []string{"gcd*.efi*", "grub*.efi*"}},
		{&files.Stub, []string{"linux*.efi.stub"}},
		{&files.CACerts, []string{"ca-certificates.crt"}},
		{&firmware, []string{"firmware"}},
	} {
		for _, pattern := range part.patterns {
			found, err := filepath.Glob(filepath.Join(globEscape(dir), pattern))
			if err != nil || len(found) > 1 {
				return Files{}, "", &FilesError{dir, fmt.Sprintf("it has %d of %s, and one at most can be meant", len(found), pattern), err}
			}
			if len(found) == 1 {
				*part.to = found[0]
				break
			}
		}
	}
	if files == (Files{}) && firmware == "" {
		return files, "", &FilesError{dir, "it has none of the parts", nil}
	}
	if firmware != "" {
		firmware += "/" // a folder, not a package
	}
	return files, firmware, nil
}

// globEscape takes the meaning from the characters that Glob knows.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// A FilesError reports a folder of parts that cannot be used.
type FilesError struct {
	Dir, Reason string
	Err         error // may be nil
}

func (e *FilesError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("system: the folder of parts %s: %v", e.Dir, e.Err)
	}
	return fmt.Sprintf("system: the folder of parts %s: %s", e.Dir, e.Reason)
}

func (e *FilesError) Unwrap() error { return e.Err }

// Hint names the parts.
func (e *FilesError) Hint() string {
	return "Such a folder has vmlinuz, modules, systemd-boot*.efi and ca-certificates.crt; docs/media.md names them all."
}

// Complete tells whether nothing but what a chain needs beside the loader is left to
// come from packages.
func (f Files) Complete() bool {
	return f.KernelImage != "" && f.ModulesDir != "" && f.Loader != "" && f.CACerts != ""
}
