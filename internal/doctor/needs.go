package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/vm"
)

// need is one line of the table.
type need struct {
	name  string
	tasks []Task
	why   string
	pkg   string // Debian and Ubuntu package; empty: none that would do
	hint  string // for what has no package
	check checker
}

// checker returns where the thing is or which version, or what is wrong.
type checker func(ctx context.Context, h Host) (string, error)

// needs is the table of everything the project needs beside virtual machines.
func needs() []need {
	var (
		source = []Task{Demo, Image, Release, Test, Lint}
		build  = []Task{Demo, Image, Release, Test} // the demo and the tests build a medium
		verify = []Task{Test}
	)
	return []need{
		{"go", source, "compiles everything", "", "Install Go from https://go.dev/dl/ (1.21 or later fetches the version that the project asks for).", goVersion},
		{"git", source, "stamps the build with its commit", "git", "", program("git")},
		{"apt-get", build, "fetches the Debian packages with kernel and boot loader", "", "Build on Debian or Ubuntu, or in a container of one of them.", program("apt-get")},
		{"dpkg-deb", build, "unpacks Debian packages", "dpkg", "", program("dpkg-deb")},
		{"mksquashfs", build, "packs root file systems", "squashfs-tools", "", program("mksquashfs")},
		{"mke2fs", build, "makes the cache partition", "e2fsprogs", "", program("mke2fs")},
		{"CA certificates", build, "go into the images, for https", "ca-certificates", "", file("etc/ssl/certs/ca-certificates.crt")},
		{"sgdisk", verify, "checks the partition table", "gdisk", "", program("sgdisk")},
		{"fsck.fat", verify, "checks the EFI partition", "dosfstools", "", program("fsck.fat")},
		{"qemu-img", verify, "checks disks in the formats of hypervisors", "qemu-utils", "", program("qemu-img")},
		{"xorriso", verify, "reads discs", "xorriso", "", program("xorriso")},
		{"mdir", verify, "reads the EFI partition", "mtools", "", program("mdir")},
		{"dmsetup", verify, "uses a disk that must then not be overwritten", "dmsetup", "", program("dmsetup")},
		{"objdump", verify, "reads unified kernel images", "binutils", "", program("objdump")},
		{"sbverify", verify, "checks Secure Boot signatures", "sbsigntool", "", program("sbverify")},
		{"sig-list-to-certs", verify, "reads lists of Secure Boot keys", "efitools", "", program("sig-list-to-certs")},
		{"cpio", verify, "reads initramfs archives", "cpio", "", program("cpio")},
		{"zstd", verify, "reads what the seed is compressed with", "zstd", "", program("zstd")},
		{"e2fsck", verify, "checks the cache partition", "e2fsprogs", "", program("e2fsck")},
		{"unsquashfs", verify, "reads root file systems", "squashfs-tools", "", program("unsquashfs")},
		{"mkfs.erofs", verify, "makes root file systems in the other format", "erofs-utils", "", program("mkfs.erofs")},
		{"fsck.erofs", verify, "reads root file systems in the other format", "erofs-utils", "", program("fsck.erofs")},
		{"veritysetup", verify, "makes hash trees to compare ours with", "cryptsetup-bin", "", program("veritysetup")},
		{"dnsmasq", verify, "is the DHCP and DNS server of test networks", "dnsmasq-base", "", program("dnsmasq")},
		{"tinyproxy", verify, "is the proxy of test networks", "tinyproxy-bin", "", program("tinyproxy")},
		{"ip", verify, "makes test networks", "iproute2", "", program("ip")},
		{"curl", verify, "downloads from our provider", "curl", "", program("curl")},
		{"aria2c", verify, "downloads from our provider by several connections", "aria2", "", program("aria2c")},
		{"python3", verify, "is a web server that others wrote", "python3", "", program("python3")},
		// Avahi itself is not here: installed, it starts and tells the network about
		// this machine. The tests unpack its packages instead.
		{"dbus-daemon", verify, "is the message bus of the Avahi that tests unpack", "dbus-daemon", "", program("dbus-daemon")},
		{"strace", verify, "makes system calls fail, and sees their order", "strace", "", program("strace")},
		{"lintian", verify, "judges Debian packages", "lintian", "", program("lintian")},
		{"systemd-nspawn", verify, "runs systems whose init is systemd", "systemd-container", "", program("systemd-nspawn")},
		{"debootstrap", verify, "makes a Debian that is published as others would", "debootstrap", "", program("debootstrap")},
		{"openssl", verify, "verifies the signatures of downloads", "openssl", "", program("openssl")},
		{"shasum", verify, "verifies the digests of downloads as on macOS", "perl", "", program("shasum")},
		{"minisign", verify, "verifies the signatures of downloads", "minisign", "", program("minisign")},
		{"clang", verify, "compiles the example jobs in C", "clang", "", program("clang")},
		{"wasm-ld", verify, "links the example jobs in C", "lld", "", program("wasm-ld")},
		{"C library for WASI", verify, "is in the example jobs in C", "wasi-libc", "", file("usr/lib/wasm32-wasi/libc.a")},
		{"clang's runtime for WebAssembly", verify, "is in the example jobs in C", "libclang-rt-dev-wasm32", "", match("usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a")},
		{"qemu-aarch64", verify, "runs programs for arm64, to compare their fuel", "qemu-user", "", program("qemu-aarch64")},
		{"Chromium", verify, "opens the node's status page", "chromium-headless-shell", "", program("chromium-headless-shell", "chromium", "google-chrome")},
		{"dictionary of British English", verify, "knows how the words on pages are spelt", "wbritish", "", file("usr/share/dict/british-english")},
		{"groff", verify, "reads manual pages", "groff-base", "", program("groff")},
		{"bash", verify, "reads completions", "bash", "", program("bash")},
		{"xz", build, "unpacks kernel modules of distributions that pack them so", "xz-utils", "", program("xz")},
	}
}

// machineNeeds is what the demo and the tests need to run virtual machines of an
// architecture, whatever that of this machine is.
func machineNeeds(arch string) []need {
	run, checking := []Task{Demo, VM, Test}, []Task{VM, Test}
	switch arch {
	case vm.X8664:
		return []need{
			{"qemu-system-x86_64", run, "runs virtual machines", "qemu-system-x86", "", program("qemu-system-x86_64")},
			{"UEFI firmware", run, "starts virtual machines as real ones start", "ovmf", "", firmware(vm.X8664)},
			{"Secure Boot firmware", checking, "starts virtual machines that check signatures", "ovmf", "", secureFirmware(vm.X8664)},
		}
	case vm.ARM64:
		return []need{
			{"qemu-system-aarch64", run, "runs arm64 virtual machines", "qemu-system-arm", "", program("qemu-system-aarch64")},
			{"UEFI firmware for arm64", run, "starts arm64 virtual machines as real ones start", "qemu-efi-aarch64", "", firmware(vm.ARM64)},
			{"Secure Boot firmware for arm64", checking, "starts arm64 virtual machines that check signatures", "qemu-efi-aarch64", "", secureFirmware(vm.ARM64)},
		}
	}
	return nil
}

// program is there under one of its names.
func program(names ...string) checker {
	return func(_ context.Context, h Host) (path string, err error) {
		for _, name := range slices.Backward(names) {
			if found, missing := h.LookPath(name); missing == nil {
				path, err = found, nil
			} else if path == "" {
				err = missing // of the first name in the end
			}
		}
		return path, err
	}
}

// file checks for a file that is not empty, at a path relative to the root.
func file(path string) checker {
	return func(_ context.Context, h Host) (string, error) {
		full := filepath.Join(h.root(), path)
		info, err := os.Stat(full)
		switch {
		case err != nil:
			return "", err
		case !info.Mode().IsRegular() || info.Size() == 0:
			return "", fmt.Errorf("%s is not a file with content", full)
		}
		return full, nil
	}
}

// match checks for a file that is not empty, at a path that has wildcards where
// versions stand.
func match(pattern string) checker {
	return func(ctx context.Context, h Host) (string, error) {
		found, err := fs.Glob(os.DirFS(h.root()), pattern)
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			return "", fmt.Errorf("no %s", filepath.Join(h.root(), pattern))
		}
		return file(found[len(found)-1])(ctx, h)
	}
}

func firmware(arch string) checker {
	return func(_ context.Context, h Host) (string, error) {
		fw, err := vm.FindFirmwareIn(os.DirFS(h.root()), arch)
		return fw.Code, err
	}
}

func secureFirmware(arch string) checker {
	return func(_ context.Context, h Host) (string, error) {
		fw, err := vm.FindSecureFirmware(os.DirFS(h.root()), arch)
		return fw.Code, err
	}
}

// oldestGo is the first minor version of Go 1 which fetches by itself the
// toolchain that a go.mod asks for (https://go.dev/doc/toolchain).
const oldestGo = 21

// goVersion runs `go version`, for at most ten seconds.
func goVersion(ctx context.Context, h Host) (string, error) {
	path, err := h.LookPath("go")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	// Ask the installed Go, outside any module: no toolchain is fetched.
	cmd.Dir, cmd.Env = "/", h.environ("GOTOOLCHAIN=local")
	cmd.WaitDelay = time.Second
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("%s version: %w", path, err)
	}
	version, err := parseGoVersion(out)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path + ", " + version, nil
}

// output runs a command and returns the first 4 KiB of its output.
func output(cmd *exec.Cmd) (string, error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	out, err := io.ReadAll(io.LimitReader(stdout, 4096))
	_ = stdout.Close() // who writes more than that must not wait for a reader
	return string(out), errors.Join(err, cmd.Wait())
}

// parseGoVersion reads "go version go1.26.1 linux/amd64" and returns
// "go1.26.1". Development versions ("devel go1.27-…") are accepted.
func parseGoVersion(out string) (string, error) {
	for _, word := range strings.Fields(out) {
		rest, ok := strings.CutPrefix(word, "go1.")
		if !ok {
			continue
		}
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		minor, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		if minor < oldestGo {
			return "", fmt.Errorf("%s is too old, 1.%d is the oldest that will do", word, oldestGo)
		}
		return word, nil
	}
	return "", fmt.Errorf("cannot tell the version from %.60q", out)
}
