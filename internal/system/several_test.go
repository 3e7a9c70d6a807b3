package system

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
)

// arm64File is the least that passes for an EFI program and a kernel for arm64.
func arm64File() []byte {
	b := efiFile()
	binary.LittleEndian.PutUint16(b[0x84:], 0xaa64)
	copy(b[0x38:], "ARM\x64")
	return b
}

// fakeARM64 is a build beside fakeBuild.
func fakeARM64(t *testing.T) *Build {
	t.Helper()
	src := fakeSources(t)
	src.Arch = image.ArchARM64
	write(t, src.KernelImage, arm64File())
	write(t, src.Loader, arm64File())
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
}

// fakeBoth is a medium for machines of both architectures.
func fakeBoth(t *testing.T, b, arm *Build, dir string) USBConfig {
	t.Helper()
	cfg := fakeUSB(t, b, dir)
	cfg.With = []*Build{arm}
	cfg.Boots = append(cfg.Boots, arm.Inputs.Boot(cfg.Boots[0].Initramfs...))
	more := loaderFiles(image.ArchARM64, 1, "quiet")
	cfg.Loader["entries/internet-arm64.conf"] = more["entries/internet.conf"]
	return cfg
}

func TestSeveralArchitectures(t *testing.T) {
	b, arm, dir := fakeBuild(t), fakeARM64(t), t.TempDir()
	cfg := fakeBoth(t, b, arm, dir)
	r, err := b.USBImage(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.Files {
		names = append(names, f.Path)
	}
	for _, want := range []string{"/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/BOOTAA64.EFI", "/phase/x86_64/vmlinuz", "/phase/arm64/vmlinuz", "/phase/arm64/initramfs.img"} {
		if !strings.Contains(strings.Join(names, " ")+" ", want+" ") {
			t.Errorf("the boot partition lacks %s: %v", want, names)
		}
	}
	if esp := r.Partitions[0].Size; esp < 260<<20 {
		t.Errorf("a boot partition of %d bytes", esp)
	}
	parts := carve(t, r.Path)
	if out := run(t, "fsck.fat", "-n", parts["phase-esp"]); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat: %s", out)
	}
	list := run(t, "unsquashfs", "-l", parts["phase-seed"])
	for _, want := range []string{"squashfs-root/build.json\n", "squashfs-root/build-arm64.json\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("phase-seed lacks %s:\n%s", want, list)
		}
	}
	materials := b.Materials(arm)
	if len(materials) != 8 { // a CA bundle, kernel, modules and loader of each
		t.Errorf("materials: %+v", materials)
	}
}

func TestSeveralArchitecturesRefused(t *testing.T) {
	b, arm, dir := fakeBuild(t), fakeARM64(t), t.TempDir()
	for want, change := range map[string]func(*USBConfig){
		"two builds for x86_64": func(c *USBConfig) { c.With = append(c.With, fakeBuild(t)) },
		"two builds for arm64":  func(c *USBConfig) { c.With = append(c.With, fakeARM64(t)) },
		"differ in version":     func(c *USBConfig) { c.With[0].Version = "0.0.2" },
		"differ in version, time": func(c *USBConfig) {
			c.With[0].Time = c.With[0].Time.Add(time.Second)
		},
		"version floor": func(c *USBConfig) { c.With[0].MinVersion = 2 },
		"no inputs":     func(c *USBConfig) { c.With[0].Inputs = nil },
	} {
		other := *arm
		cfg := fakeBoth(t, b, &other, dir)
		change(&cfg)
		if _, err := b.USBImage(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %q", err, want)
		}
	}
}
