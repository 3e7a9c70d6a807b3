package system

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
)

// Sources says where kernel, loader and certificates come from: from packages
// unless files are named.
type Sources struct {
	Arch          string  // x86_64 or arm64
	Flavour       Flavour // for which machines; "": FlavourCloud, or FlavourGeneric with WiFi or Firmware
	Dir           string  // cache folder for packages and what is unpacked from them
	Offline       bool    // no downloads
	Update        bool    // newest packages instead of those in the cache
	KernelPackage string  // "": the distribution's kernel of the flavour
	Chain         Chain   // how the seed is started; "": ChainSystemdBoot
	Files                 // what is not to come from packages
	WiFi          bool    // what it takes to join wireless networks; of FlavourGeneric
	// Firmware are packages with firmware of devices, such as firmware-realtek, or
	// folders, which have a "/" in their names; of FlavourGeneric.
	Firmware []string
	Shell    bool // a shell for the console's menu
	Tor      bool // Tor, for seeds that can boot through it
	Log      *slog.Logger
}

// Files are parts that are given as files and folders instead of packages.
type Files struct {
	KernelImage string // a kernel; needs ModulesDir
	ModulesDir  string // its modules: the folder that holds kernel/, as /lib/modules/<release>
	Loader      string // an EFI boot loader instead of systemd-boot
	Shim        string // of ChainStock: signed files instead of the packages' shim,
	MokManager  string // its key manager
	Grub        string // and GRUB
	Stub        string // of ChainUKI: systemd's EFI stub
	CACerts     string // a PEM bundle
}

// packages is where packages are kept. Apt's lists lie beside it: who copies the
// packages wants none of them.
func (s Sources) packages() *debpkg.Cache {
	return &debpkg.Cache{
		Dir: filepath.Join(s.Dir, "packages"), Lists: filepath.Join(s.Dir, "lists"), Offline: s.Offline, Update: s.Update, Log: s.Log,
	}
}

// A Kernel is a kernel file and the modules of the same build.
type Kernel struct {
	Image   string // file
	Modules string // folder
	Release string // as in uname -r
}

// A Material is one line of the bill of materials: a package or a file that a
// person gave instead.
type Material struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	Arch    string      `json:"arch,omitempty"`
	SHA256  blob.Digest `json:"sha256"`
}

// Inputs are the foreign parts of a build, checked.
type Inputs struct {
	Arch    string
	Flavour Flavour
	Kernel  Kernel
	Chain   Chain
	// EFI programs, those that the chain takes: systemd-boot; shim, its key manager
	// and GRUB, all signed; systemd's stub.
	Loader, Shim, MokManager, Grub, Stub string
	CACerts                              []byte    // PEM bundle
	Firmware                             *Firmware // nil: not asked for
	WiFi                                 *WiFi     // likewise
	Tor                                  *Tor      // likewise
	Shell                                []byte    // likewise: busybox
	Materials                            []Material

	common []Material // those of Materials that are not of the chain
}

// platform is what one architecture calls its things.
type platform struct {
	deb        string       // Debian architecture
	efi        string       // what EFI programs have in their names
	bootFile   string       // the name firmware looks for (UEFI 2.10, section 3.5.1.1)
	loaderFile string       // systemd-boot's name
	drivers    []string     // beside those of all architectures, taken when the kernel has them
	classes    []kmod.Class // likewise, of FlavourGeneric
}

var platforms = map[string]platform{
	image.ArchX8664: {"amd64", "x64", "BOOTX64.EFI", "systemd-bootx64.efi", driversX8664, nil},
	image.ArchARM64: {"arm64", "aa64", "BOOTAA64.EFI", "systemd-bootaa64.efi", driversARM64, treeClasses},
}

// DebianArch is Debian's name of an architecture.
func DebianArch(arch string) (string, error) {
	p, ok := platforms[arch]
	if !ok {
		return "", fmt.Errorf("system: unknown architecture %q", arch)
	}
	return p.deb, nil
}

// Prepare obtains and checks the foreign parts of a build.
func Prepare(ctx context.Context, src Sources) (*Inputs, error) {
	p, ok := platforms[src.Arch]
	if !ok {
		return nil, fmt.Errorf("system: unknown architecture %q", src.Arch)
	}
	if err := src.checkFlavour(); err != nil {
		return nil, err
	}
	g := &gatherer{Sources: src, platform: p, in: &Inputs{Arch: src.Arch, Flavour: src.flavour()},
		cache: src.packages()}
	for _, step := range []func(context.Context) error{g.kernel, g.certificates, g.wifi, g.firmware, g.tor, g.shell} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	g.in.common = g.in.Materials
	return g.in.For(ctx, src)
}

type gatherer struct {
	Sources
	platform platform
	cache    *debpkg.Cache
	in       *Inputs
}

func (g *gatherer) kernel(ctx context.Context) error {
	var err error
	if g.KernelImage != "" || g.ModulesDir != "" {
		g.in.Kernel, err = g.givenKernel()
	} else {
		g.in.Kernel, err = g.packagedKernel(ctx)
	}
	if err != nil {
		return err
	}
	return image.CheckKernel(g.in.Kernel.Image, g.Arch)
}

func (g *gatherer) givenKernel() (Kernel, error) {
	if g.KernelImage == "" || g.ModulesDir == "" {
		return Kernel{}, errors.New("system: a kernel file and its modules folder must be given together")
	}
	dir, err := filepath.Abs(g.ModulesDir)
	if err != nil {
		return Kernel{}, fmt.Errorf("system: %w", err)
	}
	k := Kernel{Image: g.KernelImage, Modules: dir, Release: releaseOf(dir)}
	if is := imageRelease(k.Image); is != "" && is != k.Release {
		return Kernel{}, &ReleaseError{Image: k.Image, Is: is, Modules: dir, Are: k.Release}
	}
	return k, errors.Join(g.record(g.KernelImage), g.recordModules(dir, k.Release))
}

func (g *gatherer) packagedKernel(ctx context.Context) (Kernel, error) {
	name, err := g.kernelPackage()
	if err != nil {
		return Kernel{}, err
	}
	pkgs, err := g.cache.GetKernel(ctx, name, g.platform.deb)
	if err != nil {
		return Kernel{}, err
	}
	g.recordPackages(pkgs...)
	return unpackKernel(ctx, filepath.Join(g.Dir, "kernels"), pkgs)
}

func (g *gatherer) kernelPackage() (string, error) {
	if g.KernelPackage != "" {
		return g.KernelPackage, nil
	}
	return g.flavour().KernelPackage(g.platform.deb)
}

// certificates joins the CA certificates in the order of their names.
func (g *gatherer) certificates(ctx context.Context) error {
	if g.CACerts != "" {
		data, err := readSmall(g.CACerts)
		if err != nil {
			return err
		}
		g.in.CACerts = data
		return errors.Join(checkPEM(data), g.record(g.CACerts))
	}
	pkg, err := g.cache.Get(ctx, "ca-certificates", g.platform.deb)
	if err != nil {
		return err
	}
	g.recordPackages(pkg)
	certs, left := map[string][]byte{}, int64(maxDocument)
	err = pkg.Files(ctx, func(name string, hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg || path.Dir(name) != "usr/share/ca-certificates/mozilla" || path.Ext(name) != ".crt" {
			return nil
		}
		data, err := readAtMost(r, "the package's certificates", left)
		certs[name] = data
		left -= int64(len(data))
		return err
	})
	if err != nil {
		return err
	}
	g.in.CACerts = joinCerts(certs)
	return checkPEM(g.in.CACerts)
}

func joinCerts(certs map[string][]byte) []byte {
	names := make([]string, 0, len(certs))
	for name := range certs {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		b.Write(bytes.TrimSpace(certs[name]))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func checkPEM(data []byte) error {
	if !bytes.Contains(data, []byte("-----BEGIN CERTIFICATE-----")) {
		return errors.New("system: the CA bundle holds no certificate")
	}
	return nil
}

func (g *gatherer) recordPackages(pkgs ...debpkg.Package) {
	for _, p := range pkgs {
		g.in.Materials = append(g.in.Materials, Material{p.Name, p.Version, p.Arch, p.SHA256})
	}
}

// record notes a file that was given by name.
func (g *gatherer) record(file string) error {
	d, _, err := digestFile(file)
	g.in.Materials = append(g.in.Materials, Material{Name: filepath.Base(file), Arch: g.Arch, SHA256: d})
	return err
}
