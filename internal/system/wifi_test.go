package system

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/nettest"
)

// fakeELF is the least that names a loader and libraries. Marker makes it
// differ from others.
func fakeELF(machine elf.Machine, marker, interp string, needs ...string) []byte {
	strtab := []byte{0}
	var dynamic bytes.Buffer
	le := binary.LittleEndian
	for _, n := range needs {
		binary.Write(&dynamic, le, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(strtab))})
		strtab = append(append(strtab, n...), 0)
	}
	binary.Write(&dynamic, le, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	const header, prog, section = 64, 56, 64
	at := uint64(header + prog + 3*section)
	strAt, dynAt := at, at+uint64(len(strtab))
	interpAt := dynAt + uint64(dynamic.Len())
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Phoff: header, Shoff: header + prog,
		Ehsize: header, Phentsize: prog, Phnum: 1, Shentsize: section, Shnum: 3, Shstrndx: 1,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&b, le, h)
	p := elf.Prog64{Type: uint32(elf.PT_NULL)}
	if interp != "" {
		p = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpAt, Filesz: uint64(len(interp) + 1)}
	}
	binary.Write(&b, le, p)
	binary.Write(&b, le, elf.Section64{})
	binary.Write(&b, le, elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: uint64(len(strtab))})
	binary.Write(&b, le, elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(dynamic.Len()), Link: 1, Entsize: 16})
	b.Write(strtab)
	b.Write(dynamic.Bytes())
	b.WriteString(interp + "\x00" + marker)
	return b.Bytes()
}

// fakeDeb is a package to be built; a value that begins with "->" is a link.
type fakeDeb struct {
	name, depends string
	files         map[string]string
}

// fakeArchive puts packages into a cache folder with a lock file, so that an
// offline build finds them.
func fakeArchive(t *testing.T, dir string, debs ...fakeDeb) {
	t.Helper()
	cache := filepath.Join(dir, "packages")
	lock := map[string]map[string][]debpkg.Package{"requests": {}}
	for _, d := range debs {
		root := filepath.Join(t.TempDir(), d.name)
		control := fmt.Sprintf("Package: %s\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Nobody <n@example.org>\nDescription: test\n", d.name)
		if d.depends != "" {
			control += "Depends: " + d.depends + "\n"
		}
		write(t, root+"/DEBIAN/control", []byte(control))
		for name, data := range d.files {
			if target, link := strings.CutPrefix(data, "->"); link {
				os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
				if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			write(t, filepath.Join(root, name), []byte(data))
		}
		file := d.name + "_1.0_amd64.deb"
		write(t, cache+"/x", nil)
		run(t, "dpkg-deb", "-Znone", "--root-owner-group", "--build", root, filepath.Join(cache, file))
		data, err := os.ReadFile(filepath.Join(cache, file))
		if err != nil {
			t.Fatal(err)
		}
		lock["requests"][d.name+":amd64"] = []debpkg.Package{{Name: d.name, Version: "1.0", Arch: "amd64", SHA256: blob.Of(data), File: file}}
	}
	data, err := json.Marshal(lock)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cache+"/packages.lock.json", data)
}

const (
	fakeLoader = "/lib64/ld-linux-x86-64.so.2"
	libDir     = "lib/x86_64-linux-gnu/"
)

// wifiDebs are the packages of a small Wi-Fi.
func wifiDebs() []fakeDeb {
	x := func(marker, interp string, needs ...string) string {
		return string(fakeELF(elf.EM_X86_64, marker, interp, needs...))
	}
	return []fakeDeb{
		{"wpasupplicant", "libc6 (>= 2.36), adduser, libone1 | libother", map[string]string{
			"sbin/wpa_supplicant": x("supplicant", fakeLoader, "libone.so.1", "libc.so.6"), "sbin/wpa_cli": x("cli", fakeLoader),
		}},
		{"libc6", "libunused1", map[string]string{
			libDir + "libc.so.6": x("libc", "", "ld-linux-x86-64.so.2"), libDir + "ld-linux-x86-64.so.2": x("loader", ""),
			"lib64/ld-linux-x86-64.so.2": "->/" + libDir + "ld-linux-x86-64.so.2", libDir + "libm.so.6": x("libm", ""),
		}},
		{"libone1", "libtwo2", map[string]string{
			"usr/" + libDir + "libone.so.1": "->libone.so.1.5", "usr/" + libDir + "libone.so.1.5": x("one", "", "libtwo.so.2", "libc.so.6"),
		}},
		{"libtwo2", "libone1", map[string]string{"usr/" + libDir + "libtwo.so.2": x("two", "", "libone.so.1")}},
		{"libunused1", "", map[string]string{libDir + "libunused.so.1": x("unused", "")}},
		{"wireless-regdb", "", map[string]string{
			"lib/firmware/regulatory.db-debian": "rules", "lib/firmware/regulatory.db.p7s-debian": "signature",
			"lib/firmware/regulatory.db-upstream": "other rules", "lib/firmware/regulatory.db.p7s-upstream": "other signature",
		}},
		{"firmware-test", "", map[string]string{
			"usr/lib/firmware/card-1-70.ucode": "firmware 70", "usr/lib/firmware/card-1-68.ucode": "firmware 68", "usr/lib/firmware/card-1-99.ucode": "firmware 99",
			"usr/lib/firmware/card-1.pnvm": "firmware pnvm", "usr/lib/firmware/brcm/a.txt": "firmware a", "usr/lib/firmware/brcm/b.txt": "->a.txt",
			"usr/lib/firmware/unused.bin": "firmware unused", "usr/share/doc/firmware-test/copyright": "free",
		}},
		{"firmware-whole", "", map[string]string{"lib/firmware/whole/x.bin": "firmware whole"}},
	}
}

// wifiSources has a kernel with wireless modules.
func wifiSources(t *testing.T, debs ...fakeDeb) Sources {
	t.Helper()
	src := fakeSources(t)
	src.WiFi = true
	src.Firmware = []string{"firmware-test", "firmware-whole"}
	write(t, src.ModulesDir+"/kernel/cfg80211.ko", []byte("module cfg80211"))
	write(t, src.ModulesDir+"/kernel/mac80211.ko", []byte("module mac80211"))
	write(t, src.ModulesDir+"/kernel/ccm.ko", []byte("module ccm"))
	write(t, src.ModulesDir+"/kernel/mac80211_hwsim.ko", []byte("module hwsim"))
	modinfo := "firmware=card-1-72.ucode\x00firmware=brcm/*.txt\x00firmware=missing.bin\x00"
	write(t, src.ModulesDir+"/kernel/iwlwifi.ko", moduleWith(modinfo))
	dep := "kernel/virtio.ko:\nkernel/virtio_net.ko: kernel/virtio.ko\nkernel/overlay.ko.gz:\nkernel/cfg80211.ko:\nkernel/mac80211.ko: kernel/cfg80211.ko\nkernel/ccm.ko:\nkernel/iwlwifi.ko: kernel/cfg80211.ko\nkernel/mac80211_hwsim.ko: kernel/mac80211.ko\n"
	write(t, src.ModulesDir+"/modules.dep", []byte(dep))
	if debs == nil {
		debs = wifiDebs()
	}
	fakeArchive(t, src.Dir, debs...)
	return src
}

// moduleWith is an ELF file with a .modinfo section.
func moduleWith(info string) []byte {
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	le := binary.LittleEndian
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: 64, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&b, le, h)
	at := uint64(64 + 3*64)
	binary.Write(&b, le, elf.Section64{})
	binary.Write(&b, le, elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))})
	binary.Write(&b, le, elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(names))})
	b.WriteString(info + names)
	return b.Bytes()
}

func TestPrepareWiFi(t *testing.T) {
	in, err := Prepare(t.Context(), wifiSources(t))
	if err != nil {
		t.Fatal(err)
	}
	got := keysOf(in.WiFi.Files)
	want := []string{
		"lib/firmware/regulatory.db", "lib/firmware/regulatory.db.p7s", libDir + "libc.so.6", libDir + "libone.so.1", libDir + "libtwo.so.2",
		"lib64/ld-linux-x86-64.so.2", "usr/sbin/wpa_supplicant",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if SupplicantPath != "/usr/sbin/wpa_supplicant" || !in.WiFi.Programs["usr/sbin/wpa_supplicant"] || !in.WiFi.Programs["lib64/ld-linux-x86-64.so.2"] {
		t.Error("the programs are not programs")
	}
	if string(in.WiFi.Files["lib/firmware/regulatory.db"]) != "rules" || string(in.WiFi.Files["lib/firmware/regulatory.db.p7s"]) != "signature" {
		t.Error("other rules than the distribution's kernel accepts")
	}
	var names []string
	for _, m := range in.Materials {
		names = append(names, m.Name)
	}
	if s := strings.Join(names, " "); s != "ca.crt firmware-test firmware-whole libc6 libone1 libtwo2 loader.efi modules-6.1.0-test vmlinuz wireless-regdb wpasupplicant" {
		t.Errorf("materials: %s", s)
	}
}

func TestPrepareWiFiRefusals(t *testing.T) {
	without := func(name string, change func(*fakeDeb)) []fakeDeb {
		debs := wifiDebs()
		for i := range debs {
			if debs[i].name == name {
				if change == nil {
					return slices.Delete(debs, i, i+1)
				}
				change(&debs[i])
			}
		}
		return debs
	}
	for name, c := range map[string]struct {
		debs []fakeDeb
		want string
	}{
		"no supplicant":        {without("wpasupplicant", nil), "package wpasupplicant:amd64 cannot be obtained"},
		"no rules":             {without("wireless-regdb", nil), "package wireless-regdb:amd64 cannot be obtained"},
		"no firmware":          {without("firmware-test", nil), "package firmware-test:amd64 cannot be obtained"},
		"no dependency":        {without("libtwo2", nil), "package libtwo2:amd64 cannot be obtained"},
		"not in its package":   {without("wpasupplicant", func(d *fakeDeb) { delete(d.files, "sbin/wpa_supplicant") }), "has no sbin/wpa_supplicant"},
		"library nowhere":      {without("libtwo2", func(d *fakeDeb) { delete(d.files, "usr/"+libDir+"libtwo.so.2") }), "needs the library libtwo.so.2, which none of its packages has (wpasupplicant, libc6, libone1, libtwo2, libunused1)"},
		"loader nowhere":       {without("libc6", func(d *fakeDeb) { delete(d.files, libDir+"ld-linux-x86-64.so.2") }), "needs the library ld-linux-x86-64.so.2"},
		"links in a circle":    {without("libone1", func(d *fakeDeb) { d.files["usr/"+libDir+"libone.so.1.5"] = "->libone.so.1" }), "needs the library libone.so.1"},
		"library for another":  {without("libtwo2", func(d *fakeDeb) { d.files["usr/"+libDir+"libtwo.so.2"] = string(fakeELF(elf.EM_AARCH64, "", "")) }), "it is for EM_AARCH64"},
		"library that is text": {without("libtwo2", func(d *fakeDeb) { d.files["usr/"+libDir+"libtwo.so.2"] = "INPUT(" + strings.Repeat("x ", 100) + ")" }), "libtwo.so.2: bad magic"},
		"library with a path": {without("libtwo2", func(d *fakeDeb) {
			d.files["usr/"+libDir+"libtwo.so.2"] = string(fakeELF(elf.EM_X86_64, "", "", "../../x"))
		}), "is no file name"},
		"loader with a path": {without("wpasupplicant", func(d *fakeDeb) { d.files["sbin/wpa_supplicant"] = string(fakeELF(elf.EM_X86_64, "", "/lib/../../x")) }), "has no clean path"},
		"unsigned rules": {without("wireless-regdb", func(d *fakeDeb) {
			delete(d.files, "lib/firmware/regulatory.db.p7s-debian")
			delete(d.files, "lib/firmware/regulatory.db.p7s-upstream")
		}), "no signed regulatory.db"},
		"firmware without any": {without("firmware-whole", func(d *fakeDeb) { d.files = map[string]string{"usr/share/x": "x"} }), "firmware firmware-whole: it holds no firmware"},
	} {
		_, err := Prepare(t.Context(), wifiSources(t, c.debs...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
		var hint interface{ Hint() string }
		if isFirmware := strings.Contains(err.Error(), "firmware-"); errors.As(err, &hint) && strings.Contains(hint.Hint(), "non-free-firmware") != isFirmware {
			t.Errorf("%s: hint %q", name, hint.Hint())
		}
	}
	src := fakeSources(t)
	src.Firmware = []string{"firmware-test"}
	src.Flavour = FlavourCloud
	if _, err := Prepare(t.Context(), src); err == nil || !strings.Contains(err.Error(), "firmware is for real machines") {
		t.Errorf("firmware in a cloud: %v", err)
	}
	src.Firmware, src.WiFi = nil, true
	if _, err := Prepare(t.Context(), src); err == nil || !strings.Contains(err.Error(), "Wi-Fi is for real machines") {
		t.Errorf("Wi-Fi in a cloud: %v", err)
	}
}

func TestSeedWithWiFi(t *testing.T) {
	in, err := Prepare(t.Context(), wifiSources(t))
	if err != nil {
		t.Fatal(err)
	}
	b, dir, root := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}, t.TempDir(), testRoot(t)
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	cfg := SeedConfig{Out: dir + "/a/seed", Pid1: init, Init: init, Root: root, WiFi: true}
	out, _, err := b.Seed(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	archive := unpackSeed(t, out.Path)
	for _, want := range []string{
		"usr/sbin/wpa_supplicant\x00", "lib64/ld-linux-x86-64.so.2\x00", libDir + "libtwo.so.2\x00", "lib/firmware/regulatory.db.p7s\x00",
		"module cfg80211", "module mac80211", "module ccm", "softdep mac80211 pre: ctr ccm", "softdep iwlwifi post: iwlmvm",
		"lib/firmware/card-1-70.ucode\x00", "firmware pnvm", "lib/firmware/brcm/b.txt\x00", "firmware whole",
	} {
		if !bytes.Contains(archive, []byte(want)) {
			t.Errorf("the seed lacks %q", want)
		}
	}
	for _, not := range []string{"module hwsim", "libm.so.6", "libunused", "wpa_cli", "firmware 68", "firmware 99", "firmware unused", "firmware-test", "other rules", "softdep brcmfmac"} {
		if bytes.Contains(archive, []byte(not)) {
			t.Errorf("the seed has %q, which is not needed", not)
		}
	}
	cfg.Out = dir + "/b/seed"
	if again, _, err := b.Seed(t.Context(), cfg); err != nil || again.Digest != out.Digest {
		t.Errorf("second build: %v, %v (%v)", again.Digest, out.Digest, err)
	}
	cfg.WiFi = false
	plain, _, err := b.Seed(t.Context(), cfg)
	if err != nil || bytes.Contains(unpackSeed(t, plain.Path), []byte("80211")) {
		t.Errorf("a seed without Wi-Fi has some: %v", err)
	}
}

func TestNodeWithWiFi(t *testing.T) {
	in, err := Prepare(t.Context(), wifiSources(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
	cfg := fakeNode(t, t.TempDir())
	cfg.WiFi = true
	sys, err := b.Node(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	list := run(t, "unsquashfs", "-lln", sys.Rootfs.Path)
	for _, want := range []string{"squashfs-root/usr/sbin/wpa_supplicant", "squashfs-root/lib64/ld-linux-x86-64.so.2", "squashfs-root/lib/firmware/whole/x.bin"} {
		if !strings.Contains(list, want) {
			t.Errorf("the root file system lacks %s:\n%s", want, list)
		}
	}
	if !bytes.Contains(unpackSeed(t, sys.Initramfs.Path), []byte("usr/sbin/wpa_supplicant\x00")) {
		t.Error("the initramfs lacks wpa_supplicant")
	}
}

func TestWiFiWithoutDrivers(t *testing.T) {
	src := wifiSources(t)
	write(t, src.ModulesDir+"/modules.dep", []byte("kernel/virtio.ko:\nkernel/virtio_net.ko: kernel/virtio.ko\nkernel/overlay.ko.gz:\n"))
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	cfg := SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t), WiFi: true}
	_, _, err = (&Build{Inputs: in, Version: "0.0.1", Time: buildTime}).Seed(t.Context(), cfg)
	var nw *NoWiFiError
	if !errors.As(err, &nw) || !strings.Contains(err.Error(), "6.1.0-test has no Wi-Fi") || !strings.Contains(nw.Hint(), "linux-image-amd64") {
		t.Errorf("got %v", err)
	}
	if _, _, err := fakeBuild(t).Seed(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "from inputs without") {
		t.Errorf("inputs without Wi-Fi: %v", err)
	}
}

func TestMatching(t *testing.T) {
	names := []string{"a-50.ucode", "a-72.ucode", "a-73.ucode", "a-b-72.ucode", "a.pnvm", "b.bin", "c/x.txt", "c/y.txt", "c/d/z.txt"}
	for want, list := range map[string]string{
		"a-72.ucode": "a-72.ucode a.pnvm", "a-71.ucode": "a.pnvm a-50.ucode", "a-49.ucode": "a.pnvm", "b.bin": "b.bin", "c/*.txt": "c/x.txt c/y.txt",
		"b-1.bin": "", "none": "", "[": "",
	} {
		if got := strings.Join(matching(names, want), " "); got != list {
			t.Errorf("%s: got %q, want %q", want, got, list)
		}
	}
}

func TestKernelForWiFi(t *testing.T) {
	g := &gatherer{platform: platforms[image.ArchX8664]}
	plain, err := g.kernelPackage()
	if err != nil {
		t.Skip(err) // a distribution without packages for it
	}
	g.WiFi = true
	if name, err := g.kernelPackage(); err != nil || name == plain {
		t.Errorf("%s, %v", name, err)
	}
	g.KernelPackage = "linux-image-6.1"
	if name, err := g.kernelPackage(); err != nil || name != "linux-image-6.1" {
		t.Errorf("%s, %v", name, err)
	}
}

// TestRealSupplicant runs Debian's wpa_supplicant with nothing but what would be
// put on a medium.
func TestRealSupplicant(t *testing.T) {
	cache := &debpkg.Cache{Dir: filepath.Join(t.TempDir(), "packages")}
	g := &gatherer{Sources: Sources{Arch: image.ArchX8664, WiFi: true}, platform: platforms[image.ArchX8664], cache: cache, in: &Inputs{}}
	if err := g.wifi(t.Context()); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", fmt.Sprintf("the packages cannot be had here: %v", err))
	}
	dir, size := t.TempDir(), 0
	for name, data := range g.in.WiFi.Files {
		write(t, filepath.Join(dir, name), data)
		size += len(data)
	}
	t.Logf("%d files, %d bytes: %v", len(g.in.WiFi.Files), size, keysOf(g.in.WiFi.Files))
	loader, program := dir+"/lib64/ld-linux-x86-64.so.2", dir+SupplicantPath
	for _, f := range []string{loader, program} {
		if err := os.Chmod(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	libs := filepath.Join(dir, "lib/x86_64-linux-gnu")
	if out := output(t, loader, "--library-path", libs, "--list", program); strings.Contains(out, "not found") || strings.Count(out, "=> "+libs) < 5 {
		t.Errorf("libraries from elsewhere:\n%s", out)
	}
	if out := output(t, loader, "--library-path", libs, program, "-v"); !strings.Contains(out, "wpa_supplicant v2.") {
		t.Errorf("%s", out)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
