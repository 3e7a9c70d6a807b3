package system

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/image"
)

// carve copies the partitions of an image into files of their own, at the places
// that sgdisk, not our code, reads from the table.
func carve(t *testing.T, img string) map[string]string {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts := map[string]string{}
	for line := range strings.Lines(run(t, "sgdisk", "-p", img)) {
		w := strings.Fields(line)
		if len(w) < 7 || !strings.HasPrefix(w[len(w)-1], "phase-") {
			continue
		}
		first, _ := strconv.ParseInt(w[1], 10, 64)
		last, _ := strconv.ParseInt(w[2], 10, 64)
		out, err := image.CreateSparse(filepath.Join(t.TempDir(), "part"), (last-first+1)*512)
		if err != nil {
			t.Fatal(err)
		}
		copySparse(t, out, io.NewSectionReader(f, first*512, (last-first+1)*512))
		parts[w[len(w)-1]] = out.Name()
		out.Close()
	}
	return parts
}

func copySparse(t *testing.T, out *os.File, r io.Reader) {
	t.Helper()
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				t.Fatal(err)
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// fakeUSB is a valid configuration with a small cache.
func fakeUSB(t *testing.T, b *Build, dir string) USBConfig {
	t.Helper()
	return USBConfig{
		Out: dir + "/usb.img", Root: testRoot(t), Policy: []byte("mode = \"internet\"\n"), Bootstrap: []byte("# none\n"), Cache: 40 << 20,
		Boots:  []Boot{{Arch: b.Inputs.Arch, Loader: b.Inputs.Loader, Kernel: b.Inputs.Kernel.Image, Initramfs: []string{write(t, dir+"/seed", []byte("070701 archive"))}}},
		Loader: loaderFiles(b.Inputs.Arch, 1, "quiet"),
	}
}

func TestUSBImage(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	cfg := fakeUSB(t, b, dir)
	r, err := b.USBImage(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "sgdisk", "-v", r.Path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	parts := carve(t, r.Path)
	if len(parts) != 3 {
		t.Fatalf("partitions: %v", parts)
	}
	if out := run(t, "fsck.fat", "-n", parts["phase-esp"]); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat: %s", out)
	}
	run(t, "e2fsck", "-fn", parts["phase-cache"])
	list := run(t, "unsquashfs", "-l", parts["phase-seed"])
	for _, name := range []string{"policy.toml", "bootstrap-nodes.toml", "root.json", "build.json", "materials.json"} {
		if !strings.Contains(list, "squashfs-root/"+name) {
			t.Errorf("phase-seed lacks %s:\n%s", name, list)
		}
	}
	back := dir + "/back"
	run(t, "mcopy", "-n", "-o", "-i", parts["phase-esp"], "::/EFI/BOOT/BOOTX64.EFI", back)
	if got, _ := os.ReadFile(back); !bytes.Equal(got, efiFile()) {
		t.Errorf("the loader came back as %d bytes", len(got))
	}
	if len(r.Files) != 6 || r.Files[0].Path != "/EFI/BOOT/BOOTX64.EFI" || r.Files[0].SHA256.IsZero() {
		t.Errorf("report: %+v", r.Files)
	}

	cfg.Out = t.TempDir() + "/deeper/usb.img"
	if _, err := b.USBImage(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	run(t, "cmp", r.Path, cfg.Out)
}

// TestSeedID: boot entries can name the seed partition before the image is written, and
// the media of two names share no identifier.
func TestSeedID(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	seen := map[guid.GUID]string{}
	for _, name := range []string{"", "one", "another"} {
		cfg := fakeUSB(t, b, dir)
		cfg.Name = name
		r, err := b.USBImage(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Partitions {
			if p.Label == "phase-seed" && p.ID != SeedID(name) {
				t.Errorf("%q: the seed partition is %s, entries would name %s", name, p.ID, SeedID(name))
			}
			if of, twice := seen[p.ID]; twice {
				t.Errorf("%q and %q share %s", name, of, p.ID)
			}
			seen[p.ID] = name
		}
	}
}

func TestUSBImageWithoutCache(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	cfg := fakeUSB(t, b, dir)
	cfg.Cache = -1
	r, err := b.USBImage(t.Context(), cfg)
	if err != nil || len(r.Partitions) != 2 {
		t.Errorf("%d partitions, %v", len(r.Partitions), err)
	}
	if cacheSize(0) != DefaultCache {
		t.Error("no default cache")
	}
}

func TestUSBImageRefusals(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	entry := func(text string) func(*USBConfig) {
		return func(c *USBConfig) { c.Loader["entries/internet.conf"] = []byte(text) }
	}
	for name, c := range map[string]struct {
		change func(*USBConfig)
		want   string
	}{
		"no root":         {func(c *USBConfig) { c.Root = nil }, "refusing to build a medium"},
		"no policy":       {func(c *USBConfig) { c.Policy = nil }, "policy.toml"},
		"nothing to boot": {func(c *USBConfig) { c.Boots = nil }, "something to boot"},
		"unknown arch":    {func(c *USBConfig) { c.Boots[0].Arch = "mips" }, "unknown architecture"},
		"loader not PE":   {func(c *USBConfig) { c.Boots[0].Loader = c.Boots[0].Initramfs[0] }, "not an EFI program"},
		"kernel not PE":   {func(c *USBConfig) { c.Boots[0].Kernel = c.Boots[0].Initramfs[0] }, "not a Linux kernel"},
		"empty initramfs": {func(c *USBConfig) { c.Boots[0].Initramfs[0] = write(t, dir+"/empty", nil) }, "not an initramfs"},
		"no loader.conf":  {func(c *USBConfig) { delete(c.Loader, "loader.conf") }, "no loader.conf"},
		"no entries":      {func(c *USBConfig) { delete(c.Loader, "entries/internet.conf") }, "no entries"},
		"wrong default":   {func(c *USBConfig) { c.Loader["loader.conf"] = []byte("default local.conf\n") }, "not an entry"},
		"entry: kernel":   {entry("linux /phase/arm64/vmlinuz\n"), "not on the medium"},
		"entry: initrd":   {entry("linux /phase/x86_64/vmlinuz\ninitrd /initrd\n"), "not on the medium"},
		"entry: empty":    {entry("title x\n"), "names 0 kernels"},
		"entry escapes":   {func(c *USBConfig) { c.Loader["../../evil"] = nil }, "clean relative path"},
		"tiny cache":      {func(c *USBConfig) { c.Cache = 1 << 20 }, "ext4"},
	} {
		cfg := fakeUSB(t, b, dir)
		c.change(&cfg)
		if _, err := b.USBImage(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
		if left, _ := filepath.Glob(dir + "/usb.img*"); len(left) != 0 {
			t.Errorf("%s: a failed build left %v", name, left)
		}
	}
}

func fakeNode(t *testing.T, dir string) NodeConfig {
	t.Helper()
	prog := buildGo(t, dir, "prog", "package main\nfunc main() {}\n")
	return NodeConfig{Dir: dir + "/node", Init: prog, Plasmd: prog, Config: []byte("{}\n"), Jobs: map[string][]byte{"hello.json": []byte("{}\n")}}
}

func TestNode(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	cfg := fakeNode(t, dir)
	sys, err := b.Node(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	list := run(t, "unsquashfs", "-lln", sys.Rootfs.Path)
	for _, want := range []string{
		"squashfs-root/usr/bin/plasmd", "squashfs-root/etc/resolv.conf -> /run/resolv.conf", "squashfs-root/usr/share/phase/jobs/hello.json",
		"squashfs-root/etc/plasm/config.json", "squashfs-root/proc\n", "squashfs-root/var/lib/plasm\n", "squashfs-root/lib/modules/6.1.0-test/modules.dep",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the root file system lacks %q:\n%s", want, list)
		}
	}
	if !bytes.Contains(unpackSeed(t, sys.Initramfs.Path), []byte("module overlay")) {
		t.Error("the initramfs lacks overlay")
	}
	if sys.Initramfs.Size%4 != 0 {
		t.Errorf("initramfs of %d bytes: nothing could follow it", sys.Initramfs.Size)
	}
	cfg.Dir = dir + "/again"
	again, err := b.Node(t.Context(), cfg)
	if err != nil || again.Rootfs.Digest != sys.Rootfs.Digest || again.Initramfs.Digest != sys.Initramfs.Digest || again.Kernel.Digest != sys.Kernel.Digest {
		t.Errorf("second build differs (%v)", err)
	}

	direct := DirectConfig{Out: dir + "/direct.img", Node: sys, Handover: []byte("{}\n"), Loader: loaderFiles(b.Inputs.Arch, 2, "quiet")}
	img, err := b.DirectImage(t.Context(), direct)
	if err != nil || len(img.Partitions) != 1 {
		t.Fatalf("%+v, %v", img, err)
	}
	if out := run(t, "mdir", "-b", "-i", carve(t, img.Path)["phase-esp"], "::/phase/x86_64"); !strings.Contains(out, "initramfs-2.img") {
		t.Errorf("mdir: %s", out)
	}
}

func TestNodeRefusals(t *testing.T) {
	dir := t.TempDir()
	good := fakeNode(t, dir)
	for name, c := range map[string]struct {
		change func(*NodeConfig)
		want   string
	}{
		"no plasmd":    {func(c *NodeConfig) { c.Plasmd = dir + "/none" }, "no such file"},
		"text as init": {func(c *NodeConfig) { c.Init = write(t, dir+"/x", []byte("text")) }, "not a static program"},
		"no config":    {func(c *NodeConfig) { c.Config = nil }, "config.json"},
		"no hello":     {func(c *NodeConfig) { c.Jobs = nil }, "hello.json"},
		"job outside":  {func(c *NodeConfig) { c.Jobs = map[string][]byte{"hello.json": {1}, "../../../../etc/passwd": {1}} }, "clean relative path"},
	} {
		cfg := good
		c.change(&cfg)
		if _, err := fakeBuild(t).Node(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
	}
}

func TestReuse(t *testing.T) {
	b, dir := fakeBuild(t), t.TempDir()
	b.Reuse = dir + "/reuse"
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	cfg := SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t)}
	build := func() Output {
		t.Helper()
		out, _, err := b.Seed(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first, second := build(), build()
	if first.Reused || !second.Reused || first.Digest != second.Digest {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	cfg.Root = testRoot(t)
	if third := build(); third.Reused || third.Digest == first.Digest {
		t.Errorf("another root gave the old seed: %+v", third)
	}
	b.Time = b.Time.Add(1e9)
	if fourth := build(); fourth.Reused {
		t.Error("another time gave the old seed")
	}
}
