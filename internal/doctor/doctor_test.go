package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/vm"
)

// fakeHost is a machine in a temporary folder.
type fakeHost struct {
	Host
	t   *testing.T
	bin string
}

func newHost(t *testing.T) *fakeHost {
	root := t.TempDir()
	f := &fakeHost{t: t, bin: filepath.Join(root, "bin")}
	f.Host = Host{Path: f.bin, Root: root}
	return f
}

// program adds a program; without a script it does nothing.
func (f *fakeHost) program(name, script string) {
	f.t.Helper()
	f.write(filepath.Join("bin", name), "#!/bin/sh\n"+script, 0o755)
}

func (f *fakeHost) write(path, content string, mode os.FileMode) {
	f.t.Helper()
	full := filepath.Join(f.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), mode); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeHost) read(path string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.Root, path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	return string(data)
}

// complete adds everything that any task needs.
func (f *fakeHost) complete() {
	f.t.Helper()
	f.program("go", "echo go version go1.26.1 linux/amd64")
	for _, task := range Tasks() {
		for _, missing := range Missing(f.check(task)) {
			if program, ok := strings.CutSuffix(missing.Detail, " not found"); ok {
				f.program(program, "")
			}
		}
	}
	for _, path := range []string{"etc/ssl/certs/ca-certificates.crt", "usr/share/dict/british-english", "usr/lib/wasm32-wasi/libc.a", "usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a", "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd", "usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "usr/share/OVMF/OVMF_VARS_4M.ms.fd", "usr/share/AAVMF/AAVMF_CODE.ms.fd", "usr/share/AAVMF/AAVMF_VARS.ms.fd", "usr/share/AAVMF/AAVMF_CODE.fd", "usr/share/AAVMF/AAVMF_VARS.fd"} {
		f.write(path, "x", 0o644)
	}
}

func (f *fakeHost) check(task Task) []Finding {
	f.t.Helper()
	return f.checkFor(task, vm.X8664)
}

func (f *fakeHost) checkFor(task Task, arch string) []Finding {
	f.t.Helper()
	found, err := f.Check(f.t.Context(), task, arch)
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

func TestCompleteHost(t *testing.T) {
	h := newHost(t)
	h.complete()
	for _, task := range Tasks() {
		found := h.check(task)
		if len(found) == 0 && task != Write { // a file is written to a file
			t.Errorf("%s needs nothing", task)
		}
		for _, f := range Missing(found) {
			t.Errorf("%s: %v", task, f)
		}
		if c := h.Command(found); c != "" {
			t.Errorf("%s: command %q", task, c)
		}
	}
}

// On a machine with nothing, every need is found missing, and each tells
// where it comes from.
func TestEmptyHost(t *testing.T) {
	h := newHost(t)
	seen := map[string]bool{}
	for _, task := range Tasks() {
		for _, f := range h.check(task) {
			seen[f.Name] = true
			if f.OK || f.Detail == "" || f.Why == "" {
				t.Errorf("%s: %+v", task, f)
			}
			if f.Package == "" && f.Hint == "" && f.Name != "apt-get" {
				t.Errorf("%s: no package and no hint for %s", task, f.Name)
			}
		}
	}
	want := len(needs())
	for _, arch := range archs {
		want += len(machineNeeds(arch))
	}
	if len(seen) != want {
		t.Errorf("%d of %d needs belong to a task", len(seen), want)
	}
}

func TestCheckOneMissing(t *testing.T) {
	tests := []struct {
		task   Task
		remove string
		name   string
		pkg    string
	}{
		{Demo, "bin/qemu-system-x86_64", "qemu-system-x86_64", "qemu-system-x86"},
		{Demo, "usr/share/OVMF/OVMF_VARS_4M.fd", "UEFI firmware", "ovmf"},
		{Image, "bin/mksquashfs", "mksquashfs", "squashfs-tools"},
		{Image, "bin/mke2fs", "mke2fs", "e2fsprogs"},
		{Image, "bin/dpkg-deb", "dpkg-deb", "dpkg"},
		{Image, "etc/ssl/certs/ca-certificates.crt", "CA certificates", "ca-certificates"},
		{Image, "bin/apt-get", "apt-get", ""},
		{Test, "bin/sgdisk", "sgdisk", "gdisk"},
		{Test, "bin/fsck.fat", "fsck.fat", "dosfstools"},
		{Test, "bin/mdir", "mdir", "mtools"},
		{Test, "bin/dnsmasq", "dnsmasq", "dnsmasq-base"},
		{Test, "bin/cpio", "cpio", "cpio"},
		{Test, "bin/xz", "xz", "xz-utils"},
		{Test, "bin/ip", "ip", "iproute2"},
		{Test, "bin/dbus-daemon", "dbus-daemon", "dbus-daemon"},
		{Test, "bin/qemu-aarch64", "qemu-aarch64", "qemu-user"},
		{Test, "usr/share/dict/british-english", "dictionary of British English", "wbritish"},
		{Test, "usr/lib/wasm32-wasi/libc.a", "C library for WASI", "wasi-libc"},
		{Test, "usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a", "clang's runtime for WebAssembly", "libclang-rt-dev-wasm32"},
		{Lint, "bin/git", "git", "git"},
		{VM, "bin/qemu-system-x86_64", "qemu-system-x86_64", "qemu-system-x86"},
		{VM, "usr/share/OVMF/OVMF_VARS_4M.ms.fd", "Secure Boot firmware", "ovmf"},
		{Lint, "bin/go", "go", ""},
		{Test, "bin/qemu-system-aarch64", "qemu-system-aarch64", "qemu-system-arm"},
		{Test, "usr/share/AAVMF/AAVMF_CODE.fd", "UEFI firmware for arm64", "qemu-efi-aarch64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.complete()
			if err := os.Remove(filepath.Join(h.Root, tt.remove)); err != nil {
				t.Fatal(err)
			}
			missing := Missing(h.check(tt.task))
			if len(missing) != 1 || missing[0].Name != tt.name || missing[0].Package != tt.pkg {
				t.Errorf("got %v", missing)
			}
		})
	}
}

// A demo needs the machines of its own architecture and no others.
func TestDemoOfAnArchitecture(t *testing.T) {
	h := newHost(t)
	h.complete()
	for _, path := range []string{"bin/qemu-system-aarch64", "usr/share/AAVMF/AAVMF_VARS.fd"} {
		if err := os.Remove(filepath.Join(h.Root, path)); err != nil {
			t.Fatal(err)
		}
	}
	if missing := Missing(h.checkFor(Demo, vm.X8664)); len(missing) != 0 {
		t.Errorf("x86_64: %v", missing)
	}
	if pkgs := Packages(h.checkFor(Demo, vm.ARM64)); !slices.Equal(pkgs, []string{"qemu-efi-aarch64", "qemu-system-arm"}) {
		t.Errorf("arm64: %v", pkgs)
	}
	if missing := Missing(h.checkFor(Image, vm.ARM64)); len(missing) != 0 {
		t.Errorf("an image for arm64 needs %v", missing)
	}
}

func TestCheckRefused(t *testing.T) {
	h := newHost(t)
	if _, err := h.Check(t.Context(), Demo, "amd64"); err == nil || !strings.Contains(err.Error(), "x86_64 arm64") {
		t.Errorf("unknown architecture: %v", err)
	}
	if _, err := h.Check(t.Context(), "coffee", vm.X8664); err == nil || !strings.Contains(err.Error(), "coffee") {
		t.Errorf("unknown task: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Check(ctx, Demo, vm.X8664); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What a task can do without is never missing, and says what that means.
func TestNotes(t *testing.T) {
	h := newHost(t)
	h.UID = 1000
	seen := map[string]bool{}
	for _, task := range Tasks() {
		found, err := h.Notes(t.Context(), task, vm.X8664)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			seen[f.Name] = true
			if f.OK || !f.Optional || f.Detail == "" || f.Hint == "" || !strings.HasPrefix(f.String(), "without ") {
				t.Errorf("%s: %+v", task, f)
			}
		}
		if missing := Missing(found); len(missing) != 0 {
			t.Errorf("%s: %v", task, missing)
		}
	}
	if want := len(notes(vm.X8664)); len(seen) != want {
		t.Errorf("%d of %d notes belong to a task", len(seen), want)
	}

	h.UID = 0
	h.write("dev/loop-control", "", 0o600)
	h.program("qemu-system-x86_64", "printf 'Available display backend types:\\ngtk\\n'")
	for task, want := range map[Task]string{VM: "window", Write: "rights on disks", Test: "loop devices"} {
		found, err := h.Notes(t.Context(), task, vm.X8664)
		ok := slices.ContainsFunc(found, func(f Finding) bool { return f.Name == want && f.OK && f.Hint == "" })
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", task, found, err)
		}
	}
	if _, err := h.Notes(t.Context(), "coffee", vm.X8664); err == nil {
		t.Error("an unknown task has notes")
	}
	if found, _ := h.Notes(t.Context(), VM, vm.ARM64); runtime.GOARCH == "amd64" && !strings.Contains(found[0].Detail, "this computer is not") {
		t.Errorf("arm64: %v", found)
	}
}

func TestThingsThatDoNotCount(t *testing.T) {
	h := newHost(t)
	h.complete()
	h.write("etc/ssl/certs/ca-certificates.crt", "", 0o644)
	if err := os.Chmod(filepath.Join(h.bin, "git"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.bin, "mke2fs")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(h.bin, "mke2fs"), 0o755); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range Missing(h.check(Image)) {
		got = append(got, f.Name)
	}
	if want := []string{"git", "mke2fs", "CA certificates"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if path, err := (Host{Path: ".:bin:" + h.bin}).LookPath("ip"); err != nil || path != filepath.Join(h.bin, "ip") {
		t.Errorf("relative folders in the path: %q, %v", path, err)
	}
}

func TestGoVersion(t *testing.T) {
	tests := []struct{ script, want, problem string }{
		{"echo go version go1.26.1 linux/amd64", "go1.26.1", ""},
		{"echo go version go1.21 linux/arm64", "go1.21", ""},
		{"echo go version devel go1.27-abc Mon linux/amd64", "go1.27-abc", ""},
		{"echo go version go1.27rc1 linux/amd64", "go1.27rc1", ""},
		{"echo go version go1.19.8 linux/amd64", "", "too old"},
		{"echo go version go1.x", "", "cannot tell"},
		{"echo the game of go", "", "cannot tell"},
		{"exit 3", "", "exit status 3"},
		{"exec yes", "", "signal"},
	}
	for _, tt := range tests {
		h := newHost(t)
		h.program("go", tt.script)
		h.Path += ":/usr/bin:/bin" // for yes
		got, err := goVersion(t.Context(), h.Host)
		switch {
		case tt.want != "" && (err != nil || !strings.HasSuffix(got, ", "+tt.want)):
			t.Errorf("%s: got %q, %v", tt.script, got, err)
		case tt.want == "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: got %q, %v", tt.script, got, err)
		}
	}
}

func TestThisFindsSystemPrograms(t *testing.T) {
	if h := This("/home/x/bin"); h.Path != "/home/x/bin:/usr/local/sbin:/usr/sbin:/sbin" || h.UID != os.Geteuid() {
		t.Errorf("got %+v", h)
	}
}

func TestListsFresh(t *testing.T) {
	const lists = "var/lib/apt/lists"
	now := time.Now()
	tests := []struct {
		name           string
		file           string // in the folder of lists
		lists, partial time.Duration
		want           bool
	}{
		{"never", "lock", 0, 0, false},
		{"today", "deb_Packages.lz4", 0, listsAge * 2, true},
		{"today, nothing new", "deb_Packages", listsAge * 2, time.Hour, true},
		{"long ago", "deb_Packages", listsAge, listsAge + time.Hour, false},
	}
	for _, tt := range tests {
		h := newHost(t)
		h.write(filepath.Join(lists, tt.file), "", 0o644)
		h.write(filepath.Join(lists, "partial", "lock"), "", 0o644)
		for path, age := range map[string]time.Duration{lists: tt.lists, lists + "/partial": tt.partial} {
			when := now.Add(-age)
			if err := os.Chtimes(filepath.Join(h.Root, path), when, when); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.listsFresh(now); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
