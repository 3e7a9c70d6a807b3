package system

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/manifest"
)

// A throwaway PID 1: says that it runs, what it sees, and powers off.
const throwawayInit = `package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	syscall.Mount("proc", "/proc", "proc", 0, "")
	line, _ := os.ReadFile("/proc/cmdline")
	fmt.Printf("PHASE-TEST-INIT cmdline=%s\n", line)
	for _, p := range []string{"/phase/root.json", "/phase/build.json", "/bin/phase-verify", "/phase/rootfs.img", "/etc/ssl/certs/ca-certificates.crt"} {
		if info, err := os.Stat(p); err == nil {
			fmt.Printf("PHASE-TEST-HAS %s %d\n", p, info.Size())
		}
	}
	mods, _ := os.ReadDir("/lib/modules")
	for _, m := range mods {
		fmt.Println("PHASE-TEST-MODULES", m.Name())
	}
	fmt.Println("PHASE-TEST-END")
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
`

func buildGo(t *testing.T, dir, name, source string) string {
	t.Helper()
	src := filepath.Join(dir, name+".go")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

func testRoot(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := manifest.RoleKeys{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Threshold: 1}
	spare := func() manifest.RoleKeys {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{pub}, Threshold: 1}
	}
	root, err := manifest.NewRoot(manifest.RootSpec{Version: 1, Expires: time.Now().AddDate(1, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: keys, manifest.RoleTargets: spare(), manifest.RoleTimestamp: spare(),
	}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

var buildTime = time.Date(2026, 3, 1, 12, 30, 44, 0, time.UTC)

func loaderFiles(arch string, initrds int, options string) map[string][]byte {
	kernel, files := ESPPaths(arch, initrds)
	text := "title Test\nlinux " + kernel + "\n"
	for _, f := range files {
		text += "initrd " + f + "\n"
	}
	return map[string][]byte{
		"loader.conf":           []byte("timeout 0\ndefault internet.conf\neditor no\n"),
		"entries/internet.conf": []byte(text + "options " + options + "\n"),
	}
}

// realInputs downloads packages; it runs where a cache folder is named.
func realInputs(t *testing.T) *Inputs {
	t.Helper()
	dir := os.Getenv("PHASE_TEST_PACKAGES")
	if dir == "" {
		t.Skip("set PHASE_TEST_PACKAGES to a cache folder to build from real packages")
	}
	start := time.Now()
	in, err := Prepare(t.Context(), Sources{Arch: image.ArchX8664, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("inputs in %v: kernel %s, %d bytes of CA certificates, %v", time.Since(start), in.Kernel.Release, len(in.CACerts), in.Materials)
	return in
}

func TestRealBoot(t *testing.T) {
	in := realInputs(t)
	dir := t.TempDir()
	init := buildGo(t, dir, "init", throwawayInit)
	if real := os.Getenv("PHASE_TEST_INIT"); real != "" {
		init = real
	}
	root := testRoot(t)
	reuse := filepath.Join(dir, "reuse")
	var first string
	for _, round := range []string{"cold", "warm"} {
		b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime, Reuse: reuse}
		out := filepath.Join(dir, round)
		seed, mods, err := b.Seed(t.Context(), SeedConfig{Out: filepath.Join(out, "seed.img"), Init: init, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s seed: %d bytes in %v; %d modules, %d bytes; absent %v", round, seed.Size, seed.Took, mods.Files, mods.Bytes, mods.Absent)
		usb, err := b.USBImage(t.Context(), USBConfig{
			Out: filepath.Join(out, "usb.img"), Root: root, Policy: []byte("mode = \"internet\"\n"), Bootstrap: []byte("# none\n"),
			Boots:  []Boot{{in.Arch, in.Loader, in.Kernel.Image, []string{seed.Path}}},
			Loader: loaderFiles(in.Arch, 1, "console=ttyS0 quiet loglevel=3 panic=-1 phase.mode=internet"),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s usb: %d bytes in %v", round, usb.Size, usb.Took)
		for _, f := range usb.Files {
			t.Logf("  %9d %s", f.Size, f.Path)
		}
		if first == "" {
			first = usb.Path
		} else if err := exec.Command("cmp", first, usb.Path).Run(); err != nil {
			t.Errorf("cold and warm image differ: %v", err)
		}
	}
	checkReal(t, first)
	console := boot(t, first)
	for _, want := range []string{"PHASE-TEST-END", "phase.mode=internet", "PHASE-TEST-HAS /phase/root.json", "PHASE-TEST-HAS /bin/phase-verify", "PHASE-TEST-MODULES " + in.Kernel.Release} {
		if !strings.Contains(console, want) {
			t.Errorf("console lacks %q:\n%s", want, console)
		}
	}
}

// checkReal judges the parts of a finished image by the tools that own them.
func checkReal(t *testing.T, img string) {
	t.Helper()
	if out := run(t, "sgdisk", "-v", img); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	parts := carve(t, img)
	if out := run(t, "fsck.fat", "-n", parts["phase-esp"]); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat: %s", out)
	}
	run(t, "e2fsck", "-fn", parts["phase-cache"])
}

// TestRealDirect builds the reference image and boots it: the kernel must find
// both archives.
func TestRealDirect(t *testing.T) {
	in := realInputs(t)
	dir := t.TempDir()
	init := buildGo(t, dir, "init", throwawayInit)
	b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
	node, err := b.Node(t.Context(), NodeConfig{Dir: dir + "/node", Init: init, Plasmd: init, Config: []byte("{}"), Jobs: map[string][]byte{"hello.json": []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel %d, initramfs %d in %v, rootfs %d in %v", node.Kernel.Size, node.Initramfs.Size, node.Initramfs.Took, node.Rootfs.Size, node.Rootfs.Took)
	img, err := b.DirectImage(t.Context(), DirectConfig{Out: dir + "/direct.img", Node: node, Handover: []byte("{}"), Loader: loaderFiles(in.Arch, 2, "console=ttyS0 quiet panic=-1")})
	if err != nil {
		t.Fatal(err)
	}
	console := boot(t, img.Path)
	for _, want := range []string{"PHASE-TEST-END", fmt.Sprintf("PHASE-TEST-HAS /phase/rootfs.img %d", node.Rootfs.Size), "PHASE-TEST-HAS /phase/build.json"} {
		if !strings.Contains(console, want) {
			t.Errorf("console lacks %q:\n%s", want, console)
		}
	}
}

// boot starts an image under UEFI firmware until the guest powers off.
func boot(t *testing.T, img string) string {
	t.Helper()
	code, vars := "/usr/share/OVMF/OVMF_CODE_4M.fd", filepath.Join(t.TempDir(), "vars.fd")
	if err := copyFile(vars, "/usr/share/OVMF/OVMF_VARS_4M.fd"); err != nil {
		t.Skipf("no UEFI firmware: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-smp", "2",
		"-display", "none", "-no-reboot", "-nic", "none", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,readonly=on,file="+code, "-drive", "if=pflash,format=raw,file="+vars,
		"-drive", "if=virtio,format=raw,snapshot=on,file="+img)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("qemu: %v\n%s", err, out.String())
	}
	t.Logf("booted and powered off in %v", time.Since(start))
	return out.String()
}
