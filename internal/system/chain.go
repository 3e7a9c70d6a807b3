package system

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/image"
)

// A Chain is the way from the firmware to the seed's kernel; "" is
// [ChainSystemdBoot].
type Chain string

const (
	// ChainSystemdBoot is systemd-boot, which starts kernel and seed from entries of
	// the Boot Loader Specification. Nothing of it is signed: Secure Boot has to be off.
	ChainSystemdBoot Chain = "systemd-boot"
	// ChainStock is for PCs as they are sold, with Microsoft's keys and Secure Boot on:
	// shim, Debian's signed GRUB, Debian's signed kernel, and the seed, which nobody
	// but our own signatures vouches for. It works with Secure Boot off as well.
	ChainStock Chain = "stock"
	// ChainUKI is one signed EFI program with kernel, seed and command line in it. The
	// seed asks for the mode.
	ChainUKI Chain = "uki"
)

// Chains returns the chains that media of an architecture can have, the default
// first.
func Chains(arch string) []Chain {
	if arch == image.ArchX8664 {
		return []Chain{ChainStock, ChainSystemdBoot, ChainUKI}
	}
	// Debian's kernels for arm64 have no kexec_file_load, which is the only hand-over
	// that Secure Boot leaves.
	return []Chain{ChainSystemdBoot, ChainUKI}
}

// ParseChain reads the name of a chain for an architecture; "" is its default.
func ParseChain(text, arch string) (Chain, error) {
	chains := Chains(arch)
	switch {
	case text == "":
		return chains[0], nil
	case slices.Contains(chains, Chain(text)):
		return Chain(text), nil
	}
	return "", fmt.Errorf("boot chain %q is not one of %s for %s", text, chains, arch)
}

// or is the chain, or systemd-boot where none is named.
func (c Chain) or() Chain {
	if c == "" {
		return ChainSystemdBoot
	}
	return c
}

// For returns these inputs with the EFI programs of a chain in place of those that
// they have: of the sources, Chain and what it needs counts.
func (in *Inputs) For(ctx context.Context, src Sources) (*Inputs, error) {
	p, ok := platforms[in.Arch]
	if !ok || src.Arch != in.Arch {
		return nil, fmt.Errorf("system: inputs for architecture %q cannot be those for %q", in.Arch, src.Arch)
	}
	out := *in
	out.Chain, out.Materials = src.Chain.or(), slices.Clone(in.common)
	out.Loader, out.Shim, out.MokManager, out.Grub, out.Stub = "", "", "", "", ""
	g := &gatherer{Sources: src, platform: p, in: &out, cache: src.packages()}
	parts, err := g.parts()
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if err := g.part(ctx, part); err != nil {
			return nil, err
		}
	}
	// A package may have given several things.
	slices.SortFunc(out.Materials, func(a, b Material) int { return strings.Compare(a.Name, b.Name) })
	out.Materials = slices.Compact(out.Materials)
	return &out, nil
}

// bootPart is an EFI program that is not ours.
type bootPart struct {
	to       *string // where its path goes
	given    string  // a file to take instead of the package's; may be ""
	pkg, has string  // the package and the file in it
}

// parts lists what a chain takes.
func (g *gatherer) parts() ([]bootPart, error) {
	const boot, signed = "usr/lib/systemd/boot/efi/", "usr/lib/shim/"
	shim := []bootPart{
		{&g.in.Shim, g.Shim, "shim-signed", signed + "shim" + g.platform.efi + ".efi.signed"},
		{&g.in.MokManager, g.MokManager, "shim-helpers-" + g.platform.deb + "-signed", signed + "mm" + g.platform.efi + ".efi.signed"},
	}
	switch g.in.Chain {
	case ChainSystemdBoot:
		return []bootPart{{&g.in.Loader, g.Loader, "systemd-boot-efi", boot + g.platform.loaderFile}}, nil
	case ChainStock:
		if g.Arch != image.ArchX8664 {
			break
		}
		return append(shim, bootPart{&g.in.Grub, g.Grub, "grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"}), nil
	case ChainUKI:
		return append(shim, bootPart{&g.in.Stub, g.Stub, "systemd-boot-efi", boot + "linux" + g.platform.efi + ".efi.stub"}), nil
	}
	return nil, fmt.Errorf("system: there is no boot chain %q for %s", g.in.Chain, g.Arch)
}

func (g *gatherer) part(ctx context.Context, part bootPart) error {
	*part.to = part.given
	if part.given != "" {
		if err := g.record(part.given); err != nil {
			return err
		}
		return image.CheckLoader(part.given, g.Arch)
	}
	pkg, err := g.cache.Get(ctx, part.pkg, g.platform.deb)
	if err != nil {
		return err
	}
	g.recordPackages(pkg)
	if *part.to, err = unpackFile(ctx, filepath.Join(g.Dir, "loaders"), pkg, part.has); err != nil {
		return err
	}
	return image.CheckLoader(*part.to, g.Arch)
}

// Boot is what these inputs start from the EFI system partition, with these
// initramfs files.
func (in *Inputs) Boot(initramfs ...string) Boot {
	b := Boot{Arch: in.Arch, Chain: in.Chain, Loader: in.Loader, Shim: in.Shim, MokManager: in.MokManager, Stub: in.Stub, Kernel: in.Kernel.Image, Initramfs: initramfs}
	if in.Chain == ChainStock {
		b.Loader = in.Grub
	}
	return b
}
