package doctor

import (
	"slices"
	"strings"
)

// Remedy is how a person brings what is missing.
type Remedy struct {
	// Command installs it, with the package manager that is here; empty: there is
	// nothing to install, or no manager that we know.
	Command string `json:"command,omitempty"`
	// Untested says that nobody has tried the command: only Debian's is.
	Untested bool `json:"untested,omitempty"`
	// Rest are the names of what the command does not bring.
	Rest []string `json:"rest,omitempty"`
}

// manager is a package manager other than Debian's.
type manager struct {
	program string
	install []string          // the command, without packages
	root    bool              // it is for root
	names   map[string]string // of packages, by Debian's; absent: not known
}

// managers are those of Fedora, Arch Linux and Homebrew, with the packages that
// demo, image, vm, write and release need. The names are from the distributions'
// package lists; that they bring everything has not been tried.
func managers() []manager {
	return []manager{
		{"dnf", []string{"dnf", "install", "-y"}, true, map[string]string{
			"git": "git", "dpkg": "dpkg", "squashfs-tools": "squashfs-tools", "e2fsprogs": "e2fsprogs", "ca-certificates": "ca-certificates",
			"qemu-system-x86": "qemu-system-x86", "qemu-system-arm": "qemu-system-aarch64", "ovmf": "edk2-ovmf", "qemu-efi-aarch64": "edk2-aarch64",
			"xz-utils": "xz", "qemu-utils": "qemu-img", "xorriso": "xorriso", "gdisk": "gdisk", "dosfstools": "dosfstools", "mtools": "mtools",
			"cpio": "cpio", "openssl": "openssl", "minisign": "minisign",
		}},
		{"pacman", []string{"pacman", "-S", "--needed"}, true, map[string]string{
			"git": "git", "dpkg": "dpkg", "squashfs-tools": "squashfs-tools", "e2fsprogs": "e2fsprogs", "ca-certificates": "ca-certificates",
			"qemu-system-x86": "qemu-system-x86", "qemu-system-arm": "qemu-system-aarch64", "ovmf": "edk2-ovmf", "qemu-efi-aarch64": "edk2-aarch64",
			"xz-utils": "xz", "qemu-utils": "qemu-img", "xorriso": "libisoburn", "gdisk": "gptfdisk", "dosfstools": "dosfstools", "mtools": "mtools",
			"cpio": "cpio", "openssl": "openssl", "minisign": "minisign",
		}},
		{"brew", []string{"brew", "install"}, false, map[string]string{
			"git": "git", "dpkg": "dpkg", "squashfs-tools": "squashfs", "e2fsprogs": "e2fsprogs", "ca-certificates": "ca-certificates",
			"qemu-system-x86": "qemu", "qemu-system-arm": "qemu", "ovmf": "qemu", "qemu-efi-aarch64": "qemu", "qemu-utils": "qemu",
			"xz-utils": "xz", "xorriso": "xorriso", "gdisk": "gptfdisk", "dosfstools": "dosfstools", "mtools": "mtools",
			"cpio": "cpio", "openssl": "openssl", "minisign": "minisign",
		}},
	}
}

// Remedy returns how to bring what is missing on this host.
func (h Host) Remedy(found []Finding) Remedy {
	if command := h.Command(found); command != "" {
		return Remedy{Command: command, Rest: withoutPackage(found, func(pkg string) bool { return pkg != "" })}
	}
	if _, err := h.LookPath("apt-get"); err == nil {
		return Remedy{Rest: withoutPackage(found, func(pkg string) bool { return pkg != "" })}
	}
	for _, m := range managers() {
		if _, err := h.LookPath(m.program); err != nil {
			continue
		}
		var pkgs []string
		for _, f := range Missing(found) {
			if name := m.names[f.Package]; name != "" {
				pkgs = append(pkgs, name)
			}
		}
		slices.Sort(pkgs)
		r := Remedy{Rest: withoutPackage(found, func(pkg string) bool { return m.names[pkg] != "" })}
		if pkgs = slices.Compact(pkgs); len(pkgs) > 0 {
			r.Command, r.Untested = h.asRoot(m, strings.Join(append(slices.Clone(m.install), pkgs...), " ")), true
		}
		return r
	}
	return Remedy{Rest: withoutPackage(found, func(string) bool { return false })}
}

func (h Host) asRoot(m manager, command string) string {
	if !m.root || h.UID == 0 {
		return command
	}
	if _, err := h.LookPath("sudo"); err != nil {
		return "su -c '" + command + "'"
	}
	return "sudo " + command
}

// withoutPackage names what is missing and has no package that brings it.
func withoutPackage(found []Finding, brings func(pkg string) bool) (rest []string) {
	for _, f := range Missing(found) {
		if !brings(f.Package) {
			rest = append(rest, f.Name)
		}
	}
	return rest
}
