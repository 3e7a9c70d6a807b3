package vm_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/vm"
)

// TestKexecLoad starts Debian's kernel from Debian's kernel with package
// internal/kexec, on every kind of machine that tells its kernel otherwise what
// it has. The second kernel must find the same memory, processors and firmware.
func TestKexecLoad(t *testing.T) {
	for _, machine := range []hopMachine{
		{"arm64 UEFI", vm.ARM64, true, "acpi"},
		{"arm64 device tree", vm.ARM64, false, "tree"},
		{"x86_64 UEFI", vm.X8664, true, "acpi"},
		{"x86_64 BIOS", vm.X8664, false, "acpi"},
	} {
		t.Run(machine.name, machine.test)
	}
}

// hopMachine is a machine in which test/vm/hop runs.
type hopMachine struct {
	name, arch string
	uefi       bool
	tables     string // what describes the machine, in the words of hop
}

// hopLine is the second kernel's command line, behind its console.
const hopLine = `panic=30 phase.test="two words"`

func (h hopMachine) test(t *testing.T) {
	kernel, initrd := h.build(t) // one after another: they fetch the same packages
	t.Parallel()
	cfg := vm.Config{Arch: h.arch, Memory: 768, CPUs: 2, Kernel: kernel, Initrd: initrd, Append: h.console() + " panic=30", Dir: t.TempDir()}
	if h.uefi {
		cfg.Extra = h.firmware(t, cfg.Dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	m, err := vm.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Quit(context.WithoutCancel(ctx))
	_, err = m.WaitConsole(ctx, func(line string) bool {
		return strings.HasPrefix(line, "HOP ARRIVED") || strings.HasPrefix(line, "HOP FAILED")
	})
	var states, cmdlines []string
	console := m.ConsoleTail(2000)
	for _, line := range console {
		if state, ok := strings.CutPrefix(line, "HOP STATE "); ok {
			states = append(states, state)
		}
		if cmdline, ok := strings.CutPrefix(line, "HOP CMDLINE "); ok {
			cmdlines = append(cmdlines, cmdline)
		}
	}
	if err != nil || len(states) != 2 || len(cmdlines) != 2 || cmdlines[1] != h.console()+" "+hopLine {
		t.Fatalf("two kernels should have run, the second with the line %q: %q, %q, %v\n%s", hopLine, states, cmdlines, err, strings.Join(console[max(0, len(console)-80):], "\n"))
	}
	h.compare(t, states[0], states[1])
}

// compare looks at what both kernels found.
func (h hopMachine) compare(t *testing.T, first, second string) {
	t.Helper()
	t.Logf("first kernel:  %s", first)
	t.Logf("second kernel: %s", second)
	var a, b struct {
		memory, cpus int
		ram          uint64
		tables       string
		variables    int
	}
	const form = "memory=%d cpus=%d ram=%d %s variables=%d"
	_, err1 := fmt.Sscanf(first, form, &a.memory, &a.cpus, &a.ram, &a.tables, &a.variables)
	_, err2 := fmt.Sscanf(second, form, &b.memory, &b.cpus, &b.ram, &b.tables, &b.variables)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if b.ram != a.ram || b.cpus != a.cpus || b.cpus != 2 || b.tables != a.tables || b.tables != h.tables {
		t.Errorf("the second kernel found another machine, or not one with %s", h.tables)
	}
	if b.variables != a.variables || h.uefi != (b.variables > 0) {
		t.Errorf("of the firmware's variables the second kernel reads %d, the first %d", b.variables, a.variables)
	}
	// What the kernels themselves need of it differs by a few pages.
	if lost := a.memory - b.memory; lost > a.memory/100 {
		t.Errorf("%d KiB of memory are lost", lost)
	}
}

func (h hopMachine) console() string {
	if h.arch == vm.ARM64 {
		return "console=ttyAMA0"
	}
	return "console=ttyS0"
}

// goarch is Go's and Debian's name of the architecture.
func (h hopMachine) goarch() string {
	if h.arch == vm.ARM64 {
		return "arm64"
	}
	return "amd64"
}

// firmware gives a machine that starts a kernel directly the UEFI firmware to do
// it: QEMU hands both over.
func (h hopMachine) firmware(t *testing.T, dir string) []string {
	f, err := vm.FindFirmware(h.arch)
	if err != nil {
		skip(t, err.Error())
	}
	template, err := os.ReadFile(f.Vars)
	if err != nil {
		t.Fatal(err)
	}
	vars := filepath.Join(dir, "vars.fd")
	if err := os.WriteFile(vars, template, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + f.Code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + vars,
	}
	if h.arch == vm.ARM64 {
		// As servers are: the kernel runs as a hypervisor, and interrupt controllers
		// have tables in memory that outlive it.
		args = append(args, "-machine", "gic-version=3,virtualization=on")
	}
	return args
}

// build makes the first system's kernel and initramfs: the latter has the second
// system's inside.
func (h hopMachine) build(t *testing.T) (kernel, initrd string) {
	t.Helper()
	if _, err := vm.FindQEMU(h.arch); err != nil {
		skip(t, err.Error())
	}
	dir := t.TempDir()
	hop := filepath.Join(dir, "hop")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hop, "./hop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+h.goarch())
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kernel = filepath.Join(dir, "vmlinuz")
	efivarfs := filepath.Join(dir, "efivarfs.ko")
	h.unpack(t, map[[2]string]string{{"boot/vmlinuz-", ""}: kernel, {"lib/modules/", "/efivarfs.ko"}: efivarfs})
	var second, first image.Tree
	for _, tree := range []*image.Tree{&second, &first} {
		tree.File("init", 0o755, hop)
		tree.File("efivarfs.ko", 0o644, efivarfs)
	}
	first.File("next/kernel", 0o644, kernel)
	first.File("next/initrd", 0o644, archive(t, filepath.Join(dir, "second.img"), &second))
	first.Bytes("next/cmdline", 0o644, []byte(h.console()+" "+hopLine))
	return kernel, archive(t, filepath.Join(dir, "first.img"), &first)
}

func archive(t *testing.T, name string, tree *image.Tree) string {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(image.WriteCPIO(f, tree, labTime), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// unpack takes files of Debian's kernel for virtual machines, by how their names
// begin and end, from the packages that the demo uses too.
func (h hopMachine) unpack(t *testing.T, wanted map[[2]string]string) {
	t.Helper()
	inputs := filepath.Join(repository, "build", "lab", "inputs")
	cache := debpkg.Cache{Dir: filepath.Join(inputs, "packages"), Lists: filepath.Join(inputs, "lists")}
	meta, err := debpkg.KernelPackage(h.goarch())
	if err != nil {
		skip(t, err.Error())
	}
	packages, err := cache.GetKernel(t.Context(), meta, h.goarch())
	if err != nil {
		skip(t, err.Error())
	}
	for _, p := range packages {
		err := p.Files(t.Context(), func(member string, _ *tar.Header, r io.Reader) error {
			for name, to := range wanted {
				if strings.HasPrefix(member, name[0]) && strings.HasSuffix(member, name[1]) {
					delete(wanted, name)
					return copyTo(to, r)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(wanted) > 0 {
		t.Fatalf("%v lack %v", packages, wanted)
	}
}

func copyTo(name string, r io.Reader) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}
